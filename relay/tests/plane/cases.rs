//! What must hold.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use waystation_proto::Claim;
use waystation_relay::{
    media::join::MAX_AGE,
    plane::{Command, DtlsRole, LinkTransport, PlaneEvent, PublishId, TransportEnd, TransportId},
};

use crate::{
    peer::Peer,
    scene::{Client, Got, LIMIT, Scene},
};

/// Sends keyframes with mark 0 until each player has one: commands reach the workers on their own time.
fn start(publisher: &mut Client, players: &mut [&mut Client]) {
    for player in players {
        let started = Instant::now();
        loop {
            publisher.send_frame(true, 1, 0);
            match player.receive() {
                Some(Got::Media(_, payload)) if payload[7] == 0 => break,
                Some(Got::Media(..) | Got::Again(..) | Got::Rtcp(_) | Got::Closed) | None => {}
            }
            assert!(started.elapsed() < LIMIT, "no keyframe");
        }
    }
}

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
                let (sequence, ..) = player.wait("the frame's next packet", |got| {
                    match got {
                        Got::Media(sequence, payload) if payload[7] > 0 => {
                            Some((sequence, payload[7], payload[8]))
                        }
                        Got::Media(..) | Got::Again(..) | Got::Rtcp(_) | Got::Closed => None,
                    }
                    .inspect(|&(_, mark, at)| assert_eq!((mark, at), (frame, index)))
                });
                let expected = last.map(|last: u16| last.wrapping_add(1));
                assert_eq!(expected.unwrap_or(sequence), sequence, "sequence numbers rise by one");
                *last = Some(sequence);
            }
        }
    }
}

#[test]
fn packets_reach_a_player_in_order_over_the_sequence_numbers_wrap() {
    forward(1, DtlsRole::Client, 1);
}

#[test]
fn a_relay_that_waits_for_the_hello_forwards_as_well() {
    forward(1, DtlsRole::Server, 2);
}

#[test]
fn players_on_other_workers_than_the_publisher_get_every_packet() {
    forward(3, DtlsRole::Client, 24);
}

#[test]
fn a_nack_is_answered_with_the_same_payload_as_rtx() {
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
}

#[test]
fn a_player_that_comes_later_makes_the_publisher_hear_a_keyframe_request() {
    let mut scene = Scene::new(1);
    let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
    publisher.send_frame(false, 1, 1);
    scene.event("the publisher's first packet", |event| {
        matches!(event, PlaneEvent::PublishFlow { flowing: true, .. })
    });
    let _player = scene.player(DtlsRole::Client, None);
    publisher.wait("a picture loss indication", |got| match got {
        Got::Rtcp(compound) => compound.windows(2).any(|bytes| bytes == [0x81, 206]).then_some(()),
        Got::Media(..) | Got::Again(..) | Got::Closed => None,
    });
}

fn is_keyframe_request(got: &Got) -> bool {
    match got {
        Got::Rtcp(compound) => compound.windows(2).any(|bytes| bytes == [0x81, 206]),
        Got::Media(..) | Got::Again(..) | Got::Closed => false,
    }
}

/// Takes what has reached a publisher; whether a request for a keyframe was in it.
fn was_asked_for_a_keyframe(publisher: &mut Client) -> bool {
    std::iter::from_fn(|| publisher.receive()).fold(false, |asked, got| asked | is_keyframe_request(&got))
}

/// A publisher and a player; the last keyframe is too old to start at, and nobody wants one.
fn stream_without_a_start(scene: &mut Scene) -> (Client, Client) {
    let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
    let mut player = scene.player(DtlsRole::Client, None);
    start(&mut publisher, &mut [&mut player]);
    let started = Instant::now();
    while started.elapsed() <= MAX_AGE {
        let _ = was_asked_for_a_keyframe(&mut publisher);
    }
    (publisher, player)
}

/// A keyframe of three packets and a frame of two pass.
fn keyframe_passes(publisher: &mut Client, witness: &mut Client) {
    publisher.send_frame(true, 3, 1);
    publisher.send_frame(false, 2, 2);
    assert_eq!(witness.marks(5)[4].1, 2);
}

/// The player gets what passed, and what comes live: none twice, none missing. The publisher is asked for nothing.
#[track_caller]
fn has_started_at_the_keyframe(publisher: &mut Client, player: &mut Client) {
    publisher.send_frame(false, 2, 3);
    let marks = player.marks(7);
    let expected = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0), (3, 1)];
    assert_eq!(marks.iter().map(|&(_, mark, at)| (mark, at)).collect::<Vec<_>>(), expected);
    for pair in marks.windows(2) {
        assert_eq!(pair[1].0, pair[0].0.wrapping_add(1), "sequence numbers rise by one");
    }
    assert!(!was_asked_for_a_keyframe(publisher), "there was a keyframe to start at");
}

#[test]
fn a_play_that_begins_just_behind_a_keyframe_starts_at_it_and_the_publisher_is_asked_for_none() {
    for workers in [1, 4] {
        let mut scene = Scene::new(workers);
        let (mut publisher, mut witness) = stream_without_a_start(&mut scene);
        // The stream's home has enough of them: with others there, the player's worker did not watch the stream before.
        for _ in 0..12 {
            scene.transport(DtlsRole::Client, vec![0; 32], None);
        }
        let mut player = scene.late_player(|_| keyframe_passes(&mut publisher, &mut witness));
        has_started_at_the_keyframe(&mut publisher, &mut player);
    }
}

#[test]
fn a_player_that_is_not_up_when_the_keyframe_passes_starts_at_it() {
    for workers in [1, 4] {
        let mut scene = Scene::new(workers);
        let (mut publisher, mut witness) = stream_without_a_start(&mut scene);
        let mut player = scene.early_player(|_| {
            publisher
                .wait("a request on the player's account", |got| is_keyframe_request(&got).then_some(()));
            keyframe_passes(&mut publisher, &mut witness);
        });
        has_started_at_the_keyframe(&mut publisher, &mut player);
    }
}

#[test]
fn a_player_that_comes_up_after_a_change_of_source_gets_nothing_of_the_old_one() {
    // PUB-11
    let mut scene = Scene::new(1);
    let (mut first, mut witness) = stream_without_a_start(&mut scene);
    keyframe_passes(&mut first, &mut witness);
    let mut second = scene.publisher(DtlsRole::Client, Claim::of_epoch(2));
    scene.event("the change of source", |event| {
        matches!(event, PlaneEvent::StreamSource { publish: Some(publish), .. } if publish.0 == second.id)
    });
    let mut player = scene.player(DtlsRole::Client, None);
    assert!(player.receive().is_none());
    second.send_frame(true, 2, 9);
    let marks = player.marks(2);
    assert!(marks.iter().all(|&(_, mark, _)| mark == 9), "{marks:?}");
}

#[test]
fn the_highest_claim_is_forwarded_and_a_lower_one_never() {
    // PUB-11
    let mut scene = Scene::new(2);
    let mut first = scene.publisher(DtlsRole::Client, Claim { epoch: 1, moved: 1 });
    let mut player = scene.player(DtlsRole::Client, None);
    start(&mut first, &mut [&mut player]);
    let mut second = scene.publisher(DtlsRole::Client, Claim { epoch: 1, moved: 2 });
    scene.event("the change of source", |event| {
        matches!(event, PlaneEvent::StreamSource { publish: Some(publish), .. } if publish.0 == second.id)
    });
    // An old session that claims less, again and again, changes nothing.
    scene.plane.send(Command::Activate { publish: PublishId(first.id), claim: Claim { epoch: 1, moved: 1 } });
    for round in 0..10 {
        first.send_frame(true, 2, 100);
        second.send_frame(round == 0, 2, 10 + round);
    }
    let marks = player.marks(20);
    assert!(marks.iter().all(|(_, mark, _)| (10..20).contains(mark)), "{marks:?}");
    for pair in marks.windows(2) {
        assert_eq!(pair[1].0, pair[0].0.wrapping_add(1), "sequence numbers close up");
    }
}

#[test]
fn a_peer_with_another_certificate_than_its_sdp_named_is_refused() {
    let mut scene = Scene::new(1);
    let (id, check) = scene.transport(DtlsRole::Client, vec![7; 32], None);
    check.send(&UdpSocket::bind("127.0.0.1:0").unwrap(), &scene.identity).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let identity = &scene.identity;
    let end = std::thread::scope(|scope| {
        let shaking =
            scope.spawn(|| Peer::connect(identity, socket, check, crate::peer::Side::Server).is_ok());
        let _ = shaking;
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
    let mut scene = Scene::new(2);
    let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
    let mut player = scene.player(DtlsRole::Client, None);
    start(&mut publisher, &mut [&mut player]);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = scene.plane.media_addr();
    let mut state = 7_u32;
    for round in 0..2_000_u32 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (state >> 16) as usize % 300 + 1;
        let mut datagram: Vec<u8> = (0..length).map(|i| (state >> (i % 24)) as u8 ^ i as u8).collect();
        datagram[0] = [0, 1, 20, 22, 23, 63, 128, 144, 191, 255][round as usize % 10];
        // From a stranger, and from the very address of a peer.
        stranger.send_to(&datagram, to).unwrap();
        if round % 10 != 1 {
            player.peer.socket.send_to(&datagram, to).unwrap();
        }
        if round % 50 == 0 {
            publisher.send_frame(false, 1, 1);
            assert_eq!(player.marks(1)[0].1, 1);
        }
    }
}

/// The publisher's NAT gives it another address: whatever it sends next, a check or media, comes from there.
fn a_publisher_moves(first_from_there: impl Fn(&Scene, &mut Client)) {
    let mut scene = Scene::new(3);
    let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
    let mut player = scene.player(DtlsRole::Client, None);
    start(&mut publisher, &mut [&mut player]);
    publisher.peer.socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    publisher.peer.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    first_from_there(&scene, &mut publisher);
    publisher.send_frame(false, 1, 1);
    assert_eq!(player.marks(1)[0].1, 1);
    publisher.wait("something for the publisher at its new address", |_| Some(()));
}

#[test]
fn a_publisher_whose_address_changes_is_followed_by_its_check() {
    a_publisher_moves(|scene, publisher| {
        publisher.peer.check.send(&publisher.peer.socket, &scene.identity).unwrap();
        publisher.wait_for_check();
    });
}

#[test]
fn a_publisher_whose_address_changes_is_followed_by_its_media() {
    a_publisher_moves(|_, _| ());
}

#[test]
fn closing_a_transport_says_goodbye_and_forgets_it() {
    let mut scene = Scene::new(1);
    let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
    let mut player = scene.player(DtlsRole::Client, None);
    start(&mut publisher, &mut [&mut player]);
    scene.plane.send(Command::CloseTransport(TransportId(player.id)));
    player.wait("close_notify", |got| matches!(got, Got::Closed).then_some(()));
    scene.event("the transport's end", |event| {
        matches!(event, PlaneEvent::TransportDown { transport, why: TransportEnd::Closed } if transport.0 == player.id)
    });
}

#[test]
fn a_silent_stream_still_beats() {
    // GO-2
    let mut scene = Scene::new(1);
    let mut player = scene.player(DtlsRole::Client, Some(Duration::from_millis(50)));
    for beat in 0..5 {
        player.wait(&format!("beat {beat}"), |got| matches!(got, Got::Rtcp(_)).then_some(()));
    }
}

#[test]
fn flows_are_told_when_they_begin_and_when_they_run_dry() {
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
}

#[test]
fn a_link_carries_a_stream_to_a_player_of_another_relay() {
    let (mut origin, mut edge) = (Scene::new(2), Scene::new(2));
    let mut publisher = origin.publisher(DtlsRole::Client, Claim::of_epoch(1));
    // Who never sent anything is not asked for a keyframe.
    publisher.send_frame(false, 1, 1);
    origin.event("the publisher's first packet", |event| {
        matches!(event, PlaneEvent::PublishFlow { flowing: true, .. })
    });
    crate::link::join(&mut origin, &mut edge);
    let mut player = edge.player(DtlsRole::Client, None);
    let heard = publisher.wait("the keyframe request of a player two hops away", |got| match got {
        Got::Rtcp(compound) => compound.windows(2).any(|bytes| bytes == [0x81, 206]).then_some(true),
        Got::Media(..) | Got::Again(..) | Got::Closed => None,
    });
    assert!(heard);
    start(&mut publisher, &mut [&mut player]);
    for frame in 1..=10 {
        publisher.send_frame(false, 5, frame);
    }
    let marks = player.marks(50);
    let expected: Vec<(u8, u8)> =
        (1..=10).flat_map(|frame| (0..5).map(move |index| (frame, index))).collect();
    assert_eq!(marks.iter().map(|(_, mark, index)| (*mark, *index)).collect::<Vec<_>>(), expected);
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
