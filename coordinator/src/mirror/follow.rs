//! Keeps the copy up to date: lists, watches from there, and lists again when the store no longer holds what comes
//! next, or became another store. What a store lost is first written back (see `recover`).

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    Mirror, News,
    recover::{Life, compare, restore},
};
use crate::{
    keys::{Key, Keys},
    store::{Batch, Change, Listing, Store, StoreError, StoreId, WatchError},
};

/// After a failure, the store is asked again this soon.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What the follower tells.
pub trait Follower: Send {
    /// Something changed; the mirror holds it already.
    fn news(&mut self, news: &[News]);
    /// The store was reached.
    fn reached(&mut self);
    /// The store cannot be reached, since then. Told again as long as that lasts.
    fn lost(&mut self, why: &str, since: std::time::Instant);
}

/// The store is out of reach.
struct Loss {
    why: String,
    since: std::time::Instant,
}

/// Why a watch ends.
enum End {
    /// The store holds no more what comes next, or nothing at all.
    ListAgain,
    /// It cannot be reached.
    Broken(Loss),
}

impl From<WatchError> for End {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Compacted { .. } => Self::ListAgain,
            WatchError::Broken { why, since } => Self::Broken(Loss { why, since }),
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
    let mut loss = None;
    loop {
        let asked = Instant::now().into_std();
        let listed = match look(&*store, keys.prefix(), loss.as_ref(), &mut follower).await {
            Ok((id, listing)) => take(&*store, &mirror, &keys, &owner, &mut follower, id, &listing).await,
            Err(error) => Err(error),
        };
        loss = match listed {
            Ok(Some(revision)) => match watch(&*store, &mirror, &keys, revision + 1, &mut follower).await {
                End::ListAgain => None,
                End::Broken(loss) => Some(loss),
            },
            Ok(None) => None,
            Err(error) => Some(Loss { why: error.to_string(), since: asked }),
        };
        if let Some(Loss { why, since }) = &loss {
            follower.lost(why, *since);
            sleep(RETRY_AFTER).await;
        }
    }
}

/// Asks for the store's content. A store that was lost may take long to fail again: the follower is told meanwhile.
async fn look(
    store: &dyn Store,
    prefix: &str,
    loss: Option<&Loss>,
    follower: &mut impl Follower,
) -> Result<(StoreId, Listing), StoreError> {
    let mut looking = pin!(async { Ok((store.id().await?, store.list(prefix).await?)) });
    let Some(Loss { why, since }) = loss else { return looking.await };
    loop {
        match timeout(RETRY_AFTER, &mut looking).await {
            Ok(looked) => return looked,
            Err(_) => follower.lost(why, *since),
        }
    }
}

/// Takes the store's content in; gives its revision, or `None` if the store had lost it.
async fn take(
    store: &dyn Store,
    mirror: &Mirror,
    keys: &Keys,
    owner: &str,
    follower: &mut impl Follower,
    id: StoreId,
    listing: &Listing,
) -> Result<Option<u64>, StoreError> {
    let copied = mirror.store();
    match mirror.read(|view| compare(view, &copied, &id, listing)) {
        Life::Same => {
            follower.reached();
            let news = mirror.relist(id, listing, Instant::now().into_std());
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
                    return End::Broken(Loss { why: "it ended".into(), since: Instant::now().into_std() });
                }
            },
            () = flush => {}
        }
        flush_at = mirror.flush(Instant::now().into_std());
    }
}
