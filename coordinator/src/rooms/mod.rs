//! Rooms: logins, who is heard, and what others are told.

mod connection;
mod connections;
mod login;
mod membership;
mod presence;
mod service;

pub use self::{
    connections::{Command, Connections},
    membership::{Leaving, MAX_STREAMS, enter_by_relays_word, leave, sweep},
    presence::{Due, Presence, Who},
    service::{Caller, Rooms},
};
