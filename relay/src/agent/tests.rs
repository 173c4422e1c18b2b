//! The agent against coordinators of the tests' own, over loopback.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use waystation_proto::{
    ErrorCode, Health, Load, Node, NodeId, NodeRef, RoomId, SessionId, StreamId, StreamKey, UserId,
    token::{Action, JOIN_AUDIENCE, JoinToken},
    v1::{
        self,
        coordinator_message::Message as ToRelay,
        exchange_reply::Result as ExchangeResult,
        node_service_server::{NodeService, NodeServiceServer},
        relay_message::Message as FromRelay,
    },
};

use super::{Agent, AgentEvent, AgentHandle, AgentSettings};
use crate::{
    control::{Ended, ExchangeError, Holdings},
    link::Trust,
    takes::play,
};

const PATIENCE: Duration = Duration::from_secs(10);
const SECRET: &str = "a secret of the cluster";

type Stream = mpsc::Sender<Result<v1::CoordinatorMessage, Status>>;

/// One attachment, as the coordinator has it.
struct Attached {
    token: JoinToken,
    hello: v1::AttachHello,
    inbound: Streaming<v1::RelayMessage>,
    outbound: Stream,
}

struct Service(mpsc::Sender<Attached>);

#[tonic::async_trait]
impl NodeService for Service {
    type AttachStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::RelayMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let bearer = request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[JOIN_AUDIENCE]);
        let key = DecodingKey::from_secret(SECRET.as_bytes());
        let token = decode::<JoinToken>(bearer.strip_prefix("Bearer ").unwrap(), &key, &validation);
        let token = token.map_err(|_| Status::unauthenticated("no"))?.claims;
        let mut inbound = request.into_inner();
        let Some(FromRelay::Hello(hello)) = inbound.message().await?.unwrap().message else {
            return Err(Status::invalid_argument("hello first"));
        };
        let (outbound, receiver) = mpsc::channel(16);
        self.0.send(Attached { token, hello, inbound, outbound }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

struct Coordinator {
    url: String,
    attached: mpsc::Receiver<Attached>,
    server: JoinHandle<()>,
}

async fn coordinator() -> Coordinator {
    let (sender, attached) = mpsc::channel(4);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(NodeServiceServer::new(Service(sender)));
    let serve = server.serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(async move { drop(serve.await) });
    Coordinator { url, attached, server }
}

impl Coordinator {
    async fn next(&mut self) -> Attached {
        timeout(PATIENCE, self.attached.recv()).await.expect("an attach in time").unwrap()
    }
}

impl Attached {
    async fn say(&self, message: ToRelay) {
        self.outbound.send(Ok(v1::CoordinatorMessage { message: Some(message) })).await.unwrap();
    }

    async fn welcome(&self, certificate: &str) {
        let keys = v1::SigningKeys { keys: vec![signing_key("k1", 0)] };
        self.say(ToRelay::Welcome(v1::AttachWelcome {
            keys: Some(keys),
            certificate: certificate.into(),
            ..v1::AttachWelcome::default()
        }))
        .await;
    }

    /// The next message that is no beat.
    async fn hear(&mut self) -> FromRelay {
        loop {
            let message = timeout(PATIENCE, self.inbound.message()).await.expect("a message in time");
            let message = message.unwrap().unwrap().message.unwrap();
            if !matches!(message, FromRelay::Beat(_)) {
                return message;
            }
            let beat = v1::CoordinatorBeat { sequence: 1, unix_ms: super::attach::unix_ms() };
            self.say(ToRelay::Beat(beat)).await;
        }
    }
}

fn node(n: u16) -> Node {
    Node {
        node: NodeRef { id: NodeId::new(&format!("relay-{n}")).unwrap(), incarnation: 1 },
        http_url: "http://127.0.0.1:1".into(),
        link_url: "http://127.0.0.1:2".into(),
        media_addr: "127.0.0.1:3".parse().unwrap(),
        region: String::new(),
        health: Health::Healthy,
        load: Load::default(),
    }
}

fn signing_key(id: &str, until_unix_ms: u64) -> v1::SigningKey {
    v1::SigningKey { id: id.into(), public_key: vec![7; 32], until_unix_ms }
}

struct Setup {
    handle: AgentHandle,
    events: mpsc::Receiver<AgentEvent>,
    trust: watch::Receiver<Trust>,
    task: JoinHandle<()>,
}

fn start(coordinators: Vec<String>) -> Setup {
    let settings = AgentSettings {
        coordinators,
        cluster_secret: SECRET.into(),
        node: node(1),
        public_key: vec![9; 32],
        load: Arc::new(Load::default),
        seed: 1,
    };
    let (events_sender, events) = mpsc::channel(64);
    let (trust_sender, trust) = watch::channel(Trust::default());
    let (agent, handle) = Agent::new(settings, events_sender, trust_sender);
    Setup { handle, events, trust, task: tokio::spawn(agent.run()) }
}

impl Setup {
    async fn event(&mut self) -> AgentEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").unwrap()
    }

    async fn give_holdings(&mut self) {
        let AgentEvent::Holdings(reply) = self.event().await else { panic!("not holdings") };
        let origins = vec![v1::OriginUp { user: "ann".into(), ..v1::OriginUp::default() }];
        drop(reply.send(Holdings { origins, users: Vec::new() }));
    }
}

fn stream() -> StreamKey {
    StreamKey { room: RoomId::new("hall").unwrap(), stream: StreamId::new("s").unwrap() }
}

#[tokio::test]
async fn an_agent_tells_what_is_here_and_takes_keys_certificate_and_nodes() {
    play(async || {
        let mut coordinator = coordinator().await;
        let mut agent = start(vec![coordinator.url.clone()]);
        agent.give_holdings().await;
        let attached = coordinator.next().await;
        assert_eq!(attached.token.node, node(1).node.id);
        assert_eq!(attached.hello.public_key, vec![9; 32]);
        assert_eq!(attached.hello.origins[0].user, "ann");
        attached.welcome("certificate").await;
        let nodes = vec![(&node(1)).into(), v1::Node::default(), (&node(2)).into()];
        attached.say(ToRelay::Nodes(v1::ClusterNodes { epoch: 5, nodes })).await;
        let AgentEvent::Nodes(nodes) = agent.event().await else { panic!("not nodes") };
        assert_eq!(nodes, [node(1), node(2)], "a bad node is left out");
        let older = vec![(&node(3)).into()];
        attached.say(ToRelay::Nodes(v1::ClusterNodes { epoch: 4, nodes: older })).await;
        attached.say(ToRelay::Nodes(v1::ClusterNodes { epoch: 6, nodes: Vec::new() })).await;
        let revoke =
            v1::Revoke { session_id: "abc".into(), code: 1_002_055, until_unix_ms: u64::MAX, user: None };
        attached.say(ToRelay::Revoke(revoke)).await;
        let AgentEvent::Revoke(revocation) = agent.event().await else {
            panic!("an older or empty list counts")
        };
        assert_eq!(revocation.code, ErrorCode::Kicked);
        assert_eq!(revocation.ended, Ended::Login(SessionId::new("abc").unwrap()));
        let user = v1::RevokedUser { room: "r".into(), user: "ann".into(), issued_until_unix_ms: 7 };
        let nonsense = v1::Revoke { user: Some(v1::RevokedUser::default()), ..v1::Revoke::default() };
        attached.say(ToRelay::Revoke(nonsense)).await;
        attached.say(ToRelay::Revoke(v1::Revoke { user: Some(user), ..v1::Revoke::default() })).await;
        let AgentEvent::Revoke(revocation) = agent.event().await else { panic!("nonsense counts") };
        let (room, user) = (RoomId::new("r").unwrap(), UserId::new("ann").unwrap());
        assert_eq!(revocation.ended, Ended::User { room, user, issued_until_ms: 7 });
        let trust = agent.trust.borrow().clone();
        assert_eq!(trust.certificate.as_deref(), Some("certificate"));
        assert_eq!(trust.keys["k1"], vec![7; 32]);
    })
    .await;
}

#[tokio::test]
async fn an_agent_walks_on_when_its_coordinator_breaks_and_keeps_what_it_was_given() {
    // GO-1
    play(async || {
        let (mut first, mut second) = (coordinator().await, coordinator().await);
        let mut agent = start(vec![first.url.clone(), second.url.clone()]);
        agent.give_holdings().await;
        let attached = tokio::select! {
            attached = first.next() => attached,
            attached = second.next() => { std::mem::swap(&mut first, &mut second); attached }
        };
        attached.welcome("certificate").await;
        timeout(PATIENCE, agent.trust.wait_for(|trust| trust.certificate.is_some())).await.unwrap().unwrap();
        first.server.abort();
        drop(attached);
        timeout(PATIENCE, agent.trust.wait_for(|trust| trust.cut_off_since_s.is_some()))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(agent.trust.borrow().certificate.as_deref(), Some("certificate"));
        let refused = agent.handle.exchange("t".into(), Action::Play, stream()).await;
        assert_eq!(refused, Err(ExchangeError::NoCoordinator), "at once");
        agent.give_holdings().await;
        let newly = second.next().await;
        newly.welcome("newer").await;
        let newer = |trust: &Trust| trust.certificate.as_deref() == Some("newer");
        timeout(PATIENCE, agent.trust.wait_for(newer)).await.unwrap().unwrap();
        assert_eq!(agent.trust.borrow().cut_off_since_s, None);
    })
    .await;
}

#[tokio::test]
async fn new_keys_and_certificates_are_taken_as_they_come_and_shown_to_the_next_coordinator() {
    // GO-1
    play(async || {
        let mut coordinator = coordinator().await;
        let mut agent = start(vec![coordinator.url.clone()]);
        agent.give_holdings().await;
        let attached = coordinator.next().await;
        assert!(attached.hello.keys.as_ref().unwrap().keys.is_empty());
        attached.welcome("certificate").await;
        let keys = vec![signing_key("k1", u64::MAX), signing_key("k2", 0)];
        attached.say(ToRelay::Keys(v1::SigningKeys { keys: keys.clone() })).await;
        let certificate = "renewed".to_owned();
        attached.say(ToRelay::Certificate(v1::CertificateRenewed { certificate })).await;
        let renewed =
            |trust: &Trust| trust.certificate.as_deref() == Some("renewed") && trust.keys.len() == 2;
        timeout(PATIENCE, agent.trust.wait_for(renewed)).await.unwrap().unwrap();
        drop(attached);
        agent.give_holdings().await;
        let again = coordinator.next().await;
        assert_eq!(again.hello.keys.as_ref().unwrap().keys, keys);
        again.say(ToRelay::Welcome(v1::AttachWelcome::default())).await;
        timeout(PATIENCE, agent.trust.wait_for(|trust| trust.cut_off_since_s.is_none()))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(agent.trust.borrow().keys.len(), 2, "a coordinator that has none takes none away");
    })
    .await;
}

#[tokio::test]
async fn a_silent_coordinator_is_left() {
    play(async || {
        let mut coordinator = coordinator().await;
        let mut agent = start(vec![coordinator.url.clone()]);
        agent.give_holdings().await;
        let silent = coordinator.next().await;
        silent.welcome("certificate").await;
        agent.give_holdings().await;
        coordinator.next().await;
    })
    .await;
}

#[tokio::test]
async fn a_user_token_is_exchanged_and_the_answer_finds_its_way_back() {
    // GO-6
    play(async || {
        let mut coordinator = coordinator().await;
        let mut agent = start(vec![coordinator.url.clone()]);
        agent.give_holdings().await;
        let mut attached = coordinator.next().await;
        attached.welcome("certificate").await;
        timeout(PATIENCE, agent.handle.attached.wait_for(|attached| *attached)).await.unwrap().unwrap();
        let serve = tokio::spawn(async move {
            for _ in 0..2 {
                let FromRelay::Exchange(asked) = attached.hear().await else { panic!("not an exchange") };
                let result = if asked.user_token == "good" {
                    ExchangeResult::Granted(v1::ExchangeGranted { node_token: "node token".into() })
                } else {
                    ExchangeResult::Refused(v1::ExchangeRefused { code: 1_002_033, message: "bad".into() })
                };
                attached
                    .say(ToRelay::Exchange(v1::ExchangeReply { id: asked.id, result: Some(result) }))
                    .await;
            }
            attached
        });
        let exchange = |token: &str| agent.handle.exchange(token.to_owned(), Action::Publish, stream());
        let (good, bad) = tokio::join!(exchange("good"), exchange("bad"));
        assert_eq!(good, Ok("node token".into()));
        assert!(
            matches!(bad, Err(ExchangeError::Refused(refusal)) if refusal.code == ErrorCode::TokenRefused)
        );
        let mut attached = serve.await.unwrap();
        agent.handle.send(FromRelay::SuspectPeer(v1::SuspectPeer::default()));
        assert!(matches!(attached.hear().await, FromRelay::SuspectPeer(_)));
        drop(agent.handle);
        timeout(PATIENCE, agent.task).await.expect("an agent without handles ends").unwrap();
    })
    .await;
}
