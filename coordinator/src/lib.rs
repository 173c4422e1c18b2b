//! Waystation's coordinator: rooms, streams, nodes, placement and tokens over a store.
//!
//! Decisions are pure functions of a copy of the store ([`mirror`]); what they decide is one transaction each
//! ([`context`]). Nothing relies on the store being in this process, and nothing that media needs waits for it.
//! This crate knows no WebRTC.

mod admin;
mod cluster;
mod config;
mod context;
mod fault;
mod gathering;
mod keys;
pub mod metrics;
mod mirror;
mod nodes;
mod placement;
mod rooms;
mod server;
pub mod store;
mod streams;
mod tokens;
mod upkeep;

pub use config::{Config, Limits, MIN_SECRET_BYTES, Timings};
pub use server::{Coordinator, StartError};
pub use tokens::{App, AppKey, AppSigner, SignError, sign_user_token};
