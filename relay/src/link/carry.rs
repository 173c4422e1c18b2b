//! The tasks of links. Each link has one task, from the first hello to the last message.
//!
//! Invariant: the core hears `Up` once, then messages, then `Down` once, all in order; a link that never came up is
//! reported as `DialFailed`, if we dialled it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{Stream, StreamExt as _};
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Endpoint};
use waystation_proto::{
    NodeRef,
    v1::{
        self,
        link_message::Message,
        link_service_client::LinkServiceClient,
        link_service_server::{LinkService, LinkServiceServer},
    },
};

use super::handshake::{HandshakeError, Identity, Side, Trust};
use crate::{
    control::{LinkId, LinkUp, PeerMessage},
    silence::silence,
};

/// A side that says nothing else says this often that it lives.
const BEAT_EVERY: Duration = Duration::from_millis(200);
/// A peer that is not heard for this long is gone: four beats.
const DEAD_AFTER: Duration = Duration::from_millis(800);
/// A connection that takes longer has failed.
const CONNECT_WITHIN: Duration = Duration::from_millis(700);
/// A handshake that takes longer has failed.
const HANDSHAKE_WITHIN: Duration = Duration::from_millis(1500);
/// Messages that wait to be sent on one link; a link that falls further behind is closed.
const OUTBOX: usize = 8192;
/// Messages between the task and gRPC.
const WIRE_BUFFER: usize = 64;
/// Handshakes of callers at once.
const MAX_HANDSHAKES: usize = 64;

/// What the control core's shell hears of links.
pub(crate) enum LinkEvent {
    /// A link is there. Dropping the handle closes it.
    Up(LinkUp, LinkHandle),
    /// A peer's message.
    Message(LinkId, PeerMessage),
    /// A link is gone.
    Down(LinkId),
    /// A dial led to no link.
    DialFailed(NodeRef),
}

/// The way into a link.
pub(crate) struct LinkHandle(mpsc::Sender<PeerMessage>);

impl LinkHandle {
    /// Hands a message over; false: the link is gone, or too far behind to be of use.
    pub(crate) fn send(&self, message: PeerMessage) -> bool {
        self.0.try_send(message).is_ok()
    }
}

/// Why a link ended.
#[derive(Debug, Error)]
enum LinkError {
    #[error("cannot reach {url}: {source}")]
    Connect { url: String, source: tonic::transport::Error },
    #[error("{0}")]
    Refused(#[from] Status),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("the handshake took longer than {} ms", HANDSHAKE_WITHIN.as_millis())]
    Slow,
    #[error("the peer is {found}, but {wanted} was dialled")]
    OtherPeer { found: NodeRef, wanted: NodeRef },
    #[error("the stream ended")]
    Ended,
    #[error("nothing was heard for {} ms", DEAD_AFTER.as_millis())]
    Silent,
    #[error("the peer sent something else than its {0}")]
    OutOfTurn(&'static str),
    #[error("{0}")]
    Message(String),
    #[error("closed on this side")]
    Closed,
}

type Inbound = Pin<Box<dyn Stream<Item = Result<v1::LinkMessage, Status>> + Send>>;

/// The gRPC stream of a link, whoever opened it.
struct Wire {
    outbound: mpsc::Sender<v1::LinkMessage>,
    inbound: Inbound,
}

/// Makes links.
#[derive(Clone)]
pub(crate) struct Links {
    identity: Arc<Identity>,
    trust: watch::Receiver<Trust>,
    events: mpsc::Sender<LinkEvent>,
    next_id: Arc<AtomicU64>,
    handshakes: Arc<Semaphore>,
}

impl Links {
    pub(crate) fn new(
        identity: Arc<Identity>,
        trust: watch::Receiver<Trust>,
        events: mpsc::Sender<LinkEvent>,
    ) -> Self {
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        Self { identity, trust, events, next_id: Arc::new(AtomicU64::new(1)), handshakes }
    }

    /// The service for the link port.
    pub(crate) fn service(&self) -> LinkServiceServer<Self> {
        LinkServiceServer::new(self.clone())
    }

    /// Dials a peer; a [`LinkEvent`] says what came of it.
    pub(crate) fn dial(&self, node: NodeRef, link_url: String) {
        let links = self.clone();
        tokio::spawn(async move {
            let error = match links.connect(link_url).await {
                Ok(wire) => links.run(Side::Dialler, Some(&node), wire, None).await,
                Err(error) => RunEnd::NeverUp(error),
            };
            match error {
                RunEnd::WasUp => {}
                RunEnd::NeverUp(error) => {
                    tracing::debug!(%node, %error, "no link");
                    let _ = links.events.send(LinkEvent::DialFailed(node)).await;
                }
            }
        });
    }

    async fn connect(&self, url: String) -> Result<Wire, LinkError> {
        let connect = |source| LinkError::Connect { url: url.clone(), source };
        let endpoint = Endpoint::from_shared(url.clone()).map_err(connect)?.tcp_nodelay(true);
        let channel = timeout(CONNECT_WITHIN, endpoint.connect_timeout(CONNECT_WITHIN).connect())
            .await
            .map_err(|_| LinkError::Slow)?
            .map_err(connect)?;
        let (outbound, receiver) = mpsc::channel(WIRE_BUFFER);
        let mut client = LinkServiceClient::new(channel);
        let response = timeout(HANDSHAKE_WITHIN, client.open(ReceiverStream::new(receiver)))
            .await
            .map_err(|_| LinkError::Slow)??;
        Ok(Wire { outbound, inbound: Box::pin(response.into_inner()) })
    }

    /// A link's whole life. A caller's permit is given back once its handshake is over.
    async fn run(
        &self,
        side: Side,
        wanted: Option<&NodeRef>,
        mut wire: Wire,
        permit: Option<OwnedSemaphorePermit>,
    ) -> RunEnd {
        let shaken = timeout(HANDSHAKE_WITHIN, self.shake_hands(side, &mut wire)).await;
        drop(permit);
        let peer = match shaken {
            Err(_) => return RunEnd::NeverUp(LinkError::Slow),
            Ok(Err(error)) => return RunEnd::NeverUp(error),
            Ok(Ok(peer)) => peer,
        };
        if let Some(wanted) = wanted.filter(|wanted| wanted.id != peer.node.id) {
            let (found, wanted) = (peer.node, wanted.clone());
            return RunEnd::NeverUp(LinkError::OtherPeer { found, wanted });
        }
        let link = LinkId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let node = peer.node.clone();
        let dialled = side == Side::Dialler;
        let up = LinkUp { link, node: peer.node, dialled, media_addr: peer.media_addr, keys: peer.keys };
        if self.events.send(LinkEvent::Up(up, LinkHandle(outbox))).await.is_err() {
            return RunEnd::WasUp;
        }
        tracing::info!(%node, dialled, "link up");
        let error = self.carry(link, wire, messages).await;
        tracing::info!(%node, %error, "link down");
        let _ = self.events.send(LinkEvent::Down(link)).await;
        RunEnd::WasUp
    }

    async fn shake_hands(&self, side: Side, wire: &mut Wire) -> Result<super::handshake::Peer, LinkError> {
        let Wire { outbound, inbound } = wire;
        let trust = self.trust.borrow().clone();
        let (greeted, hello) = self.identity.greet(side, &trust)?;
        send(outbound, Message::Hello(hello)).await?;
        let Some(Message::Hello(theirs)) = next(inbound).await? else {
            return Err(LinkError::OutOfTurn("hello"));
        };
        let (proving, proof) = self.identity.prove(greeted, theirs, &trust, now_unix_s(&trust))?;
        send(outbound, Message::Proof(proof)).await?;
        let Some(Message::Proof(proof)) = next(inbound).await? else {
            return Err(LinkError::OutOfTurn("proof"));
        };
        Ok(proving.finish(&proof)?)
    }

    async fn carry(&self, link: LinkId, wire: Wire, mut messages: mpsc::Receiver<PeerMessage>) -> LinkError {
        let Wire { outbound, mut inbound } = wire;
        let outward = async {
            let mut beat = interval(BEAT_EVERY);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let message = tokio::select! {
                    message = messages.recv() => match message {
                        Some(message) => message.to_wire(),
                        None => return LinkError::Closed,
                    },
                    _ = beat.tick() => v1::LinkMessage { message: Some(Message::Beat(v1::LinkBeat {})) },
                };
                if outbound.send(message).await.is_err() {
                    return LinkError::Ended;
                }
            }
        };
        let inward = async {
            loop {
                let heard = tokio::select! {
                    biased;
                    heard = inbound.next() => heard,
                    () = silence(DEAD_AFTER) => return LinkError::Silent,
                };
                let message = match heard {
                    None => return LinkError::Ended,
                    Some(Err(status)) => return LinkError::Refused(status),
                    Some(Ok(message)) => message,
                };
                match PeerMessage::from_wire(message) {
                    Ok(None) => {}
                    Ok(Some(message)) => {
                        if self.events.send(LinkEvent::Message(link, message)).await.is_err() {
                            return LinkError::Closed;
                        }
                    }
                    Err(error) => return LinkError::Message(error.to_string()),
                }
            }
        };
        tokio::select! {
            error = outward => error,
            error = inward => error,
        }
    }
}

enum RunEnd {
    NeverUp(LinkError),
    WasUp,
}

async fn send(outbound: &mpsc::Sender<v1::LinkMessage>, message: Message) -> Result<(), LinkError> {
    outbound.send(v1::LinkMessage { message: Some(message) }).await.map_err(|_| LinkError::Ended)
}

async fn next(inbound: &mut Inbound) -> Result<Option<Message>, LinkError> {
    Ok(inbound.next().await.ok_or(LinkError::Ended)??.message)
}

fn now_unix_s(trust: &Trust) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    now.saturating_add_signed(trust.clock_offset_ms / 1000)
}

#[tonic::async_trait]
impl LinkService for Links {
    type OpenStream = Pin<Box<dyn Stream<Item = Result<v1::LinkMessage, Status>> + Send>>;

    async fn open(
        &self,
        request: Request<Streaming<v1::LinkMessage>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let Ok(permit) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many handshakes at once; dial again"));
        };
        let (outbound, receiver) = mpsc::channel(WIRE_BUFFER);
        let wire = Wire { outbound, inbound: Box::pin(request.into_inner()) };
        let links = self.clone();
        tokio::spawn(async move {
            match links.run(Side::Acceptor, None, wire, Some(permit)).await {
                RunEnd::WasUp => {}
                RunEnd::NeverUp(error) => tracing::info!(%error, "a caller was not let in"),
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(Ok))))
    }
}

#[cfg(test)]
#[path = "carry_tests.rs"]
mod tests;
