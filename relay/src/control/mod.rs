//! The control core: which sessions and streams there are, where a stream is found, and who is told.

mod door;

pub use door::{
    Control, ExchangeError, FindError, OpenError, OpenPlay, OpenPublish, Opened, PeerOffer, Resource, SessionEvents,
    StreamTracks, TrackInfo,
};
