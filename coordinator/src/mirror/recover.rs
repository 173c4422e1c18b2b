//! A store that lost what it held gets it back from the copy of a coordinator that lived through it.
//!
//! Stores lose things: somebody empties one, or restores it from a backup. Relays, clients and coordinators live on, and
//! nobody in a room need hear of it. One coordinator, the first to set a mark, writes back what the store lacks; the
//! others wait and then list again, so that all they see is the difference to what they knew: nothing. Invariant: no
//! claim goes backwards. What is held again keeps its epoch, and the store's next epochs begin above all of them.
//!
//! A coordinator that was started after the loss has no copy: it gathers instead (see `gathering`).

use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep;

use super::{Mirror, View, view::Known};
use crate::{
    context::unix_ms,
    gathering::first_epoch,
    keys::{
        ClaimEntry, EpochSource, Key, Keys, Origin, RestoringEntry, StreamEntry, UserEntry, decode, encode,
    },
    store::{
        Compare, Entry, LeaseId, Listing, MAX_TRANSACTION, Outcome, Store, StoreError, StoreId, Transaction,
        Write,
    },
};

/// A coordinator that dies while it writes back is followed by another after this.
const MARK_LASTS: Duration = Duration::from_secs(15);
/// Whoever waits for another to be done looks this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The last step is decided anew this often, if others write the same key.
const MAX_TRIES: usize = 8;

/// What a store is, compared with what was copied from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// The same, or nothing was copied yet.
    Same,
    /// It lost what it held.
    Lost,
}

/// Compares a store with what was copied from it.
pub(super) fn compare(view: &View, copied: &StoreId, id: &StoreId, listing: &Listing) -> Life {
    if view.known().is_empty() {
        return Life::Same;
    }
    let Some(origin) = origin(view.keys(), listing) else { return Life::Lost };
    let same = id == copied && listing.revision >= view.revision();
    if same || origin.restored_from.as_ref() == Some(&copied.0) { Life::Same } else { Life::Lost }
}

fn origin(keys: &Keys, listing: &Listing) -> Option<Origin> {
    let key = keys.text(&Key::Epochs);
    listing.entries.iter().find(|entry| entry.key == key).and_then(|entry| decode(&entry.value))
}

/// What is listed of a key, as far as it can be told from when that is.
#[derive(Clone, Copy)]
enum Listed<'a> {
    Nothing,
    /// What the copy has too.
    Same,
    /// Of the backup from which the store was restored: the copy is younger.
    Backup(&'a Entry),
    /// Of the backup, or written since.
    Other(&'a Entry),
}

impl<'a> Listed<'a> {
    fn entry(self) -> Option<&'a Entry> {
        match self {
            Self::Backup(entry) | Self::Other(entry) => Some(entry),
            Self::Nothing | Self::Same => None,
        }
    }
}

fn is_same(known: &Known, listed: &Entry) -> bool {
    known.modified == listed.modified && known.value.as_deref() == Some(listed.value.as_slice())
}

/// Whether a login, as copied, came after what is listed.
fn is_later(copied: &UserEntry, listed: &UserEntry) -> bool {
    copied.replaced.contains(&listed.session)
        || (copied.session == listed.session && copied.connection > listed.connection)
}

/// How a key goes back into the store: `None` if it is held there well enough.
fn put_back(view: &View, key: &str, value: &[u8], modified: u64, listed: Listed<'_>) -> Option<Transaction> {
    let back = |value: Vec<u8>| Transaction {
        compares: vec![Compare::unchanged(key.to_owned(), listed.entry().map(|listed| listed.modified))],
        writes: vec![Write::put(key.to_owned(), value)],
    };
    let is_lost = match listed {
        Listed::Same => return None,
        Listed::Nothing | Listed::Backup(_) => true,
        Listed::Other(_) => false,
    };
    match view.keys().parse(key) {
        Some(Key::Epochs | Key::Coordinator(_) | Key::Restoring) => None,
        Some(Key::Claim(_)) => {
            let claim: ClaimEntry = decode(value)?;
            let epoch = claim.epoch(modified);
            let held = |listed: &Entry| Some(decode::<ClaimEntry>(&listed.value)?.epoch(listed.modified));
            let value = encode(&ClaimEntry { epoch: EpochSource::Gathered(epoch), ..claim });
            (listed.entry().and_then(held) < Some(epoch)).then(|| back(value))
        }
        Some(Key::Stream(_)) => {
            let order = |stream: StreamEntry| (stream.epoch, stream.moved);
            let held = listed.entry().and_then(|listed| Some(order(decode(&listed.value)?)));
            (held < Some(order(decode(value)?))).then(|| back(value.to_vec()))
        }
        Some(Key::User(..)) => {
            let held: Option<UserEntry> = listed.entry().and_then(|listed| decode(&listed.value));
            let copied: UserEntry = decode(value)?;
            (is_lost || held.is_none_or(|held| is_later(&copied, &held))).then(|| back(value.to_vec()))
        }
        Some(Key::Node(_) | Key::Revoked(_) | Key::Kicked(..) | Key::Signing(_) | Key::Newest) | None => {
            is_lost.then(|| back(value.to_vec()))
        }
    }
}

/// Whether what was deleted since a backup is to be deleted again: it would be seen by clients, and in their way.
fn is_shown(view: &View, key: &str) -> bool {
    match view.keys().parse(key) {
        Some(Key::User(..) | Key::Claim(_) | Key::Stream(_) | Key::Node(_)) => true,
        Some(
            Key::Epochs
            | Key::Coordinator(_)
            | Key::Restoring
            | Key::Revoked(_)
            | Key::Kicked(..)
            | Key::Signing(_)
            | Key::Newest,
        )
        | None => false,
    }
}

/// What sets the store right, a key a transaction.
pub(super) fn lacking(view: &View, listing: &Listing) -> Vec<Transaction> {
    let listed: BTreeMap<_, _> = listing.entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
    let same = |entry: &&Entry| view.known().get(&entry.key).is_some_and(|known| is_same(known, entry));
    // Whatever is no younger than something that the copy has too was in the backup already.
    let backup = listing.entries.iter().filter(same).map(|entry| entry.modified).max().unwrap_or(0);
    let of = |key: &str, known: &Known| match listed.get(key) {
        None => Listed::Nothing,
        Some(entry) if is_same(known, entry) => Listed::Same,
        Some(entry) if entry.modified <= backup => Listed::Backup(entry),
        Some(entry) => Listed::Other(entry),
    };
    let put = view.known().iter().filter_map(|(key, known)| {
        put_back(view, key, known.value.as_deref()?, known.modified, of(key, known))
    });
    let ghosts = listing.entries.iter().filter(|entry| {
        entry.modified <= backup && !view.known().contains_key(&entry.key) && is_shown(view, &entry.key)
    });
    let delete = ghosts.map(|entry| Transaction {
        compares: vec![Compare::Modified(entry.key.clone(), entry.modified)],
        writes: vec![Write::Delete(entry.key.clone())],
    });
    put.chain(delete).collect()
}

/// Writes back what the store lost, or waits until another coordinator has.
///
/// # Errors
/// [`StoreError`]; what was done stays done, and the rest is done at the next call.
pub(super) async fn restore(
    store: &dyn Store,
    mirror: &Mirror,
    keys: &Keys,
    owner: &str,
) -> Result<(), StoreError> {
    let lease = store.grant(MARK_LASTS).await?;
    let mark = keys.text(&Key::Restoring);
    let value = encode(&RestoringEntry { owner: owner.to_owned() });
    let set = Transaction {
        compares: vec![Compare::Absent(mark.clone())],
        writes: vec![Write::Put { key: mark.clone(), value, lease: Some(lease) }],
    };
    let done = match store.commit(set).await? {
        // Whoever stood still while its mark ran out writes nothing more.
        Outcome::Done(set) => write_back(store, mirror, keys, &Compare::Modified(mark, set)).await,
        Outcome::Conflict => {
            sleep(LOOK_EVERY).await;
            Ok(())
        }
    };
    release(store, lease).await;
    done
}

/// The mark goes with its lease.
async fn release(store: &dyn Store, lease: LeaseId) {
    if let Err(error) = store.revoke(lease).await {
        tracing::debug!(%error, "a lease runs out by itself");
    }
}

/// All of it compares the mark.
async fn write_back(
    store: &dyn Store,
    mirror: &Mirror,
    keys: &Keys,
    mark: &Compare,
) -> Result<(), StoreError> {
    let copied = mirror.store();
    let id = store.id().await?;
    let listing = store.list(keys.prefix()).await?;
    let (life, back, above) = mirror.read(|view| {
        let above = view.epochs().base.saturating_add(view.revision()).saturating_add(1);
        (compare(view, &copied, &id, &listing), lacking(view, &listing), above)
    });
    if life == Life::Same {
        return Ok(());
    }
    tracing::warn!(entries = back.len(), "the store lost what it held: writing it back");
    for some in back.chunks(MAX_TRANSACTION - 1) {
        let mut together = Transaction { compares: vec![mark.clone()], writes: Vec::new() };
        for one in some {
            together.compares.extend(one.compares.iter().cloned());
            together.writes.extend(one.writes.iter().cloned());
        }
        if store.commit(together).await? == Outcome::Conflict {
            for one in some {
                // Whoever wrote it meanwhile knows better.
                let mut one = one.clone();
                one.compares.push(mark.clone());
                store.commit(one).await?;
            }
        }
    }
    begin_again(store, keys, above, copied, mark).await
}

/// The store's next epochs begin above all that were granted, and others see that all is written back.
async fn begin_again(
    store: &dyn Store,
    keys: &Keys,
    above: u64,
    copied: StoreId,
    mark: &Compare,
) -> Result<(), StoreError> {
    let key = keys.text(&Key::Epochs);
    for _ in 0..MAX_TRIES {
        let held = store.get(&key).await?.entry;
        let listed: Option<Origin> = held.as_ref().and_then(|held| decode(&held.value));
        let base = listed.map_or(0, |origin| origin.base).max(above).max(first_epoch(unix_ms()));
        let origin = Origin { base, met_ms: 0, restored_from: Some(copied.0.clone()) };
        let compares = vec![Compare::unchanged(key.clone(), held.map(|held| held.modified)), mark.clone()];
        let writes = vec![Write::put(key.clone(), encode(&origin))];
        if let Outcome::Done(_) = store.commit(Transaction { compares, writes }).await? {
            tracing::info!(base, "the store holds again what it lost");
            return Ok(());
        }
    }
    Err(StoreError::Unavailable("another writes it back, or keeps writing where its epochs begin".into()))
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
