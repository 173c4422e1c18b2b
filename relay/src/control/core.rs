//! The control core: pure. Inputs go in with the time, outputs and the next deadline come out.
//!
//! Every input changes state and marks the streams that it touched; [`Core::handle`] then *settles* each of them
//! (`streams.rs`), which looks at the state alone and not at what led to it. So a late or repeated input, or a lost
//! one, meets the same decisions as any other.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use waystation_proto::{Claim, Node, NodeId, NodeRef, StreamKey, token::Action, v1};

use super::{
    FindError, Holder, OpenError, OpenPlay, OpenPublish, PeerOffer, Resource, StreamTracks,
    admission::Admission,
    announcements::Held,
    message::PeerMessage,
    peers::{Link, LinkUp, Peer},
    revocation::{Name, Revocation},
    sessions::Session,
    streams::{Floor, Stream},
};
use crate::plane::{Command, PlaneEvent, TransportId};

/// One link, established once and never again under the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(pub u64);

/// A request that waits for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestId(pub u64);

/// An event connection's interest in one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatchId(pub u64);

/// What happens to the core.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// Signalling looks for a stream.
    Find { request: RequestId, stream: StreamKey, hint: Option<NodeRef> },
    /// A WHIP session to be.
    OpenPublish { request: RequestId, open: Box<OpenPublish> },
    /// A WHEP session to be.
    OpenPlay { request: RequestId, open: Box<OpenPlay> },
    /// A client restarts ICE.
    RestartIce { request: RequestId, resource: Resource, remote_ufrag: String },
    /// Is there such a session?
    Lookup { request: RequestId, resource: Resource },
    /// A client ends its session.
    Close { request: RequestId, resource: Resource },
    /// An event connection wants to hear of a session.
    Watch { watch: WatchId, resource: Resource },
    /// An event connection is gone.
    Unwatch(WatchId),
    /// A client makes its session the active one.
    Activate { resource: Resource, claim: Claim },
    /// The agent attaches and wants to tell what is here.
    Holdings { request: RequestId },
    /// The data plane saw something.
    Plane(PlaneEvent),
    /// A link passed its handshake.
    LinkUp(LinkUp),
    /// A link is gone.
    LinkDown(LinkId),
    /// A peer's message.
    FromLink { link: LinkId, message: PeerMessage },
    /// A dial ended without a link.
    DialFailed(NodeRef),
    /// All known nodes, from a coordinator.
    Nodes(Vec<Node>),
    /// A login ended.
    Revoke(Revocation),
    /// The relay stops: end everything, take nothing more.
    Stop,
    /// A deadline passed.
    Time,
}

/// What the core wants done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Tell the data plane.
    Command(Command),
    /// Choose ICE credentials, open the client's transport, and answer the request.
    OpenClient(OpenClient),
    /// Choose new ICE credentials, tell the data plane, and answer the request.
    RestartIce { request: RequestId, transport: TransportId, remote_ufrag: String },
    /// Answer a request.
    Reply { request: RequestId, reply: Reply },
    /// Tell an event connection. `SessionClosed` is the last word of a watch.
    Event { watch: WatchId, event: v1::node_event::Event },
    /// Tell a peer.
    ToLink { link: LinkId, message: PeerMessage },
    /// Close a link.
    CloseLink(LinkId),
    /// Dial a peer.
    Dial { node: NodeRef, link_url: String },
    /// Tell the coordinator, if there is one.
    ToAgent(v1::relay_message::Message),
}

/// A session that was taken.
#[derive(Debug)]
pub(crate) struct OpenClient {
    /// Whom to answer.
    pub request: RequestId,
    /// The session's name.
    pub resource: Resource,
    /// Its transport.
    pub transport: TransportId,
    /// What the client's offer says.
    pub peer: PeerOffer,
    /// What it will publish or play.
    pub near: StreamKey,
}

/// Answers to requests.
#[derive(Debug)]
pub(crate) enum Reply {
    /// To `Find`.
    Found(Result<StreamTracks, FindError>),
    /// To `OpenPublish` and `OpenPlay`.
    Refused(OpenError),
    /// To `RestartIce`: there is no such session.
    NoSession,
    /// To `Lookup`.
    Session(Option<Holder>),
    /// To `Close`.
    Closed(bool),
    /// To `Holdings`.
    Holdings(Holdings),
}

/// What a coordinator hears at attach.
#[derive(Debug)]
pub(crate) struct Holdings {
    /// Streams whose publishers are here.
    pub origins: Vec<v1::OriginUp>,
    /// Users with live sessions.
    pub users: Vec<v1::RoomUserSession>,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// WHIP sessions.
    pub publishers: u32,
    /// WHEP sessions.
    pub players: u32,
    /// Streams with a source here.
    pub streams: u32,
    /// Streams taken from peers.
    pub subscriptions: u32,
    /// Streams given to peers.
    pub feeds: u32,
    /// Links that are up.
    pub links: u32,
    /// Streams being looked for.
    pub searches: u32,
    /// Announcements held for others.
    pub announcements: u32,
}

/// Whether new work is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Serving,
    Stopping,
}

/// What a deadline is about. One deadline each: what is due is read from the state when it fires.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Stream(StreamKey),
    Peer(NodeId),
    UsersHeard,
    Sweep,
}

/// Live users are reported this often.
const USERS_HEARD_EVERY: Duration = Duration::from_secs(5);
/// Most users in one report.
const USERS_PER_REPORT: usize = 500;
/// What is only remembered is looked through this often.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// The control core.
pub(crate) struct Core {
    pub(super) me: NodeRef,
    pub(super) life: Life,
    pub(super) admission: Admission,
    pub(super) rng: StdRng,
    next_id: u64,
    pub(super) sessions: BTreeMap<Resource, Session>,
    pub(super) transports: BTreeMap<TransportId, Resource>,
    pub(super) watches: BTreeMap<WatchId, Resource>,
    pub(super) streams: BTreeMap<StreamKey, Stream>,
    pub(super) floors: BTreeMap<StreamKey, Floor>,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    /// Our subscriptions at peers, tried or established.
    pub(super) subscriptions: BTreeMap<u64, StreamKey>,
    /// Our questions to peers.
    pub(super) questions: BTreeMap<u64, StreamKey>,
    /// Subscriptions of peers, waiting or established.
    pub(super) fed: BTreeMap<(LinkId, u64), StreamKey>,
    pub(super) held: BTreeMap<StreamKey, Held>,
    /// Links that asked for a stream lately, and until when they are told of it.
    pub(super) interest: BTreeMap<StreamKey, BTreeMap<LinkId, Instant>>,
    pub(super) revoked: BTreeMap<Name, Revocation>,
    touched: BTreeSet<StreamKey>,
    armed: BTreeMap<Timer, Instant>,
    due: BTreeSet<(Instant, Timer)>,
    outputs: VecDeque<Output>,
}

impl Core {
    /// A core that has nothing yet. Names of sessions come from the seed: outside tests it must be secret.
    pub(crate) fn new(me: NodeRef, admissions_per_second: u32, seed: [u8; 32], now: Instant) -> Self {
        let mut core = Self {
            me,
            life: Life::Serving,
            admission: Admission::new(admissions_per_second, now),
            rng: StdRng::from_seed(seed),
            next_id: 0,
            sessions: BTreeMap::new(),
            transports: BTreeMap::new(),
            watches: BTreeMap::new(),
            streams: BTreeMap::new(),
            floors: BTreeMap::new(),
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            nodes: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            questions: BTreeMap::new(),
            fed: BTreeMap::new(),
            held: BTreeMap::new(),
            interest: BTreeMap::new(),
            revoked: BTreeMap::new(),
            touched: BTreeSet::new(),
            armed: BTreeMap::new(),
            due: BTreeSet::new(),
            outputs: VecDeque::new(),
        };
        core.arm(Timer::UsersHeard, now + USERS_HEARD_EVERY);
        core.arm(Timer::Sweep, now + SWEEP_EVERY);
        core
    }

    /// Takes an input. Drain [`Self::poll_output`] afterwards.
    pub(crate) fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Find { request, stream, hint } => self.find(request, stream, hint, now),
            Input::OpenPublish { request, open } => self.open_publish(request, *open, now),
            Input::OpenPlay { request, open } => self.open_play(request, *open, now),
            Input::RestartIce { request, resource, remote_ufrag } => {
                self.restart_ice(request, &resource, remote_ufrag);
            }
            Input::Lookup { request, resource } => {
                let holder = self.sessions.get(&resource).map(Session::holder);
                self.reply(request, Reply::Session(holder));
            }
            Input::Close { request, resource } => {
                let known = self.end_by_client(&resource, now);
                self.reply(request, Reply::Closed(known));
            }
            Input::Watch { watch, resource } => self.watch(watch, resource),
            Input::Unwatch(watch) => self.unwatch(watch),
            Input::Activate { resource, claim } => self.activate(&resource, claim, now),
            Input::Holdings { request } => {
                let holdings = Holdings { origins: self.origins(), users: self.users() };
                self.reply(request, Reply::Holdings(holdings));
            }
            Input::Plane(event) => self.plane_event(event, now),
            Input::LinkUp(up) => self.link_up(up, now),
            Input::LinkDown(link) => self.link_down(link, now),
            Input::FromLink { link, message } => self.peer_says(link, message, now),
            Input::DialFailed(node) => self.dial_failed(&node, now),
            Input::Nodes(nodes) => self.take_nodes(nodes),
            Input::Revoke(revocation) => self.revoke(revocation, now),
            Input::Stop => self.stop(now),
            Input::Time => {}
        }
        self.fire_timers(now);
        self.settle_touched(now);
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to hand in [`Input::Time`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// How much there is of everything.
    pub(crate) fn counts(&self) -> Counts {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let publishers = self.sessions.values().filter(|s| s.action() == Action::Publish).count();
        let streams = self.streams.values();
        Counts {
            publishers: count(publishers),
            players: count(self.sessions.len() - publishers),
            streams: count(streams.clone().filter(|s| s.source.claim().is_some()).count()),
            subscriptions: count(streams.clone().filter(|s| s.source.upstream().is_some()).count()),
            feeds: count(streams.clone().map(|s| s.feeds.len()).sum()),
            links: count(self.links.len()),
            searches: count(streams.filter(|s| s.search.is_some()).count()),
            announcements: count(self.held.len()),
        }
    }

    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A name that nobody guesses: 128 random bits.
    pub(super) fn fresh_resource(&mut self) -> Resource {
        Resource(format!("{:032x}", self.rng.random::<u128>()).into())
    }

    pub(super) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn command(&mut self, command: Command) {
        self.output(Output::Command(command));
    }

    pub(super) fn reply(&mut self, request: RequestId, reply: Reply) {
        self.output(Output::Reply { request, reply });
    }

    pub(super) fn tell_peer(&mut self, link: LinkId, message: PeerMessage) {
        self.output(Output::ToLink { link, message });
    }

    /// Has a stream looked at before [`Self::handle`] returns.
    pub(super) fn touch(&mut self, stream: &StreamKey) {
        self.touched.insert(stream.clone());
    }

    /// Sets a deadline; an earlier one for the same thing stays, since whoever fires sets the next.
    pub(super) fn arm(&mut self, timer: Timer, at: Instant) {
        match self.armed.get(&timer) {
            Some(&armed) if armed <= at => return,
            Some(&armed) => {
                self.due.remove(&(armed, timer.clone()));
            }
            None => {}
        }
        self.armed.insert(timer.clone(), at);
        self.due.insert((at, timer));
    }

    fn fire_timers(&mut self, now: Instant) {
        while let Some((at, timer)) = self.due.pop_first() {
            if at > now {
                self.due.insert((at, timer));
                return;
            }
            self.armed.remove(&timer);
            match timer {
                Timer::Stream(stream) => self.touch(&stream),
                Timer::Peer(node) => self.peer_due(&node, now),
                Timer::UsersHeard => {
                    self.report_users();
                    self.arm(Timer::UsersHeard, now + USERS_HEARD_EVERY);
                }
                Timer::Sweep => {
                    self.sweep(now);
                    self.arm(Timer::Sweep, now + SWEEP_EVERY);
                }
            }
        }
    }

    /// Settling a stream may touch others (never itself for ever: each step uses something up).
    fn settle_touched(&mut self, now: Instant) {
        while let Some(stream) = self.touched.pop_first() {
            self.settle(&stream, now);
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.revoked.retain(|_, revocation| revocation.until > now);
        self.forget_announcements(now);
        self.forget_floors(now);
    }

    fn report_users(&mut self) {
        let users = self.users();
        for part in users.chunks(USERS_PER_REPORT) {
            let heard = v1::UsersHeard { users: part.to_vec() };
            self.output(Output::ToAgent(v1::relay_message::Message::UsersHeard(heard)));
        }
    }

    fn stop(&mut self, now: Instant) {
        self.life = Life::Stopping;
        let sessions: Vec<_> = self.sessions.keys().cloned().collect();
        for resource in sessions {
            self.end_session(&resource, 0, "this node is stopping", now);
        }
        self.fail_all_finds();
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in links {
            self.output(Output::CloseLink(link));
            self.link_gone(link, now);
        }
    }
}
