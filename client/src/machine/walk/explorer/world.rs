//! One state of the world, what can happen next in it, and what must be so after each step.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use waystation_proto::{Health, Load, Node, NodeId, NodeRef};

use super::{
    super::{
        ATTEMPT_TIME, Ending, State, Walk, WalkInput, WalkOutput,
        attach::moving_due,
        session::{HEDGE_PAUSE, LATE, LOOK},
    },
    abstraction,
};
use crate::{
    config::Hedging,
    machine::{
        hedge::Shared,
        trial::{AttemptId, Failure, Outcome},
    },
};

pub(super) const RETRY_TIME: Duration = Duration::from_secs(300);

/// No attempt that is in a state's hands, or in its verdicts, has this id: it is long over.
pub(super) const OLD: AttemptId = AttemptId(1);

fn node(id: &str, incarnation: u64) -> Node {
    Node {
        node: NodeRef { id: NodeId::new(id).unwrap(), incarnation },
        http_url: String::new(),
        link_url: String::new(),
        media_addr: "127.0.0.1:7000".parse().unwrap(),
        region: String::new(),
        health: Health::Healthy,
        load: Load::default(),
    }
}

/// Who gives a sign of life.
#[derive(Clone, Debug)]
pub(super) enum Witness {
    Coordinator,
    Node(NodeId),
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    /// The time that the walk asked for has come.
    Due,
    /// It is over by more than a timer may be late, when the walk hears that.
    Late(WalkInput),
    /// The device slept until the retry clock had run out.
    ClockRunsOut,
    /// Ten seconds in which the node in use was heard all the time.
    TenSecondsOfBeats(AttemptId),
    Answer(Witness),
    Input(WalkInput),
}

/// What the explorer itself saw of the walk under way: an attempt that failed, and whether somebody else answered during it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fall {
    pub(super) since: Instant,
    pub(super) counts: bool,
}

/// One state of the world; `now` is the explorer's base in all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) walk: Walk,
    pub(super) shared: Shared,
    /// By node, since the last sign of life of a session in use.
    pub(super) falls: BTreeMap<NodeRef, Fall>,
}

/// What one step showed.
pub(super) struct Step {
    pub(super) world: World,
    pub(super) used: Option<NodeRef>,
    pub(super) ended: Option<Ending>,
    pub(super) hedge_lost: bool,
}

pub(super) struct Explorer {
    pub(super) base: Instant,
    pub(super) hedging: Hedging,
    pub(super) retry_time: Duration,
    pub(super) nodes: Nodes,
}

impl Explorer {
    pub(super) fn start(&self) -> World {
        let mut shared = Shared::new(0, self.hedging);
        shared.last_attempt = OLD;
        let mut world = World { walk: Walk::new(self.retry_time, self.base), shared, falls: BTreeMap::new() };
        abstraction::settle(&mut world, self.base, self.base);
        world
    }

    /// All that can happen next.
    pub(super) fn acts(&self, world: &World) -> Vec<Act> {
        let walk = &world.walk;
        let mut acts = vec![Act::Due, Act::Answer(Witness::Coordinator), Act::Input(WalkInput::Stop)];
        acts.extend(walk.clock.deadline().map(|_| Act::ClockRunsOut));
        let mut input = |input| acts.push(Act::Input(input));
        let (used, dialled) = walk.attempts();
        if let Some(attempt) = dialled {
            input(WalkInput::Ready(attempt));
            for failure in failures() {
                input(WalkInput::Failed(attempt, failure));
            }
        }
        if let Some(attempt) = used {
            input(WalkInput::Heard(attempt, self.base));
            input(WalkInput::Failed(attempt, Failure::Down));
            input(WalkInput::Failed(attempt, Failure::HigherClaim));
        }
        if let State::Attached { on } | State::Moving { from: on, .. } = &walk.state {
            input(WalkInput::Gone(on.session.node.clone()));
            input(WalkInput::Suspect(on.session.node.clone()));
        }
        for list in lists(walk, self.nodes) {
            input(WalkInput::Nodes(list));
        }
        match &walk.state {
            State::Dialing { at, .. } | State::Moving { to: at, .. } => {
                acts.push(Act::Input(WalkInput::Gone(at.node.clone())));
                acts.push(Act::Answer(Witness::Node(at.node.id.clone())));
            }
            State::Waiting
            | State::Attached { .. }
            | State::Judging
            | State::Resting { .. }
            | State::Ended(_) => {}
        }
        if matches!(walk.state, State::Attached { .. }) || !walk.roll.any_tried() {
            acts.push(Act::Late(WalkInput::Timeout));
            if let State::Moving { to, ready: None, .. } = &walk.state {
                acts.push(Act::Late(WalkInput::Ready(to.attempt)));
            }
        }
        if let State::Attached { on } = &walk.state
            && on.suspected.is_none()
        {
            acts.push(Act::TenSecondsOfBeats(on.session.attempt));
        }
        acts
    }

    /// Does it; checks what always holds; gives the next state.
    pub(super) fn step(&self, before: &World, act: &Act) -> Step {
        let mut world = before.clone();
        if matches!(act, Act::Due | Act::Late(WalkInput::Timeout)) {
            self.looks_show_nothing(&mut world);
        }
        let (input, now) = match act {
            Act::Due => (WalkInput::Timeout, self.due(&world)),
            Act::Late(input) => (input.clone(), self.due(&world) + LATE + Duration::from_millis(1)),
            Act::ClockRunsOut => (WalkInput::Timeout, world.walk.clock.deadline().unwrap()),
            Act::TenSecondsOfBeats(attempt) => {
                let now = self.base + HEDGE_PAUSE;
                (WalkInput::Heard(*attempt, now), now)
            }
            Act::Answer(witness) => {
                match witness {
                    Witness::Coordinator => world.shared.evidence.coordinator(self.base),
                    Witness::Node(id) => world.shared.evidence.node(id, self.base),
                }
                (WalkInput::NetworkAnswered, self.base)
            }
            Act::Input(input) => (input.clone(), self.base),
        };
        if let WalkInput::Heard(..) = &input
            && matches!(world.walk.state, State::Attached { .. })
        {
            world.falls.clear();
        }
        if let Act::Answer(witness) = act {
            answered(&mut world.falls, witness, self.base);
        }
        world.walk.handle(input, &mut world.shared, now);
        let mut step = Step { world, used: None, ended: None, hedge_lost: false };
        self.look(before, &mut step, now);
        if let (State::Moving { from, ready, .. }, Act::Late(_)) = (&before.walk.state, act)
            && ready.is_none_or(|ready| from.quiet_since <= ready)
        {
            assert_eq!(step.used, None, "a late timer is taken for silence");
        }
        abstraction::settle(&mut step.world, now, self.base);
        step
    }

    /// Beside a hedge time passes from look to look, until something is to be done.
    fn looks_show_nothing(&self, world: &mut World) {
        while let State::Moving { from, to, ready, looked_at } = &world.walk.state {
            let look = *looked_at + LOOK;
            if look >= moving_due(from, to, *ready) || look > self.due(world) {
                break;
            }
            let now = self.due(world);
            world.walk.handle(WalkInput::Timeout, &mut world.shared, now);
        }
    }

    fn due(&self, world: &World) -> Instant {
        world.walk.poll_timeout().expect("an open state has a deadline").max(self.base)
    }

    /// What comes out, and what must be so.
    fn look(&self, before: &World, step: &mut Step, now: Instant) {
        let world = &mut step.world;
        let (used, dialled) = before.walk.attempts();
        let mut live: BTreeSet<AttemptId> = used.into_iter().chain(dialled).collect();
        let mut last = before.shared.last_attempt;
        while let Some(output) = world.walk.poll_output() {
            assert_eq!(step.ended, None, "{output:?} follows the end");
            match output {
                WalkOutput::Dial(attempt, ..) => {
                    assert!(attempt > last, "attempt {attempt} is not fresh");
                    last = attempt;
                    live.insert(attempt);
                }
                WalkOutput::Use(attempt, node, _) => {
                    assert!(live.contains(&attempt), "{attempt} is used and is not up");
                    world.falls.clear();
                    step.used = Some(node);
                }
                WalkOutput::Hang(attempt) => assert!(live.remove(&attempt), "{attempt} is hung up twice"),
                WalkOutput::Tried(trial) => match trial.outcome {
                    Outcome::Failed(Failure::Unneeded) => step.hedge_lost = true,
                    Outcome::Failed(failure) => {
                        if failure.is_answer() {
                            answered(&mut world.falls, &Witness::Node(trial.node.id.clone()), now);
                        }
                        if Some(trial.attempt) != used {
                            let others = world.shared.evidence.since(&trial.node.id, trial.started);
                            let fall = Fall { since: trial.started, counts: failure.is_answer() || others };
                            world.falls.insert(trial.node, fall);
                        }
                    }
                    Outcome::Used | Outcome::Void(_) => {}
                },
                WalkOutput::Ended(ending) => step.ended = Some(ending),
                WalkOutput::Ask | WalkOutput::Interrupted => {}
            }
        }
        let (used, dialled) = world.walk.attempts();
        let held: BTreeSet<AttemptId> = used.into_iter().chain(dialled).collect();
        assert_eq!(live, held, "what is dialled and not hung up is in the walk's hands, and nothing else");
        match step.ended {
            Some(ending) => {
                assert!(live.is_empty());
                assert_eq!(world.walk.poll_timeout(), None);
                if ending == Ending::AllFailed {
                    every_node_was_tried(world);
                }
            }
            None => {
                assert!(world.walk.poll_timeout().is_some(), "an open state has a deadline");
                comes_to_rest(world, now);
            }
        }
        if step.hedge_lost {
            world.falls.clear();
        }
    }

    /// An answer to an attempt that is over changes nothing, nor does a word about a node that is not in use.
    pub(super) fn old_words_change_nothing(&self, world: &World) {
        let (used, dialled) = world.walk.attempts();
        let over = (1..=world.shared.last_attempt.0).map(AttemptId);
        let mut after = world.clone();
        for attempt in over.filter(|id| ![used, dialled].contains(&Some(*id))) {
            let mut inputs = vec![WalkInput::Ready(attempt), WalkInput::Heard(attempt, self.base)];
            inputs.extend(failures().into_iter().map(|failure| WalkInput::Failed(attempt, failure)));
            inputs.into_iter().for_each(|input| after.walk.handle(input, &mut after.shared, self.base));
        }
        let (in_use, tried) = match &world.walk.state {
            State::Attached { on } => (Some(&on.session.node), None),
            State::Moving { from, to, .. } => (Some(&from.session.node), Some(&to.node)),
            State::Dialing { at, .. } => (None, Some(&at.node)),
            State::Waiting | State::Judging | State::Resting { .. } | State::Ended(_) => (None, None),
        };
        let elsewhere = |node: &&Node| ![in_use, tried].contains(&Some(&node.node));
        for Node { node, .. } in world.walk.roll.nodes().iter().filter(elsewhere) {
            after.walk.handle(WalkInput::Gone(node.clone()), &mut after.shared, self.base);
            after.walk.handle(WalkInput::Suspect(node.clone()), &mut after.shared, self.base);
        }
        assert_eq!(after, *world, "an answer to an attempt that is over changed something");
    }
}

/// A refusal comes to the same as the first of these and the node's answer at once.
fn failures() -> [Failure; 3] {
    [Failure::Unreachable("connection refused".into()), Failure::NotHere, Failure::HigherClaim]
}

/// Which lists can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nodes {
    /// Three nodes; `c` may leave for good while a session is in use.
    Leaving,
    /// Two nodes; a third joins; `a` restarts.
    Joining,
}

fn lists(walk: &Walk, nodes: Nodes) -> Vec<Vec<Node>> {
    let life = |id: &str| walk.roll.nodes().iter().find(|node| node.node.id.as_str() == id);
    let two = |a| vec![node("a", a), node("b", 1)];
    let three = |a| vec![node("a", a), node("b", 1), node("c", 1)];
    match (nodes, life("a").map(|node| node.node.incarnation), life("c")) {
        (Nodes::Leaving, None, _) => vec![three(1)],
        (Nodes::Leaving, Some(a), Some(_)) if walk.attempts().0.is_some() => vec![two(a)],
        (Nodes::Leaving, Some(_), _) => Vec::new(),
        (Nodes::Joining, None, _) => vec![two(1)],
        (Nodes::Joining, Some(1), None) => vec![two(2), three(1)],
        (Nodes::Joining, Some(1), Some(_)) => vec![three(2)],
        (Nodes::Joining, Some(a), None) => vec![three(a)],
        (Nodes::Joining, Some(_), Some(_)) => Vec::new(),
    }
}

/// It does not ask for the same moment again and again.
fn comes_to_rest(world: &World, now: Instant) {
    const MOST_TIMEOUTS: usize = 4;
    let asks = |walk: &Walk| walk.poll_timeout().is_some_and(|due| due <= now);
    if asks(&world.walk) {
        let mut world = world.clone();
        for _ in 0..MOST_TIMEOUTS {
            world.walk.handle(WalkInput::Timeout, &mut world.shared, now);
        }
        assert!(!asks(&world.walk), "it does not let go of this moment: {:?}", world.walk.state);
    }
}

/// A sign of life makes others' failures count that began less than an attempt's time ago.
fn answered(falls: &mut BTreeMap<NodeRef, Fall>, witness: &Witness, now: Instant) {
    for (node, fall) in falls {
        let other = !matches!(witness, Witness::Node(id) if *id == node.id);
        fall.counts |= other && now <= fall.since + ATTEMPT_TIME;
    }
}

/// Before a final report, each node of the list has failed, and that counts; one that restarted since has failed twice.
fn every_node_was_tried(world: &World) {
    for node in world.walk.roll.nodes() {
        let fall = world.falls.get(&node.node);
        assert!(
            fall.is_some_and(|fall| fall.counts),
            "{} is reported as failed: {:?}",
            node.node,
            world.falls
        );
    }
}
