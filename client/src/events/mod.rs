//! The event connection to a node: one WebSocket for all sessions there. The only door to `tokio-tungstenite`.
//!
//! RFC 6455. Its end is the first sign of a node's death (GO-2), so it is pinged, and never reconnects by itself:
//! whoever owns it decides. Invariant: [`NodeReport::Lost`] is the last report, and comes once.

#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use thiserror::Error;
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};
use waystation_proto::{
    Claim, NodeRef,
    v1::{
        ActivateSession, ClientEvent, EventPing, NodeEvent, SessionPhase, WatchSession,
        client_event::Event as Ask, node_event::Event as Tell,
    },
};

/// From the dial to the node's welcome.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// From one ping to the next.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// A node that sends nothing for this long has lost the connection. Media tells sooner; this is for sessions with none.
const SILENCE: Duration = Duration::from_secs(3);

/// Largest message of a node.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// Requests under way.
const MAX_QUEUED: usize = 256;

/// Why there is no event connection.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum LostReason {
    /// Nobody listens there.
    #[error("refused: {0}")]
    Refused(String),
    /// No answer in time.
    #[error("no answer in time")]
    Silent,
    /// It was up and broke.
    #[error("broken: {0}")]
    Broken(String),
    /// The node speaks something else.
    #[error("protocol error: {0}")]
    Protocol(String),
}

/// What a node tells over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeReport {
    /// It is up, and this life of the node is behind it.
    Welcome(NodeRef),
    /// A watched session's state.
    Session {
        /// Which.
        session: String,
        /// How it is.
        phase: SessionPhase,
        /// Under which claim.
        claim: Option<Claim>,
    },
    /// The node has ended a session.
    Closed {
        /// Which.
        session: String,
        /// 0, or a number of the error table.
        code: u32,
        /// In words.
        reason: String,
    },
    /// The connection is over.
    Lost(LostReason),
}

/// An event connection; dropping it closes it.
#[derive(Clone, Debug)]
pub(crate) struct EventLink {
    asks: mpsc::Sender<ClientEvent>,
}

impl EventLink {
    /// Dials a node. What it tells, and the end, go to `report`. Within a tokio runtime.
    pub(crate) fn dial(http_url: &str, report: impl FnMut(NodeReport) + Send + 'static) -> Self {
        let (asks, asked) = mpsc::channel(MAX_QUEUED);
        tokio::spawn(run(events_url(http_url), asked, report));
        Self { asks }
    }

    /// Asks for a session's states.
    pub(crate) fn watch(&self, session: &str) {
        self.ask(Ask::Watch(WatchSession { session: session.to_owned() }));
    }

    /// Makes a publishing session the active one.
    pub(crate) fn activate(&self, session: &str, claim: Claim) {
        self.ask(Ask::Activate(ActivateSession { session: session.to_owned(), claim: Some(claim.into()) }));
    }

    fn ask(&self, event: Ask) {
        // A full or closed queue is a connection that is being lost, which is reported.
        let _ = self.asks.try_send(ClientEvent { event: Some(event) });
    }
}

fn events_url(http_url: &str) -> String {
    let rest = http_url.strip_prefix("http").unwrap_or(http_url);
    format!("ws{}/events", rest.trim_end_matches('/'))
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn run(url: String, asked: mpsc::Receiver<ClientEvent>, mut report: impl FnMut(NodeReport) + Send) {
    let reason = match timeout(DIAL_TIMEOUT, dial(&url)).await {
        Ok(Ok(socket)) => match serve(socket, asked, &mut report).await {
            Ok(()) => return,
            Err(reason) => reason,
        },
        Ok(Err(reason)) => reason,
        Err(_elapsed) => LostReason::Silent,
    };
    tracing::debug!(url, %reason, "event connection lost");
    report(NodeReport::Lost(reason));
}

async fn dial(url: &str) -> Result<Socket, LostReason> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    const NO_DELAY: bool = true;
    match connect_async_with_config(url, Some(config), NO_DELAY).await {
        Ok((socket, _response)) => Ok(socket),
        Err(tungstenite::Error::Io(error)) => Err(LostReason::Refused(error.to_string())),
        Err(other) => Err(LostReason::Protocol(other.to_string())),
    }
}

/// Serves until the owner lets go (`Ok`) or the connection is lost.
async fn serve(
    mut socket: Socket,
    mut asked: mpsc::Receiver<ClientEvent>,
    report: &mut (impl FnMut(NodeReport) + Send),
) -> Result<(), LostReason> {
    let broken = |error: tungstenite::Error| LostReason::Broken(error.to_string());
    let mut heard = Instant::now();
    let mut ping = tokio::time::interval(PING_INTERVAL);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ping_id = 0;
    loop {
        let ask = tokio::select! {
            ask = asked.recv() => match ask {
                Some(ask) => ask,
                None => {
                    let _ = timeout(DIAL_TIMEOUT, socket.close(None)).await;
                    return Ok(());
                }
            },
            message = timeout_at(heard + SILENCE, socket.next()) => {
                let message = message.map_err(|_elapsed| LostReason::Silent)?;
                let message = message.ok_or_else(|| LostReason::Broken("closed by the node".into()))?;
                heard = Instant::now();
                if let Some(told) = told(message.map_err(broken)?)? {
                    report(told);
                }
                continue;
            }
            _ = ping.tick() => {
                ping_id += 1;
                ClientEvent { event: Some(Ask::Ping(EventPing { id: ping_id })) }
            }
        };
        let message = Message::Binary(ask.encode_to_vec().into());
        timeout(SILENCE, socket.send(message))
            .await
            .map_err(|_elapsed| LostReason::Silent)?
            .map_err(broken)?;
    }
}

/// What a message says; `None` if nothing that matters here.
fn told(message: Message) -> Result<Option<NodeReport>, LostReason> {
    let bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(None),
        Message::Close(_) => return Err(LostReason::Broken("closed by the node".into())),
        Message::Text(_) => return Err(LostReason::Protocol("a text message".into())),
    };
    let event = NodeEvent::decode(bytes).map_err(|error| LostReason::Protocol(error.to_string()))?;
    Ok(match event.event {
        Some(Tell::Welcome(welcome)) => {
            let node = welcome.node.ok_or_else(|| LostReason::Protocol("a welcome without a node".into()))?;
            let node = NodeRef::try_from(node).map_err(|error| LostReason::Protocol(error.to_string()))?;
            Some(NodeReport::Welcome(node))
        }
        Some(Tell::State(state)) => {
            let phase = state.phase();
            Some(NodeReport::Session { session: state.session, phase, claim: state.claim.map(Claim::from) })
        }
        Some(Tell::Closed(closed)) => {
            Some(NodeReport::Closed { session: closed.session, code: closed.code, reason: closed.reason })
        }
        // A pong has done its work by arriving; an event of a later version says nothing to this one.
        Some(Tell::Pong(_)) | None => None,
    })
}
