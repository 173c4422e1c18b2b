//! Where a player's video starts: at a keyframe that has just passed, or at the next, which is asked for.

use std::time::{Duration, Instant};

use waystation_proto::Claim;
use waystation_relay::{
    media::start::YOUNG,
    plane::{Command, DtlsRole, PlaneEvent, PublishId},
};

use crate::{
    scene::{BEFORE, Client, Got, LIMIT, Mark, Scene, start},
    takes::{Take, play, play_in_time},
};

/// Takes what has reached a publisher and what reaches it until there is silence; whether a request for a keyframe was in
/// it.
fn was_asked_for_a_keyframe(publisher: &mut Client) -> bool {
    std::iter::from_fn(|| publisher.receive()).fold(false, |asked, got| asked | got.is_keyframe_request())
}

/// A publisher and a player; the last keyframe is not young, and nobody wants one.
fn stream_without_a_start(scene: &mut Scene) -> (Client, Client) {
    let mut publisher = scene.publisher(DtlsRole::Client, Claim::of_epoch(1));
    let mut player = scene.player(DtlsRole::Client, None);
    start(&mut publisher, &mut [&mut player]);
    outlast_the_keyframe(&mut publisher, &mut player);
    (publisher, player)
}

/// Waits until the last keyframe is not young any more.
pub fn outlast_the_keyframe(publisher: &mut Client, player: &mut Client) {
    // What was sent before has been taken when this is there.
    publisher.send_frame(false, 1, BEFORE);
    player.wait("the last frame before", |got| got.is_marked(BEFORE).then_some(()));
    let started = Instant::now();
    while started.elapsed() <= YOUNG {
        let _ = was_asked_for_a_keyframe(publisher);
    }
}

pub fn wait_for_request(publisher: &mut Client) {
    publisher.wait("a request for a keyframe", |got| got.is_keyframe_request().then_some(()));
}

/// A keyframe of three packets and a frame of two pass, not earlier than at the instant of the answer.
fn keyframe_passes(publisher: &mut Client, witness: &mut Client) -> Instant {
    let passed = Instant::now();
    publisher.send_frame(true, 3, 1);
    publisher.send_frame(false, 2, 2);
    assert_eq!(witness.marks(5)[4].1, 2);
    // Requests from before the keyframe came: it has answered them.
    publisher.arrived();
    passed
}

/// The player gets what passed, and what comes live: none twice, none missing. The publisher is asked for nothing.
#[track_caller]
fn starts_at_the_keyframe(publisher: &mut Client, player: &mut Client, passed: Instant) -> Take {
    let started = Instant::now();
    let mut marks: Vec<Mark> = Vec::new();
    let mut is_asked = false;
    // Either way the relay has dealt with the player by then.
    while marks.is_empty() && !is_asked {
        assert!(started.elapsed() < LIMIT, "neither media nor a request for a keyframe");
        std::thread::park_timeout(Duration::from_millis(2));
        is_asked = publisher.arrived().iter().any(Got::is_keyframe_request);
        marks.extend(player.arrived().iter().filter_map(Got::mark));
    }
    if passed.elapsed() > YOUNG {
        return Take::TooSlow;
    }
    assert!(!is_asked, "there was a keyframe to start at");
    publisher.send_frame(false, 2, 3);
    marks.extend(player.marks(7 - marks.len()));
    let expected = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0), (3, 1)];
    assert_eq!(marks.iter().map(|&(_, mark, at)| (mark, at)).collect::<Vec<_>>(), expected);
    for pair in marks.windows(2) {
        assert_eq!(pair[1].0, pair[0].0.wrapping_add(1), "sequence numbers rise by one");
    }
    assert!(!was_asked_for_a_keyframe(publisher), "there was a keyframe to start at");
    Take::Good
}

#[test]
fn a_player_that_comes_later_makes_the_publisher_hear_a_keyframe_request() {
    play(|| {
        let mut scene = Scene::new(1);
        let (mut publisher, _witness) = stream_without_a_start(&mut scene);
        let _player = scene.player(DtlsRole::Client, None);
        wait_for_request(&mut publisher);
    });
}

#[test]
fn a_play_that_begins_just_behind_a_keyframe_starts_at_it_and_the_publisher_is_asked_for_none() {
    for workers in [1, 4] {
        play_in_time(|| {
            let mut scene = Scene::new(workers);
            let (mut publisher, mut witness) = stream_without_a_start(&mut scene);
            // The stream's home has enough of them: with others there, the player's worker did not watch the stream before.
            for _ in 0..12 {
                scene.transport(DtlsRole::Client, vec![0; 32], None);
            }
            let (mut player, passed) = scene.late_player(|_| keyframe_passes(&mut publisher, &mut witness));
            starts_at_the_keyframe(&mut publisher, &mut player, passed)
        });
    }
}

#[test]
fn a_player_that_is_not_up_when_the_keyframe_passes_starts_at_it() {
    for workers in [1, 4] {
        play_in_time(|| {
            let mut scene = Scene::new(workers);
            let (mut publisher, mut witness) = stream_without_a_start(&mut scene);
            let (mut player, passed) = scene.early_player(|_| {
                wait_for_request(&mut publisher);
                keyframe_passes(&mut publisher, &mut witness)
            });
            starts_at_the_keyframe(&mut publisher, &mut player, passed)
        });
    }
}

#[test]
fn a_player_that_comes_up_after_a_change_of_source_gets_nothing_of_the_old_one() {
    // PUB-11
    play_in_time(|| {
        let mut scene = Scene::new(1);
        let (mut first, mut witness) = stream_without_a_start(&mut scene);
        let mut second = scene.standby();
        let passed = keyframe_passes(&mut first, &mut witness);
        let publish = PublishId(second.id);
        scene.plane.send(Command::Activate { publish, claim: Claim::of_epoch(2) });
        scene.change_of_source(&second);
        let (mut player, ()) = scene.early_player(|_| ());
        scene.event(
            "the player's transport",
            |event| matches!(event, PlaneEvent::TransportUp { transport, .. } if transport.0 == player.id),
        );
        if passed.elapsed() > YOUNG {
            return Take::TooSlow;
        }
        assert!(player.receive().is_none());
        second.send_frame(true, 2, 9);
        let marks = player.marks(2);
        assert!(marks.iter().all(|&(_, mark, _)| mark == 9), "{marks:?}");
        Take::Good
    });
}
