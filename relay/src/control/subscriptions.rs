//! Streams over links: those that we take from peers (upstreams) and those that we give them (feeds).
//!
//! Invariant: at most one established upstream per stream, for all players together. A feed exists only while its
//! stream has a source; when that is lost the peer is told and looks for itself.

use std::time::{Duration, Instant};

use waystation_proto::{Claim, NodeId, NodeRef, StreamKey};

use super::{
    TrackInfo,
    core::{Core, LinkId},
    message::{LinkTrack, MAX_HOPS, PeerMessage, backlog, travels},
    streams::{Source, Waiter},
};
use crate::plane::{Command, EgressStart, Kind, Play, PlayId, Publish, PublishId};

/// We unsubscribe this long after the last player left.
const LEAVE_AFTER: Duration = Duration::from_secs(5);
/// A peer's subscription waits this long for a stream that is not here yet; less than a find.
const PEER_WAITS: Duration = Duration::from_millis(500);
/// Most subscriptions of one peer.
const MAX_FEEDS_PER_LINK: usize = 4096;

/// A stream taken from a peer.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    /// Our subscription's id on the link.
    pub id: u64,
    pub link: LinkId,
    pub origin: NodeRef,
    pub publish: PublishId,
    pub claim: Claim,
    pub tracks: Vec<LinkTrack>,
    /// When it ends, while nobody wants it.
    pub leave_at: Option<Instant>,
}

/// A stream given to a peer.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    pub link: LinkId,
    /// The peer's subscription's id.
    pub id: u64,
    pub tracks: Vec<LinkTrack>,
}

/// What a peer grants.
struct Granted {
    claim: Claim,
    origin: NodeRef,
    tracks: Vec<LinkTrack>,
}

impl Core {
    pub(super) fn peer_says(&mut self, link: LinkId, message: PeerMessage, now: Instant) {
        let Some(peer) = self.links.get(&link).map(|link| link.node.clone()) else { return };
        match message {
            PeerMessage::Subscribe { id, stream, path } => {
                self.subscribe(link, &peer.id, id, stream, path, now);
            }
            PeerMessage::Subscribed { id, claim, origin, tracks } => {
                self.subscribed(link, id, Granted { claim, origin, tracks }, now);
            }
            PeerMessage::NotHere { id, .. } => {
                if let Some(stream) = self.subscriptions.get(&id).cloned() {
                    self.attempt_refused(&stream, id);
                }
            }
            PeerMessage::Unsubscribe { id } => self.unsubscribe(link, id),
            PeerMessage::Unpublished { id } => self.unpublished(link, id, now),
            PeerMessage::Announce { stream, claim, origin } => {
                self.announced(link, &peer, &stream, claim, origin, now);
            }
            PeerMessage::Withdraw { stream, claim } => self.withdrawn(&peer, &stream, claim),
            PeerMessage::Where { id, stream } => self.asked_where(link, id, stream, now),
            PeerMessage::Whereabouts { id, found } => self.told_where(id, found, now),
        }
    }

    fn subscribe(
        &mut self,
        link: LinkId,
        peer: &NodeId,
        id: u64,
        stream: StreamKey,
        path: Vec<NodeId>,
        now: Instant,
    ) {
        if self.fed.contains_key(&(link, id)) {
            return;
        }
        let fed = self.fed.range((link, 0)..=(link, u64::MAX)).count();
        let refused = if path.contains(&self.me.id) || self.is_trying(&stream, peer) {
            Some("the request went round in a loop")
        } else if path.last() != Some(peer) {
            Some("the path does not end at the node that asks")
        } else if path.len() > MAX_HOPS {
            Some("the request came over too many nodes")
        } else if fed >= MAX_FEEDS_PER_LINK || !self.serving() {
            Some("no more subscriptions are taken")
        } else {
            None
        };
        if let Some(reason) = refused {
            return self.tell_peer(link, PeerMessage::NotHere { id, reason: reason.to_owned() });
        }
        self.fed.insert((link, id), stream.clone());
        let deadline = now + PEER_WAITS;
        self.wait_for(&stream, Waiter::Peer { link, id, path, deadline }, now);
    }

    fn subscribed(&mut self, link: LinkId, id: u64, granted: Granted, now: Instant) {
        let Some(stream) = self.subscriptions.get(&id).cloned() else { return };
        let is_current = |core: &Self| {
            let source = core.streams.get(&stream).and_then(|entry| entry.source.upstream());
            source.is_some_and(|upstream| upstream.id == id && upstream.link == link)
        };
        let tried = self.attempt_granted(&stream, id, link);
        if !tried && !is_current(self) {
            return;
        }
        if self.floor(&stream).is_some_and(|floor| granted.claim < floor) {
            // An old claim: whoever has the newer one is still to be found.
            if tried {
                self.subscriptions.remove(&id);
                self.tell_peer(link, PeerMessage::Unsubscribe { id });
                self.touch(&stream);
            } else {
                self.leave_upstream(&stream, now);
            }
            return;
        }
        if tried {
            self.open_upstream(&stream, link, id, granted, now);
        } else {
            self.upstream_changed(&stream, granted, now);
        }
    }

    fn open_upstream(&mut self, stream: &StreamKey, link: LinkId, id: u64, granted: Granted, now: Instant) {
        let Granted { claim, origin, tracks } = granted;
        let publish = PublishId(self.fresh_id());
        self.publish_from_link(stream, link, publish, claim, &tracks);
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.source =
                Source::Peer(Upstream { id, link, origin, publish, claim, tracks, leave_at: None });
        }
        self.raise_floor(stream, claim, now);
        self.touch(stream);
    }

    fn publish_from_link(
        &mut self,
        stream: &StreamKey,
        link: LinkId,
        id: PublishId,
        claim: Claim,
        tracks: &[LinkTrack],
    ) {
        let Some(transport) = self.links.get(&link).map(|link| link.transport) else { return };
        let tracks = tracks.iter().map(LinkTrack::ingress).collect();
        self.command(Command::Publish(Publish { id, transport, stream: stream.clone(), tracks }));
        self.command(Command::Activate { publish: id, claim });
    }

    /// The publisher's session changed at the peer: another claim, perhaps other tracks.
    fn upstream_changed(&mut self, stream: &StreamKey, granted: Granted, now: Instant) {
        let Granted { claim, origin, tracks } = granted;
        let fresh = PublishId(self.fresh_id());
        let Some(Source::Peer(upstream)) = self.streams.get_mut(stream).map(|entry| &mut entry.source) else {
            return;
        };
        if claim < upstream.claim || (claim == upstream.claim && tracks == upstream.tracks) {
            return;
        }
        let (link, former) = (upstream.link, upstream.publish);
        let same_tracks = tracks == upstream.tracks;
        upstream.claim = claim;
        upstream.origin = origin;
        if same_tracks {
            self.command(Command::Activate { publish: former, claim });
        } else {
            upstream.tracks.clone_from(&tracks);
            upstream.publish = fresh;
            self.publish_from_link(stream, link, fresh, claim, &tracks);
            self.command(Command::Unpublish(former));
        }
        self.raise_floor(stream, claim, now);
        self.feeds_follow(stream);
        self.touch(stream);
    }

    fn unpublished(&mut self, link: LinkId, id: u64, now: Instant) {
        let Some(stream) = self.subscriptions.get(&id).cloned() else { return };
        let source = self.streams.get(&stream).and_then(|entry| entry.source.upstream());
        if source.is_some_and(|upstream| upstream.id == id && upstream.link == link) {
            self.lose_source(&stream, now);
        }
    }

    /// Takes the upstream out of the stream, if it is one, without a word to anybody.
    pub(super) fn release_upstream(&mut self, stream: &StreamKey) -> Option<Upstream> {
        let upstream = self.streams.get(stream)?.source.upstream()?.clone();
        self.tell_peer(upstream.link, PeerMessage::Unsubscribe { id: upstream.id });
        Some(upstream)
    }

    /// Ends what an upstream was to the data plane.
    pub(super) fn unpublish_upstream(&mut self, upstream: Option<Upstream>) {
        if let Some(upstream) = upstream {
            self.subscriptions.remove(&upstream.id);
            self.command(Command::Unpublish(upstream.publish));
        }
    }

    /// Unsubscribes.
    pub(super) fn leave_upstream(&mut self, stream: &StreamKey, now: Instant) {
        if self.release_upstream(stream).is_some() {
            self.lose_source(stream, now);
        }
    }

    pub(super) fn leave_idle_upstream(&mut self, stream: &StreamKey, now: Instant) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        let wanted = entry.is_wanted();
        let Source::Peer(upstream) = &mut entry.source else { return };
        if wanted {
            upstream.leave_at = None;
        } else if *upstream.leave_at.get_or_insert(now + LEAVE_AFTER) <= now {
            self.leave_upstream(stream, now);
        }
    }

    /// Gives the stream to a peer, now that it has a source.
    pub(super) fn open_feed(&mut self, stream: &StreamKey, link: LinkId, id: u64, path: &[NodeId]) {
        let Some(entry) = self.streams.get(stream) else { return };
        let (claim, origin) = match &entry.source {
            Source::Nowhere { .. } => return,
            Source::Here { claim, .. } => (*claim, self.me.clone()),
            Source::Peer(upstream) => (upstream.claim, upstream.origin.clone()),
        };
        let from = entry.source.upstream().and_then(|upstream| self.links.get(&upstream.link));
        if from.is_some_and(|from| path.contains(&from.node.id)) || path.contains(&origin.id) {
            self.fed.remove(&(link, id));
            let reason = "the request went round in a loop".to_owned();
            return self.tell_peer(link, PeerMessage::NotHere { id, reason });
        }
        let infos = entry.source.tracks().map(|tracks| tracks.tracks).unwrap_or_default();
        let Some(tracks) = self.feed_tracks(link, &infos) else { return };
        let play = PlayId(self.fresh_id());
        self.play_to_link(stream, link, play, &tracks);
        self.tell_peer(link, PeerMessage::Subscribed { id, claim, origin, tracks: tracks.clone() });
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.feeds.insert(play, Feed { link, id, tracks });
        }
    }

    fn play_to_link(&mut self, stream: &StreamKey, link: LinkId, id: PlayId, tracks: &[LinkTrack]) {
        let Some(transport) = self.links.get(&link).map(|link| link.transport) else { return };
        let tracks = tracks.iter().map(LinkTrack::egress).collect();
        let start = EgressStart::Passthrough;
        self.command(Command::Play(Play { id, transport, stream: stream.clone(), tracks, start }));
    }

    /// The tracks as they leave on a link: SSRCs of their own, never used again on it (RFC 7714 §8.1, one writer each).
    fn feed_tracks(&mut self, link: LinkId, infos: &[TrackInfo]) -> Option<Vec<LinkTrack>> {
        let link = self.links.get_mut(&link)?;
        let track = |info: &TrackInfo| {
            let (payload_type, rtx_payload_type) = match info.kind {
                Kind::Audio => (111, 112),
                Kind::Video => (96, 97),
            };
            let mut info = info.clone();
            info.extensions.retain(|extension| travels(extension.kind));
            if info.kind == Kind::Video {
                info.extensions.extend(backlog(&info.extensions));
            }
            let (ssrc, rtx_ssrc) = (link.fresh_ssrc(), link.fresh_ssrc());
            LinkTrack { info, payload_type, ssrc, rtx_payload_type, rtx_ssrc }
        };
        Some(infos.iter().map(track).collect())
    }

    /// Tells the peers that take a stream what its source is now.
    pub(super) fn feeds_follow(&mut self, stream: &StreamKey) {
        let Some(entry) = self.streams.get(stream) else { return };
        let (claim, origin) = match &entry.source {
            Source::Nowhere { .. } => return,
            Source::Here { claim, .. } => (*claim, self.me.clone()),
            Source::Peer(upstream) => (upstream.claim, upstream.origin.clone()),
        };
        let infos = entry.source.tracks().map(|tracks| tracks.tracks).unwrap_or_default();
        for (play, feed) in entry.feeds.clone() {
            let tracks = if same_infos(&feed.tracks, &infos) {
                feed.tracks
            } else {
                let Some(tracks) = self.feed_tracks(feed.link, &infos) else { continue };
                let fresh = PlayId(self.fresh_id());
                self.command(Command::Unplay(play));
                self.play_to_link(stream, feed.link, fresh, &tracks);
                if let Some(entry) = self.streams.get_mut(stream) {
                    entry.feeds.remove(&play);
                    entry.feeds.insert(fresh, Feed { link: feed.link, id: feed.id, tracks: tracks.clone() });
                }
                tracks
            };
            let origin = origin.clone();
            self.tell_peer(feed.link, PeerMessage::Subscribed { id: feed.id, claim, origin, tracks });
        }
    }

    /// The stream has no source: the peers that take it are told.
    pub(super) fn end_feeds(&mut self, stream: &StreamKey) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        for (play, feed) in std::mem::take(&mut entry.feeds) {
            self.fed.remove(&(feed.link, feed.id));
            self.command(Command::Unplay(play));
            self.tell_peer(feed.link, PeerMessage::Unpublished { id: feed.id });
        }
    }

    /// A link is gone: the data plane drops its plays with the transport.
    pub(super) fn end_feeds_on(&mut self, stream: &StreamKey, link: LinkId) {
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.feeds.retain(|_, feed| feed.link != link);
        }
    }

    fn unsubscribe(&mut self, link: LinkId, id: u64) {
        let Some(stream) = self.fed.remove(&(link, id)) else { return };
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.waiters.retain(|waiter| match waiter {
            Waiter::Door { .. } => true,
            Waiter::Peer { link: from, id: of, .. } => (*from, *of) != (link, id),
        });
        let play = entry.feeds.iter().find(|(_, feed)| (feed.link, feed.id) == (link, id)).map(|(id, _)| *id);
        if let Some(play) = play {
            entry.feeds.remove(&play);
            self.command(Command::Unplay(play));
        }
        self.touch(&stream);
    }
}

fn same_infos(tracks: &[LinkTrack], infos: &[TrackInfo]) -> bool {
    // What a link adds follows from the rest.
    let travelling = |info: &TrackInfo| {
        let mut info = info.clone();
        info.extensions.retain(|extension| travels(extension.kind));
        info
    };
    tracks.len() == infos.len()
        && tracks.iter().zip(infos).all(|(track, info)| travelling(&track.info) == travelling(info))
}
