//! Whether a publisher answers when it is asked for a keyframe, and how fast: learned from what it did.
//!
//! Cameras, OBS and FFmpeg do not. A keyframe that comes by itself just then looks like an answer, so one is no proof;
//! a request that nothing came of is.

use std::time::Duration;

/// Answers in a row that are believed: the first is often the keyframe with which every publish begins.
const PROOF: u8 = 3;

/// What is known of a publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Habit {
    /// Nothing for certain.
    #[default]
    Unknown,
    /// It answers, and took so long the last time.
    Answers(Duration),
    /// The last request came to nothing.
    Ignores,
}

impl Habit {
    /// How long a player that could start with old frames waits for the answer to a request; longer is not worth it.
    #[must_use]
    pub fn patience(self) -> Duration {
        match self {
            Self::Unknown => Duration::from_millis(100),
            Self::Answers(took) => (took * 2 + Duration::from_millis(50)).min(Duration::from_millis(400)),
            Self::Ignores => Duration::ZERO,
        }
    }

    /// Whether old frames are worth their memory.
    #[must_use]
    pub fn needs_archive(self) -> bool {
        match self {
            Self::Unknown | Self::Ignores => true,
            Self::Answers(_) => false,
        }
    }
}

/// What requests came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lessons {
    answers: u8,
    habit: Habit,
}

impl Lessons {
    /// A keyframe came so long after the last request.
    pub fn answered(&mut self, took: Duration) {
        self.answers = self.answers.saturating_add(1);
        self.habit = if self.answers >= PROOF { Habit::Answers(took) } else { Habit::Unknown };
    }

    /// None came in time.
    pub fn ignored(&mut self) {
        *self = Self { answers: 0, habit: Habit::Ignores };
    }

    /// What that makes of the publisher.
    #[must_use]
    pub fn habit(&self) -> Habit {
        self.habit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_is_believed_after_some_answers_and_no_more_after_one_that_is_missing() {
        let (mut lessons, took) = (Lessons::default(), Duration::from_millis(90));
        lessons.answered(took);
        lessons.answered(took);
        assert_eq!(lessons.habit(), Habit::Unknown, "keyframes that came by themselves");
        lessons.answered(took);
        assert_eq!(lessons.habit(), Habit::Answers(took));
        assert!(!lessons.habit().needs_archive());
        lessons.ignored();
        assert_eq!(lessons.habit(), Habit::Ignores);
        assert!(lessons.habit().needs_archive());
    }
}
