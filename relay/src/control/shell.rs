//! The task that drives the core: inputs from signalling, plane, links and agent go in one by one, outputs go out.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{RngExt as _, distr::Alphanumeric};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};
use waystation_proto::{
    StreamKey,
    v1::{self, node_event::Event},
};

use super::{
    FindError, Holder, OpenError, Opened, PeerMessage, SessionEvents, StreamTracks,
    core::{Core, Counts, Holdings, Input, LinkId, OpenClient, Output, Reply, RequestId, WatchId},
    door::Ask,
    metrics,
};
use crate::{
    agent::{AgentEvent, AgentHandle},
    link::{LinkEvent, LinkHandle, Links},
    plane::{ClientTransport, Command, IceCredentials, PlaneEvent, TransportId},
    worker::Plane,
};

/// Length of an ICE password: 32 characters hold 190 bits (RFC 8445 §5.3 asks for 128).
const ICE_PWD_CHARS: usize = 32;
/// Counts are published, and slow event connections tried again, this often.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

/// Where the inputs come from.
pub(crate) struct Sources {
    pub asks: mpsc::Receiver<Ask>,
    pub plane: mpsc::Receiver<PlaneEvent>,
    pub links: mpsc::Receiver<LinkEvent>,
    pub agent: mpsc::Receiver<AgentEvent>,
}

/// A request's way back.
enum Waiting {
    Find(oneshot::Sender<Result<StreamTracks, FindError>>),
    Open(oneshot::Sender<Result<Opened, OpenError>>),
    RestartIce(oneshot::Sender<Option<IceCredentials>>),
    Lookup(oneshot::Sender<Option<Holder>>),
    Close(oneshot::Sender<bool>),
    Holdings(oneshot::Sender<Holdings>),
}

/// An event connection that watches one session. What it has no room for now is kept, the newest only.
struct Watcher {
    to: SessionEvents,
    late: Option<v1::NodeEvent>,
    closed: bool,
}

/// The core with its ways out.
pub(crate) struct Shell {
    core: Core,
    plane: Plane,
    candidate: SocketAddr,
    links: Links,
    agent: AgentHandle,
    counts: watch::Sender<Counts>,
    open_links: BTreeMap<LinkId, LinkHandle>,
    waiting: BTreeMap<RequestId, Waiting>,
    watchers: BTreeMap<WatchId, Watcher>,
    next_id: u64,
}

impl Shell {
    pub(crate) fn new(
        core: Core,
        plane: Plane,
        candidate: SocketAddr,
        links: Links,
        agent: AgentHandle,
        counts: watch::Sender<Counts>,
    ) -> Self {
        Self {
            core,
            plane,
            candidate,
            links,
            agent,
            counts,
            open_links: BTreeMap::new(),
            waiting: BTreeMap::new(),
            watchers: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// Runs until `stop` fires, then ends every session and link in an orderly way.
    pub(crate) async fn run(mut self, mut sources: Sources, mut stop: oneshot::Receiver<()>) {
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.core.poll_timeout().unwrap_or_else(|| Instant::now() + HOUSEKEEPING);
            // Earlier lines first: a plane that tells of ends, and links that fence, before new work.
            let input = tokio::select! {
                biased;
                _ = &mut stop => break,
                _ = housekeeping.tick() => None,
                Some(event) = sources.plane.recv() => Some(Input::Plane(event)),
                Some(event) = sources.links.recv() => Some(self.link_event(event)),
                Some(event) = sources.agent.recv() => Some(self.agent_event(event)),
                Some(ask) = sources.asks.recv() => Some(self.ask(ask)),
                () = sleep_until(due.into()) => Some(Input::Time),
            };
            match input {
                Some(input) => self.step(input),
                None => self.housekeeping(),
            }
        }
        self.step(Input::Stop);
        self.housekeeping();
    }

    fn step(&mut self, input: Input) {
        let now = Instant::now();
        self.core.handle(input, now);
        loop {
            let mut broken = Vec::new();
            while let Some(output) = self.core.poll_output() {
                if let Some(link) = self.perform(output) {
                    broken.push(link);
                }
            }
            if broken.is_empty() {
                return;
            }
            for link in broken {
                self.core.handle(Input::LinkDown(link), now);
            }
        }
    }

    fn housekeeping(&mut self) {
        let counts = self.core.counts();
        metrics::record(counts);
        self.counts.send_replace(counts);
        let mut gone = Vec::new();
        for (id, watcher) in &mut self.watchers {
            watcher.flush();
            if watcher.to.is_closed() || (watcher.closed && watcher.late.is_none()) {
                gone.push(*id);
            }
        }
        for id in gone {
            self.watchers.remove(&id);
            self.step(Input::Unwatch(id));
        }
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn wait(&mut self, waiting: Waiting) -> RequestId {
        let request = RequestId(self.fresh_id());
        self.waiting.insert(request, waiting);
        request
    }

    fn ask(&mut self, ask: Ask) -> Input {
        match ask {
            Ask::Find { stream, hint, reply } => {
                Input::Find { request: self.wait(Waiting::Find(reply)), stream, hint }
            }
            Ask::OpenPublish { open, reply } => {
                Input::OpenPublish { request: self.wait(Waiting::Open(reply)), open }
            }
            Ask::OpenPlay { open, reply } => {
                Input::OpenPlay { request: self.wait(Waiting::Open(reply)), open }
            }
            Ask::RestartIce { resource, remote_ufrag, reply } => {
                Input::RestartIce { request: self.wait(Waiting::RestartIce(reply)), resource, remote_ufrag }
            }
            Ask::Lookup { resource, reply } => {
                Input::Lookup { request: self.wait(Waiting::Lookup(reply)), resource }
            }
            Ask::Close { resource, reply } => {
                Input::Close { request: self.wait(Waiting::Close(reply)), resource }
            }
            Ask::Watch { resource, to } => {
                let watch = WatchId(self.fresh_id());
                self.watchers.insert(watch, Watcher { to, late: None, closed: false });
                Input::Watch { watch, resource }
            }
            Ask::Activate { resource, claim } => Input::Activate { resource, claim },
        }
    }

    fn link_event(&mut self, event: LinkEvent) -> Input {
        match event {
            LinkEvent::Up(up, handle) => {
                self.open_links.insert(up.link, handle);
                Input::LinkUp(up)
            }
            LinkEvent::Message(link, message) => Input::FromLink { link, message },
            LinkEvent::Down(link) => {
                self.open_links.remove(&link);
                Input::LinkDown(link)
            }
            LinkEvent::DialFailed(node) => Input::DialFailed(node),
        }
    }

    fn agent_event(&mut self, event: AgentEvent) -> Input {
        match event {
            AgentEvent::Nodes(nodes) => Input::Nodes(nodes),
            AgentEvent::Revoke(revocation) => Input::Revoke(revocation),
            AgentEvent::Holdings(reply) => Input::Holdings { request: self.wait(Waiting::Holdings(reply)) },
        }
    }

    /// Does what the core wants; answers with a link that turned out to be of no use.
    fn perform(&mut self, output: Output) -> Option<LinkId> {
        match output {
            Output::Command(command) => self.plane.send(command),
            Output::OpenClient(open) => self.open_client(open),
            Output::RestartIce { request, transport, remote_ufrag } => {
                let ice = self.credentials(transport, None, remote_ufrag);
                self.plane.send(Command::RestartIce { transport, ice: ice.clone() });
                if let Some(Waiting::RestartIce(reply)) = self.waiting.remove(&request) {
                    let _ = reply.send(Some(ice));
                }
            }
            Output::Reply { request, reply } => self.reply(request, reply),
            Output::Event { watch, event } => self.tell(watch, event),
            Output::ToLink { link, message } => return self.tell_peer(link, message),
            Output::CloseLink(link) => {
                self.open_links.remove(&link);
            }
            Output::Dial { node, link_url } => self.links.dial(node, link_url),
            Output::ToAgent(message) => self.agent.send(message),
        }
        None
    }

    fn tell_peer(&mut self, link: LinkId, message: PeerMessage) -> Option<LinkId> {
        let sent = self.open_links.get(&link).is_some_and(|handle| handle.send(message));
        if sent {
            return None;
        }
        self.open_links.remove(&link);
        Some(link)
    }

    /// A client that went away meanwhile takes no answer; its session times out.
    fn reply(&mut self, request: RequestId, reply: Reply) {
        match (self.waiting.remove(&request), reply) {
            (Some(Waiting::Find(to)), Reply::Found(found)) => {
                metrics::found(&found);
                let _ = to.send(found);
            }
            (Some(Waiting::Open(to)), Reply::Refused(error)) => {
                metrics::refused(&error);
                let _ = to.send(Err(error));
            }
            (Some(Waiting::RestartIce(to)), Reply::NoSession) => drop(to.send(None)),
            (Some(Waiting::Lookup(to)), Reply::Session(holder)) => drop(to.send(holder)),
            (Some(Waiting::Close(to)), Reply::Closed(known)) => drop(to.send(known)),
            (Some(Waiting::Holdings(to)), Reply::Holdings(holdings)) => drop(to.send(holdings)),
            (waiting, _) => debug_assert!(waiting.is_none(), "a request was answered with another's reply"),
        }
    }

    fn credentials(
        &self,
        transport: TransportId,
        near: Option<&StreamKey>,
        remote_ufrag: String,
    ) -> IceCredentials {
        let local_pwd = rand::rng().sample_iter(Alphanumeric).take(ICE_PWD_CHARS).map(char::from).collect();
        IceCredentials { local_ufrag: self.plane.local_ufrag(transport, near), local_pwd, remote_ufrag }
    }

    fn open_client(&mut self, open: OpenClient) {
        let OpenClient { request, resource, transport, peer, near } = open;
        let ice = self.credentials(transport, Some(&near), peer.remote_ufrag);
        self.plane.send(Command::OpenClient(ClientTransport {
            id: transport,
            ice: ice.clone(),
            peer_fingerprint: peer.fingerprint,
            role: peer.role,
            beat: peer.beat,
            near: Some(near),
        }));
        let fingerprint = self.plane.fingerprint().to_owned();
        let opened = Opened { resource: resource.clone(), ice, candidate: self.candidate, fingerprint };
        let taken = match self.waiting.remove(&request) {
            Some(Waiting::Open(reply)) => reply.send(Ok(opened)).is_ok(),
            Some(_) | None => false,
        };
        if !taken {
            // Nobody knows the session's name, so nobody uses it: it ends by its time-out.
            tracing::debug!(?resource, "the client went away before its session was answered");
        }
    }

    fn tell(&mut self, watch: WatchId, event: Event) {
        let Some(watcher) = self.watchers.get_mut(&watch) else { return };
        watcher.closed |= matches!(event, Event::Closed(_));
        watcher.late = Some(v1::NodeEvent { event: Some(event) });
        watcher.flush();
    }
}

impl Watcher {
    fn flush(&mut self) {
        let Some(event) = self.late.take() else { return };
        match self.to.try_send(event) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(event)) => self.late = Some(event),
        }
    }
}
