//! Transport-wide feedback to a publisher: when each of its packets arrived
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
//!
//! Invariant: at most [`MAX_PENDING`] arrivals wait, and one feedback packet is about at most [`MAX_SPAN`] numbers.

use std::time::{Duration, Instant};

use super::{
    clock::WallClock,
    rtcp_write::{TransportCcHead, Writer},
    sequence::{Extended, Extender, low},
};

/// Feedback is due when so many packets arrived …
pub const DUE_PACKETS: usize = 20;
/// … or this long after the first.
pub const DUE_AFTER: Duration = Duration::from_millis(50);

/// Most arrivals that wait for feedback.
pub const MAX_PENDING: usize = 64;

/// Most numbers that one feedback packet is about.
pub const MAX_SPAN: usize = 256;

/// Delta unit of the draft.
const TICK_MICROS: u64 = 250;
/// Reference time unit, in ticks: 64 ms.
const REFERENCE_TICKS: u64 = 256;

const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

/// Chunks (2 bytes for at least 7 numbers, so 74) and deltas (2 bytes a packet), rounded up.
const MAX_BODY_BYTES: usize = 80 + 2 * MAX_PENDING;

#[derive(Clone, Copy, Debug)]
struct Arrived {
    sequence: u64,
    /// Since the clock was set, in 250 µs.
    tick: u64,
}

/// The arrivals on one transport.
#[derive(Debug)]
pub struct Arrivals {
    extender: Extender,
    /// Sorted by number.
    pending: Vec<Arrived>,
    first_at: Option<Instant>,
    /// First number that no feedback was about yet.
    next: Option<u64>,
    feedback: u8,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            extender: Extender::default(),
            pending: Vec::with_capacity(MAX_PENDING),
            first_at: None,
            next: None,
            feedback: 0,
        }
    }
}

impl Arrivals {
    /// A packet with this transport-wide number arrived.
    pub fn record(&mut self, now: Instant, sequence: u16, clock: &WallClock) {
        let sequence = match self.extender.extend(sequence) {
            Extended::Same(sequence) => sequence,
            Extended::Restart(sequence) => {
                self.pending.clear();
                self.next = None;
                sequence
            }
            Extended::Astray => return,
        };
        let tick = clock.elapsed(now).as_micros() as u64 / TICK_MICROS;
        let Err(at) = self.pending.binary_search_by_key(&sequence, |a| a.sequence) else { return };
        if self.pending.len() == MAX_PENDING {
            return;
        }
        self.pending.insert(at, Arrived { sequence, tick });
        self.first_at.get_or_insert(now);
    }

    /// When feedback is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        let first = self.first_at?;
        Some(if self.pending.len() >= DUE_PACKETS { first } else { first + DUE_AFTER })
    }

    /// Writes feedback if it is due.
    pub fn poll(&mut self, now: Instant, sender: u32, media: u32, writer: &mut Writer<'_>) {
        if self.next_at().is_none_or(|at| at > now) {
            return;
        }
        self.first_at = None;
        let (Some(&first), Some(&last)) = (self.pending.first(), self.pending.last()) else { return };
        // From where the last feedback ended, so that losses are reported, unless that is too far.
        let base = self.next.filter(|&next| next < first.sequence).unwrap_or(first.sequence);
        let base = base.max((last.sequence + 1).saturating_sub(MAX_SPAN as u64));
        let count = (last.sequence + 1 - base) as usize;
        let earliest =
            self.pending.iter().filter(|a| a.sequence >= base).map(|a| a.tick).min().unwrap_or(first.tick);
        let mut body = Body::new(earliest / REFERENCE_TICKS);
        let mut symbols = [NOT_RECEIVED; MAX_SPAN];
        for arrived in self.pending.drain(..).filter(|a| a.sequence >= base) {
            symbols[(arrived.sequence - base) as usize] = body.delta(arrived.tick);
        }
        self.next = Some(self.next.unwrap_or_default().max(last.sequence + 1));
        let head = TransportCcHead {
            base: low(base),
            count: count as u16,
            reference: (earliest / REFERENCE_TICKS) as u32 & 0xff_ffff,
            feedback: self.feedback,
        };
        if writer.transport_cc(sender, media, head, body.finish(&symbols[..count])).is_some() {
            self.feedback = self.feedback.wrapping_add(1);
        }
    }
}

/// Chunks and deltas in the making: deltas are written first, behind room for the chunks.
struct Body {
    deltas: [u8; 2 * MAX_PENDING],
    delta_bytes: usize,
    last_tick: u64,
    out: [u8; MAX_BODY_BYTES],
}

impl Body {
    fn new(reference: u64) -> Self {
        Self {
            deltas: [0; 2 * MAX_PENDING],
            delta_bytes: 0,
            last_tick: reference * REFERENCE_TICKS,
            out: [0; MAX_BODY_BYTES],
        }
    }

    /// Adds the delta of the next received packet and answers its symbol.
    fn delta(&mut self, tick: u64) -> u8 {
        let delta = tick.wrapping_sub(self.last_tick) as i64;
        if let Ok(small) = u8::try_from(delta) {
            self.deltas[self.delta_bytes] = small;
            self.delta_bytes += 1;
            self.last_tick = tick;
            return SMALL_DELTA;
        }
        // Over 8 s cannot be said, and does not happen between packets of one feedback.
        let Ok(large) = i16::try_from(delta) else { return NOT_RECEIVED };
        self.deltas[self.delta_bytes..self.delta_bytes + 2].copy_from_slice(&large.to_be_bytes());
        self.delta_bytes += 2;
        self.last_tick = tick;
        LARGE_DELTA
    }

    fn finish(&mut self, mut symbols: &[u8]) -> &[u8] {
        let mut at = 0;
        while let Some(&symbol) = symbols.first() {
            let run = symbols.iter().take_while(|&&s| s == symbol).count();
            // A run-length chunk, where it says more than a vector of seven two-bit symbols.
            let (chunk, taken) = if run >= 7 || run == symbols.len() {
                (u16::from(symbol) << 13 | run as u16, run)
            } else {
                let taken = symbols.len().min(7);
                let vector = symbols[..taken].iter().zip((0..7).rev());
                (vector.fold(0xc000, |chunk, (&s, place)| chunk | u16::from(s) << (2 * place)), taken)
            };
            self.out[at..at + 2].copy_from_slice(&chunk.to_be_bytes());
            at += 2;
            symbols = &symbols[taken..];
        }
        self.out[at..at + self.delta_bytes].copy_from_slice(&self.deltas[..self.delta_bytes]);
        &self.out[..at + self.delta_bytes]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::rtcp::{Message, messages};

    proptest! {
        #[test]
        fn what_is_reported_is_what_arrived(
            gaps in prop::collection::vec((0_u64..12, 0_u64..90_000), 1..20), start: u16, swap: bool,
        ) {
            let origin = Instant::now();
            let clock = WallClock::new(origin, Duration::ZERO);
            let mut arrivals = Arrivals::default();
            let (mut number, mut micros, mut sent) = (u64::from(start), 1_000_000_u64, Vec::new());
            for (gap, pause) in gaps {
                number += 1 + gap;
                micros += pause;
                sent.push((number as u16, micros / 250 * 250));
            }
            if swap && sent.len() > 3 {
                let (a, b) = (sent[1].0, sent[2].0);
                (sent[1].0, sent[2].0) = (b, a);
            }
            for &(number, micros) in &sent {
                arrivals.record(origin + Duration::from_micros(micros), number, &clock);
            }
            let mut out = [0; 600];
            let mut writer = Writer::new(&mut out);
            arrivals.poll(origin + Duration::from_secs(60), 1, 2, &mut writer);
            let length = writer.written();
            let Some(Ok(Message::TransportCc(feedback))) = messages(&out[..length]).next() else { panic!() };
            let mut expected = sent.clone();
            expected.sort_by_key(|(n, _)| n.wrapping_sub(start));
            let read: Vec<_> = feedback.statuses().filter_map(|(n, at)| Some((n, at?.as_micros() as u64))).collect();
            prop_assert_eq!(read, expected);
            prop_assert_eq!(feedback.statuses().count(), usize::from(feedback.count));
        }
    }

    #[test]
    fn feedback_is_due_after_twenty_packets_or_fifty_milliseconds_and_reports_losses_between() {
        let origin = Instant::now();
        let clock = WallClock::new(origin, Duration::ZERO);
        let mut arrivals = Arrivals::default();
        arrivals.record(origin, 10, &clock);
        assert_eq!(arrivals.next_at(), Some(origin + DUE_AFTER));
        for number in 11..30 {
            arrivals.record(origin, number, &clock);
        }
        assert_eq!(arrivals.next_at(), Some(origin));
        let mut out = [0; 600];
        arrivals.poll(origin, 1, 2, &mut Writer::new(&mut out));
        assert_eq!(arrivals.next_at(), None);
        arrivals.record(origin, 33, &clock);
        arrivals.poll(origin + DUE_AFTER, 1, 2, &mut Writer::new(&mut out));
        let Some(Ok(Message::TransportCc(feedback))) = messages(&out).next() else { panic!() };
        let read: Vec<_> = feedback.statuses().map(|(n, at)| (n, at.is_some())).collect();
        assert_eq!(read, [(30, false), (31, false), (32, false), (33, true)]);
    }
}
