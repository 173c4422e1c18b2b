//! What is written when somebody leaves, and what is swept.

use super::*;
use crate::{
    keys::KickedEntry,
    store::{Batch, Change, Entry},
};

const NOW_MS: u64 = 100_000;

fn room() -> RoomId {
    RoomId::new("r").unwrap()
}

fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

fn session() -> SessionId {
    SessionId::new("a").unwrap()
}

/// Ann is in the room as of revision 7.
fn view(more: Vec<(Key, Vec<u8>, u64)>) -> View {
    let entry = UserEntry {
        app: "app".into(),
        session: session(),
        shown: session(),
        rights: Rights::default(),
        expires_s: Some(1),
        connection: 1,
        owner: "me".into(),
        replaced: Vec::new(),
        doubted: false,
        other: serde_json::Map::new(),
    };
    let mut view = View::new(Keys::under("w"));
    let keys = view.keys().clone();
    let ann = (Key::User(room(), ann()), encode(&entry), 7);
    let put = |(key, value, modified): (Key, Vec<u8>, u64)| {
        Change::Put(Entry { key: keys.text(&key), value, version: 1, modified, lease: None })
    };
    let changes = more.into_iter().chain([ann]).map(put).collect();
    view.apply(&Batch { revision: 7, changes });
    view
}

fn written<T>(plan: Plan<T>) -> Option<Transaction> {
    match plan {
        Plan::Write(transaction, _) => Some(transaction),
        Plan::Settled(_) => None,
    }
}

#[test]
fn time_is_up_only_for_what_was_seen() {
    // ROOM-5, ROOM-8
    let view = view(Vec::new());
    let leave = |leaving| written(leave(&view, view.keys(), &room(), &session(), leaving, NOW_MS));
    for late in [Leaving::Unheard { seen: 6 }, Leaving::Expired { seen: 6 }] {
        assert_eq!(leave(late), None, "it was written again since: {late:?}");
    }
    let user = view.keys().text(&Key::User(room(), ann()));
    let unheard = leave(Leaving::Unheard { seen: 7 }).unwrap();
    assert_eq!(unheard.compares, [Compare::Modified(user.clone(), 7)]);
    assert_eq!(unheard.writes, [Write::Delete(user)]);
    let expired = leave(Leaving::Expired { seen: 7 }).unwrap();
    let key = view.keys().text(&Key::Revoked(session()));
    let revocation = revoked(ErrorCode::TokenExpired, NOW_MS);
    assert_eq!(expired.writes[0], Write::put(key, encode(&revocation)));
    assert_eq!(expired.writes.len(), 2);
    assert_eq!(leave(Leaving::LoggedOut).unwrap().writes.len(), 1);
}

#[test]
fn what_is_swept_is_over_and_is_as_it_was_seen() {
    // ROOM-8
    let kick = |until_ms| encode(&KickedEntry { refused_until_ms: 0, kicked_ms: 0, until_ms });
    let kicked = |user: &str| Key::Kicked(room(), UserId::new(user).unwrap());
    let over = revoked(ErrorCode::Replaced, 0);
    let revocation = Key::Revoked(SessionId::new("old").unwrap());
    let view = view(vec![
        (kicked("over"), kick(NOW_MS), 3),
        (kicked("out"), kick(NOW_MS + 1), 4),
        (revocation.clone(), encode(&over), 5),
    ]);
    assert_eq!(written(sweep(&view, view.keys(), over.until_ms - 1)).unwrap().writes.len(), 2, "both kicks");
    let swept = written(sweep(&view, view.keys(), NOW_MS)).unwrap();
    let key = view.keys().text(&kicked("over"));
    assert_eq!(swept.compares, [Compare::Modified(key.clone(), 3)]);
    assert_eq!(swept.writes, [Write::Delete(key)]);
    assert_eq!(written(sweep(&view, view.keys(), NOW_MS - 1)), None);
}
