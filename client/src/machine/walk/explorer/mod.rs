//! Every state that a walk over three nodes can reach, and what holds in all of them.
//!
//! Time is abstract: it passes only from one wish of the walk to the next, looks that show nothing left out (or a little
//! too late, so that a timer or the word that a hedge is ready comes after a stop; or by ten seconds of beats), and a
//! state's instants are held relative to now. What cannot matter any more is forgotten: the dice, the trace, evidence beyond
//! its order. The hedges' ration is spent or not; ten seconds of beats restore it. So the states are few enough to be counted.

mod abstraction;
mod world;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use waystation_proto::NodeId;

use self::world::{Act, Explorer, Nodes, RETRY_TIME, Step, World};
use super::{Rest, State};
use crate::config::Hedging;

/// What was reached.
#[derive(Debug, Default)]
struct Seen {
    states: usize,
    steps: usize,
    used: BTreeSet<NodeId>,
    endings: BTreeSet<String>,
    hedges_won: usize,
    hedges_lost: usize,
    /// States from which no session can be reached any more, though they are no end.
    dead_ends: usize,
    recovered_from_offline: bool,
}

fn explore(hedging: Hedging, nodes: Nodes, retry_time: Duration) -> Seen {
    const MOST_STATES: usize = 100_000;
    let explorer = Explorer { base: Instant::now() + Duration::from_secs(3_600), hedging, retry_time, nodes };
    let start = explorer.start();
    let mut seen = Seen::default();
    let mut numbers = HashMap::from([(start.clone(), 0)]);
    let mut worlds = vec![start];
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let mut came_by: Vec<(usize, Act)> = vec![(0, Act::Due)];
    while seen.states < worlds.len() {
        let number = seen.states;
        seen.states += 1;
        let world = worlds[number].clone();
        explorer.old_words_change_nothing(&world);
        if matches!(world.walk.state, State::Ended(_)) {
            continue;
        }
        for act in explorer.acts(&world) {
            let step =
                catch_unwind(AssertUnwindSafe(|| explorer.step(&world, &act))).unwrap_or_else(|panic| {
                    eprintln!("{:?}\n{act:?}", way_to(number, &came_by));
                    resume_unwind(panic)
                });
            seen.note(&world, &step);
            let next = *numbers.entry(step.world).or_insert_with_key(|world| {
                worlds.push(world.clone());
                came_by.push((number, act.clone()));
                before.push(Vec::new());
                worlds.len() - 1
            });
            before[next].push(number);
        }
        assert!(
            worlds.len() < MOST_STATES,
            "the states do not come to an end: {:?} {:?}",
            worlds.last(),
            way_to(worlds.len() - 1, &came_by)
        );
    }
    let attached = |world: &World| matches!(world.walk.state, State::Attached { .. });
    let to_attached = leading_to(&before, (0..worlds.len()).filter(|n| attached(&worlds[*n])));
    // A rest may have lost its sense: whom it waited for has left the list.
    let open = |world: &World| !matches!(world.walk.state, State::Ended(_) | State::Resting { .. });
    seen.dead_ends = (0..worlds.len()).filter(|n| open(&worlds[*n]) && !to_attached.contains(n)).count();
    let offline = |world: &World| matches!(world.walk.state, State::Resting { why: Rest::Offline, .. });
    seen.recovered_from_offline = (0..worlds.len()).any(|n| offline(&worlds[n]) && to_attached.contains(&n));
    seen
}

/// The shortest way to a state.
fn way_to(mut number: usize, came_by: &[(usize, Act)]) -> VecDeque<&Act> {
    let mut way = VecDeque::new();
    while number > 0 {
        way.push_front(&came_by[number].1);
        number = came_by[number].0;
    }
    way
}

/// The states from which one of the goals can be reached.
fn leading_to(before: &[Vec<usize>], goals: impl Iterator<Item = usize>) -> BTreeSet<usize> {
    let mut leading: BTreeSet<usize> = goals.collect();
    let mut open: Vec<usize> = leading.iter().copied().collect();
    while let Some(number) = open.pop() {
        open.extend(before[number].iter().filter(|n| leading.insert(**n)));
    }
    leading
}

impl Seen {
    fn note(&mut self, before: &World, step: &Step) {
        self.steps += 1;
        self.endings.extend(step.ended.map(|ending| format!("{ending:?}")));
        if let Some(node) = &step.used {
            self.used.insert(node.id.clone());
            self.hedges_won += usize::from(matches!(before.walk.state, State::Moving { .. }));
        }
        self.hedges_lost += usize::from(step.hedge_lost && step.ended.is_none());
    }
}

#[test]
fn every_state_that_three_nodes_allow_is_sound() {
    // PUB-2, PUB-3, PUB-4, PLAY-2, PLAY-3, GO-2
    let seen = explore(Hedging::On, Nodes::Leaving, RETRY_TIME);
    assert_eq!(seen.used.len(), 3, "each node is used");
    assert_eq!(seen.endings.len(), 4, "every ending is reached: {:?}", seen.endings);
    assert!(seen.hedges_won > 0 && seen.hedges_lost > 0, "{seen:?}");
    assert!(seen.recovered_from_offline, "all were down, and one is used again");
    assert_eq!(seen.dead_ends, 0, "from every open state a session can be reached");
    assert_eq!(
        (seen.states, seen.steps),
        (85_447, 929_404),
        "a change of these numbers is a change of the walk: look at it"
    );
}

#[test]
fn without_hedges_every_state_is_sound_too() {
    // GO-2
    let seen = explore(Hedging::Off, Nodes::Joining, RETRY_TIME);
    assert_eq!((seen.hedges_won, seen.hedges_lost, seen.dead_ends), (0, 0, 0));
    assert_eq!(
        (seen.states, seen.steps),
        (21_535, 180_114),
        "a change of these numbers is a change of the walk: look at it"
    );
}

#[test]
fn with_no_retries_every_state_is_sound_too() {
    // PUB-4, PLAY-4
    let seen = explore(Hedging::Off, Nodes::Joining, Duration::ZERO);
    assert!(!seen.recovered_from_offline, "offline is the end");
    assert_eq!(
        (seen.states, seen.steps),
        (1_802, 13_693),
        "a change of these numbers is a change of the walk: look at it"
    );
}
