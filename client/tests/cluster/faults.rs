//! What goes wrong, drawn from a seed: deaths, restarts, freezes, outages; and that all is well again at the end.

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// When the last fault is over.
pub const FAULTS_END_MS: u64 = 40_000;

/// One change of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The node's process dies; its address refuses.
    Kill(usize),
    /// A new life of the node, if it is dead.
    Start(usize),
    /// The node stands still.
    Freeze(usize),
    /// It goes on, if it stood still.
    Thaw(usize),
    /// The coordinator dies.
    KillCoordinator(usize),
    /// It is back.
    StartCoordinator(usize),
    /// Nothing comes through to the client or from it.
    Offline,
    /// It does again.
    Online,
    /// The played stream is at no node.
    StreamGone,
    /// It is at every node again.
    StreamBack,
}

/// A fault, and what ends it.
fn pair(rng: &mut StdRng, nodes: usize, coordinators: usize) -> (Fault, Fault) {
    let node = rng.random_range(0..nodes);
    let coordinator = rng.random_range(0..coordinators);
    match rng.random_range(0..10) {
        0..4 => (Fault::Kill(node), Fault::Start(node)),
        4..6 => (Fault::Freeze(node), Fault::Thaw(node)),
        6..8 => (Fault::KillCoordinator(coordinator), Fault::StartCoordinator(coordinator)),
        8 => (Fault::Offline, Fault::Online),
        _ => (Fault::StreamGone, Fault::StreamBack),
    }
}

/// A seed's faults, with their times in milliseconds. From [`FAULTS_END_MS`] on nothing is wrong any more.
pub fn script(seed: u64, nodes: usize, coordinators: usize) -> Vec<(u64, Fault)> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut script = Vec::new();
    for _ in 0..rng.random_range(1..12) {
        let start = rng.random_range(0..FAULTS_END_MS - 100);
        let lasts = match rng.random_range(0..3) {
            0 => rng.random_range(20..1_000),
            1 => rng.random_range(1_000..6_000),
            _ => rng.random_range(6_000..FAULTS_END_MS),
        };
        let (fault, end) = pair(&mut rng, nodes, coordinators);
        script.push((start, fault));
        script.push(((start + lasts).min(FAULTS_END_MS), end));
    }
    let all = (0..nodes).flat_map(|node| [Fault::Start(node), Fault::Thaw(node)]);
    let more = (0..coordinators).map(Fault::StartCoordinator).chain([Fault::Online, Fault::StreamBack]);
    script.extend(all.chain(more).map(|end| (FAULTS_END_MS, end)));
    script.sort_by_key(|(at, _)| *at);
    script
}
