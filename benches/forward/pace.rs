//! The pace of the load: bursts of packets at a constant rate, the same for the relay's publisher and for the floor.

use std::time::{Duration, Instant};

/// Packets a second of one publisher.
pub const PACKETS_PER_SECOND: u32 = 250;
/// Payload of each packet, in bytes: RTP header and SRTP tag make it about 1,228.
pub const PAYLOAD_BYTES: usize = 1_200;

/// When bursts are due.
pub struct Pace {
    every: Duration,
    next: Instant,
}

impl Pace {
    pub fn new(burst: u32, now: Instant) -> Self {
        Self { every: Duration::from_secs(1) * burst / PACKETS_PER_SECOND, next: now }
    }

    /// How long until the next burst is due.
    pub fn wait(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// Whether a burst is due now; each is due once.
    pub fn due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next += self.every;
        }
        due
    }
}

/// CLOCK_REALTIME, in nanoseconds: the clock of the kernel's arrival times.
pub fn realtime_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
