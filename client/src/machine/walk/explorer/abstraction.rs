//! Makes one of states that cannot be told apart by what follows.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::world::{OLD, RETRY_TIME, World};
use crate::machine::{
    backoff::Dice,
    hedge::Shared,
    retry::RetryClock,
    trial::{AttemptId, Trace},
    walk::{
        ATTEMPT_TIME, State, Walk,
        roll::Verdict,
        session::{HEDGE_PAUSE, InUse, STILL_SILENT, Session},
    },
};

/// Older than any instant of a walk under way.
const LONG_AGO: Duration = Duration::from_secs(60);

/// Holds the world's instants relative to `base`, where `now` is to be, and forgets what cannot matter.
pub(super) fn settle(world: &mut World, now: Instant, base: Instant) {
    let World { walk, shared, falls } = world;
    walk.trace = Trace::default();
    walk.round = walk.round.min(1);
    shared.dice = Dice::new(0);
    let back = walk.clock.deadline().is_none();
    walk.clock = match walk.clock.retries() {
        true => RetryClock::started(RETRY_TIME, base),
        false => RetryClock::started(Duration::ZERO, base),
    };
    if back {
        walk.clock.back(base);
    }
    let spent = shared.hedges.last.take().filter(|(at, _)| now < *at + HEDGE_PAUSE);
    // Too long ago for another stream to share it.
    shared.hedges.last = spent.map(|(_, node)| (base - Duration::from_secs(1), node));
    for fall in falls.values_mut() {
        let earliest = if fall.counts { now } else { now - ATTEMPT_TIME - Duration::from_millis(1) };
        fall.since = fall.since.max(earliest);
    }
    match &mut walk.state {
        State::Attached { on } | State::Moving { from: on, .. } => {
            walk.round_started = now;
            forget_age(on, now);
            // As if a fresh plan came with it.
            walk.roll.nodes.iter_mut().for_each(|nodes| nodes.sort_by(|a, b| a.node.cmp(&b.node)));
        }
        State::Ended(_) => {
            walk.round_started = now;
            walk.roll.forget();
            falls.clear();
            shared.hedges.last = None;
        }
        State::Waiting | State::Dialing { .. } | State::Judging | State::Resting { .. } => {}
    }
    forget_evidence(walk, shared, now);
    for instant in instants(world) {
        *instant = if *instant >= now { base + (*instant - now) } else { base - (now - *instant) };
    }
    renumber(&mut world.walk, &mut world.shared);
}

/// Whether the hedge's pause is over, not how much of it is left; not how long it was silent beyond what is asked for.
fn forget_age(on: &mut InUse, now: Instant) {
    on.session.started = now;
    on.heard_at = on.heard_at.max(now - STILL_SILENT);
    on.hedge_from = if on.hedge_from > now { now + HEDGE_PAUSE } else { on.quiet_since };
}

/// Evidence matters by its order to a few instants; a coordinator's stands for any node's that is older.
fn forget_evidence(walk: &mut Walk, shared: &mut Shared, now: Instant) {
    let (_, dialled) = walk.attempts();
    let in_use = matches!(walk.state, State::Attached { .. } | State::Moving { .. });
    let heard_in_round = !in_use && shared.evidence.any_since(walk.round_started);
    walk.round_started = if heard_in_round { now - LONG_AGO } else { now };
    let mut matters = vec![now - LONG_AGO];
    let sessions = sessions(&mut walk.state).into_iter();
    matters.extend(sessions.filter(|at| Some(at.attempt) == dialled).map(|at| at.started));
    matters.extend(walk.roll.tried.values().filter_map(|tried| match tried.verdict {
        Verdict::Open { since, .. } => Some(since),
        Verdict::Failed | Verdict::Void | Verdict::NotHere => None,
    }));
    let rounded = |at: Instant| matters.iter().filter(|since| **since <= at).max().copied();
    let evidence = &mut shared.evidence;
    // A coordinator's counts only after the instant.
    let after =
        |at: Instant| rounded(at - Duration::from_nanos(1)).map(|since| since + Duration::from_nanos(1));
    evidence.coordinator = evidence.coordinator.and_then(after);
    if heard_in_round {
        evidence.coordinator = evidence.coordinator.max(Some(now - LONG_AGO));
    } else {
        evidence.coordinator.take_if(|at| *at <= now - LONG_AGO + Duration::from_nanos(1));
    }
    let nodes = std::mem::take(&mut evidence.nodes).into_iter();
    let newer = nodes.filter_map(|(id, at)| Some((id, rounded(at)?)));
    evidence.nodes = newer.filter(|(_, at)| Some(*at) > evidence.coordinator).collect();
    evidence.nodes.retain(|_, at| *at > now - LONG_AGO);
}

fn sessions(state: &mut State) -> Vec<&mut Session> {
    match state {
        State::Dialing { at, .. } => vec![at],
        State::Attached { on } => vec![&mut on.session],
        State::Moving { from, to, .. } => vec![&mut from.session, to],
        State::Waiting | State::Judging | State::Resting { .. } | State::Ended(_) => Vec::new(),
    }
}

fn instants(world: &mut World) -> Vec<&mut Instant> {
    let World { walk, shared, falls } = world;
    let mut all = vec![&mut walk.round_started];
    all.extend(shared.evidence.coordinator.iter_mut().chain(shared.evidence.nodes.values_mut()));
    all.extend(falls.values_mut().map(|fall| &mut fall.since));
    for tried in walk.roll.tried.values_mut() {
        if let Verdict::Open { since, until, .. } = &mut tried.verdict {
            all.extend([since, until]);
        }
    }
    match &mut walk.state {
        State::Dialing { at, .. } => all.push(&mut at.started),
        State::Attached { on } => all.extend(instants_in_use(on)),
        State::Moving { from, to, ready, looked_at } => {
            all.extend(instants_in_use(from));
            all.extend([&mut to.started, looked_at]);
            all.extend(ready);
        }
        State::Resting { until, .. } => all.push(until),
        State::Waiting | State::Judging | State::Ended(_) => {}
    }
    all
}

fn instants_in_use(on: &mut InUse) -> impl Iterator<Item = &mut Instant> {
    let InUse { session, heard_at, quiet_since, suspected, hedge_from, patience: _ } = on;
    [&mut session.started, heard_at, quiet_since, hedge_from].into_iter().chain(suspected)
}

/// Attempts are numbered anew, in their order.
fn renumber(walk: &mut Walk, shared: &mut Shared) {
    let mut all: Vec<&mut AttemptId> =
        sessions(&mut walk.state).into_iter().map(|session| &mut session.attempt).collect();
    all.extend(walk.roll.tried.values_mut().filter_map(|tried| match &mut tried.verdict {
        Verdict::Open { attempt, .. } => Some(attempt),
        Verdict::Failed | Verdict::Void | Verdict::NotHere => None,
    }));
    let mut order: Vec<AttemptId> = all.iter().map(|attempt| **attempt).collect();
    order.sort_unstable();
    let numbers: BTreeMap<AttemptId, AttemptId> =
        order.into_iter().zip(OLD.0 + 1..).map(|(attempt, number)| (attempt, AttemptId(number))).collect();
    shared.last_attempt = AttemptId(OLD.0 + numbers.len() as u64);
    all.into_iter().for_each(|attempt| *attempt = numbers[attempt]);
}
