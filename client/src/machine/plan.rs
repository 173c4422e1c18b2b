//! Plans: asking a coordinator for the order of the nodes and for a node token, and holding both.
//!
//! Invariant: at most one call is under way per stream, and what is held is never given up for a failed call: with no
//! coordinator in reach the stream walks on what it holds (GO-1).

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use waystation_proto::{Node, NodeId, StreamKey, meeting_order};

use super::{
    backoff::{Backoff, Dice},
    io::{CallFailure, Plan, RequestId},
};

/// A call that has no answer by then has none.
const CALL_TIME: Duration = Duration::from_secs(3);

/// Between calls that failed.
const FAILED: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5) };

/// While a walk goes on its plan is asked for again, for the list may have changed and the stream may have ended.
const WALKING: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(2) };

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Call {
    /// Nothing is wanted.
    None,
    /// Wanted from then on, when a coordinator is there to be asked.
    Due(Instant),
    /// Under way.
    Asked { request: RequestId, until: Instant },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Token {
    text: String,
    renew_at: Instant,
}

/// A stream's plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Planner {
    call: Call,
    token: Option<Token>,
    order: Vec<Node>,
    failures: u32,
}

impl Planner {
    pub(super) fn new(now: Instant) -> Self {
        Self { call: Call::Due(now), token: None, order: Vec::new(), failures: 0 }
    }

    /// A plan is wanted now.
    pub(super) fn want(&mut self, now: Instant) {
        self.failures = 0;
        match self.call {
            Call::None | Call::Due(_) => self.call = Call::Due(now),
            Call::Asked { .. } => {}
        }
    }

    /// While the walk goes on, a plan is wanted again after a while.
    pub(super) fn want_again(&mut self, dice: &mut Dice, now: Instant) {
        match self.call {
            Call::None => self.call = Call::Due(now + WALKING.wait(0, dice)),
            Call::Due(_) | Call::Asked { .. } => {}
        }
    }

    /// Nothing more is wanted than what is held.
    pub(super) fn content(&mut self) {
        match self.call {
            Call::Due(_) if self.token.is_some() => self.call = Call::None,
            Call::None | Call::Due(_) | Call::Asked { .. } => {}
        }
    }

    /// The token, if one is held.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.text.as_str())
    }

    /// The nodes, in order.
    pub(super) fn order(&self) -> &[Node] {
        &self.order
    }

    /// Whether a call is to be made now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        match self.call {
            Call::Due(at) => now >= at,
            Call::None | Call::Asked { .. } => false,
        }
    }

    /// The call is made.
    pub(super) fn asked(&mut self, request: RequestId, now: Instant) {
        self.call = Call::Asked { request, until: now + CALL_TIME };
    }

    /// Whether this request is the one under way.
    pub(super) fn awaits(&self, request: RequestId) -> bool {
        self.asked_for() == Some(request)
    }

    /// The call that is under way.
    pub(super) fn asked_for(&self) -> Option<RequestId> {
        match self.call {
            Call::Asked { request, .. } => Some(request),
            Call::None | Call::Due(_) => None,
        }
    }

    /// The call under way was answered. `listed` are all nodes known.
    pub(super) fn planned(&mut self, plan: Plan, listed: &[Node], key: &StreamKey, now: Instant) {
        self.call = Call::None;
        self.failures = 0;
        self.token = Some(Token { text: plan.node_token, renew_at: now + plan.token_valid / 2 });
        self.order = plan.nodes;
        self.append(listed, key);
    }

    /// The call under way failed.
    pub(super) fn failed(&mut self, failure: &CallFailure, dice: &mut Dice, now: Instant) {
        match failure {
            CallFailure::Refused(_) | CallFailure::NotConnected | CallFailure::Failed => {
                self.call = Call::Due(now + FAILED.wait(self.failures, dice));
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    /// The list of all nodes has changed. An empty one is a coordinator's that knows none yet: the last good one stays.
    pub(super) fn listed(&mut self, listed: &[Node], key: &StreamKey) {
        if listed.is_empty() {
            return;
        }
        let newest = |node: &Node| listed.iter().find(|other| other.node.id == node.node.id).cloned();
        self.order = self.order.iter().filter_map(newest).collect();
        self.append(listed, key);
    }

    /// Adds what the order lacks at its end: healthy nodes first, then as the stream's meeting order says.
    fn append(&mut self, listed: &[Node], key: &StreamKey) {
        let ordered: BTreeSet<&NodeId> = self.order.iter().map(|node| &node.node.id).collect();
        let mut more: Vec<&Node> = listed.iter().filter(|node| !ordered.contains(&node.node.id)).collect();
        let meeting = meeting_order(key, more.iter().map(|node| &node.node.id));
        let place = |node: &Node| meeting.iter().position(|id| **id == node.node.id);
        more.sort_by_key(|node| (node.health, place(node)));
        let more: Vec<Node> = more.into_iter().cloned().collect();
        self.order.extend(more);
    }

    /// Time has passed.
    pub(super) fn timeout(&mut self, dice: &mut Dice, now: Instant) {
        match self.call {
            Call::Asked { until, .. } if now >= until => self.failed(&CallFailure::Failed, dice, now),
            Call::None if self.token.as_ref().is_some_and(|token| now >= token.renew_at) => self.want(now),
            Call::None | Call::Due(_) | Call::Asked { .. } => {}
        }
    }

    /// When time matters next. `reachable`: whether a coordinator is there to be asked.
    pub(super) fn poll_timeout(&self, reachable: bool) -> Option<Instant> {
        match self.call {
            Call::Asked { until, .. } => Some(until),
            Call::Due(at) => reachable.then_some(at),
            Call::None => self.token.as_ref().map(|token| token.renew_at),
        }
    }
}
