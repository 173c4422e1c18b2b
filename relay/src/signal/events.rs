//! The event connection: binary WebSocket messages of `event.proto` (RFC 6455), one connection per client and node.
//!
//! Invariant: a client hears every event of its sessions in order, or its connection is closed. Nothing waits for it.

use std::{collections::BTreeSet, time::Duration};

use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use bytes::Bytes;
use prost::Message as _;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use waystation_proto::{
    NodeRef,
    v1::{ClientEvent, EventPong, EventWelcome, NodeEvent, client_event, node_event},
};

use super::{Door, SignalState, http::Problem, metrics};
use crate::control::Resource;

/// Largest message of a client.
const MAX_MESSAGE_BYTES: usize = 4096;
/// Events that wait for a client. When they are this many, it is too slow.
const QUEUE: usize = 256;
/// Most sessions that one connection watches.
const MAX_WATCHES: usize = 64;
/// Longest session name.
const MAX_NAME_BYTES: usize = 128;
/// How long one message may take to leave.
const SEND_TIME: Duration = Duration::from_secs(5);
/// How long a client may take to answer a close frame.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// How often a WebSocket ping asks whether the client is there.
const PING_EVERY: Duration = Duration::from_secs(15);
/// A connection from which nothing was heard for this long is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client left.
    Left,
    /// Not WebSocket, or a message larger than [`MAX_MESSAGE_BYTES`]; or the network broke.
    Unreadable,
    /// Not binary, or not a `ClientEvent`.
    Garbage,
    /// More sessions than [`MAX_WATCHES`].
    TooManyWatches,
    /// It does not read what it is sent.
    Slow,
    /// Nothing was heard for [`SILENCE`].
    Silent,
}

impl End {
    fn label(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Unreadable => "unreadable",
            Self::Garbage => "garbage",
            Self::TooManyWatches => "too_many_watches",
            Self::Slow => "slow",
            Self::Silent => "silent",
        }
    }

    /// Close code and reason, where saying it is of use.
    fn frame(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Left => None,
            Self::Unreadable => Some((close_code::PROTOCOL, "not WebSocket, or a message over 4096 bytes")),
            Self::Garbage => Some((close_code::INVALID, "messages must be binary waystation.v1.ClientEvent")),
            Self::TooManyWatches => Some((close_code::POLICY, "too many sessions watched on one connection")),
            Self::Slow => Some((close_code::POLICY, "events are not read fast enough")),
            Self::Silent => Some((close_code::POLICY, "nothing heard for 45 s")),
        }
    }
}

/// GET /events
pub async fn upgrade<D: Door>(
    State(state): State<SignalState<D>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade =
        upgrade.map_err(|error| Problem::bad_request(format!("not a WebSocket handshake: {error}")))?;
    let permit =
        state.event_connections.clone().try_acquire_owned().map_err(|_| {
            Problem::unavailable("this node takes no more event connections now; try another")
        })?;
    let upgrade = upgrade.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
    Ok(upgrade.on_upgrade(async move |mut socket| {
        let counted = metrics::EventConnection::opened();
        let end = serve(&mut socket, state).await;
        metrics::event_close(end.label());
        if let Some((code, reason)) = end.frame() {
            let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            // The client may be gone: then there is nobody to tell.
            let _ = timeout(SEND_TIME, socket.send(close)).await;
            // What it said meanwhile is read, up to its answer (RFC 6455 §7.1.1): if anything were left unread, the system
            // would reset the connection, and the reason might never arrive. Behind what is no WebSocket nothing can be read.
            let _ = timeout(CLOSE_TIME, async { while let Some(Ok(_)) = socket.recv().await {} }).await;
        }
        drop((counted, permit));
    }))
}

async fn serve<D: Door>(socket: &mut WebSocket, state: SignalState<D>) -> End {
    let SignalState { control, node, .. } = state;
    let (to, mut events) = mpsc::channel(QUEUE);
    let mut session = Connection { control, to, watched: BTreeSet::new() };
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let mut outcome = send(socket, welcome(&node)).await;
    while outcome.is_ok() {
        outcome = tokio::select! {
            received = socket.recv() => {
                heard = Instant::now();
                match session.take(received) {
                    Ok(Some(event)) => send(socket, encode(event)).await,
                    Ok(None) => Ok(()),
                    Err(end) => Err(end),
                }
            }
            // The sender is in `session`, so the channel is open; a full one has lost events.
            Some(event) = events.recv() => {
                if events.len() + 1 >= QUEUE {
                    Err(End::Slow)
                } else {
                    session.forward(&event);
                    send(socket, Message::Binary(Bytes::from(event.encode_to_vec()))).await
                }
            }
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE { Err(End::Silent) } else { send(socket, Message::Ping(Bytes::new())).await }
            }
        };
    }
    outcome.err().unwrap_or(End::Left)
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match timeout(SEND_TIME, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Left),
        Err(_) => Err(End::Slow),
    }
}

fn encode(event: node_event::Event) -> Message {
    Message::Binary(Bytes::from(NodeEvent { event: Some(event) }.encode_to_vec()))
}

fn welcome(node: &NodeRef) -> Message {
    encode(node_event::Event::Welcome(EventWelcome { node: Some(node.into()) }))
}

/// What one connection asked for.
struct Connection<D> {
    control: D,
    to: mpsc::Sender<NodeEvent>,
    watched: BTreeSet<String>,
}

impl<D: Door> Connection<D> {
    /// Acts on what came from the socket; the answer, if any, goes back at once.
    fn take(
        &mut self,
        received: Option<Result<Message, axum::Error>>,
    ) -> Result<Option<node_event::Event>, End> {
        match received {
            Some(Ok(Message::Binary(bytes))) => self.act(&bytes),
            Some(Ok(Message::Text(_))) => Err(End::Garbage),
            // The library answers pings.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Err(_)) => Err(End::Unreadable),
            Some(Ok(Message::Close(_))) | None => Err(End::Left),
        }
    }

    fn act(&mut self, bytes: &[u8]) -> Result<Option<node_event::Event>, End> {
        match parse(bytes).ok_or(End::Garbage)? {
            Request::Watch(resource) => {
                if !self.watched.contains(&*resource.0) {
                    if self.watched.len() >= MAX_WATCHES {
                        return Err(End::TooManyWatches);
                    }
                    self.watched.insert(resource.0.to_string());
                    self.control.watch(resource, self.to.clone());
                }
                Ok(None)
            }
            Request::Activate(resource, claim) => {
                self.control.activate(resource, claim);
                Ok(None)
            }
            Request::Ping(id) => Ok(Some(node_event::Event::Pong(EventPong { id }))),
            Request::Unknown => Ok(None),
        }
    }

    /// A closed session is not watched any more.
    fn forward(&mut self, event: &NodeEvent) {
        match &event.event {
            Some(node_event::Event::Closed(closed)) => {
                self.watched.remove(&closed.session);
            }
            Some(
                node_event::Event::Welcome(_) | node_event::Event::State(_) | node_event::Event::Pong(_),
            )
            | None => {}
        }
    }
}

/// A client's message, checked.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Watch(Resource),
    Activate(Resource, waystation_proto::Claim),
    Ping(u64),
    /// An event that a newer client knows and this node does not.
    Unknown,
}

fn parse(bytes: &[u8]) -> Option<Request> {
    let name =
        |text: String| (!text.is_empty() && text.len() <= MAX_NAME_BYTES).then(|| Resource(text.into()));
    match ClientEvent::decode(bytes).ok()?.event {
        Some(client_event::Event::Watch(watch)) => Some(Request::Watch(name(watch.session)?)),
        Some(client_event::Event::Activate(activate)) => {
            Some(Request::Activate(name(activate.session)?, activate.claim?.into()))
        }
        Some(client_event::Event::Ping(ping)) => Some(Request::Ping(ping.id)),
        None => Some(Request::Unknown),
    }
}

#[cfg(test)]
mod tests;
