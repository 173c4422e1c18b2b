//! Peers: which nodes are known, which are in reach, and the one link to each.
//!
//! Invariant: at most one link per node id. Of two links to one life of a peer, the one dialled by the lower node id
//! stays; a later life's link replaces an earlier one's.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use waystation_proto::{MEETING_NODES, Node, NodeId, NodeRef, StreamKey, meeting_order, v1};

use super::core::{Core, LinkId, Output, Timer};
use crate::plane::{Command, LinkTransport, TransportId};

/// Most links at once.
const MAX_LINKS: usize = 1024;
/// Most nodes of a list.
const MAX_NODES: usize = 4096;
/// A dial that nobody reports on counts as failed then; the dialler gives up before.
const DIAL_LIMIT: Duration = Duration::from_secs(3);
/// First rest after a link broke or a dial failed; doubled each time.
const REST_FIRST: Duration = Duration::from_millis(200);
/// Longest rest.
const REST_MOST: Duration = Duration::from_secs(2);

/// A link that passed its handshake.
#[derive(Clone)]
pub(crate) struct LinkUp {
    /// The link.
    pub link: LinkId,
    /// Who is at its other end.
    pub node: NodeRef,
    /// Whether we dialled.
    pub dialled: bool,
    /// The peer's media port.
    pub media_addr: SocketAddr,
    /// SRTP keys.
    pub keys: LinkKeys,
}

/// SRTP master keys and salts of a link, from our side.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LinkKeys {
    pub local_key: [u8; 16],
    pub local_salt: [u8; 12],
    pub remote_key: [u8; 16],
    pub remote_salt: [u8; 12],
}

impl std::fmt::Debug for LinkUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkUp").field("link", &self.link).field("node", &self.node).finish_non_exhaustive()
    }
}

/// A link that is up.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub node: NodeRef,
    pub dialled: bool,
    pub transport: TransportId,
    next_ssrc: u32,
}

impl Link {
    /// An SSRC that this link's keys have not seen: counted up, from 1.
    pub(super) fn fresh_ssrc(&mut self) -> u32 {
        self.next_ssrc = self.next_ssrc.wrapping_add(1);
        self.next_ssrc
    }
}

/// Where we stand with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A dial is under way.
    Dialling { node: NodeRef, rests: u32, until: Instant, reason: Reason },
    /// The one link.
    Linked(LinkId),
    /// Out of reach lately: not asked before then.
    Resting { rests: u32, until: Instant },
}

/// Why a peer is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Some stream needs it.
    Need,
    /// Its link broke.
    Broken,
}

/// Whether a peer can be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Linked(LinkId),
    /// A dial is under way; a link or a failure follows.
    Soon,
    /// Not now.
    Not,
}

impl Core {
    /// A bad list keeps the last good one; one that differs in loads alone changes no decision.
    pub(super) fn take_nodes(&mut self, nodes: Vec<Node>) {
        if nodes.is_empty() {
            return;
        }
        let nodes: BTreeMap<_, _> =
            nodes.into_iter().take(MAX_NODES).map(|node| (node.node.id.clone(), node)).collect();
        let places = |nodes: &BTreeMap<NodeId, Node>| -> Vec<_> {
            nodes.values().map(|node| (node.node.clone(), node.link_url.clone())).collect()
        };
        let same = places(&nodes) == places(&self.nodes);
        self.nodes = nodes;
        if same {
            return;
        }
        let nodes = &self.nodes;
        self.peers.retain(|id, peer| matches!(peer, Peer::Linked(_)) || nodes.contains_key(id));
        self.held.retain(|_, held| {
            nodes.get(&held.origin.id).is_none_or(|node| node.node.incarnation <= held.origin.incarnation)
        });
        self.touch_all();
    }

    pub(super) fn touch_all(&mut self) {
        let streams: Vec<_> = self.streams.keys().cloned().collect();
        for stream in streams {
            self.touch(&stream);
        }
    }

    /// The first live nodes of a stream's meeting order, this one among them if it is one.
    pub(super) fn meeting_nodes(&self, stream: &StreamKey, now: Instant) -> Vec<NodeId> {
        let others = self.nodes.keys().filter(|id| **id != self.me.id);
        let order = meeting_order(stream, others.chain([&self.me.id]));
        let live = |id: &&NodeId| match self.peers.get(*id) {
            Some(Peer::Resting { until, .. }) => *until <= now,
            Some(Peer::Dialling { .. } | Peer::Linked(_)) | None => true,
        };
        order.into_iter().filter(live).take(MEETING_NODES).cloned().collect()
    }

    pub(super) fn linked(&self, node: &NodeId) -> Option<LinkId> {
        match self.peers.get(node) {
            Some(Peer::Linked(link)) => Some(*link),
            Some(Peer::Dialling { .. } | Peer::Resting { .. }) | None => None,
        }
    }

    /// The link to a peer; dials if there is none.
    pub(super) fn reach(&mut self, id: &NodeId, now: Instant) -> Reach {
        let rests = match self.peers.get(id) {
            Some(Peer::Linked(link)) => return Reach::Linked(*link),
            Some(Peer::Dialling { .. }) => return Reach::Soon,
            Some(Peer::Resting { until, .. }) if *until > now => return Reach::Not,
            Some(Peer::Resting { rests, .. }) => *rests,
            None => 0,
        };
        let Some(known) = self.nodes.get(id).filter(|_| *id != self.me.id) else { return Reach::Not };
        let (node, link_url) = (known.node.clone(), known.link_url.clone());
        let until = now + DIAL_LIMIT;
        self.peers
            .insert(id.clone(), Peer::Dialling { node: node.clone(), rests, until, reason: Reason::Need });
        self.arm(Timer::Peer(id.clone()), until);
        self.output(Output::Dial { node, link_url });
        Reach::Soon
    }

    pub(super) fn link_up(&mut self, up: LinkUp, now: Instant) {
        let id = up.node.id.clone();
        if id == self.me.id || self.links.contains_key(&up.link) || !self.serving() {
            return self.output(Output::CloseLink(up.link));
        }
        if let Some(old) = self.linked(&id) {
            if !self.replaces(&up, old) {
                return self.output(Output::CloseLink(up.link));
            }
            self.output(Output::CloseLink(old));
            self.link_gone(old, now);
        } else if self.links.len() >= MAX_LINKS {
            return self.output(Output::CloseLink(up.link));
        }
        let transport = TransportId(self.fresh_id());
        self.command(Command::OpenLink(LinkTransport {
            id: transport,
            peer: up.media_addr,
            local_key: up.keys.local_key,
            local_salt: up.keys.local_salt,
            remote_key: up.keys.remote_key,
            remote_salt: up.keys.remote_salt,
        }));
        self.links.insert(up.link, Link { node: up.node, dialled: up.dialled, transport, next_ssrc: 0 });
        self.peers.insert(id, Peer::Linked(up.link));
        self.touch_all();
    }

    /// Whether a new link to a peer takes the old one's place.
    fn replaces(&self, new: &LinkUp, old: LinkId) -> bool {
        let Some(old) = self.links.get(&old) else { return true };
        match new.node.incarnation.cmp(&old.node.incarnation) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            // The same side dialled twice: it did so because it lost the first.
            std::cmp::Ordering::Equal if new.dialled == old.dialled => true,
            std::cmp::Ordering::Equal => new.dialled == (self.me.id < new.node.id),
        }
    }

    /// A link broke without our doing: whether the peer lives shows when it is dialled again.
    pub(super) fn link_down(&mut self, link: LinkId, now: Instant) {
        let Some(node) = self.link_gone(link, now) else { return };
        if self.reach(&node.id, now) == Reach::Soon
            && let Some(Peer::Dialling { reason, .. }) = self.peers.get_mut(&node.id)
        {
            *reason = Reason::Broken;
        }
    }

    /// Forgets a link with all that was on it.
    pub(super) fn link_gone(&mut self, link: LinkId, now: Instant) -> Option<NodeRef> {
        let gone = self.links.remove(&link)?;
        if self.linked(&gone.node.id) == Some(link) {
            self.peers.remove(&gone.node.id);
        }
        self.command(Command::CloseTransport(gone.transport));
        self.streams_lose_link(link, now);
        self.announcements_lose_link(link, now);
        Some(gone.node)
    }

    pub(super) fn dial_failed(&mut self, node: &NodeRef, now: Instant) {
        match self.peers.get(&node.id) {
            Some(Peer::Dialling { node: dialled, .. }) if dialled == node => self.rest(&node.id, now),
            Some(Peer::Dialling { .. } | Peer::Linked(_) | Peer::Resting { .. }) | None => {}
        }
    }

    /// A dial led nowhere. A peer whose link had broken before is now suspect.
    fn rest(&mut self, id: &NodeId, now: Instant) {
        let Some(Peer::Dialling { node, rests, reason, .. }) = self.peers.get(id).cloned() else { return };
        let until = now + REST_FIRST.saturating_mul(1 << rests.min(8)).min(REST_MOST);
        self.peers.insert(id.clone(), Peer::Resting { rests: rests.saturating_add(1), until });
        self.arm(Timer::Peer(id.clone()), until);
        match reason {
            Reason::Need => {}
            Reason::Broken => {
                let suspect = v1::SuspectPeer { node: Some((&node).into()) };
                self.output(Output::ToAgent(v1::relay_message::Message::SuspectPeer(suspect)));
            }
        }
        self.touch_all();
    }

    pub(super) fn peer_due(&mut self, id: &NodeId, now: Instant) {
        match self.peers.get(id) {
            Some(Peer::Dialling { until, .. }) if *until <= now => self.rest(id, now),
            // Counts as in reach again until the contrary shows; whoever needs it dials.
            Some(Peer::Resting { until, .. }) if *until <= now => self.touch_all(),
            Some(Peer::Dialling { until, .. } | Peer::Resting { until, .. }) => {
                let until = *until;
                self.arm(Timer::Peer(id.clone()), until);
            }
            Some(Peer::Linked(_)) | None => {}
        }
    }
}
