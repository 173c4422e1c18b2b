//! Which coordinator counts the time-out of a user, as transactions: pure functions of the view.
//!
//! Invariant: an owner changes by compare and swap on the entry that was seen, and others in the room never hear of it.

use std::collections::BTreeSet;

use waystation_proto::{RoomId, SessionId};

use crate::{
    context::Plan,
    keys::{Key, Keys, UserEntry, encode},
    mirror::{Held, View},
    store::{Compare, MAX_TRANSACTION, Transaction, Write},
};

fn rewrite(keys: &Keys, key: &Key, held: &Held<UserEntry>, entry: &UserEntry, into: &mut Transaction) {
    let key = keys.text(key);
    into.compares.push(Compare::Modified(key.clone(), held.modified));
    into.writes.push(Write::put(key, encode(entry)));
}

/// Asks other coordinators whether they heard a login that its owner has not heard for long; only what was seen at
/// this revision is doubted.
#[must_use]
pub fn doubt(view: &View, keys: &Keys, room: &RoomId, session: &SessionId, seen: u64) -> Plan<()> {
    let Some((user, held)) = view.user(room, session).filter(|(_, held)| held.modified == seen) else {
        return Plan::Settled(());
    };
    let mut transaction = Transaction::default();
    let entry = UserEntry { doubted: true, ..held.value.clone() };
    rewrite(keys, &Key::User(room.clone(), user.clone()), held, &entry, &mut transaction);
    Plan::Write(transaction, ())
}

/// This coordinator has heard a login that its owner doubts: it is ours now.
#[must_use]
pub fn vouch(view: &View, keys: &Keys, room: &RoomId, session: &SessionId, me: &str) -> Plan<()> {
    let Some((user, held)) = view.user(room, session).filter(|(_, held)| held.value.doubted) else {
        return Plan::Settled(());
    };
    let mut transaction = Transaction::default();
    let entry = UserEntry { doubted: false, owner: me.to_owned(), ..held.value.clone() };
    rewrite(keys, &Key::User(room.clone(), user.clone()), held, &entry, &mut transaction);
    Plan::Write(transaction, ())
}

/// Users of owners that are gone become ours, as many as fit into one transaction. Answers with how many.
#[must_use]
pub fn take_over(view: &View, keys: &Keys, gone: &BTreeSet<String>, me: &str) -> Plan<usize> {
    let users = view.rooms().iter().flat_map(|(room, of_room)| {
        of_room.users.iter().map(move |(user, held)| (Key::User(room.clone(), user.clone()), held))
    });
    let mut transaction = Transaction::default();
    for (key, held) in users.filter(|(_, held)| gone.contains(&held.value.owner)).take(MAX_TRANSACTION) {
        let entry = UserEntry { doubted: false, owner: me.to_owned(), ..held.value.clone() };
        rewrite(keys, &key, held, &entry, &mut transaction);
    }
    match transaction.writes.len() {
        0 => Plan::Settled(0),
        count => Plan::Write(transaction, count),
    }
}

#[cfg(test)]
#[path = "owners_tests.rs"]
mod tests;
