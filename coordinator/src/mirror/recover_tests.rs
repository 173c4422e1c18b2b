//! Stores that lost all, or came back from a backup, against the copy of a coordinator.

use std::time::Instant;

use waystation_proto::{RoomId, SessionId, StreamId, StreamKey, UserId};

use super::*;
use crate::{
    keys::Rights,
    store::{Batch, Change, MemoryStore},
};

const BASE: u64 = 1000;

fn keys() -> Keys {
    Keys::under("w")
}

fn room() -> RoomId {
    RoomId::new("r").unwrap()
}

fn session(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

fn user_key(user: &str) -> String {
    keys().text(&Key::User(room(), UserId::new(user).unwrap()))
}

fn claim_key(stream: &str) -> String {
    keys().text(&Key::Claim(StreamKey { room: room(), stream: StreamId::new(stream).unwrap() }))
}

fn epochs_key() -> String {
    keys().text(&Key::Epochs)
}

fn user(login: &str, connection: u64, replaced: &[&str]) -> Vec<u8> {
    encode(&UserEntry {
        app: "app".into(),
        session: session(login),
        shown: session(login),
        rights: Rights::default(),
        expires_s: None,
        connection,
        owner: "me".into(),
        replaced: replaced.iter().map(|text| session(text)).collect(),
        doubted: false,
        other: serde_json::Map::new(),
    })
}

fn claim(epoch: EpochSource) -> Vec<u8> {
    encode(&ClaimEntry { user: UserId::new("ann").unwrap(), session: session("a"), epoch })
}

fn entry(key: String, value: Vec<u8>, modified: u64) -> Entry {
    Entry { key, value, version: 1, modified, lease: None }
}

fn origin_entry(modified: u64) -> Entry {
    entry(epochs_key(), encode(&Origin::above(BASE, 0)), modified)
}

fn copied(entries: &[Entry]) -> View {
    let mut view = View::new(keys());
    let revision = entries.iter().map(|entry| entry.modified).max().unwrap_or(0);
    view.apply(&Batch { revision, changes: entries.iter().cloned().map(Change::Put).collect() });
    view
}

fn listing(revision: u64, entries: &[Entry]) -> Listing {
    Listing { revision, entries: entries.to_vec() }
}

/// The keys that are written, and those that are deleted.
fn set_right(view: &View, listing: &Listing) -> (Vec<String>, Vec<String>) {
    let (mut put, mut deleted) = (Vec::new(), Vec::new());
    for transaction in lacking(view, listing) {
        assert_eq!((transaction.compares.len(), transaction.writes.len()), (1, 1));
        match &transaction.writes[0] {
            Write::Put { key, .. } => put.push(key.clone()),
            Write::Delete(key) => deleted.push(key.clone()),
        }
    }
    (put, deleted)
}

#[test]
fn a_store_is_lost_if_it_is_empty_another_or_older_and_has_not_been_written_back() {
    let (mine, other) = (StoreId("mine".into()), StoreId("other".into()));
    let view = copied(&[origin_entry(5), entry(user_key("ann"), user("a", 1, &[]), 9)]);
    let of = |id: &StoreId, listing: &Listing| compare(&view, &mine, id, listing);
    assert_eq!(of(&mine, &listing(9, &[origin_entry(5)])), Life::Same, "users may go");
    assert_eq!(of(&mine, &listing(8, &[origin_entry(5)])), Life::Lost, "older");
    assert_eq!(of(&other, &listing(9, &[origin_entry(5)])), Life::Lost, "another");
    assert_eq!(of(&mine, &listing(9, &[])), Life::Lost, "emptied");
    let restored_from = |id: &StoreId| Origin { base: 1, met_ms: 0, restored_from: Some(id.0.clone()) };
    let written_back = |id| listing(2, &[entry(epochs_key(), encode(&restored_from(id)), 2)]);
    assert_eq!(of(&other, &written_back(&mine)), Life::Same);
    assert_eq!(of(&other, &written_back(&other)), Life::Lost, "somebody else's content");
    assert_eq!(compare(&View::new(keys()), &mine, &other, &listing(1, &[])), Life::Same, "nothing known");
}

#[test]
fn a_claim_goes_back_under_its_epoch_unless_a_higher_one_is_held() {
    // PUB-11
    let view = copied(&[entry(claim_key("s"), claim(EpochSource::Above(BASE)), 50)]);
    let written = |listed: &[Entry]| {
        let back = lacking(&view, &listing(60, listed)).pop()?;
        let Write::Put { value, .. } = &back.writes[0] else { panic!() };
        Some(decode::<ClaimEntry>(value).unwrap().epoch)
    };
    let gathered = Some(EpochSource::Gathered(BASE + 50));
    assert_eq!(written(&[]), gathered);
    assert_eq!(written(&[entry(claim_key("s"), claim(EpochSource::Above(BASE)), 49)]), gathered);
    assert_eq!(written(&[entry(claim_key("s"), claim(EpochSource::Above(BASE)), 51)]), None);
    assert_eq!(written(&[entry(claim_key("s"), claim(EpochSource::Gathered(BASE + 50)), 3)]), None);
}

#[test]
fn a_stream_goes_back_unless_its_later_move_is_held() {
    // PUB-9
    let key = keys().text(&Key::Stream(StreamKey { room: room(), stream: StreamId::new("s").unwrap() }));
    let stream = |epoch, moved, modified| {
        let user = UserId::new("ann").unwrap();
        let entry_of = StreamEntry { user, session: session("a"), epoch, moved, origin: None };
        entry(key.clone(), encode(&entry_of), modified)
    };
    let view = copied(&[stream(7, 3, 50)]);
    for (listed, goes_back) in [
        (vec![], true),
        (vec![stream(7, 2, 40)], true),
        (vec![stream(6, 9, 40)], true),
        (vec![stream(7, 3, 60)], false),
        (vec![stream(7, 4, 60)], false),
        (vec![stream(8, 0, 60)], false),
    ] {
        assert_eq!(lacking(&view, &listing(60, &listed)).len(), usize::from(goes_back), "{listed:?}");
    }
}

#[test]
fn an_older_login_of_a_backup_never_comes_back() {
    // ROOM-7
    let view = copied(&[entry(user_key("ann"), user("new", 4, &["old"]), 50)]);
    let back =
        |listed: Vec<u8>| set_right(&view, &listing(40, &[entry(user_key("ann"), listed, 30)])).0.len();
    assert_eq!(back(user("old", 9, &[])), 1, "it was replaced since");
    assert_eq!(back(user("new", 3, &["old"])), 1, "an older connection");
    assert_eq!(back(user("new", 4, &["old"])), 0, "written since");
    assert_eq!(back(user("newest", 1, &["old", "new"])), 0, "another login since");
    assert_eq!(back(b"{".to_vec()), 1, "what cannot be read is none");
}

#[test]
fn what_went_since_a_backup_goes_again_and_what_came_since_stays() {
    // ROOM-4, ROOM-5
    let there = entry(user_key("there"), user("t", 1, &[]), 20);
    let revoked = keys().text(&Key::Revoked(session("x")));
    let view = copied(&[there.clone(), entry(user_key("came"), user("c", 1, &[]), 50)]);
    let listing = listing(
        40,
        &[
            entry(user_key("gone"), user("g", 1, &[]), 10),
            entry(claim_key("gone"), claim(EpochSource::Above(BASE)), 11),
            entry(revoked, b"{}".to_vec(), 12),
            there,
            entry(user_key("new"), user("n", 1, &[]), 40),
        ],
    );
    let (put, deleted) = set_right(&view, &listing);
    assert_eq!(put, [user_key("came")]);
    assert_eq!(deleted, [user_key("gone"), claim_key("gone")]);
}

async fn put(store: &MemoryStore, key: String, value: Vec<u8>) {
    let writes = vec![Write::put(key, value)];
    store.commit(Transaction { compares: Vec::new(), writes }).await.unwrap();
}

/// A mirror of a store with 250 users, which then lost them all.
async fn lost() -> (MemoryStore, Mirror) {
    let store = MemoryStore::new();
    put(&store, epochs_key(), encode(&Origin::above(BASE, 0))).await;
    for n in 0..250 {
        put(&store, user_key(&format!("u{n}")), user(&format!("s{n}"), 1, &[])).await;
    }
    let id = store.id().await.unwrap();
    let mirror = Mirror::new(id.clone(), keys());
    let all = store.list("w/").await.unwrap();
    mirror.relist(id, &all, Instant::now());
    for entry in all.entries {
        let writes = vec![Write::Delete(entry.key)];
        store.commit(Transaction { compares: Vec::new(), writes }).await.unwrap();
    }
    (store, mirror)
}

async fn users(store: &MemoryStore) -> usize {
    store.list("w/user/").await.unwrap().entries.len()
}

async fn epochs(store: &MemoryStore) -> Option<Origin> {
    store.get(&epochs_key()).await.unwrap().entry.and_then(|held| decode(&held.value))
}

#[tokio::test]
async fn what_was_lost_is_written_back_and_epochs_begin_above_all_that_were_granted() {
    // PUB-11
    let (store, mirror) = lost().await;
    let known = mirror.read(View::revision);
    restore(&store, &mirror, &keys(), "me").await.unwrap();
    assert_eq!(users(&store).await, 250);
    let origin = epochs(&store).await.unwrap();
    assert!(origin.base > BASE + known && origin.base >= first_epoch(1_700_000_000_000), "{origin:?}");
    assert_eq!(origin.restored_from, Some(mirror.store().0));
    let mark = store.get(&keys().text(&Key::Restoring)).await.unwrap().entry;
    assert_eq!(mark, None, "the mark is gone");
}

#[tokio::test]
async fn one_writes_back_while_others_wait_and_who_lost_its_mark_writes_nothing() {
    let (store, mirror) = lost().await;
    let mark = keys().text(&Key::Restoring);
    put(&store, mark.clone(), encode(&RestoringEntry { owner: "other".into() })).await;
    restore(&store, &mirror, &keys(), "me").await.unwrap();
    assert_eq!((users(&store).await, epochs(&store).await), (0, None), "another is at it");
    let lost = Compare::Modified(mark, 1);
    let done = write_back(&store, &mirror, &keys(), &lost).await;
    assert!(done.is_err());
    assert_eq!((users(&store).await, epochs(&store).await), (0, None), "its mark ran out meanwhile");
}

#[test]
fn what_a_backup_has_of_a_key_is_older_whatever_it_says() {
    let there = entry(user_key("there"), user("t", 1, &[]), 20);
    let view = copied(&[there.clone(), entry(user_key("ann"), user("a", 1, &[]), 50)]);
    let back = |modified| {
        let ann = entry(user_key("ann"), user("another", 1, &[]), modified);
        set_right(&view, &listing(40, &[ann, there.clone()])).0
    };
    assert_eq!(back(19), [user_key("ann")], "it was there before something that is there still");
    assert!(back(30).is_empty(), "it may have been written since");
}

#[tokio::test]
async fn epochs_begin_above_those_that_were_granted_whatever_the_clock_says() {
    // PUB-11
    let store = MemoryStore::new();
    let mirror = Mirror::new(StoreId("lost".into()), keys());
    let base = 1 << 60;
    let origin = entry(epochs_key(), encode(&Origin::above(base, 0)), 70);
    mirror.relist(StoreId("lost".into()), &listing(77, &[origin]), Instant::now());
    restore(&store, &mirror, &keys(), "me").await.unwrap();
    assert_eq!(epochs(&store).await.unwrap().base, base + 77 + 1);
}

#[tokio::test]
async fn what_another_wrote_back_meanwhile_is_not_written_again() {
    let (store, mirror) = lost().await;
    restore(&store, &mirror, &keys(), "other").await.unwrap();
    let before = store.list("w/").await.unwrap();
    restore(&store, &mirror, &keys(), "me").await.unwrap();
    assert_eq!(store.list("w/").await.unwrap().entries, before.entries);
}
