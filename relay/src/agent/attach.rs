//! One attachment: a bidirectional stream to one coordinator, from hello to break.

use std::{
    pin::pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, metadata::MetadataValue, transport::Endpoint};
use waystation_proto::{
    ErrorCode, IdError, Node, Refusal, RoomId, SessionId, UserId,
    token::{Action, JOIN_AUDIENCE, JoinToken},
    v1::{
        self, coordinator_message::Message as Incoming, exchange_reply::Result as ExchangeResult,
        node_service_client::NodeServiceClient, relay_message::Message as Outgoing,
    },
};

use super::{Agent, AgentEvent, Exchange};
use crate::{
    control::{Ended, ExchangeError, Revocation},
    silence::silence,
};

/// Both sides beat this often.
const BEAT_EVERY: Duration = Duration::from_millis(200);
/// Three missed beats: the coordinator is gone.
const DEAD_AFTER: Duration = Duration::from_millis(600);
/// A connection that takes longer has failed.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// A coordinator that has not welcomed us by then has failed.
const WELCOME_WITHIN: Duration = Duration::from_secs(2);
/// A join token is good for this long: it is used at once.
const JOIN_TOKEN_S: u64 = 10 * 60;
/// Messages between the task and gRPC.
const WIRE_BUFFER: usize = 64;
/// Most exchanges that wait for their answers.
const MAX_PENDING: usize = 1024;
/// Longest time for which a revocation is kept.
const REVOKED_MOST: Duration = Duration::from_secs(24 * 3600);

/// Why an attachment fails or ends.
#[derive(Debug, Error)]
pub(super) enum AttachError {
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("cannot sign the join token: {0}")]
    Join(String),
    #[error("{}", .0.message())]
    Refused(#[from] Status),
    #[error("no answer within {} ms", WELCOME_WITHIN.as_millis())]
    Slow,
    #[error("it does not begin with a welcome")]
    NoWelcome,
    #[error("nothing was heard for {} ms", DEAD_AFTER.as_millis())]
    Silent,
    #[error("the stream ended")]
    Ended,
    #[error("the relay is stopping")]
    Stopping,
}

/// A stream that was welcomed.
pub(super) struct Attachment {
    outbound: mpsc::Sender<v1::RelayMessage>,
    inbound: Streaming<v1::CoordinatorMessage>,
    others: Vec<String>,
    /// Order of the last node list.
    list_epoch: Option<u64>,
}

pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn join_token(agent: &Agent) -> Result<String, AttachError> {
    let trust = agent.trust.borrow().clock_offset_ms;
    let exp = unix_ms().saturating_add_signed(trust) / 1000 + JOIN_TOKEN_S;
    let claims = JoinToken { aud: JOIN_AUDIENCE.into(), node: agent.settings.node.node.id.clone(), exp };
    let key = EncodingKey::from_secret(agent.settings.cluster_secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|error| AttachError::Join(error.to_string()))
}

impl Attachment {
    /// Connects, says hello, and waits for the welcome.
    pub(super) async fn open(agent: &mut Agent, url: &str) -> Result<Self, AttachError> {
        let endpoint =
            Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect_timeout(CONNECT_WITHIN);
        let channel = timeout(CONNECT_WITHIN, endpoint.connect()).await.map_err(|_| AttachError::Slow)??;
        let (outbound, receiver) = mpsc::channel(WIRE_BUFFER);
        let mut request = Request::new(ReceiverStream::new(receiver));
        let bearer = MetadataValue::try_from(format!("Bearer {}", join_token(agent)?))
            .map_err(|error| AttachError::Join(error.to_string()))?;
        request.metadata_mut().insert("authorization", bearer);
        let hello = Self::hello(agent).await?;
        let message = v1::RelayMessage { message: Some(Outgoing::Hello(hello)) };
        outbound.send(message).await.map_err(|_| AttachError::Ended)?;
        let welcomed = timeout(WELCOME_WITHIN, async {
            let mut client = NodeServiceClient::new(channel);
            let mut inbound = client.attach(request).await?.into_inner();
            let first = inbound.message().await?.and_then(|first| first.message);
            let Some(Incoming::Welcome(welcome)) = first else { return Err(AttachError::NoWelcome) };
            Ok((inbound, welcome))
        });
        let (inbound, welcome) = welcomed.await.map_err(|_| AttachError::Slow)??;
        let others = welcome.coordinator_urls.clone();
        take_welcome(agent, welcome).await?;
        Ok(Self { outbound, inbound, others, list_epoch: None })
    }

    /// What waits to be told is in the holdings; what happens after them waits in the outbox.
    async fn hello(agent: &mut Agent) -> Result<v1::AttachHello, AttachError> {
        while agent.outbox.try_recv().is_ok() {}
        let (ask, holdings) = oneshot::channel();
        let asked = agent.events.send(AgentEvent::Holdings(ask)).await;
        asked.map_err(|_| AttachError::Stopping)?;
        let holdings = holdings.await.map_err(|_| AttachError::Stopping)?;
        let settings = &agent.settings;
        let node = Node { load: (settings.load)(), ..settings.node.clone() };
        Ok(v1::AttachHello {
            node: Some((&node).into()),
            public_key: settings.public_key.clone(),
            origins: holdings.origins,
            users: holdings.users,
            keys: Some(agent.keys.wire()),
        })
    }

    /// Coordinators that this one names.
    pub(super) fn others(&self) -> Vec<String> {
        self.others.clone()
    }

    /// Serves the stream until it breaks; `None`: the relay stops.
    pub(super) async fn run(mut self, agent: &mut Agent) -> Option<AttachError> {
        let mut beat = interval(BEAT_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sequence = 0;
        let mut quiet = pin!(silence(DEAD_AFTER));
        loop {
            // 1. what the coordinator says, 2. our beat, 3. what we have to say, 4. exchanges.
            let outgoing = tokio::select! {
                biased;
                message = self.inbound.message() => {
                    quiet.set(silence(DEAD_AFTER));
                    match message {
                        Ok(Some(message)) => match self.take(agent, message).await {
                            Ok(()) => continue,
                            Err(error) => return Some(error),
                        },
                        Ok(None) => return Some(AttachError::Ended),
                        Err(status) => return Some(status.into()),
                    }
                }
                () = &mut quiet => return Some(AttachError::Silent),
                _ = beat.tick() => {
                    sequence += 1;
                    Outgoing::Beat(v1::RelayBeat { sequence, load: Some((agent.settings.load)().into()) })
                }
                message = agent.outbox.recv() => match message {
                    Some(message) => message,
                    None => return None,
                },
                Some(exchange) = agent.exchanges.recv() => match begin_exchange(agent, exchange) {
                    Some(message) => message,
                    None => continue,
                },
            };
            let sent = self.outbound.send(v1::RelayMessage { message: Some(outgoing) });
            match timeout(DEAD_AFTER, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Some(AttachError::Ended),
                Err(_) => return Some(AttachError::Silent),
            }
        }
    }

    async fn take(&mut self, agent: &mut Agent, message: v1::CoordinatorMessage) -> Result<(), AttachError> {
        match message.message {
            None => Ok(()),
            Some(Incoming::Welcome(welcome)) => take_welcome(agent, welcome).await,
            Some(Incoming::Beat(beat)) => {
                take_clock(agent, beat.unix_ms);
                Ok(())
            }
            Some(Incoming::Nodes(list)) => self.take_nodes(agent, list).await,
            Some(Incoming::Exchange(reply)) => {
                end_exchange(agent, reply);
                Ok(())
            }
            Some(Incoming::Revoke(revoke)) => take_revoke(agent, revoke).await,
            Some(Incoming::Keys(keys)) => {
                take_keys(agent, keys);
                Ok(())
            }
            Some(Incoming::Certificate(renewed)) => {
                take_certificate(agent, renewed.certificate);
                Ok(())
            }
        }
    }

    /// A list that is older than the last, or has no good node in it, changes nothing.
    async fn take_nodes(&mut self, agent: &mut Agent, list: v1::ClusterNodes) -> Result<(), AttachError> {
        if self.list_epoch.is_some_and(|last| list.epoch < last) {
            return Ok(());
        }
        let good = list.nodes.into_iter().filter_map(|node| match Node::try_from(node) {
            Ok(node) => Some(node),
            Err(error) => {
                tracing::warn!(%error, "a node of the list is left out");
                None
            }
        });
        let nodes: Vec<_> = good.collect();
        if nodes.is_empty() {
            return Ok(());
        }
        self.list_epoch = Some(list.epoch);
        agent.events.send(AgentEvent::Nodes(nodes)).await.map_err(|_| AttachError::Stopping)
    }
}

async fn take_welcome(agent: &mut Agent, welcome: v1::AttachWelcome) -> Result<(), AttachError> {
    if let Some(keys) = welcome.keys {
        take_keys(agent, keys);
    }
    agent.trust.send_modify(|trust| trust.cut_off_since_s = None);
    take_certificate(agent, welcome.certificate);
    for revoke in welcome.revoked {
        take_revoke(agent, revoke).await?;
    }
    Ok(())
}

fn take_certificate(agent: &Agent, certificate: String) {
    if !certificate.is_empty() {
        agent.trust.send_modify(|trust| trust.certificate = Some(certificate));
    }
}

fn take_keys(agent: &mut Agent, said: v1::SigningKeys) {
    agent.keys.take(said, now_ms(agent));
    let keys = agent.keys.public();
    agent.trust.send_if_modified(|trust| {
        let news = trust.keys != keys;
        trust.keys = keys;
        news
    });
}

/// The coordinator's clock.
fn now_ms(agent: &Agent) -> u64 {
    unix_ms().saturating_add_signed(agent.trust.borrow().clock_offset_ms)
}

fn take_clock(agent: &Agent, coordinator_unix_ms: u64) {
    /// Smaller differences are the way of the beat.
    const NOTICED_MS: u64 = 100;
    let now = i64::try_from(unix_ms()).unwrap_or(i64::MAX);
    let offset = i64::try_from(coordinator_unix_ms).unwrap_or(i64::MAX).saturating_sub(now);
    agent.trust.send_if_modified(|trust| {
        let news = trust.clock_offset_ms.abs_diff(offset) > NOTICED_MS;
        if news {
            trust.clock_offset_ms = offset;
        }
        news
    });
}

async fn take_revoke(agent: &Agent, revoke: v1::Revoke) -> Result<(), AttachError> {
    let left = Duration::from_millis(revoke.until_unix_ms.saturating_sub(now_ms(agent))).min(REVOKED_MOST);
    let code = ErrorCode::from_number(revoke.code).unwrap_or(ErrorCode::Kicked);
    let ended = match ended(revoke) {
        Ok(ended) => ended,
        Err(error) => {
            tracing::warn!(%error, "a revocation makes no sense and is left out");
            return Ok(());
        }
    };
    let revocation = Revocation { ended, code, until: Instant::now() + left };
    agent.events.send(AgentEvent::Revoke(revocation)).await.map_err(|_| AttachError::Stopping)
}

fn ended(revoke: v1::Revoke) -> Result<Ended, IdError> {
    match revoke.user {
        None => SessionId::new(&revoke.session_id).map(Ended::Login),
        Some(user) => Ok(Ended::User {
            room: RoomId::new(&user.room)?,
            user: UserId::new(&user.user)?,
            issued_until_ms: user.issued_until_unix_ms,
        }),
    }
}

fn begin_exchange(agent: &mut Agent, exchange: Exchange) -> Option<Outgoing> {
    agent.pending.retain(|_, reply| !reply.is_closed());
    if exchange.reply.is_closed() || agent.pending.len() >= MAX_PENDING {
        return None;
    }
    agent.next_exchange += 1;
    let id = agent.next_exchange;
    agent.pending.insert(id, exchange.reply);
    let action = match exchange.action {
        Action::Publish => v1::MediaAction::Publish,
        Action::Play => v1::MediaAction::Play,
    };
    Some(Outgoing::Exchange(v1::ExchangeRequest {
        id,
        user_token: exchange.user_token,
        action: action.into(),
        stream: Some((&exchange.stream).into()),
    }))
}

fn end_exchange(agent: &mut Agent, reply: v1::ExchangeReply) {
    let Some(waiting) = agent.pending.remove(&reply.id) else { return };
    let answer = match reply.result {
        Some(ExchangeResult::Granted(granted)) => Ok(granted.node_token),
        Some(ExchangeResult::Refused(refused)) => match ErrorCode::from_number(refused.code) {
            Some(code) => Err(Refusal::new(code, refused.message).into()),
            None => Err(ExchangeError::NoCoordinator),
        },
        None => Err(ExchangeError::NoCoordinator),
    };
    // The client may have gone meanwhile.
    let _ = waiting.send(answer);
}
