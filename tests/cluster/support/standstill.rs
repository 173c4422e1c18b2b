//! Scenes that the machine spoils when it stands still: they say nothing about the product, and are played again.

use std::{thread, time::Duration};

pub use super::stopwatch::Stopwatch;

/// So often a scene is played until the machine runs through one.
const SCENES: usize = 5;
/// Between two questions.
const ASKS_EVERY: Duration = Duration::from_millis(10);

impl Stopwatch {
    /// Asks until there is an answer.
    ///
    /// # Panics
    /// When there is none and the machine has run for `limit` since the start.
    #[track_caller]
    pub fn until<T>(&self, what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
        loop {
            let ran = self.ran();
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(ran < limit, "{what}: not within {limit:?}");
            thread::park_timeout(ASKS_EVERY);
        }
    }

    /// What holds for the product on a machine that runs.
    ///
    /// # Errors
    /// [`Disturbed`] when it does not hold and the machine stood still.
    ///
    /// # Panics
    /// When it does not hold although the machine ran.
    #[track_caller]
    pub fn expect(&self, holds: bool, why: impl FnOnce() -> String) -> Result<(), Disturbed> {
        if holds {
            return Ok(());
        }
        let (stops, why) = (self.stops(), why());
        assert!(!stops.is_empty(), "{why}");
        Err(Disturbed(format!("the machine stood still for {stops:?}, and {why}")))
    }
}

/// What a scene was to show does not hold, but the machine stood still meanwhile: it says nothing about the product.
#[derive(Debug)]
pub struct Disturbed(String);

/// Plays a scene until the machine runs through it, a few times at most.
///
/// # Panics
/// When none of them says anything.
#[track_caller]
pub fn undisturbed(mut scene: impl FnMut() -> Result<(), Disturbed>) {
    for _ in 0..SCENES {
        match scene() {
            Ok(()) => return,
            Err(Disturbed(why)) => eprintln!("once more, since {why}"),
        }
    }
    panic!("the machine stood still in each of {SCENES} scenes");
}
