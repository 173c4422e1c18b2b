//! What must hold.

use std::time::{Duration, Instant};

use waystation_proto::Claim;
use waystation_relay::plane::{
    Command, DtlsRole, LinkTransport, PlaneEvent, PublishId, TransportEnd, TransportId,
};

use crate::{
    peer::{Peer, Side, socket_to},
    scene::{Client, Got, LIMIT, Scene, start},
    starts::{outlast_the_keyframe, wait_for_request},
    takes::play,
};

fn forward(workers: usize, role: DtlsRole, players: usize) {
    let mut scene = Scene::new(workers);
    let mut publisher = scene.publisher(role, Claim::of_epoch(1));
    let mut players: Vec<Client> = (0..players).map(|_| scene.player(role, None)).collect();
    scene.event("a play that waits for its keyframe", |event| {
        matches!(event, PlaneEvent::StreamSource { .. })
    });
    let mut all: Vec<&mut Client> = players.iter_mut().collect();
    start(&mut publisher, &mut all);
    let mut last = vec![None; players.len()];
    for frame in 1..=20 {
        publisher.send_frame(false, 7, frame);
        // Read at once: nobody's socket buffer holds all frames.
        for (player, last) in players.iter_mut().zip(&mut last) {
            for index in 0..7 {
                let (sequence, mark, at) = player.wait("the frame's next packet", |got| got.mark());
                assert_eq!((mark, at), (frame, index));
                let expected = last.map(|last: u16| last.wrapping_add(1));
                assert_eq!(expected.unwrap_or(sequence), sequence, "sequence numbers rise by one");
                *last = Some(sequence);
            }
        }
    }
}

#[test]
fn packets_reach_a_player_in_order_over_the_sequence_numbers_wrap() {
    play(|| forward(1, DtlsRole::Client, 1));
}

#[test]
fn a_relay_that_waits_for_the_hello_forwards_as_well() {
    play(|| forward(1, DtlsRole::Server, 2));
}

#[test]
fn players_on_other_workers_than_the_publisher_get_every_packet() {
    play(|| forward(3, DtlsRole::Client, 24));
}

#[test]
fn a_nack_is_answered_with_the_same_payload_as_rtx() {
    play(|| {
        let mut scene = Scene::new(1);
        let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
        let mut player = scene.player(DtlsRole::Client, None);
        start(&mut publisher, &mut [&mut player]);
        publisher.send_frame(false, 3, 9);
        let marks = player.marks(3);
        let (lost, ..) = marks[1];
        let mut nack = vec![0x81, 205, 0, 3, 0, 0, 0, 1];
        nack.extend(player.ssrc.to_be_bytes());
        nack.extend(lost.to_be_bytes());
        nack.extend([0, 0]);
        player.send_rtcp(&nack);
        let again = player.wait("the retransmission", |got| match got {
            Got::Again(sequence, payload) => Some((sequence, payload[7], payload[8])),
            Got::Media(..) | Got::Rtcp(_) | Got::Closed => None,
        });
        assert_eq!(again, (lost, 9, 1));
    });
}

#[test]
fn the_highest_claim_is_forwarded_and_a_lower_one_never() {
    // PUB-11
    play(|| {
        let mut scene = Scene::new(2);
        let mut first = scene.publisher(DtlsRole::Client, Claim { epoch: 1, moved: 1 });
        let mut player = scene.player(DtlsRole::Client, None);
        start(&mut first, &mut [&mut player]);
        let mut second = scene.publisher(DtlsRole::Client, Claim { epoch: 1, moved: 2 });
        scene.change_of_source(&second);
        // An old session that claims less, again and again, changes nothing.
        scene
            .plane
            .send(Command::Activate { publish: PublishId(first.id), claim: Claim { epoch: 1, moved: 1 } });
        for round in 0..10 {
            first.send_frame(true, 2, 100);
            second.send_frame(round == 0, 2, 10 + round);
        }
        let marks = player.marks(20);
        assert!(marks.iter().all(|(_, mark, _)| (10..20).contains(mark)), "{marks:?}");
        for pair in marks.windows(2) {
            assert_eq!(pair[1].0, pair[0].0.wrapping_add(1), "sequence numbers close up");
        }
    });
}

#[test]
fn a_peer_with_another_certificate_than_its_sdp_named_is_refused() {
    let mut scene = Scene::new(1);
    let (id, check) = scene.transport(DtlsRole::Client, vec![7; 32], None);
    check.send(&socket_to(check.remote).unwrap(), &scene.identity).unwrap();
    let identity = &scene.identity;
    let end = std::thread::scope(|scope| {
        // Whether it is up on the peer's side is not the relay's to say.
        scope.spawn(|| drop(Peer::connect(identity, check, Side::Server)));
        let started = Instant::now();
        loop {
            match scene.events.try_recv() {
                Ok(PlaneEvent::TransportDown { transport, why }) if transport == id => break why,
                Ok(PlaneEvent::TransportUp { .. }) => panic!("a wrong certificate came up"),
                Ok(_) | Err(_) => assert!(started.elapsed() < LIMIT),
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
    });
    assert_eq!(end, TransportEnd::WrongFingerprint);
}

#[test]
fn garbage_of_every_kind_disturbs_no_session() {
    play(|| {
        let mut scene = Scene::new(2);
        let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
        let mut player = scene.player(DtlsRole::Client, None);
        start(&mut publisher, &mut [&mut player]);
        let stranger = socket_to(scene.plane.media_addr()).unwrap();
        let mut state = 7_u32;
        for round in 0..2_000_u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let length = (state >> 16) as usize % 300 + 1;
            let mut datagram: Vec<u8> = (0..length).map(|i| (state >> (i % 24)) as u8 ^ i as u8).collect();
            datagram[0] = [0, 1, 20, 22, 23, 63, 128, 144, 191, 255][round as usize % 10];
            // From a stranger, and from the very address of a peer.
            stranger.send(&datagram).unwrap();
            if round % 10 != 1 {
                player.peer.socket.send(&datagram).unwrap();
            }
            if round % 50 == 0 {
                publisher.send_frame(false, 1, 1);
                assert_eq!(player.marks(1)[0].1, 1);
            }
        }
    });
}

/// The publisher's NAT gives it another address: whatever it sends next, a check or media, comes from there.
fn a_publisher_moves(first_from_there: impl Fn(&mut Client)) {
    let mut scene = Scene::new(3);
    let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
    let mut player = scene.player(DtlsRole::Client, None);
    start(&mut publisher, &mut [&mut player]);
    publisher.peer.rebind().unwrap();
    first_from_there(&mut publisher);
    publisher.send_frame(false, 1, 1);
    assert_eq!(player.marks(1)[0].1, 1);
    publisher.wait("something for the publisher at its new address", |_| Some(()));
}

#[test]
fn a_publisher_whose_address_changes_is_followed_by_its_check() {
    play(|| a_publisher_moves(Client::check));
}

#[test]
fn a_publisher_whose_address_changes_is_followed_by_its_media() {
    play(|| a_publisher_moves(|_| ()));
}

#[test]
fn closing_a_transport_says_goodbye_and_forgets_it() {
    play(|| {
        let mut scene = Scene::new(1);
        let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
        let mut player = scene.player(DtlsRole::Client, None);
        start(&mut publisher, &mut [&mut player]);
        scene.plane.send(Command::CloseTransport(TransportId(player.id)));
        player.wait("close_notify", |got| matches!(got, Got::Closed).then_some(()));
        let transport = TransportId(player.id);
        let ended = PlaneEvent::TransportDown { transport, why: TransportEnd::Closed };
        scene.event("the transport's end", |event| *event == ended);
    });
}

#[test]
fn a_silent_stream_still_beats() {
    // GO-2
    play(|| {
        let mut scene = Scene::new(1);
        let mut player = scene.player(DtlsRole::Client, Some(Duration::from_millis(50)));
        for beat in 0..5 {
            player.wait(&format!("beat {beat}"), |got| matches!(got, Got::Rtcp(_)).then_some(()));
        }
    });
}

#[test]
fn flows_are_told_when_they_begin_and_when_they_run_dry() {
    play(|| {
        let mut scene = Scene::new(2);
        let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
        let mut player = scene.player(DtlsRole::Client, None);
        start(&mut publisher, &mut [&mut player]);
        scene.event(
            "media that dries up",
            |event| matches!(event, PlaneEvent::PlayFlow { play, flowing: false } if play.0 == player.id),
        );
        publisher.send_frame(false, 1, 1);
        scene.event(
            "media again",
            |event| matches!(event, PlaneEvent::PlayFlow { play, flowing: true } if play.0 == player.id),
        );
    });
}

#[test]
fn a_link_carries_a_stream_to_a_player_of_another_relay() {
    play(|| {
        let (mut origin, mut edge) = (Scene::new(2), Scene::new(2));
        let mut publisher = origin.publisher(DtlsRole::Client, Claim::of_epoch(1));
        crate::link::join(&mut origin, &mut edge);
        let mut witness = edge.player(DtlsRole::Client, None);
        start(&mut publisher, &mut [&mut witness]);
        outlast_the_keyframe(&mut publisher, &mut witness);
        let mut player = edge.player(DtlsRole::Client, None);
        // Two hops away.
        wait_for_request(&mut publisher);
        start(&mut publisher, &mut [&mut player]);
        for frame in 1..=10 {
            publisher.send_frame(false, 5, frame);
        }
        let marks = player.marks(50);
        let expected: Vec<(u8, u8)> =
            (1..=10).flat_map(|frame| (0..5).map(move |index| (frame, index))).collect();
        assert_eq!(marks.iter().map(|(_, mark, index)| (*mark, *index)).collect::<Vec<_>>(), expected);
    });
}

/// The two ends of a link: what one seals with, the other opens with.
pub fn link_ends(origin: &Scene, edge: &Scene, id: u64) -> (LinkTransport, LinkTransport) {
    let end = |peer, local: u8, remote: u8| LinkTransport {
        id: TransportId(id),
        peer,
        local_key: [local; 16],
        local_salt: [local; 12],
        remote_key: [remote; 16],
        remote_salt: [remote; 12],
    };
    (end(edge.plane.media_addr(), 1, 2), end(origin.plane.media_addr(), 2, 1))
}
