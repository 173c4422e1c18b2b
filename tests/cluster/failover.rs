//! Nodes and coordinators die while media flows.

use serde_json::Value;

use crate::support::{
    SOON,
    client::Client,
    clips::{Video, clip},
    cluster::Cluster,
    ready::{healthy_lives, is_in_its_room},
    standstill::{Disturbed, Stopwatch, undisturbed},
    until,
};

/// Longest stop of media that a player may see when a node dies, on one machine.
const LONGEST_GAP_MS: f64 = 1_000.0;

/// A cluster with a publisher, a player on another node, and somebody who only watches the room.
struct Scene {
    cluster: Cluster,
    publisher: Client,
    player: Client,
    onlooker: Client,
    watch: Stopwatch,
}

impl Scene {
    fn new(relays: usize) -> Self {
        let (watch, cluster) = (Stopwatch::start(), Cluster::start(relays));
        let clip = clip(Video::Vp8, 8);
        let media =
            ["--video", clip.video.to_str().unwrap(), "--audio", clip.audio.to_str().unwrap(), "--loop"];
        let publisher = cluster.published("stage", "alice", "show", &media);
        let mut player = cluster.play("stage", "bob", "show", &[]);
        player.state("player", 2, 0);
        let mut onlooker = cluster.play("stage", "carol", "show", &["--notify-users"]);
        onlooker.state("player", 2, 0);
        let mut scene = Self { cluster, publisher, player, onlooker, watch };
        scene.media_flows();
        scene
    }

    /// Waits until the player's count of frames has grown from now on.
    #[track_caller]
    fn media_flows(&mut self) {
        let frames = |event: &Value| event["frames"].as_u64().unwrap_or(0);
        self.player.pass_over();
        let first = frames(&self.player.next("statistics", is_stats));
        self.player.next("more frames", |event| is_stats(event) && frames(event) > first + 10);
    }

    /// The node that a machine used last.
    #[track_caller]
    fn node(client: &mut Client) -> String {
        let states = client.events("state");
        let last = states.iter().rev().find(|event| event["state"] == 2 && event["node"].is_string());
        last.unwrap_or_else(|| panic!("no node; {}", client.story()))["node"].as_str().unwrap().to_owned()
    }

    /// Kills these nodes at once, then waits until media flows from living ones again.
    #[track_caller]
    fn survive(&mut self, nodes: &[&str]) -> Result<(), Disturbed> {
        let quiet = self.onlooker.events("update").len();
        let gaps_before = self.player.events("gap").len();
        for node in nodes {
            self.cluster.kill_relay(self.cluster.relay(node));
        }
        for client in [&mut self.publisher, &mut self.player] {
            while nodes.contains(&Self::node(client).as_str()) {
                client.next("a living node", |event| event["event"] == "state" && event["state"] == 2);
            }
        }
        // A gap is told when it is over, and counted frames come after it.
        self.media_flows();
        let gaps = self.player.events("gap").split_off(gaps_before);
        assert!(!gaps.is_empty(), "the gap that the death made is not told; {}", self.player.story());
        let longest = gaps.iter().filter_map(|gap| gap["gap_ms"].as_f64()).fold(0.0, f64::max);
        self.watch.expect(longest <= LONGEST_GAP_MS, || {
            format!("media stopped for {longest} ms; {}", self.player.story())
        })?;
        for client in [&mut self.publisher, &mut self.player] {
            let node = Self::node(client);
            assert!(!nodes.contains(&node.as_str()), "{node} is dead; {}", client.story());
        }
        assert_eq!(
            self.onlooker.events("update").len(),
            quiet,
            "others heard of it: {}",
            self.onlooker.story()
        );
        Ok(())
    }
}

/// How many sessions came to be used. (A hedge that was not needed is an attempt, too.)
fn used(client: &mut Client) -> usize {
    client.events("attempt").into_iter().filter(|attempt| attempt["outcome"] == "used").count()
}

fn is_stats(event: &Value) -> bool {
    event["event"] == "stats"
}

#[test]
fn the_publishers_node_dies_and_players_keep_their_sessions() {
    // PUB-2, PUB-6, PUB-9, GO-2
    undisturbed(|| {
        let mut scene = Scene::new(3);
        let node = Scene::node(&mut scene.publisher);
        let before = Scene::node(&mut scene.player);
        scene.watch.expect(node != before, || "publisher and player are on the same node".into())?;
        scene.survive(&[&node])?;
        let after = Scene::node(&mut scene.player);
        scene
            .watch
            .expect(after == before, || format!("the player left its session: {}", scene.player.story()))
    });
}

#[test]
fn the_players_node_dies_and_it_plays_on_from_another() {
    // PLAY-2, GO-2
    undisturbed(|| {
        let mut scene = Scene::new(3);
        let node = Scene::node(&mut scene.player);
        scene.survive(&[&node])
    });
}

#[test]
fn both_nodes_die_at_once_and_both_walk_on() {
    // PUB-2, PLAY-2, PUB-7
    undisturbed(|| {
        let mut scene = Scene::new(4);
        let nodes = [Scene::node(&mut scene.publisher), Scene::node(&mut scene.player)];
        scene.survive(&[&nodes[0], &nodes[1]])
    });
}

#[test]
fn when_every_node_is_dead_each_was_tried_and_there_is_one_final_failure() {
    // PUB-3, PLAY-3, GO-5
    let mut scene = Scene::new(3);
    for index in 0..3 {
        scene.cluster.kill_relay(index);
    }
    let ids: Vec<String> = scene.cluster.relays.iter().map(|relay| relay.id.clone()).collect();
    for (client, machine, code) in
        [(&mut scene.publisher, "publisher", 1_003_001), (&mut scene.player, "player", 1_004_001)]
    {
        let last = client.state(machine, 0, code);
        let trace = last["extended"]["trace"].to_string();
        for id in &ids {
            assert!(trace.contains(id.as_str()), "{id} is not in the trace: {last}");
        }
        assert_eq!(client.end(SOON).code(), Some(3), "{}", client.story());
        let finals =
            client.events("state").into_iter().filter(|event| event["state"] == 0 && event["code"] == code);
        assert_eq!(finals.count(), 1, "{}", client.story());
        let end = client.events("end").pop().unwrap_or_else(|| panic!("no end; {}", client.story()));
        assert_eq!(end["code"], code);
    }
}

#[test]
fn with_the_coordinator_dead_a_nodes_death_is_walked_around_and_its_return_is_not_noticed() {
    // GO-1, ROOM-3, ROOM-4
    undisturbed(|| {
        let mut scene = Scene::new(3);
        let quiet = scene.onlooker.events("update").len();
        scene.cluster.kill_coordinator();
        scene
            .publisher
            .next("the broken connection", |event| event["event"] == "state" && event["code"] == 1_002_051);
        let node = Scene::node(&mut scene.publisher);
        scene.survive(&[&node])?;
        let node = Scene::node(&mut scene.player);
        if node != Scene::node(&mut scene.publisher) {
            scene.survive(&[&node])?;
        }
        scene.cluster.start_coordinator();
        for client in [&mut scene.publisher, &mut scene.player, &mut scene.onlooker] {
            client.next("the room again", |event| {
                event["event"] == "state" && event["machine"] == "room" && event["state"] == 2
            });
        }
        scene.media_flows();
        // What the coordinator gathered has reached everybody once a new player finds the stream through it.
        is_in_its_room(&scene.cluster.coordinators[0], "stage", "show");
        let mut late = scene.cluster.play("stage", "dave", "show", &[]);
        late.state("player", 2, 0);
        let told: Vec<Value> = scene.onlooker.events("update").split_off(quiet);
        let of_dave = |update: &Value| update.to_string().contains("dave");
        assert!(told.iter().all(of_dave), "others heard of the coordinator's death: {told:?}");
        Ok(())
    });
}

#[test]
fn a_frozen_node_that_comes_back_sends_nothing_of_a_stream_that_moved_on() {
    // PUB-11
    undisturbed(|| {
        let mut scene = Scene::new(3);
        let node = Scene::node(&mut scene.publisher);
        let index = scene.cluster.relay(&node);
        scene.cluster.freeze_relay(index);
        scene.publisher.next("another node", |event| {
            event["event"] == "state"
                && event["state"] == 2
                && event["node"].is_string()
                && event["node"] != node.as_str()
        });
        scene.media_flows();
        let before = (Scene::node(&mut scene.player), used(&mut scene.player));
        assert_ne!(before.0, node, "{}", scene.player.story());
        scene.cluster.thaw_relay(index);
        until("the node's return", SOON, || {
            let lives = healthy_lives(&scene.cluster.coordinators[0], &node)?;
            (!lives.is_empty()).then_some(())
        });
        scene.media_flows();
        let after = (Scene::node(&mut scene.player), used(&mut scene.player));
        scene.watch.expect(after == before, || format!("the player moved: {}", scene.player.story()))
    });
}

#[test]
fn a_publisher_that_stops_leaves_the_room_at_once_and_its_players_end() {
    // PUB-10, PLAY-7, ROOM-10
    let mut scene = Scene::new(2);
    assert!(scene.publisher.stop().success(), "{}", scene.publisher.story());
    scene.onlooker.next("the stream's Delete", |event| {
        event["event"] == "update" && event["kind"] == "stream" && event["change"] == "delete"
    });
    scene.player.state("player", 0, 1_004_002);
}

#[test]
fn a_publisher_that_is_killed_and_starts_again_is_a_delete_then_an_add() {
    // PUB-8
    let mut scene = Scene::new(2);
    let clip = clip(Video::Vp8, 8);
    scene.publisher.kill();
    let media = ["--video", clip.video.to_str().unwrap(), "--loop"];
    let mut again = scene.cluster.publish("stage", "alice", "show", &media);
    again.state("publisher", 2, 0);
    let change = |wanted: &'static str| {
        move |event: &Value| {
            event["event"] == "update" && event["kind"] == "stream" && event["change"] == wanted
        }
    };
    scene.onlooker.next("the old stream's Delete", change("delete"));
    scene.onlooker.next("the new stream's Add", change("add"));
}

#[test]
fn a_node_started_again_is_used_again() {
    let cluster = Cluster::start(1);
    cluster.kill_relay(0);
    until("the dead process seen", SOON, || (cluster.info()["relays"][0]["state"] == "dead").then_some(()));
    cluster.start_relay(0);
    let clip = clip(Video::Vp8, 8);
    let mut publisher =
        cluster.publish("r", "alice", "s", &["--video", clip.video.to_str().unwrap(), "--loop"]);
    publisher.state("publisher", 2, 0);
}
