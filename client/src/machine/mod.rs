//! The SDK's state machines: pure. No clock, no socket, no randomness: time, answers and a seed come from outside.
//!
//! [`Client`] composes them and is the only one that a shell drives: after each [`Client::handle`] it does every
//! [`Output`] of [`Client::poll_output`], then waits for the next input or for [`Client::poll_timeout`].

mod backoff;
mod client;
mod connection;
mod control;
mod event;
mod hedge;
mod io;
mod lane;
mod lines;
mod plan;
mod player;
mod publisher;
mod retry;
mod room;
mod roster;
mod trial;
mod walk;

pub use client::Client;
pub use event::*;
pub use io::*;
pub use trial::*;
