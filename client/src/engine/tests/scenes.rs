//! Scenes in real time, on a machine that may stand still: one that it spoilt is played again.

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
