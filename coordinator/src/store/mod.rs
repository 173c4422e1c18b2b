//! The door to the store: the truth about nodes, rooms, users and streams, possibly in another process.
//!
//! Modelled on what etcd v3 gives, so that it fits over one: revisions that only rise, transactions that compare and
//! then write, watches from a revision, leases. Nothing outside this folder may know which store it talks to.
//!
//! Invariant: whoever wrote knows the revision of the write; whoever watches sees every revision once and in order,
//! or is told to list again.

mod etcd;
mod grouped;
mod memory;
mod memory_core;

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use thiserror::Error;

use crate::metrics;

pub use etcd::{EtcdConfig, EtcdConfigError, EtcdStore, EtcdTls, EtcdUser};
pub use grouped::Grouped;
pub use memory::MemoryStore;

/// Most compares, and most writes, in one transaction. etcd takes 128.
pub const MAX_TRANSACTION: usize = 100;

/// Which store this is: another life of a store that forgot is another store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub String);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// One key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// How often it was written since it was made; 1 at first.
    pub version: u64,
    /// Revision of the last write.
    pub modified: u64,
    /// The lease with which it goes.
    pub lease: Option<LeaseId>,
}

/// Answer of [`Store::get`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Revision at which it was looked at.
    pub revision: u64,
    /// The entry, if it exists.
    pub entry: Option<Entry>,
}

/// Answer of [`Store::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Revision at which it was taken: watch from the next one.
    pub revision: u64,
    /// In the order of the keys.
    pub entries: Vec<Entry>,
}

/// What must hold for a transaction to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key was last written at this revision.
    Modified(String, u64),
    /// The key was written this often since it was made.
    Version(String, u64),
    /// The key has this value.
    Value(String, Vec<u8>),
}

impl Compare {
    /// That a key is as it was seen.
    #[must_use]
    pub fn unchanged(key: String, seen: Option<u64>) -> Self {
        match seen {
            None => Self::Absent(key),
            Some(revision) => Self::Modified(key, revision),
        }
    }
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Makes or replaces an entry.
    Put {
        /// Its key.
        key: String,
        /// Its value.
        value: Vec<u8>,
        /// The lease with which it goes.
        lease: Option<LeaseId>,
    },
    /// Deletes an entry; one that is not there is no error.
    Delete(String),
}

impl Write {
    /// An entry without a lease.
    #[must_use]
    pub fn put(key: String, value: Vec<u8>) -> Self {
        Self::Put { key, value, lease: None }
    }

    /// The key written.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete(key) => key,
        }
    }
}

/// Writes that are done together if all compares hold, under one revision. No key may be written twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What must hold.
    pub compares: Vec<Compare>,
    /// What is then done.
    pub writes: Vec<Write>,
}

impl Transaction {
    /// Whether any store may take it.
    ///
    /// # Errors
    /// [`StoreError::BadTransaction`]
    pub fn check(&self) -> Result<(), StoreError> {
        if self.compares.len() > MAX_TRANSACTION || self.writes.len() > MAX_TRANSACTION {
            return Err(StoreError::BadTransaction("it has more than 100 compares or writes"));
        }
        if self.writes.iter().map(Write::key).collect::<BTreeSet<_>>().len() != self.writes.len() {
            return Err(StoreError::BadTransaction("it writes a key twice"));
        }
        Ok(())
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, at this revision (the current one if nothing had to change).
    Done(u64),
    /// A compare did not hold; nothing was changed. Read again and decide again.
    Conflict,
}

/// Counts what became of a transaction.
fn count(result: &Result<Outcome, StoreError>) {
    metrics::store_commit(match result {
        Ok(Outcome::Done(_)) => "done",
        Ok(Outcome::Conflict) => "conflict",
        Err(_) => "failed",
    });
}

/// One key that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Made or replaced.
    Put(Entry),
    /// Deleted, or its lease ran out.
    Delete(String),
}

/// All that one revision changed under the watched prefix. A store may send one without changes, to tell that the
/// watch is up to that revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The revision.
    pub revision: u64,
    /// In the order of the writes.
    pub changes: Vec<Change>,
}

/// A call that failed. It may have been done nevertheless: repeat only what may be repeated.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoreError {
    /// The store cannot be reached, or has no leader.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The lease is not known, or ran out.
    #[error("lease {} is not known; grant a new one", .0.0)]
    LeaseGone(LeaseId),
    /// More than [`MAX_TRANSACTION`] compares or writes, a key written twice, or more than the store holds.
    #[error("the transaction cannot be taken: {0}")]
    BadTransaction(&'static str),
}

/// A watch that ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WatchError {
    /// The store does not hold that revision any more (or, after a loss, never did): list again and go on from there.
    #[error("the store no longer holds revision {wanted}; list again")]
    Compacted {
        /// The revision that was wanted next.
        wanted: u64,
    },
    /// Broken; watch again from the revision after the last one seen.
    #[error("the watch broke: {why}")]
    Broken {
        /// In words.
        why: String,
        /// When: a watch that outlives its connection tells of it some time after.
        since: Instant,
    },
}

/// An answer that is on its way.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Batches as they come, of rising revisions. After an error nothing comes any more.
pub type Changes = BoxStream<'static, Result<Batch, WatchError>>;

/// A store.
pub trait Store: Send + Sync + 'static {
    /// Which store this is.
    fn id(&self) -> Answer<'_, StoreId>;
    /// One entry.
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Found>;
    /// All entries whose keys begin with `prefix`, at one revision.
    fn list<'a>(&'a self, prefix: &'a str) -> Answer<'a, Listing>;
    /// Does a transaction, if its compares hold.
    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome>;
    /// What changes under `prefix`, from revision `from` on, that one included.
    fn watch(&self, prefix: &str, from: u64) -> Changes;
    /// A new lease; entries put under it go when it runs out.
    fn grant(&self, ttl: Duration) -> Answer<'_, LeaseId>;
    /// Lets a lease live for its full time again.
    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, ()>;
    /// Ends a lease, and its entries with it.
    fn revoke(&self, lease: LeaseId) -> Answer<'_, ()>;
}
