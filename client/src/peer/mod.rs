//! Peer connections: ICE, DTLS and SRTP to one node. The only door to the `rtc` crates.
//!
//! `rtc` is what `webrtc` is made of. Its sans-I/O connection is driven here by a task of our own, because the
//! SDK must see every authenticated packet (also empty SRTCP, the node's sign of life), pass RTP on without a queue that drops, and
//! have the offer at once: the one host candidate that leads to the node is known before anything is gathered.

mod connection;
mod observe;
mod offer;
mod task;

#[cfg(test)]
mod tests;

pub(crate) use connection::PeerError;
#[cfg(test)]
pub(crate) use connection::{Connection, Output};
pub(crate) use offer::{Direction, PublishedTrack};
pub(crate) use task::{Peer, PeerReport, Sinks};
