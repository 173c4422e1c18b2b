//! `NodeService`: one bidirectional stream per relay.
//!
//! Two tasks per attachment: one that beats, reads and pushes, and must never wait for the store; and one that works
//! through what the relay reports, in order.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{Instant, MissedTickBehavior, interval, interval_at, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};
use waystation_proto::{
    ErrorCode, Node, NodeId, NodeRef,
    v1::{
        self, coordinator_message::Message as Outgoing, node_service_server::NodeService,
        relay_message::Message as Incoming,
    },
};

use super::table::{AttachmentId, BEAT_EVERY};
use crate::{
    context::{Context, Serving, leaving, now, unix_ms, unix_s},
    fault::{CallError, Fault},
    mirror::{Ended, NodeNews, View},
    streams,
    upkeep::write_nodes,
};

/// A relay that has not said hello by then is none.
const HELLO_WITHIN: Duration = Duration::from_secs(2);
/// Messages that wait for a relay.
const OUTBOX: usize = 256;
/// Reports that wait for the store. A relay with more is ended: it tells everything at its next attach.
const REPORTS: usize = 8192;
/// Revocations in a welcome, which is one message; the others follow it, one by one.
const WELCOME_REVOKED: usize = 10_000;
/// A relay that takes nothing for this long is gone.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// A relay's certificate is renewed this often: long before the key that signed it is deleted.
const CERTIFY_EVERY: Duration = Duration::from_secs(30 * 60);
/// Length of an Ed25519 public key.
const KEY_BYTES: usize = 32;

/// The service.
#[derive(Clone, Debug)]
pub struct Nodes(Arc<Context>);

type Out = mpsc::Sender<Result<v1::CoordinatorMessage, Status>>;

impl Nodes {
    /// The service over what all parts share.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self(context)
    }

    fn joining(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        let bearer = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|value| value.strip_prefix("Bearer "));
        let joining = token.and_then(|token| self.0.node_tokens.joining(token, unix_s()));
        joining.ok_or_else(|| {
            Status::unauthenticated(
                "the join token does not hold; do relay and coordinator have the same cluster secret?",
            )
        })
    }
}

#[tonic::async_trait]
impl NodeService for Nodes {
    type AttachStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::RelayMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let joining = self.joining(request.metadata())?;
        let mut inbound = request.into_inner();
        if *self.0.serving().borrow() == Serving::Leaving {
            return Err(Status::unavailable("this coordinator is leaving; attach to another"));
        }
        let first = timeout(HELLO_WITHIN, inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello in time"))??;
        let Some(Incoming::Hello(hello)) = first.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("the first message is no hello"));
        };
        let node = hello.node.ok_or_else(|| Status::invalid_argument("the hello lacks its node"))?;
        let node = Node::try_from(node).map_err(|error| Status::from(CallError::from(error)))?;
        if node.node.id != joining {
            return Err(Status::permission_denied(format!("the join token is that of node {joining}")));
        }
        if hello.public_key.len() != KEY_BYTES {
            return Err(Status::invalid_argument(format!("the public key has not {KEY_BYTES} bytes")));
        }
        let context = Arc::clone(&self.0);
        if context.gathering().until().is_some() {
            context.node_tokens.learn(&hello.keys.unwrap_or_default());
        }
        let id = context.nodes().attach(node.clone(), now());
        let id = id.map_err(|refusal| Status::failed_precondition(refusal.to_string()))?;
        tracing::info!(node = %node.node, "relay attached");
        let (out, outbox) = mpsc::channel(OUTBOX);
        let (reports, queue) = mpsc::channel(REPORTS);
        let holdings = Report::Holdings(hello.origins, hello.users);
        // The queue is empty and open.
        let _ = reports.try_send(holdings);
        tokio::spawn(work(Arc::clone(&context), node.node.clone(), queue, out.clone()));
        let public_key = hello.public_key;
        let attachment = Attachment { context, node: node.node, id, public_key, out, reports };
        tokio::spawn(attachment.run(inbound));
        Ok(Response::new(ReceiverStream::new(outbox)))
    }
}

/// What is worked through in order.
enum Report {
    Holdings(Vec<v1::OriginUp>, Vec<v1::RoomUserSession>),
    Up(v1::OriginUp),
    Down(v1::OriginDown),
    Users(Vec<v1::RoomUserSession>),
    Exchange(v1::ExchangeRequest),
}

async fn work(context: Arc<Context>, node: NodeRef, mut queue: mpsc::Receiver<Report>, out: Out) {
    // A node is in the list before it is named as an origin.
    write_nodes(&context).await;
    while let Some(report) = queue.recv().await {
        let done = match report {
            Report::Holdings(origins, users) => holdings(&context, &node, origins, users).await,
            Report::Up(up) => streams::origin_up(&context, &node, up).await,
            Report::Down(down) => streams::origin_down(&context, &node, down).await,
            Report::Users(users) => streams::users_heard(&context, users).await.map_err(Into::into),
            Report::Exchange(request) => {
                let reply = streams::exchange(&context, request).await;
                // A relay that is gone asks again elsewhere.
                let _ = out.send(Ok(message(Outgoing::Exchange(reply)))).await;
                Ok(())
            }
        };
        match done {
            Ok(()) => {}
            Err(CallError::Fault(fault)) => {
                // What was lost is told again at the next attach.
                tracing::warn!(%node, %fault, "a relay's report was not written; the relay has to attach again");
                let _ = out.send(Err(CallError::from(fault).into())).await;
                return;
            }
            Err(error) => tracing::warn!(%node, %error, "a relay's report makes no sense"),
        }
    }
}

async fn holdings(
    context: &Context,
    node: &NodeRef,
    origins: Vec<v1::OriginUp>,
    users: Vec<v1::RoomUserSession>,
) -> Result<(), CallError> {
    for origin in origins {
        match streams::origin_up(context, node, origin).await {
            Err(CallError::Malformed(message)) => tracing::warn!(%node, message, "an origin makes no sense"),
            other => other?,
        }
    }
    Ok(streams::users_heard(context, users).await?)
}

fn message(message: Outgoing) -> v1::CoordinatorMessage {
    v1::CoordinatorMessage { message: Some(message) }
}

fn revoke(ended: &Ended) -> v1::Revoke {
    match ended {
        Ended::Login(session, entry) => v1::Revoke {
            session_id: session.to_string(),
            code: entry.code,
            until_unix_ms: entry.until_ms,
            user: None,
        },
        Ended::User(room, user, entry) => v1::Revoke {
            session_id: String::new(),
            code: ErrorCode::Kicked.number(),
            until_unix_ms: entry.until_ms,
            user: Some(v1::RevokedUser {
                room: room.to_string(),
                user: user.to_string(),
                issued_until_unix_ms: entry.issued_until_ms(),
            }),
        },
    }
}

/// All that ended and may still have a token that is good.
fn all_ended(view: &View) -> Vec<v1::Revoke> {
    let logins = view.revoked().iter().map(|(session, entry)| Ended::Login(session.clone(), *entry));
    let users = view.kicks().map(|((room, user), held)| Ended::User(room.clone(), user.clone(), held.value));
    logins.chain(users).map(|ended| revoke(&ended)).collect()
}

struct Attachment {
    context: Arc<Context>,
    node: NodeRef,
    id: AttachmentId,
    public_key: Vec<u8>,
    out: Out,
    reports: mpsc::Sender<Report>,
}

impl Attachment {
    async fn run(self, inbound: Streaming<v1::RelayMessage>) {
        let status = self.serve(inbound).await;
        self.context.nodes().broke(&self.node.id, self.id, now());
        if let Some(status) = status {
            tracing::info!(node = %self.node, why = status.message(), "relay detached");
            let _ = timeout(SLOW_AFTER, self.out.send(Err(status))).await;
        } else {
            tracing::info!(node = %self.node, "relay detached");
        }
        // One that was sent away is looked after by another coordinator.
        if *self.context.serving().borrow() == Serving::Up {
            write_nodes(&self.context).await;
        }
    }

    async fn send(&self, outgoing: Outgoing) -> Result<(), Option<Status>> {
        match timeout(SLOW_AFTER, self.out.send(Ok(message(outgoing)))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(None),
        }
    }

    fn certificate(&self) -> Result<String, Status> {
        let certificate = self.context.node_tokens.certify(&self.node, &self.public_key, unix_s());
        certificate.map_err(|error| CallError::from(Fault::from(error)).into())
    }

    /// Serves until it ends; with the status to end it with.
    async fn serve(&self, mut inbound: Streaming<v1::RelayMessage>) -> Option<Status> {
        let context = &self.context;
        let mut ring = context.node_tokens.ring();
        let keys = ring.borrow_and_update().public();
        let certificate = match self.certificate() {
            Ok(certificate) => certificate,
            Err(status) => return Some(status),
        };
        // Subscribed before the list is taken: none falls between.
        let mut revocations = context.mirror.revocations();
        let mut revoked = context.mirror.read(all_ended);
        let rest = revoked.split_off(revoked.len().min(WELCOME_REVOKED));
        let welcome = v1::AttachWelcome {
            coordinator_urls: context.coordinator_urls(),
            keys: Some(keys),
            certificate,
            revoked,
        };
        if let Err(end) = self.send(Outgoing::Welcome(welcome)).await {
            return end;
        }
        for revoked in rest {
            if let Err(end) = self.send(Outgoing::Revoke(revoked)).await {
                return end;
            }
        }
        let mut serving = context.serving();
        let mut nodes = context.mirror.nodes();
        nodes.mark_changed();
        let mut certify = interval_at(Instant::now() + CERTIFY_EVERY, CERTIFY_EVERY);
        let mut beat = interval(BEAT_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sequence = 0;
        loop {
            // 1. our beat, 2. whether we may stay, 3. what the relay says, 4. revocations, 5. keys, 6. nodes.
            let outgoing = tokio::select! {
                biased;
                _ = beat.tick() => {
                    if !context.nodes().is_current(&self.node.id, self.id) {
                        return Some(Status::aborted("a newer attachment of this relay is open"));
                    }
                    sequence += 1;
                    Outgoing::Beat(v1::CoordinatorBeat { sequence, unix_ms: unix_ms() })
                }
                () = leaving(&mut serving) => {
                    return Some(Status::unavailable("this coordinator is leaving; attach to another"));
                }
                incoming = inbound.message() => match incoming {
                    Ok(Some(incoming)) => match self.take(incoming) {
                        Ok(()) => continue,
                        Err(status) => return Some(status),
                    },
                    Ok(None) | Err(_) => return None,
                },
                revocation = revocations.recv() => match revocation {
                    Ok(ended) => Outgoing::Revoke(revoke(&ended)),
                    Err(RecvError::Lagged(_)) => {
                        return Some(Status::unavailable("this relay is behind; attach again"));
                    }
                    Err(RecvError::Closed) => return None,
                },
                changed = ring.changed() => match changed {
                    Ok(()) => Outgoing::Keys(ring.borrow_and_update().public()),
                    Err(_) => return None,
                },
                _ = certify.tick() => match self.certificate() {
                    Ok(certificate) => Outgoing::Certificate(v1::CertificateRenewed { certificate }),
                    Err(status) => return Some(status),
                },
                changed = nodes.changed() => match changed {
                    Ok(()) => Outgoing::Nodes(list(&nodes.borrow_and_update())),
                    Err(_) => return None,
                },
            };
            if let Err(end) = self.send(outgoing).await {
                return end;
            }
        }
    }

    fn take(&self, incoming: v1::RelayMessage) -> Result<(), Status> {
        let heard = |load| self.context.nodes().heard(&self.node.id, self.id, load, now());
        let report = match incoming.message {
            Some(Incoming::Beat(beat)) => {
                heard(beat.load.map(Into::into));
                return Ok(());
            }
            Some(Incoming::SuspectPeer(suspect)) => {
                // One relay's word is no proof: it counts once its peer is missed here too.
                if let Some(peer) = suspect.node.and_then(|peer| NodeRef::try_from(peer).ok()) {
                    tracing::info!(node = %self.node, %peer, "a relay misses another");
                    self.context.nodes().missed_by_peer(&peer);
                }
                return Ok(());
            }
            Some(Incoming::Hello(_)) => return Err(Status::invalid_argument("a second hello")),
            None => return Ok(()),
            Some(Incoming::OriginUp(up)) => Report::Up(up),
            Some(Incoming::OriginDown(down)) => Report::Down(down),
            Some(Incoming::UsersHeard(users)) => Report::Users(users.users),
            Some(Incoming::Exchange(request)) => Report::Exchange(request),
        };
        heard(None);
        self.reports
            .try_send(report)
            .map_err(|_| Status::resource_exhausted("too many reports wait; attach again"))
    }
}

fn list(news: &NodeNews) -> v1::ClusterNodes {
    v1::ClusterNodes { epoch: news.epoch, nodes: news.nodes.iter().map(Into::into).collect() }
}
