//! What the integration tests stand on: a cluster of real processes, clients as real processes that print JSON lines,
//! and clips made with ffmpeg.
//!
//! Everything that a test starts ends with the value that stands for it, also when the test fails.

#![allow(dead_code, reason = "each test binary uses its own part of the harness")]

pub mod browser;
pub mod client;
pub mod clips;
pub mod cluster;
pub mod etcd;
pub mod namespace;
pub mod process;
pub mod ready;
pub mod site;
pub mod standstill;
pub mod stopwatch;
pub mod veth;

use std::time::{Duration, Instant};

/// Longest wait for something that must happen soon.
pub const SOON: Duration = Duration::from_secs(15);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within `limit`.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
