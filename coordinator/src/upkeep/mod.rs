//! What a coordinator does by the clock and by news: it shows that it lives, writes what became of its relays, ends
//! logins that are not heard or whose tokens expired, ends the gathering, and counts.

mod keeper;
mod nodes;
mod owners;
mod users;

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep_until};

pub use self::{
    keeper::Keeper,
    nodes::write_nodes,
    owners::{heir, resign},
};
use crate::{
    context::{Context, unix_ms},
    metrics,
    rooms::sweep,
    streams,
};

/// Expired revocations cost nothing but room.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Gauges are set this often.
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// What could not be written at the end of the gathering is tried again this often.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// Runs until dropped.
pub async fn run(context: Arc<Context>) {
    tokio::join!(
        owners::run(&context),
        nodes::run(&context),
        users::run(&context),
        sweeps(&context),
        gathering(&context),
        counts(&context)
    );
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn sweeps(context: &Context) {
    let mut ticks = every(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        if let Err(fault) = context.change(|view| sweep(view, &context.keys, unix_ms())).await {
            tracing::warn!(%fault, "expired revocations were not swept");
        }
    }
}

/// Plans wait for this. What could not be written keeps them waiting: nothing may be granted below what was gathered.
async fn gathering(context: &Context) {
    let until = context.gathering().until();
    let Some(until) = until else { return };
    tracing::info!("the store is empty: gathering what relays and clients hold");
    sleep_until(until.into()).await;
    let mut retry = every(RETRY_EVERY);
    loop {
        let highest = context.gathering().highest();
        match streams::raise_epochs(context, highest).await {
            Ok(()) => break,
            Err(fault) => tracing::warn!(%fault, "the gathering cannot be ended yet"),
        }
        retry.tick().await;
    }
    context.end_gathering();
    tracing::info!("gathering is over");
}

async fn counts(context: &Context) {
    let mut ticks = every(COUNT_EVERY);
    loop {
        ticks.tick().await;
        let counted = context.mirror.read(metrics::Counted::of);
        metrics::count(&counted, context.connections.count());
    }
}
