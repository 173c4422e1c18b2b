//! Chromium through the console page: it publishes and plays, and its nodes are killed under it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{
    SOON,
    browser::{Browser, page},
    cluster::Cluster,
    namespace::Namespace,
    until,
};

/// How far the gap that the page shows may be from the one seen: the page counts what arrives, a viewer what is drawn, and
/// a frame is drawn up to three frame intervals after it arrived.
const GAP_TOLERANCE_MS: f64 = 100.0;

/// The same where the player moves: the video element takes a while longer to draw from another track.
const MOVED_GAP_TOLERANCE_MS: f64 = 150.0;

/// Publisher and player choose their nodes by themselves; so often the publisher's dies until it dies alone.
const MOST_MOVES: usize = 5;

/// A cluster of three relays with the console page, in a namespace of its own.
fn console(name: &str) -> (Namespace, Cluster) {
    let namespace = Namespace::new(name, None);
    let cluster = Cluster::start_with(3, |command| {
        command.arg("--page").arg(page());
        *command = namespace.within(command);
    });
    (namespace, cluster)
}

#[test]
fn chromium_publishes_its_camera_through_the_console_and_another_tab_plays_it() {
    let (namespace, cluster) = console("chromium");
    let mut browser = Browser::start(&cluster.page, None, |driver| namespace.within(&driver));
    browser.ask(&json!({ "do": "publish", "tab": "ann", "stream": "cam", "picture": "camera", "sound": "microphone" }));
    browser.ask(&json!({ "do": "await", "tab": "ann", "session": "publish lobby/cam", "state": 2 }));
    browser.ask(&json!({ "do": "login", "tab": "bob" }));
    browser.ask(&json!({ "do": "play", "tab": "bob", "stream": "cam" }));
    browser.ask(&json!({ "do": "await", "tab": "bob", "session": "play lobby/cam", "state": 2 }));
    let received = until("60 frames and 100 packets of audio", SOON, || {
        let received = browser.ask(&json!({ "do": "received", "tab": "bob" }));
        let enough = received["frames"].as_u64() >= Some(60) && received["audio"].as_u64() >= Some(100);
        enough.then_some(received)
    });
    let ciphers = received["ciphers"].as_array().cloned().unwrap_or_default();
    let is_gcm = |cipher: &Value| cipher.as_str().is_some_and(|cipher| cipher.ends_with("AEAD_AES_128_GCM"));
    assert!(!ciphers.is_empty() && ciphers.iter().all(is_gcm), "{received}");
    // Stopping takes the stream out of the room for everybody.
    browser.ask(&json!({ "do": "act", "tab": "ann", "session": "publish lobby/cam", "action": "stop" }));
    browser.ask(&json!({ "do": "await", "tab": "bob", "session": "play lobby/cam", "state": 0 }));
}

const PUBLISHER: &str = "publish lobby/picture";
const PLAYER: &str = "play lobby/picture";

/// Whose nodes are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victims {
    Player,
    Publisher,
    Both,
}

/// Kills nodes while the player's gap is measured and shown, and starts them again. Answers whether the player stayed.
#[track_caller]
fn outlive(browser: &mut Browser, victims: Victims) -> bool {
    browser.ask(&json!({ "do": "measure", "session": PLAYER }));
    let before = browser.ask(&json!({ "do": "measured", "session": PLAYER, "frames": 60 }));
    let (theirs, ours) = (browser.node_of(PUBLISHER), browser.node_of(PLAYER));
    let nodes = match victims {
        Victims::Player => BTreeSet::from([&ours]),
        Victims::Publisher => BTreeSet::from([&theirs]),
        Victims::Both => BTreeSet::from([&theirs, &ours]),
    };
    for node in &nodes {
        browser.ask(&json!({ "do": "kill", "node": node }));
    }
    let gaps = before["shown_gaps"].as_u64().expect("a number of gaps") + 1;
    browser.ask(&json!({ "do": "await", "session": PLAYER, "state": 2, "gaps": gaps }));
    let frames = before["numbers"].as_u64().expect("a number of frames") + 90;
    let after = browser.ask(&json!({ "do": "measured", "session": PLAYER, "frames": frames }));
    let figure = |name: &str| after[name].as_f64().unwrap_or_else(|| panic!("{name} in {after}"));
    let (seen, heard, shown) = (figure("video_gap_ms"), figure("audio_gap_ms"), figure("shown_gap_ms"));
    let stays = !nodes.contains(&ours);
    let tolerance = if stays { GAP_TOLERANCE_MS } else { MOVED_GAP_TOLERANCE_MS };
    let story = format!("{victims:?} of {theirs} and {ours} killed");
    println!("{story}: {seen:.0} ms seen, {heard:.0} ms heard, {shown:.0} ms shown");
    let short = seen <= 1_000.0 && heard <= 1_000.0;
    assert!(short, "{story}: {after}; {}", browser.ask(&json!({ "do": "state" })));
    assert!((seen - shown).abs() <= tolerance, "{story}: {after}");
    assert_eq!(after["backwards"], 0, "{story}: {after}");
    for node in &nodes {
        browser.ask(&json!({ "do": "start", "node": node }));
    }
    stays
}

#[test]
fn chromium_outlives_its_nodes_and_the_console_shows_the_gap_that_is_measured_from_outside() {
    // PUB-2 PUB-9 PLAY-2 GO-2
    let (namespace, cluster) = console("gap");
    let mut browser = Browser::start(&cluster.page, None, |driver| namespace.within(&driver));
    browser.ask(&json!({ "do": "publish", "stream": "picture" }));
    browser.node_of(PUBLISHER);
    browser.ask(&json!({ "do": "play", "stream": "picture" }));
    browser.node_of(PLAYER);
    outlive(&mut browser, Victims::Player);
    // Its sound may go on out of its buffer while the picture of a player that stays stands still.
    let stayed = (0..MOST_MOVES).any(|_| outlive(&mut browser, Victims::Publisher));
    assert!(stayed, "the player was at the publisher's node {MOST_MOVES} times");
    outlive(&mut browser, Victims::Both);
}
