//! Coordinators know of each other by keys that live as long as their leases. When one's key is gone, one of the others,
//! its *heir*, takes over the users that it counted for and the relays that were attached to it.
//!
//! Invariant: this is decided by levels, not by events: whatever led to an owner without a key is mended at a later tick.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher as _,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::every;
use crate::{
    context::{Context, STORE_WITHIN, now},
    fault::Fault,
    keys::{CoordinatorEntry, Key, encode},
    mirror::View,
    rooms::take_over,
    store::{LeaseId, StoreError, Transaction, Write},
};

/// Orphans are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A key that is missing for less may be on its way: its owner writes it again when it finds its lease gone.
const MISSING_FOR: Duration = Duration::from_secs(2);

/// Who of the living takes over what somebody leaves: the same for everybody who sees the same. Rendezvous hashing, so
/// that what one leaves does not always fall to the same other.
#[must_use]
pub fn heir<'a>(of: &str, living: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let weight = |id: &str| {
        let mut hasher = std::hash::DefaultHasher::new();
        for part in [of, id] {
            hasher.write(part.as_bytes());
            hasher.write_u8(0);
        }
        hasher.finish()
    };
    living.max_by_key(|id| (weight(id), *id))
}

/// Owners without a key, and since when each is seen to be without.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    missing_since: BTreeMap<String, Instant>,
}

impl Orphans {
    /// The owners that are gone for good, and whose heir is this coordinator.
    pub(super) fn left_to(&mut self, me: &str, view: &View, now: Instant) -> BTreeSet<String> {
        let living = view.coordinators();
        let missing: BTreeSet<_> =
            view.owners().filter(|id| *id != me && !living.contains_key(*id)).collect();
        self.missing_since.retain(|id, _| missing.contains(id.as_str()));
        let mut left = BTreeSet::new();
        for id in missing {
            let since = *self.missing_since.entry(id.to_owned()).or_insert(now);
            let gone = now.saturating_duration_since(since) >= MISSING_FOR;
            let living = living.keys().map(String::as_str).chain([me]);
            if gone && heir(id, living) == Some(me) {
                left.insert(id.to_owned());
            }
        }
        left
    }

    /// The store was out of reach: nobody could write its key meanwhile.
    pub(super) fn afresh(&mut self) {
        self.missing_since.clear();
    }
}

/// Runs until dropped.
pub(super) async fn run(context: &Arc<Context>) {
    tokio::join!(live(context), inherit(context));
}

/// Keeps this coordinator's key.
async fn live(context: &Context) {
    let mut ticks = every(context.timings.owner_lease / 4);
    let mut lease = None;
    loop {
        let shown = tokio::select! {
            _ = ticks.tick() => context.mirror.read(|view| view.coordinators().contains_key(&context.id)),
            // Whoever does not show itself for two seconds is taken for dead.
            () = context.unseen.notified() => false,
        };
        let kept = timeout(STORE_WITHIN, async {
            match lease {
                Some(lease) => {
                    context.store.keep_alive(lease).await?;
                    if !shown {
                        show(context, lease).await?;
                    }
                    Ok(lease)
                }
                // Whatever stands there goes with a lease that nobody keeps alive.
                None => {
                    let lease = context.store.grant(context.timings.owner_lease).await?;
                    show(context, lease).await?;
                    Ok(lease)
                }
            }
        });
        match kept.await.unwrap_or_else(|_| Err(StoreError::Unavailable("it takes too long".into()))) {
            Ok(kept) => lease = Some(kept),
            Err(StoreError::LeaseGone(_)) => {
                lease = None;
                ticks.reset_immediately();
            }
            Err(error) => tracing::debug!(%error, "the lease of this coordinator was not kept alive"),
        }
    }
}

/// Writes this coordinator's key.
async fn show(context: &Context, lease: LeaseId) -> Result<(), StoreError> {
    let value = encode(&CoordinatorEntry { url: context.url().to_owned() });
    let key = context.keys.text(&Key::Coordinator(context.id.clone()));
    let put = Write::Put { key, value, lease: Some(lease) };
    context.store.commit(Transaction { compares: Vec::new(), writes: vec![put] }).await.map(|_| ())
}

/// This coordinator stops: its heirs need not wait for its lease to run out.
pub async fn resign(context: &Context) {
    let gone = Write::Delete(context.keys.text(&Key::Coordinator(context.id.clone())));
    let resign = context.store.commit(Transaction { compares: Vec::new(), writes: vec![gone] });
    match timeout(STORE_WITHIN, resign).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => {
            tracing::info!("the store does not answer: this coordinator's lease runs out by itself")
        }
    }
}

/// Takes over what others left.
async fn inherit(context: &Context) {
    let mut ticks = every(LOOK_EVERY);
    let mut orphans = Orphans::default();
    loop {
        ticks.tick().await;
        if !context.store_is_here() {
            orphans.afresh();
            continue;
        }
        let left = context.mirror.read(|view| orphans.left_to(&context.id, view, now()));
        if !left.is_empty()
            && let Err(fault) = take_users(context, &left).await
        {
            tracing::warn!(%fault, "the users of a coordinator that is gone are not all taken over yet");
        }
    }
}

async fn take_users(context: &Context, gone: &BTreeSet<String>) -> Result<(), Fault> {
    let mut taken = 0;
    loop {
        let (more, _) = context.change(|view| take_over(view, &context.keys, gone, &context.id)).await?;
        if more == 0 {
            break;
        }
        taken += more;
    }
    if taken > 0 {
        tracing::info!(users = taken, "took over the users of a coordinator that is gone");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use waystation_proto::{RoomId, SessionId, UserId};

    use super::*;
    use crate::{
        keys::{Keys, Rights, UserEntry},
        store::{Batch, Change, Entry},
    };

    fn put(key: String, value: Vec<u8>, modified: u64) -> Change {
        Change::Put(Entry { key, value, version: 1, modified, lease: None })
    }

    fn view(living: &[&str], owners: &[&str]) -> View {
        let keys = Keys::under("w");
        let mut changes = Vec::new();
        for id in living {
            let value = encode(&CoordinatorEntry { url: "http://x".into() });
            changes.push(put(keys.text(&Key::Coordinator((*id).into())), value, 1));
        }
        for (n, owner) in owners.iter().enumerate() {
            let session = SessionId::new(&format!("s{n}")).unwrap();
            let entry = UserEntry {
                app: String::new(),
                session: session.clone(),
                shown: session,
                rights: Rights::default(),
                expires_s: None,
                connection: 1,
                owner: (*owner).into(),
                replaced: Vec::new(),
                doubted: false,
                other: serde_json::Map::new(),
            };
            let key = Key::User(RoomId::new("r").unwrap(), UserId::new(&format!("u{n}")).unwrap());
            changes.push(put(keys.text(&key), encode(&entry), 1));
        }
        let mut view = View::new(keys);
        view.apply(&Batch { revision: 1, changes });
        view
    }

    #[test]
    fn one_survivor_and_only_one_takes_over_what_a_dead_owner_left_and_not_at_once() {
        // ROOM-13
        let view = view(&["a", "b", "c"], &["a", "dead", "dead", "c"]);
        let start = Instant::now();
        let mut heirs = 0;
        for me in ["a", "b", "c"] {
            let mut orphans = Orphans::default();
            assert!(orphans.left_to(me, &view, start).is_empty(), "the key may be on its way");
            let left = orphans.left_to(me, &view, start + MISSING_FOR);
            assert!(left.iter().all(|id| id == "dead"), "{left:?}");
            heirs += left.len();
        }
        assert_eq!(heirs, 1);
    }

    #[test]
    fn an_owner_that_shows_itself_again_keeps_what_it_has() {
        // ROOM-4
        let start = Instant::now();
        let mut orphans = Orphans::default();
        assert!(orphans.left_to("a", &view(&["a"], &["b"]), start).is_empty());
        assert!(orphans.left_to("a", &view(&["a", "b"], &["b"]), start + MISSING_FOR).is_empty());
        assert!(
            orphans.left_to("a", &view(&["a"], &["b"]), start + MISSING_FOR * 2).is_empty(),
            "counted afresh"
        );
        assert_eq!(orphans.left_to("a", &view(&["a"], &["b"]), start + MISSING_FOR * 3).len(), 1);
    }

    #[test]
    fn whoever_has_no_key_for_a_while_is_not_its_own_heir() {
        let (view, start) = (view(&[], &["me"]), Instant::now());
        let mut orphans = Orphans::default();
        assert!(orphans.left_to("me", &view, start).is_empty());
        assert!(orphans.left_to("me", &view, start + MISSING_FOR).is_empty());
    }

    #[test]
    fn what_many_leave_is_spread_over_the_living() {
        let mut shares: BTreeMap<&str, u32> = BTreeMap::new();
        for n in 0..300 {
            *shares.entry(heir(&format!("dead-{n}"), ["a", "b", "c"].into_iter()).unwrap()).or_default() += 1;
        }
        assert!(shares.len() == 3 && shares.values().all(|share| *share > 60), "{shares:?}");
    }
}
