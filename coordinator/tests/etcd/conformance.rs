//! What every store must do, as functions over the trait: the memory store runs them, and so does any other.

use std::time::Duration;

use futures_util::{StreamExt as _, future::BoxFuture};

use waystation_coordinator::store::{
    Change, Compare, MAX_TRANSACTION, Outcome, Store, StoreError, Transaction, Write,
};

fn put(key: &str, value: &str) -> Write {
    Write::put(key.into(), value.into())
}

fn transaction(compares: Vec<Compare>, writes: Vec<Write>) -> Transaction {
    Transaction { compares, writes }
}

async fn done(store: &impl Store, writes: Vec<Write>) -> u64 {
    match store.commit(transaction(vec![], writes)).await.unwrap() {
        Outcome::Done(revision) => revision,
        Outcome::Conflict => panic!("there was nothing to compare"),
    }
}

/// Runs everything, each on an empty store.
pub async fn run<S: Store>(fresh: impl Fn() -> BoxFuture<'static, S>) {
    revisions_rise_and_entries_know_theirs(&fresh().await).await;
    a_list_is_of_one_prefix_and_in_order(&fresh().await).await;
    a_transaction_is_done_whole_or_not_at_all(&fresh().await).await;
    a_transaction_that_cannot_be_taken_is_refused(&fresh().await).await;
    a_watch_replays_and_then_follows(&fresh().await).await;
    a_watch_sees_one_batch_for_one_transaction(&fresh().await).await;
    a_lease_takes_its_entries_with_it(&fresh().await).await;
    a_lease_that_is_kept_alive_stays(&fresh().await).await;
    an_entry_put_again_without_the_lease_stays(&fresh().await).await;
}

async fn revisions_rise_and_entries_know_theirs(store: &impl Store) {
    let first = done(store, vec![put("a", "1")]).await;
    let second = done(store, vec![put("a", "2")]).await;
    assert!(second > first);
    let found = store.get("a").await.unwrap();
    assert!(found.revision >= second);
    let entry = found.entry.unwrap();
    assert_eq!((entry.version, entry.modified, entry.value.as_slice()), (2, second, b"2".as_slice()));
    done(store, vec![Write::Delete("a".into())]).await;
    assert_eq!(store.get("a").await.unwrap().entry, None);
    let third = done(store, vec![put("a", "3")]).await;
    let entry = store.get("a").await.unwrap().entry.unwrap();
    assert_eq!((entry.version, entry.modified), (1, third), "made anew");
    assert_eq!(store.id().await, store.id().await);
}

async fn a_list_is_of_one_prefix_and_in_order(store: &impl Store) {
    let revision = done(store, vec![put("b/2", ""), put("a/1", ""), put("b/1", ""), put("c", "")]).await;
    let listing = store.list("b/").await.unwrap();
    assert_eq!(listing.revision, revision);
    assert_eq!(listing.entries.iter().map(|entry| &entry.key).collect::<Vec<_>>(), ["b/1", "b/2"]);
    assert!(store.list("nothing").await.unwrap().entries.is_empty());
}

async fn a_transaction_is_done_whole_or_not_at_all(store: &impl Store) {
    let revision = done(store, vec![put("a", "1")]).await;
    let holds = [
        Compare::Modified("a".into(), revision),
        Compare::Version("a".into(), 1),
        Compare::Value("a".into(), b"1".to_vec()),
        Compare::Absent("b".into()),
    ];
    let fails = [
        Compare::Modified("a".into(), revision + 1),
        Compare::Modified("b".into(), revision),
        Compare::Version("a".into(), 2),
        Compare::Value("a".into(), b"2".to_vec()),
        Compare::Absent("a".into()),
    ];
    for fail in fails {
        let compares = holds.iter().cloned().chain([fail.clone()]).collect();
        let outcome = store.commit(transaction(compares, vec![put("b", "1"), put("c", "1")])).await;
        assert_eq!(outcome, Ok(Outcome::Conflict), "{fail:?}");
    }
    assert_eq!(store.list("").await.unwrap().entries.len(), 1);
    let outcome = store.commit(transaction(holds.to_vec(), vec![put("b", "1"), put("c", "1")])).await;
    assert!(matches!(outcome, Ok(Outcome::Done(_))));
    let modified = |key: &'static str| async { store.get(key).await.unwrap().entry.unwrap().modified };
    assert_eq!(modified("b").await, modified("c").await, "one transaction, one revision");
}

async fn a_transaction_that_cannot_be_taken_is_refused(store: &impl Store) {
    let many = (0..=MAX_TRANSACTION).map(|n| put(&n.to_string(), "")).collect();
    for writes in [many, vec![put("a", "1"), put("a", "2")]] {
        let refused = store.commit(transaction(vec![], writes)).await;
        assert!(matches!(refused, Err(StoreError::BadTransaction(_))), "{refused:?}");
    }
    assert!(store.list("").await.unwrap().entries.is_empty());
}

async fn a_watch_replays_and_then_follows(store: &impl Store) {
    let first = done(store, vec![put("w/a", "1")]).await;
    done(store, vec![put("elsewhere", "1")]).await;
    let third = done(store, vec![Write::Delete("w/a".into())]).await;
    let mut watch = store.watch("w/", first);
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!(batch.revision, first);
    assert!(matches!(&batch.changes[..], [Change::Put(entry)] if entry.key == "w/a"));
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!((batch.revision, batch.changes), (third, vec![Change::Delete("w/a".into())]));
    let (batch, fourth) = tokio::join!(watch.next(), done(store, vec![put("w/b", "1")]));
    assert_eq!(batch.unwrap().unwrap().revision, fourth);
}

async fn a_watch_sees_one_batch_for_one_transaction(store: &impl Store) {
    let mut watch = store.watch("w/", store.list("").await.unwrap().revision + 1);
    done(store, vec![put("w/b", ""), put("w/a", ""), put("x", "")]).await;
    let keys: Vec<_> = watch.next().await.unwrap().unwrap().changes;
    assert!(matches!(&keys[..], [Change::Put(b), Change::Put(a)] if b.key == "w/b" && a.key == "w/a"));
}

async fn a_lease_takes_its_entries_with_it(store: &impl Store) {
    let from = store.list("").await.unwrap().revision + 1;
    let lease = store.grant(Duration::from_secs(5)).await.unwrap();
    let leased = Write::Put { key: "l/a".into(), value: vec![], lease: Some(lease) };
    done(store, vec![leased.clone(), put("l/b", "")]).await;
    let mut watch = store.watch("l/", from);
    watch.next().await.unwrap().unwrap();
    // Nobody else touches the store: time alone must wake the watcher.
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!(batch.changes, [Change::Delete("l/a".into())]);
    assert_eq!(store.list("l/").await.unwrap().entries.len(), 1);
    assert_eq!(store.keep_alive(lease).await, Err(StoreError::LeaseGone(lease)));
    assert_eq!(store.commit(transaction(vec![], vec![leased])).await, Err(StoreError::LeaseGone(lease)));
    let lease = store.grant(Duration::from_secs(500)).await.unwrap();
    done(store, vec![Write::Put { key: "l/c".into(), value: vec![], lease: Some(lease) }]).await;
    store.revoke(lease).await.unwrap();
    assert_eq!(store.get("l/c").await.unwrap().entry, None);
}

async fn a_lease_that_is_kept_alive_stays(store: &impl Store) {
    let lease = store.grant(Duration::from_secs(4)).await.unwrap();
    done(store, vec![Write::Put { key: "a".into(), value: vec![], lease: Some(lease) }]).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        store.keep_alive(lease).await.unwrap();
    }
    assert!(store.get("a").await.unwrap().entry.is_some());
}

async fn an_entry_put_again_without_the_lease_stays(store: &impl Store) {
    let lease = store.grant(Duration::from_secs(1)).await.unwrap();
    done(store, vec![Write::Put { key: "a".into(), value: vec![], lease: Some(lease) }]).await;
    done(store, vec![put("a", "")]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(store.get("a").await.unwrap().entry.is_some());
}
