//! Keeps the copy up to date: lists, watches from there, and lists again when the store no longer holds what comes
//! next, or became another store.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Mirror, News};
use crate::{
    keys::Keys,
    store::{Store, StoreError, WatchError},
};

/// After a failure, the store is asked again this soon.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What the follower tells.
pub trait Follower: Send {
    /// Something changed; the mirror holds it already.
    fn news(&mut self, news: &[News]);
    /// The store was reached.
    fn reached(&mut self);
    /// The store cannot be reached.
    fn lost(&mut self, why: &str);
}

/// Follows the store until dropped.
pub async fn follow(store: Arc<dyn Store>, mirror: Arc<Mirror>, keys: Keys, mut follower: impl Follower) {
    loop {
        match list(&*store, &mirror, &keys, &mut follower).await {
            Ok(revision) => {
                let ended = watch(&*store, &mirror, &keys, revision + 1, &mut follower).await;
                match ended {
                    WatchError::Compacted { .. } => {}
                    WatchError::Broken(why) => {
                        follower.lost(&why);
                        sleep(RETRY_AFTER).await;
                    }
                }
            }
            Err(error) => {
                follower.lost(&error.to_string());
                sleep(RETRY_AFTER).await;
            }
        }
    }
}

async fn list(
    store: &dyn Store,
    mirror: &Mirror,
    keys: &Keys,
    follower: &mut impl Follower,
) -> Result<u64, StoreError> {
    let id = store.id().await?;
    let listing = store.list(keys.prefix()).await?;
    follower.reached();
    let news = mirror.relist(id, &listing, Instant::now().into_std());
    follower.news(&news);
    Ok(listing.revision)
}

async fn watch(
    store: &dyn Store,
    mirror: &Mirror,
    keys: &Keys,
    from: u64,
    follower: &mut impl Follower,
) -> WatchError {
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
                Some(Ok(batch)) => {
                    let news = mirror.apply(&batch, Instant::now().into_std());
                    follower.news(&news);
                }
                Some(Err(error)) => return error,
                None => return WatchError::Broken("it ended".into()),
            },
            () = flush => {}
        }
        flush_at = mirror.flush(Instant::now().into_std());
    }
}
