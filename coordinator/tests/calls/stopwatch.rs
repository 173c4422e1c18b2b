//! A stopwatch that stands still with the machine: what is measured with it is charged to the product alone.
//!
//! The host of a virtual machine may stop it for half a second, between any two lines. A thread that only sleeps sees
//! that too, as it sees a scheduler that lets nobody run; it does not see a product that is slow.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

/// The thread looks at the clock this often.
const STEP: Duration = Duration::from_millis(5);
/// A look that is later than this means that nobody ran.
const LATE: Duration = Duration::from_millis(25);

struct Looks {
    last: Instant,
    stood_still: Duration,
}

impl Looks {
    fn look(&mut self) {
        let now = Instant::now();
        let late = now.saturating_duration_since(self.last).saturating_sub(STEP);
        self.last = now;
        if late > LATE {
            self.stood_still += late;
        }
    }
}

/// Runs from when it is made.
pub struct Stopwatch {
    begun: Instant,
    looks: Arc<Mutex<Looks>>,
    /// The thread ends with it.
    _running: mpsc::Sender<()>,
}

impl Stopwatch {
    pub fn start() -> Self {
        let begun = Instant::now();
        let looks = Arc::new(Mutex::new(Looks { last: begun, stood_still: Duration::ZERO }));
        let (running, ended) = mpsc::channel();
        let looking = Arc::clone(&looks);
        thread::spawn(move || {
            while ended.recv_timeout(STEP) == Err(mpsc::RecvTimeoutError::Timeout) {
                looking.lock().unwrap().look();
            }
        });
        Self { begun, looks, _running: running }
    }

    /// The time since then in which the machine ran.
    pub fn elapsed(&self) -> Duration {
        let mut looks = self.looks.lock().unwrap();
        // We may be the first to run after a stop.
        looks.look();
        looks.last.duration_since(self.begun).saturating_sub(looks.stood_still)
    }
}
