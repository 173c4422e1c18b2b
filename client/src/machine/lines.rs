//! The event connections: one per node in use, and what its loss says about the node (GO-2).
//!
//! Invariant: a line is open or being opened as long as an attempt or a session is at its node, and no longer. A node is gone only if
//! a second dial is refused, or answered by another life of it than the first.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use waystation_proto::{Node, NodeRef};

use super::{
    io::{EventsLoss, Output},
    trial::AttemptId,
};

/// From a dial in vain to the next.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Dialled for the first time.
    Opening,
    /// Up.
    Up,
    /// It was lost: dialled again to see whether the node is there.
    Probing,
    /// Not there; dialled again then.
    Down { until: Instant },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line {
    node: Node,
    attempts: BTreeSet<AttemptId>,
    state: State,
    /// Who was behind it when it was last up. The list may be older than the node's present life, and the sessions there
    /// are of that life, too: only another life after that one says that they are gone.
    life: Option<NodeRef>,
}

/// What a line says about its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Nothing.
    Nothing,
    /// It may be in trouble.
    Suspect,
    /// Its process is gone.
    Gone,
}

/// All lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Lines {
    lines: BTreeMap<NodeRef, Line>,
}

impl Lines {
    /// An attempt is at this node.
    pub(super) fn hold(&mut self, attempt: AttemptId, node: &Node, out: &mut VecDeque<Output>) {
        let line = self.lines.entry(node.node.clone()).or_insert_with(|| {
            out.push_back(Output::OpenEvents(node.clone()));
            Line { node: node.clone(), attempts: BTreeSet::new(), state: State::Opening, life: None }
        });
        line.attempts.insert(attempt);
    }

    /// It is not any more.
    pub(super) fn release(&mut self, attempt: AttemptId, node: &NodeRef, out: &mut VecDeque<Output>) {
        let Some(line) = self.lines.get_mut(node) else { return };
        line.attempts.remove(&attempt);
        if line.attempts.is_empty() {
            self.lines.remove(node);
            out.push_back(Output::CloseEvents(node.clone()));
        }
    }

    /// A line is up, and `life` is behind it.
    pub(super) fn up(&mut self, node: &NodeRef, life: &NodeRef) -> Word {
        let Some(line) = self.lines.get_mut(node) else { return Word::Nothing };
        line.state = State::Up;
        match line.life.replace(life.clone()) {
            Some(before) if before != *life => Word::Gone,
            Some(_) | None => Word::Nothing,
        }
    }

    /// A line is not there.
    pub(super) fn lost(
        &mut self,
        node: &NodeRef,
        loss: EventsLoss,
        out: &mut VecDeque<Output>,
        now: Instant,
    ) -> Word {
        let Some(line) = self.lines.get_mut(node) else { return Word::Nothing };
        match (&line.state, loss) {
            (State::Up, _) => {
                line.state = State::Probing;
                out.push_back(Output::OpenEvents(line.node.clone()));
                Word::Nothing
            }
            (State::Opening, _) => {
                line.state = State::Down { until: now + RETRY };
                Word::Nothing
            }
            (State::Probing | State::Down { .. }, loss) => {
                line.state = State::Down { until: now + RETRY };
                match loss {
                    EventsLoss::Refused => Word::Gone,
                    EventsLoss::NoAnswer | EventsLoss::Broken => Word::Suspect,
                }
            }
        }
    }

    /// Dials again where it is time to.
    pub(super) fn timeout(&mut self, out: &mut VecDeque<Output>, now: Instant) {
        for line in self.lines.values_mut() {
            if matches!(line.state, State::Down { until } if now >= until) {
                line.state = State::Probing;
                out.push_back(Output::OpenEvents(line.node.clone()));
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = |line: &Line| match line.state {
            State::Down { until } => Some(until),
            State::Opening | State::Up | State::Probing => None,
        };
        self.lines.values().filter_map(due).min()
    }
}
