//! The store is emptied or restored while coordinators run on it: that is another store, and nothing is heard of how it
//! went.

use futures_util::StreamExt as _;
use waystation_coordinator::store::{
    Change, Compare, Outcome, Store, StoreError, Transaction, WatchError, Write,
};

use crate::cluster::{Cluster, PREFIX, soon, wipe};

fn put(name: &str, value: &str) -> Transaction {
    let write = Write::put(format!("{PREFIX}{name}"), value.into());
    Transaction { compares: vec![], writes: vec![write] }
}

async fn done(store: &impl Store, transaction: Transaction) -> u64 {
    match store.commit(transaction).await.unwrap() {
        Outcome::Done(revision) => revision,
        Outcome::Conflict => panic!("it is the store that was met"),
    }
}

#[tokio::test]
async fn a_store_that_is_emptied_is_another_store_and_its_end_is_no_news() {
    let cluster = Cluster::start(1).await;
    let (store, other) = (cluster.store(), cluster.store());
    let id = store.id().await.unwrap();
    assert_eq!(other.id().await.unwrap(), id);
    let first = done(&store, put("a", "1")).await;
    let mut watch = store.watch(PREFIX, first);
    soon("the first", watch.next()).await.unwrap().unwrap();
    wipe(&mut cluster.members[0].client().await).await;
    let told = soon("the end", watch.next()).await;
    assert_eq!(told, Some(Err(WatchError::Compacted { wanted: first + 1 })), "no key is told to be deleted");
    // Decided on what is gone.
    assert_eq!(store.commit(put("b", "1")).await, Ok(Outcome::Conflict));
    let absent = vec![Compare::Absent(format!("{PREFIX}b"))];
    let blind = Transaction { compares: absent, writes: put("b", "1").writes };
    assert_eq!(other.commit(blind).await, Ok(Outcome::Conflict));
    let refused = other.list(PREFIX).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    let anew = store.id().await.unwrap();
    assert_ne!(anew, id);
    assert_eq!(other.id().await.unwrap(), anew);
    assert!(other.list(PREFIX).await.unwrap().entries.is_empty());
    let revision = done(&other, put("b", "2")).await;
    let mut watch = store.watch(PREFIX, revision);
    let batch = soon("the new life", watch.next()).await.unwrap().unwrap();
    assert!(matches!(&batch.changes[..], [Change::Put(entry)] if entry.value == b"2"));
}

#[tokio::test]
async fn a_store_that_was_restored_from_a_copy_is_another_store() {
    let mut cluster = Cluster::start(1).await;
    let (store, other) = (cluster.store(), cluster.store());
    let id = store.id().await.unwrap();
    done(&store, put("a", "1")).await;
    cluster.members[0].kill();
    let copy = cluster.copy_data(0);
    cluster.members[0].start();
    cluster.members[0].client().await;
    assert_eq!(other.id().await.unwrap(), id, "a restart alone changes nothing");
    let first = done(&store, put("a", "2")).await;
    let last = done(&store, put("b", "2")).await;
    let mut watch = store.watch(PREFIX, first);
    soon("the first", watch.next()).await.unwrap().unwrap();
    soon("the second", watch.next()).await.unwrap().unwrap();
    cluster.members[0].kill();
    cluster.restore_data(0, &copy);
    cluster.members[0].start();
    // Whoever listens meanwhile gives up after 4 s.
    cluster.members[0].client().await;
    let told = soon("the end", watch.next()).await;
    assert_eq!(told, Some(Err(WatchError::Compacted { wanted: last + 1 })));
    let anew = store.id().await.unwrap();
    assert_ne!(anew, id);
    // It had not seen what was lost, and hears of it all the same.
    assert_eq!(other.commit(put("c", "3")).await, Ok(Outcome::Conflict));
    assert_eq!(other.id().await.unwrap(), anew);
    let held = store.list(PREFIX).await.unwrap().entries;
    assert_eq!(held.iter().map(|entry| entry.value.as_slice()).collect::<Vec<_>>(), [b"1"]);
}
