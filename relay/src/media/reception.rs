//! Reception statistics of one source: loss, highest number, jitter (RFC 3550 A.3, A.8), its last sender report.
//!
//! Invariant: the fraction lost covers exactly the time since the last block that was made.

use std::time::{Duration, Instant};

use super::{
    clock::{Ntp, WallClock, ticks},
    rtcp::ReportBlock,
};

#[derive(Clone, Copy, Debug)]
struct Line {
    base: u64,
    highest: u64,
    received: u64,
    expected_prior: u64,
    received_prior: u64,
}

/// The statistics of one source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reception {
    line: Option<Line>,
    transit: Option<u32>,
    /// RFC 3550 A.8, scaled by 16.
    jitter: u32,
    last_report: Option<(Ntp, Instant)>,
}

impl Reception {
    /// Counts a packet that arrived on the source's own SSRC.
    pub fn count(&mut self, sequence: u64) {
        let fresh =
            Line { base: sequence, highest: sequence, received: 0, expected_prior: 0, received_prior: 0 };
        let line = self.line.get_or_insert(fresh);
        line.highest = line.highest.max(sequence);
        line.base = line.base.min(sequence);
        line.received += 1;
    }

    /// The source began to count anew.
    pub fn restart(&mut self) {
        *self = Self { last_report: self.last_report, ..Self::default() };
    }

    /// Measures jitter by a packet's arrival and timestamp.
    pub fn time(&mut self, now: Instant, timestamp: u32, clock: &WallClock, clock_rate: u32) {
        let transit = (ticks(clock.elapsed(now), clock_rate) as u32).wrapping_sub(timestamp);
        if let Some(last) = self.transit {
            let difference = (transit.wrapping_sub(last) as i32).unsigned_abs().min(1 << 26);
            self.jitter = (self.jitter + difference).saturating_sub((self.jitter + 8) >> 4);
        }
        self.transit = Some(transit);
    }

    /// Notes a sender report of the source.
    pub fn sender_report(&mut self, now: Instant, ntp: Ntp) {
        self.last_report = Some((ntp, now));
    }

    /// The block for the next receiver report, and the fraction lost, in 1/256, since the last.
    pub fn block(&mut self, now: Instant, ssrc: u32) -> Option<ReportBlock> {
        let line = self.line.as_mut()?;
        let expected = line.highest - line.base + 1;
        let (expected_now, received_now) =
            (expected - line.expected_prior, line.received - line.received_prior);
        (line.expected_prior, line.received_prior) = (expected, line.received);
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or_default().min(255);
        let (last_report, delay) = match self.last_report {
            Some((ntp, at)) => (ntp.middle(), compact(now.saturating_duration_since(at))),
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc,
            fraction_lost: fraction as u8,
            lost: expected.saturating_sub(line.received).min(0x7f_ffff) as u32,
            // One cycle less: numbers start one cycle up.
            highest: (line.highest.wrapping_sub(1 << 16)) as u32,
            jitter: self.jitter >> 4,
            last_report,
            delay,
        })
    }
}

/// A duration in units of 1/65536 s (RFC 3550 §6.4.1).
fn compact(of: Duration) -> u32 {
    (of.as_nanos() * 65_536 / 1_000_000_000).min(u128::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_lost_is_of_the_last_interval_only() {
        let (mut reception, now) = (Reception::default(), Instant::now());
        for sequence in (0..100_u64).filter(|s| s % 4 != 1) {
            reception.count((1 << 16) + sequence);
        }
        let block = reception.block(now, 1).unwrap();
        assert_eq!((block.fraction_lost, block.lost, block.highest), (64, 25, 99));
        for sequence in 100..200 {
            reception.count((1 << 16) + sequence);
        }
        let block = reception.block(now, 1).unwrap();
        assert_eq!((block.fraction_lost, block.lost), (0, 25));
    }

    #[test]
    fn jitter_is_zero_for_an_even_source_and_grows_for_an_uneven_one() {
        let start = Instant::now();
        let clock = WallClock::new(start, Duration::ZERO);
        let run = |uneven: u64| {
            let mut reception = Reception::default();
            for at in 0..200_u64 {
                let late = if at % 2 == 0 { 0 } else { uneven };
                let now = start + Duration::from_millis(20 * at + late);
                reception.time(now, at as u32 * 960, &clock, 48_000);
            }
            reception.count(0);
            reception.block(start, 1).unwrap().jitter
        };
        assert_eq!(run(0), 0);
        assert!((400..=480).contains(&run(10)), "{}", run(10));
    }
}
