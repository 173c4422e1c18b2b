//! Waystation's relay: a stateless SFU node with WHIP, WHEP and links to its peers.
//!
//! Two halves, joined by [`plane`] and nothing else: the data plane (`media`, `transport`, `worker`) and the control
//! half (`control`, `signal`, `link`, `agent`).

pub mod plane;

pub mod media;
pub mod transport;
pub mod worker;

mod agent;
pub mod control;
mod link;
pub mod signal;

mod config;
mod server;
mod silence;
#[cfg(test)]
mod takes;

pub use config::{Config, ConfigError, MIN_SECRET_BYTES};
pub use plane::DtlsRole;
pub use server::{Relay, StartError};

/// Says what each metric of a relay is. Call it once, before the first scrape.
pub fn describe() {
    worker::describe();
    control::describe();
    signal::describe();
}
