//! Coming into a room and leaving it, as transactions: pure functions of the view.

use waystation_proto::{ErrorCode, Refusal, RoomId, SessionId, StreamKey, UserId};

use super::login::{Attempt, Decision, decide};
use crate::{
    admin,
    context::Plan,
    keys::{Key, Keys, RevokedEntry, Rights, UserEntry, encode},
    mirror::{Held, Standing, View},
    store::{Compare, Transaction, Write},
    tokens::REVOKED_FOR,
};

/// Streams that one login may publish: what is deleted with it fits into one transaction.
pub const MAX_STREAMS: usize = 32;

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The user is in the room. Whether it was in it before, under this login.
    Up {
        /// The login was known.
        resumed: bool,
    },
    /// A newer connection of the same login came first.
    Late,
    /// It is over.
    Refused(Refusal),
}

/// What went with a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Streams that ended, with their epochs.
    pub streams: Vec<(StreamKey, u64)>,
}

fn revoked(code: ErrorCode, now_ms: u64) -> RevokedEntry {
    let kept_ms = u64::try_from(REVOKED_FOR.as_millis()).unwrap_or(u64::MAX);
    RevokedEntry { code: code.number(), until_ms: now_ms.saturating_add(kept_ms) }
}

/// Ends what a login published.
fn end_streams(view: &View, keys: &Keys, room: &RoomId, session: &SessionId, into: &mut Transaction) -> Left {
    let mut left = Left::default();
    for (stream, claim) in view.claims_of(room, session).take(MAX_STREAMS) {
        let key = keys.text(&Key::Claim(stream.clone()));
        into.compares.push(Compare::Modified(key.clone(), claim.modified));
        into.writes.push(Write::Delete(key));
        into.writes.push(Write::Delete(keys.text(&Key::Stream(stream.clone()))));
        left.streams.push((stream, claim.value.epoch(claim.modified)));
    }
    left
}

/// A login, whose token was checked, comes into a room that takes so many users.
#[must_use]
pub fn enter(
    view: &View,
    keys: &Keys,
    room: &RoomId,
    attempt: &Attempt<'_>,
    most: usize,
    now_ms: u64,
) -> Plan<Entered> {
    let refused = |refusal| Plan::Settled(Entered::Refused(refusal));
    if let Some(revoked) = view.revoked().get(attempt.session) {
        let code = revoked.error();
        return refused(Refusal::new(code, code.text()));
    }
    let user = &attempt.token.user;
    if let Some(refusal) = admin::refusal(view, room, user, now_ms) {
        return refused(refusal);
    }
    let users = view.room(room).map(|room| &room.users);
    let held = users.and_then(|users| users.get(user));
    if held.is_none() && users.is_some_and(|users| users.len() >= most) {
        let message = format!("room {room} takes {most} users; wait for one to leave");
        return refused(Refusal::new(ErrorCode::RoomFull, message));
    }
    let key = keys.text(&Key::User(room.clone(), user.clone()));
    let kicked = keys.text(&Key::Kicked(room.clone(), user.clone()));
    let compares = vec![
        Compare::unchanged(key.clone(), held.map(|held| held.modified)),
        Compare::unchanged(kicked, view.kicked(room, user).map(|held| held.modified)),
    ];
    let mut transaction = Transaction { compares, writes: Vec::new() };
    match decide(held.map(|held| &held.value), attempt) {
        Decision::Enter(entry) => {
            let resumed = held.is_some();
            if held.is_some_and(|held| held.value == entry) {
                return Plan::Settled(Entered::Up { resumed });
            }
            transaction.writes.push(Write::put(key, encode(&entry)));
            Plan::Write(transaction, Entered::Up { resumed })
        }
        Decision::Replace { entry, ended, forgotten } => {
            // The revocation first: who hears of the new login finds out why the old one ended.
            let revocation = encode(&revoked(ErrorCode::Replaced, now_ms));
            transaction.writes.push(Write::put(keys.text(&Key::Revoked(ended.clone())), revocation));
            transaction.writes.push(Write::put(key, encode(&entry)));
            if let Some(forgotten) = forgotten {
                transaction.writes.push(Write::Delete(keys.text(&Key::Revoked(forgotten))));
            }
            end_streams(view, keys, room, &ended, &mut transaction);
            Plan::Write(transaction, Entered::Up { resumed: false })
        }
        Decision::Late => Plan::Settled(Entered::Late),
        Decision::Refuse(refusal) => refused(refusal),
    }
}

/// A relay says that a user is here whom an empty store does not know.
#[must_use]
pub fn enter_by_relays_word(
    view: &View,
    keys: &Keys,
    room: &RoomId,
    user: &UserId,
    session: &SessionId,
    owner: &str,
) -> Plan<()> {
    let known = view.room(room).is_some_and(|room| room.users.contains_key(user));
    if known || view.standing(room, session) != Standing::Unknown {
        return Plan::Settled(());
    }
    let entry = UserEntry {
        app: String::new(),
        session: session.clone(),
        shown: session.clone(),
        rights: Rights::default(),
        expires_s: None,
        connection: 0,
        owner: owner.to_owned(),
        replaced: Vec::new(),
        doubted: false,
        other: serde_json::Map::new(),
    };
    let key = keys.text(&Key::User(room.clone(), user.clone()));
    let compares = vec![Compare::Absent(key.clone())];
    Plan::Write(Transaction { compares, writes: vec![Write::put(key, encode(&entry))] }, ())
}

/// Why a login leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It logged out.
    LoggedOut,
    /// It was not heard; only what was seen at this revision goes.
    Unheard {
        /// Of the entry.
        seen: u64,
    },
    /// Its token expired; a login that has a new one since stays.
    Expired {
        /// Revision of the entry with the old token.
        seen: u64,
    },
}

/// A login leaves a room, and all it published with it.
#[must_use]
pub fn leave(
    view: &View,
    keys: &Keys,
    room: &RoomId,
    session: &SessionId,
    leaving: Leaving,
    now_ms: u64,
) -> Plan<Left> {
    let Some((user, held)) = view.user(room, session) else { return Plan::Settled(Left::default()) };
    let key = keys.text(&Key::User(room.clone(), user.clone()));
    let mut transaction =
        Transaction { compares: vec![Compare::Modified(key.clone(), held.modified)], writes: Vec::new() };
    let revocation = match leaving {
        Leaving::Unheard { seen } | Leaving::Expired { seen } if seen != held.modified => {
            return Plan::Settled(Left::default());
        }
        Leaving::Unheard { .. } | Leaving::LoggedOut => None,
        Leaving::Expired { .. } => Some(revoked(ErrorCode::TokenExpired, now_ms)),
    };
    if let Some(revocation) = revocation {
        let key = keys.text(&Key::Revoked(session.clone()));
        transaction.writes.push(Write::put(key, encode(&revocation)));
    }
    let left = end_streams(view, keys, room, session, &mut transaction);
    transaction.writes.push(Write::Delete(key));
    Plan::Write(transaction, left)
}

/// A login has a new token. Its rights are those of the new one.
#[must_use]
pub fn renew(
    keys: &Keys,
    room: &RoomId,
    user: &UserId,
    held: &Held<UserEntry>,
    token: &waystation_proto::token::UserToken,
) -> Plan<Result<(), Refusal>> {
    let refused = |message: String| Plan::Settled(Err(Refusal::new(ErrorCode::TokenRefused, message)));
    if token.user != *user {
        return refused(format!("the new token is that of user {}, not of {user}", token.user));
    }
    if !held.value.app.is_empty() && held.value.app != token.app {
        return refused(format!("the new token is that of another app than {}", held.value.app));
    }
    let rights = Rights { publish: token.publish, play: token.play, streams: token.streams.clone() };
    let entry =
        UserEntry { app: token.app.clone(), rights, expires_s: Some(token.exp), ..held.value.clone() };
    let key = keys.text(&Key::User(room.clone(), user.clone()));
    let compares = vec![Compare::Modified(key.clone(), held.modified)];
    Plan::Write(Transaction { compares, writes: vec![Write::put(key, encode(&entry))] }, Ok(()))
}

/// Revocations and kicks whose tokens have all expired.
#[must_use]
pub fn sweep(view: &View, keys: &Keys, now_ms: u64) -> Plan<()> {
    let over = view.revoked().iter().filter(|(_, entry)| entry.until_ms <= now_ms);
    let over = over.map(|(session, _)| keys.text(&Key::Revoked(session.clone())));
    let kicks = view.kicks().filter(|(_, held)| held.value.until_ms <= now_ms);
    let kicks = kicks.map(|((room, user), _)| keys.text(&Key::Kicked(room.clone(), user.clone())));
    let mut transaction = Transaction::default();
    for key in over.chain(kicks).take(crate::store::MAX_TRANSACTION) {
        // One that was kicked again since stays out.
        let seen = view.known().get(&key).map(|known| known.modified);
        transaction.compares.push(Compare::unchanged(key.clone(), seen));
        transaction.writes.push(Write::Delete(key));
    }
    if transaction.writes.is_empty() {
        return Plan::Settled(());
    }
    Plan::Write(transaction, ())
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
