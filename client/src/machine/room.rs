//! A room's login: three states, and the room's contents as the app was told.
//!
//! Invariant: a room that is over is taken out by its [`Client`](super::Client), so nothing follows its last event.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use waystation_proto::{ErrorCode, LoginId, RoomId, SessionId, StreamId};

use super::{
    event::{Event, RoomState, RoomStateUpdate, RoomStreamUpdate, RoomUserUpdate},
    io::{ConnectionId, Delta, HeldClaim, Login, Output, Revision, SessionProof, Snapshot},
    retry::RetryClock,
    roster::{Difference, Roster, grouped},
};

/// A login that has no answer over the connection by then is tried over another.
const LOGIN_TIME: Duration = Duration::from_secs(5);

/// Claims to be given up that are kept until a coordinator is there to hear it.
const MAX_OWED: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Not asked for over any connection.
    Out,
    /// Asked for.
    Asked { connection: ConnectionId, until: Instant },
    /// Taken.
    In,
}

/// One room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Room {
    id: RoomId,
    user_token: String,
    login_id: LoginId,
    notify_users: bool,
    state: State,
    clock: RetryClock,
    roster: Roster,
    /// Known once a login was answered.
    session: Option<SessionId>,
    owed: VecDeque<(StreamId, u64)>,
}

impl Room {
    pub(super) fn new(
        id: RoomId,
        user_token: String,
        login_id: LoginId,
        notify_users: bool,
        clock: RetryClock,
    ) -> Self {
        Self {
            id,
            user_token,
            login_id,
            notify_users,
            state: State::Out,
            clock,
            roster: Roster::new(),
            session: None,
            owed: VecDeque::new(),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state == State::In
    }

    pub(super) fn proof(&self) -> SessionProof {
        SessionProof { room: self.id.clone(), login_id: self.login_id.clone() }
    }

    pub(super) fn renew(&mut self, user_token: String) {
        self.user_token = user_token;
    }

    pub(super) fn has_stream(&self, stream: &StreamId) -> bool {
        self.roster.has_stream(stream)
    }

    /// The login is asked for over this connection.
    pub(super) fn ask(&mut self, connection: ConnectionId, claims: Vec<HeldClaim>, now: Instant) -> Login {
        self.state = State::Asked { connection, until: now + LOGIN_TIME };
        Login {
            room: self.id.clone(),
            user_token: self.user_token.clone(),
            login_id: self.login_id.clone(),
            notify_users: self.notify_users,
            resume: self.session.is_some(),
            seen: self.roster.seen().cloned(),
            claims,
        }
    }

    /// Whether it is not asked for yet.
    pub(super) fn is_out(&self) -> bool {
        self.state == State::Out
    }

    /// The connection is lost.
    pub(super) fn lost(&mut self, out: &mut VecDeque<Output>, now: Instant) {
        if std::mem::replace(&mut self.state, State::Out) == State::In {
            self.clock.left(now);
            self.emit(RoomState::Connecting, ErrorCode::RoomBroken.number(), out);
        }
    }

    /// The login was taken: the room as it stands.
    pub(super) fn up(
        &mut self,
        snapshot: Snapshot,
        out: &mut VecDeque<Output>,
        now: Instant,
    ) -> Vec<StreamId> {
        self.session = Some(snapshot.session.clone());
        if std::mem::replace(&mut self.state, State::In) != State::In {
            self.clock.back(now);
            self.emit(RoomState::Connected, 0, out);
        }
        let difference = self.roster.snapshot(snapshot, now);
        self.tell(difference, out)
    }

    /// One revision's changes. Gives the streams that left.
    pub(super) fn change(
        &mut self,
        revision: Revision,
        deltas: Vec<Delta>,
        out: &mut VecDeque<Output>,
    ) -> Vec<StreamId> {
        let difference = self.roster.change(revision, deltas);
        self.tell(difference, out)
    }

    /// Time has passed. Gives the streams that left.
    pub(super) fn timeout(&mut self, out: &mut VecDeque<Output>, now: Instant) -> Vec<StreamId> {
        let difference = self.roster.timeout(now);
        self.tell(difference, out)
    }

    fn tell(&self, difference: Difference, out: &mut VecDeque<Output>) -> Vec<StreamId> {
        let changed = difference.streams.iter().map(|(_, entry)| &entry.stream);
        let left = changed.filter(|stream| !self.roster.has_stream(stream)).cloned().collect();
        let own = self.session.as_ref();
        if self.notify_users {
            for (change, users) in grouped(difference.users, own) {
                let update = RoomUserUpdate { room: self.id.clone(), change, users };
                out.push_back(Output::Emit(Event::Users(update)));
            }
        }
        for (change, streams) in grouped(difference.streams, own) {
            let update = RoomStreamUpdate { room: self.id.clone(), change, streams };
            out.push_back(Output::Emit(Event::Streams(update)));
        }
        left
    }

    /// The code with which to give up, if it is time to. `round_over`: every address was tried in vain.
    pub(super) fn gives_up(&self, round_over: bool, now: Instant) -> Option<ErrorCode> {
        if self.is_connected() {
            return None;
        }
        let never = !self.clock.retries() && (round_over || self.session.is_some());
        (never || self.clock.expired(now)).then_some(match self.session {
            Some(_) => ErrorCode::RoomGaveUp,
            None => ErrorCode::NoCoordinator,
        })
    }

    /// Whether the login over this connection has taken too long.
    pub(super) fn overdue(&self, now: Instant) -> Option<ConnectionId> {
        match self.state {
            State::Asked { connection, until } if now >= until => Some(connection),
            State::Asked { .. } | State::Out | State::In => None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let asked = match self.state {
            State::Asked { until, .. } => Some(until),
            State::Out | State::In => None,
        };
        [asked, self.clock.deadline(), self.roster.poll_timeout()].into_iter().flatten().min()
    }

    /// A claim is to be given up, now or when a coordinator is there to hear it.
    pub(super) fn owe(&mut self, stream: StreamId, epoch: u64) {
        if self.owed.len() == MAX_OWED {
            self.owed.pop_front();
        }
        self.owed.push_back((stream, epoch));
    }

    /// Gives up the claims that are owed.
    pub(super) fn pay(&mut self, url: &str, out: &mut VecDeque<Output>) {
        if !self.is_connected() {
            return;
        }
        let session = self.proof();
        for (stream, epoch) in self.owed.drain(..) {
            out.push_back(Output::EndStream { url: url.to_owned(), session: session.clone(), stream, epoch });
        }
    }

    /// Tells the app.
    pub(super) fn emit(&self, state: RoomState, code: u32, out: &mut VecDeque<Output>) {
        let extended = match &self.session {
            Some(session) => json!({ "session": session }),
            None => Value::Object(serde_json::Map::new()),
        };
        let update = RoomStateUpdate { room: self.id.clone(), state, code, extended };
        out.push_back(Output::Emit(Event::Room(update)));
    }
}
