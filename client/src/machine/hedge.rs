//! How often a client may hedge, and what its machines share besides: evidence that the network works, attempt ids, dice.
//!
//! Invariant: on evidence of silence or suspicion alone, one node in 10 s is hedged against.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use waystation_proto::{NodeId, NodeRef};

use super::{backoff::Dice, trial::AttemptId};
use crate::config::Hedging;

/// From one hedge to the next (GO-2).
const HEDGE_INTERVAL: Duration = Duration::from_secs(10);

/// Several streams on one silent node make one hedge.
const SAME_HEDGE: Duration = Duration::from_secs(1);

/// Nodes whose last answers are remembered.
const MAX_WITNESSES: usize = 1024;

/// The client's allowance of hedges.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hedges {
    hedging: Hedging,
    pub(super) last: Option<(Instant, NodeRef)>,
}

impl Hedges {
    /// None spent yet.
    #[must_use]
    pub fn new(hedging: Hedging) -> Self {
        Self { hedging, last: None }
    }

    /// Whether hedges are made at all.
    #[must_use]
    pub fn hedging(&self) -> Hedging {
        self.hedging
    }

    /// When a hedge against this node may be made; `None` is never.
    #[must_use]
    pub fn allowed_at(&self, node: &NodeRef, now: Instant) -> Option<Instant> {
        match (self.hedging, &self.last) {
            (Hedging::Off, _) => None,
            (Hedging::On, None) => Some(now),
            (Hedging::On, Some((at, last))) => {
                let same = last == node && now.saturating_duration_since(*at) < SAME_HEDGE;
                Some(if same { now } else { now.max(*at + HEDGE_INTERVAL) })
            }
        }
    }

    /// A hedge against this node is made.
    pub fn spend(&mut self, node: &NodeRef, now: Instant) {
        match &self.last {
            Some((at, last)) if last == node && now.saturating_duration_since(*at) < SAME_HEDGE => {}
            Some(_) | None => self.last = Some((now, node.clone())),
        }
    }
}

/// Who answered last: evidence that the network works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Evidence {
    pub(super) coordinator: Option<Instant>,
    pub(super) nodes: BTreeMap<NodeId, Instant>,
}

impl Evidence {
    /// A coordinator answered.
    pub fn coordinator(&mut self, now: Instant) {
        self.coordinator = Some(now);
    }

    /// A node answered.
    pub fn node(&mut self, node: &NodeId, at: Instant) {
        match self.nodes.get_mut(node) {
            Some(last) => *last = at.max(*last),
            None => {
                if self.nodes.len() == MAX_WITNESSES {
                    self.nodes.pop_first();
                }
                self.nodes.insert(node.clone(), at);
            }
        }
    }

    /// Whether a coordinator or another node answered since. What a coordinator said at that very time is what the
    /// attempt came of, and no sign of anybody during it.
    #[must_use]
    pub fn since(&self, except: &NodeId, since: Instant) -> bool {
        self.coordinator.is_some_and(|at| at > since)
            || self.nodes.iter().any(|(node, at)| node != except && *at >= since)
    }

    /// Whether anybody answered since.
    #[must_use]
    pub fn any_since(&self, since: Instant) -> bool {
        self.coordinator.iter().chain(self.nodes.values()).any(|at| *at >= since)
    }
}

/// What all machines of a client share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shared {
    /// All jitter.
    pub dice: Dice,
    /// The client's allowance.
    pub hedges: Hedges,
    /// Who answered.
    pub evidence: Evidence,
    pub(super) last_attempt: AttemptId,
}

impl Shared {
    /// Of a new client.
    #[must_use]
    pub fn new(seed: u64, hedging: Hedging) -> Self {
        Self {
            dice: Dice::new(seed),
            hedges: Hedges::new(hedging),
            evidence: Evidence::default(),
            last_attempt: AttemptId(0),
        }
    }

    /// An id that was never used.
    pub fn fresh_attempt(&mut self) -> AttemptId {
        self.last_attempt.0 += 1;
        self.last_attempt
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use waystation_proto::{NodeId, NodeRef};

    use super::{Evidence, Hedges};
    use crate::config::Hedging;

    fn node(id: &str) -> NodeRef {
        NodeRef { id: NodeId::new(id).unwrap(), incarnation: 1 }
    }

    #[test]
    fn one_node_in_ten_seconds_is_hedged_against_with_all_its_streams() {
        // GO-2
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut hedges = Hedges::new(Hedging::On);
        assert_eq!(hedges.allowed_at(&node("a"), at(0)), Some(at(0)));
        hedges.spend(&node("a"), at(0));
        assert_eq!(hedges.allowed_at(&node("a"), at(20)), Some(at(20)), "another stream on the same node");
        hedges.spend(&node("a"), at(20));
        assert_eq!(hedges.allowed_at(&node("b"), at(20)), Some(at(10_000)));
        assert_eq!(hedges.allowed_at(&node("a"), at(1_000)), Some(at(10_000)));
        assert_eq!(Hedges::new(Hedging::Off).allowed_at(&node("a"), at(0)), None);
    }

    #[test]
    fn a_nodes_own_answer_is_no_evidence_against_it() {
        // PUB-2
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (a, b) = (node("a").id, node("b").id);
        let mut evidence = Evidence::default();
        evidence.node(&a, at(50));
        assert!(!evidence.since(&a, at(0)));
        assert!(evidence.since(&b, at(0)));
        assert!(!evidence.since(&b, at(51)));
        evidence.coordinator(at(60));
        assert!(evidence.since(&a, at(59)));
        assert!(!evidence.since(&a, at(60)), "what it said before the attempt");
    }
}
