//! The 48-bit packet index (RFC 3711 §3.3.1, appendix A) and the replay window (§3.3.2).

use std::collections::HashMap;

/// Packets behind the newest that are still taken: retransmissions and reordering stay within it.
const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;

/// Guesses the index of a sequence number from the highest index so far. `None`: it would lie before the first.
pub(super) fn guess(highest: u64, sequence: u16) -> Option<u64> {
    let rollover = (highest >> 16).cast_signed();
    let last = highest as u16;
    let distance = i32::from(sequence) - i32::from(last);
    let rollover = match distance {
        ..=-0x8001 => rollover + 1,
        0x8001.. => rollover - 1,
        _ => rollover,
    };
    let index = rollover << 16 | i64::from(sequence);
    u64::try_from(index).ok().filter(|&index| index < 1 << 48)
}

/// Which indices of one SSRC were taken.
#[derive(Clone)]
pub(super) struct Window {
    highest: u64,
    taken: [u64; WORDS],
}

impl Window {
    pub(super) fn new(first: u64) -> Self {
        Self { highest: first, taken: [0; WORDS] }
    }

    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether an index may still be taken.
    pub(super) fn is_fresh(&self, index: u64) -> bool {
        index > self.highest || (self.highest - index < WINDOW && !self.is_taken(index))
    }

    /// Takes an index that is fresh and authentic.
    pub(super) fn take(&mut self, index: u64) {
        if index > self.highest {
            let steps = (index - self.highest).min(WINDOW);
            for passed in 1..=steps {
                let (word, bit) = place(self.highest + passed);
                self.taken[word] &= !bit;
            }
            if index - self.highest > WINDOW {
                self.taken = [0; WORDS];
            }
            self.highest = index;
        }
        let (word, bit) = place(index);
        self.taken[word] |= bit;
    }

    fn is_taken(&self, index: u64) -> bool {
        let (word, bit) = place(index);
        self.taken[word] & bit != 0
    }
}

fn place(index: u64) -> (usize, u64) {
    let at = index % WINDOW;
    ((at / 64) as usize, 1 << (at % 64))
}

/// State per SSRC, with a bound: an SSRC beyond it is refused.
pub(super) struct PerSsrc<T> {
    states: HashMap<u32, T>,
    most: usize,
}

impl<T> PerSsrc<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { states: HashMap::new(), most }
    }

    pub(super) fn get(&self, ssrc: u32) -> Option<&T> {
        self.states.get(&ssrc)
    }

    /// The state of an SSRC, made by `first` if there was none.
    pub(super) fn entry(&mut self, ssrc: u32, first: impl FnOnce() -> T) -> Option<&mut T> {
        if self.states.len() >= self.most && !self.states.contains_key(&ssrc) {
            return None;
        }
        Some(self.states.entry(ssrc).or_insert_with(first))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{WINDOW, Window, guess};

    #[test]
    fn the_index_follows_the_sequence_number_over_its_wrap() {
        assert_eq!(guess(5, 6), Some(6));
        assert_eq!(guess(0xffff, 0), Some(0x1_0000));
        assert_eq!(guess(0x1_0000, 0xffff), Some(0xffff));
        assert_eq!(guess(3, 0xfff0), None, "before the first");
    }

    proptest! {
        #[test]
        fn each_index_is_taken_once_in_whatever_order(mut order in Just((0..3_000_u64).collect::<Vec<_>>()).prop_shuffle()) {
            // Shuffled within the window only.
            order.chunks_mut(WINDOW as usize / 2).for_each(<[u64]>::sort_unstable);
            let mut window = Window::new(0);
            let mut taken = std::collections::BTreeSet::new();
            for index in order.iter().chain(&order) {
                let fresh = window.is_fresh(*index);
                if taken.contains(index) {
                    prop_assert!(!fresh, "{index} twice");
                }
                if fresh {
                    window.take(*index);
                    taken.insert(*index);
                }
            }
        }

        #[test]
        fn an_index_within_half_the_range_is_guessed_right(highest in 0_u64..1 << 40, step in -0x7fff_i64..0x7fff) {
            let index = highest.cast_signed() + step;
            prop_assume!(index >= 0);
            prop_assert_eq!(guess(highest, index as u16), Some(index.cast_unsigned()));
        }
    }
}
