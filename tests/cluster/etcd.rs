//! etcd's members die, stand still, forget and come back, while media flows and rooms stand.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    SOON,
    browser::{Browser, page},
    client::Client,
    clips::{Video, clip},
    cluster::Rights,
    namespace::enter_one_of_its_own,
    site::{Plan, Site},
    standstill::{Disturbed, Stopwatch, undisturbed},
    until,
};

/// Whatever befell the store, the cluster's state is right so long after it is over.
const RIGHT_WITHIN: Duration = Duration::from_secs(10);
/// A longer stop of media is no hiccup of a busy machine. (That nobody had to move is looked at, too.)
const VISIBLE_GAP_MS: f64 = 1_000.0;
/// Users in the room: two players, a publisher, and Chromium.
const USERS: u64 = 4;

/// Three of everything; of clients, Rust's publisher and player, somebody who also watches the room, and Chromium, which
/// publishes a numbered picture and plays it.
struct Scene {
    browser: Browser,
    site: Site,
    publisher: Client,
    player: Client,
    onlooker: Client,
    watch: Stopwatch,
    /// What the onlooker had heard when all was quiet.
    quiet: usize,
}

const CHROMIUM_PUBLISHES: &str = "publish stage/picture";
const CHROMIUM_PLAYS: &str = "play stage/picture";

/// The epoch of a stream's claim, of what `waystation streams` says.
fn epoch_of(streams: &Value, stream: &str) -> Option<u64> {
    let found = streams.as_array()?.iter().find(|entry| entry["stream"] == stream)?;
    found["claim"].as_str()?.split('.').next()?.parse().ok()
}

impl Scene {
    fn new() -> Self {
        enter_one_of_its_own();
        let watch = Stopwatch::start();
        let words = vec!["--page".into(), page().to_str().expect("the page's folder has a name").into()];
        let site = Site::start(Plan { coordinator_words: words, ..Plan::default() });
        let clip = clip(Video::Vp8, 8);
        let media =
            ["--video", clip.video.to_str().unwrap(), "--audio", clip.audio.to_str().unwrap(), "--loop"];
        let publisher = site.published("stage", "alice", "show", &media);
        let mut player = site.play("stage", "bob", "show", &[]);
        player.state("player", 2, 0);
        let mut onlooker = site.play("stage", "carol", "show", &["--notify-users"]);
        onlooker.state("player", 2, 0);
        let token = site.token("stage", "dora", Rights::All);
        let mut browser = Browser::start(&site.coordinators[0].url, Some(&token), |driver| driver);
        browser.ask(&json!({ "do": "publish", "room": "stage", "stream": "picture" }));
        browser.node_of(CHROMIUM_PUBLISHES);
        browser.ask(&json!({ "do": "play", "room": "stage", "stream": "picture" }));
        browser.node_of(CHROMIUM_PLAYS);
        browser.ask(&json!({ "do": "measure", "session": CHROMIUM_PLAYS }));
        browser.ask(&json!({ "do": "measured", "session": CHROMIUM_PLAYS, "frames": 30 }));
        // The last that there is to hear; the onlooker's coordinator may be another than Chromium's.
        onlooker.next("the picture's Add", |event| {
            event["event"] == "update" && event["kind"] == "stream" && event["ids"] == json!(["picture"])
        });
        let mut scene = Self { site, browser, publisher, player, onlooker, watch, quiet: 0 };
        scene.media_flows();
        scene.quiet = scene.onlooker.events("update").len();
        scene
    }

    /// Waits until the player's count of frames has grown from now on.
    #[track_caller]
    fn media_flows(&mut self) {
        let frames = |event: &Value| event["frames"].as_u64().unwrap_or(0);
        self.player.pass_over();
        let first = frames(&self.player.next("statistics", |event| event["event"] == "stats"));
        self.player.next("more frames", |event| event["event"] == "stats" && frames(event) > first + 10);
    }

    /// The epoch of the stream's claim, as this coordinator says.
    fn epoch(&self, coordinator: usize) -> Option<u64> {
        epoch_of(&self.site.observe("streams", coordinator)?, "show")
    }

    /// Every coordinator shows what is there, and takes what is new.
    #[track_caller]
    fn state_is_right(&mut self, epoch: u64) {
        let over = Stopwatch::start();
        for coordinator in 0..self.site.coordinators.len() {
            over.until("the state at each coordinator", RIGHT_WITHIN, || {
                let healthy = self.site.observe("nodes", coordinator)?;
                let healthy = healthy.as_array()?.iter().filter(|node| node["health"] == "Healthy").count();
                let rooms = self.site.observe("rooms", coordinator)?;
                let users =
                    rooms.as_array()?.iter().find(|room| room["room"] == "stage")?["users"].as_u64()?;
                (healthy == 3 && users == USERS && self.epoch(coordinator)? == epoch).then_some(())
            });
        }
        let clip = clip(Video::Vp8, 8);
        let media = ["--video", clip.video.to_str().unwrap()];
        let mut newcomer = self.site.publish("stage-2", "dave", "new", &media);
        newcomer.next_within("a new publisher", RIGHT_WITHIN, |event| {
            event["event"] == "state" && event["machine"] == "publisher" && event["state"] == 2
        });
        let new = until("the new stream in its room", RIGHT_WITHIN, || {
            epoch_of(&self.site.observe("streams", 0)?, "new")
        });
        assert!(new > epoch, "a claim went backwards: {new} after {epoch}");
    }

    /// Players saw nothing and others heard nothing, from the beginning to now.
    #[track_caller]
    fn nobody_noticed(&mut self) -> Result<(), Disturbed> {
        self.media_flows();
        for client in [&mut self.player, &mut self.onlooker] {
            let gaps = client.events("gap");
            let longest = gaps.iter().filter_map(|gap| gap["gap_ms"].as_f64()).fold(0.0, f64::max);
            let visible = || format!("media stopped for {longest} ms; {}", client.story());
            self.watch.expect(longest <= VISIBLE_GAP_MS, visible)?;
            let used = client.events("attempt").into_iter().filter(|attempt| attempt["outcome"] == "used");
            let used = used.count();
            self.watch.expect(used == 1, || format!("a player moved: {}", client.story()))?;
            let left =
                client.events("state").into_iter().filter(|e| e["machine"] == "player" && e["code"] != 0);
            let left = left.count();
            self.watch.expect(left == 0, || format!("a player was interrupted: {}", client.story()))?;
        }
        let heard = self.onlooker.events("update");
        assert_eq!(heard.len(), self.quiet, "others heard of it: {}", self.onlooker.story());
        let picture = self.browser.ask(&json!({ "do": "measured", "session": CHROMIUM_PLAYS, "frames": 30 }));
        let stopped = picture["video_gap_ms"].as_f64().expect("a gap in milliseconds");
        self.watch.expect(stopped <= VISIBLE_GAP_MS, || {
            let page = self.browser.ask(&json!({ "do": "state" }));
            format!("Chromium's picture stood still: {picture}; {page}")
        })?;
        let left = self
            .publisher
            .events("state")
            .into_iter()
            .filter(|e| e["machine"] == "publisher" && e["code"] != 0);
        let left = left.count();
        self.watch.expect(left == 0, || format!("the publisher was interrupted: {}", self.publisher.story()))
    }
}

#[test]
fn etcds_leader_is_killed_its_history_is_compacted_and_its_content_is_deleted() {
    // ROOM-4, ROOM-5, PUB-9, PUB-11, GO-1
    undisturbed(|| {
        let mut scene = Scene::new();
        let epoch = scene.epoch(0).expect("the stream is in the room");
        let leader = scene.site.etcd.leader();
        scene.site.etcd.kill_member(leader);
        scene.site.etcd.leader();
        scene.state_is_right(epoch);
        scene.nobody_noticed()?;

        scene.site.etcd.start_member(leader);
        scene.site.etcd.compact();
        scene.state_is_right(epoch);
        scene.nobody_noticed()?;

        scene.site.etcd.empty();
        until("the store's content", RIGHT_WITHIN, || (scene.site.etcd.keys() > 5).then_some(()));
        scene.state_is_right(epoch);
        scene.nobody_noticed()
    });
}

#[test]
fn etcds_leader_stands_still_for_twelve_seconds() {
    // ROOM-4, ROOM-5, GO-1
    undisturbed(|| {
        let mut scene = Scene::new();
        let epoch = scene.epoch(0).expect("the stream is in the room");
        let leader = scene.site.etcd.leader();
        scene.site.etcd.freeze_member(leader);
        thread::sleep(Duration::from_secs(12));
        scene.site.etcd.thaw_member(leader);
        scene.state_is_right(epoch);
        scene.nobody_noticed()
    });
}

#[test]
fn all_of_etcd_is_gone_for_half_a_minute() {
    // ROOM-3, ROOM-4, ROOM-5, GO-1
    undisturbed(|| {
        let mut scene = Scene::new();
        let epoch = scene.epoch(0).expect("the stream is in the room");
        for member in 0..3 {
            scene.site.etcd.kill_member(member);
        }
        thread::sleep(Duration::from_secs(30));
        scene.media_flows();
        for member in 0..3 {
            scene.site.etcd.start_member(member);
        }
        scene.site.etcd.leader();
        scene.state_is_right(epoch);
        scene.nobody_noticed()?;
        let mut late = scene.site.play("stage", "eve", "show", &[]);
        late.next_within("a new player", SOON, |event| event["machine"] == "player" && event["state"] == 2);
        Ok(())
    });
}
