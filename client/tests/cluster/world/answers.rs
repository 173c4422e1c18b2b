//! What coordinators and nodes answer.

use std::{collections::BTreeSet, time::Duration};

use rand::RngExt;
use waystation_client::machine::{
    AttemptId, CallFailure, ConnectionId, EventsLoss, Failure, Input, Login, Phase, Plan, Revision, Snapshot,
    Told,
};
use waystation_proto::{Claim, SessionId, token::Action};

use super::{AGAIN_MS, Call, Happening, Life, NO_ANSWER_MS, Session, Visit, World, url};

impl World {
    pub(super) fn at_coordinator(&mut self, coordinator: usize, call: Call) {
        if !self.online {
            return;
        }
        if !self.coordinators[coordinator] {
            return self.send(match call {
                Call::Connect(connection, _) | Call::Login(connection, _) => {
                    Input::ConnectionLost(connection)
                }
                Call::Beat(connection) => Input::BeatAnswered(connection, Err(CallFailure::Failed)),
                Call::Plan(request, _) => Input::Planned(request, Err(CallFailure::Failed)),
            });
        }
        match call {
            Call::Connect(connection, logins) => self.welcome(coordinator, connection, &logins),
            Call::Login(connection, login) => {
                let ms = self.latency();
                self.room_up_after(ms, connection, &login);
            }
            Call::Beat(connection) => self.send(Input::BeatAnswered(connection, Ok(Vec::new()))),
            Call::Plan(request, action) => {
                let claim = (action == Action::Publish).then_some(Claim { epoch: 1, moved: 0 });
                let token_valid = Duration::from_secs(3_600);
                let mut nodes = self.listed();
                nodes.sort_by_key(|node| node.health);
                let plan = Plan { claim, node_token: "node-token".into(), token_valid, nodes };
                self.send(Input::Planned(request, Ok(plan)));
            }
        }
    }

    pub(super) fn welcome(&mut self, coordinator: usize, connection: ConnectionId, logins: &[Login]) {
        self.connection = Some((connection, coordinator));
        let coordinators = (0..self.coordinators.len()).map(url).collect();
        let welcome = Told::Welcome { coordinators, beat_interval: Duration::from_secs(5) };
        // In order, as on a stream.
        let ms = self.latency();
        self.after(ms, Happening::Arrives(Input::Told(connection, welcome)));
        let nodes = Told::Nodes(self.listed());
        self.after(ms, Happening::Arrives(Input::Told(connection, nodes)));
        for login in logins {
            self.room_up_after(ms, connection, login);
        }
    }

    pub(super) fn room_up_after(&mut self, ms: u64, connection: ConnectionId, login: &Login) {
        let snapshot = Snapshot {
            session: SessionId::new("session-1").unwrap(),
            revision: Revision { store_id: "store".into(), number: 1 },
            users: BTreeSet::new(),
            streams: BTreeSet::new(),
        };
        let up = Told::RoomUp { room: login.room.clone(), snapshot };
        self.after(ms, Happening::Arrives(Input::Told(connection, up)));
    }

    /// What a coordinator tells over the open connection.
    pub(super) fn tell(&mut self, told: Told) {
        if let Some((connection, coordinator)) = self.connection
            && self.coordinators[coordinator]
        {
            self.send(Input::Told(connection, told));
        }
    }

    pub(super) fn at_node(&mut self, index: usize, visit: Visit) {
        let health = if self.online { self.nodes[index].health } else { Life::Frozen };
        match (visit, health) {
            (Visit::Dial(attempt, _), Life::Dead) => {
                let failure = Failure::Unreachable("connection refused".into());
                self.send(Input::Failed(attempt, failure));
            }
            (Visit::Dial(attempt, action), Life::Up) if self.dialled.contains(&attempt) => {
                self.dialled(index, attempt, action)
            }
            (Visit::OpenEvents(node), Life::Frozen) => {
                // The client's own clock gives up: no message is needed for that.
                let lost = Input::EventsLost(node, EventsLoss::NoAnswer);
                self.after(NO_ANSWER_MS, Happening::ToShell(lost));
            }
            (Visit::OpenEvents(node), Life::Dead) => {
                self.send(Input::EventsLost(node, EventsLoss::Refused));
            }
            (Visit::OpenEvents(node), Life::Up) => {
                let life = self.node_ref(index);
                self.lines.insert(node.clone());
                self.send(Input::EventsUp { node, life });
            }
            (Visit::Activate(attempt, claim), Life::Up) if self.sessions.contains_key(&attempt) => {
                self.send(Input::Phase(attempt, Phase::Flowing, Some(claim)));
            }
            (visit @ Visit::Dial(attempt, _), Life::Frozen) if self.dialled.contains(&attempt) => {
                self.after(AGAIN_MS, Happening::AtNode(index, visit));
            }
            (Visit::Dial(..), Life::Up | Life::Frozen) | (Visit::Activate(..), _) => {}
        }
    }

    pub(super) fn dialled(&mut self, index: usize, attempt: AttemptId, action: Action) {
        // Some relay still looks for the stream; another answers at once.
        if action == Action::Play && !self.stream_there && self.rng.random_range(0..4) > 0 {
            return self.send(Input::Failed(attempt, Failure::NotHere));
        }
        let incarnation = self.nodes[index].incarnation;
        self.sessions.insert(attempt, Session { node: index, incarnation, action, up: false });
        self.send(Input::Answered(attempt));
        let handshakes = 4 * self.latency();
        self.after(handshakes, Happening::TransportUp(attempt));
    }

    pub(super) fn lives(&self, session: &Session) -> bool {
        let node = &self.nodes[session.node];
        self.online && node.health == Life::Up && node.incarnation == session.incarnation
    }

    pub(super) fn transport_up(&mut self, attempt: AttemptId) {
        let Some(session) = self.sessions.get(&attempt) else { return };
        if !self.lives(session) {
            return self.after(AGAIN_MS, Happening::TransportUp(attempt));
        }
        let action = session.action;
        self.sessions.entry(attempt).and_modify(|session| session.up = true);
        let ms = self.latency();
        self.after(ms, Happening::Arrives(Input::Up(attempt)));
        if action == Action::Play && self.stream_there {
            self.after(ms, Happening::Arrives(Input::Media(attempt)));
        }
    }
}
