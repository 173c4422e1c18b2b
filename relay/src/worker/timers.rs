//! When something is next due: at most one instant per key, earliest first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Instant,
};

/// Instants by key. An instant that was replaced by an earlier one stays in the heap and is skipped when it comes up.
#[derive(Debug)]
pub struct Timers<K> {
    armed: BTreeMap<K, Instant>,
    heap: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Self { armed: BTreeMap::new(), heap: BinaryHeap::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Something is due for `key` at `at`; what was due later is due then.
    pub fn arm(&mut self, key: K, at: Instant) {
        if self.armed.get(&key).is_some_and(|&armed| armed <= at) {
            return;
        }
        self.armed.insert(key, at);
        self.heap.push(Reverse((at, key)));
    }

    /// Takes a key that is due; it is not armed any more.
    pub fn due(&mut self, now: Instant) -> Option<K> {
        while let Some(&Reverse((at, key))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if self.armed.get(&key) == Some(&at) {
                self.armed.remove(&key);
                return Some(key);
            }
        }
        None
    }

    /// When the next key may be due.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::Timers;

    #[test]
    fn an_earlier_instant_replaces_a_later_and_fires_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.arm('a', at(20));
        timers.arm('a', at(10));
        timers.arm('a', at(30));
        assert_eq!(timers.due(at(9)), None);
        assert_eq!(timers.next_at(), Some(at(10)));
        assert_eq!(timers.due(at(40)), Some('a'));
        assert_eq!(timers.due(at(40)), None);
        timers.arm('a', at(50));
        assert_eq!(timers.due(at(50)), Some('a'));
    }

    proptest! {
        #[test]
        fn each_key_is_due_at_the_earliest_instant_it_was_armed_for(arms in prop::collection::vec((0_u8..8, 0_u64..100), 0..60)) {
            let start = Instant::now();
            let mut timers = Timers::default();
            let mut earliest = std::collections::BTreeMap::new();
            for &(key, ms) in &arms {
                timers.arm(key, start + Duration::from_millis(ms));
                let known = earliest.entry(key).or_insert(ms);
                *known = ms.min(*known);
            }
            for ms in 0..100 {
                while let Some(key) = timers.due(start + Duration::from_millis(ms)) {
                    prop_assert_eq!(earliest.remove(&key), Some(ms));
                }
            }
            prop_assert!(earliest.is_empty());
        }
    }
}
