//! A user is kicked out of a room, or taken again, as transactions: pure functions of the view.
//!
//! Invariant: from the write of its entry on, a kicked user neither logs in nor gets a node token, through whichever
//! coordinator; every way in compares the entry.

use std::time::Duration;

use waystation_proto::{ErrorCode, Refusal, RoomId, StreamKey, UserId};

use crate::{
    context::Plan,
    keys::{Key, Keys, KickedEntry, RevokedEntry, encode},
    mirror::View,
    store::{Compare, Transaction, Write},
    tokens::REVOKED_FOR,
};

/// Streams that one transaction ends; a user with more of them takes several.
const STREAMS_AT_ONCE: usize = 30;

/// What a kick did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kicked {
    /// Whether the user was in the room.
    pub was_here: bool,
    /// Streams that ended, with their epochs.
    pub streams: Vec<(StreamKey, u64)>,
}

fn later(now_ms: u64, by: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX))
}

/// Whether a user is refused, and with what.
#[must_use]
pub fn refusal(view: &View, room: &RoomId, user: &UserId, now_ms: u64) -> Option<Refusal> {
    let left_ms =
        view.kicked(room, user)?.value.refused_until_ms.checked_sub(now_ms).filter(|left| *left > 0)?;
    let message = format!(
        "user {user} was kicked out of room {room} and is refused for another {} s",
        left_ms.div_ceil(1000)
    );
    Some(Refusal::new(ErrorCode::Kicked, message))
}

/// Ends a user's login in a room, and up to [`STREAMS_AT_ONCE`] streams of it, and refuses the user for a while.
#[must_use]
pub fn kick(
    view: &View,
    keys: &Keys,
    room: &RoomId,
    user: &UserId,
    refused: Duration,
    now_ms: u64,
) -> Plan<Kicked> {
    let key = keys.text(&Key::Kicked(room.clone(), user.clone()));
    let seen = view.kicked(room, user);
    let refused_until_ms = later(now_ms, refused);
    let entry = KickedEntry {
        refused_until_ms,
        kicked_ms: now_ms,
        until_ms: refused_until_ms.max(later(now_ms, REVOKED_FOR)),
    };
    let mut transaction = Transaction {
        compares: vec![Compare::unchanged(key.clone(), seen.map(|held| held.modified))],
        // First: who hears of what follows finds out why.
        writes: vec![Write::put(key, encode(&entry))],
    };
    let mut kicked = Kicked::default();
    if let Some(held) = view.room(room).and_then(|room| room.users.get(user)) {
        let login = keys.text(&Key::User(room.clone(), user.clone()));
        let revoked = RevokedEntry { code: ErrorCode::Kicked.number(), until_ms: later(now_ms, REVOKED_FOR) };
        let session = held.value.session.clone();
        transaction.writes.push(Write::put(keys.text(&Key::Revoked(session)), encode(&revoked)));
        transaction.compares.push(Compare::Modified(login.clone(), held.modified));
        transaction.writes.push(Write::Delete(login));
        kicked.was_here = true;
    }
    end_streams(view, keys, room, user, &mut transaction, &mut kicked);
    Plan::Write(transaction, kicked)
}

/// Ends streams that are left, after a kick.
#[must_use]
pub fn end_rest(view: &View, keys: &Keys, room: &RoomId, user: &UserId) -> Plan<Kicked> {
    let (mut transaction, mut kicked) = (Transaction::default(), Kicked::default());
    end_streams(view, keys, room, user, &mut transaction, &mut kicked);
    if kicked.streams.is_empty() { Plan::Settled(kicked) } else { Plan::Write(transaction, kicked) }
}

/// Those of plain clients too, which have no login.
fn end_streams(
    view: &View,
    keys: &Keys,
    room: &RoomId,
    user: &UserId,
    transaction: &mut Transaction,
    kicked: &mut Kicked,
) {
    let claims = view.room(room).into_iter().flat_map(|room| &room.claims);
    for (stream, claim) in claims.filter(|(_, claim)| claim.value.user == *user).take(STREAMS_AT_ONCE) {
        let stream = StreamKey { room: room.clone(), stream: stream.clone() };
        let key = keys.text(&Key::Claim(stream.clone()));
        transaction.compares.push(Compare::Modified(key.clone(), claim.modified));
        transaction.writes.push(Write::Delete(key));
        transaction.writes.push(Write::Delete(keys.text(&Key::Stream(stream.clone()))));
        kicked.streams.push((stream, claim.value.epoch(claim.modified)));
        kicked.was_here = true;
    }
}

/// Takes a user again; whether it was refused. What was issued to it before the kick stays worthless.
#[must_use]
pub fn unkick(view: &View, keys: &Keys, room: &RoomId, user: &UserId, now_ms: u64) -> Plan<bool> {
    let Some(held) = view.kicked(room, user).filter(|held| held.value.refused_until_ms > now_ms) else {
        return Plan::Settled(false);
    };
    let key = keys.text(&Key::Kicked(room.clone(), user.clone()));
    let until_ms = later(held.value.kicked_ms, REVOKED_FOR);
    let entry = KickedEntry { refused_until_ms: now_ms, until_ms, ..held.value };
    let compares = vec![Compare::Modified(key.clone(), held.modified)];
    Plan::Write(Transaction { compares, writes: vec![Write::put(key, encode(&entry))] }, true)
}

#[cfg(test)]
#[path = "kick_tests.rs"]
mod tests;
