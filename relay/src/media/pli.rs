//! Keyframe requests to one publisher: coalesced, throttled, repeated until a keyframe starts (RFC 4585 §6.3.1).
//!
//! Invariant: requests are at least [`INTERVAL`] apart, except the one at a switch of source.

use std::time::{Duration, Instant};

/// Shortest time between two requests. libwebrtc ignores one that comes less than 300 ms after the last that it served: a
/// second one at just 300 ms would be lost whenever the first had travelled longer. The rest is for that jitter.
pub const INTERVAL: Duration = Duration::from_millis(340);

/// Time between requests to a publisher that ignored [`PATIENCE`] of them.
pub const SLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Requests before it becomes slow.
pub const PATIENCE: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody waits.
    Idle { asked_at: Option<Instant> },
    /// Somebody waits; the next request is due at `due`.
    Waiting { due: Instant, asked_at: Option<Instant>, tries: u32 },
}

/// The requests of one video track.
#[derive(Clone, Copy, Debug)]
pub struct KeyframeRequests(State);

impl Default for KeyframeRequests {
    fn default() -> Self {
        Self(State::Idle { asked_at: None })
    }
}

impl KeyframeRequests {
    /// Somebody needs a keyframe.
    pub fn want(&mut self, now: Instant) {
        match self.0 {
            State::Idle { asked_at } => {
                let due = asked_at.map_or(now, |at| now.max(at + INTERVAL));
                self.0 = State::Waiting { due, asked_at, tries: 0 };
            }
            State::Waiting { .. } => {}
        }
    }

    /// The publisher's stream is switched to: a request is due at once.
    pub fn want_at_once(&mut self, now: Instant) {
        let (State::Idle { asked_at } | State::Waiting { asked_at, .. }) = self.0;
        self.0 = State::Waiting { due: now, asked_at, tries: 0 };
    }

    /// A keyframe starts to arrive.
    pub fn arrived(&mut self) {
        let (State::Idle { asked_at } | State::Waiting { asked_at, .. }) = self.0;
        self.0 = State::Idle { asked_at };
    }

    /// Whether to send a request now; it counts as sent.
    pub fn poll(&mut self, now: Instant) -> bool {
        match self.0 {
            State::Waiting { due, tries, .. } if due <= now => {
                let interval = if tries < PATIENCE { INTERVAL } else { SLOW_INTERVAL };
                self.0 = State::Waiting { due: now + interval, asked_at: Some(now), tries: tries + 1 };
                true
            }
            State::Waiting { .. } | State::Idle { .. } => false,
        }
    }

    /// When the next request is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        match self.0 {
            State::Idle { .. } => None,
            State::Waiting { due, .. } => Some(due),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wishes_are_one_request_repeated_until_a_keyframe_starts() {
        let (mut requests, start) = (KeyframeRequests::default(), Instant::now());
        let mut sent = Vec::new();
        for ms in 0..1000 {
            let now = start + Duration::from_millis(ms);
            requests.want(now);
            if requests.poll(now) {
                sent.push(ms);
            }
        }
        assert_eq!(sent, [0, 340, 680]);
        requests.arrived();
        assert_eq!(requests.next_at(), None);
        requests.want(start + Duration::from_millis(1000));
        assert_eq!(
            requests.next_at(),
            Some(start + Duration::from_millis(1020)),
            "the throttle outlives the answer"
        );
    }

    #[test]
    fn a_switch_of_source_does_not_wait_for_the_throttle() {
        let (mut requests, start) = (KeyframeRequests::default(), Instant::now());
        requests.want(start);
        assert!(requests.poll(start));
        let now = start + Duration::from_millis(10);
        requests.want(now);
        assert!(!requests.poll(now));
        requests.want_at_once(now);
        assert!(requests.poll(now) && !requests.poll(now));
    }

    #[test]
    fn a_publisher_that_never_answers_is_asked_less_often() {
        let (mut requests, mut now) = (KeyframeRequests::default(), Instant::now());
        requests.want(now);
        for _ in 0..PATIENCE + 2 {
            now = requests.next_at().unwrap();
            assert!(requests.poll(now));
        }
        assert_eq!(requests.next_at(), Some(now + SLOW_INTERVAL));
    }
}
