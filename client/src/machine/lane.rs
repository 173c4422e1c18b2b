//! What a publisher and a player have in common: a walk, its plan, and what becomes of the walk's wishes.
//!
//! Invariant: a lane dials only with a node token in hand; without one its walk is given no list.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use waystation_proto::{ErrorCode, Node, NodeRef, StreamKey, token::Action};

use super::{
    event::{AttemptEvent, Event},
    hedge::Shared,
    io::{CallFailure, Output, Plan, RequestId, SessionProof},
    plan::Planner,
    trial::{AttemptId, Failure, Trial, millis},
    walk::{Standing, Walk, WalkInput, WalkOutput},
};

/// A coordinator to be asked, and in whose name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Desk {
    pub(super) url: String,
    pub(super) session: SessionProof,
}

/// What a machine works with during one input.
pub(super) struct Context<'a> {
    pub(super) shared: &'a mut Shared,
    pub(super) out: &'a mut VecDeque<Output>,
    pub(super) last_request: &'a mut RequestId,
    /// Counts the wishes for a sign of a coordinator.
    pub(super) signs_wanted: &'a mut u32,
    /// Where the room's calls go; `None` while it is not connected.
    pub(super) desk: Option<Desk>,
    /// Every node known.
    pub(super) nodes: &'a [Node],
    pub(super) now: Instant,
}

/// The session in use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Used {
    pub(super) attempt: AttemptId,
    pub(super) node: NodeRef,
}

/// A stream's walk and plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) key: StreamKey,
    pub(super) action: Action,
    pub(super) walk: Walk,
    pub(super) planner: Planner,
    pub(super) used: Option<Used>,
    /// Trials that no coordinator was told of yet, newest last.
    unreported: VecDeque<Trial>,
}

/// Trials kept for a report.
const MAX_UNREPORTED: usize = 128;

impl Lane {
    pub(super) fn new(key: StreamKey, action: Action, walk: Walk, now: Instant) -> Self {
        let planner = Planner::new(now);
        Self { key, action, walk, planner, used: None, unreported: VecDeque::new() }
    }

    /// Lets the walk act, then does what concerns both kinds; the rest is the caller's.
    pub(super) fn walk(&mut self, input: WalkInput, cx: &mut Context<'_>) -> Vec<WalkOutput> {
        self.walk.handle(input, cx.shared, cx.now);
        let mut rest = Vec::new();
        while let Some(output) = self.walk.poll_output() {
            match output {
                WalkOutput::Tried(trial) => self.tried(trial, cx),
                WalkOutput::Hang(attempt) => {
                    cx.out.push_back(Output::Hang(attempt));
                    rest.push(WalkOutput::Hang(attempt));
                }
                WalkOutput::Ask => {
                    if self.used.is_none() {
                        self.planner.want_again(&mut cx.shared.dice, cx.now);
                    }
                    *cx.signs_wanted += 1;
                }
                other @ (WalkOutput::Dial(..)
                | WalkOutput::Use(..)
                | WalkOutput::Interrupted
                | WalkOutput::Ended(_)) => rest.push(other),
            }
        }
        rest
    }

    fn tried(&mut self, trial: Trial, cx: &mut Context<'_>) {
        cx.out.push_back(Output::Emit(Event::Attempt(AttemptEvent {
            key: self.key.clone(),
            node: trial.node.clone(),
            outcome: trial.outcome.clone(),
            took: trial.took,
        })));
        if self.unreported.len() == MAX_UNREPORTED {
            self.unreported.pop_front();
        }
        self.unreported.push_back(trial);
    }

    /// Dials for the walk.
    pub(super) fn dial(&self, attempt: AttemptId, node: Node, moved: Option<u32>, cx: &mut Context<'_>) {
        let node_token = self.planner.token().unwrap_or_default().to_owned();
        let (key, action) = (self.key.clone(), self.action);
        cx.out.push_back(Output::Dial { attempt, key, action, node, node_token, moved });
    }

    /// The session is used from now on.
    pub(super) fn take_up(&mut self, attempt: AttemptId, node: NodeRef, cx: &mut Context<'_>) {
        self.used = Some(Used { attempt, node });
        self.planner.content();
        cx.out.push_back(Output::Use { attempt, key: self.key.clone(), action: self.action });
        self.report(cx);
    }

    /// The session in use is lost.
    pub(super) fn interrupted(&mut self, now: Instant) {
        self.used = None;
        self.planner.want(now);
    }

    /// Tells a coordinator what was tried.
    pub(super) fn report(&mut self, cx: &mut Context<'_>) {
        if let Some(Desk { url, session }) = cx.desk.clone()
            && !self.unreported.is_empty()
        {
            let trials = std::mem::take(&mut self.unreported).into();
            cx.out.push_back(Output::Report { url, session, stream: self.key.stream.clone(), trials });
        }
    }

    /// The list of all nodes has changed: gives what the walk is to hear.
    pub(super) fn listed(&mut self, cx: &Context<'_>) -> Option<WalkInput> {
        self.planner.listed(cx.nodes, &self.key);
        self.list()
    }

    /// The list for the walk, once there is a token to dial with.
    pub(super) fn list(&self) -> Option<WalkInput> {
        self.planner.token().is_some().then(|| WalkInput::Nodes(self.planner.order().to_vec()))
    }

    /// A plan was answered: gives what the walk is to hear, or the final word.
    pub(super) fn planned(
        &mut self,
        result: Result<Plan, CallFailure>,
        cx: &mut Context<'_>,
    ) -> Result<Option<WalkInput>, ErrorCode> {
        match result {
            Ok(plan) => {
                self.planner.planned(plan, cx.nodes, &self.key, cx.now);
                Ok(self.list())
            }
            Err(CallFailure::Refused(code)) if ends(self.action, code) => Err(code),
            Err(failure) => {
                self.planner.failed(&failure, &mut cx.shared.dice, cx.now);
                Ok(None)
            }
        }
    }

    /// Makes the plan's call if it is due and can be made.
    pub(super) fn ask(&mut self, cx: &mut Context<'_>) {
        if let Some(Desk { url, session }) = cx.desk.clone()
            && self.planner.is_due(cx.now)
        {
            cx.last_request.0 += 1;
            let request = *cx.last_request;
            self.planner.asked(request, cx.now);
            let (action, stream) = (self.action, self.key.stream.clone());
            let failed = self.walk.failed_nodes();
            cx.out.push_back(Output::Plan { request, url, action, session, stream, failed });
        }
    }

    pub(super) fn poll_timeout(&self, reachable: bool) -> Option<Instant> {
        [self.walk.poll_timeout(), self.planner.poll_timeout(reachable)].into_iter().flatten().min()
    }

    /// A node refused the token: a fresh one may be taken.
    pub(super) fn failing(&mut self, failure: &Failure, now: Instant) {
        if matches!(failure, Failure::TokenRefused(_) | Failure::LoginEnded(_)) {
            self.planner.want(now);
        }
    }

    /// Extended data of a state.
    pub(super) fn extended(&self, idle: bool) -> Value {
        let attempt = self.used.as_ref().map(|used| used.attempt.0);
        let node = self.used.as_ref().map(|used| used.node.id.as_str());
        json!({ "attempt": attempt, "node": node, "idle": idle, "trace": self.walk.trace().json() })
    }

    /// The same, of a final failure after which another try may be made: by the app, after 3 to 5 s (PUB-3).
    pub(super) fn extended_final(&self, shared: &mut Shared) -> Value {
        let wait = shared.dice.between(Duration::from_secs(3), Duration::from_secs(5));
        json!({ "trace": self.walk.trace().json(), "retry_after_ms": millis(wait) })
    }
}

/// Whether the code is a final word for a plan (PUB-5, PLAY-5).
fn ends(action: Action, code: ErrorCode) -> bool {
    match action {
        Action::Publish => {
            matches!(code, ErrorCode::StreamTaken | ErrorCode::PublishForbidden | ErrorCode::TokenRefused)
        }
        Action::Play => {
            matches!(code, ErrorCode::NoSuchStream | ErrorCode::PlayForbidden | ErrorCode::TokenRefused)
        }
    }
}

/// Whether a dial is to be the active one at once.
pub(super) fn is_active(standing: Standing) -> bool {
    match standing {
        Standing::Active => true,
        Standing::Standby => false,
    }
}
