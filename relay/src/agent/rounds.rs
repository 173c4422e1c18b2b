//! Which coordinator is tried next, and how long to wait before: pure.

use std::time::Duration;

use rand::{RngExt as _, rngs::StdRng};

/// Wait after the first failure; doubled after each.
const WAIT_FIRST: Duration = Duration::from_millis(50);
/// Longest wait.
const WAIT_MOST: Duration = Duration::from_secs(2);
/// Most coordinators, with those that coordinators name.
const MAX_COORDINATORS: usize = 64;

/// Goes round a list of coordinators.
#[derive(Debug)]
pub(super) struct Rounds {
    urls: Vec<String>,
    at: usize,
    failures: u32,
    rng: StdRng,
}

impl Rounds {
    /// Starts anywhere in the list, so that relays spread over the coordinators.
    pub(super) fn new(urls: Vec<String>, mut rng: StdRng) -> Self {
        let at = if urls.is_empty() { 0 } else { rng.random_range(0..urls.len()) };
        Self { urls, at, failures: 0, rng }
    }

    /// The next one to try; `None` if there is none at all.
    pub(super) fn next_url(&mut self) -> Option<String> {
        let url = self.urls.get(self.at)?.clone();
        self.at = (self.at + 1) % self.urls.len();
        Some(url)
    }

    /// The last one took us; it may know others.
    pub(super) fn attached(&mut self, others: Vec<String>) {
        self.failures = 0;
        for url in others {
            if self.urls.len() < MAX_COORDINATORS && !self.urls.contains(&url) {
                self.urls.push(url);
            }
        }
    }

    /// How long to wait before the next.
    pub(super) fn wait(&mut self) -> Duration {
        let longest = WAIT_FIRST.saturating_mul(1 << self.failures.min(8)).min(WAIT_MOST);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(self.rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use rand::{SeedableRng as _, rngs::StdRng};

    use super::{Rounds, WAIT_FIRST, WAIT_MOST};

    fn rounds(urls: &[&str]) -> Rounds {
        Rounds::new(urls.iter().map(ToString::to_string).collect(), StdRng::seed_from_u64(7))
    }

    #[test]
    fn every_coordinator_is_tried_before_one_is_tried_again() {
        let mut rounds = rounds(&["a", "b", "c"]);
        for _ in 0..3 {
            let tried: BTreeSet<_> = (0..3).filter_map(|_| rounds.next_url()).collect();
            assert_eq!(tried.len(), 3);
        }
    }

    #[test]
    fn waits_grow_to_two_seconds_and_start_anew_after_an_attach() {
        let mut rounds = rounds(&["a"]);
        let waits: Vec<_> = (0..20).map(|_| rounds.wait()).collect();
        assert!(waits[0] <= WAIT_FIRST);
        assert!(waits.iter().all(|wait| *wait <= WAIT_MOST && *wait > Duration::ZERO));
        assert!(*waits.last().unwrap() >= WAIT_MOST / 2);
        rounds.attached(vec!["b".into(), "a".into()]);
        assert!(rounds.wait() <= WAIT_FIRST);
        let urls: BTreeSet<_> = (0..2).filter_map(|_| rounds.next_url()).collect();
        assert_eq!(urls, ["a".to_owned(), "b".to_owned()].into());
    }

    #[test]
    fn without_coordinators_there_is_nothing_to_try() {
        assert_eq!(rounds(&[]).next_url(), None);
    }
}
