//! Scenes in real time, on a machine that may stand still: one that it spoilt is played again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Scenes that may be spoilt.
const SCENES: usize = 10;

/// What came of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// What was to be shown.
    Proven,
    /// The machine stood still, and nothing can be said.
    Spoilt,
}

/// Plays the scene until it says something.
pub async fn play_out(scene: impl AsyncFn() -> Scene) {
    for _ in 0..SCENES {
        match scene().await {
            Scene::Proven => return,
            Scene::Spoilt => {}
        }
    }
    panic!("the machine stood still in each of {SCENES} scenes");
}

/// Notes how long this process was not let run.
pub struct Pulse {
    stood_ms: Arc<AtomicU64>,
}

impl Pulse {
    pub fn start() -> Self {
        const BEAT: Duration = Duration::from_millis(10);
        let stood_ms = Arc::<AtomicU64>::default();
        let weak = Arc::downgrade(&stood_ms);
        std::thread::spawn(move || {
            let mut before = Instant::now();
            while let Some(stood_ms) = weak.upgrade() {
                std::thread::sleep(BEAT);
                let late = before.elapsed().saturating_sub(5 * BEAT);
                stood_ms.fetch_add(u64::try_from(late.as_millis()).unwrap(), Ordering::Relaxed);
                before = Instant::now();
            }
        });
        Self { stood_ms }
    }

    pub fn stood(&self) -> bool {
        self.stood_ms.load(Ordering::Relaxed) > 0
    }
}
