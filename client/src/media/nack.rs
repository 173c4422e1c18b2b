//! Which packets of a track to ask for again (RFC 4585 §6.2.1).
//!
//! It sees packets after RTX was undone, so that a repaired packet counts as arrived. Invariant: at most
//! [`MAX_MISSING`] numbers are remembered, each is asked for at most [`MAX_ASKED`] times.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Numbers remembered; a larger hole is a new beginning, for which a keyframe helps and not a repair.
pub const MAX_MISSING: usize = 512;

/// Times that one packet is asked for.
pub const MAX_ASKED: u32 = 10;

/// A packet may be late by this much before it is asked for.
const REORDERING: Duration = Duration::from_millis(5);

/// From one asking to the next.
const REPEAT: Duration = Duration::from_millis(30);

#[derive(Clone, Copy, Debug)]
struct Missing {
    asked: u32,
    next: Instant,
}

/// One track's missing packets.
#[derive(Clone, Debug, Default)]
pub struct NackTracker {
    source: Option<(u32, u64)>,
    missing: BTreeMap<u64, Missing>,
}

impl NackTracker {
    /// Takes note of a packet that arrived.
    pub fn packet(&mut self, ssrc: u32, sequence_number: u16, now: Instant) {
        let (known_ssrc, highest) =
            *self.source.get_or_insert((ssrc, u64::from(sequence_number) + (1 << 16)));
        let ahead = i64::from(sequence_number.wrapping_sub(highest as u16) as i16);
        if known_ssrc != ssrc || ahead > MAX_MISSING as i64 {
            self.source = Some((ssrc, u64::from(sequence_number) + (1 << 16)));
            self.missing.clear();
            return;
        }
        let number = highest.saturating_add_signed(ahead);
        if ahead <= 0 {
            self.missing.remove(&number);
            return;
        }
        self.source = Some((ssrc, number));
        for absent in highest + 1..number {
            self.missing.insert(absent, Missing { asked: 0, next: now + REORDERING });
        }
        while self.missing.len() > MAX_MISSING {
            self.missing.pop_first();
        }
    }

    /// The source and the packets to ask it for now.
    pub fn poll(&mut self, now: Instant) -> Option<(u32, Vec<u16>)> {
        let (ssrc, _) = self.source?;
        self.missing.retain(|_, missing| missing.asked < MAX_ASKED || missing.next > now);
        let due = self.missing.iter_mut().filter(|(_, missing)| missing.next <= now);
        let asked: Vec<u16> = due
            .map(|(number, missing)| {
                missing.asked += 1;
                missing.next = now + REPEAT;
                *number as u16
            })
            .collect();
        (!asked.is_empty()).then_some((ssrc, asked))
    }

    /// When [`Self::poll`] has something to say.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.missing.values().map(|missing| missing.next).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{MAX_ASKED, NackTracker};

    #[test]
    fn a_missing_packet_is_asked_for_until_it_comes_or_patience_ends() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut tracker = NackTracker::default();
        for number in [65_534, 65_535, 1, 3] {
            tracker.packet(7, number, at(0));
        }
        assert_eq!(tracker.poll(at(4)), None);
        assert_eq!(tracker.poll(at(5)), Some((7, vec![0, 2])));
        assert_eq!(tracker.poll(at(6)), None);
        tracker.packet(7, 0, at(7));
        let mut asked = 1;
        while let Some(again) = tracker.poll_timeout() {
            asked += u32::from(tracker.poll(again) == Some((7, vec![2])));
        }
        assert_eq!(asked, MAX_ASKED);
    }

    #[test]
    fn another_source_and_a_leap_start_afresh() {
        let now = Instant::now();
        let mut tracker = NackTracker::default();
        tracker.packet(7, 1, now);
        tracker.packet(7, 4, now);
        tracker.packet(8, 9, now);
        assert_eq!(tracker.poll_timeout(), None);
        tracker.packet(8, 9_000, now);
        assert_eq!(tracker.poll_timeout(), None);
    }
}
