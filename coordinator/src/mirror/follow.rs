//! Keeps the copy up to date: lists, watches from there, and lists again when the store no longer holds what comes
//! next, or became another store. What a store lost is first written back (see `recover`).

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Mirror, News,
    recover::{Life, compare, restore},
};
use crate::{
    keys::{Key, Keys},
    store::{Batch, Change, Store, StoreError, WatchError},
};

/// After a failure, the store is asked again this soon.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What the follower tells.
pub trait Follower: Send {
    /// Something changed; the mirror holds it already.
    fn news(&mut self, news: &[News]);
    /// The store was reached.
    fn reached(&mut self);
    /// The store cannot be reached, since then.
    fn lost(&mut self, why: &str, since: std::time::Instant);
}

/// Why a watch ends.
enum End {
    /// The store holds no more what comes next, or nothing at all.
    ListAgain,
    /// It cannot be reached.
    Broken { why: String, since: std::time::Instant },
}

impl From<WatchError> for End {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Compacted { .. } => Self::ListAgain,
            WatchError::Broken { why, since } => Self::Broken { why, since },
        }
    }
}

/// Follows the store until dropped, in the name of this coordinator.
pub async fn follow(
    store: Arc<dyn Store>,
    mirror: Arc<Mirror>,
    keys: Keys,
    owner: String,
    mut follower: impl Follower,
) {
    loop {
        let asked = Instant::now().into_std();
        let lost = match list(&*store, &mirror, &keys, &owner, &mut follower).await {
            Ok(Some(revision)) => match watch(&*store, &mirror, &keys, revision + 1, &mut follower).await {
                End::ListAgain => None,
                End::Broken { why, since } => Some((why, since)),
            },
            Ok(None) => None,
            Err(error) => Some((error.to_string(), asked)),
        };
        if let Some((why, since)) = lost {
            follower.lost(&why, since);
            sleep(RETRY_AFTER).await;
        }
    }
}

/// Takes the store's content in, up to the revision that it answers with; `None` if it had lost it.
async fn list(
    store: &dyn Store,
    mirror: &Mirror,
    keys: &Keys,
    owner: &str,
    follower: &mut impl Follower,
) -> Result<Option<u64>, StoreError> {
    let id = store.id().await?;
    let listing = store.list(keys.prefix()).await?;
    let copied = mirror.store();
    match mirror.read(|view| compare(view, &copied, &id, &listing)) {
        Life::Same => {
            follower.reached();
            let news = mirror.relist(id, &listing, Instant::now().into_std());
            follower.news(&news);
            Ok(Some(listing.revision))
        }
        Life::Lost => restore(store, mirror, keys, owner).await.map(|()| None),
    }
}

/// Where epochs begin is never deleted by us: a store without it lost all.
fn is_loss(batch: &Batch, epochs: &str) -> bool {
    let deletes = |change: &Change| match change {
        Change::Delete(key) => key == epochs,
        Change::Put(_) => false,
    };
    batch.changes.iter().any(deletes)
}

async fn watch(
    store: &dyn Store,
    mirror: &Mirror,
    keys: &Keys,
    from: u64,
    follower: &mut impl Follower,
) -> End {
    let epochs = keys.text(&Key::Epochs);
    let mut changes = store.watch(keys.prefix(), from);
    let mut flush_at = mirror.flush(Instant::now().into_std());
    loop {
        let flush = async {
            match flush_at {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            batch = changes.next() => match batch {
                Some(Ok(batch)) if is_loss(&batch, &epochs) => return End::ListAgain,
                Some(Ok(batch)) => {
                    let news = mirror.apply(&batch, Instant::now().into_std());
                    follower.news(&news);
                }
                Some(Err(error)) => return error.into(),
                None => {
                    return End::Broken { why: "it ended".into(), since: Instant::now().into_std() };
                }
            },
            () = flush => {}
        }
        flush_at = mirror.flush(Instant::now().into_std());
    }
}
