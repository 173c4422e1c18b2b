//! The client's machines against a simulated cluster, under simulated time: hundreds of seeds, each with its own faults.
//!
//! A failure prints its seed and what the app saw; `SEED=n` plays one seed.

mod faults;
mod watch;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use faults::{FAULTS_END_MS, Fault, script};
use watch::Stands;
use world::{World, key};

const AV_RETRY_TIME: Duration = Duration::from_secs(300);

/// After the last fault, until everything works again.
const RECOVERY_MS: u64 = 10_000;

/// How long it then goes on working without a word.
const CALM_MS: u64 = 10_000;

/// Runs it; a panic is preceded by what the app saw.
fn told(seed: u64, world: &mut World, run: impl FnOnce(&mut World)) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(world))) {
        eprintln!("seed {seed}\n{}", world.watch.log.join("\n"));
        resume_unwind(panic);
    }
}

#[test]
fn after_the_faults_everything_works_again() {
    // PUB-2, PUB-3, PUB-4, PLAY-2, PLAY-3, PLAY-4, PLAY-6, GO-1, GO-2
    const SEEDS: u64 = 300;
    let only = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
    let (mut interruptions, mut finals, mut hedges_lost) = (0, 0, 0);
    for seed in only.map_or(0..SEEDS, |seed: u64| seed..seed + 1) {
        let nodes = 2 + usize::try_from(seed % 4).unwrap();
        let coordinators = 1 + usize::try_from(seed % 3).unwrap();
        let mut world = World::new(seed, nodes, coordinators, AV_RETRY_TIME, true);
        let faults = script(seed, nodes, coordinators);
        told(seed, &mut world, |world| {
            world.watch.log.extend(faults.iter().map(|(at, fault)| format!("{at} {fault:?}")));
            world.script(faults);
            world.start();
            world.run_until(FAULTS_END_MS + RECOVERY_MS);
            assert!(world.watch.works(&key("cam")), "the publisher does not work");
            assert!(world.watch.works(&key("mic")), "the player does not work");
            let before = world.watch.interruptions;
            world.run_until(FAULTS_END_MS + RECOVERY_MS + CALM_MS);
            assert_eq!(world.watch.interruptions, before, "no fault, and an interruption");
            assert!(world.watch.works(&key("cam")) && world.watch.works(&key("mic")));
        });
        interruptions += world.watch.interruptions;
        finals += world.watch.finals;
        hedges_lost += world.watch.hedges_lost;
    }
    if only.is_none() {
        assert!(
            interruptions > 100 && finals > 5 && hedges_lost > 5,
            "{interruptions} {finals} {hedges_lost}"
        );
    }
}

fn ended(world: &World, stream: &str) -> Option<(u32, u64)> {
    match world.watch.streams.get(&key(stream))? {
        Stands::Ended { code, at_ms } => Some((*code, *at_ms)),
        Stands::Requesting { .. } | Stands::Working { .. } => None,
    }
}

#[test]
fn with_every_node_dead_and_a_coordinator_alive_it_ends_once_every_node_was_tried() {
    // PUB-3, PLAY-3
    for seed in 0..50 {
        let mut world = World::new(seed, 3, 1, AV_RETRY_TIME, false);
        told(seed, &mut world, |world| {
            world.script((0..3).map(|node| (5_000, Fault::Kill(node))).collect());
            world.start();
            world.run_until(4_999);
            assert!(world.watch.works(&key("cam")) && world.watch.works(&key("mic")));
            world.run_until(25_000);
            for (stream, code) in [("cam", 1_003_001), ("mic", 1_004_001)] {
                let (ended_with, at_ms) = ended(world, stream).expect("it has ended");
                assert_eq!(ended_with, code);
                assert!(at_ms < 12_000, "{stream} took until {at_ms} ms");
                assert_eq!(world.watch.tried_since(&key(stream), 5_000), 3, "{stream}: every node");
            }
        });
    }
}

#[test]
fn with_nothing_answering_it_gives_up_when_the_time_is_up() {
    // PUB-4, PLAY-4
    for seed in 0..50 {
        let mut world = World::new(seed, 3, 2, Duration::from_secs(60), false);
        told(seed, &mut world, |world| {
            world.script(vec![(15_000, Fault::Offline)]);
            world.start();
            world.run_until(200_000);
            for (stream, code) in [("cam", 1_003_021), ("mic", 1_004_021)] {
                let (ended_with, at_ms) = ended(world, stream).expect("it has ended");
                assert_eq!(ended_with, code);
                assert!((75_000..79_000).contains(&at_ms), "{stream} gave up at {at_ms} ms");
            }
        });
    }
}

#[test]
fn with_every_coordinator_dead_nodes_are_walked_as_ever() {
    // GO-1
    for seed in 0..50 {
        let mut world = World::new(seed, 3, 2, AV_RETRY_TIME, false);
        told(seed, &mut world, |world| {
            let coordinators = [(2_000, Fault::KillCoordinator(0)), (2_000, Fault::KillCoordinator(1))];
            let nodes = [(20_000, Fault::Kill(0)), (40_000, Fault::Kill(1))];
            world.script(coordinators.into_iter().chain(nodes).collect());
            world.start();
            for end_ms in [23_000, 43_000, 400_000] {
                world.run_until(end_ms);
                assert!(world.watch.works(&key("cam")), "the publisher at {end_ms} ms");
                assert!(world.watch.works(&key("mic")), "the player at {end_ms} ms");
            }
        });
    }
}

#[test]
fn a_node_that_restarted_while_no_coordinator_lived_is_as_good_as_any() {
    // GO-1
    for seed in 0..50 {
        let mut world = World::new(seed, 2, 1, AV_RETRY_TIME, false);
        told(seed, &mut world, |world| {
            let restart = [(5_000, Fault::Kill(1)), (8_000, Fault::Start(1))];
            let deaths = [(2_000, Fault::KillCoordinator(0)), (20_000, Fault::Kill(0))];
            world.script(deaths.into_iter().chain(restart).collect());
            world.start();
            world.run_until(24_000);
            let before = world.watch.interruptions;
            assert!(world.watch.works(&key("cam")) && world.watch.works(&key("mic")));
            world.run_until(60_000);
            assert!(world.watch.works(&key("cam")) && world.watch.works(&key("mic")));
            assert_eq!(world.watch.interruptions, before, "it goes on working there");
        });
    }
}

#[test]
fn a_stream_that_is_nowhere_is_looked_for_until_it_is_back() {
    // PLAY-3
    for seed in 0..50 {
        let mut world = World::new(seed, 3, 1, AV_RETRY_TIME, false);
        told(seed, &mut world, |world| {
            let dead = (10_000, Fault::KillCoordinator(0));
            world.script(vec![(0, Fault::StreamGone), dead, (60_000, Fault::StreamBack)]);
            world.start();
            world.run_until(59_999);
            assert!(!world.watch.works(&key("mic")) && ended(world, "mic").is_none(), "it goes on looking");
            world.run_until(64_000);
            assert!(world.watch.works(&key("mic")), "it is back");
        });
    }
}
