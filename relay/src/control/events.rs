//! What event connections hear of sessions: the phase, now and at each change, and the end.

use std::time::Instant;

use waystation_proto::{
    Claim, StreamKey,
    v1::{self, SessionPhase, node_event::Event},
};

use super::{
    Resource,
    core::{Core, Output, WatchId},
    sessions::{Carriage, Grant, Role, Session},
    streams::Source,
};

/// Most event connections of one session: a client has one, and for a moment two while it dials again.
const MAX_WATCHES: usize = 4;

impl Core {
    pub(super) fn watch(&mut self, watch: WatchId, resource: Resource) {
        let state = self.sessions.get(&resource).and_then(|session| session.told);
        let Some(session) = self.sessions.get_mut(&resource) else {
            return self.tell(watch, closed(&resource, 0, "there is no such session"));
        };
        if session.watches.len() >= MAX_WATCHES {
            let oldest = session.watches.remove(0);
            self.watches.remove(&oldest);
        }
        if let Some(session) = self.sessions.get_mut(&resource) {
            session.watches.push(watch);
        }
        self.watches.insert(watch, resource.clone());
        if let Some((phase, claim)) = state {
            self.tell(watch, state_event(&resource, phase, claim));
        }
    }

    pub(super) fn unwatch(&mut self, watch: WatchId) {
        let Some(resource) = self.watches.remove(&watch) else { return };
        if let Some(session) = self.sessions.get_mut(&resource) {
            session.watches.retain(|other| *other != watch);
        }
    }

    pub(super) fn tell_closed(&mut self, resource: &Resource, session: &Session, code: u32, reason: &str) {
        for watch in &session.watches {
            self.watches.remove(watch);
            self.tell(*watch, closed(resource, code, reason));
        }
    }

    fn tell(&mut self, watch: WatchId, event: Event) {
        self.output(Output::Event { watch, event });
    }

    /// Tells the sessions of a stream what changed for them.
    pub(super) fn tell_phases(&mut self, stream: &StreamKey, now: Instant) {
        let Some(entry) = self.streams.get(stream) else { return };
        let sessions: Vec<_> = entry.publishers.iter().chain(&entry.players).cloned().collect();
        for resource in sessions {
            self.tell_phase(&resource, now);
        }
    }

    /// Tells a session what changed for it, if anything did.
    pub(super) fn tell_phase(&mut self, resource: &Resource, now: Instant) {
        let Some(session) = self.sessions.get_mut(resource) else { return };
        let Some(entry) = self.streams.get(&session.stream) else { return };
        let state = session.state(&entry.source, now);
        if session.told == Some(state) {
            return;
        }
        session.told = Some(state);
        for watch in session.watches.clone() {
            self.tell(watch, state_event(resource, state.0, state.1));
        }
    }
}

impl Session {
    fn state(&self, source: &Source, now: Instant) -> (SessionPhase, Option<Claim>) {
        match (&self.role, self.carriage) {
            (Role::Publish { .. } | Role::Play, Carriage::Connecting) => (SessionPhase::Connecting, None),
            (Role::Publish { grant: Grant::Standby, .. }, Carriage::Quiet | Carriage::Flowing) => {
                (SessionPhase::Standby, None)
            }
            (Role::Publish { grant: Grant::Active(claim), .. }, carriage) => (carriage.phase(), Some(*claim)),
            (Role::Play, carriage) => match source {
                Source::Nowhere { since } if Source::is_lost(*since, now) => (SessionPhase::OriginLost, None),
                // Not found yet, or perhaps found again at once: the player hears nothing new.
                Source::Nowhere { .. } => self.told.unwrap_or((SessionPhase::Connecting, None)),
                Source::Here { .. } | Source::Peer(_) => (carriage.phase(), source.claim()),
            },
        }
    }
}

impl Carriage {
    fn phase(self) -> SessionPhase {
        match self {
            Self::Connecting => SessionPhase::Connecting,
            Self::Quiet => SessionPhase::Idle,
            Self::Flowing => SessionPhase::Flowing,
        }
    }
}

fn state_event(resource: &Resource, phase: SessionPhase, claim: Option<Claim>) -> Event {
    Event::State(v1::SessionState {
        session: resource.0.to_string(),
        phase: phase.into(),
        claim: claim.map(Into::into),
    })
}

fn closed(resource: &Resource, code: u32, reason: &str) -> Event {
    Event::Closed(v1::SessionClosed { session: resource.0.to_string(), code, reason: reason.to_owned() })
}
