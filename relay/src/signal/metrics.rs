//! Names of signalling's metrics.

use axum::http::StatusCode;
use metrics::{counter, describe_counter, describe_gauge, gauge};

const REQUESTS: &str = "waystation_relay_requests_total";
const EVENT_CONNECTIONS: &str = "waystation_relay_event_connections";
const EVENT_CLOSES: &str = "waystation_relay_event_closes_total";

/// Describes the metrics of this module to the recorder.
pub fn describe() {
    describe_counter!(REQUESTS, "Requests of clients, by kind and outcome");
    describe_gauge!(EVENT_CONNECTIONS, "Event connections that are open");
    describe_counter!(EVENT_CLOSES, "Event connections that ended, by reason");
}

/// What a request was about, by its path.
fn kind(path: &str) -> &'static str {
    match path.split('/').nth(1) {
        Some("whip") => "whip",
        Some("whep") => "whep",
        Some("session") => "session",
        Some("events") => "events",
        Some(_) | None => "other",
    }
}

fn outcome(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=399 => "ok",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        409 => "conflict",
        503 => "unavailable",
        400..=499 => "bad_request",
        _ => "error",
    }
}

/// Counts an answered request.
pub fn request(path: &str, status: StatusCode) {
    counter!(REQUESTS, "kind" => kind(path), "outcome" => outcome(status)).increment(1);
}

/// Counts an open event connection until it is dropped.
pub struct EventConnection;

impl EventConnection {
    /// One more.
    pub fn opened() -> Self {
        gauge!(EVENT_CONNECTIONS).increment(1.0);
        Self
    }
}

impl Drop for EventConnection {
    fn drop(&mut self) {
        gauge!(EVENT_CONNECTIONS).decrement(1.0);
    }
}

/// Counts the end of an event connection.
pub fn event_close(reason: &'static str) {
    counter!(EVENT_CLOSES, "reason" => reason).increment(1);
}
