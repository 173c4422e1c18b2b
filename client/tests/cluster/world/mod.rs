//! The simulated cluster: a client's machines, coordinators and nodes under time that jumps from one happening to the next.
//!
//! Invariant: everything comes from the seed, so a seed that fails can be played again.

mod answers;
mod troubles;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use waystation_client::{
    Hedging,
    machine::{AttemptId, Client, ConnectionId, Input, Login, Output, RequestId, Settings},
};
use waystation_proto::{
    Claim, Health, Load, LoginId, Node, NodeId, NodeRef, RoomId, StreamId, StreamKey, token::Action,
};

use crate::{faults::Fault, watch::Watch};

/// From a node's death to the list without it.
const UNLISTED_MS: u64 = 10_000;
/// From one beat of a node to the next.
const BEAT_MS: u64 = 50;
/// From a segment that did not come through to the next try (RFC 6298).
const AGAIN_MS: u64 = 1_000;
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

/// What a client asks of a coordinator.
#[derive(Debug)]
enum Call {
    Connect(ConnectionId, Vec<Login>),
    Login(ConnectionId, Login),
    Beat(ConnectionId),
    Plan(RequestId, Action),
}

/// What it asks of a node.
#[derive(Debug)]
enum Visit {
    Dial(AttemptId, Action),
    OpenEvents(NodeRef),
    Activate(AttemptId, Claim),
}

#[derive(Debug)]
enum Happening {
    Fault(Fault),
    /// Something comes over the network.
    Arrives(Input),
    /// The client's own shell says so.
    ToShell(Input),
    /// A message of the client reaches its end.
    AtCoordinator(usize, Call),
    AtNode(usize, Visit),
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
    busy: bool,
    late_ms: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    number: u64,
    /// Attempts that are not hung up.
    dialled: BTreeSet<AttemptId>,
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

fn node_of(node: &NodeRef) -> usize {
    usize::from(node.id.as_str().as_bytes()[0] - b'a')
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
            busy: seed.is_multiple_of(3),
            late_ms: 0,
            latency_ms: [1, 10, 40, 80][rng.random_range(0..4)],
            rng,
            queue: BTreeMap::new(),
            number: 0,
            dialled: BTreeSet::new(),
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
            let due_ms = due_ms.saturating_add(self.late_ms);
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
                self.late_ms = self.lateness();
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

    /// How late the next timer is: on a busy computer a little, or very.
    fn lateness(&mut self) -> u64 {
        match self.rng.random_range(0..200) {
            _ if !self.busy => 0,
            0 => self.rng.random_range(100..2_500),
            _ => self.rng.random_range(0..20),
        }
    }

    /// One way.
    fn latency(&mut self) -> u64 {
        self.latency_ms + self.rng.random_range(0..=self.latency_ms)
    }

    fn send(&mut self, input: Input) {
        let ms = self.latency();
        self.after(ms, Happening::Arrives(input));
    }

    fn handle(&mut self, input: Input) {
        let now = self.base + Duration::from_millis(self.now_ms);
        self.client.handle(input, now);
        while let Some(output) = self.client.poll_output() {
            self.output(output);
        }
    }

    fn call(&mut self, url: &str, call: Call) {
        let ms = self.latency();
        self.after(ms, Happening::AtCoordinator(coordinator_of(url), call));
    }

    fn visit(&mut self, node: usize, visit: Visit) {
        let ms = self.latency();
        self.after(ms, Happening::AtNode(node, visit));
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Connect { connection, url, logins } => self.call(&url, Call::Connect(connection, logins)),
            Output::Login { connection, url, login } => self.call(&url, Call::Login(connection, login)),
            Output::Beat { connection, url, .. } => self.call(&url, Call::Beat(connection)),
            Output::Plan { request, url, action, .. } => self.call(&url, Call::Plan(request, action)),
            Output::Dial { attempt, node, action, .. } => {
                self.dialled.insert(attempt);
                self.visit(node_of(&node.node), Visit::Dial(attempt, action));
            }
            Output::OpenEvents(node) => self.visit(node_of(&node.node), Visit::OpenEvents(node.node)),
            Output::Activate { attempt, claim } => {
                if let Some(session) = self.sessions.get(&attempt) {
                    self.visit(session.node, Visit::Activate(attempt, claim));
                }
            }
            Output::Disconnect(connection) => {
                self.connection.take_if(|(open, _)| *open == connection);
            }
            Output::Hang(attempt) => {
                self.dialled.remove(&attempt);
                self.sessions.remove(&attempt);
            }
            Output::CloseEvents(node) => {
                self.lines.remove(&node);
            }
            Output::Emit(event) => {
                let wait = self.watch.event(&event, self.now_ms, &self.nodes, self.online);
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
            Happening::Arrives(input) if self.online => self.handle(input),
            // A stream with a hole is broken.
            Happening::Arrives(Input::Told(connection, _)) => {
                self.after(NO_ANSWER_MS, Happening::ToShell(Input::ConnectionLost(connection)));
            }
            Happening::Arrives(input) => self.after(AGAIN_MS, Happening::Arrives(input)),
            Happening::ToShell(input) => self.handle(input),
            Happening::AtCoordinator(coordinator, call) => self.at_coordinator(coordinator, call),
            Happening::AtNode(node, visit) => self.at_node(node, visit),
            Happening::TransportUp(attempt) => self.transport_up(attempt),
            Happening::Beat => self.beat(),
            Happening::Republish(key, Action::Publish) => self.handle(Input::Publish(key)),
            Happening::Republish(key, Action::Play) => self.handle(Input::Play(key)),
        }
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
}
