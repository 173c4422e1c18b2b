//! The copy against what it copies, and what others are told against both.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use waystation_proto::{NodeId, NodeRef, RoomId, SessionId, StreamId, StreamKey, UserId};

use super::{
    room::Delta,
    view::{News, View},
};
use crate::{
    keys::{Key, Keys, Rights, StreamEntry, UserEntry, encode},
    store::{Batch, Change, Entry, Listing},
};

fn keys() -> Keys {
    Keys::under("p")
}

fn room() -> RoomId {
    RoomId::new("hall").unwrap()
}

fn session(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

fn user(name: &str, login: &str, shown: &str) -> (String, Vec<u8>) {
    let entry = UserEntry {
        app: "app".into(),
        session: session(login),
        shown: session(shown),
        rights: Rights::default(),
        expires_s: None,
        connection: 1,
        owner: "c".into(),
        replaced: Vec::new(),
        doubted: false,
        other: serde_json::Map::new(),
    };
    (keys().text(&Key::User(room(), UserId::new(name).unwrap())), encode(&entry))
}

fn stream(name: &str, epoch: u64, origin: Option<u64>) -> (String, Vec<u8>) {
    let node = |incarnation| NodeRef { id: NodeId::new("n").unwrap(), incarnation };
    let entry = StreamEntry {
        user: UserId::new("ann").unwrap(),
        session: session("s"),
        epoch,
        moved: 0,
        origin: origin.map(node),
    };
    let key = StreamKey { room: room(), stream: StreamId::new(name).unwrap() };
    (keys().text(&Key::Stream(key)), encode(&entry))
}

fn put(revision: u64, (key, value): (String, Vec<u8>)) -> Change {
    Change::Put(Entry { key, value, version: 1, modified: revision, lease: None })
}

fn text(delta: &Delta) -> String {
    match delta {
        Delta::UserAdded(user) => format!("+{}/{}", user.user, user.session_id),
        Delta::UserDeleted(user) => format!("-{}/{}", user.user, user.session_id),
        Delta::StreamAdded(stream) => format!("+{}/{}", stream.stream, stream.epoch),
        Delta::StreamDeleted(stream) => format!("-{}/{}", stream.stream, stream.epoch),
    }
}

fn told(news: &[News]) -> Vec<String> {
    let deltas = news.iter().flat_map(|news| match news {
        News::Room(_, deltas) => deltas.as_slice(),
        News::User(..)
        | News::Claim(_)
        | News::Node(_)
        | News::Revoked(_)
        | News::Kicked(..)
        | News::Coordinator(_) => &[],
    });
    deltas.map(text).collect()
}

fn shown(view: &View) -> BTreeSet<String> {
    let Some(room) = view.room(&room()) else { return BTreeSet::new() };
    let users = room.shown_users().into_iter().map(|user| format!("{}/{}", user.user, user.session_id));
    let streams =
        room.shown_streams().into_iter().map(|stream| format!("{}/{}", stream.stream, stream.epoch));
    users.chain(streams).collect()
}

/// Applies one change at each revision, and answers with what was told at each.
fn after(changes: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<Vec<String>> {
    let mut view = View::new(keys());
    let apply =
        |(revision, change)| told(&view.apply(&Batch { revision, changes: vec![put(revision, change)] }));
    (1..).zip(changes).map(apply).collect()
}

#[test]
fn a_user_that_came_back_as_another_session_is_a_delete_and_an_add_in_that_order() {
    // ROOM-9
    assert_eq!(after([user("ann", "a", "a"), user("ann", "b", "b")])[1], ["-ann/a", "+ann/b"]);
}

#[test]
fn a_login_that_replaces_another_is_no_update_of_the_user() {
    // PUB-8
    assert!(after([user("ann", "a", "a"), user("ann", "b", "a")])[1].is_empty());
}

#[test]
fn a_new_epoch_is_a_delete_and_an_add_and_another_origin_is_nothing() {
    // PUB-8, PUB-9
    let told = after([
        stream("cam", 1, Some(1)),
        stream("cam", 1, Some(2)),
        stream("cam", 1, None),
        stream("cam", 2, None),
    ]);
    assert_eq!(told[0], ["+cam/1"]);
    assert!(told[1].is_empty() && told[2].is_empty());
    assert_eq!(told[3], ["-cam/1", "+cam/2"]);
}

#[test]
fn a_list_whose_revisions_come_again_with_other_values_is_played_in() {
    // ROOM-9
    let mut view = View::new(keys());
    view.apply(&Batch { revision: 5, changes: vec![put(5, user("ann", "a1", "a1"))] });
    let (key, value) = user("ann", "a2", "a2");
    let entry = |value| Entry { key: key.clone(), value, version: 1, modified: 5, lease: None };
    let news = view.relist(&Listing { revision: 5, entries: vec![entry(value.clone())] });
    assert_eq!(told(&news), ["-ann/a1", "+ann/a2"]);
    assert!(view.relist(&Listing { revision: 6, entries: vec![entry(value)] }).is_empty());
}

#[test]
fn a_value_that_cannot_be_read_is_as_good_as_none() {
    let (key, _) = user("ann", "a", "a");
    assert_eq!(after([user("ann", "a", "a"), (key, b"garbage".to_vec())])[1], ["-ann/a"]);
    assert!(after([("p/of/another/version".to_owned(), vec![1])])[0].is_empty());
}

/// What happens to one key: it is written in one of a few ways, or deleted.
fn step() -> impl Strategy<Value = (u8, Option<u8>)> {
    (0u8..6, prop::option::of(0u8..4))
}

fn made(which: u8, how: u8) -> (String, Vec<u8>) {
    let name = format!("x{which}");
    if which < 3 {
        user(&name, &format!("s{how}"), &format!("s{}", how / 2))
    } else {
        stream(&name, u64::from(how / 2), Some(u64::from(how)))
    }
}

proptest! {
    // However the copy is kept up to date, it is what the store holds, and whoever adds up what was told has it too.
    // ROOM-9
    #[test]
    fn a_watch_and_a_list_taken_anew_lead_to_the_same(
        batches in prop::collection::vec((prop::collection::vec(step(), 1..6), any::<bool>()), 1..20)
    ) {
        let (mut view, mut held, mut heard) = (View::new(keys()), BTreeMap::new(), BTreeSet::new());
        for ((steps, watched), revision) in batches.into_iter().zip(1..) {
            let mut changes = BTreeMap::new();
            for (which, how) in steps {
                let key = made(which, 0).0;
                let change = match how {
                    Some(how) => put(revision, made(which, how)),
                    None => Change::Delete(key.clone()),
                };
                changes.insert(key, change);
            }
            for (key, change) in &changes {
                match change {
                    Change::Put(entry) => held.insert(key.clone(), entry.clone()),
                    Change::Delete(key) => held.remove(key),
                };
            }
            let listing = Listing { revision, entries: held.values().cloned().collect() };
            let news = if watched {
                view.apply(&Batch { revision, changes: changes.into_values().collect() })
            } else {
                view.relist(&listing)
            };
            for delta in told(&news) {
                let (sign, entry) = delta.split_at(1);
                let fresh = if sign == "+" { heard.insert(entry.to_owned()) } else { heard.remove(entry) };
                prop_assert!(fresh, "{} was told twice", delta);
            }
            let mut anew = View::new(keys());
            anew.relist(&listing);
            prop_assert_eq!(&shown(&view), &shown(&anew));
            prop_assert_eq!(&shown(&view), &heard);
            prop_assert_eq!(view.revision(), revision);
        }
    }
}
