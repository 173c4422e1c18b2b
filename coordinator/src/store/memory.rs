//! The memory store: the default, for one coordinator. What it holds is gone with its process, and its id with it.
//!
//! Thin: a lock and a clock around the pure core. Watchers pull from the core's log, so that a slow one costs nothing
//! and is told to list again when the log has moved past it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::{sync::watch, time::sleep_until};

use super::{
    Answer, Batch, Changes, Found, LeaseId, Listing, Outcome, Store, StoreId, Transaction, WatchError, count,
    memory_core::Core,
};

struct Inner {
    id: StoreId,
    core: Mutex<Core>,
    /// The newest revision, and the next expiry of a lease: either may wake a watcher.
    moved: watch::Sender<(u64, Option<Instant>)>,
}

/// A store in this process's memory. Clones are the same store.
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("id", &self.0.id).finish_non_exhaustive()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl MemoryStore {
    /// An empty store, under an id of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::over(Core::default())
    }

    /// A store whose watches can go back only so many revisions.
    #[cfg(test)]
    pub(super) fn with_log(batches: usize) -> Self {
        Self::over(Core::with_log(batches))
    }

    fn over(core: Core) -> Self {
        let id = StoreId(format!("{:032x}", rand::random::<u128>()));
        Self(Arc::new(Inner { id, core: Mutex::new(core), moved: watch::Sender::new((0, None)) }))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Core> {
        // The core has no state between statements that a panic could leave half done.
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        core.expire(now());
        core
    }

    fn with<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.lock();
        let result = act(&mut core);
        let news = (core.revision(), core.next_expiry());
        self.moved.send_if_modified(|seen| {
            let moved = *seen != news;
            *seen = news;
            moved
        });
        result
    }
}

impl Store for MemoryStore {
    fn id(&self) -> Answer<'_, StoreId> {
        async { Ok(self.0.id.clone()) }.boxed()
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Found> {
        async move { Ok(self.0.with(|core| Found { revision: core.revision(), entry: core.get(key) })) }
            .boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Answer<'a, Listing> {
        async move { Ok(self.0.with(|core| core.list(prefix))) }.boxed()
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        async move {
            let result = self.0.with(|core| core.commit(transaction));
            count(&result);
            result
        }
        .boxed()
    }

    fn watch(&self, prefix: &str, from: u64) -> Changes {
        let inner = Arc::clone(&self.0);
        let moved = inner.moved.subscribe();
        let watching = Watching { inner, moved, prefix: prefix.to_owned(), next: from };
        stream::unfold(Some(watching), |watching| async move {
            let mut watching = watching?;
            match watching.next().await {
                Ok(batch) => Some((Ok(batch), Some(watching))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        async move { Ok(self.0.with(|core| core.grant(ttl, now()))) }.boxed()
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, ()> {
        async move { self.0.with(|core| core.keep_alive(lease, now())) }.boxed()
    }

    fn revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        async move { self.0.with(|core| core.revoke(lease)) }.boxed()
    }
}

struct Watching {
    inner: Arc<Inner>,
    moved: watch::Receiver<(u64, Option<Instant>)>,
    prefix: String,
    next: u64,
}

impl Watching {
    async fn next(&mut self) -> Result<Batch, WatchError> {
        loop {
            let (_, expiry) = *self.moved.borrow_and_update();
            match self.inner.with(|core| core.after(&self.prefix, self.next))? {
                Ok(batch) => {
                    self.next = batch.revision + 1;
                    return Ok(batch);
                }
                Err(next) => self.next = next,
            }
            let expired = async {
                match expiry {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.moved.changed() => changed.map_err(|e| {
                    WatchError::Broken { why: e.to_string(), since: now() }
                })?,
                () = expired => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::MemoryStore;
    use crate::store::{Store as _, Transaction, WatchError, Write};

    #[tokio::test]
    async fn a_watch_from_before_the_log_is_told_to_list_again() {
        let store = MemoryStore::with_log(3);
        for n in 0..5u8 {
            let writes = vec![Write::put("k".into(), vec![n])];
            store.commit(Transaction { compares: vec![], writes }).await.unwrap();
        }
        let mut early = store.watch("k", 2);
        assert_eq!(early.next().await, Some(Err(WatchError::Compacted { wanted: 2 })));
        assert_eq!(early.next().await, None);
        let mut held = store.watch("k", 3);
        assert_eq!(held.next().await.unwrap().unwrap().revision, 3);
        let mut beyond = store.watch("k", 7);
        assert!(beyond.next().await.unwrap().is_err(), "a revision of another store's history");
    }

    #[tokio::test]
    async fn two_stores_have_two_ids() {
        assert_ne!(MemoryStore::new().id().await, MemoryStore::new().id().await);
    }
}
