//! A transaction at etcd, and what became of one whose answer is missing.
//!
//! A write that timed out may have been done, or may still be done later. It is repeated only if it compares the
//! revision of a key that it writes: revisions only rise, so such a compare never holds again once the write is done,
//! and twice is harmless. All else is looked up: what stands there under a new revision, as it was to be written, is
//! done; what cannot be told is an error that says so.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{CALL_WITHIN, Inner, failure::Failure, wire};
use crate::store::{Compare, Entry, LeaseId, Outcome, StoreError, Transaction, Write, count};

/// What the entries tell of a transaction whose answer is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Done, at this revision.
    Done(u64),
    /// Not done by now.
    NotDone,
    /// Somebody wrote there since.
    Unknown,
}

/// Whether doing it twice is the same as doing it once.
fn harmless_twice(transaction: &Transaction) -> bool {
    let written: BTreeSet<_> = transaction.writes.iter().map(Write::key).collect();
    transaction.compares.iter().any(|compare| match compare {
        Compare::Modified(key, _) => written.contains(key.as_str()),
        // These may come true again when somebody deletes the key, or puts back what was there.
        Compare::Absent(_) | Compare::Version(..) | Compare::Value(..) => false,
    })
}

/// `found` is what stands where `writes` write; `before` is a revision from before the first attempt.
fn judge(writes: &[Write], found: &[Option<Entry>], before: u64) -> Verdict {
    let mut done = None;
    let mut all = writes.len() == found.len();
    for (write, found) in writes.iter().zip(found) {
        match (write, found) {
            (_, Some(held)) if held.modified <= before => return Verdict::NotDone,
            (Write::Put { value, lease, .. }, Some(held)) => {
                let ours = held.value == *value && held.lease == *lease;
                all &= ours && done.is_none_or(|revision| revision == held.modified);
                done = Some(held.modified);
            }
            (Write::Delete(_), None) => {}
            (Write::Put { .. }, None) | (Write::Delete(_), Some(_)) => all = false,
        }
    }
    match done {
        Some(revision) if all => Verdict::Done(revision),
        Some(_) | None => Verdict::Unknown,
    }
}

/// A store that is now below what was seen before was restored from an older copy: its revisions are another's, and
/// must not make claims. `before` as for [`judge`].
fn done(revision: u64, before: u64) -> Result<Outcome, StoreError> {
    if revision < before {
        return Err(StoreError::Unavailable(
            "it was restored to an earlier state; ask for its id again".into(),
        ));
    }
    Ok(Outcome::Done(revision))
}

impl Inner {
    /// Does a transaction, on the store whose id was last asked for and on no other.
    pub(super) async fn commit(&self, mut transaction: Transaction) -> Result<Outcome, StoreError> {
        transaction.check()?;
        let own = self.own().await?;
        transaction.compares.push(Compare::Value(self.life.key().to_owned(), own));
        let result = self.try_commit(&transaction).await;
        count(&result);
        result
    }

    async fn try_commit(&self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        let deadline = Instant::now() + CALL_WITHIN;
        let before = self.life.revision();
        let harmless_twice = harmless_twice(transaction);
        let txn = wire::transaction(transaction);
        let mut unclear = None;
        loop {
            let attempt = self.members.choose().await;
            let act = |mut client: etcd_client::Client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            };
            let answer = self.members.attempt(attempt, "commit", act).await;
            let failure = match answer {
                Ok(response) => {
                    let (cluster, revision) = wire::stamp(response.header());
                    self.life.saw(cluster, revision);
                    return match (response.succeeded(), unclear) {
                        (true, _) => done(revision, before),
                        (false, None) => Ok(Outcome::Conflict),
                        (false, Some(why)) => {
                            match judge(&transaction.writes, &wire::found(&response), before) {
                                Verdict::Done(revision) => Ok(Outcome::Done(revision)),
                                Verdict::NotDone => Ok(Outcome::Conflict),
                                Verdict::Unknown => Err(StoreError::Unavailable(why)),
                            }
                        }
                    };
                }
                Err(failure) => failure,
            };
            let why = format!("etcd at {}: {}", self.members.url(attempt), failure.text());
            match failure {
                Failure::NotDone(_) => {}
                Failure::Unclear(_) if harmless_twice => unclear = Some(why.clone()),
                Failure::Unclear(_) => return self.look_up(&transaction.writes, before, why).await,
                // What is refused now may have been taken before.
                Failure::LeaseGone | Failure::Bad(_) | Failure::Compacted | Failure::Denied(_)
                    if unclear.is_some() =>
                {
                    return Err(StoreError::Unavailable(why));
                }
                Failure::LeaseGone => return Err(self.lease_gone(&transaction.writes, why).await),
                Failure::Bad(why) => return Err(StoreError::BadTransaction(why)),
                Failure::Compacted | Failure::Denied(_) => return Err(StoreError::Unavailable(why)),
            }
            if Instant::now() >= deadline {
                return Err(StoreError::Unavailable(unclear.unwrap_or(why)));
            }
        }
    }

    async fn look_up(&self, writes: &[Write], before: u64, why: String) -> Result<Outcome, StoreError> {
        let txn = wire::look(writes);
        let look = |mut client: etcd_client::Client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        };
        let response = self.members.ask("look_up", look).await?;
        match judge(writes, &wire::found(&response), before) {
            Verdict::Done(revision) => Ok(Outcome::Done(revision)),
            // It may still be on its way.
            Verdict::NotDone | Verdict::Unknown => Err(StoreError::Unavailable(why)),
        }
    }

    /// Which of the leases it is: etcd does not say.
    async fn lease_gone(&self, writes: &[Write], why: String) -> StoreError {
        let leases: BTreeSet<LeaseId> = writes
            .iter()
            .filter_map(|write| match write {
                Write::Put { lease, .. } => *lease,
                Write::Delete(_) => None,
            })
            .collect();
        for lease in leases {
            let id = lease.0.cast_signed();
            let look =
                |mut client: etcd_client::Client| async move { client.lease_time_to_live(id, None).await };
            match self.members.ask("lease_look", look).await {
                Ok(answer) if answer.ttl() > 0 => {}
                Ok(_) => return StoreError::LeaseGone(lease),
                Err(error) => return error.into(),
            }
        }
        StoreError::Unavailable(why)
    }
}

#[cfg(test)]
mod tests {
    use super::{Verdict, done, harmless_twice, judge};
    use crate::store::{Compare, Entry, Outcome, Transaction, Write};

    fn put(key: &str) -> Write {
        Write::put(key.into(), b"ours".to_vec())
    }

    fn held(value: &str, modified: u64) -> Option<Entry> {
        let value = value.as_bytes().to_vec();
        Some(Entry { key: String::new(), value, version: 1, modified, lease: None })
    }

    #[test]
    fn a_write_below_what_was_seen_before_is_no_write_of_this_store() {
        // PUB-11
        assert!(done(6, 7).is_err());
        assert_eq!(done(7, 7), Ok(Outcome::Done(7)), "nothing had to change");
        assert_eq!(done(8, 7), Ok(Outcome::Done(8)));
    }

    #[test]
    fn only_what_compares_the_revision_of_a_key_that_it_writes_is_harmless_twice() {
        let of = |compare| harmless_twice(&Transaction { compares: vec![compare], writes: vec![put("a")] });
        assert!(of(Compare::Modified("a".into(), 7)));
        assert!(!of(Compare::Modified("b".into(), 7)));
        assert!(!of(Compare::Absent("a".into())));
        assert!(!of(Compare::Version("a".into(), 1)));
        assert!(!of(Compare::Value("a".into(), vec![])));
    }

    #[test]
    fn what_stands_there_tells_whether_a_write_without_an_answer_was_done() {
        let (both, gone) = ([put("a"), put("b")], Write::Delete("c".into()));
        let with_delete = [put("a"), gone.clone()];
        assert_eq!(judge(&both, &[held("ours", 8), held("ours", 8)], 7), Verdict::Done(8));
        assert_eq!(judge(&with_delete, &[held("ours", 8), None], 7), Verdict::Done(8));
        assert_eq!(judge(&both, &[held("ours", 8), held("ours", 9)], 7), Verdict::Unknown, "two writers");
        assert_eq!(judge(&both, &[held("ours", 8), held("theirs", 8)], 7), Verdict::Unknown);
        assert_eq!(judge(&both, &[held("ours", 7), held("ours", 7)], 7), Verdict::NotDone, "from before");
        assert_eq!(judge(&both, &[held("ours", 8), None], 7), Verdict::Unknown, "deleted since");
        assert_eq!(judge(&both, &[None, None], 7), Verdict::Unknown);
        assert_eq!(judge(&[gone], &[None], 7), Verdict::Unknown, "anybody may have deleted it");
        assert_eq!(judge(&both, &[], 7), Verdict::Unknown);
    }
}
