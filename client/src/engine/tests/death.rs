//! Nodes that carry media, and die or fall silent.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::{task::JoinHandle, time::timeout};
use waystation_proto::StreamKey;

use super::{
    coordinator::Coordinator,
    node::{Bus, Node},
};
use crate::{
    AudioTrack, Engine, EngineConfig, Event, Events, GapEvent, Kind, PlayConfig, Player, PlayerState,
    PublishConfig, Publisher, PublisherState, ReceivedSample, RoomLogin, Sample, VideoCodec, VideoTrack,
};

const PATIENCE: Duration = Duration::from_secs(20);
const FRAME: Duration = Duration::from_millis(20);

fn key() -> StreamKey {
    StreamKey { room: "room".parse().unwrap(), stream: "s".parse().unwrap() }
}

async fn engine(coordinator: &Coordinator) -> (Engine, Events) {
    let (engine, events) = Engine::start(EngineConfig::new(vec![coordinator.url()])).unwrap();
    let login = RoomLogin { room: key().room, token: "good".into(), notify_users: false };
    engine.login_room(login).await.unwrap();
    (engine, events)
}

/// A camera: a frame and a sound every 20 ms, a keyframe whenever one is wanted.
fn camera(publisher: Publisher) -> JoinHandle<()> {
    tokio::spawn(async move {
        let started = Instant::now();
        let mut tick = tokio::time::interval(FRAME);
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

async fn publishing(engine: &Engine, events: &mut Events) -> (JoinHandle<()>, String) {
    let video = Some(VideoTrack { codec: VideoCodec::Vp8 });
    let publisher =
        engine.start_publishing(key(), PublishConfig { audio: Some(AudioTrack), video }).await.unwrap();
    let camera = camera(publisher);
    (camera, published_at(events).await)
}

/// The node that has the publisher's session, when it has one.
async fn published_at(events: &mut Events) -> String {
    loop {
        if let Event::Publisher(update) = next(events).await
            && update.state == PublisherState::Publishing
        {
            return update.node.unwrap().id.to_string();
        }
    }
}

/// The node that a player plays from when it plays, and the gaps on the way there.
async fn played_at(events: &mut Events) -> (String, Vec<GapEvent>) {
    let mut gaps = Vec::new();
    loop {
        match next(events).await {
            Event::Player(update) if update.state == PlayerState::Playing => {
                return (update.node.unwrap().id.to_string(), gaps);
            }
            Event::Gap(gap) => gaps.push(gap),
            Event::Room(_)
            | Event::Publisher(_)
            | Event::Player(_)
            | Event::Attempt(_)
            | Event::Users(_)
            | Event::Streams(_)
            | Event::TokenExpiring { .. } => {}
        }
    }
}

async fn next(events: &mut Events) -> Event {
    timeout(PATIENCE, events.recv()).await.expect("an event in time").expect("the engine is open")
}

/// The next picture.
async fn picture(player: &mut Player) -> ReceivedSample {
    loop {
        let sample =
            timeout(PATIENCE, player.recv_sample()).await.expect("media in time").expect("not ended");
        if sample.kind() == Kind::Video {
            return sample;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_the_death_of_the_publishers_and_of_the_players_node() {
    // PUB-1, PUB-6, PLAY-1, GO-2
    let bus = Bus::new();
    let mut nodes: Vec<Node> = ["a", "b", "c"].map(|id| Node::start(id, &bus)).into();
    let coordinator = Coordinator::start(nodes.iter().map(|node| node.listed.clone()).collect()).await;
    let (publishing_engine, mut publisher_events) = engine(&coordinator).await;
    let (playing_engine, mut player_events) = engine(&coordinator).await;
    let (camera, first) = publishing(&publishing_engine, &mut publisher_events).await;
    let mut player = playing_engine.start_playing(key(), PlayConfig::default()).await.unwrap();
    let sample = picture(&mut player).await;
    assert!(sample.keyframe);
    assert_eq!(sample.data.len(), 3_001);
    assert_eq!(played_at(&mut player_events).await.0, first, "the list is the same for both");

    // Both sessions are on the node that dies.
    nodes.retain(|node| node.id() != first);
    let second = published_at(&mut publisher_events).await;
    let (played, gaps) = played_at(&mut player_events).await;
    assert_ne!(second, first);
    assert_ne!(played, first);
    let [gap] = &gaps[..] else { panic!("one gap: {gaps:?}") };
    assert!(gap.lasted < Duration::from_secs(3), "{:?}", gap.lasted);
    assert_eq!(gap.before.as_ref().unwrap().id.to_string(), first);
    assert_eq!(gap.after.as_ref().unwrap().id.to_string(), played);
    loop {
        // What was under way when the node died may come first.
        let sample = picture(&mut player).await;
        if sample.lost_before {
            assert!(sample.keyframe, "after a gap decoding can start");
            break;
        }
    }
    let stats = player.stats();
    assert!(stats.packets > 3 && stats.last_gap == Some(gap.lasted), "{stats:?}");
    player.stop().await;
    camera.abort();
    publishing_engine.close().await;
    playing_engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_falls_silent_is_left_for_another() {
    // GO-2
    let bus = Bus::new();
    let nodes = ["a", "b"].map(|id| Node::start(id, &bus));
    let coordinator = Coordinator::start(nodes.iter().map(|node| node.listed.clone()).collect()).await;
    let (publishing_engine, mut publisher_events) = engine(&coordinator).await;
    let (playing_engine, mut player_events) = engine(&coordinator).await;
    let (camera, first) = publishing(&publishing_engine, &mut publisher_events).await;
    let mut player = playing_engine.start_playing(key(), PlayConfig::default()).await.unwrap();
    picture(&mut player).await;
    assert_eq!(played_at(&mut player_events).await.0, first);
    let silent = nodes.iter().find(|node| node.id() == first).unwrap();
    silent.fall_silent();
    let second = published_at(&mut publisher_events).await;
    let (played, gaps) = played_at(&mut player_events).await;
    assert_ne!(second, first);
    assert_ne!(played, first);
    assert!(gaps.iter().any(|gap| gap.lasted > Duration::from_millis(300)), "{gaps:?}");
    assert!(gaps.iter().all(|gap| gap.lasted < Duration::from_secs(3)), "{gaps:?}");
    camera.abort();
    publishing_engine.close().await;
    playing_engine.close().await;
}
