//! The simulated cluster: a client's machines, coordinators and nodes under time that jumps from one happening to the next.
//!
//! Invariant: everything comes from the seed, so a seed that fails can be played again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use waystation_client::{
    Hedging,
    machine::{
        AttemptId, CallFailure, Client, ConnectionId, EventsLoss, Failure, Input, Login, Output, Phase, Plan,
        Revision, Settings, Snapshot, Told,
    },
};
use waystation_proto::{
    Claim, Health, Load, LoginId, Node, NodeId, NodeRef, RoomId, SessionId, StreamId, StreamKey,
    token::Action,
};

use crate::{faults::Fault, watch::Watch};

/// From a node's death to the coordinators' word that it is suspect, and to the list without it.
const SUSPECT_MS: u64 = 600;
const UNLISTED_MS: u64 = 10_000;
/// From one beat of a node to the next.
const BEAT_MS: u64 = 50;
/// Until a dial of the event connection to somebody who does not answer is given up.
const NO_ANSWER_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Up,
    Frozen,
    Dead,
}

/// A node of the world.
#[derive(Debug)]
pub struct SimNode {
    pub incarnation: u64,
    pub health: Life,
    /// Since when it has been up without a break.
    pub up_since_ms: u64,
    died_ms: u64,
}

/// A session that a node holds.
#[derive(Debug)]
struct Session {
    node: usize,
    incarnation: u64,
    action: Action,
    /// Whether the transport is up: then the node beats.
    up: bool,
}

#[derive(Debug)]
enum Happening {
    Fault(Fault),
    ToClient(Input),
    /// A message of the client reaches its end.
    AtCoordinator(usize, Output),
    AtNode(usize, Output),
    /// The transport of an attempt is set up.
    TransportUp(AttemptId),
    Beat,
    Republish(StreamKey, Action),
}

pub struct World {
    pub client: Client,
    pub watch: Watch,
    pub now_ms: u64,
    pub nodes: Vec<SimNode>,
    coordinators: Vec<bool>,
    pub online: bool,
    stream_there: bool,
    base: Instant,
    rng: StdRng,
    latency_ms: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    number: u64,
    sessions: BTreeMap<AttemptId, Session>,
    lines: BTreeSet<NodeRef>,
    connection: Option<(ConnectionId, usize)>,
    app_returns: bool,
}

pub fn room() -> RoomId {
    RoomId::new("hall").unwrap()
}

pub fn key(stream: &str) -> StreamKey {
    StreamKey { room: room(), stream: StreamId::new(stream).unwrap() }
}

fn url(coordinator: usize) -> String {
    format!("http://c{coordinator}")
}

fn coordinator_of(url: &str) -> usize {
    url.trim_start_matches("http://c").parse().unwrap()
}

impl World {
    /// `app_returns`: whether the app calls again after a final failure with a suggested wait.
    pub fn new(
        seed: u64,
        nodes: usize,
        coordinators: usize,
        av_retry_time: Duration,
        app_returns: bool,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(!seed);
        let settings = Settings {
            coordinators: (0..coordinators).map(url).collect(),
            seed,
            room_retry_time: Duration::from_secs(1_200),
            av_retry_time,
            max_rooms: 5,
            hedging: if rng.random_range(0..8) == 0 { Hedging::Off } else { Hedging::On },
        };
        let node = || SimNode { incarnation: 1, health: Life::Up, up_since_ms: 0, died_ms: 0 };
        let mut world = Self {
            client: Client::new(settings),
            watch: Watch::default(),
            now_ms: 0,
            nodes: (0..nodes).map(|_| node()).collect(),
            coordinators: vec![true; coordinators],
            online: true,
            stream_there: true,
            base: Instant::now(),
            latency_ms: [1, 10, 40, 80][rng.random_range(0..4)],
            rng,
            queue: BTreeMap::new(),
            number: 0,
            sessions: BTreeMap::new(),
            lines: BTreeSet::new(),
            connection: None,
            app_returns,
        };
        world.push(BEAT_MS, Happening::Beat);
        world
    }

    /// The app logs in, publishes a stream, and plays another.
    pub fn start(&mut self) {
        let login_id = LoginId::new("login-of-the-client").unwrap();
        let (room, user_token) = (room(), "user-token".into());
        self.handle(Input::Login { room, user_token, login_id, notify_users: false });
        self.handle(Input::Publish(key("cam")));
        self.handle(Input::Play(key("mic")));
    }

    pub fn script(&mut self, script: Vec<(u64, Fault)>) {
        for (at, fault) in script {
            self.push(at, Happening::Fault(fault));
        }
    }

    pub fn run_until(&mut self, end_ms: u64) {
        const MOST_AT_ONCE: u32 = 200;
        let mut at_once = 0;
        loop {
            let due = self.client.poll_timeout().map(|due| due.saturating_duration_since(self.base));
            let due_ms = due.map_or(u64::MAX, |due| u64::try_from(due.as_micros().div_ceil(1_000)).unwrap());
            let next_ms = self.queue.keys().next().map_or(u64::MAX, |(at, _)| *at);
            let then_ms = due_ms.min(next_ms).max(self.now_ms);
            if then_ms > end_ms {
                self.now_ms = end_ms;
                return;
            }
            at_once = if then_ms == self.now_ms { at_once + 1 } else { 0 };
            assert!(at_once < MOST_AT_ONCE, "nothing but wishes for the same time, at {then_ms} ms");
            self.now_ms = then_ms;
            if due_ms <= next_ms {
                self.handle(Input::Timeout);
            } else if let Some((_, happening)) = self.queue.pop_first() {
                self.happen(happening);
            }
        }
    }

    fn push(&mut self, at_ms: u64, happening: Happening) {
        self.number += 1;
        self.queue.insert((at_ms, self.number), happening);
    }

    fn after(&mut self, ms: u64, happening: Happening) {
        self.push(self.now_ms + ms, happening);
    }

    /// One way.
    fn latency(&mut self) -> u64 {
        self.latency_ms + self.rng.random_range(0..=self.latency_ms)
    }

    fn to_client(&mut self, input: Input) {
        let ms = self.latency();
        self.after(ms, Happening::ToClient(input));
    }

    fn handle(&mut self, input: Input) {
        let now = self.base + Duration::from_millis(self.now_ms);
        self.client.handle(input, now);
        while let Some(output) = self.client.poll_output() {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output) {
        let ms = self.latency();
        match &output {
            Output::Connect { url, .. }
            | Output::Login { url, .. }
            | Output::Beat { url, .. }
            | Output::Plan { url, .. } => {
                let coordinator = coordinator_of(url);
                self.after(ms, Happening::AtCoordinator(coordinator, output));
            }
            Output::Dial { node, .. } | Output::OpenEvents(node) => {
                let node = self.node_of(&node.node);
                self.after(ms, Happening::AtNode(node, output));
            }
            Output::Activate { attempt, .. } => {
                if let Some(session) = self.sessions.get(attempt) {
                    self.after(ms, Happening::AtNode(session.node, output));
                }
            }
            Output::Disconnect(connection) => {
                self.connection.take_if(|(open, _)| open == connection);
            }
            Output::Hang(attempt) => {
                self.sessions.remove(attempt);
            }
            Output::CloseEvents(node) => {
                self.lines.remove(node);
            }
            Output::Emit(event) => {
                let wait = self.watch.event(event, self.now_ms, &self.nodes, self.online);
                if let Some((key, action, wait_ms)) = wait.filter(|_| self.app_returns) {
                    self.after(wait_ms, Happening::Republish(key, action));
                }
            }
            Output::Logout { .. }
            | Output::RenewToken { .. }
            | Output::EndStream { .. }
            | Output::Report { .. }
            | Output::Use { .. } => {}
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Fault(fault) => self.fault(fault),
            Happening::ToClient(input) => {
                if self.online {
                    self.handle(input);
                } else if let Input::Told(connection, _) = input {
                    // The stream has a hole: it is broken.
                    self.after(NO_ANSWER_MS, Happening::ToClient(Input::ConnectionLost(connection)));
                }
            }
            Happening::AtCoordinator(coordinator, output) => self.at_coordinator(coordinator, output),
            Happening::AtNode(node, output) => self.at_node(node, output),
            Happening::TransportUp(attempt) => self.transport_up(attempt),
            Happening::Beat => self.beat(),
            Happening::Republish(key, Action::Publish) => self.handle(Input::Publish(key)),
            Happening::Republish(key, Action::Play) => self.handle(Input::Play(key)),
        }
    }

    fn node_of(&self, node: &NodeRef) -> usize {
        usize::from(node.id.as_str().as_bytes()[0] - b'a')
    }

    fn node_ref(&self, index: usize) -> NodeRef {
        let name = char::from(b'a' + u8::try_from(index).unwrap()).to_string();
        NodeRef { id: NodeId::new(&name).unwrap(), incarnation: self.nodes[index].incarnation }
    }

    fn listed(&self) -> Vec<Node> {
        let there = |index: &usize| {
            let node = &self.nodes[*index];
            node.health == Life::Up || self.now_ms < node.died_ms + UNLISTED_MS
        };
        let node = |index: usize| Node {
            node: self.node_ref(index),
            http_url: String::new(),
            link_url: String::new(),
            media_addr: "127.0.0.1:7000".parse().unwrap(),
            region: String::new(),
            health: match self.nodes[index].health {
                Life::Up => Health::Healthy,
                Life::Frozen | Life::Dead => Health::Suspect,
            },
            load: Load::default(),
        };
        (0..self.nodes.len()).filter(there).map(node).collect()
    }

    fn at_coordinator(&mut self, coordinator: usize, output: Output) {
        let alive = self.coordinators[coordinator];
        if !alive || !self.online {
            // A refusal comes back at once; without a network, nothing does.
            let refused = self.online;
            match output {
                Output::Connect { connection, .. } if refused => {
                    self.to_client(Input::ConnectionLost(connection))
                }
                Output::Beat { connection, .. } if refused => {
                    self.to_client(Input::BeatAnswered(connection, Err(CallFailure::Failed)));
                }
                Output::Plan { request, .. } if refused => {
                    self.to_client(Input::Planned(request, Err(CallFailure::Failed)));
                }
                _ => {}
            }
            return;
        }
        match output {
            Output::Connect { connection, logins, .. } => self.welcome(coordinator, connection, &logins),
            Output::Login { connection, login, .. } => self.room_up(connection, &login),
            Output::Beat { connection, .. } => {
                self.to_client(Input::BeatAnswered(connection, Ok(Vec::new())))
            }
            Output::Plan { request, action, .. } => {
                let claim = (action == Action::Publish).then_some(Claim { epoch: 1, moved: 0 });
                let token_valid = Duration::from_secs(3_600);
                let mut nodes = self.listed();
                nodes.sort_by_key(|node| node.health);
                let plan = Plan { claim, node_token: "node-token".into(), token_valid, nodes };
                self.to_client(Input::Planned(request, Ok(plan)));
            }
            other => unreachable!("no coordinator is asked for {other:?}"),
        }
    }

    fn welcome(&mut self, coordinator: usize, connection: ConnectionId, logins: &[Login]) {
        self.connection = Some((connection, coordinator));
        let coordinators = (0..self.coordinators.len()).map(url).collect();
        let welcome = Told::Welcome { coordinators, beat_interval: Duration::from_secs(5) };
        // In order, as on a stream.
        let ms = self.latency();
        self.after(ms, Happening::ToClient(Input::Told(connection, welcome)));
        let nodes = Told::Nodes(self.listed());
        self.after(ms, Happening::ToClient(Input::Told(connection, nodes)));
        for login in logins {
            self.room_up_after(ms, connection, login);
        }
    }

    fn room_up(&mut self, connection: ConnectionId, login: &Login) {
        let ms = self.latency();
        self.room_up_after(ms, connection, login);
    }

    fn room_up_after(&mut self, ms: u64, connection: ConnectionId, login: &Login) {
        let snapshot = Snapshot {
            session: SessionId::new("session-1").unwrap(),
            revision: Revision { store_id: "store".into(), number: 1 },
            users: BTreeSet::new(),
            streams: BTreeSet::new(),
        };
        let up = Told::RoomUp { room: login.room.clone(), snapshot };
        self.after(ms, Happening::ToClient(Input::Told(connection, up)));
    }

    /// What a coordinator tells over the open connection.
    fn tell(&mut self, told: Told) {
        if let Some((connection, coordinator)) = self.connection
            && self.coordinators[coordinator]
        {
            self.to_client(Input::Told(connection, told));
        }
    }

    fn at_node(&mut self, index: usize, output: Output) {
        let health = self.nodes[index].health;
        match output {
            Output::Dial { attempt, action, .. } => {
                if !self.online || health == Life::Frozen {
                    return;
                }
                if health == Life::Dead {
                    let failure = Failure::Unreachable("connection refused".into());
                    return self.to_client(Input::Failed(attempt, failure));
                }
                if action == Action::Play && !self.stream_there && self.rng.random_range(0..4) > 0 {
                    return self.to_client(Input::Failed(attempt, Failure::NotHere));
                }
                let incarnation = self.nodes[index].incarnation;
                self.sessions.insert(attempt, Session { node: index, incarnation, action, up: false });
                self.to_client(Input::Answered(attempt));
                let handshakes = 4 * self.latency();
                self.after(handshakes, Happening::TransportUp(attempt));
            }
            Output::OpenEvents(node) => {
                let asked = node.node;
                if !self.online || health == Life::Frozen {
                    let lost = Input::EventsLost(asked, EventsLoss::NoAnswer);
                    // The client's own clock gives up: no message is needed for that.
                    return self.after(NO_ANSWER_MS, Happening::ToClient(lost));
                }
                if health == Life::Dead {
                    return self.to_client(Input::EventsLost(asked, EventsLoss::Refused));
                }
                let life = self.node_ref(index);
                self.lines.insert(asked.clone());
                self.to_client(Input::EventsUp { node: asked, life });
            }
            Output::Activate { attempt, claim } if self.online && health == Life::Up => {
                if self.sessions.contains_key(&attempt) {
                    self.to_client(Input::Phase(attempt, Phase::Flowing, Some(claim)));
                }
            }
            _ => {}
        }
    }

    fn lives(&self, session: &Session) -> bool {
        let node = &self.nodes[session.node];
        self.online && node.health == Life::Up && node.incarnation == session.incarnation
    }

    fn transport_up(&mut self, attempt: AttemptId) {
        let Some(session) = self.sessions.get(&attempt) else { return };
        if !self.lives(session) {
            return;
        }
        let action = session.action;
        self.sessions.entry(attempt).and_modify(|session| session.up = true);
        let ms = self.latency();
        self.after(ms, Happening::ToClient(Input::Up(attempt)));
        if action == Action::Play && self.stream_there {
            self.after(ms, Happening::ToClient(Input::Media(attempt)));
        }
    }

    /// Every node that lives is heard in each of its sessions.
    fn beat(&mut self) {
        let up = |(attempt, session): (&AttemptId, &Session)| {
            (session.up && self.lives(session)).then_some((*attempt, session.action))
        };
        let heard: Vec<(AttemptId, Action)> = self.sessions.iter().filter_map(up).collect();
        for (attempt, action) in heard {
            let now = self.base + Duration::from_millis(self.now_ms);
            self.handle(Input::Heard(attempt, now));
            if action == Action::Play && self.stream_there {
                self.handle(Input::Media(attempt));
            }
        }
        self.after(BEAT_MS, Happening::Beat);
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(index) => self.kill(index),
            Fault::Start(index) => {
                if self.nodes[index].health == Life::Dead {
                    let node = &mut self.nodes[index];
                    node.incarnation += 1;
                    self.up(index);
                    self.tell(Told::Nodes(self.listed()));
                }
            }
            Fault::Freeze(index) => {
                if self.nodes[index].health == Life::Up {
                    self.down(index, Life::Frozen);
                }
            }
            Fault::Thaw(index) => {
                if self.nodes[index].health == Life::Frozen {
                    self.up(index);
                    self.tell(Told::Nodes(self.listed()));
                }
            }
            Fault::KillCoordinator(index) => {
                self.coordinators[index] = false;
                if let Some((connection, _)) = self.connection.take_if(|(_, at)| *at == index)
                    && self.online
                {
                    self.to_client(Input::ConnectionLost(connection));
                }
            }
            Fault::StartCoordinator(index) => self.coordinators[index] = true,
            Fault::Offline => {
                self.online = false;
            }
            Fault::Online => {
                self.watch.online_since_ms =
                    if self.online { self.watch.online_since_ms } else { self.now_ms };
                self.online = true;
            }
            Fault::StreamGone | Fault::StreamBack => self.stream(fault == Fault::StreamBack),
        }
    }

    /// The played stream loses or regains its origin: nodes say so in each of its sessions.
    fn stream(&mut self, there: bool) {
        self.stream_there = there;
        let phase = if there { Phase::Flowing } else { Phase::OriginLost };
        let plays =
            self.sessions.iter().filter(|(_, session)| session.action == Action::Play && self.lives(session));
        let plays: Vec<AttemptId> = plays.map(|(attempt, _)| *attempt).collect();
        for attempt in plays {
            self.to_client(Input::Phase(attempt, phase, None));
        }
    }

    fn up(&mut self, index: usize) {
        self.nodes[index].health = Life::Up;
        self.nodes[index].up_since_ms = self.now_ms;
    }

    fn down(&mut self, index: usize, health: Life) {
        self.nodes[index].health = health;
        self.nodes[index].died_ms = self.now_ms;
        let suspect = Told::Suspect(self.node_ref(index));
        if let Some((connection, coordinator)) = self.connection
            && self.coordinators[coordinator]
        {
            self.after(SUSPECT_MS, Happening::ToClient(Input::Told(connection, suspect)));
        }
    }

    fn kill(&mut self, index: usize) {
        if self.nodes[index].health == Life::Dead {
            return;
        }
        self.down(index, Life::Dead);
        let node = self.node_ref(index);
        self.sessions.retain(|_, session| session.node != index);
        let lines: Vec<NodeRef> = self.lines.iter().filter(|line| line.id == node.id).cloned().collect();
        for line in lines {
            self.lines.remove(&line);
            if self.online {
                self.to_client(Input::EventsLost(line, EventsLoss::Broken));
            }
        }
    }
}
