//! Firefox through the page. It pairs no address of its own with loopback, and asks the default route which address to
//! use, so the relays' media has the address of a virtual Ethernet pair. The page is at loopback: only there may a page
//! without TLS use the camera.

use std::{path::PathBuf, process::Command, time::Duration};

use serde_json::Value;

use crate::{
    browsers::root,
    support::{
        SOON,
        client::Client,
        clips::{Clip, Video, clip_with_keyframes, probe},
        standstill::{Disturbed, Stopwatch, undisturbed},
        until,
        veth::{VethCluster, token},
    },
};

const ROOM: &str = "lobby";
/// Firefox takes seconds to start, more on a busy machine.
const FIREFOX_STARTS: Duration = Duration::from_secs(40);
/// A camera gives a keyframe to each new player at once; the clip's next one is never far.
const KEYFRAME_EVERY_FRAMES: u32 = 5;
/// Longest stop of media when a node dies, on one machine.
const LONGEST_GAP_MS: f64 = 1_000.0;

/// A cluster in a namespace, a publisher of a clip, and Firefox, which plays the clip and publishes its camera. What is
/// named first is dropped first.
struct Scene {
    watch: Stopwatch,
    firefox: Client,
    clip: Client,
    cluster: VethCluster,
}

impl Scene {
    #[track_caller]
    fn new(name: &str, relays: usize) -> Self {
        let watch = Stopwatch::start();
        let page = root().join("web/dist");
        assert!(page.join("index.html").exists(), "the page is not built: run `make web` first");
        let cluster = VethCluster::start(name, relays, Some(&page));
        let Clip { video, audio, .. } = clip_with_keyframes(Video::Vp8, 8, KEYFRAME_EVERY_FRAMES);
        let mut publish = cluster.client("publish", ROOM, "clip");
        publish.arg("--video").arg(video).arg("--audio").arg(audio).arg("--loop");
        let mut clip = Client::start(&mut publish);
        clip.state("publisher", 2, 0);
        let mut firefox = Command::new("node");
        firefox
            .arg(root().join("web/e2e/firefox.mjs"))
            .args([&format!("{}/", cluster.url), &token("firefox")]);
        firefox.args([ROOM, "camera", "clip"]);
        let firefox = Client::start(&mut cluster.namespace.within(&firefox));
        Self { watch, firefox, clip, cluster }
    }

    /// A player of Firefox's camera as a process of its own, once the room has that stream: Firefox publishes as soon as
    /// its node has it.
    #[track_caller]
    fn play_camera(&self, words: &[&str]) -> Client {
        self.cluster.is_in_its_room("camera");
        let mut player = Client::start(self.cluster.client("play", ROOM, "camera").args(words));
        player.state("player", 2, 0);
        player
    }

    /// The next line of Firefox's driver for which `wanted` holds.
    #[track_caller]
    fn firefox(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.firefox.next_within(what, FIREFOX_STARTS, wanted)
    }

    /// What Firefox's driver prints next, at which both sessions run.
    #[track_caller]
    fn now(&mut self) -> Value {
        self.firefox.pass_over();
        self.firefox("a look", |look| runs(&look["publisher"]) && runs(&look["player"]))
    }

    /// SIGKILL of a node.
    #[track_caller]
    fn kill(&mut self, id: &str) {
        let relay = self.cluster.relays.iter().find(|relay| relay.id == id);
        relay.unwrap_or_else(|| panic!("no relay {id:?}")).process.signal(libc::SIGKILL);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.cluster.directory.path().join(name)
    }
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

/// How often the page has shown a gap of the session.
fn gaps_told(card: &Value) -> u64 {
    card["gaps"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The longest time without a frame, behind a number of them.
fn longest_gap_ms(look: &Value, frames: u64) -> f64 {
    let gaps = look["shown"]["gaps"].as_array().unwrap_or_else(|| panic!("no gaps: {look}"));
    let later = gaps.iter().filter(|gap| gap["frame"].as_u64() > Some(frames));
    later.filter_map(|gap| gap["ms"].as_f64()).fold(0.0, f64::max)
}

#[test]
fn firefox_publishes_its_camera_and_microphone_and_plays_a_clip() {
    // PUB-1, PLAY-1
    undisturbed(|| {
        let mut scene = Scene::new("firefox", 2);
        scene
            .firefox("Firefox publishes and plays", |look| runs(&look["publisher"]) && runs(&look["player"]));
        let (video, audio) = (scene.file("camera.ivf"), scene.file("camera.ogg"));
        let files = ["--video-out", video.to_str().unwrap(), "--audio-out", audio.to_str().unwrap()];
        let mut player = scene.play_camera(&[&files[..], &["--codec", "vp8", "--duration", "4s"]].concat());
        let status = player.end(SOON);
        assert!(status.success(), "{}", player.story());
        let (frames, _) = probe(&video);
        scene
            .watch
            .expect(frames >= 30, || format!("{frames} frames of Firefox's camera; {}", player.story()))?;
        let (packets, seconds) = probe(&audio);
        scene.watch.expect(packets >= 100 && seconds >= 2.0, || {
            format!("{packets} packets, {seconds} s of its sound; {}", player.story())
        })?;
        let look = scene.firefox("60 frames of the clip, and its sound", |look| {
            let count = |name: &str| look["received"][name].as_u64().unwrap_or(0);
            frames_shown(look) >= 60 && count("frames") >= 60 && count("samples") >= 96_000
        });
        let count =
            |name: &str| look["received"][name].as_u64().unwrap_or_else(|| panic!("no {name}: {look}"));
        scene.watch.expect(count("concealed_samples") * 10 < count("samples"), || {
            format!("a tenth of the sound was made up: {look}")
        })
    });
}

/// Kills the node of Firefox's camera.
fn the_camera_goes_on(scene: &mut Scene, player: &mut Client) -> Result<(), Disturbed> {
    let publishes_at = node(&scene.now()["publisher"]);
    let gaps = player.events("gap").len();
    scene.kill(&publishes_at);
    scene.firefox("another node for the camera", |look| {
        runs(&look["publisher"]) && look["publisher"]["node"] != publishes_at.as_str()
    });
    let gap = until("the gap that the death made", SOON, || player.events("gap").get(gaps).cloned());
    let gap_ms = gap["gap_ms"].as_f64().unwrap();
    scene.watch.expect(gap_ms <= LONGEST_GAP_MS, || {
        format!("the camera stopped for {gap_ms} ms; {}", player.story())
    })
}

/// Kills the node from which Firefox plays the clip.
fn the_clip_goes_on(scene: &mut Scene) -> Result<(), Disturbed> {
    let before = scene.now();
    let (plays_at, frames) = (node(&before["player"]), frames_shown(&before));
    scene.kill(&plays_at);
    let look = scene.firefox("another node for the clip, and the gap that the death made", |look| {
        let card = &look["player"];
        runs(card) && card["node"] != plays_at.as_str() && gaps_told(card) > gaps_told(&before["player"])
    });
    let moved = frames_shown(&look);
    let look = scene.firefox("the clip is shown again", |look| frames_shown(look) >= moved + 25);
    let gap_ms = longest_gap_ms(&look, frames);
    scene.watch.expect(gap_ms <= LONGEST_GAP_MS, || format!("the clip stood still for {gap_ms} ms: {look}"))
}

#[test]
fn the_nodes_of_firefoxs_sessions_die_and_both_sessions_go_on() {
    // PUB-2, PLAY-2, GO-2
    undisturbed(|| {
        let mut scene = Scene::new("firefox-nodes", 3);
        scene.firefox("the clip is shown", |look| runs(&look["publisher"]) && frames_shown(look) >= 25);
        let mut player = scene.play_camera(&[]);
        // It plays as soon as it has a session. Only media that came can stop.
        player.next("the camera's media", |event| {
            event["event"] == "stats" && event["frames"].as_u64().unwrap_or(0) >= 25
        });
        the_camera_goes_on(&mut scene, &mut player)?;
        // The clip may have come from the same node. It is shown again before the next death, or both would be one stop.
        let before = frames_shown(&scene.now());
        scene.firefox("the clip goes on", |look| frames_shown(look) >= before + 25);
        the_clip_goes_on(&mut scene)?;
        assert!(scene.clip.seen().iter().all(|event| event["event"] != "end"), "{}", scene.clip.story());
        Ok(())
    });
}
