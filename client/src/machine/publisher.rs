//! A publisher: three states over a walk, and the claim under which its sessions become active.
//!
//! Invariant: no move of an epoch is given twice, and it only rises: the newest session always wins at the nodes (PUB-11).

use std::time::{Duration, Instant};

use waystation_proto::{Claim, ErrorCode, Node, NodeRef, StreamKey, token::Action};

use super::{
    event::{Event, PublisherState, PublisherStateUpdate},
    io::{CallFailure, HeldClaim, Output, Phase, Plan, RequestId},
    lane::{Context, Lane, is_active},
    trial::{AttemptId, Failure},
    walk::{Ending, Standing, Walk, WalkInput, WalkOutput},
};

/// A node that does not confirm an activation by then has lost it.
const ACTIVATION_TIME: Duration = Duration::from_secs(2);

/// An activation that was sent and not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Activation {
    attempt: AttemptId,
    node: NodeRef,
    claim: Claim,
    until: Instant,
}

/// One published stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Publisher {
    lane: Lane,
    state: PublisherState,
    claim: Option<Claim>,
    activation: Option<Activation>,
    idle: bool,
}

impl Publisher {
    pub(super) fn start(key: StreamKey, retry_time: Duration, cx: &mut Context<'_>) -> Self {
        let walk = Walk::new(retry_time, cx.now);
        let mut publisher = Self {
            lane: Lane::new(key, Action::Publish, walk, cx.now),
            state: PublisherState::PublishRequesting,
            claim: None,
            activation: None,
            idle: false,
        };
        publisher.emit(0, cx);
        publisher.lane.ask(cx);
        publisher
    }

    /// Whether it has ended.
    pub(super) fn ended(&self) -> bool {
        self.state == PublisherState::NoPublish
    }

    /// What a coordinator that lost its store is told.
    pub(super) fn held(&self) -> Option<HeldClaim> {
        let (claim, token) = (self.claim?, self.lane.planner.token()?);
        Some(HeldClaim { stream: self.lane.key.stream.clone(), claim, node_token: token.to_owned() })
    }

    /// The epoch that is to be given up at its end.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.claim.map(|claim| claim.epoch)
    }

    pub(super) fn poll_timeout(&self, reachable: bool) -> Option<Instant> {
        let activation = self.activation.as_ref().map(|activation| activation.until);
        [self.lane.poll_timeout(reachable), activation].into_iter().flatten().min()
    }

    pub(super) fn timeout(&mut self, cx: &mut Context<'_>) {
        self.lane.planner.timeout(&mut cx.shared.dice, cx.now);
        if let Some(activation) = self.activation.take_if(|activation| cx.now >= activation.until) {
            self.walk(WalkInput::Failed(activation.attempt, Failure::TimedOut), cx);
        }
        self.walk(WalkInput::Timeout, cx);
        self.ask(cx);
    }

    /// The room is connected again, or its coordinator is another one.
    pub(super) fn desk_opened(&mut self, cx: &mut Context<'_>) {
        if self.state == PublisherState::PublishRequesting {
            self.lane.planner.want(cx.now);
        }
        self.ask(cx);
    }

    /// Makes the plan's call if it is due; after the end none is.
    fn ask(&mut self, cx: &mut Context<'_>) {
        if !self.ended() {
            self.lane.ask(cx);
        }
    }

    pub(super) fn awaits(&self, request: RequestId) -> bool {
        self.lane.planner.awaits(request)
    }

    /// The plan that is under way.
    pub(super) fn asked_for(&self) -> Option<RequestId> {
        self.lane.planner.asked_for()
    }

    pub(super) fn planned(&mut self, result: Result<Plan, CallFailure>, cx: &mut Context<'_>) {
        let claim = result.as_ref().ok().and_then(|plan| plan.claim);
        match self.lane.planned(result, cx) {
            Ok(input) => {
                self.take_claim(claim, cx);
                if let Some(input) = input {
                    self.walk(input, cx);
                }
            }
            Err(code) => self.refused(code, cx),
        }
    }

    fn take_claim(&mut self, claim: Option<Claim>, cx: &mut Context<'_>) {
        let before = self.claim;
        self.claim = before.max(claim);
        let epoch = |claim: Option<Claim>| claim.map(|claim| claim.epoch);
        if before.is_some()
            && epoch(self.claim) > epoch(before)
            && let Some(used) = &self.lane.used
        {
            // The session in use holds a token of an epoch that is over.
            let attempt = used.attempt;
            self.walk(WalkInput::Failed(attempt, Failure::Closed("its claim is over".into())), cx);
        }
    }

    pub(super) fn listed(&mut self, cx: &mut Context<'_>) {
        if let Some(input) = self.lane.listed(cx) {
            self.walk(input, cx);
        }
    }

    pub(super) fn phase(&mut self, attempt: AttemptId, phase: Phase, claim: Option<Claim>) {
        let active = match phase {
            Phase::Idle | Phase::Flowing => true,
            Phase::Connecting | Phase::OriginLost | Phase::Standby => false,
        };
        if !active {
            return;
        }
        let confirmed = |a: &Activation| a.attempt == attempt && claim.is_none_or(|claim| claim >= a.claim);
        if self.activation.as_ref().is_some_and(confirmed) {
            self.activation = None;
        }
        if self.lane.used.as_ref().is_some_and(|used| used.attempt == attempt) {
            self.idle = phase == Phase::Idle;
        }
    }

    /// The event connection to the node is up: an activation that was lost with the one before is sent again.
    pub(super) fn events_up(&mut self, node: &NodeRef, cx: &mut Context<'_>) {
        if let Some(Activation { attempt, claim, .. }) =
            self.activation.as_ref().filter(|activation| activation.node == *node)
        {
            cx.out.push_back(Output::Activate { attempt: *attempt, claim: *claim });
        }
    }

    pub(super) fn failed(&mut self, attempt: AttemptId, failure: Failure, cx: &mut Context<'_>) {
        let (used, dialled) = self.lane.walk.attempts();
        if used != Some(attempt) && dialled != Some(attempt) {
            return;
        }
        self.lane.failing(&failure, cx.now);
        self.walk(WalkInput::Failed(attempt, failure), cx);
        self.ask(cx);
    }

    /// The app's end, or one with a code.
    pub(super) fn end(&mut self, code: Option<ErrorCode>, cx: &mut Context<'_>) {
        self.lane.walk(WalkInput::Stop, cx);
        self.finish(code, cx);
    }

    fn refused(&mut self, code: ErrorCode, cx: &mut Context<'_>) {
        // Somebody else's claim is not ours to give up.
        if code == ErrorCode::StreamTaken {
            self.claim = None;
        }
        self.end(Some(code), cx);
    }

    /// Lets the walk act, and does what it wants.
    pub(super) fn walk(&mut self, input: WalkInput, cx: &mut Context<'_>) {
        for output in self.lane.walk(input, cx) {
            match output {
                WalkOutput::Dial(attempt, node, standing) => self.dial(attempt, node, standing, cx),
                WalkOutput::Use(attempt, node, standing) => self.take_up(attempt, node, standing, cx),
                WalkOutput::Hang(attempt) => {
                    self.activation.take_if(|activation| activation.attempt == attempt);
                }
                WalkOutput::Interrupted => {
                    self.lane.interrupted(cx.now);
                    self.state = PublisherState::PublishRequesting;
                    self.emit(ErrorCode::PublishInterrupted.number(), cx);
                }
                WalkOutput::Ended(Ending::Stopped) | WalkOutput::Ask | WalkOutput::Tried(_) => {}
                WalkOutput::Ended(Ending::AllFailed) => self.finish(Some(ErrorCode::PublishFailed), cx),
                WalkOutput::Ended(Ending::GaveUp) => self.finish(Some(ErrorCode::PublishGaveUp), cx),
                WalkOutput::Ended(Ending::Fenced) => {
                    self.claim = None;
                    self.finish(Some(ErrorCode::StreamTaken), cx);
                }
            }
        }
        if self.state == PublisherState::PublishRequesting {
            self.lane.ask(cx);
        }
    }

    fn next_claim(&mut self) -> Claim {
        let claim = self.claim.unwrap_or_default().next_move();
        self.claim = Some(claim);
        claim
    }

    fn dial(&mut self, attempt: AttemptId, node: Node, standing: Standing, cx: &mut Context<'_>) {
        let moved = is_active(standing).then(|| self.next_claim().moved);
        self.lane.dial(attempt, node, moved, cx);
    }

    fn take_up(&mut self, attempt: AttemptId, node: NodeRef, standing: Standing, cx: &mut Context<'_>) {
        if !is_active(standing) {
            let claim = self.next_claim();
            let until = cx.now + ACTIVATION_TIME;
            self.activation = Some(Activation { attempt, node: node.clone(), claim, until });
            cx.out.push_back(Output::Activate { attempt, claim });
        }
        self.lane.take_up(attempt, node, cx);
        self.state = PublisherState::Publishing;
        self.idle = false;
        self.emit(0, cx);
    }

    fn finish(&mut self, code: Option<ErrorCode>, cx: &mut Context<'_>) {
        self.state = PublisherState::NoPublish;
        self.lane.used = None;
        self.activation = None;
        self.lane.report(cx);
        self.emit(code.map_or(0, ErrorCode::number), cx);
    }

    fn emit(&mut self, code: u32, cx: &mut Context<'_>) {
        let extended = match self.state {
            PublisherState::NoPublish if code == ErrorCode::PublishFailed.number() => {
                self.lane.extended_final(cx.shared)
            }
            PublisherState::NoPublish | PublisherState::PublishRequesting | PublisherState::Publishing => {
                self.lane.extended(self.idle)
            }
        };
        cx.out.push_back(Output::Emit(Event::Publisher(PublisherStateUpdate {
            key: self.lane.key.clone(),
            state: self.state,
            code,
            node: self.lane.used.as_ref().map(|used| used.node.clone()),
            extended,
        })));
    }
}
