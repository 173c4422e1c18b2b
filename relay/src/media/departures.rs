//! What left on a transport and what its peer says of it: the input of a send-side estimate.
//!
//! A fixed ring remembers departures by transport-wide number. Invariant: a result is only given for a packet that was
//! sent with that number and not reported as received before.

use std::time::{Duration, Instant};

use super::rtcp::TransportCc;

/// Departures that are remembered: two seconds at some 5 Mbit/s.
pub const REMEMBERED: usize = 1024;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Transport-wide number.
    pub sequence: u16,
    /// When it left.
    pub sent_at: Instant,
    /// How long it was.
    pub bytes: u16,
    /// When it arrived, on the peer's clock; `None` if the peer lacks it.
    pub arrived: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    sequence: u16,
    bytes: u16,
    /// Since the ring was made.
    micros: u32,
}

/// Numbers the packets of one transport and remembers when they left.
#[derive(Debug)]
pub struct Departures {
    origin: Instant,
    next: u16,
    ring: Box<[Option<Sent>]>,
}

impl Departures {
    /// A transport that has sent nothing.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { origin: now, next: 1, ring: vec![None; REMEMBERED].into_boxed_slice() }
    }

    /// The number of a packet that is being written.
    pub fn number(&mut self) -> u16 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    /// The packet with that number leaves.
    pub fn sent(&mut self, now: Instant, sequence: u16, bytes: usize) {
        let micros = now.saturating_duration_since(self.origin).as_micros() as u32;
        let sent = Sent { sequence, bytes: bytes.min(usize::from(u16::MAX)) as u16, micros };
        self.ring[usize::from(sequence) % REMEMBERED] = Some(sent);
    }

    /// Says what the peer's feedback means, packet by packet.
    pub fn feedback(&mut self, now: Instant, feedback: &TransportCc<'_>, mut each: impl FnMut(Departure)) {
        let now_micros = now.saturating_duration_since(self.origin).as_micros() as u32;
        for (sequence, arrived) in feedback.statuses().take(REMEMBERED) {
            let slot = &mut self.ring[usize::from(sequence) % REMEMBERED];
            let Some(sent) = slot.filter(|sent| sent.sequence == sequence) else { continue };
            if arrived.is_some() {
                *slot = None;
            }
            let age = Duration::from_micros(u64::from(now_micros.wrapping_sub(sent.micros)));
            let sent_at = now.checked_sub(age).unwrap_or(self.origin);
            each(Departure { sequence, sent_at, bytes: sent.bytes, arrived });
        }
    }
}

impl<'a> TransportCc<'a> {
    /// Number and arrival of each packet that the feedback is about; ends early where it is cut short.
    #[must_use]
    pub fn statuses(&self) -> Statuses<'a> {
        let symbols = Symbols { chunks: self.body, left: self.count, open: Open::Empty };
        let mut ahead = symbols.clone();
        // Walk the chunks once to learn where the deltas begin.
        while ahead.next().is_some() {}
        Statuses {
            sequence: self.base,
            symbols,
            deltas: ahead.chunks,
            micros: i64::from(self.reference) * 64_000,
        }
    }
}

/// Iterator over statuses of a feedback packet.
#[derive(Clone, Debug)]
pub struct Statuses<'a> {
    sequence: u16,
    symbols: Symbols<'a>,
    deltas: &'a [u8],
    micros: i64,
}

impl Iterator for Statuses<'_> {
    type Item = (u16, Option<Duration>);

    fn next(&mut self) -> Option<Self::Item> {
        let delta = match self.symbols.next()? {
            1 => {
                let (&delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                Some(i64::from(delta))
            }
            2 => {
                let (delta, rest) = self.deltas.split_at_checked(2)?;
                self.deltas = rest;
                Some(i64::from(i16::from_be_bytes([delta[0], delta[1]])))
            }
            _ => None,
        };
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        self.micros += delta.unwrap_or_default() * 250;
        let arrived = delta.map(|_| Duration::from_micros(u64::try_from(self.micros).unwrap_or_default()));
        Some((sequence, arrived))
    }
}

#[derive(Clone, Copy, Debug)]
enum Open {
    Empty,
    Run { symbol: u8, left: u16 },
    OneBit { bits: u16, left: u8 },
    TwoBit { bits: u16, left: u8 },
}

#[derive(Clone, Debug)]
struct Symbols<'a> {
    chunks: &'a [u8],
    left: u16,
    open: Open,
}

impl Iterator for Symbols<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.left == 0 {
            return None;
        }
        loop {
            let (symbol, open) = match self.open {
                Open::Run { left: 0, .. }
                | Open::OneBit { left: 0, .. }
                | Open::TwoBit { left: 0, .. }
                | Open::Empty => {
                    let (chunk, rest) = self.chunks.split_at_checked(2)?;
                    self.chunks = rest;
                    let chunk = u16::from_be_bytes([chunk[0], chunk[1]]);
                    self.open = match chunk >> 14 {
                        0 | 1 => Open::Run { symbol: (chunk >> 13 & 3) as u8, left: chunk & 0x1fff },
                        2 => Open::OneBit { bits: chunk, left: 14 },
                        _ => Open::TwoBit { bits: chunk, left: 7 },
                    };
                    continue;
                }
                Open::Run { symbol, left } => (symbol, Open::Run { symbol, left: left - 1 }),
                Open::OneBit { bits, left } => {
                    ((bits >> (left - 1) & 1) as u8, Open::OneBit { bits, left: left - 1 })
                }
                Open::TwoBit { bits, left } => {
                    ((bits >> (2 * (left - 1)) & 3) as u8, Open::TwoBit { bits, left: left - 1 })
                }
            };
            self.open = open;
            self.left -= 1;
            return Some(symbol);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_feedback_is_walked_without_harm(
            body in prop::collection::vec(any::<u8>(), 0..80), base: u16, count: u16, reference in 0_u32..1 << 24,
        ) {
            let feedback = TransportCc { base, count, reference, body: &body };
            prop_assert!(feedback.statuses().count() <= usize::from(count));
        }
    }

    #[test]
    fn a_departure_is_reported_once_when_it_arrived_and_again_while_it_is_missing() {
        let start = Instant::now();
        let mut departures = Departures::new(start);
        for at in 0..3 {
            let number = departures.number();
            departures.sent(start + Duration::from_millis(at), number, 100 + at as usize);
        }
        // One-bit vector: 1 received, 2 lost, 3 received; deltas of 1 ms.
        let body = [0xa8, 0x00, 4, 4];
        let feedback = TransportCc { base: 1, count: 4, reference: 1, body: &body };
        let now = start + Duration::from_millis(50);
        let mut seen = Vec::new();
        departures
            .feedback(now, &feedback, |d| seen.push((d.sequence, d.bytes, d.sent_at - start, d.arrived)));
        let ms = Duration::from_millis;
        assert_eq!(
            seen,
            [(1, 100, ms(0), Some(ms(65))), (2, 101, ms(1), None), (3, 102, ms(2), Some(ms(66)))]
        );
        seen.clear();
        departures
            .feedback(now, &feedback, |d| seen.push((d.sequence, d.bytes, d.sent_at - start, d.arrived)));
        assert_eq!(seen, [(2, 101, ms(1), None)]);
    }
}
