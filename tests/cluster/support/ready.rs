//! When a cluster is ready for a scene. A process that says that it is up is not yet known to the others: a client that
//! comes before that is told of fewer nodes, or that there is no such stream.

use std::process::Command;

use reqwest::blocking::Response;
use serde_json::Value;

use super::{SOON, namespace::Namespace, process::waystation, until};

/// What `waystation nodes`, `rooms` or `streams` says at this coordinator; `None` if it does not answer.
pub fn observe(coordinator: &str, what: &str) -> Option<Value> {
    let answer = waystation().args([what, "--json", "--coordinator", coordinator]).output().ok()?;
    serde_json::from_slice(&answer.stdout).ok().filter(|_| answer.status.success())
}

/// Waits until a relay has what a coordinator gives it: the keys that it checks tokens with, and the other relays.
#[track_caller]
pub fn is_attached(admin: &str) {
    let url = format!("{admin}/metrics");
    until("a relay that is attached", SOON, || {
        let metrics = reqwest::blocking::get(&url).ok()?.text().ok()?;
        metrics.lines().any(|line| line == "waystation_relay_attached 1").then_some(())
    });
}

/// The same for a relay in a namespace.
#[track_caller]
pub fn is_attached_within(namespace: &Namespace, admin: &str) {
    let mut ask = Command::new("curl");
    ask.args(["--silent", &format!("{admin}/metrics")]);
    let mut ask = namespace.within(&ask);
    until("a relay that is attached", SOON, || {
        let metrics = String::from_utf8(ask.output().ok()?.stdout).ok()?;
        metrics.lines().any(|line| line == "waystation_relay_attached 1").then_some(())
    });
}

/// Which lives of a relay this coordinator names as healthy.
pub fn healthy_lives(coordinator: &str, relay: &str) -> Option<Vec<u64>> {
    let nodes = observe(coordinator, "nodes")?;
    let of_relay = |node: &&Value| node["node"]["id"] == relay && node["health"] == "Healthy";
    Some(
        nodes
            .as_array()?
            .iter()
            .filter(of_relay)
            .filter_map(|node| node["node"]["incarnation"].as_u64())
            .collect(),
    )
}

/// Waits until a coordinator names a life of the relay that is none of these as healthy.
#[track_caller]
pub fn is_named(coordinator: &str, relay: &str, earlier: &[u64]) {
    until("the relay in its coordinator's list", SOON, || {
        healthy_lives(coordinator, relay)?.iter().any(|life| !earlier.contains(life)).then_some(())
    });
}

/// Waits until a coordinator has the stream in its room. A publisher publishes as soon as its node has it; the room hears
/// of it from the node.
#[track_caller]
pub fn is_in_its_room(coordinator: &str, room: &str, stream: &str) {
    until("the stream in its room", SOON, || {
        let streams = observe(coordinator, "streams")?;
        let it =
            |entry: &Value| entry["room"] == room && entry["stream"] == stream && entry["origin"].is_object();
        streams.as_array()?.iter().any(it).then_some(())
    });
}

/// Asks a relay until it answers by itself: one that has lost its coordinator for a moment, after a stop of the machine, cannot
/// exchange a user token and says when to come again.
#[track_caller]
pub fn answered(ask: impl Fn() -> reqwest::Result<Response>) -> reqwest::Result<Response> {
    until("a relay's own answer", SOON, || {
        let answer = ask();
        let is_away = |answer: &Response| {
            answer.status().as_u16() == 503 && answer.headers().contains_key("retry-after")
        };
        (!answer.as_ref().is_ok_and(is_away)).then_some(answer)
    })
}
