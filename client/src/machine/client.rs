//! The whole client: rooms over one connection, publishers and players, each with its walk.
//!
//! Invariant: inputs are handled one by one and whole; every output is pushed in the order in which it is to be done.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use waystation_proto::{Node, NodeRef, RoomId, StreamKey, token::Action};

use super::{
    connection::Connection,
    hedge::Shared,
    io::{Input, Output, RequestId, Settings},
    lane::{Context, Desk},
    lines::{Lines, Word},
    player::Player,
    publisher::Publisher,
    room::Room,
    trial::{AttemptId, Failure},
    walk::WalkInput,
};

/// Plans without a publisher whose answers are awaited.
const MAX_FORSAKEN: usize = 64;

/// An attempt in the hands of some walk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner {
    key: StreamKey,
    action: Action,
    node: NodeRef,
}

/// The client's machines. `Clone + Eq + Hash`: the same inputs at the same times give the same outputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    pub(super) settings: Settings,
    pub(super) shared: Shared,
    pub(super) connection: Connection,
    pub(super) rooms: BTreeMap<RoomId, Room>,
    pub(super) publishers: BTreeMap<StreamKey, Publisher>,
    pub(super) players: BTreeMap<StreamKey, Player>,
    owners: BTreeMap<AttemptId, Owner>,
    lines: Lines,
    pub(super) nodes: Vec<Node>,
    last_request: RequestId,
    /// Plans that were under way when their publisher ended: a claim that they bring is owed.
    pub(super) forsaken: BTreeMap<RequestId, StreamKey>,
    /// Signs of a coordinator that walks want.
    signs_wanted: u32,
    /// What the machines want, before it is looked through.
    pub(super) wanted: VecDeque<Output>,
    outputs: VecDeque<Output>,
}

impl Client {
    /// A client that is in no room.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            shared: Shared::new(settings.seed, settings.hedging),
            connection: Connection::new(settings.coordinators.clone()),
            settings,
            rooms: BTreeMap::new(),
            publishers: BTreeMap::new(),
            players: BTreeMap::new(),
            owners: BTreeMap::new(),
            lines: Lines::default(),
            nodes: Vec::new(),
            last_request: RequestId(0),
            forsaken: BTreeMap::new(),
            signs_wanted: 0,
            wanted: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Something happened.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Login { room, user_token, login_id, notify_users } => {
                self.login(room, user_token, login_id, notify_users, now);
            }
            Input::Logout(room) => self.logout(&room, now),
            Input::RenewToken { room, user_token } => self.renew_token(&room, user_token),
            Input::Publish(key) => self.publish(key, now),
            Input::StopPublishing(key) => self.with_publisher(&key, now, |p, cx| p.end(None, cx)),
            Input::Play(key) => self.play(key, now),
            Input::StopPlaying(key) => self.with_player(&key, now, |p, cx| p.end(None, cx)),
            Input::Close => self.close(now),
            Input::Told(connection, told) => self.told(connection, told, now),
            Input::ConnectionLost(connection) => self.connection_lost(connection, now),
            Input::LoginFailed(connection, room, failure) => {
                self.login_failed(connection, &room, &failure, now);
            }
            Input::BeatAnswered(connection, result) => self.beat_answered(connection, result, now),
            Input::Planned(request, result) => self.planned(request, result, now),
            Input::Answered(attempt) => self.node_answered(attempt, now),
            Input::Up(attempt) => self.up(attempt, now),
            Input::Media(attempt) => self.of_play(attempt, now, |p, cx| p.media(attempt, cx)),
            Input::Heard(attempt, at) => self.heard(attempt, at, now),
            Input::Phase(attempt, phase, claim) => {
                self.of_publish(attempt, now, |p, _| p.phase(attempt, phase, claim));
                self.of_play(attempt, now, |p, cx| p.phase(attempt, phase, cx));
            }
            Input::Failed(attempt, failure) => self.failed(attempt, failure, now),
            Input::EventsUp { node, life } => {
                let word = self.lines.up(&node, &life);
                self.each_publisher(now, |p, cx| p.events_up(&node, cx));
                self.node_word(&node, word, now);
            }
            Input::EventsLost(node, loss) => {
                let word = self.lines.lost(&node, loss, &mut self.outputs, now);
                self.node_word(&node, word, now);
            }
            Input::Timeout => self.timeout(now),
        }
        self.settle(now);
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle`] with [`Input::Timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let open = |key: &StreamKey| self.desk(&key.room).is_some();
        let publishers = self.publishers.iter().map(|(key, p)| p.poll_timeout(open(key)));
        let players = self.players.iter().map(|(key, p)| p.poll_timeout(open(key)));
        let rooms = self.rooms.values().map(Room::poll_timeout);
        let others = [self.connection.poll_timeout(), self.lines.poll_timeout()];
        publishers.chain(players).chain(rooms).chain(others).flatten().min()
    }

    fn publish(&mut self, key: StreamKey, now: Instant) {
        if !self.publishers.contains_key(&key) {
            let retry_time = self.settings.av_retry_time;
            let publisher = Publisher::start(key.clone(), retry_time, &mut self.context(&key.room, now));
            self.publishers.insert(key, publisher);
        }
    }

    fn play(&mut self, key: StreamKey, now: Instant) {
        if !self.players.contains_key(&key) {
            let retry_time = self.settings.av_retry_time;
            let player = Player::start(key.clone(), retry_time, &mut self.context(&key.room, now));
            self.players.insert(key, player);
        }
    }

    fn node_answered(&mut self, attempt: AttemptId, now: Instant) {
        if let Some(owner) = self.owners.get(&attempt) {
            self.shared.evidence.node(&owner.node.id, now);
            self.network_answered(now);
        }
    }

    fn up(&mut self, attempt: AttemptId, now: Instant) {
        self.node_answered(attempt, now);
        self.of_publish(attempt, now, |p, cx| p.walk(WalkInput::Ready(attempt), cx));
        self.of_play(attempt, now, |p, cx| p.up(attempt, cx));
    }

    fn heard(&mut self, attempt: AttemptId, at: Instant, now: Instant) {
        if let Some(owner) = self.owners.get(&attempt) {
            self.shared.evidence.node(&owner.node.id, at.min(now));
        }
        let input = WalkInput::Heard(attempt, at.min(now));
        self.of_publish(attempt, now, |p, cx| p.walk(input.clone(), cx));
        self.of_play(attempt, now, |p, cx| p.walk(input, cx));
    }

    fn failed(&mut self, attempt: AttemptId, failure: Failure, now: Instant) {
        let answered = failure.is_answer() && self.owners.contains_key(&attempt);
        let other = failure.clone();
        self.of_publish(attempt, now, |p, cx| p.failed(attempt, failure, cx));
        self.of_play(attempt, now, |p, cx| p.failed(attempt, other, cx));
        if answered {
            self.network_answered(now);
        }
    }

    fn node_word(&mut self, node: &NodeRef, word: Word, now: Instant) {
        let input = match word {
            Word::Nothing => return,
            Word::Suspect => WalkInput::Suspect(node.clone()),
            Word::Gone => WalkInput::Gone(node.clone()),
        };
        self.each_walk(&input, now);
    }

    /// Somebody answered: verdicts may close, and rests may end.
    pub(super) fn network_answered(&mut self, now: Instant) {
        self.each_walk(&WalkInput::NetworkAnswered, now);
    }

    pub(super) fn each_walk(&mut self, input: &WalkInput, now: Instant) {
        self.each_publisher(now, |p, cx| p.walk(input.clone(), cx));
        self.each_player(now, |p, cx| p.walk(input.clone(), cx));
    }

    /// Where the room's calls go.
    pub(super) fn desk(&self, room: &RoomId) -> Option<Desk> {
        let (_, url) = self.connection.open()?;
        let room = self.rooms.get(room).filter(|room| room.is_connected())?;
        Some(Desk { url: url.to_owned(), session: room.proof() })
    }

    fn context(&mut self, room: &RoomId, now: Instant) -> Context<'_> {
        let desk = self.desk(room);
        Context {
            shared: &mut self.shared,
            out: &mut self.wanted,
            last_request: &mut self.last_request,
            signs_wanted: &mut self.signs_wanted,
            desk,
            nodes: &self.nodes,
            now,
        }
    }

    /// Takes the machine out while it acts, so that it can be lent the rest.
    pub(super) fn with_publisher(
        &mut self,
        key: &StreamKey,
        now: Instant,
        act: impl FnOnce(&mut Publisher, &mut Context<'_>),
    ) {
        if let Some((key, mut publisher)) = self.publishers.remove_entry(key) {
            act(&mut publisher, &mut self.context(&key.room, now));
            if !publisher.ended() {
                self.publishers.insert(key, publisher);
            } else if let (Some(epoch), Some(room)) = (publisher.epoch(), self.rooms.get_mut(&key.room)) {
                room.owe(key.stream, epoch);
            } else if let Some(request) = publisher.asked_for() {
                if self.forsaken.len() == MAX_FORSAKEN {
                    self.forsaken.pop_first();
                }
                self.forsaken.insert(request, key);
            }
        }
    }

    pub(super) fn with_player(
        &mut self,
        key: &StreamKey,
        now: Instant,
        act: impl FnOnce(&mut Player, &mut Context<'_>),
    ) {
        if let Some((key, mut player)) = self.players.remove_entry(key) {
            act(&mut player, &mut self.context(&key.room, now));
            if !player.ended() {
                self.players.insert(key, player);
            }
        }
    }

    pub(super) fn each_publisher(
        &mut self,
        now: Instant,
        mut act: impl FnMut(&mut Publisher, &mut Context<'_>),
    ) {
        let keys: Vec<StreamKey> = self.publishers.keys().cloned().collect();
        keys.iter().for_each(|key| self.with_publisher(key, now, &mut act));
    }

    pub(super) fn each_player(&mut self, now: Instant, mut act: impl FnMut(&mut Player, &mut Context<'_>)) {
        let keys: Vec<StreamKey> = self.players.keys().cloned().collect();
        keys.iter().for_each(|key| self.with_player(key, now, &mut act));
    }

    fn of_publish(
        &mut self,
        attempt: AttemptId,
        now: Instant,
        act: impl FnOnce(&mut Publisher, &mut Context<'_>),
    ) {
        if let Some(Owner { key, action: Action::Publish, .. }) = self.owners.get(&attempt) {
            let key = key.clone();
            self.with_publisher(&key, now, act);
        }
    }

    fn of_play(&mut self, attempt: AttemptId, now: Instant, act: impl FnOnce(&mut Player, &mut Context<'_>)) {
        if let Some(Owner { key, action: Action::Play, .. }) = self.owners.get(&attempt) {
            let key = key.clone();
            self.with_player(&key, now, act);
        }
    }

    fn timeout(&mut self, now: Instant) {
        self.lines.timeout(&mut self.outputs, now);
        self.rooms_timeout(now);
        self.each_publisher(now, |p, cx| p.timeout(cx));
        self.each_player(now, |p, cx| p.timeout(cx));
    }

    /// After each input: what is due goes out, and every wish passes by those whom it concerns.
    fn settle(&mut self, now: Instant) {
        while let Some(output) = self.wanted.pop_front() {
            match &output {
                Output::Dial { attempt, key, action, node, .. } => {
                    let owner = Owner { key: key.clone(), action: *action, node: node.node.clone() };
                    self.owners.insert(*attempt, owner);
                    self.lines.hold(*attempt, node, &mut self.outputs);
                    self.outputs.push_back(output);
                }
                Output::Hang(attempt) => {
                    let attempt = *attempt;
                    self.outputs.push_back(output);
                    if let Some(owner) = self.owners.remove(&attempt) {
                        self.lines.release(attempt, &owner.node, &mut self.outputs);
                    }
                }
                Output::Connect { .. }
                | Output::Disconnect(_)
                | Output::Login { .. }
                | Output::Beat { .. }
                | Output::Logout { .. }
                | Output::RenewToken { .. }
                | Output::Plan { .. }
                | Output::EndStream { .. }
                | Output::Report { .. }
                | Output::Activate { .. }
                | Output::Use { .. }
                | Output::OpenEvents(_)
                | Output::CloseEvents(_)
                | Output::Emit(_) => self.outputs.push_back(output),
            }
        }
        if std::mem::take(&mut self.signs_wanted) > 0 {
            self.connection.want_beat(now);
        }
        self.connect(now);
        self.outputs.append(&mut self.wanted);
    }
}
