//! Firefox through the page. It pairs no address of its own with loopback, and asks the default route which address to
//! use, so the relays' media has the address of a virtual Ethernet pair. The page is at loopback: only there may a page
//! without TLS use the camera.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    browsers::root,
    support::{
        SOON,
        client::Client,
        clips::{Clip, Video, clip_with_keyframes, probe},
        namespace::Namespace,
        process::{Process, output, waystation},
        until,
    },
};

/// The relays' address. It is reserved for documentation (RFC 5737), and nobody outside the namespace has it.
const ADDRESS: &str = "192.0.2.1";
const CLUSTER_SECRET: &str = "the secret of this test's cluster";
/// The app whose tokens `waystation token` makes when it is told nothing else.
const APPS: &str = r#"{dev={secret="waystation-dev-app-secret-for-loopback-only"}}"#;
const ROOM: &str = "lobby";
/// Firefox takes seconds to start, more on a busy machine.
const FIREFOX_STARTS: Duration = Duration::from_secs(40);
/// A camera gives a keyframe to each new player at once; the clip's next one is never far.
const KEYFRAME_EVERY_FRAMES: u32 = 5;
/// Longest stop of media when a node dies, on one machine.
const LONGEST_GAP_MS: f64 = 1_000.0;

#[derive(serde::Deserialize)]
struct CoordinatorReady {
    url: String,
}

#[derive(serde::Deserialize)]
struct RelayReady {
    id: String,
}

/// A relay's process, by the node's id.
struct Relay {
    id: String,
    process: Process,
}

/// A cluster in a namespace, a publisher of a clip, and Firefox, which plays the clip and publishes its camera. What is
/// named first is dropped first.
struct Scene {
    firefox: Client,
    clip: Client,
    relays: Vec<Relay>,
    _coordinator: Process,
    url: String,
    directory: TempDir,
    namespace: Namespace,
}

impl Scene {
    #[track_caller]
    fn new(name: &str, relays: usize) -> Self {
        let page = root().join("web/dist");
        assert!(page.join("index.html").exists(), "the page is not built: run `make web` first");
        let namespace = Namespace::new(name, Some(&format!("{ADDRESS}/24")));
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let mut command = waystation();
        command.args([
            "coordinator",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--gather-ms",
            "0",
        ]);
        command
            .env("WAYSTATION_COORDINATOR_CLUSTER_SECRET", CLUSTER_SECRET)
            .env("WAYSTATION_COORDINATOR_APPS", APPS);
        command.arg("--page").arg(page);
        let (coordinator, CoordinatorReady { url }) =
            start(&namespace, command, directory.path().join("coordinator.json"));
        let relays = (1..=relays).map(|n| start_relay(&namespace, &url, n, directory.path())).collect();
        let Clip { video, audio, .. } = clip_with_keyframes(Video::Vp8, 8, KEYFRAME_EVERY_FRAMES);
        let mut publish = client(&namespace, &url, "publish", "clip");
        publish.arg("--video").arg(video).arg("--audio").arg(audio).arg("--loop");
        let mut clip = Client::start(&mut publish);
        clip.state("publisher", 2, 0);
        let mut firefox = Command::new("node");
        firefox.arg(root().join("web/e2e/firefox.mjs")).args([&format!("{url}/"), &token("firefox")]);
        firefox.args([ROOM, "camera", "clip"]);
        let firefox = Client::start(&mut namespace.within(&firefox));
        Self { firefox, clip, relays, _coordinator: coordinator, url, directory, namespace }
    }

    /// A player of Firefox's camera as a process of its own.
    #[track_caller]
    fn play_camera(&self, words: &[&str]) -> Client {
        let mut player = Client::start(client(&self.namespace, &self.url, "play", "camera").args(words));
        player.state("player", 2, 0);
        player
    }

    /// The next line of Firefox's driver for which `wanted` holds.
    #[track_caller]
    fn firefox(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.firefox.next_within(what, FIREFOX_STARTS, wanted)
    }

    /// SIGKILL of a node.
    #[track_caller]
    fn kill(&mut self, id: &str) {
        let relay = self.relays.iter().find(|relay| relay.id == id);
        relay.unwrap_or_else(|| panic!("no relay {id:?}")).process.signal(libc::SIGKILL);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Starts a process and reads its ready file.
#[track_caller]
fn start<T: DeserializeOwned>(namespace: &Namespace, mut command: Command, file: PathBuf) -> (Process, T) {
    command.arg("--ready-file").arg(&file);
    let mut process = Process::start(namespace.within(&command).stdout(Stdio::null()));
    let ready = until("a ready file", SOON, || {
        assert!(process.ended().is_none(), "it ended: {}", process.stderr());
        serde_json::from_slice(&std::fs::read(&file).ok()?).ok()
    });
    (process, ready)
}

#[track_caller]
fn start_relay(namespace: &Namespace, url: &str, number: usize, directory: &Path) -> Relay {
    let mut command = waystation();
    command.args(["relay", "--id", &format!("relay-{number}"), "--coordinators", url, "--workers", "1"]);
    command.args(["--link-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    for listen in ["--http-listen", "--media-listen"] {
        command.args([listen, &format!("{ADDRESS}:0")]);
    }
    command.env("WAYSTATION_RELAY_CLUSTER_SECRET", CLUSTER_SECRET);
    let (process, RelayReady { id }) =
        start(namespace, command, directory.join(format!("relay-{number}.json")));
    Relay { id, process }
}

#[track_caller]
fn token(user: &str) -> String {
    let mut command = waystation();
    command.args(["token", "--room", "*", "--user", user, "--publish", "--play", "--observe"]);
    output(&mut command).trim().to_owned()
}

/// A client of ours, in the namespace.
#[track_caller]
fn client(namespace: &Namespace, url: &str, action: &str, stream: &str) -> Command {
    let mut command = waystation();
    command.args([action, "--coordinator", url, "--token", &token(action)]);
    command.args(["--room", ROOM, "--stream", stream, "--json"]);
    namespace.within(&command)
}

fn frames_shown(look: &Value) -> u64 {
    look["shown"]["frames"].as_u64().unwrap_or(0)
}

/// Whether a session's card says that it runs.
fn runs(card: &Value) -> bool {
    card["state"] == "2" && card["node"].is_string()
}

fn node(card: &Value) -> String {
    card["node"].as_str().unwrap_or_else(|| panic!("no node: {card}")).to_owned()
}

#[test]
fn firefox_publishes_its_camera_and_microphone_and_plays_a_clip() {
    // PUB-1, PLAY-1
    let mut scene = Scene::new("firefox", 2);
    scene.firefox("Firefox publishes and plays", |look| runs(&look["publisher"]) && runs(&look["player"]));
    let (video, audio) = (scene.file("camera.ivf"), scene.file("camera.ogg"));
    let files = ["--video-out", video.to_str().unwrap(), "--audio-out", audio.to_str().unwrap()];
    let mut player = scene.play_camera(&[&files[..], &["--codec", "vp8", "--duration", "4s"]].concat());
    let status = player.end(SOON);
    assert!(status.success(), "{}", player.story());
    let (frames, _) = probe(&video);
    let (packets, seconds) = probe(&audio);
    assert!(frames >= 30, "{frames} frames of Firefox's camera; {}", player.story());
    assert!(
        packets >= 100 && seconds >= 2.0,
        "{packets} packets, {seconds} s of its sound; {}",
        player.story()
    );
    let look = scene.firefox("60 frames of the clip, and its sound", |look| {
        frames_shown(look) >= 60 && look["received"]["audio"].as_u64().unwrap_or(0) >= 100
    });
    let count = |name: &str| look["received"][name].as_u64().unwrap_or_else(|| panic!("no {name}: {look}"));
    assert!(count("frames") >= 60 && count("samples") >= 96_000, "{look}");
    assert!(count("concealed_samples") * 10 < count("samples"), "a tenth of the sound was made up: {look}");
}

#[test]
fn the_nodes_of_firefoxs_sessions_die_and_both_sessions_go_on() {
    // PUB-2, PLAY-2, GO-2
    let mut scene = Scene::new("firefox-nodes", 3);
    let look =
        scene.firefox("the clip is shown", |look| runs(&look["publisher"]) && frames_shown(look) >= 25);
    let mut player = scene.play_camera(&[]);
    // It plays as soon as it has a session. Only media that came can stop.
    player.next("the camera's media", |event| {
        event["event"] == "stats" && event["frames"].as_u64().unwrap_or(0) >= 25
    });
    let publishes_at = node(&look["publisher"]);
    scene.kill(&publishes_at);
    let look = scene.firefox("another node for the camera", |look| {
        runs(&look["publisher"])
            && look["publisher"]["node"] != publishes_at.as_str()
            && runs(&look["player"])
    });
    let gap = player.next("the gap that the death made", |event| event["event"] == "gap");
    let gap_ms = gap["gap_ms"].as_f64().unwrap();
    assert!(gap_ms <= LONGEST_GAP_MS, "the camera stopped for {gap_ms} ms; {}", player.story());

    // The clip may have come from the same node. It is shown again before the next death, or both would be one stop.
    let before = frames_shown(&look);
    let look =
        scene.firefox("the clip goes on", |look| frames_shown(look) >= before + 25 && runs(&look["player"]));
    let plays_at = node(&look["player"]);
    scene.kill(&plays_at);
    let look = scene.firefox("another node for the clip", |look| {
        runs(&look["player"])
            && look["player"]["node"] != plays_at.as_str()
            && look["player"]["lastGapMs"].is_string()
    });
    let before = frames_shown(&look);
    let look = scene.firefox("the clip is shown again", |look| frames_shown(look) >= before + 25);
    let gap_ms = look["shown"]["longest_gap_ms"].as_f64().unwrap();
    assert!(gap_ms <= LONGEST_GAP_MS, "the clip stood still for {gap_ms} ms; {}", scene.firefox.story());
    assert!(scene.clip.seen().iter().all(|event| event["event"] != "end"), "{}", scene.clip.story());
}
