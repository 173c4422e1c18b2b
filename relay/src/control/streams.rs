//! Streams: where each comes from, who takes it, and the one function that puts a stream in order.
//!
//! Invariant: a source's claim is never below the stream's floor, the highest claim heard of from anybody. So a
//! session, an announcement or a subscription of an older claim serves nobody (PUB-11).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use waystation_proto::{Claim, NodeId, NodeRef, StreamKey, v1, v1::relay_message::Message};

use super::{
    FindError, Resource, StreamTracks, TrackInfo,
    core::{Core, LinkId, Reply, RequestId, Timer},
    finding::Search,
    message::PeerMessage,
    subscriptions::{Feed, Upstream},
};
use crate::plane::{Command, PlayId, PublishId};

/// Most streams with a session, a subscription or a search.
const MAX_STREAMS: usize = 50_000;
/// Most requests that wait for one stream.
const MAX_WAITERS: usize = 4096;
/// Most floors remembered.
const MAX_FLOORS: usize = 100_000;
/// A floor outlives the last word of its stream by this: past the session time-out, nobody serves the old claim.
const FLOOR_KEPT: Duration = Duration::from_secs(30);
/// Players hear of a lost origin only after this: a publisher that moves is found again before.
const LOST_AFTER: Duration = Duration::from_millis(300);

/// A stream that somebody here has to do with.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub source: Source,
    pub search: Option<Search>,
    pub publishers: BTreeSet<Resource>,
    pub players: BTreeSet<Resource>,
    /// Peers that take it from us.
    pub feeds: BTreeMap<PlayId, Feed>,
    pub waiters: Vec<Waiter>,
    /// While it is ours: which nodes were told so, over which link.
    pub told: BTreeMap<NodeId, LinkId>,
}

/// Where a stream comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// From nowhere, since then.
    Nowhere { since: Instant },
    /// From a client's session here: this relay is its origin.
    Here { resource: Resource, publish: PublishId, claim: Claim, tracks: Vec<TrackInfo> },
    /// From a peer, by subscription.
    Peer(Upstream),
}

/// Who waits for a stream to be found.
#[derive(Clone, Debug)]
pub(super) enum Waiter {
    /// Signalling.
    Door { request: RequestId, deadline: Instant },
    /// A peer's subscription.
    Peer { link: LinkId, id: u64, path: Vec<NodeId>, deadline: Instant },
}

/// The highest claim heard of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    pub claim: Claim,
    heard: Instant,
}

impl Waiter {
    fn deadline(&self) -> Instant {
        match self {
            Self::Door { deadline, .. } | Self::Peer { deadline, .. } => *deadline,
        }
    }
}

impl Source {
    pub(super) fn claim(&self) -> Option<Claim> {
        match self {
            Self::Nowhere { .. } => None,
            Self::Here { claim, .. } => Some(*claim),
            Self::Peer(upstream) => Some(upstream.claim),
        }
    }

    pub(super) fn upstream(&self) -> Option<&Upstream> {
        match self {
            Self::Peer(upstream) => Some(upstream),
            Self::Nowhere { .. } | Self::Here { .. } => None,
        }
    }

    pub(super) fn here(&self) -> Option<&Resource> {
        match self {
            Self::Here { resource, .. } => Some(resource),
            Self::Nowhere { .. } | Self::Peer(_) => None,
        }
    }

    pub(super) fn is_lost(since: Instant, now: Instant) -> bool {
        now >= since + LOST_AFTER
    }

    /// What a player may get, if anything.
    pub(super) fn tracks(&self) -> Option<StreamTracks> {
        match self {
            Self::Nowhere { .. } => None,
            Self::Here { claim, tracks, .. } => Some(StreamTracks { claim: *claim, tracks: tracks.clone() }),
            Self::Peer(upstream) => {
                let tracks = upstream.tracks.iter().map(|track| track.info.clone()).collect();
                Some(StreamTracks { claim: upstream.claim, tracks })
            }
        }
    }
}

impl Stream {
    fn new(now: Instant) -> Self {
        Self {
            source: Source::Nowhere { since: now },
            search: None,
            publishers: BTreeSet::new(),
            players: BTreeSet::new(),
            feeds: BTreeMap::new(),
            waiters: Vec::new(),
            told: BTreeMap::new(),
        }
    }

    /// Whether anybody here would take it.
    pub(super) fn is_wanted(&self) -> bool {
        !(self.players.is_empty() && self.waiters.is_empty() && self.feeds.is_empty())
    }

    fn is_empty(&self) -> bool {
        matches!(self.source, Source::Nowhere { .. }) && self.publishers.is_empty() && !self.is_wanted()
    }

    /// When it must be looked at again by itself.
    fn due(&self, now: Instant) -> Option<Instant> {
        let waiters = self.waiters.iter().map(Waiter::deadline);
        let source = match &self.source {
            Source::Nowhere { since } => Some(*since + LOST_AFTER),
            Source::Here { .. } => None,
            Source::Peer(upstream) => upstream.leave_at,
        };
        let search = self.search.iter().flat_map(Search::due);
        waiters.chain(source).chain(search).filter(|at| *at > now).min()
    }
}

impl Core {
    pub(super) fn room_for_stream(&self, stream: &StreamKey) -> bool {
        self.streams.len() < MAX_STREAMS || self.streams.contains_key(stream)
    }

    pub(super) fn stream_mut(&mut self, stream: &StreamKey, now: Instant) -> &mut Stream {
        self.streams.entry(stream.clone()).or_insert_with(|| Stream::new(now))
    }

    /// Puts a stream in order: its source, who waits for it, the search for it, who is told of it.
    pub(super) fn settle(&mut self, stream: &StreamKey, now: Instant) {
        if !self.streams.contains_key(stream) {
            return;
        }
        self.choose_source(stream, now);
        self.answer_waiters(stream, now);
        self.leave_idle_upstream(stream, now);
        self.keep_search(stream, now);
        self.announce_to_meeting_nodes(stream, now);
        self.tell_phases(stream, now);
        let Some(entry) = self.streams.get(stream) else { return };
        if entry.is_empty() {
            self.streams.remove(stream);
        } else if let Some(at) = entry.due(now) {
            self.arm(Timer::Stream(stream.clone()), at);
        }
    }

    /// A client's session here is the source, if one is activated and up.
    fn choose_source(&mut self, stream: &StreamKey, now: Instant) {
        let Some((claim, best)) = self.best_publish(stream) else { return };
        let Some(entry) = self.streams.get(stream) else { return };
        let former = entry.source.here().cloned();
        if former.as_ref() == Some(&best) {
            return;
        }
        let Some((publish, tracks)) = self.publish_of(&best) else { return };
        let upstream = self.release_upstream(stream);
        if let Some(entry) = self.streams.get_mut(stream) {
            let tracks = tracks.tracks;
            entry.source = Source::Here { resource: best.clone(), publish, claim, tracks };
            entry.told.clear();
        }
        self.command(Command::Activate { publish, claim });
        self.unpublish_upstream(upstream);
        self.raise_floor(stream, claim, now);
        if let Some(former) = former {
            self.end_fenced(&former, claim, now);
        }
        self.origin_up(&best);
        self.feeds_follow(stream);
    }

    fn answer_waiters(&mut self, stream: &StreamKey, now: Instant) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        if let Some(tracks) = entry.source.tracks() {
            for waiter in std::mem::take(&mut entry.waiters) {
                match waiter {
                    Waiter::Door { request, .. } => self.reply(request, Reply::Found(Ok(tracks.clone()))),
                    Waiter::Peer { link, id, path, .. } => self.open_feed(stream, link, id, &path),
                }
            }
            return;
        }
        let (over, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut entry.waiters).into_iter().partition(|waiter| waiter.deadline() <= now);
        entry.waiters = waiting;
        for waiter in over {
            self.refuse_waiter(stream, waiter);
        }
    }

    pub(super) fn refuse_waiter(&mut self, stream: &StreamKey, waiter: Waiter) {
        match waiter {
            Waiter::Door { request, .. } => {
                self.reply(request, Reply::Found(Err(FindError::NotHere(stream.clone()))));
            }
            Waiter::Peer { link, id, .. } => {
                self.fed.remove(&(link, id));
                self.tell_peer(link, PeerMessage::NotHere { id, reason: "not here now".to_owned() });
            }
        }
    }

    pub(super) fn fail_all_finds(&mut self) {
        let keys: Vec<_> = self.streams.keys().cloned().collect();
        for stream in keys {
            let Some(entry) = self.streams.get_mut(&stream) else { continue };
            for waiter in std::mem::take(&mut entry.waiters) {
                match waiter {
                    Waiter::Door { request, .. } => {
                        self.reply(request, Reply::Found(Err(FindError::Stopping)));
                    }
                    Waiter::Peer { .. } => self.refuse_waiter(&stream, waiter),
                }
            }
            self.touch(&stream);
        }
    }

    /// Adds a waiter; refuses it when too many wait.
    pub(super) fn wait_for(&mut self, stream: &StreamKey, waiter: Waiter, now: Instant) {
        let full = self.streams.get(stream).is_some_and(|entry| entry.waiters.len() >= MAX_WAITERS);
        if full || !self.room_for_stream(stream) {
            return self.refuse_waiter(stream, waiter);
        }
        self.stream_mut(stream, now).waiters.push(waiter);
        self.touch(stream);
    }

    /// The stream has no source any more. Its players stay; peers that took it from us are told.
    pub(super) fn lose_source(&mut self, stream: &StreamKey, now: Instant) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        match std::mem::replace(&mut entry.source, Source::Nowhere { since: now }) {
            Source::Nowhere { since } => entry.source = Source::Nowhere { since },
            Source::Here { claim, .. } => self.withdraw_everywhere(stream, claim),
            Source::Peer(upstream) => self.unpublish_upstream(Some(upstream)),
        }
        self.end_feeds(stream);
        self.touch(stream);
    }

    fn withdraw_everywhere(&mut self, stream: &StreamKey, claim: Claim) {
        let told = self.streams.get_mut(stream).map(|entry| std::mem::take(&mut entry.told));
        for (_, link) in told.unwrap_or_default() {
            self.tell_peer(link, PeerMessage::Withdraw { stream: stream.clone(), claim });
        }
        let down = v1::OriginDown { stream: Some(stream.into()), claim: Some(claim.into()) };
        self.output(super::core::Output::ToAgent(Message::OriginDown(down)));
    }

    /// The highest claim heard of for a stream.
    pub(super) fn floor(&self, stream: &StreamKey) -> Option<Claim> {
        self.floors.get(stream).map(|floor| floor.claim)
    }

    /// Somebody has this claim: what is lower ends here.
    pub(super) fn raise_floor(&mut self, stream: &StreamKey, claim: Claim, now: Instant) {
        let known = self.floor(stream);
        if known.is_none() && self.floors.len() >= MAX_FLOORS && !self.streams.contains_key(stream) {
            return;
        }
        let claim = known.map_or(claim, |known| known.max(claim));
        self.floors.insert(stream.clone(), Floor { claim, heard: now });
        if known.is_some_and(|known| known == claim) {
            return;
        }
        self.fence(stream, claim, now);
        if self.held.get(stream).is_some_and(|held| held.claim < claim) {
            self.held.remove(stream);
        }
        let upstream = self.streams.get(stream).and_then(|entry| entry.source.upstream());
        if upstream.is_some_and(|upstream| upstream.claim < claim) {
            self.leave_upstream(stream, now);
        }
    }

    pub(super) fn forget_floors(&mut self, now: Instant) {
        let (streams, held) = (&self.streams, &self.held);
        self.floors.retain(|stream, floor| {
            now < floor.heard + FLOOR_KEPT || streams.contains_key(stream) || held.contains_key(stream)
        });
    }

    /// A link is gone, and with it what came and went over it.
    pub(super) fn streams_lose_link(&mut self, link: LinkId, now: Instant) {
        let keys: Vec<_> = self.streams.keys().cloned().collect();
        for stream in keys {
            let Some(entry) = self.streams.get_mut(&stream) else { continue };
            entry.told.retain(|_, told| *told != link);
            entry.waiters.retain(|waiter| match waiter {
                Waiter::Door { .. } => true,
                Waiter::Peer { link: from, .. } => *from != link,
            });
            if let Some(search) = &mut entry.search {
                let lost = search.lose_link(link);
                if let Some(id) = lost {
                    self.subscriptions.remove(&id);
                }
            }
            let source_lost = entry.source.upstream().is_some_and(|upstream| upstream.link == link);
            self.end_feeds_on(&stream, link);
            if source_lost {
                self.lose_source(&stream, now);
            }
            self.touch(&stream);
        }
        self.fed.retain(|(on, _), _| *on != link);
    }

    /// Signalling looks for a stream.
    pub(super) fn find(
        &mut self,
        request: RequestId,
        stream: StreamKey,
        hint: Option<NodeRef>,
        now: Instant,
    ) {
        if !self.serving() {
            return self.reply(request, Reply::Found(Err(FindError::Stopping)));
        }
        let deadline = now + super::finding::FIND_WITHIN;
        self.wait_for(&stream, Waiter::Door { request, deadline }, now);
        if let Some(hint) = hint {
            self.take_hint(&stream, hint, now);
        }
    }
}
