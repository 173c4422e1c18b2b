//! One play's way to the live edge, as decisions.

use std::time::{Duration, Instant};

use super::{pace::Pace, point::Offer};
use crate::media::habit::Habit;

/// A keyframe that is no older was made on the player's account, or as good as.
pub const YOUNG: Duration = Duration::from_millis(500);
/// A play that has not caught up by then never will: it goes on at the next keyframe.
pub const LIMIT: Duration = Duration::from_secs(4);

/// How far a play's video is.
#[derive(Clone, Copy, Debug)]
pub enum Standing {
    /// The relay behind a link has not asked for a picture: it may not know its SSRCs yet, and what is sent would be lost.
    Unready {
        /// When a keyframe was first asked for on its account.
        asked_at: Option<Instant>,
    },
    /// It has no picture.
    Waiting {
        /// When a keyframe was first asked for on its account.
        asked_at: Option<Instant>,
    },
    /// It gets old frames, the next of them this one.
    CatchingUp(CatchUp),
    /// It gets what comes.
    Live,
}

/// A play behind the live edge.
#[derive(Clone, Copy, Debug)]
pub struct CatchUp {
    /// The next number.
    pub next: u64,
    /// The keyframe with which it began.
    pub keyframe: u64,
    /// When it began.
    pub since: Instant,
    /// How fast it goes on.
    pub pace: Pace,
}

/// What a play that waits is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start now, with this.
    Start(Offer),
    /// Ask the publisher if that was not done, and look again then.
    LookAgain(Instant),
    /// Ask the publisher: there is nothing to start with.
    Await,
}

/// Decides for a play that has no picture, whose transport is up.
#[must_use]
pub fn decide(now: Instant, asked_at: Option<Instant>, habit: Habit, offer: Option<Offer>) -> Decision {
    let Some(offer) = offer else { return Decision::Await };
    let answer_by = asked_at.unwrap_or(now) + habit.patience();
    if offer.age <= YOUNG || answer_by <= now {
        Decision::Start(offer)
    } else {
        Decision::LookAgain(answer_by)
    }
}

impl CatchUp {
    /// A play begins to catch up.
    #[must_use]
    pub fn new(now: Instant, offer: &Offer) -> Self {
        Self { next: offer.keyframe, keyframe: offer.keyframe, since: now, pace: Pace::new(now) }
    }

    /// Whether it takes too long.
    #[must_use]
    pub fn is_hopeless(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) > LIMIT
    }
}

impl Standing {
    /// A keyframe is asked for on the play's account.
    pub fn asked(&mut self, now: Instant) {
        if let Self::Unready { asked_at } | Self::Waiting { asked_at } = self {
            asked_at.get_or_insert(now);
        }
    }

    /// The player lacks a packet that was sent.
    pub fn missed(&mut self, now: Instant) {
        if let Self::CatchingUp(catch_up) = self {
            catch_up.pace.missed(now);
        }
    }

    /// The player reports this share as lost, in 1/256.
    pub fn reported(&mut self, now: Instant, fraction_lost: u8) {
        if let Self::CatchingUp(catch_up) = self {
            catch_up.pace.reported(now, fraction_lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::start::LiveEdge;

    fn offer(age_ms: u64) -> Option<Offer> {
        let edge = LiveEdge { number: 900, timestamp: 0 };
        Some(Offer { keyframe: 10, age: Duration::from_millis(age_ms), edge })
    }

    #[test]
    fn go_10_old_frames_are_used_when_the_publisher_has_not_answered_in_time_or_never_does() {
        let asked = Instant::now();
        let at = |ms| asked + Duration::from_millis(ms);
        let old = offer(4_000);
        let start = Decision::Start(old.unwrap());
        let quick = Habit::Answers(Duration::from_millis(80));
        assert_eq!(decide(at(0), None, Habit::Ignores, old), start);
        assert_eq!(decide(at(10), Some(asked), Habit::Unknown, old), Decision::LookAgain(at(100)));
        assert_eq!(decide(at(100), Some(asked), Habit::Unknown, old), start);
        assert_eq!(decide(at(100), Some(asked), quick, old), Decision::LookAgain(at(210)));
        assert_eq!(decide(at(210), Some(asked), quick, old), start);
        assert_eq!(decide(at(900), Some(asked), Habit::Ignores, None), Decision::Await);
    }

    #[test]
    fn a_young_keyframe_is_used_whatever_the_publisher_does() {
        let now = Instant::now();
        let young = offer(400);
        let quick = Habit::Answers(Duration::from_millis(80));
        assert_eq!(decide(now, None, quick, young), Decision::Start(young.unwrap()));
    }
}
