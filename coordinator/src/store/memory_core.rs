//! The memory store's core: entries, history and leases as a pure function of calls and time.
//!
//! Invariant: every revision after `compacted` has exactly one batch in the log, in order.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    Batch, Change, Compare, Entry, LeaseId, Listing, Outcome, StoreError, Transaction, WatchError, Write,
};

/// Revisions that a watch can go back.
const LOG_BATCHES: usize = 16 * 1024;

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    until: Instant,
    keys: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) struct Core {
    revision: u64,
    entries: BTreeMap<String, Entry>,
    log: VecDeque<Batch>,
    log_limit: usize,
    leases: BTreeMap<LeaseId, Lease>,
    last_lease: u64,
}

impl Default for Core {
    fn default() -> Self {
        Self::with_log(LOG_BATCHES)
    }
}

impl Core {
    pub(super) fn with_log(log_limit: usize) -> Self {
        Self {
            revision: 0,
            entries: BTreeMap::new(),
            log: VecDeque::new(),
            log_limit,
            leases: BTreeMap::new(),
            last_lease: 0,
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get(key).cloned()
    }

    pub(super) fn list(&self, prefix: &str) -> Listing {
        let from = self.entries.range(prefix.to_owned()..);
        let entries =
            from.take_while(|(key, _)| key.starts_with(prefix)).map(|(_, entry)| entry.clone()).collect();
        Listing { revision: self.revision, entries }
    }

    pub(super) fn commit(&mut self, transaction: Transaction) -> Result<Outcome, StoreError> {
        transaction.check()?;
        let Transaction { compares, writes } = transaction;
        let leases = writes.iter().filter_map(|write| match write {
            Write::Put { lease, .. } => *lease,
            Write::Delete(_) => None,
        });
        if let Some(gone) = leases.into_iter().find(|lease| !self.leases.contains_key(lease)) {
            return Err(StoreError::LeaseGone(gone));
        }
        if !compares.iter().all(|compare| self.holds(compare)) {
            return Ok(Outcome::Conflict);
        }
        self.write(writes);
        Ok(Outcome::Done(self.revision))
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => !self.entries.contains_key(key),
            Compare::Modified(key, revision) => {
                self.entries.get(key).is_some_and(|e| e.modified == *revision)
            }
            Compare::Version(key, version) => self.entries.get(key).is_some_and(|e| e.version == *version),
            Compare::Value(key, value) => self.entries.get(key).is_some_and(|e| e.value == *value),
        }
    }

    fn write(&mut self, writes: Vec<Write>) {
        let revision = self.revision + 1;
        let mut changes = Vec::new();
        for write in writes {
            match write {
                Write::Put { key, value, lease } => {
                    let old = self.entries.remove(&key);
                    if let Some(held) = old.as_ref().and_then(|old| old.lease) {
                        self.unbind(held, &key);
                    }
                    if let Some(held) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
                        held.keys.insert(key.clone());
                    }
                    let version = old.map_or(1, |old| old.version + 1);
                    let entry = Entry { key: key.clone(), value, version, modified: revision, lease };
                    changes.push(Change::Put(entry.clone()));
                    self.entries.insert(key, entry);
                }
                Write::Delete(key) => {
                    if let Some(old) = self.entries.remove(&key) {
                        if let Some(held) = old.lease {
                            self.unbind(held, &key);
                        }
                        changes.push(Change::Delete(key));
                    }
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        self.revision = revision;
        self.log.push_back(Batch { revision, changes });
        while self.log.len() > self.log_limit {
            self.log.pop_front();
        }
    }

    fn unbind(&mut self, lease: LeaseId, key: &str) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.keys.remove(key);
        }
    }

    /// The first batch from `next` on that touches `prefix`, or the revision from which to look on.
    pub(super) fn after(&self, prefix: &str, next: u64) -> Result<Result<Batch, u64>, WatchError> {
        let first = self.log.front().map_or(self.revision + 1, |batch| batch.revision);
        if next < first || next > self.revision + 1 {
            return Err(WatchError::Compacted { wanted: next });
        }
        // Revisions are without gaps, so the position in the log follows.
        let skip = usize::try_from(next - first).unwrap_or(usize::MAX);
        let of_prefix = |batch: &Batch| {
            let touches = |change: &&Change| match change {
                Change::Put(entry) => entry.key.starts_with(prefix),
                Change::Delete(key) => key.starts_with(prefix),
            };
            let changes: Vec<_> = batch.changes.iter().filter(touches).cloned().collect();
            (!changes.is_empty()).then_some(Batch { revision: batch.revision, changes })
        };
        Ok(self.log.iter().skip(skip).find_map(of_prefix).ok_or(self.revision + 1))
    }

    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        self.last_lease += 1;
        let lease = LeaseId(self.last_lease);
        self.leases.insert(lease, Lease { ttl, until: now + ttl, keys: BTreeSet::new() });
        lease
    }

    pub(super) fn keep_alive(&mut self, lease: LeaseId, now: Instant) -> Result<(), StoreError> {
        let held = self.leases.get_mut(&lease).ok_or(StoreError::LeaseGone(lease))?;
        held.until = now + held.ttl;
        Ok(())
    }

    pub(super) fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        let held = self.leases.remove(&lease).ok_or(StoreError::LeaseGone(lease))?;
        self.write(held.keys.into_iter().map(Write::Delete).collect());
        Ok(())
    }

    /// Ends every lease whose time is up. To be called before anything else is asked.
    pub(super) fn expire(&mut self, now: Instant) {
        let due: Vec<_> =
            self.leases.iter().filter(|(_, lease)| lease.until <= now).map(|(&lease, _)| lease).collect();
        for lease in due {
            if let Some(held) = self.leases.remove(&lease) {
                self.write(held.keys.into_iter().map(Write::Delete).collect());
            }
        }
    }

    /// When the next lease runs out.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.until).min()
    }
}
