//! One room of the view, and what others are told when something in it changes: pure.

use std::collections::BTreeMap;

use waystation_proto::{SessionId, StreamId, UserId, v1};

use super::view::Held;
use crate::keys::{ClaimEntry, StreamEntry, UserEntry};

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
    /// The user of a login.
    #[must_use]
    pub fn user_of(&self, session: &SessionId) -> Option<(&UserId, &Held<UserEntry>)> {
        let user = self.sessions.get(session)?;
        Some((user, self.users.get(user)?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.streams.is_empty() && self.claims.is_empty()
    }

    pub(super) fn take_user(&mut self, user: &UserId, entry: Option<Held<UserEntry>>) -> Vec<Delta> {
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

    pub(super) fn take_stream(&mut self, stream: &StreamId, entry: Option<Held<StreamEntry>>) -> Vec<Delta> {
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
