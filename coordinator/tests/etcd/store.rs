//! Each store does what a store must; etcd's own limits are no limits of the trait.

use futures_util::{FutureExt as _, StreamExt as _};
use waystation_coordinator::store::{
    Batch, Compare, MemoryStore, Outcome, Store, StoreError, Transaction, WatchError, Write,
};

use crate::{
    cluster::{Cluster, PREFIX, soon, wipe},
    conformance,
};

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

async fn put(store: &impl Store, name: &str, value: &str) -> u64 {
    let writes = vec![Write::put(key(name), value.into())];
    match store.commit(Transaction { compares: vec![], writes }).await.unwrap() {
        Outcome::Done(revision) => revision,
        Outcome::Conflict => panic!("there was nothing to compare"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_memory_store_does_what_a_store_must() {
    conformance::run(|| async { MemoryStore::new() }.boxed()).await;
}

#[tokio::test]
async fn the_etcd_store_does_what_a_store_must() {
    let cluster = Cluster::start(1).await;
    let client = cluster.members[0].client().await;
    let fresh = || {
        let (mut client, store) = (client.clone(), cluster.store());
        async move {
            wipe(&mut client).await;
            store
        }
        .boxed()
    };
    conformance::run(fresh).await;
}

#[tokio::test]
async fn a_list_and_a_watch_take_more_than_a_message_of_the_usual_size() {
    let cluster = Cluster::start(1).await;
    let store = cluster.store();
    let first = put(&store, "first", "").await;
    let value = vec![b'x'; 10_000];
    for batch in 0..12 {
        let names = (0..100).map(|n| key(&format!("many/{batch:02}/{n:02}")));
        let writes = names.map(|name| Write::put(name, value.clone())).collect();
        let done = store.commit(Transaction { compares: vec![], writes }).await;
        assert!(matches!(done, Ok(Outcome::Done(_))), "{done:?}");
    }
    let listing = store.list(&key("many/")).await.unwrap();
    assert_eq!(listing.entries.len(), 1200);
    assert!(listing.entries.iter().all(|entry| entry.value == value));
    assert!(listing.entries.is_sorted_by(|a, b| a.key < b.key));
    let batches: Vec<Batch> = soon("all batches", async {
        store.watch(PREFIX, first + 1).take(12).map(Result::unwrap).collect().await
    })
    .await;
    assert!(batches.iter().all(|batch| batch.changes.len() == 100), "each transaction is one batch");
    assert!(batches.is_sorted_by(|a, b| a.revision < b.revision));
    let huge = vec![Write::put(key("huge"), vec![0; 2 << 20])];
    let refused = store.commit(Transaction { compares: vec![], writes: huge }).await;
    assert!(matches!(refused, Err(StoreError::BadTransaction(_))), "{refused:?}");
}

#[tokio::test]
async fn a_watch_from_a_compacted_revision_is_told_to_list_again_and_a_running_one_goes_on() {
    let cluster = Cluster::start(1).await;
    let (store, mut client) = (cluster.store(), cluster.members[0].client().await);
    let first = put(&store, "a", "0").await;
    let mut running = store.watch(PREFIX, first);
    assert_eq!(soon("the first", running.next()).await.unwrap().unwrap().revision, first);
    let mut last = first;
    for n in 0..10 {
        last = put(&store, "a", &n.to_string()).await;
    }
    client.compact(i64::try_from(last).unwrap(), None).await.unwrap();
    let mut late = store.watch(PREFIX, first);
    let told = soon("the refusal", late.next()).await;
    assert_eq!(told, Some(Err(WatchError::Compacted { wanted: first })));
    assert_eq!(late.next().await, None);
    let next = put(&store, "b", "").await;
    let mut seen = Vec::new();
    while seen.last() != Some(&next) {
        seen.push(soon("what comes next", running.next()).await.unwrap().unwrap().revision);
    }
    assert_eq!(seen, (first + 1..=next).collect::<Vec<_>>(), "none lost, none twice");
    let told = soon("the refusal", store.watch(PREFIX, next + 2).next()).await;
    assert_eq!(told, Some(Err(WatchError::Compacted { wanted: next + 2 })), "it never held that one");
}

#[tokio::test]
async fn a_store_that_is_not_there_is_named_and_found_once_it_is() {
    let mut cluster = Cluster::prepare(1, "http", &[]);
    let store = cluster.store();
    let error = store.id().await.unwrap_err().to_string();
    assert!(error.contains(&cluster.members[0].url), "{error}");
    let compares = vec![Compare::Absent(key("a"))];
    let refused = store.commit(Transaction { compares, writes: vec![] }).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    cluster.start_all();
    let id = soon("the id", async {
        loop {
            if let Ok(id) = store.id().await {
                return id;
            }
        }
    })
    .await;
    assert_eq!(store.id().await.unwrap(), id);
    assert_eq!(cluster.store().id().await.unwrap(), id, "others see the same store");
}
