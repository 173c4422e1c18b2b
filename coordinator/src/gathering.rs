//! After a store came up empty: what relays and clients hold is gathered before anything new is granted. Pure.
//!
//! Plans wait; logins and resumes do not. Whoever comes later is still listened to, but a claim that was granted
//! meanwhile stands.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use waystation_proto::StreamKey;

/// Ended claims of predecessors that are remembered, so that a late word does not bring them back.
const MAX_ENDED: usize = 10_000;
/// Room for a thousand revisions in each millisecond before the next store's epochs begin. In milliseconds, so that a
/// coordinator that was started again at once begins above what it granted a moment ago.
const EPOCHS_PER_MS: u64 = 1 << 10;

/// Whether there is anything to gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What is said counts, and plans wait.
    Gathering { until: Instant },
    /// The store was not empty, or enough time went by.
    Over,
}

/// What was gathered.
#[derive(Debug)]
pub struct Gathering {
    phase: Phase,
    highest: u64,
    ended: BTreeMap<StreamKey, u64>,
}

/// Where the epochs of a store begin that was first met at this time: above those of any store that was met earlier,
/// as far as clocks can be trusted. What is gathered covers the rest.
#[must_use]
pub fn first_epoch(unix_ms: u64) -> u64 {
    unix_ms.saturating_mul(EPOCHS_PER_MS)
}

impl Gathering {
    /// The store was empty: gather for a while.
    #[must_use]
    pub fn begin(lasts: Duration, now: Instant) -> Self {
        Self { phase: Phase::Gathering { until: now + lasts }, highest: 0, ended: BTreeMap::new() }
    }

    /// The store had something in it.
    #[must_use]
    pub fn not_needed() -> Self {
        Self { phase: Phase::Over, highest: 0, ended: BTreeMap::new() }
    }

    /// Until when plans wait.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Gathering { until } => Some(until),
            Phase::Over => None,
        }
    }

    /// The highest epoch that was gathered.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Plans go on from here.
    pub fn end(&mut self) {
        self.phase = Phase::Over;
    }

    /// Somebody holds a claim of a predecessor. Whether it may still be taken for held.
    pub fn note(&mut self, stream: &StreamKey, epoch: u64) -> bool {
        self.highest = self.highest.max(epoch);
        self.ended.get(stream).is_none_or(|&ended| ended < epoch)
    }

    /// A stream ended under this epoch.
    pub fn ended(&mut self, stream: &StreamKey, epoch: u64) {
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_first();
        }
        let ended = self.ended.entry(stream.clone()).or_default();
        *ended = epoch.max(*ended);
    }
}

#[cfg(test)]
mod tests {
    use waystation_proto::{RoomId, StreamId};

    use super::*;

    #[test]
    fn the_highest_claim_is_remembered_and_one_that_ended_is_not_taken_again() {
        // PUB-11
        let stream = StreamKey { room: RoomId::new("r").unwrap(), stream: StreamId::new("s").unwrap() };
        let now = Instant::now();
        let mut gathering = Gathering::begin(Duration::from_secs(5), now);
        assert_eq!(gathering.until(), Some(now + Duration::from_secs(5)));
        assert!(gathering.note(&stream, 40) && gathering.note(&stream, 30));
        gathering.ended(&stream, 40);
        assert!(!gathering.note(&stream, 40));
        assert!(gathering.note(&stream, 41));
        assert_eq!(gathering.highest(), 41);
        gathering.end();
        assert_eq!(gathering.until(), None);
    }

    #[test]
    fn a_store_made_a_second_later_begins_above_a_million_revisions() {
        assert!(first_epoch(101_000) >= first_epoch(100_000) + 1_000_000);
        assert!(first_epoch(100_001) > first_epoch(100_000) + 1000);
        // Claims travel as JSON numbers too.
        assert!(first_epoch(4_000_000_000_000) < 1 << 53);
    }
}
