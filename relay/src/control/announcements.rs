//! Announcements: an origin tells the meeting nodes of its streams; a meeting node holds that for whoever asks.

use std::time::{Duration, Instant};

use waystation_proto::{Claim, NodeRef, StreamKey};

use super::{
    core::{Core, LinkId},
    message::PeerMessage,
    peers::Reach,
    streams::Source,
};

/// Most announcements held.
const MAX_HELD: usize = 100_000;
/// An announcement outlives its link by this: the origin may be in others' reach, and dials again if it lives.
const HELD_WITHOUT_LINK: Duration = Duration::from_secs(10);
/// Whoever asked for a stream is told of it unasked for this long.
const INTEREST_KEPT: Duration = Duration::from_secs(10);
/// Most streams with interest.
const MAX_INTERESTS: usize = 50_000;

/// An announcement held for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub origin: NodeRef,
    pub claim: Claim,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its origin's link is up.
    Linked(LinkId),
    /// Its origin's link is gone.
    Until(Instant),
}

impl Core {
    /// A peer says where a stream is: the origin itself, or a meeting node that was asked for it.
    pub(super) fn announced(
        &mut self,
        link: LinkId,
        peer: &NodeRef,
        stream: &StreamKey,
        claim: Claim,
        origin: NodeRef,
        now: Instant,
    ) {
        if self.floor(stream).is_some_and(|floor| claim < floor) {
            // The sender does not know that its stream has moved.
            if let Some((origin, claim)) = self.whereabouts(stream) {
                self.tell_peer(link, PeerMessage::Announce { stream: stream.clone(), claim, origin });
            }
            return;
        }
        self.raise_floor(stream, claim, now);
        if origin == *peer {
            let held = Held { origin: origin.clone(), claim, standing: Standing::Linked(link) };
            let known = self.held.contains_key(stream);
            if known || self.held.len() < MAX_HELD {
                let former = self.held.insert(stream.clone(), held);
                let news = former.is_none_or(|held| (held.claim, &held.origin) != (claim, &origin));
                if news {
                    self.tell_interested(stream, link, claim, &origin, now);
                }
            }
        }
        self.add_candidate(stream, origin, Some(claim));
    }

    pub(super) fn withdrawn(&mut self, peer: &NodeRef, stream: &StreamKey, claim: Claim) {
        if self.held.get(stream).is_some_and(|held| held.origin == *peer && held.claim <= claim) {
            self.held.remove(stream);
        }
    }

    /// What this node knows of a stream's place.
    fn whereabouts(&self, stream: &StreamKey) -> Option<(NodeRef, Claim)> {
        let source = self.streams.get(stream).and_then(|entry| match &entry.source {
            Source::Nowhere { .. } => None,
            Source::Here { claim, .. } => Some((self.me.clone(), *claim)),
            Source::Peer(upstream) => Some((upstream.origin.clone(), upstream.claim)),
        });
        source.or_else(|| self.held.get(stream).map(|held| (held.origin.clone(), held.claim)))
    }

    pub(super) fn asked_where(&mut self, link: LinkId, id: u64, stream: StreamKey, now: Instant) {
        let found = self.whereabouts(&stream);
        self.tell_peer(link, PeerMessage::Whereabouts { id, found });
        if self.interest.len() < MAX_INTERESTS || self.interest.contains_key(&stream) {
            self.interest.entry(stream).or_default().insert(link, now + INTEREST_KEPT);
        }
    }

    fn tell_interested(
        &mut self,
        stream: &StreamKey,
        from: LinkId,
        claim: Claim,
        origin: &NodeRef,
        now: Instant,
    ) {
        for (link, until) in self.interest.get(stream).cloned().unwrap_or_default() {
            if link != from && until > now {
                let origin = origin.clone();
                self.tell_peer(link, PeerMessage::Announce { stream: stream.clone(), claim, origin });
            }
        }
    }

    pub(super) fn told_where(&mut self, id: u64, found: Option<(NodeRef, Claim)>, now: Instant) {
        let Some(stream) = self.questions.get(&id).cloned() else { return };
        if let Some((origin, claim)) = found {
            self.raise_floor(&stream, claim, now);
            self.add_candidate(&stream, origin, Some(claim));
        }
    }

    /// While a stream is ours: whoever should know and was not told over the link of now is told. A publisher that
    /// moved is told of to every peer, since any of them may have players that wait for it.
    pub(super) fn announce_to_meeting_nodes(&mut self, stream: &StreamKey, now: Instant) {
        let Some(Source::Here { claim, .. }) = self.streams.get(stream).map(|entry| &entry.source) else {
            return;
        };
        let claim = *claim;
        let mut links = Vec::new();
        for node in self.meeting_nodes(stream, now) {
            if let Reach::Linked(link) = self.reach(&node, now) {
                links.push((node, link));
            }
        }
        if claim.moved > 0 {
            links.extend(self.links.iter().map(|(link, peer)| (peer.node.id.clone(), *link)));
        }
        for (node, link) in links {
            let Some(entry) = self.streams.get_mut(stream) else { return };
            if entry.told.insert(node, link) != Some(link) {
                let origin = self.me.clone();
                self.tell_peer(link, PeerMessage::Announce { stream: stream.clone(), claim, origin });
            }
        }
    }

    /// The claim changed: everybody is to be told anew.
    pub(super) fn announce_again(&mut self, stream: &StreamKey) {
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.told.clear();
        }
        self.touch(stream);
    }

    pub(super) fn announcements_lose_link(&mut self, link: LinkId, now: Instant) {
        for held in self.held.values_mut().filter(|held| held.standing == Standing::Linked(link)) {
            held.standing = Standing::Until(now + HELD_WITHOUT_LINK);
        }
        for links in self.interest.values_mut() {
            links.remove(&link);
        }
        self.interest.retain(|_, links| !links.is_empty());
    }

    pub(super) fn forget_announcements(&mut self, now: Instant) {
        self.held.retain(|_, held| match held.standing {
            Standing::Linked(_) => true,
            Standing::Until(until) => until > now,
        });
        for links in self.interest.values_mut() {
            links.retain(|_, until| *until > now);
        }
        self.interest.retain(|_, links| !links.is_empty());
    }
}
