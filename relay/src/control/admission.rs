//! How many sessions are taken: a bucket that fills with time.

use std::time::{Duration, Instant};

/// Sessions per second, with bursts of as many.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    per_second: u32,
    /// When the bucket was, or will be, empty: each admission moves it on by its share of a second.
    empty_at: Instant,
}

impl Admission {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, empty_at: now.checked_sub(Duration::from_secs(1)).unwrap_or(now) }
    }

    /// Whether one more is taken now.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let Some(share) = Duration::from_secs(1).checked_div(self.per_second) else { return false };
        let full = now.checked_sub(Duration::from_secs(1)).unwrap_or(self.empty_at);
        let next = self.empty_at.max(full) + share;
        let admitted = next <= now;
        if admitted {
            self.empty_at = next;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Admission;

    #[test]
    fn a_burst_is_taken_up_to_the_limit_and_the_rest_as_time_passes() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut admission = Admission::new(50, start);
        assert_eq!((0..80).filter(|_| admission.admit(start)).count(), 50);
        let later = start + Duration::from_millis(100);
        assert_eq!((0..80).filter(|_| admission.admit(later)).count(), 5);
        let much_later = start + Duration::from_secs(60);
        assert_eq!((0..80).filter(|_| admission.admit(much_later)).count(), 50);
    }

    #[test]
    fn a_limit_of_nothing_admits_nothing() {
        let now = Instant::now();
        assert!(!Admission::new(0, now).admit(now + Duration::from_secs(5)));
    }
}
