//! Chromium through the console page: it publishes and plays, and its nodes are killed under it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    SOON,
    browser::{Browser, page},
    cluster::Cluster,
    namespace::Namespace,
    standstill::{Disturbed, Stopwatch, undisturbed},
    until,
};

/// Longest stop of picture and sound when nodes die, on one machine.
const LONGEST_GAP_MS: f64 = 1_000.0;

/// How far the gap that the page shows may be from the one seen: three frame intervals.
const GAP_TOLERANCE_MS: f64 = 100.0;

/// The page tells of a gap when sound and picture are back, two seconds after the first of them at the latest.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

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

/// Kills nodes while the player's gap is measured and shown, and starts them again. Answers whether the player stayed
/// where it was.
#[track_caller]
fn outlive(browser: &mut Browser, victims: Victims) -> Result<bool, Disturbed> {
    let watch = Stopwatch::start();
    browser.ask(&json!({ "do": "measure", "session": PLAYER }));
    browser.ask(&json!({ "do": "measured", "session": PLAYER, "frames": 60 }));
    let of: &[&str] = match victims {
        Victims::Player => &[PLAYER],
        Victims::Publisher => &[PUBLISHER],
        Victims::Both => &[PUBLISHER, PLAYER],
    };
    let died = browser.ask(&json!({ "do": "kill", "of": of }));
    let (killed, at) = (died["killed"].as_array().expect("a list of nodes"), &died["at"]);
    for session in [PUBLISHER, PLAYER].into_iter().filter(|session| killed.contains(&at[session])) {
        browser.ask(&json!({ "do": "await", "session": session, "state": 2, "not_node": at[session] }));
    }
    let mut after = browser.ask(&json!({ "do": "measured", "session": PLAYER, "frames": 60 }));
    let figure = |figures: &Value, name: &str| {
        figures[name].as_f64().unwrap_or_else(|| panic!("no {name} in {figures}"))
    };
    // Where no number is missing, the page that makes the picture may have stood still at another time.
    let is_shown = |figures: &Value| {
        let shown = figure(figures, "shown_gap_ms");
        ["video_gap_ms", "lost_gap_ms"]
            .map(|seen| (figure(figures, seen) - shown).abs())
            .iter()
            .any(|off| *off <= GAP_TOLERANCE_MS)
    };
    let asked = Instant::now();
    while !is_shown(&after) && asked.elapsed() < TOLD_WITHIN {
        after = browser.ask(&json!({ "do": "measured", "session": PLAYER }));
    }
    let story = format!("{victims:?} of {} and {} killed: {after}", at[PUBLISHER], at[PLAYER]);
    println!("{story}");
    assert_eq!(after["backwards"], 0, "{story}");
    let longest = figure(&after, "video_gap_ms").max(figure(&after, "audio_gap_ms"));
    let page = if longest > LONGEST_GAP_MS || !is_shown(&after) {
        browser.ask(&json!({ "do": "state" }))
    } else {
        Value::Null
    };
    for node in killed {
        browser.ask(&json!({ "do": "start", "node": node }));
    }
    watch.expect(longest <= LONGEST_GAP_MS, || format!("{story}; {page}"))?;
    // A page that stood still knows of no gap in that time.
    watch.expect(is_shown(&after), || format!("it shows another gap: {story}; {page}"))?;
    Ok(!killed.contains(&at[PLAYER]))
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
    browser.ask(&json!({ "do": "nodes", "healthy": 3 }));
    undisturbed(|| outlive(&mut browser, Victims::Player).map(drop));
    // Its sound may go on out of its buffer while the picture of a player that stays stands still.
    let stayed = (0..MOST_MOVES).any(|_| {
        let mut stayed = false;
        undisturbed(|| outlive(&mut browser, Victims::Publisher).map(|stays| stayed = stays));
        stayed
    });
    assert!(stayed, "the player was at the publisher's node {MOST_MOVES} times");
    undisturbed(|| outlive(&mut browser, Victims::Both).map(drop));
}
