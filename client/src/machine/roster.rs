//! Who and what is in a room, as the app was told: the net change of each snapshot and of each revision (ROOM-9).
//!
//! Invariant: what was told as Add and not as Delete is what is held here; an entry is (id, session), so that one that came
//! back as another session is a Delete and then an Add.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use waystation_proto::{SessionId, StreamId, UserId};

use super::{
    event::{Change, StreamEntry, UserEntry},
    io::{Delta, Revision, Snapshot},
};

/// How long an entry that a coordinator's new store lacks is kept: it has this long to resume (ROOM-5).
const KEPT: Duration = Duration::from_secs(90);

/// An entry that is known by an id.
pub(super) trait Entry: Clone + Ord {
    type Id: Ord + ?Sized;
    fn id(&self) -> &Self::Id;
    fn session(&self) -> &SessionId;
}

impl Entry for UserEntry {
    type Id = UserId;
    fn id(&self) -> &UserId {
        &self.user
    }
    fn session(&self) -> &SessionId {
        &self.session
    }
}

impl Entry for StreamEntry {
    type Id = StreamId;
    fn id(&self) -> &StreamId {
        &self.stream
    }
    fn session(&self) -> &SessionId {
        &self.session
    }
}

/// Changes of one kind of entry, in order.
pub(super) type Changes<E> = Vec<(Change, E)>;

/// Entries of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entries<E: Entry> {
    held: BTreeSet<E>,
    /// Held though a new store lacks them, until then.
    missing: BTreeMap<E, Instant>,
}

impl<E: Entry> Entries<E> {
    fn new() -> Self {
        Self { held: BTreeSet::new(), missing: BTreeMap::new() }
    }

    fn snapshot(&mut self, fresh: BTreeSet<E>, new_store: bool, now: Instant) -> Changes<E> {
        let mut changes = Changes::new();
        let gone: Vec<E> = self.held.difference(&fresh).cloned().collect();
        for entry in gone {
            let replaced = fresh.iter().any(|other| other.id() == entry.id());
            let missing = self.missing.contains_key(&entry);
            if replaced || !(new_store || missing) {
                self.missing.remove(&entry);
                self.held.remove(&entry);
                changes.push((Change::Delete, entry));
            } else {
                self.missing.entry(entry).or_insert(now + KEPT);
            }
        }
        for entry in fresh {
            self.missing.remove(&entry);
            if self.held.insert(entry.clone()) {
                changes.push((Change::Add, entry));
            }
        }
        changes
    }

    fn add(&mut self, entry: E, changes: &mut Changes<E>) {
        self.missing.remove(&entry);
        if self.held.contains(&entry) {
            return;
        }
        let older: Vec<E> = self.held.iter().filter(|other| other.id() == entry.id()).cloned().collect();
        older.iter().for_each(|older| self.delete(older, changes));
        self.held.insert(entry.clone());
        changes.push((Change::Add, entry));
    }

    fn delete(&mut self, entry: &E, changes: &mut Changes<E>) {
        self.missing.remove(entry);
        if self.held.remove(entry) {
            changes.push((Change::Delete, entry.clone()));
        }
    }

    fn timeout(&mut self, now: Instant) -> Changes<E> {
        let over: Vec<E> =
            self.missing.iter().filter(|(_, until)| now >= **until).map(|(entry, _)| entry.clone()).collect();
        let mut changes = Changes::new();
        over.iter().for_each(|entry| self.delete(entry, &mut changes));
        changes
    }
}

/// What changed, as the app is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) users: Changes<UserEntry>,
    pub(super) streams: Changes<StreamEntry>,
}

/// A room's users and streams.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Roster {
    users: Entries<UserEntry>,
    streams: Entries<StreamEntry>,
    seen: Option<Revision>,
}

impl Roster {
    pub(super) fn new() -> Self {
        Self { users: Entries::new(), streams: Entries::new(), seen: None }
    }

    /// The newest revision seen.
    pub(super) fn seen(&self) -> Option<&Revision> {
        self.seen.as_ref()
    }

    pub(super) fn has_stream(&self, stream: &StreamId) -> bool {
        self.streams.held.iter().any(|entry| entry.stream == *stream)
    }

    /// Takes a whole room in.
    pub(super) fn snapshot(&mut self, snapshot: Snapshot, now: Instant) -> Difference {
        let store = &snapshot.revision.store_id;
        let new_store = self.seen.as_ref().is_some_and(|seen| seen.store_id != *store);
        let difference = Difference {
            users: self.users.snapshot(snapshot.users, new_store, now),
            streams: self.streams.snapshot(snapshot.streams, new_store, now),
        };
        self.seen = Some(snapshot.revision);
        difference
    }

    /// Takes one revision's changes in. One that was seen, or that is of another store, changes nothing.
    pub(super) fn change(&mut self, revision: Revision, deltas: Vec<Delta>) -> Difference {
        let mut difference = Difference::default();
        match &self.seen {
            Some(seen) if seen.store_id == revision.store_id && seen.number < revision.number => {}
            Some(_) | None => return difference,
        }
        for delta in deltas {
            match delta {
                Delta::UserAdded(entry) => self.users.add(entry, &mut difference.users),
                Delta::UserDeleted(entry) => self.users.delete(&entry, &mut difference.users),
                Delta::StreamAdded(entry) => self.streams.add(entry, &mut difference.streams),
                Delta::StreamDeleted(entry) => self.streams.delete(&entry, &mut difference.streams),
            }
        }
        self.seen = Some(revision);
        difference
    }

    /// Gives up what was missing for too long.
    pub(super) fn timeout(&mut self, now: Instant) -> Difference {
        Difference { users: self.users.timeout(now), streams: self.streams.timeout(now) }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.users.missing.values().chain(self.streams.missing.values()).min().copied()
    }
}

/// Neighbours of the same change together, without those of one's own session.
pub(super) fn grouped<E: Entry>(changes: Changes<E>, own: Option<&SessionId>) -> Vec<(Change, Vec<E>)> {
    let mut groups: Vec<(Change, Vec<E>)> = Vec::new();
    for (change, entry) in changes.into_iter().filter(|(_, entry)| Some(entry.session()) != own) {
        match groups.last_mut() {
            Some((last, entries)) if *last == change => entries.push(entry),
            Some(_) | None => groups.push((change, vec![entry])),
        }
    }
    groups
}
