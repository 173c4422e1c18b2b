//! Sequence numbers: 16 bits extended to 64 (RFC 3550 A.1), what was seen, and renumbering that leaves no gap where
//! packets were left out on purpose.
//!
//! Invariant: within one [`Renumber`], an output number belongs to at most one input number.

/// RFC 3550 A.1: a jump ahead of more than this is a restart, not loss.
const MAX_DROPOUT: i64 = 3000;

/// How far back a late packet is still told from a duplicate.
pub const WINDOW: u64 = 1024;

/// Segments that a renumbering remembers; older late packets are dropped.
const SEGMENTS: usize = 16;

/// What became of a 16-bit sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// On the same line as the ones before.
    Same(u64),
    /// The source began to count anew: two consecutive numbers far from the line. Numbers go on rising.
    Restart(u64),
    /// Far from the line; dropped until a second one confirms it.
    Astray,
}

/// Extends 16-bit sequence numbers; the low 16 bits stay those of the wire.
#[derive(Clone, Debug, Default)]
pub struct Extender {
    highest: Option<u64>,
    /// The number that would confirm a restart.
    suspect: Option<u16>,
}

impl Extender {
    /// Extends a number.
    pub fn extend(&mut self, sequence: u16) -> Extended {
        let Some(highest) = self.highest else {
            // One cycle up, so that late packets of the first cycle have numbers too.
            let first = (1 << 16) | u64::from(sequence);
            self.highest = Some(first);
            return Extended::Same(first);
        };
        let delta = i64::from(sequence.wrapping_sub(low(highest)) as i16);
        if (-(WINDOW as i64)..=MAX_DROPOUT).contains(&delta) {
            let extended = highest.saturating_add_signed(delta);
            self.highest = Some(highest.max(extended));
            self.suspect = None;
            return Extended::Same(extended);
        }
        if self.suspect == Some(sequence) {
            let extended = highest + u64::from(sequence.wrapping_sub(low(highest)));
            *self = Self { highest: Some(extended), suspect: None };
            return Extended::Restart(extended);
        }
        self.suspect = Some(sequence.wrapping_add(1));
        Extended::Astray
    }

    /// Extends a number that is a repetition: it may be the newest, but never a restart.
    pub fn repair(&mut self, sequence: u16) -> Option<u64> {
        let highest = self.highest?;
        let delta = i64::from(sequence.wrapping_sub(low(highest)) as i16);
        let extended = highest.saturating_add_signed(delta);
        if !(-(WINDOW as i64)..=MAX_DROPOUT).contains(&delta) {
            return None;
        }
        self.highest = Some(highest.max(extended));
        Some(extended)
    }
}

/// The number as the wire carries it.
#[must_use]
pub fn low(sequence: u64) -> u16 {
    sequence as u16
}

/// Whether a number was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never.
    New,
    /// Before.
    Duplicate,
    /// It is behind the window: nobody can say.
    TooOld,
}

/// The last [`WINDOW`] numbers as bits.
#[derive(Clone, Debug, Default)]
pub struct SeenWindow {
    next: Option<u64>,
    bits: [u64; (WINDOW / 64) as usize],
}

impl SeenWindow {
    /// Notes a number.
    pub fn insert(&mut self, sequence: u64) -> Seen {
        let next = self.next.unwrap_or(sequence);
        if sequence >= next {
            if sequence - next >= WINDOW {
                self.bits = [0; (WINDOW / 64) as usize];
            } else {
                for between in next..sequence {
                    *self.word(between) &= !Self::bit(between);
                }
            }
            *self.word(sequence) |= Self::bit(sequence);
            self.next = Some(sequence + 1);
            return Seen::New;
        }
        if next - sequence > WINDOW {
            return Seen::TooOld;
        }
        if *self.word(sequence) & Self::bit(sequence) != 0 {
            return Seen::Duplicate;
        }
        *self.word(sequence) |= Self::bit(sequence);
        Seen::New
    }

    fn word(&mut self, sequence: u64) -> &mut u64 {
        &mut self.bits[(sequence % WINDOW / 64) as usize]
    }

    fn bit(sequence: u64) -> u64 {
        1 << (sequence % 64)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Segment {
    since: u64,
    /// First input that does not belong to it any more.
    until: u64,
    /// Output number of `since`.
    output: u64,
}

/// A map of input to output numbers in segments, each of which only adds a constant.
#[derive(Clone, Debug, Default)]
pub struct Renumber {
    segments: [Segment; SEGMENTS],
    made: usize,
}

impl Renumber {
    /// From input `since` on, outputs count up from `output`. Inputs from `gap` on that are below `since` have no output.
    pub fn restart(&mut self, gap: u64, since: u64, output: u64) {
        if let Some(last) = self.newest() {
            last.until = last.until.min(gap);
        }
        self.segments[self.made % SEGMENTS] = Segment { since, until: u64::MAX, output };
        self.made += 1;
    }

    /// Takes one input number out of the line: later ones close up. It must be the highest so far.
    pub fn close(&mut self, input: u64) {
        let Some(last) = self.newest() else { return };
        let (since, output) = (last.since, last.output);
        if input < since {
            return;
        }
        if input == since {
            last.since = input + 1;
            return;
        }
        self.restart(input, input + 1, output + (input - since));
    }

    /// The output number of an input.
    #[must_use]
    pub fn output(&self, input: u64) -> Option<u64> {
        self.iter()
            .find(|s| s.since <= input)
            .filter(|s| input < s.until)
            .map(|s| s.output + (input - s.since))
    }

    /// The input that has an output number.
    #[must_use]
    pub fn input(&self, output: u64) -> Option<u64> {
        let segment = self.iter().find(|s| s.output <= output)?;
        Some(segment.since + (output - segment.output)).filter(|&input| input < segment.until)
    }

    fn newest(&mut self) -> Option<&mut Segment> {
        let at = self.made.checked_sub(1)?;
        Some(&mut self.segments[at % SEGMENTS])
    }

    /// Newest first.
    fn iter(&self) -> impl Iterator<Item = &Segment> {
        (self.made.saturating_sub(SEGMENTS)..self.made).rev().map(|at| &self.segments[at % SEGMENTS])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_rise_over_the_wrap_and_late_ones_keep_their_place() {
        let mut extender = Extender::default();
        let numbers: Vec<_> = [65534, 65535, 1, 0].map(|s| extender.extend(s)).to_vec();
        let base = 65536 + 65534;
        assert_eq!(numbers, [base, base + 1, base + 3, base + 2].map(Extended::Same));
    }

    #[test]
    fn a_source_that_counts_anew_is_followed_from_its_second_packet_on() {
        let mut extender = Extender::default();
        let _ = extender.extend(40_000);
        assert_eq!(extender.extend(100), Extended::Astray);
        let Extended::Restart(next) = extender.extend(101) else { panic!("not a restart") };
        assert!(next > 65536 + 40_000 && low(next) == 101);
        assert_eq!(extender.extend(102), Extended::Same(next + 1));
    }

    #[test]
    fn a_closed_number_has_no_output_and_leaves_no_gap() {
        let mut line = Renumber::default();
        line.restart(0, 10, 100);
        line.close(12);
        line.close(13);
        let outputs: Vec<_> = (9..=15).map(|i| line.output(i)).collect();
        assert_eq!(outputs, [None, Some(100), Some(101), None, None, Some(102), Some(103)]);
        assert_eq!((line.input(101), line.input(102)), (Some(11), Some(14)));
    }

    proptest! {
        #[test]
        fn the_window_knows_what_it_saw(steps in prop::collection::vec(-1100_i64..1100, 1..300)) {
            let (mut window, mut seen, mut at) = (SeenWindow::default(), BTreeMap::new(), 1_000_000_u64);
            for step in steps {
                at = at.saturating_add_signed(step);
                let highest = seen.keys().next_back().copied().unwrap_or(at);
                let expected = match seen.insert(at, ()) {
                    _ if highest.saturating_sub(at) >= WINDOW => Seen::TooOld,
                    Some(()) => Seen::Duplicate,
                    None => Seen::New,
                };
                prop_assert_eq!(window.insert(at), expected);
            }
        }

        #[test]
        fn outputs_are_distinct_and_lead_back(closed in prop::collection::btree_set(0_u64..200, 0..60)) {
            let mut line = Renumber::default();
            line.restart(0, 0, 1000);
            let mut next = 1000;
            for input in 0..200 {
                if closed.contains(&input) {
                    line.close(input);
                    prop_assert_eq!(line.output(input), None);
                } else {
                    prop_assert_eq!(line.output(input), Some(next));
                    prop_assert_eq!(line.input(next), Some(input));
                    next += 1;
                }
            }
        }
    }
}
