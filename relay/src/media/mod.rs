//! RTP and RTCP as decisions: header rewriting, history, feedback, continuity. Pure: no clock, no socket.
//!
//! # The life of a packet
//!
//! 1. The worker has decrypted a datagram in its receive buffer. [`rtp::is_rtcp`] tells what it is.
//! 2. RTP goes to the publish that its transport carries: [`ingress::Ingress::receive`] binds its SSRC, unwraps a
//!    retransmission, drops probes and duplicates, notes what is missing, and answers an [`ingress::Arrival`].
//! 3. If [`router::Router::forwards`] that publish (the worker may remember the answer until the router says that
//!    something changed), [`source::Source::accept`] puts the packet onto the stream's line (number, timestamp,
//!    counters inside the payload) and keeps it in the stream's [`store::Store`]. The answer, a
//!    [`history::PacketRef`], is what a batch holds. Another worker with players of the stream gets the
//!    [`history::Packet`]s (their `meta` is `Copy`, the rest are two byte slices) and inserts them into a store of its own.
//! 4. At the end of the batch, player by player: [`egress::Egress::measure`] says how long each packet will be, so that
//!    the worker can plan runs and padding, and [`egress::Egress::write`] writes it into the arena. The worker seals it
//!    under [`egress::Written::index`], sends the run, and stamps [`departures::Departures::sent`].
//!    [`egress::Skipped::AwaitsKeyframe`] means: call [`ingress::Ingress::want_keyframe`] of the publish that feeds the
//!    stream; calling it for every packet is cheap and sends nothing twice.
//! 5. A player that comes later starts with old packets as [`start`] tells; they are written as in 4, and those of them
//!    that are still queued are [`egress::Skipped::Settled`] when their batch ends.
//!
//! # What flows back
//!
//! - RTCP of any peer: [`rtcp::messages`] reads the compound. Of a publisher each message goes to
//!   [`ingress::Ingress::handle`], and the report that it may answer to [`source::Source::sender_report`] if the publish
//!   feeds. Of a player each goes to [`egress::Egress::handle`], which says what it means: `Resend` →
//!   [`egress::Egress::retransmit`], `WantsKeyframe` → `want_keyframe`. [`rtcp::Message::TransportCc`] goes to the
//!   transport's [`departures::Departures::feedback`].
//! - To publishers: [`ingress::Ingress::poll_feedback`], due at [`ingress::Ingress::next_feedback_at`] (look again after
//!   each batch of that publish). It writes at most one compound; call it until it answers `None`.
//! - To players: [`egress::Egress::sender_report`] once a second, with [`source::Source::line_point`].
//!
//! # When the source changes
//!
//! [`router::Router`] answers a [`router::SourceChange`]: call [`source::Source::switch`] and the new publish's
//! [`ingress::Ingress::want_keyframe_at_once`]; players notice nothing. After a standstill of the worker:
//! [`router::Router::suspend_all`], [`store::Store::clear`], queued batches thrown away; when a publish's peer has
//! proved itself anew, [`router::Router::confirm`], and if that says so, switch as above.

pub mod arrivals;
pub mod clock;
pub mod departures;
pub mod egress;
pub mod extension;
pub mod feedback;
pub mod habit;
pub mod history;
pub mod ingress;
pub mod nack;
pub mod payload;
pub mod player;
pub mod pli;
pub mod reception;
pub mod router;
pub mod rtcp;
pub mod rtcp_write;
pub mod rtp;
pub mod sequence;
pub mod source;
pub mod start;
pub mod store;
pub mod timeline;

#[cfg(test)]
mod tests;
