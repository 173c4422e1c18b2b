//! Keeps the signing keys: takes in what the store holds, and writes what is due.
//!
//! Every coordinator does; what two want at once, one gets (compare and swap), and the other finds done.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use waystation_proto::KeyId;

use super::{
    NodeTokens, SignError,
    rotation::{Cause, Due, due},
};
use crate::{
    context::{Context, Plan, unix_ms},
    fault::Fault,
    keys::{Key, Keys, NewestEntry, encode},
    mirror::View,
    store::{Compare, Listing, Store, StoreError, Transaction, Write},
};

/// What is due by the clock is seen at most so much late.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A busy store is looked at this often, at most.
const REST: Duration = Duration::from_millis(100);
/// After a failure, the store is asked again this soon.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What was done about the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing was due.
    Nothing,
    /// A key was made.
    Made(KeyId),
    /// A key was deleted.
    Deleted(KeyId),
}

fn plan(
    view: &View,
    keys: &Keys,
    tokens: &NodeTokens,
    cause: Cause,
    now_ms: u64,
) -> Plan<Result<Done, SignError>> {
    let spans = tokens.take(view.signing()).spans();
    match due(spans, tokens.rules, cause, now_ms) {
        None => Plan::Settled(Ok(Done::Nothing)),
        Some(Due::Make { signs_from_ms }) => {
            let (id, entry) = match tokens.sealer.generate(now_ms, signs_from_ms) {
                Ok(made) => made,
                Err(error) => return Plan::Settled(Err(error)),
            };
            let newest = keys.text(&Key::Newest);
            let seen = view.newest_key().map(|held| held.modified);
            let compares = vec![Compare::unchanged(newest.clone(), seen)];
            let writes = vec![
                Write::put(keys.text(&Key::Signing(id.clone())), encode(&entry)),
                Write::put(newest, encode(&NewestEntry { id: id.clone() })),
            ];
            Plan::Write(Transaction { compares, writes }, Ok(Done::Made(id)))
        }
        Some(Due::Delete(id)) => {
            let key = keys.text(&Key::Signing(id.clone()));
            let writes = vec![Write::Delete(key)];
            Plan::Write(Transaction { compares: Vec::new(), writes }, Ok(Done::Deleted(id)))
        }
    }
}

async fn step(context: &Context, cause: Cause) -> Result<Done, Fault> {
    let tokens = &context.node_tokens;
    let done = context.change(|view| plan(view, &context.keys, tokens, cause, unix_ms())).await?.0?;
    context.mirror.read(|view| tokens.take(view.signing()));
    match &done {
        Done::Nothing => {}
        Done::Made(id) => tracing::info!(key = %id, "a new key for node tokens was made"),
        Done::Deleted(id) => tracing::info!(key = %id, "a retired key of node tokens was deleted"),
    }
    Ok(done)
}

/// Makes a key that replaces the one that signs, unless one is upcoming already.
///
/// # Errors
/// [`Fault`]
pub async fn rotate(context: &Context) -> Result<(), Fault> {
    step(context, Cause::Operator).await.map(|_| ())
}

/// At the start, before anything is served: finds the store's keys, or makes the first one.
///
/// # Errors
/// [`StoreError`]
pub async fn begin(store: &dyn Store, keys: &Keys, tokens: &NodeTokens) -> Result<(), BeginError> {
    loop {
        // The newest first: one that is made in between is a conflict, not a second one.
        let newest = store.get(&keys.text(&Key::Newest)).await?;
        let listed = store.list(&format!("{}signing/", keys.prefix())).await?;
        let entries = listed.entries.into_iter().chain(newest.entry).collect();
        let mut view = View::new(keys.clone());
        view.relist(&Listing { revision: listed.revision, entries });
        match plan(&view, keys, tokens, Cause::Clock, unix_ms()) {
            Plan::Settled(done) => return done.map(|_| ()).map_err(Into::into),
            // One signs: what is due besides can wait.
            Plan::Write(..) if !tokens.ring().borrow().spans().is_empty() => return Ok(()),
            Plan::Write(transaction, _) => store.commit(transaction).await?,
        };
    }
}

/// Why the keys are not there at the start.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The library.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Runs until dropped.
pub async fn run(context: Arc<Context>) {
    let mut changes = context.mirror.changes();
    loop {
        changes.mark_unchanged();
        // Until the first list there is nothing to go by.
        if context.mirror.read(View::revision) > 0 {
            match step(&context, Cause::Clock).await {
                Ok(Done::Nothing) => {}
                Ok(Done::Made(_) | Done::Deleted(_)) => continue,
                Err(fault) => {
                    tracing::warn!(%fault, "what is due of the signing keys was not written");
                    sleep(RETRY_AFTER).await;
                }
            }
        }
        sleep(REST).await;
        // Time passes, or the store changes.
        if let Ok(Err(_)) = timeout(LOOK_EVERY, changes.changed()).await {
            return;
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
