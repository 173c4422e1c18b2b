//! What is counted. Labels come from fixed sets only: nothing that a user made becomes one.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use waystation_proto::Health;

use crate::mirror::View;

const NODES: &str = "waystation_coordinator_nodes";
const ROOMS: &str = "waystation_coordinator_rooms";
const USERS: &str = "waystation_coordinator_users";
const STREAMS: &str = "waystation_coordinator_streams";
const CONNECTIONS: &str = "waystation_coordinator_connections";
const LOGINS: &str = "waystation_coordinator_logins_total";
const PLANS: &str = "waystation_coordinator_plans_total";
const ATTEMPTS: &str = "waystation_coordinator_walk_attempts_total";
const TRANSACTIONS: &str = "waystation_coordinator_store_transactions_total";
const GROUPS: &str = "waystation_coordinator_store_groups_total";
const ATTEMPT_SECONDS: &str = "waystation_coordinator_walk_attempt_duration_seconds";
const STORE_CALLS: &str = "waystation_coordinator_store_calls_total";
const STORE_CALL_SECONDS: &str = "waystation_coordinator_store_call_duration_seconds";
const STORE_COMMITS: &str = "waystation_coordinator_store_commits_total";
const STORE_SWITCHES: &str = "waystation_coordinator_store_endpoint_switches_total";
const STORE_WATCH_RESTARTS: &str = "waystation_coordinator_store_watch_restarts_total";

/// What clients may say of an attempt; all else is counted as "other".
const OUTCOMES: [&str; 6] = ["used", "refused", "unreachable", "timed_out", "media_lost", "void"];

/// Says what each metric is. To be called once the recorder is installed.
pub fn describe() {
    describe_gauge!(NODES, "Relays known, by state.");
    describe_gauge!(ROOMS, "Rooms with anything in them.");
    describe_gauge!(USERS, "Users in rooms; one in two rooms counts twice.");
    describe_gauge!(STREAMS, "Streams in rooms.");
    describe_gauge!(CONNECTIONS, "Client connections open at this coordinator.");
    describe_counter!(LOGINS, "Logins and resumes, by outcome.");
    describe_counter!(PLANS, "Plans to publish and to play, by kind and outcome.");
    describe_counter!(ATTEMPTS, "Attempts of clients at nodes as they reported them, by outcome.");
    describe_counter!(TRANSACTIONS, "Transactions that were asked of the store.");
    describe_counter!(GROUPS, "Groups in which transactions went to the store.");
    describe_histogram!(ATTEMPT_SECONDS, Unit::Seconds, "How long clients' attempts at nodes took.");
    describe_counter!(STORE_CALLS, "Attempts at members of the store, by call and outcome.");
    describe_histogram!(STORE_CALL_SECONDS, Unit::Seconds, "How long attempts at members of the store took.");
    describe_counter!(STORE_COMMITS, "Transactions that write, by outcome.");
    describe_counter!(STORE_SWITCHES, "Changes from one member of the store to another.");
    describe_counter!(STORE_WATCH_RESTARTS, "Watches that broke and were taken up again.");
}

pub(crate) fn login(outcome: &'static str) {
    counter!(LOGINS, "outcome" => outcome).increment(1);
}

pub(crate) fn plan(kind: &'static str, outcome: &'static str) {
    counter!(PLANS, "kind" => kind, "outcome" => outcome).increment(1);
}

pub(crate) fn grouped(transactions: usize) {
    counter!(TRANSACTIONS).increment(u64::try_from(transactions).unwrap_or(u64::MAX));
    counter!(GROUPS).increment(1);
}

pub(crate) fn attempt(outcome: &str, took: Duration) {
    let outcome = OUTCOMES.into_iter().find(|known| *known == outcome).unwrap_or("other");
    counter!(ATTEMPTS, "outcome" => outcome).increment(1);
    histogram!(ATTEMPT_SECONDS).record(took.as_secs_f64());
}

pub(crate) fn store_call(call: &'static str, outcome: &'static str, took: Duration) {
    counter!(STORE_CALLS, "call" => call, "outcome" => outcome).increment(1);
    histogram!(STORE_CALL_SECONDS, "call" => call).record(took.as_secs_f64());
}

pub(crate) fn store_commit(outcome: &'static str) {
    counter!(STORE_COMMITS, "outcome" => outcome).increment(1);
}

pub(crate) fn store_switch() {
    counter!(STORE_SWITCHES).increment(1);
}

pub(crate) fn store_watch_restart() {
    counter!(STORE_WATCH_RESTARTS).increment(1);
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    healthy: u32,
    suspect: u32,
    rooms: usize,
    users: usize,
    streams: usize,
}

impl Counted {
    pub(crate) fn of(view: &View) -> Self {
        let mut counted = Self { rooms: view.rooms().len(), ..Self::default() };
        for room in view.rooms().values() {
            counted.users += room.users.len();
            counted.streams += room.streams.len();
        }
        for node in view.nodes() {
            match node.health {
                Health::Healthy => counted.healthy += 1,
                Health::Suspect => counted.suspect += 1,
            }
        }
        counted
    }
}

/// Counts are far below where a float loses one.
#[allow(clippy::cast_precision_loss)]
fn set(name: &'static str, count: usize) {
    gauge!(name).set(count as f64);
}

pub(crate) fn count(counted: &Counted, connections: usize) {
    gauge!(NODES, "state" => "healthy").set(counted.healthy);
    gauge!(NODES, "state" => "suspect").set(counted.suspect);
    set(ROOMS, counted.rooms);
    set(USERS, counted.users);
    set(STREAMS, counted.streams);
    set(CONNECTIONS, connections);
}
