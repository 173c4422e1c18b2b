//! A cluster in memory: cores, links with delays between them, and a clock that jumps to the next event.
//!
//! The data plane is modelled by what it is told: a transport comes up when the test says so. All randomness comes
//! from a seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use waystation_proto::{
    Claim, Health, Load, Node, NodeId, NodeRef, RoomId, SessionId, StreamId, StreamKey, UserId,
    token::{Action, NODE_TOKEN_AUDIENCE, NodeToken},
    v1::{self, SessionPhase, node_event::Event},
};

use super::super::{
    BearerHash, FindError, Holder, OpenPlay, OpenPublish, PeerOffer, Resource, StreamTracks,
    core::{Core, Input, LinkId, Output, Reply, RequestId, WatchId},
    peers::{LinkKeys, LinkUp},
};
use crate::plane::{
    Codec, CodecSpec, Command, CongestionFeedback, DtlsRole, Fingerprint, IngressTrack, Kind, PlaneEvent,
    PublishId, TransportEnd, TransportId,
};

/// A relay of the cluster, by its number.
pub(super) type At = usize;

/// How long a frozen relay's peers wait before they give its links up.
const DEAD_AFTER: Duration = Duration::from_millis(800);

pub(super) struct Relay {
    pub core: Core,
    pub state: State,
    node: Node,
    /// What the data plane was told last, per publish.
    pub activated: BTreeMap<PublishId, (StreamKey, Claim)>,
    publishes: BTreeMap<PublishId, StreamKey>,
    pub found: BTreeMap<RequestId, Result<StreamTracks, FindError>>,
    pub opened: BTreeMap<RequestId, (Resource, TransportId)>,
    pub refused: BTreeMap<RequestId, super::super::OpenError>,
    pub events: BTreeMap<WatchId, Vec<Event>>,
    pub to_agent: Vec<v1::relay_message::Message>,
    late: Vec<Input>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Alive,
    Frozen,
    Dead,
}

enum Delivery {
    Input(At, Input),
    Dialled { from: At, to: At, node: NodeRef },
}

pub(super) struct Net {
    pub now: Instant,
    pub relays: Vec<Relay>,
    wire: BTreeMap<(Instant, u64), Delivery>,
    /// The other end of each link end.
    ends: BTreeMap<(At, LinkId), (At, LinkId)>,
    /// Nothing overtakes on a link.
    last: BTreeMap<(At, LinkId), Instant>,
    rng: StdRng,
    delay_ms: std::ops::Range<u64>,
    next: u64,
    pub messages: u64,
}

pub(super) fn stream(name: &str) -> StreamKey {
    StreamKey { room: RoomId::new("hall").unwrap(), stream: StreamId::new(name).unwrap() }
}

pub(super) fn claim(epoch: u64, moved: u32) -> Claim {
    Claim { epoch, moved }
}

pub(super) fn token(stream: &StreamKey, action: Action, epoch: u64) -> NodeToken {
    NodeToken {
        aud: NODE_TOKEN_AUDIENCE.into(),
        app: "app".into(),
        room: stream.room.clone(),
        user: UserId::new("ann").unwrap(),
        session: SessionId::new(&format!("login{epoch}")).unwrap(),
        stream: stream.stream.clone(),
        action,
        claim: (action == Action::Publish).then(|| Claim::of_epoch(epoch)),
        plain: false,
        iat: 1_000,
        exp: u64::MAX,
    }
}

/// Of a session whose client showed the token itself.
pub(super) fn holder(token: NodeToken) -> Holder {
    Holder { token, bearer: BearerHash([0; 32]) }
}

pub(super) fn peer_offer() -> PeerOffer {
    PeerOffer {
        remote_ufrag: "u".into(),
        fingerprint: Fingerprint::Sha256([0; 32]),
        role: DtlsRole::Client,
        beat: None,
    }
}

pub(super) fn track() -> IngressTrack {
    IngressTrack {
        kind: Kind::Video,
        mid: "0".into(),
        codec: CodecSpec { codec: Codec::Vp8, clock_rate: 90_000, channels: 0, fmtp: "".into() },
        payload_type: 96,
        rtx_payload_type: Some(97),
        ssrc: None,
        rtx_ssrc: None,
        extensions: Vec::new(),
        nack: true,
        pli: true,
        feedback: CongestionFeedback::Remb,
    }
}

fn keys() -> LinkKeys {
    LinkKeys { local_key: [0; 16], local_salt: [0; 12], remote_key: [0; 16], remote_salt: [0; 12] }
}

pub(super) fn node(number: At, incarnation: u64) -> Node {
    Node {
        node: NodeRef { id: NodeId::new(&format!("relay-{number}")).unwrap(), incarnation },
        http_url: format!("http://10.0.0.{number}:80"),
        link_url: format!("http://10.0.0.{number}:81"),
        media_addr: format!("10.0.0.{number}:7000").parse().unwrap(),
        region: String::new(),
        health: Health::Healthy,
        load: Load::default(),
    }
}

impl Relay {
    fn new(node: Node, seed: u8, now: Instant) -> Self {
        Self {
            core: Core::new(node.node.clone(), 1000, [seed; 32], now),
            state: State::Alive,
            node,
            activated: BTreeMap::new(),
            publishes: BTreeMap::new(),
            found: BTreeMap::new(),
            opened: BTreeMap::new(),
            refused: BTreeMap::new(),
            events: BTreeMap::new(),
            to_agent: Vec::new(),
            late: Vec::new(),
        }
    }

    /// The claim under which the data plane would forward a stream.
    pub(super) fn forwards(&self, stream: &StreamKey) -> Option<Claim> {
        self.activated.values().filter(|(of, _)| of == stream).map(|(_, claim)| *claim).max()
    }
}

impl Net {
    /// Relays that all know of each other: the list came while there was a coordinator.
    pub(super) fn new(count: usize, seed: u64) -> Self {
        let now = Instant::now();
        let relays = (0..count).map(|n| Relay::new(node(n, 1), u8::try_from(n).unwrap(), now)).collect();
        let mut net = Self {
            now,
            relays,
            wire: BTreeMap::new(),
            ends: BTreeMap::new(),
            last: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            delay_ms: 1..6,
            next: 0,
            messages: 0,
        };
        net.tell_nodes();
        net
    }

    pub(super) fn tell_nodes(&mut self) {
        let nodes: Vec<_> = self.relays.iter().map(|relay| relay.node.clone()).collect();
        for at in 0..self.relays.len() {
            self.input(at, Input::Nodes(nodes.clone()));
        }
    }

    pub(super) fn node(&self, at: At) -> NodeRef {
        self.relays[at].node.node.clone()
    }

    pub(super) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn input(&mut self, at: At, input: Input) {
        match self.relays[at].state {
            State::Dead => return,
            State::Frozen => return self.relays[at].late.push(input),
            State::Alive => {}
        }
        self.relays[at].core.handle(input, self.now);
        while let Some(output) = self.relays[at].core.poll_output() {
            self.perform(at, output);
        }
    }

    fn schedule(&mut self, at: Instant, delivery: Delivery) {
        let order = self.fresh();
        self.wire.insert((at, order), delivery);
    }

    fn delay(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(self.delay_ms.clone()))
    }

    fn perform(&mut self, at: At, output: Output) {
        match output {
            Output::Command(command) => self.command(at, command),
            Output::OpenClient(open) => {
                self.relays[at].opened.insert(open.request, (open.resource, open.transport));
            }
            Output::RestartIce { .. } => {}
            Output::Reply { request, reply } => match reply {
                Reply::Found(found) => drop(self.relays[at].found.insert(request, found)),
                Reply::Refused(error) => drop(self.relays[at].refused.insert(request, error)),
                Reply::NoSession | Reply::Session(_) | Reply::Closed(_) | Reply::Holdings(_) => {}
            },
            Output::Event { watch, event } => self.relays[at].events.entry(watch).or_default().push(event),
            Output::ToLink { link, message } => {
                self.messages += 1;
                let Some((to, their)) = self.ends.get(&(at, link)).copied() else { return };
                self.deliver(to, their, Input::FromLink { link: their, message });
            }
            Output::CloseLink(link) => self.cut(at, link),
            Output::Dial { node, .. } => {
                let to = self.relays.iter().position(|relay| relay.node.node.id == node.id).unwrap();
                let when = self.now + self.delay() * 2;
                self.schedule(when, Delivery::Dialled { from: at, to, node });
            }
            Output::ToAgent(message) => self.relays[at].to_agent.push(message),
        }
    }

    fn command(&mut self, at: At, command: Command) {
        let relay = &mut self.relays[at];
        match command {
            Command::Publish(publish) => drop(relay.publishes.insert(publish.id, publish.stream)),
            Command::Activate { publish, claim } => {
                let of = relay.publishes.get(&publish).expect("only a publish that exists is activated");
                relay.activated.insert(publish, (of.clone(), claim));
            }
            Command::Unpublish(publish) => {
                relay.publishes.remove(&publish);
                relay.activated.remove(&publish);
            }
            Command::CloseTransport(transport) => {
                relay.publishes.remove(&PublishId(transport.0));
                relay.activated.remove(&PublishId(transport.0));
            }
            Command::OpenClient(_)
            | Command::OpenLink(_)
            | Command::RestartIce { .. }
            | Command::Play(_)
            | Command::Unplay(_) => {}
        }
    }

    /// One after the other on each link.
    fn deliver(&mut self, to: At, link: LinkId, input: Input) {
        let when = self.now + self.delay();
        let when = self.last.get(&(to, link)).map_or(when, |last| when.max(*last));
        self.last.insert((to, link), when);
        self.schedule(when, Delivery::Input(to, input));
    }

    /// The network breaks a link: both ends hear of it.
    pub(super) fn break_link(&mut self, at: At, link: LinkId) {
        self.cut(at, link);
        self.deliver(at, link, Input::LinkDown(link));
    }

    /// One end closes a link: the other hears of it.
    fn cut(&mut self, at: At, link: LinkId) {
        let Some((to, their)) = self.ends.remove(&(at, link)) else { return };
        self.ends.remove(&(to, their));
        self.deliver(to, their, Input::LinkDown(their));
    }

    pub(super) fn links_of(&self, at: At) -> Vec<LinkId> {
        self.ends.keys().filter(|(of, _)| *of == at).map(|(_, link)| *link).collect()
    }

    fn dialled(&mut self, from: At, to: At, node: &NodeRef) {
        let taken = self.relays[to].state == State::Alive && self.relays[to].node.node == *node;
        if !taken || self.relays[from].state == State::Dead {
            return self.input(from, Input::DialFailed(node.clone()));
        }
        let (mine, theirs) = (LinkId(self.fresh()), LinkId(self.fresh()));
        self.ends.insert((from, mine), (to, theirs));
        self.ends.insert((to, theirs), (from, mine));
        let up = |link, other: &Node, dialled| {
            let (node, media_addr) = (other.node.clone(), other.media_addr);
            Input::LinkUp(LinkUp { link, node, dialled, media_addr, keys: keys() })
        };
        let (dialler, acceptor) = (self.relays[from].node.clone(), self.relays[to].node.clone());
        self.deliver(to, theirs, up(theirs, &dialler, false));
        self.deliver(from, mine, up(mine, &acceptor, true));
    }

    /// The process is gone: its links break at once.
    pub(super) fn kill(&mut self, at: At) {
        for link in self.links_of(at) {
            self.cut(at, link);
        }
        let relay = &mut self.relays[at];
        relay.state = State::Dead;
        relay.activated.clear();
        relay.publishes.clear();
    }

    /// A later life of the same node, empty.
    pub(super) fn restart(&mut self, at: At) {
        let incarnation = self.relays[at].node.node.incarnation + 1;
        let seed = u8::try_from(100 + self.relays.len()).unwrap();
        self.relays[at] = Relay::new(node(at, incarnation), seed, self.now);
        self.tell_nodes();
    }

    /// The process stands still: its peers give its links up after a while, it notices nothing until it goes on.
    pub(super) fn freeze(&mut self, at: At) {
        self.relays[at].state = State::Frozen;
        for link in self.links_of(at) {
            let Some((to, their)) = self.ends.remove(&(at, link)) else { continue };
            self.ends.remove(&(to, their));
            let when = self.now + DEAD_AFTER;
            self.schedule(when, Delivery::Input(to, Input::LinkDown(their)));
            self.schedule(when, Delivery::Input(at, Input::LinkDown(link)));
        }
    }

    pub(super) fn thaw(&mut self, at: At) {
        self.relays[at].state = State::Alive;
        for input in std::mem::take(&mut self.relays[at].late) {
            self.input(at, input);
        }
    }

    /// Lets time pass; `check` sees every moment.
    pub(super) fn run_checking(&mut self, time: Duration, check: impl Fn(&Self)) {
        let end = self.now + time;
        loop {
            let alive = |relay: &&Relay| relay.state == State::Alive;
            let timers = self.relays.iter().filter(alive).filter_map(|relay| relay.core.poll_timeout()).min();
            let wire = self.wire.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = timers.into_iter().chain(wire).min().filter(|next| *next <= end) else { break };
            self.now = next.max(self.now);
            if wire.is_some_and(|at| at <= self.now) {
                let (_, delivery) = self.wire.pop_first().unwrap();
                match delivery {
                    Delivery::Input(at, input) => self.input(at, input),
                    Delivery::Dialled { from, to, node } => self.dialled(from, to, &node),
                }
            } else {
                for at in 0..self.relays.len() {
                    if self.relays[at].state == State::Alive {
                        self.input(at, Input::Time);
                    }
                }
            }
            check(self);
        }
        self.now = end;
    }

    pub(super) fn run(&mut self, time: Duration) {
        self.run_checking(time, |_| {});
    }

    pub(super) fn find(&mut self, at: At, stream: &StreamKey, hint: Option<NodeRef>) -> RequestId {
        let request = RequestId(self.fresh());
        self.input(at, Input::Find { request, stream: stream.clone(), hint });
        request
    }

    /// Opens a WHIP session; `None`: refused.
    pub(super) fn publish(
        &mut self,
        at: At,
        stream: &StreamKey,
        epoch: u64,
        moved: Option<u32>,
    ) -> Option<Session> {
        let request = RequestId(self.fresh());
        let token = token(stream, Action::Publish, epoch);
        let open =
            OpenPublish { holder: holder(token), activate: moved, tracks: vec![track()], peer: peer_offer() };
        self.input(at, Input::OpenPublish { request, open: Box::new(open) });
        self.session(at, request)
    }

    pub(super) fn play(&mut self, at: At, stream: &StreamKey) -> Session {
        let request = RequestId(self.fresh());
        let token = token(stream, Action::Play, 0);
        let open = OpenPlay { holder: holder(token), tracks: Vec::new(), peer: peer_offer() };
        self.input(at, Input::OpenPlay { request, open: Box::new(open) });
        self.session(at, request).expect("a play is taken")
    }

    /// The session's transport comes up, and an event connection watches.
    fn session(&mut self, at: At, request: RequestId) -> Option<Session> {
        let (resource, transport) = self.relays[at].opened.get(&request)?.clone();
        let watch = WatchId(self.fresh());
        self.input(at, Input::Watch { watch, resource: resource.clone() });
        self.input(at, Input::Plane(PlaneEvent::TransportUp { transport, profile: "AEAD_AES_128_GCM" }));
        Some(Session { at, resource, transport, watch })
    }

    pub(super) fn lose_client(&mut self, session: &Session) {
        let event = PlaneEvent::TransportDown { transport: session.transport, why: TransportEnd::Silent };
        self.input(session.at, Input::Plane(event));
    }

    /// Phases that the session's client heard, and with which code it was ended.
    pub(super) fn heard(&self, session: &Session) -> (Vec<SessionPhase>, Option<u32>) {
        let events = self.relays[session.at].events.get(&session.watch);
        let mut phases = Vec::new();
        let mut closed = None;
        for event in events.into_iter().flatten() {
            match event {
                Event::State(state) => phases.push(state.phase()),
                Event::Closed(end) => closed = Some(end.code),
                Event::Welcome(_) | Event::Pong(_) => {}
            }
        }
        (phases, closed)
    }

    /// Relays, other than this one, that say where the stream is when asked.
    pub(super) fn holders(&self, stream: &StreamKey) -> BTreeSet<At> {
        let held = |at: &At| self.relays[*at].core.held.contains_key(stream);
        (0..self.relays.len()).filter(held).collect()
    }
}

/// A client's session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub at: At,
    pub resource: Resource,
    pub transport: TransportId,
    pub watch: WatchId,
}
