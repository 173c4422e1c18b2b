//! What is missing from a source, and when to ask for it again (RFC 4585 §6.2.1).
//!
//! A packet is asked for after a small allowance for reordering, then once per round trip, and given up after
//! [`MAX_TRIES`]. Invariant: the list is sorted, bounded by [`MAX_MISSING`], and never holds what arrived.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Most packets that are waited for at once; a longer gap is a matter for a keyframe.
pub const MAX_MISSING: usize = 256;

/// How often one packet is asked for.
pub const MAX_TRIES: u8 = 10;

/// A packet this late is reordered, not lost.
pub const REORDER_ALLOWANCE: Duration = Duration::from_millis(5);

/// Shortest time between two requests for one packet.
const MIN_RETRY: Duration = Duration::from_millis(20);

/// Round trip until one was measured.
const FIRST_RTT: Duration = Duration::from_millis(100);

/// A longer measured round trip is not believed.
const MAX_RTT: Duration = Duration::from_secs(1);

/// Whether everything missing may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hope {
    /// Yes.
    Alive,
    /// Something was given up: video needs a keyframe.
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    sequence: u64,
    asked_at: Option<Instant>,
    next_at: Instant,
    tries: u8,
}

/// The list of one track.
#[derive(Debug)]
pub struct MissingList {
    missing: VecDeque<Missing>,
    rtt: Option<Duration>,
}

impl Default for MissingList {
    fn default() -> Self {
        Self { missing: VecDeque::with_capacity(MAX_MISSING), rtt: None }
    }
}

impl MissingList {
    /// Numbers `from..to` were skipped: `to` arrived.
    pub fn skipped(&mut self, now: Instant, from: u64, to: u64) -> Hope {
        let mut hope = Hope::Alive;
        let first = from.max(to.saturating_sub(MAX_MISSING as u64));
        if first > from {
            hope = Hope::Lost;
        }
        for sequence in first..to {
            if self.missing.len() == MAX_MISSING {
                self.missing.pop_front();
                hope = Hope::Lost;
            }
            let entry = Missing { sequence, asked_at: None, next_at: now + REORDER_ALLOWANCE, tries: 0 };
            self.missing.push_back(entry);
        }
        hope
    }

    /// A packet arrived, late or again.
    pub fn arrived(&mut self, now: Instant, sequence: u64) {
        let Ok(at) = self.missing.binary_search_by_key(&sequence, |m| m.sequence) else { return };
        let Some(found) = self.missing.remove(at) else { return };
        // A packet asked for twice does not say which request it answers (Karn).
        if let (Some(asked_at), 1) = (found.asked_at, found.tries) {
            let sample = now.saturating_duration_since(asked_at).min(MAX_RTT);
            self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        }
    }

    /// Fills `due` with the numbers to be asked for now, and answers how many there are. What was asked for too often is
    /// given up.
    pub fn poll(&mut self, now: Instant, due: &mut [u64]) -> (usize, Hope) {
        let (mut count, mut hope) = (0, Hope::Alive);
        let retry = self.rtt.unwrap_or(FIRST_RTT).max(MIN_RETRY);
        self.missing.retain_mut(|missing| {
            if missing.next_at > now {
                return true;
            }
            if missing.tries >= MAX_TRIES {
                hope = Hope::Lost;
                return false;
            }
            if let Some(slot) = due.get_mut(count) {
                *slot = missing.sequence;
                count += 1;
                missing.tries += 1;
                missing.asked_at = Some(now);
                missing.next_at = now + retry;
            }
            true
        });
        (count, hope)
    }

    /// When [`Self::poll`] has something to do.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.missing.iter().map(|m| m.next_at).min()
    }

    /// Nothing is waited for any more.
    pub fn clear(&mut self) {
        self.missing.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(list: &mut MissingList, now: Instant) -> (Vec<u64>, Hope) {
        let mut numbers = [0; 64];
        let (count, hope) = list.poll(now, &mut numbers);
        (numbers[..count].to_vec(), hope)
    }

    #[test]
    fn a_reordered_packet_is_never_asked_for() {
        let (mut list, now) = (MissingList::default(), Instant::now());
        assert_eq!(list.skipped(now, 10, 12), Hope::Alive);
        list.arrived(now + Duration::from_millis(2), 10);
        assert_eq!(due(&mut list, now).0, Vec::<u64>::new());
        assert_eq!(due(&mut list, now + REORDER_ALLOWANCE).0, [11]);
    }

    #[test]
    fn requests_are_a_round_trip_apart_and_end_in_a_keyframe() {
        let (mut list, mut now) = (MissingList::default(), Instant::now());
        list.skipped(now, 1, 2);
        now += REORDER_ALLOWANCE;
        assert_eq!(due(&mut list, now).0, [1]);
        list.arrived(now + Duration::from_millis(40), 1);
        list.skipped(now, 5, 6);
        let (mut tries, mut hope) = (0, Hope::Alive);
        while let Some(at) = list.next_at() {
            assert!(tries < 2 || at - now == Duration::from_millis(40));
            now = at;
            let (numbers, now_hope) = due(&mut list, now);
            tries += numbers.len();
            hope = now_hope;
        }
        assert_eq!((tries, hope), (usize::from(MAX_TRIES), Hope::Lost));
    }

    #[test]
    fn a_long_gap_is_bounded_and_asks_for_a_keyframe() {
        let (mut list, now) = (MissingList::default(), Instant::now());
        assert_eq!(list.skipped(now, 0, 3000), Hope::Lost);
        assert_eq!(list.missing.len(), MAX_MISSING);
        assert_eq!(list.skipped(now, 3001, 3002), Hope::Lost);
        assert_eq!(list.missing.len(), MAX_MISSING);
    }
}
