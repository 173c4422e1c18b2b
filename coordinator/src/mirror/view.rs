//! The coordinator's copy of the store, and what others are told of a change: pure.
//!
//! Invariant: the view after a batch is the store at that batch's revision. A list taken anew is played in as one
//! batch of differences, so that nothing downstream knows how the view was brought up to date.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use waystation_proto::{Node, NodeId, RoomId, SessionId, StreamId, StreamKey, UserId, v1};

use crate::{
    keys::{ClaimEntry, Key, Keys, NodeEntry, Origin, RevokedEntry, StreamEntry, UserEntry, decode},
    store::{Batch, Change, Entry, Listing},
};

/// A value with the revision of its last write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<T> {
    /// The value.
    pub value: T,
    /// Revision of its last write.
    pub modified: u64,
}

/// One room.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// Its users.
    pub users: BTreeMap<UserId, Held<UserEntry>>,
    /// Its streams, as others see them.
    pub streams: BTreeMap<StreamId, Held<StreamEntry>>,
    /// Who may publish in it.
    pub claims: BTreeMap<StreamId, Held<ClaimEntry>>,
    sessions: BTreeMap<SessionId, UserId>,
}

/// One change of a room as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// A user came.
    UserAdded(v1::RoomUser),
    /// A user went.
    UserDeleted(v1::RoomUser),
    /// A stream came.
    StreamAdded(v1::RoomStream),
    /// A stream went.
    StreamDeleted(v1::RoomStream),
}

/// What a batch brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Something in a room changed, perhaps nothing that others see.
    Room(RoomId, Vec<Delta>),
    /// A user entry was written or deleted.
    User(RoomId, UserId),
    /// A claim was written or deleted.
    Claim(StreamKey),
    /// A node was written or deleted.
    Node(NodeId),
    /// A login was revoked.
    Revoked(SessionId),
}

/// How a login stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the user's login.
    Current,
    /// It ended by somebody's word.
    Revoked(RevokedEntry),
    /// It is not known: timed out, logged out, or never here.
    Unknown,
}

/// The copy.
#[derive(Debug)]
pub struct View {
    keys: Keys,
    revision: u64,
    /// Last write of every key, to tell what a list taken anew changed.
    known: BTreeMap<String, u64>,
    epochs: Origin,
    rooms: BTreeMap<RoomId, Room>,
    nodes: BTreeMap<NodeId, Held<NodeEntry>>,
    revoked: BTreeMap<SessionId, RevokedEntry>,
}

fn read<T: DeserializeOwned>(entry: &Entry) -> Option<Held<T>> {
    match decode(&entry.value) {
        Some(value) => Some(Held { value, modified: entry.modified }),
        None => {
            tracing::warn!(key = entry.key, "a value in the store cannot be read and is left out");
            None
        }
    }
}

impl View {
    /// The view of an empty store.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            revision: 0,
            known: BTreeMap::new(),
            epochs: Origin { base: 0 },
            rooms: BTreeMap::new(),
            nodes: BTreeMap::new(),
            revoked: BTreeMap::new(),
        }
    }

    /// Up to which revision it is.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Where epochs begin.
    #[must_use]
    pub fn epochs(&self) -> Origin {
        self.epochs
    }

    /// A room, if anything is in it.
    #[must_use]
    pub fn room(&self, room: &RoomId) -> Option<&Room> {
        self.rooms.get(room)
    }

    /// All rooms.
    #[must_use]
    pub fn rooms(&self) -> &BTreeMap<RoomId, Room> {
        &self.rooms
    }

    /// All nodes, as clients see them.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(|held| &held.value.node)
    }

    /// One node's entry.
    #[must_use]
    pub fn node(&self, id: &NodeId) -> Option<&Held<NodeEntry>> {
        self.nodes.get(id)
    }

    /// All logins that were revoked.
    #[must_use]
    pub fn revoked(&self) -> &BTreeMap<SessionId, RevokedEntry> {
        &self.revoked
    }

    /// The user of a login.
    #[must_use]
    pub fn user(&self, room: &RoomId, session: &SessionId) -> Option<(&UserId, &Held<UserEntry>)> {
        let room = self.rooms.get(room)?;
        let user = room.sessions.get(session)?;
        Some((user, room.users.get(user)?))
    }

    /// How a login stands.
    #[must_use]
    pub fn standing(&self, room: &RoomId, session: &SessionId) -> Standing {
        match (self.user(room, session), self.revoked.get(session)) {
            (Some(_), _) => Standing::Current,
            (None, Some(&revoked)) => Standing::Revoked(revoked),
            (None, None) => Standing::Unknown,
        }
    }

    /// Claims of a login in a room.
    pub fn claims_of<'a>(
        &'a self,
        room: &'a RoomId,
        session: &'a SessionId,
    ) -> impl Iterator<Item = (StreamKey, &'a Held<ClaimEntry>)> {
        let claims = self.rooms.get(room).into_iter().flat_map(|room| &room.claims);
        let of_session = claims.filter(move |(_, claim)| claim.value.session == *session);
        of_session
            .map(move |(stream, claim)| (StreamKey { room: room.clone(), stream: stream.clone() }, claim))
    }

    /// Plays a batch in.
    pub fn apply(&mut self, batch: &Batch) -> Vec<News> {
        let mut news = Vec::new();
        for change in &batch.changes {
            let (text, entry) = match change {
                Change::Put(entry) => (&entry.key, Some(entry)),
                Change::Delete(key) => (key, None),
            };
            match entry {
                Some(entry) => self.known.insert(text.clone(), entry.modified),
                None => self.known.remove(text),
            };
            match self.keys.parse(text) {
                Some(key) => self.take(key, entry, &mut news),
                None => tracing::debug!(key = text, "a key of another version"),
            }
        }
        self.revision = self.revision.max(batch.revision);
        news
    }

    /// Plays a list taken anew in, as the differences to what was known. It may be older: of a store that was restored.
    pub fn relist(&mut self, listing: &Listing) -> Vec<News> {
        let listed: BTreeSet<_> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
        let gone = self.known.keys().filter(|key| !listed.contains(key.as_str()));
        let gone = gone.map(|key| Change::Delete(key.clone()));
        let fresh =
            listing.entries.iter().filter(|entry| self.known.get(&entry.key) != Some(&entry.modified));
        let changes: Vec<_> = gone.chain(fresh.map(|entry| Change::Put(entry.clone()))).collect();
        let news = self.apply(&Batch { revision: listing.revision, changes });
        self.revision = listing.revision;
        news
    }

    fn take(&mut self, key: Key, entry: Option<&Entry>, news: &mut Vec<News>) {
        match key {
            Key::Epochs => {
                self.epochs = entry.and_then(read).map_or(Origin { base: 0 }, |held| held.value);
            }
            Key::User(room, user) => {
                let deltas =
                    self.rooms.entry(room.clone()).or_default().take_user(&user, entry.and_then(read));
                self.tidy(&room);
                news.push(News::Room(room.clone(), deltas));
                news.push(News::User(room, user));
            }
            Key::Claim(stream) => {
                let claims = &mut self.rooms.entry(stream.room.clone()).or_default().claims;
                match entry.and_then(read) {
                    Some(claim) => claims.insert(stream.stream.clone(), claim),
                    None => claims.remove(&stream.stream),
                };
                self.tidy(&stream.room);
                news.push(News::Claim(stream));
            }
            Key::Stream(stream) => {
                let room = self.rooms.entry(stream.room.clone()).or_default();
                let deltas = room.take_stream(&stream.stream, entry.and_then(read));
                self.tidy(&stream.room);
                news.push(News::Room(stream.room, deltas));
            }
            Key::Node(node) => {
                match entry.and_then(read) {
                    Some(held) => self.nodes.insert(node.clone(), held),
                    None => self.nodes.remove(&node),
                };
                news.push(News::Node(node));
            }
            Key::Revoked(session) => {
                match entry.and_then(read).map(|held| held.value) {
                    Some(revoked) => {
                        self.revoked.insert(session.clone(), revoked);
                        news.push(News::Revoked(session));
                    }
                    None => {
                        self.revoked.remove(&session);
                    }
                };
            }
        }
    }

    /// An empty room is no room.
    fn tidy(&mut self, id: &RoomId) {
        if self.rooms.get(id).is_some_and(Room::is_empty) {
            self.rooms.remove(id);
        }
    }
}

fn shown_user(user: &UserId, entry: &UserEntry) -> v1::RoomUser {
    v1::RoomUser { user: user.to_string(), session_id: entry.shown.to_string() }
}

fn shown_stream(stream: &StreamId, entry: &StreamEntry) -> v1::RoomStream {
    v1::RoomStream {
        stream: stream.to_string(),
        user: entry.user.to_string(),
        session_id: entry.session.to_string(),
        epoch: entry.epoch,
    }
}

/// Deletes come first: an entry that came back as another is a Delete and an Add, in that order.
fn differ<T: PartialEq>(
    old: Option<T>,
    new: Option<T>,
    deleted: fn(T) -> Delta,
    added: fn(T) -> Delta,
) -> Vec<Delta> {
    if old == new {
        return Vec::new();
    }
    old.map(deleted).into_iter().chain(new.map(added)).collect()
}

impl Room {
    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.streams.is_empty() && self.claims.is_empty()
    }

    fn take_user(&mut self, user: &UserId, entry: Option<Held<UserEntry>>) -> Vec<Delta> {
        let new = entry.as_ref().map(|entry| shown_user(user, &entry.value));
        let old = match entry {
            Some(entry) => {
                self.sessions.insert(entry.value.session.clone(), user.clone());
                let session = entry.value.session.clone();
                let old = self.users.insert(user.clone(), entry);
                if let Some(old) = old.as_ref().filter(|old| old.value.session != session) {
                    self.sessions.remove(&old.value.session);
                }
                old
            }
            None => {
                let old = self.users.remove(user);
                if let Some(old) = &old {
                    self.sessions.remove(&old.value.session);
                }
                old
            }
        };
        let old = old.map(|old| shown_user(user, &old.value));
        differ(old, new, Delta::UserDeleted, Delta::UserAdded)
    }

    fn take_stream(&mut self, stream: &StreamId, entry: Option<Held<StreamEntry>>) -> Vec<Delta> {
        let new = entry.as_ref().map(|held| shown_stream(stream, &held.value));
        let old = match entry {
            Some(entry) => self.streams.insert(stream.clone(), entry),
            None => self.streams.remove(stream),
        };
        let old = old.map(|old| shown_stream(stream, &old.value));
        differ(old, new, Delta::StreamDeleted, Delta::StreamAdded)
    }

    /// Its users as others see them.
    #[must_use]
    pub fn shown_users(&self) -> Vec<v1::RoomUser> {
        self.users.iter().map(|(user, held)| shown_user(user, &held.value)).collect()
    }

    /// Its streams as others see them.
    #[must_use]
    pub fn shown_streams(&self) -> Vec<v1::RoomStream> {
        self.streams.iter().map(|(stream, held)| shown_stream(stream, &held.value)).collect()
    }
}
