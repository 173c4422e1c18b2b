//! Waystation's Rust client: rooms, publishers and players that walk the node list on their own.

mod config;
mod events;
mod http;
pub mod machine;
mod media;
mod peer;
mod rpc;

pub use config::*;
pub use media::*;
