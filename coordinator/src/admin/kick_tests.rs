//! What a kick writes, and whom it keeps out.

use waystation_proto::{SessionId, StreamId};

use super::*;
use crate::{
    keys::{ClaimEntry, EpochSource},
    store::{Batch, Change, Entry, MAX_TRANSACTION},
};

const NOW: u64 = 1_800_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);

fn keys() -> Keys {
    Keys::under("p")
}

fn room() -> RoomId {
    RoomId::new("hall").unwrap()
}

fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

fn put(view: &mut View, key: &Key, value: Vec<u8>) {
    let revision = view.revision() + 1;
    let entry = Entry { key: keys().text(key), value, version: 1, modified: revision, lease: None };
    view.apply(&Batch { revision, changes: vec![Change::Put(entry)] });
}

/// Plays a transaction in, as if the store had taken it.
fn play<T>(view: &mut View, plan: Plan<T>) -> T {
    let (transaction, done) = match plan {
        Plan::Write(transaction, done) => (transaction, done),
        Plan::Settled(done) => return done,
    };
    assert!(transaction.compares.len() <= MAX_TRANSACTION && transaction.writes.len() <= MAX_TRANSACTION);
    let revision = view.revision() + 1;
    let change = |write| match write {
        Write::Put { key, value, lease } => {
            Change::Put(Entry { key, value, version: 1, modified: revision, lease })
        }
        Write::Delete(key) => Change::Delete(key),
    };
    let changes = transaction.writes.into_iter().map(change).collect();
    view.apply(&Batch { revision, changes });
    done
}

fn claim(view: &mut View, stream: &str, session: &str) {
    let key = StreamKey { room: room(), stream: StreamId::new(stream).unwrap() };
    let session = SessionId::new(session).unwrap();
    put(view, &Key::Claim(key), encode(&ClaimEntry { user: ann(), session, epoch: EpochSource::Above(0) }));
}

fn with_ann() -> View {
    let mut view = View::new(keys());
    let entry =
        r#"{"session":"s1","shown":"s1","rights":{"publish":true,"play":true},"connection":1,"owner":"c"}"#;
    put(&mut view, &Key::User(room(), ann()), entry.into());
    claim(&mut view, "cam", "s1");
    view
}

#[test]
fn a_kicked_user_is_out_with_all_its_streams_and_refused_until_its_time_is_over() {
    // ROOM-8, PUB-7
    let mut view = with_ann();
    claim(&mut view, "obs", "plain-1");
    assert_eq!(refusal(&view, &room(), &ann(), NOW), None);
    let plan = kick(&view, &keys(), &room(), &ann(), HOUR, NOW);
    let kicked = play(&mut view, plan);
    assert!(kicked.was_here);
    assert_eq!(kicked.streams.len(), 2, "a plain client's too");
    assert!(view.room(&room()).is_none(), "nothing of it is left");
    assert_eq!(view.revoked()[&SessionId::new("s1").unwrap()].error(), ErrorCode::Kicked);
    let refused = refusal(&view, &room(), &ann(), NOW + 1).unwrap();
    assert_eq!((refused.code, refused.message.contains("3600 s")), (ErrorCode::Kicked, true));
    let hour_ms = 3_600_000;
    assert!(refusal(&view, &room(), &ann(), NOW + hour_ms - 1).is_some());
    assert_eq!(refusal(&view, &room(), &ann(), NOW + hour_ms), None);
    let other = RoomId::new("other").unwrap();
    assert_eq!(refusal(&view, &other, &ann(), NOW), None, "other rooms are none of it");
    let held = view.kicked(&room(), &ann()).unwrap().value;
    assert!((NOW + 1000..=NOW + hour_ms).contains(&held.issued_until_ms()), "what was issued before is void");
    let until_ms = held.until_ms;
    assert!(until_ms >= later(NOW, REVOKED_FOR), "relays hear of it as long as a token may be good");
}

#[test]
fn a_user_that_was_not_here_is_refused_all_the_same_and_may_be_taken_again() {
    // ROOM-8
    let mut view = View::new(keys());
    let plan = kick(&view, &keys(), &room(), &ann(), HOUR, NOW);
    assert_eq!(play(&mut view, plan), Kicked::default());
    assert!(refusal(&view, &room(), &ann(), NOW).is_some());
    let plan = unkick(&view, &keys(), &room(), &ann(), NOW + 5);
    assert!(play(&mut view, plan));
    assert_eq!(refusal(&view, &room(), &ann(), NOW + 5), None);
    let held = view.kicked(&room(), &ann()).unwrap().value;
    assert_eq!(held.issued_until_ms(), NOW + 5, "and what is issued now is good");
    assert_eq!(held.until_ms, later(NOW, REVOKED_FOR));
    assert!(matches!(unkick(&view, &keys(), &room(), &ann(), NOW + 6), Plan::Settled(false)));
}

#[test]
fn a_user_with_more_streams_than_a_transaction_takes_loses_all_of_them() {
    // ROOM-8
    let mut view = with_ann();
    (0..200).for_each(|n| claim(&mut view, &format!("s{n}"), &format!("plain-{n}")));
    let plan = kick(&view, &keys(), &room(), &ann(), HOUR, NOW);
    let mut ended = play(&mut view, plan).streams.len();
    loop {
        let plan = end_rest(&view, &keys(), &room(), &ann());
        match play(&mut view, plan).streams.len() {
            0 => break,
            more => ended += more,
        }
    }
    assert_eq!(ended, 201);
    assert!(view.room(&room()).is_none());
}
