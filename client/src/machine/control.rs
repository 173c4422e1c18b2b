//! The client's side towards coordinators: logins, the connection, beats, plans, and what is told over it.

use std::time::Instant;

use waystation_proto::{ErrorCode, LoginId, RoomId, StreamId, StreamKey};

use super::{
    client::Client,
    connection::Loss,
    event::{Event, RoomState},
    io::{CallFailure, ConnectionId, HeldClaim, Output, Plan, RequestId, SessionProof, Told},
    retry::RetryClock,
    room::Room,
    walk::WalkInput,
};

/// Nodes of a list that are held.
const MAX_NODES: usize = 1024;

impl Client {
    /// Whether the client is in that room, or on its way in.
    #[must_use]
    pub fn has_room(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room)
    }

    /// Whether the stream is being published.
    #[must_use]
    pub fn publishes(&self, key: &StreamKey) -> bool {
        self.publishers.contains_key(key)
    }

    /// Whether the stream is being played.
    #[must_use]
    pub fn plays(&self, key: &StreamKey) -> bool {
        self.players.contains_key(key)
    }

    pub(super) fn login(
        &mut self,
        id: RoomId,
        user_token: String,
        login_id: LoginId,
        notify_users: bool,
        now: Instant,
    ) {
        if self.rooms.contains_key(&id) {
            return;
        }
        let clock = RetryClock::started(self.settings.room_retry_time, now);
        let room = Room::new(id.clone(), user_token, login_id, notify_users, clock);
        if self.rooms.len() >= self.settings.max_rooms {
            return room.emit(RoomState::Disconnected, ErrorCode::TooManyRooms.number(), &mut self.wanted);
        }
        room.emit(RoomState::Connecting, 0, &mut self.wanted);
        self.rooms.insert(id, room);
        self.connection.want(now);
    }

    /// The app leaves: its streams end first.
    pub(super) fn logout(&mut self, id: &RoomId, now: Instant) {
        self.end_streams(id, None, now);
        let Some(mut room) = self.rooms.remove(id) else { return };
        if let Some((_, url)) = self.connection.open() {
            room.pay(url, &mut self.wanted);
            self.wanted.push_back(Output::Logout { url: url.to_owned(), session: room.proof() });
        }
        room.emit(RoomState::Disconnected, 0, &mut self.wanted);
    }

    pub(super) fn renew_token(&mut self, id: &RoomId, user_token: String) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        room.renew(user_token.clone());
        if let Some((_, url)) = self.connection.open()
            && room.is_connected()
        {
            let (url, session) = (url.to_owned(), room.proof());
            self.wanted.push_back(Output::RenewToken { url, session, user_token });
        }
    }

    pub(super) fn close(&mut self, now: Instant) {
        let rooms: Vec<RoomId> = self.rooms.keys().cloned().collect();
        rooms.iter().for_each(|room| self.logout(room, now));
        // Streams may have outlived their room.
        self.each_publisher(now, |p, cx| p.end(None, cx));
        self.each_player(now, |p, cx| p.end(None, cx));
    }

    /// A room is over.
    fn finish(&mut self, id: &RoomId, code: ErrorCode, now: Instant) {
        let Some(room) = self.rooms.remove(id) else { return };
        room.emit(RoomState::Disconnected, code.number(), &mut self.wanted);
        // Nobody ended a login that was given up; its streams need no coordinator (GO-1).
        if code != ErrorCode::RoomGaveUp {
            self.end_streams(id, Some(code), now);
        }
    }

    fn end_streams(&mut self, room: &RoomId, code: Option<ErrorCode>, now: Instant) {
        let publishers: Vec<StreamKey> =
            self.publishers.keys().filter(|key| key.room == *room).cloned().collect();
        publishers.iter().for_each(|key| self.with_publisher(key, now, |p, cx| p.end(code, cx)));
        let players: Vec<StreamKey> = self.players.keys().filter(|key| key.room == *room).cloned().collect();
        players.iter().for_each(|key| self.with_player(key, now, |p, cx| p.end(code, cx)));
    }

    pub(super) fn told(&mut self, connection: ConnectionId, told: Told, now: Instant) {
        if !self.connection.is_current(connection) {
            return;
        }
        self.coordinator_answered(now);
        match told {
            Told::Welcome { coordinators, beat_interval } => {
                self.connection.welcome(coordinators, beat_interval, now);
            }
            Told::RoomUp { room, snapshot } => {
                let Some(entry) = self.rooms.get_mut(&room) else { return };
                let left = entry.up(snapshot, &mut self.wanted, now);
                self.streams_changed(&room, &left, now);
                self.desk_opened(&room, now);
            }
            Told::RoomChange { room, revision, deltas } => {
                let Some(entry) = self.rooms.get_mut(&room) else { return };
                let left = entry.change(revision, deltas, &mut self.wanted);
                self.streams_changed(&room, &left, now);
            }
            Told::RoomDown { room, code } => self.finish(&room, code.unwrap_or(ErrorCode::Kicked), now),
            Told::Nodes(mut nodes) => {
                nodes.truncate(MAX_NODES);
                self.nodes = nodes;
                self.each_publisher(now, |p, cx| p.listed(cx));
                self.each_player(now, |p, cx| p.listed(cx));
            }
            Told::Suspect(node) => self.each_walk(&WalkInput::Suspect(node), now),
            Told::TokenExpiring { room, in_ } => {
                if self.rooms.contains_key(&room) {
                    self.wanted.push_back(Output::Emit(Event::TokenExpiring { room, in_ }));
                }
            }
            Told::TryOther { .. } => self.leave_connection(connection, now),
        }
    }

    fn coordinator_answered(&mut self, now: Instant) {
        self.shared.evidence.coordinator(now);
        self.network_answered(now);
    }

    fn desk_opened(&mut self, room: &RoomId, now: Instant) {
        let in_room = |key: &&StreamKey| key.room == *room;
        let publishers: Vec<StreamKey> = self.publishers.keys().filter(in_room).cloned().collect();
        publishers.iter().for_each(|key| self.with_publisher(key, now, |p, cx| p.desk_opened(cx)));
        let players: Vec<StreamKey> = self.players.keys().filter(in_room).cloned().collect();
        players.iter().for_each(|key| self.with_player(key, now, |p, cx| p.desk_opened(cx)));
    }

    /// Players of streams that left the room hear of it, and those of streams that are there.
    fn streams_changed(&mut self, id: &RoomId, left: &[StreamId], now: Instant) {
        let players: Vec<StreamKey> = self.players.keys().filter(|key| key.room == *id).cloned().collect();
        for key in players {
            let there = self.rooms.get(id).is_some_and(|room| room.has_stream(&key.stream));
            if there {
                self.with_player(&key, now, |p, _| p.stream_came());
            } else if left.contains(&key.stream) {
                self.with_player(&key, now, |p, cx| p.stream_left(cx));
            }
        }
    }

    pub(super) fn connection_lost(&mut self, connection: ConnectionId, now: Instant) {
        let loss = self.connection.lost(connection, &mut self.shared.dice, now);
        let round_over = match loss {
            Loss::Old => return,
            Loss::Address | Loss::Open => false,
            Loss::Round => true,
        };
        for room in self.rooms.values_mut() {
            room.lost(&mut self.wanted, now);
        }
        self.give_up_rooms(round_over, now);
    }

    /// Lets the connection go, and dials another.
    fn leave_connection(&mut self, connection: ConnectionId, now: Instant) {
        self.wanted.push_back(Output::Disconnect(connection));
        self.connection_lost(connection, now);
    }

    fn give_up_rooms(&mut self, round_over: bool, now: Instant) {
        let over: Vec<(RoomId, ErrorCode)> = self
            .rooms
            .iter()
            .filter_map(|(id, room)| Some((id.clone(), room.gives_up(round_over, now)?)))
            .collect();
        over.iter().for_each(|(id, code)| self.finish(id, *code, now));
    }

    pub(super) fn login_failed(
        &mut self,
        connection: ConnectionId,
        room: &RoomId,
        failure: &CallFailure,
        now: Instant,
    ) {
        if !self.connection.is_current(connection) {
            return;
        }
        match failure {
            CallFailure::Refused(code) if code.is_final() => {
                self.coordinator_answered(now);
                self.finish(room, *code, now);
            }
            CallFailure::Refused(_) | CallFailure::NotConnected | CallFailure::Failed => {
                self.leave_connection(connection, now);
            }
        }
    }

    pub(super) fn beat_answered(
        &mut self,
        connection: ConnectionId,
        result: Result<Vec<RoomId>, CallFailure>,
        now: Instant,
    ) {
        if !self.connection.is_current(connection) {
            return;
        }
        match result {
            Ok(unknown) => {
                self.connection.beat_answered(now);
                self.coordinator_answered(now);
                if unknown.iter().any(|room| self.rooms.get(room).is_some_and(Room::is_connected)) {
                    self.leave_connection(connection, now);
                }
            }
            Err(CallFailure::Refused(_) | CallFailure::NotConnected) => {
                self.coordinator_answered(now);
                self.leave_connection(connection, now);
            }
            Err(CallFailure::Failed) => {
                if self.connection.beat_failed(now) {
                    self.leave_connection(connection, now);
                }
            }
        }
    }

    pub(super) fn planned(&mut self, request: RequestId, result: Result<Plan, CallFailure>, now: Instant) {
        match result {
            Ok(_) | Err(CallFailure::Refused(_) | CallFailure::NotConnected) => {
                self.coordinator_answered(now)
            }
            Err(CallFailure::Failed) => {}
        }
        if let Some(key) = self.publishers.iter().find(|(_, p)| p.awaits(request)).map(|(key, _)| key.clone())
        {
            self.with_publisher(&key, now, |p, cx| p.planned(result, cx));
        } else if let Some(key) = self.players.iter().find(|(_, p)| p.awaits(request)).map(|(k, _)| k.clone())
        {
            self.with_player(&key, now, |p, cx| p.planned(result, cx));
        } else if let (Some(key), Ok(plan)) = (self.forsaken.remove(&request), result) {
            self.forsake(key, plan);
        }
    }

    /// A claim came for a publisher that has ended. Another publisher of the stream has the same one.
    fn forsake(&mut self, key: StreamKey, plan: Plan) {
        let wanted = self.publishers.contains_key(&key);
        if let (false, Some(claim), Some(room)) = (wanted, plan.claim, self.rooms.get_mut(&key.room)) {
            room.owe(key.stream, claim.epoch);
        }
    }

    pub(super) fn rooms_timeout(&mut self, now: Instant) {
        let logins = self.rooms.values().find_map(|room| room.overdue(now));
        if let Some(connection) = self.connection.overdue(now).or(logins) {
            self.leave_connection(connection, now);
        }
        self.give_up_rooms(false, now);
        let ids: Vec<RoomId> = self.rooms.keys().cloned().collect();
        for id in ids {
            let Some(room) = self.rooms.get_mut(&id) else { continue };
            let left = room.timeout(&mut self.wanted, now);
            if !left.is_empty() {
                self.streams_changed(&id, &left, now);
            }
        }
    }

    /// Dials, logs in, beats and gives up claims, where it is time to.
    pub(super) fn connect(&mut self, now: Instant) {
        if self.rooms.is_empty() {
            self.wanted.extend(self.connection.release().map(Output::Disconnect));
            return;
        }
        if let Some((connection, url)) = self.connection.dial_if_due(now) {
            let ids: Vec<RoomId> = self.rooms.keys().cloned().collect();
            let logins = ids.iter().filter_map(|id| self.ask(id, connection, now)).collect();
            self.wanted.push_back(Output::Connect { connection, url, logins });
        }
        if let Some((connection, url)) = self.connection.open().map(|(id, url)| (id, url.to_owned())) {
            let out: Vec<RoomId> =
                self.rooms.iter().filter(|(_, room)| room.is_out()).map(|(id, _)| id.clone()).collect();
            for id in out {
                if let Some(login) = self.ask(&id, connection, now) {
                    self.wanted.push_back(Output::Login { connection, url: url.clone(), login });
                }
            }
            self.rooms.values_mut().for_each(|room| room.pay(&url, &mut self.wanted));
        }
        if let Some((connection, url)) = self.connection.beat_if_due(now) {
            let sessions: Vec<SessionProof> =
                self.rooms.values().filter(|room| room.is_connected()).map(Room::proof).collect();
            self.wanted.push_back(Output::Beat { connection, url, sessions });
        }
    }

    fn ask(&mut self, id: &RoomId, connection: ConnectionId, now: Instant) -> Option<super::io::Login> {
        let claims: Vec<HeldClaim> = self
            .publishers
            .iter()
            .filter(|(key, _)| key.room == *id)
            .filter_map(|(_, publisher)| publisher.held())
            .collect();
        Some(self.rooms.get_mut(id)?.ask(connection, claims, now))
    }
}
