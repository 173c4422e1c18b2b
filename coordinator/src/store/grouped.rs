//! Group commit: transactions that come while one is on its way wait for it, and then go together as one.
//!
//! A store of three members does a few hundred transactions a second one after the other, whatever is in them; after a
//! coordinator's death thousands of users resume at once. Invariant: a group holds only transactions that do not touch
//! each other's keys, so that doing them together is doing them in any order; and one that cannot be done is no reason
//! for the others not to be: they are then done one by one.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::{
    Answer, Changes, Compare, Found, LeaseId, Listing, MAX_TRANSACTION, Outcome, Store, StoreError, StoreId,
    Transaction,
};
use crate::metrics;

/// Transactions that wait; whoever comes then waits to wait.
const QUEUE: usize = 4096;

type Done = Result<Outcome, StoreError>;

struct Waiting {
    transaction: Transaction,
    answer: oneshot::Sender<Done>,
}

/// A store whose transactions are grouped.
pub struct Grouped {
    store: Arc<dyn Store>,
    queue: mpsc::Sender<Waiting>,
}

impl std::fmt::Debug for Grouped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grouped").finish_non_exhaustive()
    }
}

impl Grouped {
    /// Over this store. To be called within a runtime; its task ends when this is dropped.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(work(Arc::clone(&store), waiting));
        Self { store, queue }
    }
}

/// What may still go into a group.
#[derive(Default)]
struct Room {
    compared: BTreeSet<String>,
    written: BTreeSet<String>,
    compares: usize,
    writes: usize,
}

fn compared(compare: &Compare) -> &str {
    match compare {
        Compare::Absent(key)
        | Compare::Modified(key, _)
        | Compare::Version(key, _)
        | Compare::Value(key, _) => key,
    }
}

impl Room {
    /// Takes a transaction in, if it fits and touches nothing that the others write or see.
    fn take(&mut self, transaction: &Transaction) -> bool {
        let (compares, writes) =
            (self.compares + transaction.compares.len(), self.writes + transaction.writes.len());
        let apart = transaction.compares.iter().all(|compare| !self.written.contains(compared(compare)))
            && transaction
                .writes
                .iter()
                .all(|write| !self.written.contains(write.key()) && !self.compared.contains(write.key()));
        let first = self.compares + self.writes == 0;
        if !first && (compares > MAX_TRANSACTION || writes > MAX_TRANSACTION || !apart) {
            return false;
        }
        (self.compares, self.writes) = (compares, writes);
        self.compared.extend(transaction.compares.iter().map(|compare| compared(compare).to_owned()));
        self.written.extend(transaction.writes.iter().map(|write| write.key().to_owned()));
        true
    }
}

/// Nobody waits for it any more, and it was not begun.
fn is_given_up(waiting: &Waiting) -> bool {
    waiting.answer.is_closed()
}

async fn work(store: Arc<dyn Store>, mut queue: mpsc::Receiver<Waiting>) {
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(first) => first,
            None => match queue.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        if is_given_up(&first) {
            continue;
        }
        let mut room = Room::default();
        room.take(&first.transaction);
        let mut group = vec![first];
        while let Ok(waiting) = queue.try_recv() {
            if is_given_up(&waiting) {
                continue;
            }
            if !room.take(&waiting.transaction) {
                next = Some(waiting);
                break;
            }
            group.push(waiting);
        }
        commit(&*store, group).await;
    }
}

async fn commit(store: &dyn Store, group: Vec<Waiting>) {
    metrics::grouped(group.len());
    let alone = group.len() == 1;
    let mut together = Transaction::default();
    for waiting in &group {
        together.compares.extend(waiting.transaction.compares.iter().cloned());
        together.writes.extend(waiting.transaction.writes.iter().cloned());
    }
    let done = store.commit(together).await;
    if !alone && may_be_anothers(&done) {
        let each = group.into_iter().map(|Waiting { transaction, answer }| async {
            // Whoever asked may have gone.
            let _ = answer.send(store.commit(transaction).await);
        });
        join_all(each).await;
        return;
    }
    for waiting in group {
        let _ = waiting.answer.send(done.clone());
    }
}

/// Whether nothing was done, for a reason that lies in one of the group and not in the store.
fn may_be_anothers(done: &Done) -> bool {
    match done {
        Ok(Outcome::Conflict) | Err(StoreError::LeaseGone(_) | StoreError::BadTransaction(_)) => true,
        Ok(Outcome::Done(_)) | Err(StoreError::Unavailable(_)) => false,
    }
}

impl Store for Grouped {
    fn id(&self) -> Answer<'_, StoreId> {
        self.store.id()
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Found> {
        self.store.get(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Answer<'a, Listing> {
        self.store.list(prefix)
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        Box::pin(async move {
            let gone = || StoreError::Unavailable("this coordinator is stopping".into());
            let (answer, done) = oneshot::channel();
            self.queue.send(Waiting { transaction, answer }).await.map_err(|_| gone())?;
            done.await.map_err(|_| gone())?
        })
    }

    fn watch(&self, prefix: &str, from: u64) -> Changes {
        self.store.watch(prefix, from)
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        self.store.grant(ttl)
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.store.keep_alive(lease)
    }

    fn revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.store.revoke(lease)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::store::{MemoryStore, Write};

    /// A store that does a transaction only when it is let.
    struct Gated {
        inner: MemoryStore,
        gate: Semaphore,
        commits: AtomicUsize,
    }

    impl Store for Gated {
        fn id(&self) -> Answer<'_, StoreId> {
            self.inner.id()
        }
        fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Found> {
            self.inner.get(key)
        }
        fn list<'a>(&'a self, prefix: &'a str) -> Answer<'a, Listing> {
            self.inner.list(prefix)
        }
        fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
            Box::pin(async move {
                self.gate.acquire().await.expect("it is never closed").forget();
                self.commits.fetch_add(1, Ordering::Relaxed);
                self.inner.commit(transaction).await
            })
        }
        fn watch(&self, prefix: &str, from: u64) -> Changes {
            self.inner.watch(prefix, from)
        }
        fn grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
            self.inner.grant(ttl)
        }
        fn keep_alive(&self, lease: LeaseId) -> Answer<'_, ()> {
            self.inner.keep_alive(lease)
        }
        fn revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
            self.inner.revoke(lease)
        }
    }

    fn create(key: &str) -> Transaction {
        Transaction {
            compares: vec![Compare::Absent(key.into())],
            writes: vec![Write::put(key.into(), b"v".to_vec())],
        }
    }

    #[tokio::test]
    async fn what_comes_while_one_is_on_its_way_goes_together_and_a_conflict_is_nobody_elses() {
        let (gated, grouped) = gated();
        let all = (0..61).map(|n| grouped.commit(create(&format!("k{n}"))));
        let (all, ()) = tokio::join!(join_all(all), async { gated.gate.add_permits(100) });
        assert!(all.iter().all(|done| matches!(done, Ok(Outcome::Done(_)))), "{all:?}");
        let commits = gated.commits.swap(0, Ordering::Relaxed);
        assert!(commits <= 3, "{commits} for 61 transactions");
        let again =
            [grouped.commit(create("k1")), grouped.commit(create("new")), grouped.commit(create("k2"))];
        let done = join_all(again).await;
        assert_eq!(done[0], Ok(Outcome::Conflict));
        assert!(matches!(done[1], Ok(Outcome::Done(_))));
        assert_eq!(done[2], Ok(Outcome::Conflict));
    }

    fn gated() -> (Arc<Gated>, Grouped) {
        let (inner, gate) = (MemoryStore::new(), Semaphore::new(0));
        let gated = Arc::new(Gated { inner, gate, commits: AtomicUsize::new(0) });
        let store: Arc<dyn Store> = Arc::clone(&gated) as _;
        (gated, Grouped::new(store))
    }

    #[tokio::test]
    async fn what_touches_the_keys_of_a_group_is_done_after_it() {
        let (gated, grouped) = gated();
        let delete = |key: &str| Transaction {
            compares: vec![Compare::Modified(key.into(), 1)],
            writes: vec![Write::Delete(key.into())],
        };
        let all = [grouped.commit(create("a")), grouped.commit(delete("a")), grouped.commit(create("a"))];
        let (done, ()) = tokio::join!(join_all(all), async { gated.gate.add_permits(100) });
        assert_eq!(done, [Ok(Outcome::Done(1)), Ok(Outcome::Done(2)), Ok(Outcome::Done(3))]);
        assert_eq!(grouped.commit(create("a")).await, Ok(Outcome::Conflict));
        assert_eq!(gated.commits.load(Ordering::Relaxed), 4, "one alone is tried once");
    }

    #[tokio::test]
    async fn what_was_given_up_before_it_was_begun_is_not_done() {
        let (gated, grouped) = gated();
        let grouped = Arc::new(grouped);
        let commit = |key: &'static str| {
            let grouped = Arc::clone(&grouped);
            tokio::spawn(async move { grouped.commit(create(key)).await })
        };
        let first = commit("first");
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let (given_up, last) = (commit("given-up"), commit("last"));
        tokio::task::yield_now().await;
        given_up.abort();
        assert!(given_up.await.is_err());
        gated.gate.add_permits(100);
        assert!(first.await.unwrap().is_ok() && last.await.unwrap().is_ok());
        assert_eq!(gated.inner.get("given-up").await.unwrap().entry, None);
    }

    #[tokio::test]
    async fn a_lease_that_is_gone_or_a_bad_transaction_spoils_nobody_elses() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let grouped = Grouped::new(store);
        let mut leased = create("leased");
        leased.writes = vec![Write::Put { key: "leased".into(), value: vec![], lease: Some(LeaseId(77)) }];
        let mut twice = create("twice");
        twice.writes.push(Write::Delete("twice".into()));
        let all = [create("a"), leased, create("b"), twice, create("c")];
        let done = join_all(all.map(|transaction| grouped.commit(transaction))).await;
        for good in [0, 2, 4] {
            assert!(matches!(done[good], Ok(Outcome::Done(_))), "{done:?}");
        }
        assert_eq!(done[1], Err(StoreError::LeaseGone(LeaseId(77))));
        assert!(matches!(done[3], Err(StoreError::BadTransaction(_))), "{done:?}");
    }

    #[test]
    fn a_group_never_holds_two_that_touch_the_same_key() {
        let mut room = Room::default();
        assert!(room.take(&create("a")) && room.take(&create("b")));
        assert!(!room.take(&create("a")), "it would be written twice");
        let looks = Transaction {
            compares: vec![Compare::Modified("b".into(), 7)],
            writes: vec![Write::put("c".into(), vec![])],
        };
        assert!(!room.take(&looks), "it sees what another writes");
        let seen = Transaction {
            compares: vec![Compare::Modified("d".into(), 7)],
            writes: vec![Write::put("e".into(), vec![])],
        };
        assert!(room.take(&seen));
        assert!(!room.take(&create("d")), "it writes what another sees");
        let blind = Transaction { compares: Vec::new(), writes: vec![Write::Delete("f".into())] };
        assert!(room.take(&blind));
        assert!(!room.take(&blind), "it writes what another writes");
    }

    #[test]
    fn a_group_is_never_larger_than_a_transaction_may_be() {
        let mut room = Room::default();
        let taken = (0..MAX_TRANSACTION * 2).filter(|n| room.take(&create(&format!("k{n}")))).count();
        assert_eq!(taken, MAX_TRANSACTION);
        let looks = |n: usize| Transaction {
            compares: vec![Compare::Absent(format!("x{n}")), Compare::Absent(format!("y{n}"))],
            writes: vec![Write::put(format!("x{n}"), vec![])],
        };
        let mut room = Room::default();
        assert_eq!((0..MAX_TRANSACTION).filter(|n| room.take(&looks(*n))).count(), MAX_TRANSACTION / 2);
    }
}
