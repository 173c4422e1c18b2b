//! Our words in etcd's, and back.

use etcd_client::{
    Compare as EtcdCompare, CompareOp, Event, EventType, GetOptions, KeyValue, PutOptions, ResponseHeader,
    Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use crate::store::{Change, Compare, Entry, LeaseId, Transaction, Write};

/// Revisions and versions are never negative; and one of ours that no `i64` holds never was.
pub(super) fn number(wire: i64) -> u64 {
    u64::try_from(wire).unwrap_or(0)
}

pub(super) fn to_wire(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An answer's cluster and revision.
pub(super) fn stamp(header: Option<&ResponseHeader>) -> (u64, u64) {
    header.map_or((0, 0), |header| (header.cluster_id(), number(header.revision())))
}

/// `None`: somebody's key that is no text, and so none of ours.
pub(super) fn entry(held: &KeyValue) -> Option<Entry> {
    Some(Entry {
        key: held.key_str().ok()?.to_owned(),
        value: held.value().to_vec(),
        version: number(held.version()),
        modified: number(held.mod_revision()),
        lease: (held.lease() != 0).then(|| LeaseId(held.lease().cast_unsigned())),
    })
}

/// An event's revision and what it says.
pub(super) fn change(event: &Event) -> Option<(u64, Change)> {
    let held = event.kv()?;
    let change = match event.event_type() {
        EventType::Put => Change::Put(entry(held)?),
        EventType::Delete => Change::Delete(held.key_str().ok()?.to_owned()),
    };
    Some((number(held.mod_revision()), change))
}

/// First key of a prefix, and the end after its last one; etcd knows no empty key.
pub(super) fn range(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return (prefix.as_bytes().to_vec(), end);
        }
    }
    (vec![0], vec![0])
}

pub(super) fn compare(compare: &Compare) -> EtcdCompare {
    match compare {
        Compare::Absent(key) => EtcdCompare::create_revision(key.as_str(), CompareOp::Equal, 0),
        // For etcd an absent key has revision and version 0: no entry of ours has.
        Compare::Modified(key, revision) => {
            EtcdCompare::mod_revision(key.as_str(), CompareOp::Equal, to_wire((*revision).max(1)))
        }
        Compare::Version(key, version) => {
            EtcdCompare::version(key.as_str(), CompareOp::Equal, to_wire((*version).max(1)))
        }
        Compare::Value(key, value) => EtcdCompare::value(key.as_str(), CompareOp::Equal, value.clone()),
    }
}

fn operation(write: &Write) -> TxnOp {
    match write {
        Write::Put { key, value, lease } => {
            let lease = lease.map(|lease| PutOptions::new().with_lease(lease.0.cast_signed()));
            TxnOp::put(key.as_str(), value.clone(), lease)
        }
        Write::Delete(key) => TxnOp::delete(key.as_str(), None),
    }
}

fn reads(writes: &[Write]) -> Vec<TxnOp> {
    writes.iter().map(|write| TxnOp::get(write.key(), None::<GetOptions>)).collect()
}

/// A transaction that, where a compare does not hold, reads what it would have written.
pub(super) fn transaction(transaction: &Transaction) -> Txn {
    Txn::new()
        .when(transaction.compares.iter().map(compare).collect::<Vec<_>>())
        .and_then(transaction.writes.iter().map(operation).collect::<Vec<_>>())
        .or_else(reads(&transaction.writes))
}

/// Reads, at one revision, what a transaction writes.
pub(super) fn look(writes: &[Write]) -> Txn {
    Txn::new().and_then(reads(writes))
}

/// What was read, in the order of the writes.
pub(super) fn found(response: &TxnResponse) -> Vec<Option<Entry>> {
    let read = |response: TxnOpResponse| match response {
        TxnOpResponse::Get(found) => found.kvs().first().and_then(entry),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    };
    response.op_responses().into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn a_range_ends_after_the_last_key_of_its_prefix() {
        assert_eq!(range("a/"), (b"a/".to_vec(), b"a0".to_vec()));
        assert_eq!(range(""), (vec![0], vec![0]), "all keys");
        assert_eq!(range("\u{7f}").1, [0x80]);
    }
}
