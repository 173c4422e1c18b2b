//! Waiting for a socket or a wake-up, with a fine time limit, and how much CPU a thread used.

use std::{os::fd::RawFd, time::Duration};

/// Waits until one of the descriptors can be read, for at most `limit`.
pub fn readable(descriptors: [RawFd; 2], limit: Duration) {
    let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    let limit =
        libc::timespec { tv_sec: limit.as_secs() as libc::time_t, tv_nsec: limit.subsec_nanos().into() };
    // SAFETY: the array and the limit outlive the call, and the count is the array's. An error (a signal) is an early
    // return, which the caller's next round makes harmless.
    unsafe {
        libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, &raw const limit, std::ptr::null())
    };
}

/// CPU time that this thread has used.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Time since the machine started; unlike an `Instant` it counts what the machine slept.
#[must_use]
pub fn boot_time() -> Duration {
    clock(libc::CLOCK_BOOTTIME)
}

fn clock(id: libc::clockid_t) -> Duration {
    // SAFETY: the clock writes into a value that outlives the call.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(id, &raw mut time);
        time
    };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
