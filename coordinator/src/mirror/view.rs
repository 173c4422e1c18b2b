//! The coordinator's copy of the store, and what others are told of a change: pure.
//!
//! Invariant: the view after a batch is the store at that batch's revision. A list taken anew is played in as one
//! batch of differences, so that nothing downstream knows how the view was brought up to date.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::de::DeserializeOwned;
use waystation_proto::{KeyId, Node, NodeId, RoomId, SessionId, StreamKey, UserId};

use super::room::{Delta, Room};
use crate::{
    keys::{
        ClaimEntry, CoordinatorEntry, Key, Keys, KickedEntry, NewestEntry, NodeEntry, Origin, RevokedEntry,
        SigningEntry, UserEntry, decode,
    },
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
    /// A user was kicked, or let in again.
    Kicked(RoomId, UserId),
    /// A coordinator came or went.
    Coordinator(String),
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
    /// Every key as it was last written: to tell what a list taken anew changed, and to write back what a store lost.
    known: BTreeMap<String, Known>,
    epochs: Origin,
    rooms: BTreeMap<RoomId, Room>,
    nodes: BTreeMap<NodeId, Held<NodeEntry>>,
    revoked: BTreeMap<SessionId, RevokedEntry>,
    kicked: BTreeMap<(RoomId, UserId), Held<KickedEntry>>,
    signing: BTreeMap<KeyId, Held<SigningEntry>>,
    newest_key: Option<Held<NewestEntry>>,
    coordinators: BTreeMap<String, CoordinatorEntry>,
    /// How many users and nodes each coordinator owns.
    owned: BTreeMap<String, usize>,
}

/// A key as it was last written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Revision of the write.
    pub modified: u64,
    /// Its bytes; of a key that goes with a lease they are not kept.
    pub value: Option<Arc<[u8]>>,
}

impl Known {
    fn of(entry: &Entry) -> Self {
        let value = entry.lease.is_none().then(|| entry.value.as_slice().into());
        Self { modified: entry.modified, value }
    }
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
            epochs: Origin::default(),
            rooms: BTreeMap::new(),
            nodes: BTreeMap::new(),
            revoked: BTreeMap::new(),
            kicked: BTreeMap::new(),
            signing: BTreeMap::new(),
            newest_key: None,
            coordinators: BTreeMap::new(),
            owned: BTreeMap::new(),
        }
    }

    /// Up to which revision it is.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Where epochs begin.
    #[must_use]
    pub fn epochs(&self) -> &Origin {
        &self.epochs
    }

    /// Every key as it was last written.
    #[must_use]
    pub fn known(&self) -> &BTreeMap<String, Known> {
        &self.known
    }

    /// The keys of this store.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Coordinators that live.
    #[must_use]
    pub fn coordinators(&self) -> &BTreeMap<String, CoordinatorEntry> {
        &self.coordinators
    }

    /// Coordinators that own users or nodes, alive or not.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        self.owned.keys().map(String::as_str)
    }

    /// All nodes with their owners.
    pub fn node_entries(&self) -> impl Iterator<Item = &Held<NodeEntry>> {
        self.nodes.values()
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

    /// All users that were kicked.
    pub fn kicks(&self) -> impl Iterator<Item = (&(RoomId, UserId), &Held<KickedEntry>)> {
        self.kicked.iter()
    }

    /// Whether a user was kicked, and for how long.
    #[must_use]
    pub fn kicked(&self, room: &RoomId, user: &UserId) -> Option<&Held<KickedEntry>> {
        self.kicked.get(&(room.clone(), user.clone()))
    }

    /// All keys of node tokens.
    #[must_use]
    pub fn signing(&self) -> &BTreeMap<KeyId, Held<SigningEntry>> {
        &self.signing
    }

    /// The key that was made last.
    #[must_use]
    pub fn newest_key(&self) -> Option<&Held<NewestEntry>> {
        self.newest_key.as_ref()
    }

    /// The user of a login.
    #[must_use]
    pub fn user(&self, room: &RoomId, session: &SessionId) -> Option<(&UserId, &Held<UserEntry>)> {
        self.rooms.get(room)?.user_of(session)
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
                Some(entry) => self.known.insert(text.clone(), Known::of(entry)),
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
        // Revisions of a store that was restored come again, with other values.
        let fresh = |entry: &&Entry| self.known.get(&entry.key) != Some(&Known::of(entry));
        let fresh = listing.entries.iter().filter(fresh);
        let changes: Vec<_> = gone.chain(fresh.map(|entry| Change::Put(entry.clone()))).collect();
        let news = self.apply(&Batch { revision: listing.revision, changes });
        self.revision = listing.revision;
        news
    }

    fn take(&mut self, key: Key, entry: Option<&Entry>, news: &mut Vec<News>) {
        match key {
            Key::Epochs => {
                self.epochs = entry.and_then(read).map(|held| held.value).unwrap_or_default();
            }
            Key::User(room, user) => {
                let entry: Option<Held<UserEntry>> = entry.and_then(read);
                let of_room = self.rooms.entry(room.clone()).or_default();
                let before = of_room.users.get(&user).map(|held| held.value.owner.clone());
                let after = entry.as_ref().map(|held| held.value.owner.clone());
                let deltas = of_room.take_user(&user, entry);
                self.tidy(&room);
                self.own(before, after);
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
                let entry: Option<Held<NodeEntry>> = entry.and_then(read);
                let after = entry.as_ref().map(|held| held.value.owner.clone());
                let before = match entry {
                    Some(held) => self.nodes.insert(node.clone(), held),
                    None => self.nodes.remove(&node),
                };
                self.own(before.map(|held| held.value.owner), after);
                news.push(News::Node(node));
            }
            Key::Coordinator(id) => {
                match entry.and_then(read).map(|held| held.value) {
                    Some(coordinator) => self.coordinators.insert(id.clone(), coordinator),
                    None => self.coordinators.remove(&id),
                };
                news.push(News::Coordinator(id));
            }
            // Of interest only to whoever lists a store anew.
            Key::Restoring => {}
            Key::Kicked(room, user) => match entry.and_then(read) {
                Some(kicked) => {
                    self.kicked.insert((room.clone(), user.clone()), kicked);
                    news.push(News::Kicked(room, user));
                }
                None => {
                    self.kicked.remove(&(room, user));
                }
            },
            Key::Signing(id) => {
                match entry.and_then(read) {
                    Some(held) => self.signing.insert(id, held),
                    None => self.signing.remove(&id),
                };
            }
            Key::Newest => self.newest_key = entry.and_then(read),
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

    /// An entry went from one owner to another.
    fn own(&mut self, before: Option<String>, after: Option<String>) {
        if let Some(after) = after {
            *self.owned.entry(after).or_default() += 1;
        }
        if let Some(before) = before
            && let Some(count) = self.owned.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.owned.remove(&before);
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
