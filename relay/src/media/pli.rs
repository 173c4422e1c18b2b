//! Keyframe requests to one publisher: coalesced, throttled, repeated until a keyframe starts (RFC 4585 §6.3.1).
//!
//! Invariant: requests are at least [`INTERVAL`] apart, except the one at a switch of source.

use std::time::{Duration, Instant};

use super::habit::{Habit, Lessons};

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
pub struct KeyframeRequests {
    state: State,
    lessons: Lessons,
}

impl Default for KeyframeRequests {
    fn default() -> Self {
        Self { state: State::Idle { asked_at: None }, lessons: Lessons::default() }
    }
}

impl KeyframeRequests {
    /// Somebody needs a keyframe.
    pub fn want(&mut self, now: Instant) {
        match self.state {
            State::Idle { asked_at } => {
                let due = asked_at.map_or(now, |at| now.max(at + INTERVAL));
                self.state = State::Waiting { due, asked_at, tries: 0 };
            }
            State::Waiting { .. } => {}
        }
    }

    /// The publisher's stream is switched to: a request is due at once.
    pub fn want_at_once(&mut self, now: Instant) {
        let (State::Idle { asked_at } | State::Waiting { asked_at, .. }) = self.state;
        self.state = State::Waiting { due: now, asked_at, tries: 0 };
    }

    /// A keyframe of the publisher starts to arrive.
    pub fn arrived(&mut self, now: Instant) {
        if let State::Waiting { asked_at: Some(asked_at), tries: 1.., .. } = self.state {
            self.lessons.answered(now.saturating_duration_since(asked_at));
        }
        self.settled();
    }

    /// An old keyframe starts to arrive, which a relay kept: nobody waits any more, and nothing is learned.
    pub fn settled(&mut self) {
        let (State::Idle { asked_at } | State::Waiting { asked_at, .. }) = self.state;
        self.state = State::Idle { asked_at };
    }

    /// What is known of the publisher's answers.
    #[must_use]
    pub fn habit(&self) -> Habit {
        self.lessons.habit()
    }

    /// Whether to send a request now; it counts as sent.
    pub fn poll(&mut self, now: Instant) -> bool {
        match self.state {
            State::Waiting { due, tries, .. } if due <= now => {
                if tries > 0 {
                    self.lessons.ignored();
                }
                let interval = if tries < PATIENCE { INTERVAL } else { SLOW_INTERVAL };
                self.state = State::Waiting { due: now + interval, asked_at: Some(now), tries: tries + 1 };
                true
            }
            State::Waiting { .. } | State::Idle { .. } => false,
        }
    }

    /// When the next request is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        match self.state {
            State::Idle { .. } => None,
            State::Waiting { due, .. } => Some(due),
        }
    }
}

/// Requests of one player that count at once …
const BURST: u32 = 4;
/// … and how often one more does: a player whose path breaks every picture gets its keyframes, and the others, whose
/// pictures get coarse for each, one in this time.
pub const EACH: Duration = Duration::from_secs(3);

/// What one player may ask for: whatever it asks, the others' pictures do not suffer.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u32,
    /// When one last came in, or the first request.
    since: Option<Instant>,
    counted_at: Option<Instant>,
}

/// What becomes of a player's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The publisher is asked.
    Counts,
    /// It repeats one that the publisher has not had the time to answer, and is asked for as long as it takes.
    Repeats,
    /// The player asked for more than its share.
    Refused,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: BURST, since: None, counted_at: None }
    }
}

impl Budget {
    /// The player asks for a keyframe.
    pub fn spend(&mut self, now: Instant) -> Verdict {
        if self.counted_at.is_some_and(|at| now.saturating_duration_since(at) < INTERVAL) {
            return Verdict::Repeats;
        }
        let since = *self.since.get_or_insert(now);
        let earned = now.saturating_duration_since(since).as_millis() / EACH.as_millis();
        if earned > 0 {
            self.left = (self.left + earned.min(BURST.into()) as u32).min(BURST);
            self.since = Some(now);
        }
        if self.left == 0 {
            return Verdict::Refused;
        }
        (self.left, self.counted_at) = (self.left - 1, Some(now));
        Verdict::Counts
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
        requests.arrived(start + Duration::from_millis(1000));
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

    #[test]
    fn a_player_that_asks_without_end_gets_some_at_once_and_then_one_in_three_seconds() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let counted: Vec<u64> = (0..10_000)
            .step_by(50)
            .filter(|&ms| budget.spend(start + Duration::from_millis(ms)) == Verdict::Counts)
            .collect();
        assert_eq!(counted, [0, 350, 700, 1_050, 3_000, 6_000, 9_000]);
        let later = |n| start + 10 * EACH + n * INTERVAL;
        let verdicts: Vec<_> = (0..6).map(|n| budget.spend(later(n))).collect();
        assert_eq!(verdicts[..4], [Verdict::Counts; 4]);
        assert_eq!(verdicts[4..], [Verdict::Refused; 2], "what is saved has a bound");
    }
}
