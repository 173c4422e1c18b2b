//! Sessions of clients: WHIP publishes and WHEP plays, each on a transport of its own.
//!
//! A publish becomes the source of its stream when it is activated *and* its transport is up: before that it could
//! only take the stream away from a session that works.

use std::{collections::BTreeSet, time::Instant};

use waystation_proto::{
    Claim, ErrorCode, RoomId, SessionId, StreamKey, UserId,
    token::{Action, NodeToken},
    v1::{self, SessionPhase, relay_message::Message},
};

use super::{
    BearerHash, Holder, OpenError, OpenPlay, OpenPublish, PeerOffer, Resource,
    core::{Core, Life, OpenClient, Output, Reply, RequestId, WatchId},
    streams::Source,
};
use super::{StreamTracks, TrackInfo};
use crate::plane::{
    Command, IngressTrack, PlaneEvent, Play, PlayId, Publish, PublishId, TransportEnd, TransportId,
};

/// Most sessions of clients at once.
const MAX_SESSIONS: usize = 20_000;

/// A client's session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub token: NodeToken,
    pub bearer: BearerHash,
    pub stream: StreamKey,
    pub transport: TransportId,
    pub carriage: Carriage,
    pub role: Role,
    pub watches: Vec<WatchId>,
    /// What its watches were told last.
    pub told: Option<(SessionPhase, Option<Claim>)>,
}

/// What a session's transport does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carriage {
    /// Not up yet.
    Connecting,
    /// Up, and no media passes.
    Quiet,
    /// Media passes.
    Flowing,
}

/// Which side of a stream a session is. The publish or play has the number of its transport: one session, one number.
#[derive(Clone, Debug)]
pub(super) enum Role {
    Publish { grant: Grant, tracks: Vec<TrackInfo> },
    Play,
}

/// Whether a publish may feed its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// Waits for its client's word.
    Standby,
    /// Under this claim.
    Active(Claim),
}

impl Session {
    pub(super) fn action(&self) -> Action {
        match self.role {
            Role::Publish { .. } => Action::Publish,
            Role::Play => Action::Play,
        }
    }

    pub(super) fn holder(&self) -> Holder {
        Holder { token: self.token.clone(), bearer: self.bearer }
    }

    /// The claim under which it is, or would be, active.
    fn epoch(&self) -> u64 {
        self.token.claim.unwrap_or_default().epoch
    }
}

fn stream_of(token: &NodeToken) -> StreamKey {
    StreamKey { room: token.room.clone(), stream: token.stream.clone() }
}

fn track_infos(tracks: &[IngressTrack]) -> Vec<TrackInfo> {
    tracks
        .iter()
        .map(|track| TrackInfo {
            kind: track.kind,
            codec: track.codec.clone(),
            extensions: track.extensions.clone(),
        })
        .collect()
}

impl Core {
    pub(super) fn serving(&self) -> bool {
        match self.life {
            Life::Serving => true,
            Life::Stopping => false,
        }
    }

    fn admit(&mut self, token: &NodeToken, now: Instant) -> Result<(), OpenError> {
        if !self.serving() {
            return Err(OpenError::Stopping);
        }
        if let Some(refusal) = self.revocation(token, now) {
            return Err(OpenError::Revoked(refusal));
        }
        if self.sessions.len() >= MAX_SESSIONS || !self.room_for_stream(&stream_of(token)) {
            return Err(OpenError::Full);
        }
        if self.admission.admit(now) { Ok(()) } else { Err(OpenError::Full) }
    }

    pub(super) fn open_publish(&mut self, request: RequestId, open: OpenPublish, now: Instant) {
        let stream = stream_of(&open.holder.token);
        let taken = open.holder.token.claim.unwrap_or_default();
        // A plain client knows no moves: its claim is the one that was exchanged for it.
        let grant = match open.activate {
            Some(moved) => Grant::Active(Claim { moved, ..taken }),
            None if open.holder.token.plain => Grant::Active(taken),
            None => Grant::Standby,
        };
        let fenced = self.floor(&stream).filter(|held| match grant {
            Grant::Active(offered) => offered < *held,
            Grant::Standby => taken.epoch < held.epoch,
        });
        let refused = match (fenced, grant) {
            (Some(held), Grant::Active(offered)) => {
                Err(OpenError::Fenced { stream: stream.clone(), held, offered })
            }
            (Some(held), Grant::Standby) => {
                Err(OpenError::Fenced { stream: stream.clone(), held, offered: taken })
            }
            (None, _) => self.admit(&open.holder.token, now),
        };
        if let Err(error) = refused {
            return self.reply(request, Reply::Refused(error));
        }
        let transport = TransportId(self.fresh_id());
        let role = Role::Publish { grant, tracks: track_infos(&open.tracks) };
        let resource = self.insert_session(request, open.holder, transport, role, open.peer);
        let id = PublishId(transport.0);
        self.command(Command::Publish(Publish {
            id,
            transport,
            stream: stream.clone(),
            tracks: open.tracks,
        }));
        self.stream_mut(&stream, now).publishers.insert(resource);
        self.touch(&stream);
    }

    pub(super) fn open_play(&mut self, request: RequestId, open: OpenPlay, now: Instant) {
        if let Err(error) = self.admit(&open.holder.token, now) {
            return self.reply(request, Reply::Refused(error));
        }
        let stream = stream_of(&open.holder.token);
        let transport = TransportId(self.fresh_id());
        let resource = self.insert_session(request, open.holder, transport, Role::Play, open.peer);
        self.command(Command::Play(Play {
            id: PlayId(transport.0),
            transport,
            stream: stream.clone(),
            tracks: open.tracks,
            start: crate::plane::EgressStart::Fresh,
        }));
        self.stream_mut(&stream, now).players.insert(resource);
        self.touch(&stream);
    }

    fn insert_session(
        &mut self,
        request: RequestId,
        holder: Holder,
        transport: TransportId,
        role: Role,
        peer: PeerOffer,
    ) -> Resource {
        let Holder { token, bearer } = holder;
        let resource = self.fresh_resource();
        let stream = stream_of(&token);
        let near = stream.clone();
        let session = Session {
            token,
            bearer,
            stream,
            transport,
            carriage: Carriage::Connecting,
            role,
            watches: Vec::new(),
            told: None,
        };
        self.sessions.insert(resource.clone(), session);
        self.transports.insert(transport, resource.clone());
        let named = resource.clone();
        self.output(Output::OpenClient(OpenClient { request, resource: named, transport, peer, near }));
        resource
    }

    pub(super) fn restart_ice(&mut self, request: RequestId, resource: &Resource, remote_ufrag: String) {
        match self.sessions.get(resource) {
            Some(session) => {
                let transport = session.transport;
                self.output(Output::RestartIce { request, transport, remote_ufrag });
            }
            None => self.reply(request, Reply::NoSession),
        }
    }

    /// `ActivateSession`: only the holder of the token's epoch may raise its move.
    pub(super) fn activate(&mut self, resource: &Resource, claim: Claim, now: Instant) {
        let Some(session) = self.sessions.get_mut(resource) else { return };
        let epoch = session.epoch();
        let stream = session.stream.clone();
        let Role::Publish { grant, .. } = &mut session.role else { return };
        let lower = matches!(grant, Grant::Active(active) if *active >= claim);
        if claim.epoch != epoch || lower {
            return;
        }
        *grant = Grant::Active(claim);
        if let Some(held) = self.floor(&stream).filter(|held| claim < *held) {
            return self.end_fenced(resource, held, now);
        }
        if let Some(Source::Here { resource: source, claim: sourced, publish, .. }) =
            self.streams.get_mut(&stream).map(|s| &mut s.source)
            && source == resource
        {
            *sourced = claim;
            let publish = *publish;
            self.command(Command::Activate { publish, claim });
            self.raise_floor(&stream, claim, now);
            self.origin_up(resource);
            self.announce_again(&stream);
            self.feeds_follow(&stream);
        }
        self.touch(&stream);
    }

    /// Ends a session that a higher claim has overtaken: by another session of the same holder, or by another holder.
    pub(super) fn end_fenced(&mut self, resource: &Resource, held: Claim, now: Instant) {
        let Some(session) = self.sessions.get(resource) else { return };
        if held.epoch > session.epoch() {
            let code = ErrorCode::StreamTaken;
            self.end_session(resource, code.number(), code.text(), now);
        } else {
            self.end_session(resource, 0, "moved: a newer session of this stream is active", now);
        }
    }

    pub(super) fn end_by_client(&mut self, resource: &Resource, now: Instant) -> bool {
        let known = self.sessions.contains_key(resource);
        self.end_session(resource, 0, "ended by its client", now);
        known
    }

    /// Ends a session and tells its watches.
    pub(super) fn end_session(&mut self, resource: &Resource, code: u32, reason: &str, now: Instant) {
        if let Some(session) = self.sessions.get(resource) {
            self.command(Command::CloseTransport(session.transport));
            self.session_gone(resource, code, reason, now);
        }
    }

    fn session_gone(&mut self, resource: &Resource, code: u32, reason: &str, now: Instant) {
        let Some(session) = self.sessions.remove(resource) else { return };
        self.transports.remove(&session.transport);
        self.tell_closed(resource, &session, code, reason);
        let stream = session.stream;
        if let Some(entry) = self.streams.get_mut(&stream) {
            entry.publishers.remove(resource);
            entry.players.remove(resource);
            if matches!(&entry.source, Source::Here { resource: source, .. } if source == resource) {
                self.lose_source(&stream, now);
            }
        }
        self.touch(&stream);
    }

    pub(super) fn plane_event(&mut self, event: PlaneEvent, now: Instant) {
        match event {
            PlaneEvent::TransportUp { transport, .. } => self.transport_up(transport, now),
            PlaneEvent::TransportDown { transport, why } => self.transport_down(transport, &why, now),
            PlaneEvent::PublishFlow { publish, flowing } => self.flow(TransportId(publish.0), flowing, now),
            PlaneEvent::PlayFlow { play, flowing } => self.flow(TransportId(play.0), flowing, now),
            // The plane follows our activations; it decides nothing that we would have to hear of.
            PlaneEvent::StreamSource { .. } => {}
        }
    }

    fn transport_up(&mut self, transport: TransportId, now: Instant) {
        let Some(resource) = self.transports.get(&transport).cloned() else { return };
        let Some(session) = self.sessions.get_mut(&resource) else { return };
        match session.carriage {
            Carriage::Connecting => session.carriage = Carriage::Quiet,
            Carriage::Quiet | Carriage::Flowing => {}
        }
        let stream = session.stream.clone();
        match session.role {
            Role::Publish { .. } => self.touch(&stream),
            Role::Play => self.tell_phase(&resource, now),
        }
    }

    /// Of one session alone: a stream with many players would otherwise tell all of them about each.
    fn flow(&mut self, transport: TransportId, flowing: bool, now: Instant) {
        let Some(resource) = self.transports.get(&transport).cloned() else { return };
        let Some(session) = self.sessions.get_mut(&resource) else { return };
        let before = session.carriage;
        session.carriage = match (before, flowing) {
            (_, true) => Carriage::Flowing,
            (Carriage::Connecting, false) => Carriage::Connecting,
            (Carriage::Quiet | Carriage::Flowing, false) => Carriage::Quiet,
        };
        let stream = session.stream.clone();
        if before == Carriage::Connecting {
            self.touch(&stream);
        }
        self.tell_phase(&resource, now);
    }

    fn transport_down(&mut self, transport: TransportId, why: &TransportEnd, now: Instant) {
        let reason = match why {
            TransportEnd::Closed => "closed",
            TransportEnd::ByPeer => "closed by the client",
            TransportEnd::Silent => "nothing was heard from the client",
            TransportEnd::Dtls(_) => "DTLS failed",
            TransportEnd::WrongFingerprint => "the client's certificate is not the one its SDP named",
        };
        if let Some(resource) = self.transports.get(&transport).cloned() {
            return self.session_gone(&resource, 0, reason, now);
        }
        // Its keys may not be used again: a new link brings new ones.
        let link = self.links.iter().find(|(_, link)| link.transport == transport).map(|(id, _)| *id);
        if let Some(link) = link {
            self.output(Output::CloseLink(link));
            self.link_down(link, now);
        }
    }

    /// The best activated publish here that is up and not fenced.
    pub(super) fn best_publish(&self, stream: &StreamKey) -> Option<(Claim, Resource)> {
        let floor = self.floor(stream).unwrap_or_default();
        let entry = self.streams.get(stream)?;
        let candidate = |resource: &Resource| {
            let session = self.sessions.get(resource)?;
            match (&session.role, session.carriage) {
                (Role::Publish { grant: Grant::Active(claim), .. }, Carriage::Quiet | Carriage::Flowing)
                    if *claim >= floor =>
                {
                    Some((*claim, session.transport, resource.clone()))
                }
                (Role::Publish { .. } | Role::Play, _) => None,
            }
        };
        // Of equal claims the later session: its client opened it because it lost the other.
        let best = entry.publishers.iter().filter_map(candidate).max()?;
        Some((best.0, best.2))
    }

    /// Where a session of ours feeds its stream.
    pub(super) fn publish_of(&self, resource: &Resource) -> Option<(PublishId, StreamTracks)> {
        let session = self.sessions.get(resource)?;
        match &session.role {
            Role::Publish { grant: Grant::Active(claim), tracks } => {
                let tracks = StreamTracks { claim: *claim, tracks: tracks.clone() };
                Some((PublishId(session.transport.0), tracks))
            }
            Role::Publish { .. } | Role::Play => None,
        }
    }

    /// Sessions of a stream that may not publish any more once this claim is known.
    pub(super) fn fence(&mut self, stream: &StreamKey, held: Claim, now: Instant) {
        let Some(entry) = self.streams.get(stream) else { return };
        let fenced = |resource: &&Resource| {
            self.sessions.get(*resource).is_some_and(|session| match &session.role {
                Role::Publish { grant: Grant::Active(claim), .. } => *claim < held,
                Role::Publish { grant: Grant::Standby, .. } => session.epoch() < held.epoch,
                Role::Play => false,
            })
        };
        let overtaken: Vec<_> = entry.publishers.iter().filter(fenced).cloned().collect();
        for resource in overtaken {
            self.end_fenced(&resource, held, now);
        }
    }

    fn origin_message(&self, resource: &Resource) -> Option<v1::OriginUp> {
        let session = self.sessions.get(resource)?;
        let (_, tracks) = self.publish_of(resource)?;
        Some(v1::OriginUp {
            stream: Some((&session.stream).into()),
            claim: Some(tracks.claim.into()),
            user: session.token.user.to_string(),
            session_id: session.token.session.to_string(),
            plain: session.token.plain,
        })
    }

    pub(super) fn origin_up(&mut self, resource: &Resource) {
        if let Some(message) = self.origin_message(resource) {
            self.output(Output::ToAgent(Message::OriginUp(message)));
        }
    }

    pub(super) fn origins(&self) -> Vec<v1::OriginUp> {
        let sources = self.streams.values().filter_map(|stream| stream.source.here());
        sources.filter_map(|resource| self.origin_message(resource)).collect()
    }

    /// Users with a live session here, each login once.
    pub(super) fn users(&self) -> Vec<v1::RoomUserSession> {
        let live = self.sessions.values().filter(|session| session.carriage != Carriage::Connecting);
        let names = live.map(|session| (&session.token.room, &session.token.user, &session.token.session));
        let users: BTreeSet<_> = names.collect();
        let wire = |(room, user, session): (&RoomId, &UserId, &SessionId)| v1::RoomUserSession {
            room: room.to_string(),
            user: user.to_string(),
            session_id: session.to_string(),
        };
        users.into_iter().map(wire).collect()
    }
}
