//! Which member of the store is asked: the one that worked last, until it fails. Pure.
//!
//! tonic's balancer goes on asking a dead member, which then eats its share of all calls; so each member has a channel
//! of its own, and the choice is made here. Invariant: a member that failed rests, the longer the more often it failed
//! in a row, and is asked while it rests only if every other one rests longer.

use std::time::{Duration, Instant};

/// Rest after the first failure; doubled with each further one.
const FIRST_REST: Duration = Duration::from_millis(500);
/// Longest rest, before jitter.
const MAX_REST: Duration = Duration::from_secs(8);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Health {
    Good,
    Resting {
        since: Instant,
        until: Instant,
        /// Failures in a row.
        failures: u32,
    },
}

/// What to ask, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// This one.
    Fit(usize),
    /// All rest; this one's rest ends first.
    Resting(usize),
}

impl Pick {
    /// The member's number.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Fit(index) | Self::Resting(index) => index,
        }
    }
}

/// The members, by number.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    health: Vec<Health>,
    current: usize,
}

impl Endpoints {
    /// So many members, of which `first` is asked first.
    pub(super) fn new(count: usize, first: usize) -> Self {
        Self { health: vec![Health::Good; count.max(1)], current: first % count.max(1) }
    }

    /// Whom to ask. The answer stays the same until that one fails.
    pub(super) fn pick(&mut self, now: Instant) -> Pick {
        let count = self.health.len();
        let in_turn = (0..count).map(|step| (self.current + step) % count);
        let fit = |health: &Health| match health {
            Health::Good => true,
            Health::Resting { until, .. } => *until <= now,
        };
        if let Some(found) = in_turn.clone().find(|&index| fit(&self.health[index])) {
            self.current = found;
            return Pick::Fit(found);
        }
        let until = |index: &usize| match &self.health[*index] {
            Health::Good => now,
            Health::Resting { until, .. } => *until,
        };
        Pick::Resting(in_turn.min_by_key(until).unwrap_or(self.current))
    }

    /// An attempt that began at `began` failed there; `jitter` (0 to 1) spreads what else would come back at once.
    pub(super) fn failed(&mut self, index: usize, began: Instant, now: Instant, jitter: f64) {
        let Some(health) = self.health.get_mut(index) else { return };
        let failures = match health {
            Health::Good => 1,
            // Attempts that were under way together fail together: that is one failure.
            Health::Resting { since, .. } if *since >= began => return,
            Health::Resting { failures, .. } => failures.saturating_add(1),
        };
        let rest = FIRST_REST.saturating_mul(1 << (failures - 1).min(10)).min(MAX_REST);
        let until = now + rest.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        *health = Health::Resting { since: now, until, failures };
    }

    /// It answered.
    pub(super) fn worked(&mut self, index: usize) {
        if let Some(health) = self.health.get_mut(index) {
            *health = Health::Good;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Endpoints, FIRST_REST, Health, MAX_REST, Pick};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_one_that_works_is_kept_and_a_failed_one_is_left_alone() {
        let now = Instant::now();
        let mut endpoints = Endpoints::new(3, 1);
        assert_eq!([endpoints.pick(now), endpoints.pick(now)], [Pick::Fit(1); 2]);
        endpoints.failed(1, now, now, 1.0);
        assert_eq!(endpoints.pick(now), Pick::Fit(2));
        assert_eq!(endpoints.pick(now + FIRST_REST), Pick::Fit(2), "what works is kept");
        endpoints.failed(2, now, now, 1.0);
        assert_eq!(endpoints.pick(now), Pick::Fit(0));
    }

    #[test]
    fn when_all_rest_the_one_whose_rest_ends_first_is_asked() {
        let now = Instant::now();
        let mut endpoints = Endpoints::new(2, 0);
        endpoints.failed(0, now, now, 1.0);
        endpoints.failed(1, now, now, 0.0);
        assert_eq!(endpoints.pick(now), Pick::Resting(1));
        assert_eq!(endpoints.pick(now + FIRST_REST / 2), Pick::Fit(1));
        endpoints.worked(0);
        endpoints.failed(1, now + MS, now + MS, 1.0);
        assert_eq!(endpoints.pick(now + MS), Pick::Fit(0));
    }

    #[test]
    fn rests_grow_with_failures_in_a_row_up_to_a_bound_and_calls_that_fail_together_count_once() {
        let mut now = Instant::now();
        let mut endpoints = Endpoints::new(1, 0);
        let began = now;
        let mut rests = Vec::new();
        for _ in 0..20 {
            now += MS;
            endpoints.failed(0, now, now, 1.0);
            endpoints.failed(0, began, now, 1.0);
            match endpoints.health[0] {
                Health::Resting { until, .. } => rests.push(until - now),
                Health::Good => panic!("it failed"),
            }
        }
        assert_eq!(rests[..3], [FIRST_REST, FIRST_REST * 2, FIRST_REST * 4]);
        assert_eq!(rests.last(), Some(&MAX_REST));
    }
}
