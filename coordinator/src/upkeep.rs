//! What a coordinator does by the clock: it writes what became of its relays, ends logins that are not heard or whose
//! tokens expired, ends the gathering, and counts.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::{
    context::{Context, Plan, Serving, now, unix_ms},
    fault::Fault,
    keys::{Key, Keys, NodeEntry, PLAIN_PREFIX, encode},
    metrics,
    mirror::{Follower, News, View},
    nodes::Wanted,
    rooms::{Command, Due, Leaving, Who, leave, sweep},
    store::{Compare, Transaction, Write},
    streams,
};

/// Half a beat: three missed ones are seen at most so much late.
const NODES_EVERY: Duration = Duration::from_millis(100);
/// Time-outs of users are seen at most so much late (ROOM-5 allows a second).
const USERS_EVERY: Duration = Duration::from_millis(500);
/// Expired revocations cost nothing but room.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Gauges are set this often.
const COUNT_EVERY: Duration = Duration::from_secs(2);

/// Runs until dropped.
pub async fn run(context: Arc<Context>) {
    tokio::join!(nodes(&context), users(&context), sweeps(&context), gathering(&context), counts(&context));
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn nodes(context: &Context) {
    let mut ticks = every(NODES_EVERY);
    loop {
        ticks.tick().await;
        write_nodes(context).await;
    }
}

fn write_node(view: &View, keys: &Keys, wanted: &Wanted, owner: &str) -> Plan<()> {
    let id = match wanted {
        Wanted::Put(node) => &node.node.id,
        Wanted::Delete(node) => &node.id,
    };
    let key = keys.text(&Key::Node(id.clone()));
    let held = view.node(id);
    let compares = vec![Compare::unchanged(key.clone(), held.map(|held| held.modified))];
    let write = match (wanted, held) {
        // A later life of it is attached elsewhere.
        (Wanted::Put(node), Some(held)) if held.value.node.node.incarnation > node.node.incarnation => {
            return Plan::Settled(());
        }
        (Wanted::Put(node), held) => {
            let entry = NodeEntry { node: node.clone(), owner: owner.to_owned() };
            if held.is_some_and(|held| held.value == entry) {
                return Plan::Settled(());
            }
            Write::put(key, encode(&entry))
        }
        (Wanted::Delete(node), Some(held)) if held.value.node.node == *node && held.value.owner == owner => {
            Write::Delete(key)
        }
        (Wanted::Delete(_), _) => return Plan::Settled(()),
    };
    Plan::Write(Transaction { compares, writes: vec![write] }, ())
}

/// Writes what became of the relays that are attached here.
pub async fn write_nodes(context: &Context) {
    let wanted = {
        let mut table = context.nodes();
        table.tick(now());
        table.wanted(now())
    };
    for one in wanted {
        match context.change(|view| write_node(view, &context.keys, &one, &context.id)).await {
            Ok(_) => context.nodes().written(&one, now()),
            // It is wanted again at the next tick.
            Err(fault) => tracing::warn!(%fault, "what became of a relay was not written"),
        }
    }
}

async fn users(context: &Context) {
    let mut ticks = every(USERS_EVERY.min(context.timings.heard_within / 4));
    loop {
        ticks.tick().await;
        let due = context.presence().due(now(), unix_ms());
        for one in due {
            if let Err(fault) = end(context, one).await {
                tracing::warn!(%fault, "a login whose time is up could not be ended yet");
            }
        }
    }
}

async fn end(context: &Context, due: Due) -> Result<(), Fault> {
    let (room, session, leaving) = match due {
        Due::Unheard { who: Who::Plain(stream), modified, .. } => {
            return streams::end_unheard(context, &stream, modified).await;
        }
        Due::Expiring { who: Who::User(room, _), session, within } => {
            let command = Command::Expiring(room, session.clone(), within);
            context.connections.tell_holder(&session, command).await;
            return Ok(());
        }
        // A plain client's session outlives its token: that gates new sessions only.
        Due::Expiring { who: Who::Plain(_), .. } | Due::Expired { who: Who::Plain(_), .. } => return Ok(()),
        Due::Unheard { who: Who::User(room, _), session, modified } => {
            (room, session, Leaving::Unheard { seen: modified })
        }
        Due::Expired { who: Who::User(room, _), session, .. } => {
            (room, session, Leaving::Revoked(waystation_proto::ErrorCode::TokenExpired))
        }
    };
    let left = context.change(|view| leave(view, &context.keys, &room, &session, leaving, unix_ms())).await?;
    streams::ended(context, left.0.streams);
    Ok(())
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
    let mut retry = every(NODES_EVERY);
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

/// Keeps presence and node table in step with the store.
pub struct Keeper {
    context: Arc<Context>,
    lost_since: Option<std::time::Instant>,
}

impl Keeper {
    /// Of what all parts share.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, lost_since: None }
    }

    fn take(&self, news: &News) {
        let context = &self.context;
        let now = now();
        match news {
            News::User(room, user) => {
                let held = context
                    .mirror
                    .read(|view| view.room(room).and_then(|room| room.users.get(user).cloned()));
                let who = Who::User(room.clone(), user.clone());
                match held.filter(|held| held.value.owner == context.id) {
                    Some(held) => {
                        let expires_s = held.value.expires_s;
                        context.presence().track(who, &held.value.session, held.modified, expires_s, now);
                    }
                    None => context.presence().forget(&who),
                }
            }
            News::Claim(stream) => {
                let claim = |view: &View| {
                    view.room(&stream.room).and_then(|room| room.claims.get(&stream.stream).cloned())
                };
                let who = Who::Plain(stream.clone());
                let plain = context.mirror.read(claim);
                match plain.filter(|claim| claim.value.session.as_str().starts_with(PLAIN_PREFIX)) {
                    Some(claim) => {
                        context.presence().track(who, &claim.value.session, claim.modified, None, now)
                    }
                    None => context.presence().forget(&who),
                }
            }
            News::Node(id) => {
                let owner = context.mirror.read(|view| view.node(id).map(|held| held.value.owner.clone()));
                if owner.is_some_and(|owner| owner != context.id) {
                    context.nodes().release(id);
                }
            }
            News::Room(..) | News::Revoked(_) => {}
        }
    }
}

impl Follower for Keeper {
    fn news(&mut self, news: &[News]) {
        news.iter().for_each(|one| self.take(one));
    }

    fn reached(&mut self) {
        if self.lost_since.take().is_some() {
            tracing::info!("the store is back");
        }
        self.context.serve(Serving::Up);
    }

    fn lost(&mut self, why: &str) {
        let now = now();
        let since = *self.lost_since.get_or_insert_with(|| {
            tracing::warn!(why, "the store is gone; what is known is served for a while");
            now
        });
        if now.saturating_duration_since(since) >= self.context.timings.cut_off {
            self.context.serve(Serving::Leaving);
        }
    }
}
