//! Chromium through the console page: it publishes and plays, and its nodes are killed under it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{
    SOON,
    browser::{Browser, page},
    cluster::Cluster,
    namespace::Namespace,
    until,
};

/// How far the gap that the page shows may be from the one seen: the page counts what arrives, a viewer what is drawn, and
/// a frame is drawn up to three frame intervals after it arrived.
const GAP_TOLERANCE_MS: f64 = 150.0;

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
    assert!(received["ciphers"].as_array().is_some_and(|ciphers| !ciphers.is_empty()), "{received}");
    // Stopping takes the stream out of the room for everybody.
    browser.ask(&json!({ "do": "act", "tab": "ann", "session": "publish lobby/cam", "action": "stop" }));
    browser.ask(&json!({ "do": "await", "tab": "bob", "session": "play lobby/cam", "state": 0 }));
}

#[test]
fn chromium_outlives_its_nodes_and_the_console_shows_the_gap_that_is_measured_from_outside() {
    // PUB-2 PUB-9 PLAY-2 GO-2
    let (namespace, cluster) = console("gap");
    let mut browser = Browser::start(&cluster.page, None, |driver| namespace.within(&driver));
    let (publisher, player) = ("publish lobby/picture", "play lobby/picture");
    browser.ask(&json!({ "do": "publish", "stream": "picture" }));
    browser.node_of(publisher);
    browser.ask(&json!({ "do": "play", "stream": "picture" }));
    browser.node_of(player);
    for victims in ["the player's node", "the publisher's node", "both nodes"] {
        browser.ask(&json!({ "do": "measure", "session": player }));
        let before = browser.ask(&json!({ "do": "measured", "session": player, "frames": 60 }));
        let (theirs, ours) = (browser.node_of(publisher), browser.node_of(player));
        let nodes: BTreeSet<&String> = match victims {
            "the player's node" => BTreeSet::from([&ours]),
            "the publisher's node" => BTreeSet::from([&theirs]),
            _ => BTreeSet::from([&theirs, &ours]),
        };
        for node in &nodes {
            browser.ask(&json!({ "do": "kill", "node": node }));
        }
        let gaps = before["shown_gaps"].as_u64().expect("a number of gaps") + 1;
        browser.ask(&json!({ "do": "await", "session": player, "state": 2, "gaps": gaps }));
        let frames = before["numbers"].as_u64().expect("a number of frames") + 90;
        let after = browser.ask(&json!({ "do": "measured", "session": player, "frames": frames }));
        let (shown, seen) =
            (after["shown_gap_ms"].as_f64().unwrap(), after["video_gap_ms"].as_f64().unwrap());
        let heard = after["audio_gap_ms"].as_f64().unwrap();
        let story = || format!("{victims} ({nodes:?}) killed: {after}");
        assert!(seen <= 1_000.0 && heard <= 1_000.0, "{}", story());
        assert!((seen - shown).abs() <= GAP_TOLERANCE_MS, "{}", story());
        assert_eq!(after["backwards"], 0, "{}", story());
        for node in &nodes {
            browser.ask(&json!({ "do": "start", "node": node }));
        }
    }
}
