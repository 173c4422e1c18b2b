//! Who is doubted, vouched for and taken over, and on which condition.

use waystation_proto::UserId;

use super::*;
use crate::{
    keys::{Rights, decode},
    store::{Batch, Change, Entry},
};

const MODIFIED: u64 = 7;

fn room() -> RoomId {
    RoomId::new("r").unwrap()
}

fn session() -> SessionId {
    SessionId::new("s0").unwrap()
}

/// Users u0, u1 and so on, each of its owner.
fn view<'a>(owners: impl IntoIterator<Item = &'a str>, doubted: bool) -> View {
    let mut view = View::new(Keys::under("w"));
    let keys = view.keys().clone();
    let put = |(n, owner): (usize, &str)| {
        let session = SessionId::new(&format!("s{n}")).unwrap();
        let entry = UserEntry {
            app: String::new(),
            session: session.clone(),
            shown: session,
            rights: Rights::default(),
            expires_s: None,
            connection: 1,
            owner: owner.into(),
            replaced: Vec::new(),
            doubted,
            other: serde_json::Map::new(),
        };
        let key = keys.text(&Key::User(room(), UserId::new(&format!("u{n}")).unwrap()));
        Change::Put(Entry { key, value: encode(&entry), version: 1, modified: MODIFIED, lease: None })
    };
    let changes = owners.into_iter().enumerate().map(put).collect();
    view.apply(&Batch { revision: MODIFIED, changes });
    view
}

/// Owners and doubts that are written; each entry as it was seen, or not at all.
fn written<T>(plan: Plan<T>) -> Vec<(String, bool)> {
    let Plan::Write(Transaction { compares, writes }, _) = plan else { return Vec::new() };
    let entry = |write: &Write| {
        assert!(compares.contains(&Compare::Modified(write.key().to_owned(), MODIFIED)), "{compares:?}");
        let Write::Put { value, .. } = write else { panic!("{write:?}") };
        let entry: UserEntry = decode(value).unwrap();
        (entry.owner, entry.doubted)
    };
    writes.iter().map(entry).collect()
}

#[test]
fn only_what_was_seen_is_doubted_and_only_what_is_doubted_is_vouched_for() {
    // ROOM-5
    let (sure, doubted) = (view(["other"], false), view(["other"], true));
    let doubting = |seen| written(doubt(&sure, sure.keys(), &room(), &session(), seen));
    assert_eq!(doubting(MODIFIED), [("other".to_owned(), true)]);
    assert_eq!(doubting(MODIFIED - 1), []);
    let vouching = |view: &View| written(vouch(view, view.keys(), &room(), &session(), "me"));
    assert_eq!(vouching(&doubted), [("me".to_owned(), false)]);
    assert_eq!(vouching(&sure), [], "another vouched for it already");
}

#[test]
fn only_users_of_those_who_are_gone_are_taken_over_and_no_more_than_a_transaction_takes() {
    // ROOM-13
    let gone = BTreeSet::from(["dead".to_owned()]);
    let few = view(["dead", "other", "me", "dead"], true);
    let taken = written(take_over(&few, few.keys(), &gone, "me"));
    assert_eq!(taken, vec![("me".to_owned(), false); 2]);
    let many = view(vec!["dead"; MAX_TRANSACTION + 1], false);
    assert_eq!(written(take_over(&many, many.keys(), &gone, "me")).len(), MAX_TRANSACTION);
    let none = view(["other"], false);
    assert!(matches!(take_over(&none, none.keys(), &gone, "me"), Plan::Settled(0)));
}
