//! Sessions at nodes: one peer connection and one WHIP or WHEP resource each, named by the attempt that made them.
//!
//! Invariant: a session that is closed, at whatever point of its setup, ends at the node too; what comes of it later
//! still carries its attempt, which the machines know to be old.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::{sync::mpsc, task::JoinSet};
use waystation_proto::{Node, NodeRef, StreamKey, token::Action};

use super::Happened;
use crate::{
    config::PlayConfig,
    http::{NodeHttp, OpenRequest, Opened, Resource},
    machine::{AttemptId, Failure},
    media::{Gap, RtpPacket},
    peer::{Direction, Peer, PeerError, PeerReport, Sinks},
    player::Inlet,
    publisher::Outlet,
};

/// The app's end of a session.
#[derive(Clone, Debug)]
pub(super) enum MediaEnd {
    /// A publisher's.
    Publish(Arc<Outlet>),
    /// A player's.
    Play(Arc<Inlet>, PlayConfig),
}

/// A session to open.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) attempt: AttemptId,
    pub(super) node: Node,
    pub(super) key: StreamKey,
    pub(super) token: String,
    /// Under this move a publish is the active one at once.
    pub(super) moved: Option<u32>,
    pub(super) media: MediaEnd,
}

#[derive(Debug)]
struct Session {
    key: StreamKey,
    node: NodeRef,
    peer: Peer,
    media: MediaEnd,
    resource: Option<Resource>,
    heard: Option<Instant>,
}

/// All sessions of an engine.
#[derive(Debug)]
pub(super) struct Sessions {
    http: NodeHttp,
    happened: mpsc::Sender<Happened>,
    open: BTreeMap<AttemptId, Session>,
    goodbyes: JoinSet<()>,
}

impl Sessions {
    pub(super) fn new(http: NodeHttp, happened: mpsc::Sender<Happened>) -> Self {
        Self { http, happened, open: BTreeMap::new(), goodbyes: JoinSet::new() }
    }

    /// Opens a session: the offer is posted at once, the answer goes to the peer connection.
    pub(super) fn dial(&mut self, dial: Dial) -> Result<(), PeerError> {
        let Dial { attempt, node, key, token, moved, media } = dial;
        let (direction, action) = match &media {
            MediaEnd::Publish(outlet) => (Direction::Publish(outlet.tracks()), Action::Publish),
            MediaEnd::Play(inlet, config) => {
                inlet.expect(attempt);
                let (audio, video) = (config.audio, config.video.clone());
                (Direction::Play { audio, video }, Action::Play)
            }
        };
        let sinks = self.sinks(attempt, &node.node, &media);
        let peer = Peer::start(&direction, node.media_addr, sinks)?;
        let offer = peer.offer().to_owned();
        let session =
            Session { key: key.clone(), node: node.node.clone(), peer, media, resource: None, heard: None };
        self.open.insert(attempt, session);
        let (http, happened) = (self.http.clone(), self.happened.clone());
        tokio::spawn(async move {
            let outcome = http.open(OpenRequest { node, action, stream: key, token, moved, offer }).await;
            // The engine is gone: its sessions time out at their nodes.
            let _ = happened.send(Happened::Opened(attempt, outcome)).await;
        });
        Ok(())
    }

    fn sinks(&self, attempt: AttemptId, node: &NodeRef, media: &MediaEnd) -> Sinks {
        let happened = self.happened.clone();
        let tell = move |what| {
            if happened.try_send(what).is_err() {
                tracing::warn!(?attempt, "a report of a session is lost: the engine is behind, or closed");
            }
        };
        let (told, end) = (tell.clone(), media.clone());
        let report = move |report| match (report, &end) {
            (PeerReport::KeyframeWanted, MediaEnd::Publish(outlet)) => outlet.want_keyframe(),
            (PeerReport::Nacked(count), MediaEnd::Play(inlet, _)) => inlet.nacked(count),
            (PeerReport::KeyframeWanted, MediaEnd::Play(..))
            | (PeerReport::Nacked(_), MediaEnd::Publish(_)) => {}
            (PeerReport::Up, _) => told(Happened::Up(attempt)),
            (PeerReport::BadAnswer(why), _) => told(Happened::Failed(attempt, Failure::Refused(why))),
            (PeerReport::Down, _) => told(Happened::Failed(attempt, Failure::Down)),
        };
        let (node, end) = (node.clone(), media.clone());
        let first = AtomicBool::new(true);
        let media = move |packet: RtpPacket, now: Instant| {
            let MediaEnd::Play(inlet, _) = &end else { return };
            if first.swap(false, Ordering::Relaxed) {
                tell(Happened::Media(attempt));
            }
            if let Some(gap) = inlet.packet(attempt, &node, packet, now) {
                tell(Happened::Gap(attempt, gap));
            }
        };
        Sinks { report: Box::new(report), media: Box::new(media) }
    }

    /// The node has taken the session. One that was closed meanwhile ends there. Returns the node, and the session's
    /// name there, if it is still wanted.
    pub(super) fn opened(&mut self, attempt: AttemptId, opened: Opened) -> Option<(NodeRef, String)> {
        let Some(session) = self.open.get_mut(&attempt) else {
            self.end(opened.resource);
            return None;
        };
        session.peer.answer(opened.answer);
        let name = opened.resource.session.clone();
        session.resource = Some(opened.resource);
        Some((session.node.clone(), name))
    }

    /// Media goes through this session from now on. Tells of the gap that this ended.
    pub(super) fn activate(&self, attempt: AttemptId) -> Option<Gap<NodeRef>> {
        let session = self.open.get(&attempt)?;
        match &session.media {
            MediaEnd::Publish(outlet) => {
                outlet.route_to(attempt, session.peer.packets());
                None
            }
            MediaEnd::Play(inlet, _) => inlet.use_session(attempt, &session.node),
        }
    }

    /// Ends a session, here and at the node.
    pub(super) fn close(&mut self, attempt: AttemptId) {
        let Some(session) = self.open.remove(&attempt) else { return };
        match &session.media {
            MediaEnd::Publish(outlet) => outlet.leave(attempt),
            MediaEnd::Play(inlet, _) => inlet.forget(attempt),
        }
        if let Some(resource) = session.resource {
            self.end(resource);
        }
    }

    fn end(&mut self, resource: Resource) {
        let http = self.http.clone();
        self.goodbyes.spawn(async move { http.close(resource).await });
        // Takes the finished ones out.
        while self.goodbyes.try_join_next().is_some() {}
    }

    /// Returns when every node was told of the sessions that ended.
    pub(super) async fn finish(&mut self) {
        while self.goodbyes.join_next().await.is_some() {}
    }

    /// Asks the node of this session for a keyframe.
    pub(super) fn request_keyframe(&self, attempt: AttemptId) {
        if let Some(session) = self.open.get(&attempt) {
            session.peer.request_keyframe();
        }
    }

    /// Sessions of which something was heard since the last call, and when.
    pub(super) fn heard(&mut self) -> Vec<(AttemptId, Instant)> {
        let fresh = |(attempt, session): (&AttemptId, &mut Session)| {
            let heard = session.peer.heard().filter(|_| session.peer.heard() != session.heard)?;
            session.heard = Some(heard);
            Some((*attempt, heard))
        };
        self.open.iter_mut().filter_map(fresh).collect()
    }

    /// The attempt behind a session's name at a node.
    pub(super) fn named(&self, node: &NodeRef, name: &str) -> Option<AttemptId> {
        let found = self.at(node).find(|(_, known)| *known == name);
        found.map(|(attempt, _)| attempt)
    }

    /// The sessions that a node has taken, with their names there.
    pub(super) fn at(&self, node: &NodeRef) -> impl Iterator<Item = (AttemptId, &str)> {
        let there = self.open.iter().filter(move |(_, session)| session.node == *node);
        there.filter_map(|(attempt, session)| Some((*attempt, session.resource.as_ref()?.session.as_str())))
    }

    /// Where an attempt's session is, and its name there.
    pub(super) fn place(&self, attempt: AttemptId) -> Option<(&NodeRef, &str)> {
        let session = self.open.get(&attempt)?;
        Some((&session.node, &session.resource.as_ref()?.session))
    }

    /// The stream of an attempt's session.
    pub(super) fn key(&self, attempt: AttemptId) -> Option<&StreamKey> {
        Some(&self.open.get(&attempt)?.key)
    }
}
