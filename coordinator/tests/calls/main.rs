//! A coordinator over real gRPC on loopback, as clients, relays and browsers see it.

// A test waits for one kind of message and skips the others, whichever there are.
#![allow(clippy::wildcard_enum_match_arm)]

mod nodes;
mod rooms;
mod several;
#[path = "../../../tests/cluster/support/stopwatch.rs"]
mod stopwatch;
mod store;
mod streams;
mod support;
mod tokens;
mod versions;
mod wire;
