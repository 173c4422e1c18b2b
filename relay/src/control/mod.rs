//! The control core: which sessions and streams there are, where a stream is found, and who is told.
//!
//! `core` is pure and split by idea: sessions of clients, streams, finding, subscriptions, announcements, peers,
//! events, revocation. `door` is what signalling asks, `shell` the task that drives the core.

mod admission;
mod announcements;
mod core;
mod door;
mod events;
mod finding;
mod message;
mod metrics;
mod peers;
mod revocation;
mod sessions;
mod shell;
mod streams;
mod subscriptions;

pub use door::{
    BearerHash, Control, ExchangeError, FindError, Holder, OpenError, OpenPlay, OpenPublish, Opened,
    PeerOffer, Resource, SessionEvents, StreamTracks, TrackInfo,
};
pub use metrics::describe;

pub(crate) use self::{
    core::{Core, Counts, Holdings, LinkId},
    door::REQUESTS,
    message::PeerMessage,
    metrics::ATTACHED,
    peers::{LinkKeys, LinkUp},
    revocation::{Ended, Revocation},
    shell::{Shell, Sources},
};

#[cfg(test)]
mod tests;
