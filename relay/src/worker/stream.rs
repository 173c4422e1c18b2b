//! One stream on one worker: its packets, and the players that this worker serves.
//!
//! At its home the stream has a [`Source`], which puts what arrives on the stream's line; elsewhere it is a replica that
//! gets packets from there.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use waystation_proto::StreamKey;

use super::routes::WorkerId;
use crate::{
    media::{
        egress::Egress, habit::Habit, history::PacketRef, pli::Budget, source::Source, start::Standing,
        store::Store,
    },
    plane::{Kind, PlayId},
};

/// Longest that an unfinished video frame is held for its next packets.
pub const HOLD: Duration = Duration::from_millis(1);
/// Packets of an unfinished frame that are not held any longer.
pub const MAX_HELD: usize = 40;
/// A play or publish without media for so long does not flow.
pub const FLOW_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a stream looks after its reports and flows.
pub const TICK: Duration = Duration::from_millis(250);
/// Time between sender reports.
pub const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A player elsewhere that needs a keyframe says so at most this often.
pub const ASK_HOME_EVERY: Duration = Duration::from_millis(50);

/// A stream.
pub struct Stream {
    /// Which.
    pub key: StreamKey,
    /// Home or replica.
    pub side: Side,
    /// What can still be sent, and what new players start with.
    pub store: Store,
    /// Whether its publisher answers requests for keyframes.
    pub habit: Habit,
    /// Players of this worker.
    pub players: BTreeMap<PlayId, Player>,
    /// Packets that wait to be sent.
    pub pending: Pending,
    /// When sender reports are next due.
    pub report_at: Instant,
}

/// Where the stream's packets come from.
pub enum Side {
    /// Its home: publishes are received here.
    Home {
        /// Puts packets on the stream's line.
        source: Box<Source>,
        /// Other workers with players, and what they call the stream.
        watchers: Vec<(WorkerId, u64)>,
    },
    /// Elsewhere.
    Replica {
        /// What this worker calls it in what its home sends; never used again.
        number: u64,
        /// When its home was last asked for a keyframe; to watch it is to ask.
        asked_at: Option<Instant>,
    },
}

/// One play on its worker.
pub struct Player {
    /// Its transport's slot.
    pub peer: usize,
    /// What it gets.
    pub egress: Egress,
    /// How far its video is.
    pub standing: Standing,
    /// How often it may ask for a keyframe.
    pub requests: Budget,
    /// Whether it gets media.
    pub flow: Flow,
}

/// Whether media flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// None for a second, or none ever.
    Idle,
    /// It does.
    Flowing {
        /// Last media.
        at: Instant,
    },
}

impl Flow {
    /// Whether none came for [`FLOW_TIMEOUT`], though it was said to flow.
    #[must_use]
    pub fn ran_dry(self, now: Instant) -> bool {
        match self {
            Self::Idle => false,
            Self::Flowing { at } => now.saturating_duration_since(at) >= FLOW_TIMEOUT,
        }
    }
}

/// Packets that wait to be sent: audio until the end of the round, video until its frame is whole, or for 1 ms.
#[derive(Debug, Default)]
pub struct Pending {
    audio: Vec<PacketRef>,
    video: Vec<PacketRef>,
    /// Video up to here is to be sent.
    complete: usize,
    held_since: Option<Instant>,
}

impl Pending {
    /// Takes a packet. Whether something is to be sent at the end of this round.
    pub fn push(&mut self, packet: PacketRef, ends_frame: bool, now: Instant) -> bool {
        match packet.kind {
            Kind::Audio => self.audio.push(packet),
            Kind::Video => {
                self.video.push(packet);
                if ends_frame || self.video.len() - self.complete >= MAX_HELD {
                    self.complete = self.video.len();
                    self.held_since = None;
                } else {
                    self.held_since.get_or_insert(now);
                }
            }
        }
        self.is_due(now)
    }

    /// When an unfinished frame is to be sent as it is.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.held_since.map(|since| since + HOLD)
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.audio.is_empty() || self.complete > 0 || self.deadline().is_some_and(|at| at <= now)
    }

    /// Takes what is to be sent, audio first, into `out`.
    pub fn take(&mut self, now: Instant, out: &mut Vec<PacketRef>) {
        out.append(&mut self.audio);
        if self.deadline().is_some_and(|at| at <= now) {
            self.complete = self.video.len();
            self.held_since = None;
        }
        out.extend(self.video.drain(..self.complete));
        self.complete = 0;
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{HOLD, MAX_HELD, Pending};
    use crate::{media::history::PacketRef, plane::Kind};

    fn video(sequence: u64) -> PacketRef {
        PacketRef { kind: Kind::Video, sequence }
    }

    fn taken(pending: &mut Pending, now: Instant) -> Vec<u64> {
        let mut out = Vec::new();
        pending.take(now, &mut out);
        out.iter().map(|packet| packet.sequence).collect()
    }

    #[test]
    fn a_frame_is_held_until_its_marker_and_audio_never() {
        let now = Instant::now();
        let mut pending = Pending::default();
        assert!(!pending.push(video(1), false, now));
        assert!(pending.push(PacketRef { kind: Kind::Audio, sequence: 100 }, false, now));
        assert_eq!(taken(&mut pending, now), [100]);
        assert!(pending.push(video(2), true, now));
        assert!(pending.push(video(3), false, now));
        assert_eq!(taken(&mut pending, now), [1, 2]);
        assert!(taken(&mut pending, now).is_empty());
    }

    #[test]
    fn an_unfinished_frame_is_held_for_a_millisecond_at_most() {
        let now = Instant::now();
        let mut pending = Pending::default();
        pending.push(video(1), false, now);
        pending.push(video(2), false, now + HOLD / 2);
        assert_eq!(pending.deadline(), Some(now + HOLD));
        assert!(taken(&mut pending, now + HOLD - Duration::from_nanos(1)).is_empty());
        assert_eq!(taken(&mut pending, now + HOLD), [1, 2]);
        assert_eq!(pending.deadline(), None);
    }

    #[test]
    fn a_long_frame_is_sent_in_parts() {
        let now = Instant::now();
        let mut pending = Pending::default();
        for sequence in 0..MAX_HELD as u64 {
            let due = pending.push(video(sequence), false, now);
            assert_eq!(due, sequence + 1 == MAX_HELD as u64);
        }
        assert_eq!(taken(&mut pending, now).len(), MAX_HELD);
    }
}
