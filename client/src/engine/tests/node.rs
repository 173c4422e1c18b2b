//! Nodes in memory: WHIP, WHEP and events over HTTP, real ICE, DTLS and SRTP, and one bus of packets between them.
//!
//! Each node has a runtime of its own, so that its death is sudden: sockets close, nothing says goodbye.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{
        Path, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::StatusCode,
    response::IntoResponse,
    routing::{any, delete, post},
};
use bytes::Bytes;
use prost::Message as _;
use tokio::{net::UdpSocket, runtime::Runtime, sync::broadcast};
use waystation_proto::v1::{
    self, ClientEvent, EventWelcome, NodeEvent, SessionPhase, SessionState, client_event, node_event,
};

use crate::{
    media::{Codec, Kind, RtpPacket, VideoCodec, starts_keyframe},
    peer::{Connection, Direction, Output, PublishedTrack},
};

/// As the SDK asks for.
const BEAT: Duration = Duration::from_millis(50);

/// What nodes tell one another.
#[derive(Clone, Debug)]
enum OnBus {
    /// A packet of the stream.
    Media(RtpPacket),
    /// A player came.
    KeyframeWanted,
}

/// The nodes' common bus.
#[derive(Clone, Debug)]
pub struct Bus(broadcast::Sender<OnBus>);

impl Bus {
    pub fn new() -> Self {
        Self(broadcast::channel(4096).0)
    }
}

#[derive(Clone)]
struct NodeState {
    bus: Bus,
    node: v1::NodeRef,
    sessions: Arc<AtomicU64>,
    silent: Arc<AtomicBool>,
}

/// A node; dropping it kills it.
pub struct Node {
    runtime: Option<Runtime>,
    silent: Arc<AtomicBool>,
    pub listed: v1::Node,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Node {
    pub fn start(id: &str, bus: &Bus) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let node = v1::NodeRef { id: id.to_owned(), incarnation: 1 };
        let silent: Arc<AtomicBool> = Arc::default();
        let state = NodeState {
            bus: bus.clone(),
            node: node.clone(),
            sessions: Arc::default(),
            silent: silent.clone(),
        };
        runtime.spawn(async move {
            let router = Router::new()
                .route("/whip/{room}/{stream}", post(publish))
                .route("/whep/{room}/{stream}", post(play))
                .route("/session/{id}", delete(async || StatusCode::OK))
                .route("/events", any(events))
                .with_state(state);
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
        });
        let listed = v1::Node {
            r#ref: Some(node),
            http_url: format!("http://{addr}"),
            link_url: format!("http://{addr}"),
            media_addr: addr.to_string(),
            health: v1::NodeHealth::Healthy.into(),
            ..v1::Node::default()
        };
        Self { runtime: Some(runtime), silent, listed }
    }

    pub fn id(&self) -> &str {
        &self.listed.r#ref.as_ref().unwrap().id
    }

    /// Its sessions and event connections stay open and say nothing any more.
    pub fn fall_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }
}

async fn publish(
    State(state): State<NodeState>,
    Path(_): Path<(String, String)>,
    offer: String,
) -> impl IntoResponse {
    open(state, offer, Direction::Play { audio: true, video: vec![VideoCodec::Vp8] }).await
}

async fn play(
    State(state): State<NodeState>,
    Path(_): Path<(String, String)>,
    offer: String,
) -> impl IntoResponse {
    let codecs = [Codec::Opus, Codec::Video(VideoCodec::Vp8)];
    let track = |codec| PublishedTrack { codec, ssrc: rand::random(), rtx_ssrc: rand::random() };
    open(state, offer, Direction::Publish(codecs.map(track).into())).await
}

async fn open(state: NodeState, offer: String, direction: Direction) -> impl IntoResponse {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let local = socket.local_addr().unwrap();
    let (connection, answer) = Connection::answer(&direction, &offer, local, Instant::now());
    tokio::spawn(session(connection, direction, socket, state.clone()));
    let id = state.sessions.fetch_add(1, Ordering::Relaxed);
    (StatusCode::CREATED, [("location", format!("/session/{id}"))], answer)
}

/// How far a session's video has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Video {
    /// ICE and DTLS are not up.
    NotYet,
    /// A player gets none before a keyframe.
    FromKeyframe,
    /// It passes.
    Flowing,
}

async fn session(mut connection: Connection, direction: Direction, socket: UdpSocket, state: NodeState) {
    let NodeState { bus, silent, node, .. } = state;
    let mut video = Video::NotYet;
    let mut from_bus = bus.0.subscribe();
    let mut beat = tokio::time::interval(BEAT);
    let mut buffer = [0; 2048];
    loop {
        unless(&silent).await;
        while let Some(output) = connection.poll_output() {
            match output {
                Output::Transmit { to, datagram } => drop(socket.send_to(&datagram, to).await),
                Output::Media(packet) => drop(bus.0.send(OnBus::Media(packet))),
                Output::Up => {
                    video = Video::FromKeyframe;
                    drop(bus.0.send(OnBus::KeyframeWanted));
                }
                Output::Down => return,
                Output::Heard(_) | Output::KeyframeWanted | Output::Nacked(_) => {}
            }
        }
        let due = connection.poll_timeout().unwrap_or_else(|| Instant::now() + BEAT);
        tokio::select! {
            Ok((bytes, from)) = socket.recv_from(&mut buffer) => {
                connection.handle_datagram(from, buffer[..bytes].into(), Instant::now());
            }
            Ok(on_bus) = from_bus.recv() => relay(&mut connection, &direction, &mut video, &node, on_bus),
            _ = beat.tick() => {
                connection.beat(Instant::now());
                // The publisher's session may have come up after the player's.
                if video == Video::FromKeyframe && matches!(direction, Direction::Publish(_)) {
                    drop(bus.0.send(OnBus::KeyframeWanted));
                }
            }
            () = tokio::time::sleep_until(due.into()) => connection.handle_timeout(Instant::now()),
        }
    }
}

async fn unless(silent: &AtomicBool) {
    if silent.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

/// Players get what publishers send; publishers hear that players came.
fn relay(
    connection: &mut Connection,
    direction: &Direction,
    video: &mut Video,
    node: &v1::NodeRef,
    on_bus: OnBus,
) {
    match (direction, on_bus) {
        (Direction::Publish(tracks), OnBus::Media(packet)) => {
            let Some(track) = tracks.iter().find(|track| track.codec == packet.codec) else { return };
            if track.codec.kind() == Kind::Video {
                match video {
                    Video::FromKeyframe if starts_keyframe(packet.codec, &packet.payload) => {
                        *video = Video::Flowing;
                    }
                    Video::NotYet | Video::FromKeyframe => return,
                    Video::Flowing => {}
                }
            }
            let payload = signed(&packet.payload, &node.id);
            connection.send(RtpPacket { ssrc: track.ssrc, payload, ..packet }, Instant::now());
        }
        (Direction::Play { .. }, OnBus::KeyframeWanted) => connection.request_keyframe(Instant::now()),
        (Direction::Publish(_), OnBus::KeyframeWanted) | (Direction::Play { .. }, OnBus::Media(_)) => {}
    }
}

/// The last byte says who passed it on.
fn signed(payload: &[u8], node: &str) -> Bytes {
    let (_, rest) = payload.split_last().expect("media is not empty");
    [rest, &node.as_bytes()[..1]].concat().into()
}

async fn events(State(state): State<NodeState>, upgrade: WebSocketUpgrade) -> impl IntoResponse {
    upgrade.on_upgrade(async move |socket| serve_events(socket, state).await)
}

async fn serve_events(mut socket: WebSocket, state: NodeState) {
    let message = |event| Message::Binary(NodeEvent { event: Some(event) }.encode_to_vec().into());
    let welcome = node_event::Event::Welcome(EventWelcome { node: Some(state.node) });
    let _ = socket.send(message(welcome)).await;
    while let Some(Ok(asked)) = socket.recv().await {
        unless(&state.silent).await;
        let Message::Binary(bytes) = asked else { continue };
        let answer = match ClientEvent::decode(bytes).unwrap().event {
            Some(client_event::Event::Watch(watch)) => node_event::Event::State(SessionState {
                session: watch.session,
                phase: SessionPhase::Connecting.into(),
                claim: None,
            }),
            Some(client_event::Event::Ping(ping)) => node_event::Event::Pong(v1::EventPong { id: ping.id }),
            Some(client_event::Event::Activate(activate)) => node_event::Event::State(SessionState {
                session: activate.session,
                phase: SessionPhase::Flowing.into(),
                claim: activate.claim,
            }),
            None => continue,
        };
        let _ = socket.send(message(answer)).await;
    }
}
