//! The roll of nodes: in which order they are tried, and what this walk knows of each.
//!
//! Invariant: a node whose failure counts is not a candidate again in this walk, except that a later life of it is, once.

use std::{collections::BTreeMap, time::Instant};

use waystation_proto::{Node, NodeId, NodeRef};

use super::{
    super::{hedge::Evidence, trial::AttemptId},
    session::LATE,
};

/// Nodes that a walk holds.
const MAX_NODES: usize = 1024;

/// Lives of one node that a walk tries: one that restarted since gets one more (PUB-2).
const MAX_LIVES: u8 = 2;

/// What a walk knows of a node that it tried.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Verdict {
    /// It failed. Whether that counts is open: so far nobody else answered since `since`, and somebody may until `until`.
    Open { attempt: AttemptId, since: Instant, until: Instant },
    /// It failed, and that counts.
    Failed,
    /// It failed while nobody answered: it is still to be tried.
    Void,
    /// It answers, but does not have the stream now, or does not know the login any more.
    NotHere,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tried {
    pub(super) incarnation: u64,
    pub(super) lives: u8,
    pub(super) verdict: Verdict,
}

/// What the verdicts of all nodes amount to, when no candidate is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    /// There is no list, and no word that there is no node.
    NoList,
    /// A verdict is open.
    Open,
    /// Some failures are void.
    Void,
    /// Somebody answers that it may be there soon: the stream, or the login's successor.
    NotHere,
    /// All failed, and it counts.
    AllFailed,
}

/// The nodes, and the verdicts on them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Roll {
    /// `None` until a list has come.
    pub(super) nodes: Option<Vec<Node>>,
    pub(super) tried: BTreeMap<NodeId, Tried>,
}

impl Roll {
    /// Takes a list, in the order in which its nodes are to be tried.
    pub(super) fn set(&mut self, mut nodes: Vec<Node>) {
        nodes.truncate(MAX_NODES);
        if self.tried.len() > MAX_NODES {
            self.tried.retain(|id, _| nodes.iter().any(|node| node.node.id == *id));
        }
        self.nodes = Some(nodes);
    }

    pub(super) fn nodes(&self) -> &[Node] {
        self.nodes.as_deref().unwrap_or_default()
    }

    /// The node goes to the end of the order.
    pub(super) fn demote(&mut self, id: &NodeId) {
        if let Some(nodes) = &mut self.nodes
            && let Some(place) = nodes.iter().position(|node| node.node.id == *id)
        {
            let node = nodes.remove(place);
            nodes.push(node);
        }
    }

    /// The next node to be tried, other than `except`.
    pub(super) fn candidate(&self, except: Option<&NodeId>) -> Option<&Node> {
        let untried = |node: &&Node| match self.tried.get(&node.node.id) {
            None => true,
            Some(tried) => node.node.incarnation > tried.incarnation && tried.lives < MAX_LIVES,
        };
        self.nodes().iter().filter(|node| Some(&node.node.id) != except).find(untried)
    }

    /// An attempt at the node has ended.
    pub(super) fn tried(&mut self, node: &NodeRef, verdict: Verdict) {
        let before = self.tried.get(&node.id);
        let lives = match before {
            Some(tried) if node.incarnation > tried.incarnation => tried.lives.saturating_add(1),
            Some(tried) => tried.lives,
            None => 1,
        };
        self.tried.insert(node.id.clone(), Tried { incarnation: node.incarnation, lives, verdict });
    }

    /// Closes the open verdicts that can be closed. Gives the attempts that turned out to be void.
    pub(super) fn weigh(&mut self, evidence: &Evidence, now: Instant) -> Vec<AttemptId> {
        let mut void = Vec::new();
        for (id, tried) in &mut self.tried {
            if let Verdict::Open { attempt, since, until } = tried.verdict {
                // If we slept, whoever answers now does not tell what was so then.
                if now <= until + LATE && evidence.since(id, since) {
                    tried.verdict = Verdict::Failed;
                } else if now >= until {
                    tried.verdict = Verdict::Void;
                    void.push(attempt);
                }
            }
        }
        void
    }

    /// When the first open verdict must be closed.
    pub(super) fn due(&self) -> Option<Instant> {
        let open = |tried: &Tried| match tried.verdict {
            Verdict::Open { until, .. } => Some(until),
            Verdict::Failed | Verdict::Void | Verdict::NotHere => None,
        };
        self.tried.values().filter_map(open).min()
    }

    /// What the verdicts amount to, if there is no candidate.
    pub(super) fn sum(&self) -> Sum {
        if self.nodes.is_none() {
            return Sum::NoList;
        }
        // Nothing is to be hoped for from nodes that left the list.
        let verdicts = || {
            let listed = |id: &NodeId| self.nodes().iter().any(|node| node.node.id == *id);
            self.tried.iter().filter(move |(id, _)| listed(id)).map(|(_, tried)| &tried.verdict)
        };
        if verdicts().any(|verdict| matches!(verdict, Verdict::Open { .. })) {
            return Sum::Open;
        }
        let any = |wanted: Verdict| verdicts().any(|verdict| *verdict == wanted);
        match (any(Verdict::Void), any(Verdict::NotHere)) {
            (true, _) => Sum::Void,
            (false, true) => Sum::NotHere,
            (false, false) => Sum::AllFailed,
        }
    }

    /// A new round of the same walk: who was void or without the stream is to be tried again.
    pub(super) fn next_round(&mut self) {
        self.tried.retain(|_, tried| match tried.verdict {
            Verdict::Open { .. } | Verdict::Failed => true,
            Verdict::Void | Verdict::NotHere => false,
        });
    }

    /// A new walk.
    pub(super) fn forget(&mut self) {
        self.tried.clear();
    }

    pub(super) fn any_tried(&self) -> bool {
        !self.tried.is_empty()
    }

    /// The nodes that failed in this walk, for a plan.
    pub(super) fn failed(&self) -> Vec<NodeRef> {
        let failed = |(id, tried): (&NodeId, &Tried)| match tried.verdict {
            Verdict::Failed | Verdict::Open { .. } => {
                Some(NodeRef { id: id.clone(), incarnation: tried.incarnation })
            }
            Verdict::Void | Verdict::NotHere => None,
        };
        self.tried.iter().filter_map(failed).collect()
    }
}
