//! Whoever is kicked or replaced is off every relay at once, also off one that was away at that time.

use std::{process::Command, time::Duration};

use serde_json::Value;

use crate::support::{
    SOON,
    client::Client,
    clips::{Video, clip},
    process::{output, waystation},
    ready::healthy_lives,
    site::{Plan, Site},
    standstill::Stopwatch,
    until,
};

/// From the word to the end of the last session.
const ENDED_WITHIN: Duration = Duration::from_secs(1);
/// What measuring costs: a command is started, and relays count what they hold now and then.
const MEASURED_WITHIN: Duration = Duration::from_secs(1);

/// How many sessions of an action a relay holds.
fn sessions(admin: &str, action: &str) -> Option<u64> {
    let text = reqwest::blocking::get(format!("{admin}/metrics")).ok()?.text().ok()?;
    let name = format!("waystation_relay_sessions{{action=\"{action}\"}}");
    let line = text.lines().find(|line| line.starts_with(&name))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

impl Site {
    fn sessions(&self, action: &str) -> u64 {
        self.relays.iter().filter_map(|relay| sessions(&relay.admin, action)).sum()
    }

    fn kick(&self, user: &str, coordinator: usize) {
        let mut command: Command = waystation();
        command.args(["kick", "--room", "stage", "--user", user, "--coordinator"]);
        output(command.arg(&self.coordinators[coordinator].url));
    }
}

/// The node that a player used last.
#[track_caller]
fn node(client: &mut Client) -> String {
    let states = client.events("state");
    let last = states.iter().rev().find(|event| event["state"] == 2 && event["node"].is_string());
    last.unwrap_or_else(|| panic!("no node; {}", client.story()))["node"].as_str().unwrap().to_owned()
}

#[test]
fn whoever_is_kicked_or_replaced_is_off_every_relay_within_a_second() {
    // ROOM-7, ROOM-8
    let site = Site::start(Plan { etcd_members: 1, ..Plan::default() });
    let video = clip(Video::Vp8, 8).video;
    let _publisher =
        site.published("stage", "alice", "show", &["--video", video.to_str().unwrap(), "--loop"]);
    let mut players: Vec<_> =
        ["bob", "carol", "dave"].map(|user| (user, site.play("stage", user, "show", &[]))).into();
    for (_, player) in &mut players {
        player.state("player", 2, 0);
    }
    until("three sessions at the relays", SOON, || (site.sessions("play") == 3).then_some(()));

    // The word goes to each coordinator in turn: none of them may be the one that holds the user's connection.
    for (coordinator, (user, player)) in players.iter_mut().take(2).enumerate() {
        let left = site.sessions("play") - 1;
        // It must be the relay that ends the session.
        player.freeze();
        site.kick(user, coordinator);
        let word = Stopwatch::start();
        word.until("the end of the session", ENDED_WITHIN + MEASURED_WITHIN, || {
            (site.sessions("play") == left).then_some(())
        });
        player.thaw();
        let thawed = Stopwatch::start();
        thawed.until("the user's word of it", ENDED_WITHIN + MEASURED_WITHIN, || {
            let is_it = |event: &Value| {
                event["machine"] == "room" && event["state"] == 0 && event["code"] == 1_002_055
            };
            player.seen().iter().any(is_it).then_some(())
        });
        assert_eq!(player.end(SOON).code(), Some(3), "{}", player.story());
    }

    // The same user from another place.
    let (_, older) = players.last_mut().unwrap();
    older.freeze();
    let mut newer = site.play("stage", "dave", "show", &[]);
    newer.state("player", 2, 0);
    let word = Stopwatch::start();
    word.until("one session of the replaced user", ENDED_WITHIN + MEASURED_WITHIN, || {
        (site.sessions("play") == 1).then_some(())
    });
    older.thaw();
    older.state("room", 0, 1_002_050);
    assert_eq!(older.end(SOON).code(), Some(3), "{}", older.story());
}

#[test]
fn a_relay_that_was_away_when_somebody_was_kicked_ends_the_session_once_it_is_back() {
    // ROOM-8
    let site = Site::start(Plan { etcd_members: 1, ..Plan::default() });
    let video = clip(Video::Vp8, 8).video;
    let _publisher =
        site.published("stage", "alice", "show", &["--video", video.to_str().unwrap(), "--loop"]);
    let mut player = site.play("stage", "bob", "show", &["--no-hedging"]);
    player.state("player", 2, 0);
    let away = node(&mut player);
    let admin = site.relays.iter().find(|relay| relay.id == away).unwrap().admin.clone();
    until("the session at its relay", SOON, || (sessions(&admin, "play") == Some(1)).then_some(()));
    // It stands still, so that neither coordinators nor clients reach it, and the player's process dies with its session open.
    site.signal_relay(&away, libc::SIGSTOP);
    player.kill();
    let is_there = || healthy_lives(&site.coordinators[0].url, &away).map(|lives| !lives.is_empty());
    until("its coordinator misses it", SOON, || (!is_there()?).then_some(()));
    site.kick("bob", 1);
    site.signal_relay(&away, libc::SIGCONT);
    until("its coordinator has it back", SOON, || is_there()?.then_some(()));
    let back = Stopwatch::start();
    back.until("the end of the session", ENDED_WITHIN + MEASURED_WITHIN, || {
        (sessions(&admin, "play") == Some(0)).then_some(())
    });
}
