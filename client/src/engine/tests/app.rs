//! Logins, walks over nodes that all refuse, and how things end.

use std::time::Duration;

use tokio::time::timeout;
use waystation_proto::v1;

use super::{
    coordinator::Coordinator,
    refusing::{self, Manner},
    scenes::{Scene, play_out},
    stopwatch::Stopwatch,
};
use crate::{
    AudioTrack, Change, Engine, EngineConfig, ErrorCode, Event, Events, Kind, PlayConfig, PlayerState,
    PublishConfig, PublisherState, PublisherStateUpdate, RoomLogin, RoomState, RoomStateUpdate, Sample,
    StartPlayingError, StartPublishingError, StreamKey, WriteError, Written,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn login(token: &str) -> RoomLogin {
    RoomLogin { room: "room".parse().unwrap(), token: token.into(), notify_users: true }
}

fn key(stream: &str) -> StreamKey {
    StreamKey { room: "room".parse().unwrap(), stream: stream.parse().unwrap() }
}

fn audio() -> PublishConfig {
    PublishConfig { audio: Some(AudioTrack), video: None }
}

async fn next(events: &mut Events) -> Event {
    timeout(PATIENCE, events.recv()).await.expect("an event in time").expect("the engine is open")
}

async fn next_room(events: &mut Events) -> RoomStateUpdate {
    loop {
        if let Event::Room(update) = next(events).await {
            return update;
        }
    }
}

async fn next_publisher(events: &mut Events) -> PublisherStateUpdate {
    loop {
        if let Event::Publisher(update) = next(events).await {
            return update;
        }
    }
}

/// The code with which a publisher ends.
async fn no_publish(events: &mut Events) -> u32 {
    loop {
        let update = next_publisher(events).await;
        if update.state == PublisherState::NoPublish {
            return update.code;
        }
    }
}

/// An engine in the room.
async fn engine(coordinator: &Coordinator) -> (Engine, Events) {
    let (engine, mut events) = Engine::start(EngineConfig::new(vec![coordinator.url()])).unwrap();
    engine.login_room(login("good")).await.unwrap();
    for state in [RoomState::Connecting, RoomState::Connected] {
        let update = next_room(&mut events).await;
        assert_eq!((update.state, update.code), (state, 0));
    }
    (engine, events)
}

#[tokio::test]
async fn a_login_connects_hears_of_the_room_and_ends_with_a_logout() {
    // ROOM-1, ROOM-10
    let coordinator = Coordinator::start(Vec::new()).await;
    let (engine, mut events) = engine(&coordinator).await;
    let stream =
        v1::RoomStream { stream: "s".into(), user: "ann".into(), session_id: "hers".into(), epoch: 1 };
    coordinator.change(v1::room_delta::Delta::StreamAdded(stream));
    let Event::Streams(update) = next(&mut events).await else { panic!("a stream came") };
    assert_eq!((update.change, update.streams[0].user.as_str()), (Change::Add, "ann"));
    engine.logout_room(&"room".parse().unwrap()).await.unwrap();
    let update = next_room(&mut events).await;
    assert_eq!((update.state, update.code), (RoomState::Disconnected, 0));
    engine.close().await;
    assert_eq!(events.recv().await, None);
    assert_eq!(coordinator.logged_out(), 1);
}

#[tokio::test]
async fn a_refused_token_is_final_at_once() {
    // ROOM-2
    let coordinator = Coordinator::start(Vec::new()).await;
    let (engine, mut events) = Engine::start(EngineConfig::new(vec![coordinator.url()])).unwrap();
    engine.login_room(login("bad")).await.unwrap();
    assert_eq!(next_room(&mut events).await.state, RoomState::Connecting);
    let update = next_room(&mut events).await;
    assert_eq!((update.state, update.code), (RoomState::Disconnected, ErrorCode::TokenRefused.number()));
    assert!(update.is_final());
}

#[tokio::test]
async fn a_broken_connection_is_mended_by_itself() {
    // ROOM-3, ROOM-4
    let coordinator = Coordinator::start(Vec::new()).await;
    let (_engine, mut events) = engine(&coordinator).await;
    coordinator.break_connections();
    let update = next_room(&mut events).await;
    assert_eq!((update.state, update.code), (RoomState::Connecting, ErrorCode::RoomBroken.number()));
    let update = next_room(&mut events).await;
    assert_eq!((update.state, update.code), (RoomState::Connected, 0));
}

#[tokio::test]
async fn every_node_is_tried_before_a_failure_is_told_and_the_trace_says_what_each_answered() {
    // PUB-2, PUB-3
    play_out(async || {
        let clock = Stopwatch::start();
        let mut nodes = Vec::new();
        for (id, manner) in [
            ("gone", Manner::Gone),
            ("full", Manner::Full),
            ("doubts", Manner::RefusesToken),
            ("redirects", Manner::Redirects),
            ("babbles", Manner::Babbles),
        ] {
            nodes.push(refusing::start(id, manner).await);
        }
        let coordinator = Coordinator::start(nodes).await;
        let (engine, mut events) = engine(&coordinator).await;
        let publisher = engine.start_publishing(key("s"), audio()).await.unwrap();
        let (tried, update) = until_no_publish(&mut events).await;
        assert_eq!(update.code, ErrorCode::PublishFailed.number());
        let expected = [
            ("gone", "unreachable"),
            ("full", "refused"),
            ("doubts", "refused"),
            ("redirects", "refused"),
            ("babbles", "refused"),
        ];
        // An attempt that took too long may be void: its node is tried again.
        let took_too_long =
            tried.len() > expected.len() || tried.iter().any(|(_, word)| *word == "timed_out");
        if took_too_long && !clock.stops().is_empty() {
            engine.close().await;
            return Scene::Spoilt;
        }
        assert_eq!(tried, expected.map(|(node, word)| (node.to_owned(), word)));
        let trace = update.extended["trace"].as_array().unwrap();
        assert_eq!(trace.len(), 5, "{trace:?}");
        let sample = Sample { data: vec![0xf8].into(), timestamp: Duration::ZERO };
        assert_eq!(publisher.write_sample(Kind::Audio, sample), Err(WriteError::Ended));
        Scene::Proven
    })
    .await;
}

/// What was tried until a publisher ended, node by node.
async fn until_no_publish(events: &mut Events) -> (Vec<(String, &'static str)>, PublisherStateUpdate) {
    let mut tried = Vec::new();
    loop {
        match next(events).await {
            Event::Attempt(attempt) => tried.push((attempt.node.id.to_string(), attempt.outcome.word())),
            Event::Publisher(update) if update.state == PublisherState::NoPublish => return (tried, update),
            Event::Publisher(update) => assert_eq!(update.state, PublisherState::PublishRequesting),
            Event::Room(_)
            | Event::Player(_)
            | Event::Gap(_)
            | Event::Users(_)
            | Event::Streams(_)
            | Event::TokenExpiring { .. } => {}
        }
    }
}

#[tokio::test]
async fn a_coordinators_refusal_ends_a_publisher_without_a_walk() {
    // PUB-5
    let coordinator = Coordinator::start(vec![refusing::start("n", Manner::Full).await]).await;
    coordinator.refuse("taken", ErrorCode::StreamTaken);
    let (engine, mut events) = engine(&coordinator).await;
    let _publisher = engine.start_publishing(key("taken"), audio()).await.unwrap();
    let update = loop {
        match next_publisher(&mut events).await {
            update if update.state == PublisherState::NoPublish => break update,
            update => assert_eq!((update.state, update.code), (PublisherState::PublishRequesting, 0)),
        }
    };
    assert_eq!(update.code, ErrorCode::StreamTaken.number());
}

#[tokio::test]
async fn a_player_of_a_stream_that_the_room_lacks_ends_on_the_coordinators_word() {
    // PLAY-3
    let coordinator = Coordinator::start(vec![refusing::start("n", Manner::Full).await]).await;
    coordinator.refuse("nowhere", ErrorCode::NoSuchStream);
    let (engine, mut events) = engine(&coordinator).await;
    let mut player = engine.start_playing(key("nowhere"), PlayConfig::default()).await.unwrap();
    let code = loop {
        if let Event::Player(update) = next(&mut events).await
            && update.state == PlayerState::NoPlay
        {
            break update.code;
        }
    };
    assert_eq!(code, ErrorCode::NoSuchStream.number());
    assert_eq!(player.recv_sample().await, None);
}

#[tokio::test]
async fn a_publisher_stops_on_the_apps_word_and_by_being_dropped() {
    // PUB-10
    // A walk over these takes longer than anything here: nothing but the app's word ends a publisher.
    let mut nodes = Vec::new();
    for id in ["a", "b", "c", "d", "e"] {
        nodes.push(refusing::start(id, Manner::Silent).await);
    }
    let coordinator = Coordinator::start(nodes).await;
    let (engine, mut events) = engine(&coordinator).await;
    let publisher = engine.start_publishing(key("s"), audio()).await.unwrap();
    let sample = Sample { data: vec![0xf8].into(), timestamp: Duration::ZERO };
    let written = publisher.write_sample(Kind::Audio, sample);
    assert_eq!(written, Ok(Written::Dropped), "there is no session yet");
    let again = engine.start_publishing(key("s"), audio()).await;
    assert_eq!(again.err(), Some(StartPublishingError::Published(key("s"))));
    publisher.stop().await;
    assert_eq!(no_publish(&mut events).await, 0);
    // Also of a plan that was still under way: else the next publisher had the same claim.
    timeout(PATIENCE, coordinator.ended(1)).await.expect("its claim is given up");
    drop(engine.start_publishing(key("s"), audio()).await.unwrap());
    assert_eq!(no_publish(&mut events).await, 0);
    let ended = timeout(PATIENCE, coordinator.ended(2)).await.expect("its claim is given up, too");
    assert_eq!(ended, ["s", "s"]);
    engine.close().await;
}

#[tokio::test]
async fn what_cannot_start_says_so() {
    assert!(Engine::start(EngineConfig::new(Vec::new())).is_err());
    let (engine, mut events) = Engine::start(EngineConfig::new(vec!["http://127.0.0.1:1".into()])).unwrap();
    let nothing = engine.start_publishing(key("s"), PublishConfig::default()).await;
    assert_eq!(nothing.err(), Some(StartPublishingError::NoTrack));
    let config = PlayConfig { audio: false, video: Vec::new(), ..PlayConfig::default() };
    assert_eq!(engine.start_playing(key("s"), config).await.err(), Some(StartPlayingError::NoTrack));
    let other = engine.clone();
    engine.close().await;
    assert_eq!(events.recv().await, None);
    assert!(other.login_room(login("good")).await.is_err());
}
