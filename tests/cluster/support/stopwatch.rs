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
/// A look that is so late means that nobody ran; less is the scheduler's daily work.
const STANDSTILL: Duration = Duration::from_millis(50);

struct Looks {
    last: Instant,
    stops: Vec<Duration>,
}

impl Looks {
    fn look(&mut self) {
        let now = Instant::now();
        let late = now.saturating_duration_since(self.last).saturating_sub(STEP);
        self.last = now;
        if late >= STANDSTILL {
            self.stops.push(late);
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
        let looks = Arc::new(Mutex::new(Looks { last: begun, stops: Vec::new() }));
        let (running, ended) = mpsc::channel();
        let looking = Arc::clone(&looks);
        thread::spawn(move || {
            while ended.recv_timeout(STEP) == Err(mpsc::RecvTimeoutError::Timeout) {
                looking.lock().expect("no stopwatch panics").look();
            }
        });
        Self { begun, looks, _running: running }
    }

    /// The machine's standstills up to now.
    pub fn stops(&self) -> Vec<Duration> {
        let mut looks = self.looks.lock().expect("no stopwatch panics");
        // We may be the first to run after one.
        looks.look();
        looks.stops.clone()
    }

    /// For how long the machine ran since the start.
    pub fn ran(&self) -> Duration {
        let stood: Duration = self.stops().iter().sum();
        self.begun.elapsed().saturating_sub(stood)
    }
}
