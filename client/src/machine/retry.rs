//! The retry clock: how long a machine may stay out of state 2.
//!
//! It starts when state 2 is left (or at the call), is reset after 10 s back in state 2, and bounds everything, a walk
//! in progress too.

use std::time::{Duration, Instant};

/// So long in state 2 before the clock is forgotten.
const SETTLED: Duration = Duration::from_secs(10);

/// The clock. It derives its deadline; nothing is stored twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RetryClock {
    limit: Duration,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Out of state 2.
    Out { since: Instant },
    /// In state 2, after having been out.
    Back { out_since: Instant, at: Instant },
}

impl RetryClock {
    /// A clock that starts at a call.
    #[must_use]
    pub fn started(limit: Duration, now: Instant) -> Self {
        Self { limit, phase: Phase::Out { since: now } }
    }

    /// State 2 is left.
    pub fn left(&mut self, now: Instant) {
        match self.phase {
            Phase::Out { .. } => {}
            Phase::Back { out_since, at } => {
                let settled = now.saturating_duration_since(at) >= SETTLED;
                self.phase = Phase::Out { since: if settled { now } else { out_since } };
            }
        }
    }

    /// State 2 is reached.
    pub fn back(&mut self, now: Instant) {
        match self.phase {
            Phase::Out { since } => self.phase = Phase::Back { out_since: since, at: now },
            Phase::Back { .. } => {}
        }
    }

    /// When to give up; `None` in state 2, and where nothing is ever tried again.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Out { since } if self.retries() => Some(since + self.limit),
            Phase::Out { .. } | Phase::Back { .. } => None,
        }
    }

    /// Whether it is time to give up.
    #[must_use]
    pub fn expired(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Whether anything is tried again at all: a limit of zero says no.
    #[must_use]
    pub fn retries(&self) -> bool {
        !self.limit.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::RetryClock;

    #[test]
    fn the_clock_is_reset_only_by_ten_seconds_in_state_two() {
        // ROOM-6, PUB-4, PLAY-4
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut clock = RetryClock::started(Duration::from_secs(300), start);
        clock.back(at(1));
        assert_eq!(clock.deadline(), None);
        clock.left(at(10));
        assert_eq!(clock.deadline(), Some(at(300)), "9 s were not enough");
        clock.back(at(20));
        clock.left(at(30));
        assert_eq!(clock.deadline(), Some(at(330)));
        assert!(!clock.expired(at(329)) && clock.expired(at(330)));
    }
}
