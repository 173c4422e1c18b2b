//! Waiting between tries: exponential, jittered, from a seed.
//!
//! "Full jitter" would let some clients back in at once, all at the same time: half of each wait is fixed, half is drawn.

use std::time::Duration;

/// The generator: SplitMix64, so that the same seed draws the same in every language.
///
/// <https://prng.di.unimi.it/splitmix64.c>
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Dice of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.state;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Whole milliseconds from `low` to below `high`; `low` if the range is empty.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let (low_ms, high_ms) = (whole_ms(low), whole_ms(high));
        let span = high_ms.saturating_sub(low_ms).max(1);
        Duration::from_millis(low_ms + self.roll() % span)
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

/// How waits grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    /// Upper end of the first wait.
    pub first: Duration,
    /// Upper end of the longest wait.
    pub longest: Duration,
}

impl Backoff {
    /// The wait before try number `round` (from 0): between half of `first * 2^round`, capped, and all of it.
    pub fn wait(self, round: u32, dice: &mut Dice) -> Duration {
        let factor = 1u32.checked_shl(round).unwrap_or(u32::MAX);
        let upper = self.first.saturating_mul(factor).min(self.longest);
        dice.between(upper / 2, upper)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, Dice};

    #[test]
    fn waits_double_within_their_jitter_and_stop_at_the_longest() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_millis(500) };
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            for (round, upper) in [(0, 100), (1, 200), (2, 400), (3, 500), (31, 500), (32, 500), (4_000, 500)]
            {
                let wait = backoff.wait(round, &mut dice).as_millis();
                assert!((upper / 2..upper).contains(&wait), "round {round}: {wait}");
            }
        }
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        // First outputs of the reference implementation for seed 0.
        let mut dice = Dice::new(0);
        assert_eq!(dice.roll(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(dice.roll(), 0x6e78_9e6a_a1b9_65f4);
    }
}
