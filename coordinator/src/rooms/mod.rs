//! Rooms: logins, who is heard, and what others are told.

mod connection;
mod connections;
mod login;
mod membership;
mod owners;
mod presence;
mod service;

pub use self::{
    connections::{Command, Connections},
    membership::{Leaving, MAX_STREAMS, enter_by_relays_word, leave, sweep},
    owners::{doubt, take_over, vouch},
    presence::{Due, Presence, Seen, Who},
    service::{Caller, Rooms},
};
