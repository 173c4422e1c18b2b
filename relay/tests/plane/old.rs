//! GO-10: players of a publisher that answers no request for a keyframe start with the last one, however old.

use std::collections::BTreeMap;

use waystation_proto::Claim;
use waystation_relay::plane::DtlsRole;

use crate::{
    scene::{Client, Got, Mark, Scene, start},
    starts::outlast_the_keyframe,
    takes::play,
};

/// Frames since the keyframe: more packets than the ring of the stream holds.
const FRAMES: u8 = 200;
/// Packets of each.
const PACKETS: usize = 7;
/// Ticks between two of the publisher's frames.
const STEP: u32 = 3_600;

/// A keyframe and what follows: frames with the marks 1 to [`FRAMES`], taken by a witness so that none outruns a socket.
fn old_frames(publisher: &mut Client, witness: &mut Client) {
    for mark in 1..=FRAMES {
        publisher.send_frame(mark == 1, PACKETS, mark);
        witness.marks(PACKETS);
    }
    outlast_the_keyframe(publisher, witness);
}

/// Takes media until a live frame with this mark is there; the publisher sends it once old media has come.
fn take_all(player: &mut Client, publisher: &mut Client, live: u8) -> Vec<Mark> {
    let mut marks = vec![player.wait("the first old packet", |got| got.mark())];
    publisher.send_frame(false, PACKETS, live);
    while marks.last().is_none_or(|&(_, mark, at)| (mark, usize::from(at)) != (live, PACKETS - 1)) {
        marks.push(player.wait("the next packet", |got| got.mark()));
    }
    marks
}

/// Everything from the keyframe on, each once, in order; old frames a few ticks apart, the live one (the last) in its place.
#[track_caller]
fn is_whole_and_on_time(player: &Client, marks: &[Mark], live: &[u8]) {
    let all = (1..=FRAMES).chain(live.iter().copied());
    let expected: Vec<(u8, u8)> = all.flat_map(|mark| (0..PACKETS as u8).map(move |at| (mark, at))).collect();
    assert_eq!(marks.iter().map(|&(_, mark, at)| (mark, at)).collect::<Vec<_>>(), expected);
    // The frame of the time before stands between the old ones and the live ones: it has no mark.
    for pair in player.stamps.windows(2) {
        assert_eq!(pair[1].0, pair[0].0.wrapping_add(1), "sequence numbers rise by one");
    }
    let mark_of: BTreeMap<u16, u8> = marks.iter().map(|&(sequence, mark, _)| (sequence, mark)).collect();
    let mut frames: Vec<(u8, u32)> = Vec::new();
    for (sequence, timestamp) in &player.stamps {
        let mark = mark_of.get(sequence).copied().unwrap_or(u8::MAX);
        if frames.last().is_none_or(|&(last, _)| last != mark) {
            frames.push((mark, *timestamp));
        }
        assert_eq!(frames.last(), Some(&(mark, *timestamp)), "a frame has one timestamp");
    }
    let steps: Vec<u32> = frames.windows(2).map(|pair| pair[1].1.wrapping_sub(pair[0].1)).collect();
    // All but the last are old; with the one of the time before, which has no mark.
    let old = usize::from(FRAMES) + live.len() - 1;
    assert!(steps[..old].iter().all(|step| (1..=STEP / 100).contains(step)), "{steps:?}");
    assert!(steps[old..].iter().all(|&step| step == STEP), "the live edge is where it was: {steps:?}");
}

fn starts_with_old_frames(workers: usize, others: usize) {
    play(|| {
        let mut scene = Scene::new(workers);
        let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
        let mut witness = scene.player(DtlsRole::Client, None);
        start(&mut publisher, &mut [&mut witness]);
        // With so many there, the player is on another worker than its stream's home, which begins to keep the stream.
        for _ in 0..others {
            scene.transport(DtlsRole::Client, vec![0; 32], None);
        }
        old_frames(&mut publisher, &mut witness);
        let mut player = scene.player(DtlsRole::Client, None);
        let marks = take_all(&mut player, &mut publisher, 240);
        is_whole_and_on_time(&player, &marks, &[240]);
        let mut second = scene.player(DtlsRole::Client, None);
        let marks = take_all(&mut second, &mut publisher, 241);
        is_whole_and_on_time(&second, &marks, &[240, 241]);
    });
}

#[test]
fn go_10_a_player_starts_with_an_old_keyframe_and_all_that_followed_and_is_live() {
    starts_with_old_frames(1, 0);
}

#[test]
fn go_10_players_on_workers_that_begin_to_keep_the_stream_start_with_old_frames() {
    starts_with_old_frames(4, 12);
}

#[test]
fn go_10_the_first_player_of_another_relay_starts_with_what_the_origin_kept_and_the_next_with_what_its_own_did()
 {
    play(|| {
        let (mut origin, mut edge) = (Scene::new(2), Scene::new(2));
        let mut publisher = origin.publisher(DtlsRole::Client, Claim::of_epoch(1));
        let mut witness = origin.player(DtlsRole::Client, None);
        start(&mut publisher, &mut [&mut witness]);
        old_frames(&mut publisher, &mut witness);
        crate::link::join(&mut origin, &mut edge);
        let mut first = edge.player(DtlsRole::Client, None);
        let marks = take_all(&mut first, &mut publisher, 240);
        is_whole_and_on_time(&first, &marks, &[240]);
        let mut second = edge.player(DtlsRole::Client, None);
        let marks = take_all(&mut second, &mut publisher, 241);
        is_whole_and_on_time(&second, &marks, &[240, 241]);
    });
}

#[test]
fn a_nack_for_an_old_packet_is_answered_from_what_was_kept() {
    play(|| {
        let mut scene = Scene::new(1);
        let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
        let mut witness = scene.player(DtlsRole::Client, None);
        start(&mut publisher, &mut [&mut witness]);
        old_frames(&mut publisher, &mut witness);
        let mut player = scene.player(DtlsRole::Client, None);
        let (lost, mark, at) = take_all(&mut player, &mut publisher, 240)[1];
        let mut nack = vec![0x81, 205, 0, 3, 0, 0, 0, 1];
        nack.extend(player.ssrc.to_be_bytes());
        nack.extend(lost.to_be_bytes());
        nack.extend([0, 0]);
        player.send_rtcp(&nack);
        let again = player.wait("the retransmission", |got| match got {
            Got::Again(sequence, payload) => Some((sequence, payload[7], payload[8])),
            Got::Media(..) | Got::Rtcp(_) | Got::Closed => None,
        });
        assert_eq!(again, (lost, mark, at));
    });
}

#[test]
fn one_player_that_asks_for_keyframes_without_end_gets_its_share_of_them() {
    play(|| {
        let mut scene = Scene::new(1);
        let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
        let mut player = scene.player(DtlsRole::Client, None);
        start(&mut publisher, &mut [&mut player]);
        let mut request = vec![0x81, 206, 0, 2, 0, 0, 0, 1];
        request.extend(player.ssrc.to_be_bytes());
        let (started, mut asked) = (std::time::Instant::now(), 0);
        while started.elapsed() < std::time::Duration::from_millis(2_900) {
            player.send_rtcp(&request);
            let got = publisher.wait_a_moment();
            if got.iter().any(Got::is_keyframe_request) {
                asked += 1;
                publisher.send_frame(true, 1, 1);
            }
        }
        assert!((1..=4).contains(&asked), "{asked} keyframes in 2.9 s for one player");
    });
}
