//! Nodes that carry media, and die or fall silent.
//!
//! The machine may stand still at any time: then sessions may have moved before a node dies, and media stops for a while at
//! one node. So the tests follow where the sessions are, and look at the one gap that leads away from the nodes that died.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, timeout},
};
use waystation_proto::{NodeRef, StreamKey};

use super::{
    coordinator::Coordinator,
    node::{Bus, Node},
    scenes::{Scene, play_out},
    stopwatch::Stopwatch,
};
use crate::{
    AudioTrack, Engine, EngineConfig, Event, Events, GapEvent, Kind, Outcome, PlayConfig, Player,
    PlayerState, PublishConfig, Publisher, PublisherState, ReceivedSample, RoomLogin, Sample, VideoCodec,
    VideoTrack,
};

const PATIENCE: Duration = Duration::from_secs(20);
const FRAME: Duration = Duration::from_millis(20);

/// Silence of a node that beats, before it may be left (GO-2).
const SILENCE: Duration = Duration::from_millis(300);

/// A gap as long as this is no failover any more.
const LONGEST_GAP: Duration = Duration::from_secs(3);

fn key() -> StreamKey {
    StreamKey { room: "room".parse().unwrap(), stream: "s".parse().unwrap() }
}

async fn engine(coordinator: &Coordinator) -> (Engine, Told) {
    let (engine, events) = Engine::start(EngineConfig::new(vec![coordinator.url()])).unwrap();
    let login = RoomLogin { room: key().room, token: "good".into(), notify_users: false };
    engine.login_room(login).await.unwrap();
    (engine, Told { events, at: None, gaps: Vec::new(), left: 0 })
}

/// A camera: a frame and a sound every 20 ms, a keyframe whenever one is wanted.
fn camera(publisher: Publisher) -> JoinHandle<()> {
    tokio::spawn(async move {
        let started = Instant::now();
        let mut tick = tokio::time::interval(FRAME);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut keyframe = true;
        loop {
            tokio::select! {
                () = publisher.keyframe_wanted() => keyframe = true,
                _ = tick.tick() => {
                    let timestamp = started.elapsed();
                    let picture: Bytes = [&[u8::from(!std::mem::take(&mut keyframe))][..], &[7; 3_000]].concat().into();
                    let sound = Bytes::from_static(&[0xf8; 60]);
                    publisher.write_sample(Kind::Video, Sample { data: picture, timestamp }).unwrap();
                    publisher.write_sample(Kind::Audio, Sample { data: sound, timestamp }).unwrap();
                }
            }
        }
    })
}

/// Names of nodes.
type Names = BTreeSet<String>;

/// What an engine tells of its one stream.
struct Told {
    events: Events,
    /// The node where it works now.
    at: Option<String>,
    gaps: Vec<GapEvent>,
    /// How many attempts and sessions came to nothing.
    left: usize,
}

impl Told {
    fn take(&mut self, event: Event) {
        let name = |node: Option<NodeRef>| node.map(|node| node.id.to_string());
        match event {
            Event::Publisher(update) => {
                self.at = name(update.node).filter(|_| update.state == PublisherState::Publishing);
            }
            Event::Player(update) => {
                self.at = name(update.node).filter(|_| update.state == PlayerState::Playing);
            }
            Event::Gap(gap) => self.gaps.push(gap),
            Event::Attempt(attempt) => self.left += usize::from(attempt.outcome != Outcome::Used),
            Event::Room(_) | Event::Users(_) | Event::Streams(_) | Event::TokenExpiring { .. } => {}
        }
    }

    /// Takes one after the other until it is found.
    async fn until<T>(&mut self, found: impl Fn(&Self) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = found(self) {
                    return found;
                }
                let event = self.events.recv().await.expect("the engine is open");
                self.take(event);
            }
        };
        timeout(PATIENCE, search).await.expect("told in time")
    }

    /// The node where it works, once that is none of these.
    async fn works_beside(&mut self, dead: &Names) -> String {
        self.until(|told| told.at.clone().filter(|at| !dead.contains(at))).await
    }

    /// Takes what was told so far. Returns the node where it works.
    async fn works_now(&mut self) -> String {
        while let Some(Some(event)) = self.events.recv().now_or_never() {
            self.take(event);
        }
        self.works_beside(&Names::new()).await
    }

    /// Takes what was told until the engine was closed.
    async fn hear_out(&mut self) {
        while let Some(event) = self.events.recv().await {
            self.take(event);
        }
    }
}

/// Whether it is the gap between nodes that died and one that lives.
fn leads_away(gap: &GapEvent, dead: &Names) -> bool {
    let was_dead = |node: &Option<NodeRef>| dead.contains(node.as_ref().expect("it is known").id.as_str());
    was_dead(&gap.before) && !was_dead(&gap.after)
}

/// The next picture.
async fn picture(player: &mut Player) -> ReceivedSample {
    let search = async {
        loop {
            let sample = player.recv_sample().await.expect("not ended");
            if sample.kind() == Kind::Video {
                return sample;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("a picture in time")
}

/// The node that passed it on, by its last byte.
fn passed_on_by(picture: &ReceivedSample) -> String {
    char::from(*picture.data.last().expect("a picture")).to_string()
}

/// A publisher and a player, and three nodes that may carry them.
struct Cast {
    clock: Stopwatch,
    nodes: Vec<Node>,
    engines: [Engine; 2],
    camera: JoinHandle<()>,
    player: Player,
    of_publisher: Told,
    of_player: Told,
}

impl Cast {
    /// Publishes and plays: a first picture is there.
    async fn start() -> Self {
        let clock = Stopwatch::start();
        let bus = Bus::new();
        let nodes: Vec<Node> = ["a", "b", "c"].map(|id| Node::start(id, &bus)).into();
        let coordinator = Coordinator::start(nodes.iter().map(|node| node.listed.clone()).collect()).await;
        let (publishing, mut of_publisher) = engine(&coordinator).await;
        let (playing, of_player) = engine(&coordinator).await;
        let tracks =
            PublishConfig { audio: Some(AudioTrack), video: Some(VideoTrack { codec: VideoCodec::Vp8 }) };
        let camera = camera(publishing.start_publishing(key(), tracks).await.unwrap());
        of_publisher.works_beside(&Names::new()).await;
        let mut player = playing.start_playing(key(), PlayConfig::default()).await.unwrap();
        let first = picture(&mut player).await;
        assert!(first.keyframe);
        assert_eq!(first.data.len(), 3_001);
        let engines = [publishing, playing];
        Self { clock, nodes, engines, camera, player, of_publisher, of_player }
    }

    /// The nodes where both work now: one, unless an attempt came to nothing.
    async fn in_use(&mut self) -> Names {
        let (publishes, plays) = (self.of_publisher.works_now().await, self.of_player.works_now().await);
        assert!(publishes == plays || !self.is_undisturbed(), "the list is the same for both");
        [publishes, plays].into()
    }

    /// Whether no attempt came to nothing, no session was left and media never stopped.
    fn is_undisturbed(&self) -> bool {
        self.of_publisher.left + self.of_player.left == 0 && self.of_player.gaps.is_empty()
    }

    /// Both have moved away from these nodes. Returns the gap between, or `None` if the machine stood too long.
    async fn moved(&mut self, dead: &Names) -> Option<GapEvent> {
        self.of_publisher.works_beside(dead).await;
        let played = self.of_player.works_beside(dead).await;
        // A packet may be on its way to the app before its gap is told.
        let away = |told: &Told| told.gaps.iter().find(|gap| leads_away(gap, dead)).cloned();
        let gap = self.of_player.until(away).await;
        assert_eq!(gap.after.as_ref().unwrap().id.as_str(), played);
        if gap.lasted >= LONGEST_GAP && !self.clock.stops().is_empty() {
            return None;
        }
        assert!(gap.lasted < LONGEST_GAP, "{:?}", gap.lasted);
        Some(gap)
    }

    /// Ends everything. Returns all gaps that were told.
    async fn end(mut self) -> Vec<GapEvent> {
        self.player.stop().await;
        self.camera.abort();
        for engine in self.engines {
            engine.close().await;
        }
        self.of_player.hear_out().await;
        self.of_player.gaps
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_the_death_of_the_publishers_and_of_the_players_node() {
    // PUB-1, PUB-6, PLAY-1, GO-2
    play_out(async || {
        let mut cast = Cast::start().await;
        let dead = cast.in_use().await;
        cast.nodes.retain(|node| !dead.contains(node.id()));
        let moved = cast.moved(&dead).await;
        let after = loop {
            // What was under way when the node died may come first.
            let sample = picture(&mut cast.player).await;
            if !dead.contains(&passed_on_by(&sample)) {
                break sample;
            }
        };
        assert!(after.lost_before && after.keyframe, "after a gap decoding can start");
        let stats = cast.player.stats();
        assert!(stats.packets > 3, "{stats:?}");
        let last = |told: &Told| told.gaps.iter().rfind(|gap| Some(gap.lasted) == stats.last_gap).cloned();
        cast.of_player.until(last).await;
        let gaps = cast.end().await;
        assert_eq!(gaps.iter().filter(|gap| leads_away(gap, &dead)).count(), 1, "{gaps:?}");
        if moved.is_some() { Scene::Proven } else { Scene::Spoilt }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_falls_silent_is_left_for_another() {
    // GO-2
    play_out(async || {
        let mut cast = Cast::start().await;
        // A hedge that was made before, or is under way now, would not be one against this silence.
        for _ in 0..10 {
            picture(&mut cast.player).await;
        }
        let silent = cast.in_use().await;
        let undisturbed = cast.is_undisturbed();
        cast.nodes.iter().filter(|node| silent.contains(node.id())).for_each(Node::fall_silent);
        let moved = cast.moved(&silent).await;
        cast.end().await;
        match moved {
            Some(gap) if undisturbed => {
                assert!(gap.lasted > SILENCE, "{:?}", gap.lasted);
                Scene::Proven
            }
            Some(_) | None => Scene::Spoilt,
        }
    })
    .await;
}
