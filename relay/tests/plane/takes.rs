//! Scenes that say nothing if the machine took too long: they are played again, a bounded number of times.
//!
//! A worker that stood still for a second throws away what waits, and is right to. A fault of the relay is no stand-still,
//! so that none is hidden.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, set_global_recorder,
};

/// How often a scene is played, at most.
const TAKES: usize = 10;

/// What a scene came to, unless it failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// It shows what it is to show.
    Good,
    /// What it shows holds within a bound in time only, and it took longer.
    TooSlow,
}

/// Plays a scene in which nothing depends on time, as long as no worker stands still.
pub fn play(scene: impl Fn()) {
    play_in_time(|| {
        scene();
        Take::Good
    });
}

/// Plays a scene until the machine was quick enough for it.
pub fn play_in_time(scene: impl Fn() -> Take) {
    for _ in 0..TAKES {
        let before = standstills();
        match catch_unwind(AssertUnwindSafe(&scene)) {
            Ok(Take::Good) => return,
            Ok(Take::TooSlow) => eprintln!("the machine took too long: once more"),
            Err(panic) if standstills() == before => resume_unwind(panic),
            Err(_) => eprintln!("a worker stood still: once more"),
        }
    }
    panic!("the machine took too long in each of {TAKES} takes");
}

/// Stand-stills of workers so far: what the relay's own metric says.
fn standstills() -> u64 {
    static COUNT: LazyLock<Arc<AtomicU64>> = LazyLock::new(|| {
        let count = Arc::new(AtomicU64::new(0));
        set_global_recorder(Listener(Arc::clone(&count))).expect("nobody else listens to the metrics");
        count
    });
    COUNT.load(Ordering::Acquire)
}

struct Listener(Arc<AtomicU64>);

impl Recorder for Listener {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            "waystation_relay_standstills_total" => Counter::from_arc(Arc::clone(&self.0)),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
