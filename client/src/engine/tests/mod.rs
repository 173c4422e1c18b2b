//! The SDK as an app sees it, over real sockets, against a coordinator and nodes that do as they are told.

mod app;
mod coordinator;
mod death;
mod node;
mod refusing;
mod scenes;
#[path = "../../../../tests/cluster/support/stopwatch.rs"]
#[expect(dead_code, reason = "what is measured here is how long media was away, not with a watch")]
mod stopwatch;
