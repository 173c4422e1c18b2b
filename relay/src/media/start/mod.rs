//! Instant start: a player's video begins with old frames, at the last keyframe, and is at the live edge a moment later.
//!
//! # Why
//!
//! Video can be decoded from a keyframe on. A player that comes up between two of them has the publisher asked for
//! another (PLI), and where that is answered in a tenth of a second nothing more is needed. Many publishers never answer:
//! OBS, FFmpeg, cameras. Their next keyframe may be ten seconds away, for everyone who joins, and for every player whose
//! node died.
//!
//! # What is kept
//!
//! The newest second or two of a track is in its ring ([`super::history`]) anyway, for retransmissions. What leaves the
//! ring and is not older than the last keyframe goes to an *archive* of immutable chunks ([`archive`]), bounded per track
//! ([`point::MAX_TRACK_BYTES`], [`point::MAX_AGE`]) and per relay ([`STORE_BYTES`]). A publisher that is known to answer
//! needs none, and has none ([`super::habit`]); keyframes that come often keep everything in the ring. The stream's home makes
//! the chunks, and the workers with players of it share them. Where a packet is lost for good, what follows is of no use:
//! the archive is given up until the next keyframe, and nobody gets frames that cannot be decoded.
//!
//! # How a play starts
//!
//! [`catch_up::Standing`] is how far a play's video is.
//!
//! 1. *Waiting.* When a play begins, the publisher is asked at once, while its transport comes up. When that is up, a
//!    keyframe that just came is taken. Else the play waits as long as this publisher's habit is worth waiting for
//!    ([`super::habit::Habit::patience`]; nothing, for one that ignores requests), and then starts with the last keyframe, however
//!    old. Every request is a lesson about the habit. A live keyframe ends the waiting, too.
//! 2. *Catching up.* It gets the packets since the keyframe in their order, at its own pace ([`pace`]), and none of the
//!    live ones, which the packets in the store soon include. A keyframe that arrives meanwhile is a shorter way: it goes
//!    on there. One that is not live after [`catch_up::LIMIT`] waits for the next keyframe.
//! 3. *Live.*
//!
//! Sequence numbers just count on. Timestamps of old frames are pressed together before the live edge ([`behind`]): a
//! receiver renders what is late at once, and no delay is left when the live frames come, whose timestamps are their own.
//! The press is a formula, so that a packet that is asked for again leaves with the same timestamp. What a NACK names is
//! found in the archive as in the ring.
//!
//! # Over links
//!
//! The origin's play to another relay starts in the same way, once that relay has asked for a picture (PLI): so the edge
//! has, with its first player, what its next players need. Timestamps stay as they are; each old packet says how far
//! behind it is ([`behind::Backlog`]), the edge keeps that with it, and presses for its players. A keyframe that comes
//! with such a word answers no request: it says nothing about the publisher.

mod archive;
mod behind;
mod catch_up;
mod pace;
mod point;

pub use self::{
    archive::{Account, Chunk},
    behind::{Backlog, LiveEdge},
    catch_up::{CatchUp, Decision, Standing, YOUNG, decide},
    pace::TICK,
    point::{GivenUp, MAX_AGE, MAX_TRACK_BYTES, Offer, Start, StartPoint},
};

/// Most that the archives of a relay hold together.
pub const STORE_BYTES: usize = 256 << 20;
