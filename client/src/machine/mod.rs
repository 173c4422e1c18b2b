//! The SDK's state machines: pure. No clock, no socket, no randomness: time, answers and a seed come from outside.
//!
//! [`Client`] composes them and is the only one that a shell drives: after each [`Client::handle`] it does every
//! [`Output`] of [`Client::poll_output`], then waits for the next input or for [`Client::poll_timeout`].

mod backoff;
mod event;
mod io;
mod trial;

pub use event::*;
pub use io::*;
pub use trial::*;
