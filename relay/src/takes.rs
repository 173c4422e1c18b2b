//! Tests in real time, on a machine that may stand still: a scene that failed while it did is played again, a bounded
//! number of times. Beats are missed then, and what misses them is right to give up.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::time::sleep;

/// How often a scene is played, at most.
const TAKES: usize = 10;
/// Beats are this far apart, and more than one may be missed: a shorter pause ends nothing.
const NOTICED: Duration = Duration::from_millis(200);
/// How often the pauses are looked for.
const TICK: Duration = Duration::from_millis(10);

/// Plays a scene of one thread until it does not fail, or fails although the thread was never held up for long.
pub(crate) async fn play(scene: impl AsyncFn()) {
    for _ in 0..TAKES {
        let longest_ms = Arc::new(AtomicU64::new(0));
        let watch = tokio::spawn(watch(Arc::clone(&longest_ms)));
        let outcome = AssertUnwindSafe(scene()).catch_unwind().await;
        // A pause that is just over is seen, too.
        sleep(TICK * 2).await;
        watch.abort();
        let longest = Duration::from_millis(longest_ms.load(Ordering::Relaxed));
        match outcome {
            Ok(()) => return,
            Err(panic) if longest < NOTICED => resume_unwind(panic),
            Err(_) => eprintln!("held up for {longest:?}: once more"),
        }
    }
    panic!("the machine stood still in each of {TAKES} takes");
}

async fn watch(longest_ms: Arc<AtomicU64>) {
    loop {
        let before = Instant::now();
        sleep(TICK).await;
        let pause = before.elapsed().as_millis() as u64;
        longest_ms.fetch_max(pause, Ordering::Relaxed);
    }
}
