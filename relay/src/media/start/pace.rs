//! How fast a play catches up: faster and faster until its path says that it cannot take it.
//!
//! Nothing is known of the path at first. The rate starts where most paths can follow, doubles every [`STEP`], and stops
//! where a receiver's socket buffer would run over. Loss brings it down for good: packets that the player asks for
//! again, or its report.

use std::time::{Duration, Instant};

/// Sent at once: what the receive buffer of a socket that nobody tuned holds.
pub const FIRST_BYTES: usize = 64 << 10;
/// Bytes a second at the beginning (20 Mbit/s) …
const FIRST_RATE: u64 = 2_500_000;
/// … at most (120 Mbit/s) …
const MOST: u64 = 15_000_000;
/// … and at least (2 Mbit/s).
const LEAST: u64 = 250_000;
/// The rate doubles in this time.
const STEP: Duration = Duration::from_millis(50);
/// Time between two sends.
pub const TICK: Duration = Duration::from_millis(2);
/// What was not sent in time is not made up for beyond this time: the thread had no time, the path did not get faster.
const MAX_DEBT: Duration = Duration::from_millis(10);
/// One packet in so many is a loss that the rate made.
const LOSS_SHARE: u32 = 20;
/// Signs within this time after one that counted are about the same packets.
const DEAF: Duration = Duration::from_millis(100);

/// The pace of one play.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate: u64,
    credit_bytes: i64,
    at: Instant,
    doubles_at: Option<Instant>,
    slowed_at: Option<Instant>,
    sent: u32,
    missed: u32,
}

impl Pace {
    /// A play that begins to catch up.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            rate: FIRST_RATE,
            credit_bytes: FIRST_BYTES as i64,
            at: now,
            doubles_at: Some(now + STEP),
            slowed_at: None,
            sent: 0,
            missed: 0,
        }
    }

    /// Time goes on: credit comes in.
    pub fn advance(&mut self, now: Instant) {
        while let Some(at) = self.doubles_at.filter(|&at| at <= now) {
            self.rate = (self.rate * 2).min(MOST);
            self.doubles_at = (self.rate < MOST).then_some(at + STEP);
        }
        let passed = now.saturating_duration_since(self.at).min(MAX_DEBT);
        let most = (self.rate * MAX_DEBT.as_micros() as u64 / 1_000_000) as i64;
        let earned = (self.rate * passed.as_micros() as u64 / 1_000_000) as i64;
        self.credit_bytes = (self.credit_bytes + earned).min(most.max(FIRST_BYTES as i64));
        self.at = now;
    }

    /// Whether the next packet may leave.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.credit_bytes > 0
    }

    /// A packet left.
    pub fn sent(&mut self, bytes: usize) {
        self.credit_bytes -= bytes as i64;
        self.sent += 1;
    }

    /// The player lacks a packet.
    pub fn missed(&mut self, now: Instant) {
        self.missed += 1;
        if self.missed > 8 && self.missed * LOSS_SHARE > self.sent {
            self.slow_to(now, self.rate / 2);
        }
    }

    /// The player reports that it lost this share of what was sent, in 1/256: all that some say.
    pub fn reported(&mut self, now: Instant, fraction_lost: u8) {
        if u32::from(fraction_lost) * LOSS_SHARE > 256 {
            self.slow_to(now, self.rate / 2);
        }
    }

    fn slow_to(&mut self, now: Instant, rate: u64) {
        if self.slowed_at.is_some_and(|at| now.saturating_duration_since(at) < DEAF) {
            return;
        }
        (self.slowed_at, self.doubles_at) = (Some(now), None);
        (self.sent, self.missed) = (0, 0);
        self.rate = rate.max(LEAST);
        self.credit_bytes = self.credit_bytes.min(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that leave within `ms` of the beginning, by packets of 1,200 bytes.
    fn run(pace: &mut Pace, start: Instant, from_ms: u64, to_ms: u64) -> usize {
        let mut sent = 0;
        for ms in (from_ms..to_ms).step_by(TICK.as_millis() as usize) {
            pace.advance(start + Duration::from_millis(ms));
            while pace.may_send() {
                pace.sent(1_200);
                sent += 1_200;
            }
        }
        sent
    }

    #[test]
    fn ten_seconds_of_four_megabits_leave_within_half_a_second_and_no_burst_overruns_a_socket() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let first = run(&mut pace, start, 0, 1);
        assert!((FIRST_BYTES..FIRST_BYTES + 1_200).contains(&first), "{first}");
        let most = (1..250).map(|tick| run(&mut pace, start, tick * 2, tick * 2 + 1)).collect::<Vec<_>>();
        assert!(first + most.iter().sum::<usize>() > 5_000_000);
        assert!(most.iter().all(|&bytes| bytes <= 32_000), "{most:?}");
    }

    #[test]
    fn a_thread_that_had_no_time_makes_up_for_little() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        run(&mut pace, start, 0, 400);
        assert!(run(&mut pace, start, 900, 901) <= 151_200);
    }

    #[test]
    fn loss_halves_the_rate_once_for_all_that_was_lost_together() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(start);
        run(&mut pace, start, 0, 200);
        let before = pace.rate;
        (0..200).for_each(|_| pace.missed(at(200)));
        assert_eq!(pace.rate, before / 2, "once for all that was lost together");
        pace.reported(at(400), 30);
        assert_eq!(pace.rate, before / 4);
        pace.reported(at(600), 2);
        assert_eq!(pace.rate, before / 4, "that is no loss of ours");
    }
}
