//! A coordinator, clients and relays in one process. Whoever waits for too long fails.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    transport::{Channel, Endpoint},
};
use waystation_coordinator::{App, AppKey, AppSigner, Config, Coordinator, sign_user_token, store::Store};
use waystation_proto::{
    NodeId, UserId,
    token::{JOIN_AUDIENCE, JoinToken, NODE_TOKEN_AUDIENCE, NodeToken, UserToken},
    v1::{
        self, connect_event::Event, node_service_client::NodeServiceClient, relay_message::Message as Said,
        room_delta::Delta, room_service_client::RoomServiceClient,
    },
};

/// Whoever waits for longer waits in vain, however busy the machine is. How quick the product has to be is asserted
/// where it is promised.
const PATIENCE: Duration = Duration::from_secs(30);
const CLUSTER_SECRET: &str = "the secret of the cluster";
const APP_SECRET: &[u8] = b"the secret of the app, long enough";
/// The room of most tests.
pub const ROOM: &str = "hall";

/// Waits, but not for ever.
pub async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A coordinator that runs.
pub struct Server {
    pub url: String,
    pub listen: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

/// What tests start from: a new cluster, so that nothing is gathered.
pub fn config() -> Config {
    let app = App { id: "app".into(), key: AppKey::Secret(APP_SECRET.to_vec()) };
    let mut config = Config::new("127.0.0.1:0".parse().unwrap(), CLUSTER_SECRET.into(), vec![app]);
    config.timings.gather = Duration::ZERO;
    config
}

impl Server {
    pub async fn start() -> Self {
        Self::with(config()).await
    }

    pub async fn with(config: Config) -> Self {
        Self::run(Coordinator::bind(config).await.unwrap())
    }

    pub async fn over(config: Config, store: Arc<dyn Store>) -> Self {
        Self::run(Coordinator::bind_over(config, store).await.unwrap())
    }

    fn run(coordinator: Coordinator) -> Self {
        let url = coordinator.url().to_owned();
        let listen = url.trim_start_matches("http://").parse().unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            coordinator.run(stopped).await.unwrap();
        });
        Self { url, listen, stop, running }
    }

    /// Stops it; it must not wait for open streams.
    pub async fn stop(self) {
        drop(self.stop);
        soon("the coordinator to stop", self.running).await.unwrap();
    }

    pub async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }

    pub async fn rooms(&self) -> RoomServiceClient<Channel> {
        RoomServiceClient::new(self.channel().await)
    }
}

/// A token of the user with all rights, for every room.
pub fn token(user: &str) -> String {
    token_with(user, |_| {})
}

pub fn token_with(user: &str, change: impl FnOnce(&mut UserToken)) -> String {
    let mut token = UserToken {
        app: "app".into(),
        user: UserId::new(user).unwrap(),
        rooms: vec!["*".into()],
        publish: true,
        play: true,
        streams: None,
        observe: true,
        admin: false,
        exp: unix_s() + 3600,
    };
    change(&mut token);
    sign_user_token(&AppSigner::Secret(APP_SECRET), &token).unwrap()
}

/// What a client asks with.
pub fn login(user: &str, secret: &str) -> v1::RoomLogin {
    v1::RoomLogin {
        room: ROOM.into(),
        user_token: token(user),
        login_id: secret.into(),
        notify_users: true,
        ..v1::RoomLogin::default()
    }
}

/// A client with its one event stream.
pub struct Client {
    pub rpc: RoomServiceClient<Channel>,
    pub id: String,
    pub connection: u64,
    pub session: v1::SessionRef,
    /// The room as it stood at the login.
    pub up: v1::RoomUp,
    /// The nodes, as they were told last.
    nodes: Vec<v1::Node>,
    events: Streaming<v1::ConnectEvent>,
    deltas: VecDeque<String>,
}

/// Connects for some rooms, whatever comes of it.
pub async fn connect(
    server: &Server,
    client: &str,
    connection: u64,
    rooms: Vec<v1::RoomLogin>,
) -> Result<Streaming<v1::ConnectEvent>, Status> {
    let request = v1::ConnectRequest { client_id: client.into(), connection, rooms };
    Ok(soon("a connection", server.rooms().await.connect(request)).await?.into_inner())
}

/// The next event of a stream that `pick` wants.
pub async fn next<T>(
    events: &mut Streaming<v1::ConnectEvent>,
    what: &str,
    mut pick: impl FnMut(Event) -> Option<T>,
) -> T {
    soon(what, async {
        loop {
            let event =
                events.message().await.unwrap().unwrap_or_else(|| panic!("the stream ended before {what}"));
            if let Some(picked) = event.event.and_then(&mut pick) {
                return picked;
            }
        }
    })
    .await
}

/// The code with which a login ends.
pub async fn down(events: &mut Streaming<v1::ConnectEvent>) -> u32 {
    next(events, "the end of the login", |event| match event {
        Event::RoomDown(down) => Some(down.code),
        _ => None,
    })
    .await
}

fn text(delta: &Delta) -> String {
    match delta {
        Delta::UserAdded(user) => format!("+{}", user.user),
        Delta::UserDeleted(user) => format!("-{}", user.user),
        Delta::StreamAdded(stream) => format!("+{} of {}", stream.stream, stream.user),
        Delta::StreamDeleted(stream) => format!("-{} of {}", stream.stream, stream.user),
    }
}

impl Client {
    /// Logs in with a secret that is the user's name.
    pub async fn login(server: &Server, user: &str) -> Self {
        Self::with(server, user, 1, login(user, &format!("secret of {user}").replace(' ', "-"))).await
    }

    pub async fn with(server: &Server, client: &str, connection: u64, login: v1::RoomLogin) -> Self {
        let session = v1::SessionRef { room: login.room.clone(), login_id: login.login_id.clone() };
        let mut events = connect(server, client, connection, vec![login]).await.unwrap();
        let mut nodes = Vec::new();
        let up = next(&mut events, "the room", |event| match event {
            Event::RoomUp(up) => Some(up),
            Event::RoomDown(down) => panic!("{down:?}"),
            Event::Nodes(list) => {
                nodes = list.nodes;
                None
            }
            _ => None,
        })
        .await;
        let rpc = server.rooms().await;
        Self { rpc, id: client.into(), connection, session, up, nodes, events, deltas: VecDeque::new() }
    }

    pub fn events(&mut self) -> &mut Streaming<v1::ConnectEvent> {
        &mut self.events
    }

    /// The nodes, once they are as wanted.
    pub async fn listed(&mut self, wanted: impl Fn(&[v1::Node]) -> bool) -> Vec<v1::Node> {
        if !wanted(&self.nodes) {
            self.nodes = next(&mut self.events, "a list of nodes", |event| match event {
                Event::Nodes(list) if wanted(&list.nodes) => Some(list.nodes),
                _ => None,
            })
            .await;
        }
        self.nodes.clone()
    }

    /// The next thing that the room tells.
    pub async fn told(&mut self) -> String {
        while self.deltas.is_empty() {
            let change = next(&mut self.events, "a change of the room", |event| match event {
                Event::RoomChange(change) => Some(change),
                Event::RoomDown(down) => panic!("{down:?}"),
                Event::Nodes(list) => {
                    self.nodes = list.nodes;
                    None
                }
                _ => None,
            });
            let change = change.await;
            self.deltas.extend(change.deltas.iter().filter_map(|delta| delta.delta.as_ref()).map(text));
        }
        self.deltas.pop_front().unwrap()
    }

    /// Nothing was told but that this user, who comes now, has come.
    pub async fn told_only_of(&mut self, server: &Server, fence: &str) {
        let fenced = Self::login(server, fence).await;
        assert_eq!(self.told().await, format!("+{fence}"));
        drop(fenced);
    }

    pub async fn beat(&mut self) -> Vec<String> {
        let request = v1::BeatRequest {
            client_id: self.id.clone(),
            connection: self.connection,
            sessions: vec![self.session.clone()],
        };
        soon("a beat", self.rpc.beat(request)).await.unwrap().into_inner().unknown_rooms
    }

    pub async fn plan_publish(&mut self, stream: &str) -> Result<v1::PlanPublishResponse, Status> {
        let request = v1::PlanPublishRequest {
            session: Some(self.session.clone()),
            stream: stream.into(),
            ..v1::PlanPublishRequest::default()
        };
        Ok(soon("a plan", self.rpc.plan_publish(request)).await?.into_inner())
    }

    pub async fn plan_play(&mut self, stream: &str) -> Result<v1::PlanPlayResponse, Status> {
        let request = v1::PlanPlayRequest {
            session: Some(self.session.clone()),
            stream: stream.into(),
            ..v1::PlanPlayRequest::default()
        };
        Ok(soon("a plan", self.rpc.plan_play(request)).await?.into_inner())
    }

    pub async fn end_stream(&mut self, stream: &str, epoch: u64) {
        let request =
            v1::EndStreamRequest { session: Some(self.session.clone()), stream: stream.into(), epoch };
        soon("the end of a stream", self.rpc.end_stream(request)).await.unwrap();
    }

    pub async fn logout(&mut self) {
        let request = v1::LogoutRequest { session: Some(self.session.clone()) };
        soon("a logout", self.rpc.logout(request)).await.unwrap();
    }
}

/// What a node token says, checked as a relay does it: with the keys of the welcome, and nothing else.
pub fn node_token(keys: &v1::SigningKeys, text: &str) -> NodeToken {
    let kid = decode_header(text).unwrap().kid.unwrap();
    let key = keys.keys.iter().find(|key| key.id == kid).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[NODE_TOKEN_AUDIENCE]);
    decode(text, &DecodingKey::from_ed_der(&key.public_key), &validation).unwrap().claims
}

/// The number of the error table that a status holds.
pub fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> u32 {
    let status = result.unwrap_err();
    waystation_proto::Refusal::from_status(&status).unwrap_or_else(|| panic!("{status:?}")).code.number()
}

/// A relay that beats, and carries nothing.
pub struct Relay {
    pub node: v1::NodeRef,
    say: mpsc::Sender<v1::RelayMessage>,
    hear: mpsc::Receiver<v1::coordinator_message::Message>,
    frozen: watch::Sender<bool>,
    driver: JoinHandle<()>,
}

fn join_token(id: &str, secret: &str) -> String {
    let claims = JoinToken { aud: JOIN_AUDIENCE.into(), node: NodeId::new(id).unwrap(), exp: unix_s() + 60 };
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

pub fn hello(n: u16, incarnation: u64) -> v1::AttachHello {
    let node = v1::Node {
        r#ref: Some(v1::NodeRef { id: format!("relay-{n}"), incarnation }),
        http_url: format!("http://127.0.0.1:{}", 20_000 + n),
        link_url: format!("http://127.0.0.1:{}", 21_000 + n),
        media_addr: format!("127.0.0.1:{}", 22_000 + n),
        ..v1::Node::default()
    };
    v1::AttachHello { node: Some(node), public_key: vec![7; 32], ..v1::AttachHello::default() }
}

impl Relay {
    pub async fn attach(server: &Server, n: u16) -> Self {
        Self::attach_with(server, hello(n, 1)).await
    }

    pub async fn attach_with(server: &Server, hello: v1::AttachHello) -> Self {
        Self::try_attach(server, hello, CLUSTER_SECRET).await.unwrap()
    }

    /// Attaches with a join token of that secret.
    pub async fn try_attach(server: &Server, hello: v1::AttachHello, secret: &str) -> Result<Self, Status> {
        let node = hello.node.as_ref().unwrap().r#ref.clone().unwrap();
        let (say, said) = mpsc::channel(64);
        say.send(v1::RelayMessage { message: Some(Said::Hello(hello)) }).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(said));
        let bearer = format!("Bearer {}", join_token(&node.id, secret));
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
        let mut client = NodeServiceClient::new(server.channel().await);
        let mut inbound = soon("an attachment", client.attach(request)).await?.into_inner();
        let (heard, hear) = mpsc::channel(1024);
        let beats = say.clone();
        let first = soon("a welcome", inbound.message()).await?;
        heard.send(first.and_then(|first| first.message).unwrap()).await.unwrap();
        let frozen = watch::Sender::new(false);
        let mut thawed = frozen.subscribe();
        let driver = tokio::spawn(async move {
            let mut beat = interval(Duration::from_millis(100));
            while thawed.wait_for(|&frozen| !frozen).await.is_ok() {
                tokio::select! {
                    message = inbound.message() => match message {
                        Ok(Some(message)) => {
                            let Some(message) = message.message else { continue };
                            if !matches!(message, v1::coordinator_message::Message::Beat(_)) {
                                // Whoever does not look does not care.
                                let _ = heard.try_send(message);
                            }
                        }
                        Ok(None) | Err(_) => return,
                    },
                    _ = beat.tick() => {
                        let beat = Said::Beat(v1::RelayBeat { sequence: 1, load: None });
                        if beats.send(v1::RelayMessage { message: Some(beat) }).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Self { node, say, hear, frozen, driver })
    }

    /// The keys of its welcome.
    pub async fn keys(&mut self) -> v1::SigningKeys {
        self.next("the welcome", |message| match message {
            v1::coordinator_message::Message::Welcome(welcome) => welcome.keys,
            _ => None,
        })
        .await
    }

    pub async fn say(&self, message: Said) {
        self.say.send(v1::RelayMessage { message: Some(message) }).await.unwrap();
    }

    /// Says something that only a newer version understands.
    pub async fn say_nothing_known(&self) {
        self.say.send(v1::RelayMessage { message: None }).await.unwrap();
    }

    /// The next message that `pick` wants.
    pub async fn next<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(v1::coordinator_message::Message) -> Option<T>,
    ) -> T {
        soon(what, async {
            loop {
                let message =
                    self.hear.recv().await.unwrap_or_else(|| panic!("the stream ended before {what}"));
                if let Some(picked) = pick(message) {
                    return picked;
                }
            }
        })
        .await
    }

    pub fn origin(client: &Client, stream: &str, claim: v1::Claim) -> v1::OriginUp {
        let user = client.up.users.iter().find(|user| user.session_id == client.up.session_id);
        let user = user.map_or_else(|| client.id.clone(), |user| user.user.clone());
        v1::OriginUp {
            stream: Some(v1::StreamRef { room: ROOM.into(), stream: stream.into() }),
            claim: Some(claim),
            user,
            session_id: client.up.session_id.clone(),
            plain: false,
        }
    }

    pub async fn origin_up(&self, client: &Client, stream: &str, claim: v1::Claim) {
        self.say(Said::OriginUp(Self::origin(client, stream, claim))).await;
    }

    pub async fn origin_down(&self, stream: &str, claim: v1::Claim) {
        let stream = v1::StreamRef { room: ROOM.into(), stream: stream.into() };
        self.say(Said::OriginDown(v1::OriginDown { stream: Some(stream), claim: Some(claim) })).await;
    }

    pub async fn users_heard(&self, client: &Client) {
        let user = v1::RoomUserSession {
            room: ROOM.into(),
            user: client.id.clone(),
            session_id: client.up.session_id.clone(),
        };
        self.say(Said::UsersHeard(v1::UsersHeard { users: vec![user] })).await;
    }

    /// The process dies.
    pub fn die(self) {
        self.driver.abort();
    }

    /// It stands still: its connection stays, and nothing comes over it.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }
}
