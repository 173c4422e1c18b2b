//! Instants as the wire writes them: NTP time (RFC 3550 §4), RTP ticks, abs-send-time.
//!
//! Invariant: the only place that knows what wall clock time an [`Instant`] is.

use std::time::{Duration, Instant};

/// Seconds from 1900, in units of 2⁻³² s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ntp(pub u64);

impl Ntp {
    /// Seconds between the eras of NTP and of Unix (RFC 5905).
    const UNIX_EPOCH: u64 = 2_208_988_800;

    /// The time that is this long after the Unix epoch.
    #[must_use]
    pub fn of_unix(since_epoch: Duration) -> Self {
        Self((since_epoch.as_secs().wrapping_add(Self::UNIX_EPOCH) << 32).wrapping_add(fraction(since_epoch)))
    }

    /// The middle 32 bits, as report blocks carry them (RFC 3550 §6.4.1).
    #[must_use]
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// Later by `by`.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.wrapping_add(by.as_secs() << 32).wrapping_add(fraction(by)))
    }

    /// How much later than `other`, in RTP ticks; negative if earlier.
    #[must_use]
    pub fn ticks_since(self, other: Self, clock_rate: u32) -> i64 {
        let difference = i128::from(self.0.wrapping_sub(other.0) as i64);
        ((difference * i128::from(clock_rate)) >> 32) as i64
    }

    /// Shifted by RTP ticks.
    #[must_use]
    pub fn plus_ticks(self, ticks: i64, clock_rate: u32) -> Self {
        let shift = (i128::from(ticks) << 32) / i128::from(clock_rate.max(1));
        Self(self.0.wrapping_add(shift as i64 as u64))
    }
}

fn fraction(of: Duration) -> u64 {
    (u64::from(of.subsec_nanos()) << 32) / 1_000_000_000
}

/// A duration in RTP ticks.
#[must_use]
pub fn ticks(of: Duration, clock_rate: u32) -> u64 {
    (of.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as u64
}

/// Says what wall clock time an [`Instant`] is.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    origin: Instant,
    ntp: Ntp,
}

impl WallClock {
    /// A clock that read `since_epoch` (Unix) at `origin`.
    #[must_use]
    pub fn new(origin: Instant, since_epoch: Duration) -> Self {
        Self { origin, ntp: Ntp::of_unix(since_epoch) }
    }

    /// The time at `now`.
    #[must_use]
    pub fn ntp(&self, now: Instant) -> Ntp {
        self.ntp.after(now.saturating_duration_since(self.origin))
    }

    /// Since the clock was set.
    #[must_use]
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.origin)
    }

    /// The 24 bits of abs-send-time: seconds with 18 bits of fraction.
    #[must_use]
    pub fn abs_send_time(&self, now: Instant) -> [u8; 3] {
        let value = (self.ntp(now).0 >> 14) as u32;
        let [_, a, b, c] = value.to_be_bytes();
        [a, b, c]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_counts_from_1900_and_ticks_lead_there_and_back() {
        let ntp = Ntp::of_unix(Duration::from_millis(1500));
        assert_eq!(ntp.0 >> 32, 2_208_988_801);
        let later = ntp.after(Duration::from_millis(250));
        assert_eq!(later.ticks_since(ntp, 48_000), 12_000);
        assert_eq!(ntp.ticks_since(later, 48_000), -12_000);
        assert_eq!(later.plus_ticks(-12_000, 48_000), ntp);
    }

    #[test]
    fn abs_send_time_counts_in_steps_of_four_microseconds() {
        let origin = Instant::now();
        let clock = WallClock::new(origin, Duration::from_secs(64));
        let [a, b, c] = clock.abs_send_time(origin + Duration::from_millis(500));
        let value = u32::from_be_bytes([0, a, b, c]);
        assert_eq!(value & 0x3ffff, 1 << 17);
    }
}
