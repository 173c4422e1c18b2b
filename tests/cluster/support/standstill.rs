//! Notices when this machine stands still, so that its stops are not charged to what is measured in real time.
//!
//! A machine whose host is busy stops everything on it for a while, or runs nothing of ours. A thread that wants to wake
//! up every few milliseconds and does so late has seen it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How often the watch wants to wake up.
const WAKES_EVERY: Duration = Duration::from_millis(5);
/// A watch that wakes up so late has seen a standstill; less is the scheduler's daily work.
const STANDSTILL: Duration = Duration::from_millis(50);
/// So often a scene is played until the machine runs through one.
const SCENES: usize = 5;

/// A clock that knows of the machine's standstills since it was started.
pub struct Stopwatch {
    started: Instant,
    stops: Arc<Mutex<Vec<Duration>>>,
    over: Arc<AtomicBool>,
}

impl Stopwatch {
    pub fn start() -> Self {
        let (stops, over) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let started = Instant::now();
        let stopwatch = Self { started, stops: Arc::clone(&stops), over: Arc::clone(&over) };
        thread::spawn(move || {
            let mut before = started;
            while !over.load(Ordering::Relaxed) {
                thread::sleep(WAKES_EVERY);
                let now = Instant::now();
                let late = now.duration_since(before).saturating_sub(WAKES_EVERY);
                if late >= STANDSTILL {
                    stops.lock().expect("no stopwatch panics").push(late);
                }
                before = now;
            }
        });
        stopwatch
    }

    /// The standstills up to now. One that ends just now is seen a moment later: that moment is waited for.
    pub fn stops(&self) -> Vec<Duration> {
        thread::sleep(2 * WAKES_EVERY);
        self.stops.lock().expect("no stopwatch panics").clone()
    }

    /// For how long the machine ran since the start.
    pub fn ran(&self) -> Duration {
        let elapsed = self.started.elapsed();
        elapsed.saturating_sub(self.stops().iter().sum())
    }

    /// Asks until there is an answer.
    ///
    /// # Panics
    /// When there is none and the machine has run for `limit` since the start.
    #[track_caller]
    pub fn until<T>(&self, what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
        loop {
            let ran = self.ran();
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(ran < limit, "{what}: not within {limit:?}");
        }
    }

    /// What holds for the product on a machine that runs.
    ///
    /// # Errors
    /// [`Disturbed`] when it does not hold and the machine stood still.
    ///
    /// # Panics
    /// When it does not hold although the machine ran.
    #[track_caller]
    pub fn expect(&self, holds: bool, why: impl FnOnce() -> String) -> Result<(), Disturbed> {
        if holds {
            return Ok(());
        }
        let (stops, why) = (self.stops(), why());
        assert!(!stops.is_empty(), "{why}");
        Err(Disturbed(format!("the machine stood still for {stops:?}, and {why}")))
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// What a scene was to show does not hold, but the machine stood still meanwhile: it says nothing about the product.
#[derive(Debug)]
pub struct Disturbed(String);

/// Plays a scene until the machine runs through it, a few times at most.
///
/// # Panics
/// When none of them says anything.
#[track_caller]
pub fn undisturbed(mut scene: impl FnMut() -> Result<(), Disturbed>) {
    for _ in 0..SCENES {
        match scene() {
            Ok(()) => return,
            Err(Disturbed(why)) => eprintln!("once more, since {why}"),
        }
    }
    panic!("the machine stood still in each of {SCENES} scenes");
}
