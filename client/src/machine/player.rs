//! A player: three states over a walk, and what it knows of the stream itself.
//!
//! Invariant: "no such stream" is a coordinator's or the room's word; a node's "not here now" never ends a player (PLAY-3).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use waystation_proto::{ErrorCode, NodeRef, StreamKey, token::Action};

use super::{
    event::{Event, PlayerState, PlayerStateUpdate},
    io::{CallFailure, Output, Phase, Plan, RequestId},
    lane::{Context, Lane},
    trial::{AttemptId, Failure},
    walk::{ATTEMPT_TIME, Ending, Walk, WalkInput, WalkOutput},
};

/// How far an attempt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Progress {
    started: Instant,
    transport: Transport,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Transport {
    Opening,
    Up,
}

/// Whether the stream is in the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Presence {
    /// As far as is known.
    There,
    /// It left while media was there, or in the middle of a walk: the player ends with the media (PLAY-7), with the
    /// next node that answers, or with the walk (PLAY-3).
    Left,
}

/// One played stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Player {
    lane: Lane,
    state: PlayerState,
    /// Of the attempts in the walk's hands.
    progress: BTreeMap<AttemptId, Progress>,
    presence: Presence,
}

impl Player {
    pub(super) fn start(key: StreamKey, retry_time: Duration, cx: &mut Context<'_>) -> Self {
        let walk = Walk::new(retry_time, cx.now);
        let mut player = Self {
            lane: Lane::new(key, Action::Play, walk, cx.now),
            state: PlayerState::PlayRequesting,
            progress: BTreeMap::new(),
            presence: Presence::There,
        };
        player.emit(0, cx);
        player.lane.ask(cx);
        player
    }

    /// Whether it has ended.
    pub(super) fn ended(&self) -> bool {
        self.state == PlayerState::NoPlay
    }

    pub(super) fn poll_timeout(&self, reachable: bool) -> Option<Instant> {
        self.lane.poll_timeout(reachable)
    }

    pub(super) fn timeout(&mut self, cx: &mut Context<'_>) {
        self.lane.planner.timeout(&mut cx.shared.dice, cx.now);
        // A node with the transport up and neither media nor a word of it has not found the stream.
        let waited = |progress: &Progress| {
            progress.transport == Transport::Up && cx.now >= progress.started + ATTEMPT_TIME
        };
        let (used, dialled) = self.lane.walk.attempts();
        if let Some(attempt) = dialled
            && used != Some(attempt)
            && self.progress.get(&attempt).is_some_and(waited)
        {
            self.walk(WalkInput::Failed(attempt, Failure::NotHere), cx);
        }
        self.walk(WalkInput::Timeout, cx);
        self.ask(cx);
    }

    /// The room is connected again, or its coordinator is another one.
    pub(super) fn desk_opened(&mut self, cx: &mut Context<'_>) {
        if self.state == PlayerState::PlayRequesting {
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

    pub(super) fn planned(&mut self, result: Result<Plan, CallFailure>, cx: &mut Context<'_>) {
        match self.lane.planned(result, cx) {
            Ok(Some(input)) => self.walk(input, cx),
            Ok(None) => {}
            Err(ErrorCode::NoSuchStream) => {
                self.lane.planner.failed(&CallFailure::Failed, &mut cx.shared.dice, cx.now);
                self.stream_left(cx);
            }
            Err(code) => self.end(Some(code), cx),
        }
    }

    pub(super) fn listed(&mut self, cx: &mut Context<'_>) {
        if let Some(input) = self.lane.listed(cx) {
            self.walk(input, cx);
        }
    }

    /// The attempt's transport is up.
    pub(super) fn up(&mut self, attempt: AttemptId, cx: &mut Context<'_>) {
        if let Some(progress) = self.progress.get_mut(&attempt) {
            progress.transport = Transport::Up;
            if progress.phase == Phase::Idle {
                self.walk(WalkInput::Ready(attempt), cx);
            }
        }
    }

    /// The attempt's media has come.
    pub(super) fn media(&mut self, attempt: AttemptId, cx: &mut Context<'_>) {
        if let Some(progress) = self.progress.get_mut(&attempt) {
            progress.transport = Transport::Up;
            progress.phase = Phase::Flowing;
            self.walk(WalkInput::Ready(attempt), cx);
            self.fed(attempt, cx);
        }
    }

    pub(super) fn phase(&mut self, attempt: AttemptId, phase: Phase, cx: &mut Context<'_>) {
        let Some(progress) = self.progress.get_mut(&attempt) else { return };
        progress.phase = phase;
        let transport = progress.transport;
        let in_use = self.lane.used.as_ref().is_some_and(|used| used.attempt == attempt);
        match (phase, in_use) {
            (Phase::Idle, false) if transport == Transport::Up => self.walk(WalkInput::Ready(attempt), cx),
            (Phase::Idle | Phase::OriginLost, true) if self.presence == Presence::Left => {
                self.end(Some(ErrorCode::NoSuchStream), cx);
            }
            (Phase::OriginLost, true) => self.starved(cx),
            (Phase::Idle | Phase::Flowing, true) => self.fed(attempt, cx),
            (Phase::Idle | Phase::Flowing | Phase::OriginLost, false)
            | (Phase::Connecting | Phase::Standby, _) => {}
        }
    }

    /// The stream has no origin now: the session stays, and resumes when there is one again (PLAY-6).
    fn starved(&mut self, cx: &mut Context<'_>) {
        if self.state == PlayerState::Playing {
            self.state = PlayerState::PlayRequesting;
            self.walk(WalkInput::Starved, cx);
            self.emit(ErrorCode::PlayInterrupted.number(), cx);
        }
    }

    fn fed(&mut self, attempt: AttemptId, cx: &mut Context<'_>) {
        let in_use = self.lane.used.as_ref().is_some_and(|used| used.attempt == attempt);
        if in_use && self.state == PlayerState::PlayRequesting {
            self.state = PlayerState::Playing;
            self.walk(WalkInput::Fed, cx);
            self.emit(0, cx);
        }
    }

    /// The stream is not in the room any more.
    pub(super) fn stream_left(&mut self, cx: &mut Context<'_>) {
        let flowing = |progress: &Progress| progress.phase == Phase::Flowing;
        let has_media =
            self.lane.used.as_ref().is_some_and(|used| self.progress.get(&used.attempt).is_some_and(flowing));
        let is_walking =
            self.state == PlayerState::PlayRequesting && !self.lane.walk.failed_nodes().is_empty();
        if (self.state == PlayerState::Playing && has_media) || is_walking {
            self.presence = Presence::Left;
        } else {
            self.end(Some(ErrorCode::NoSuchStream), cx);
        }
    }

    /// The stream is in the room.
    pub(super) fn stream_came(&mut self) {
        self.presence = Presence::There;
    }

    pub(super) fn failed(&mut self, attempt: AttemptId, failure: Failure, cx: &mut Context<'_>) {
        // A player holds no claim: no node's word about one ends it.
        let fenced = failure == Failure::HigherClaim;
        let failure = if fenced { Failure::Refused("fenced".into()) } else { failure };
        self.lane.failing(&failure, cx.now);
        let answered = failure.is_answer();
        self.walk(WalkInput::Failed(attempt, failure), cx);
        if answered && self.presence == Presence::Left && self.state == PlayerState::PlayRequesting {
            return self.end(Some(ErrorCode::NoSuchStream), cx);
        }
        self.ask(cx);
    }

    /// The app's end, or one with a code.
    pub(super) fn end(&mut self, code: Option<ErrorCode>, cx: &mut Context<'_>) {
        self.lane.walk(WalkInput::Stop, cx);
        self.finish(code, cx);
    }

    /// Lets the walk act, and does what it wants.
    pub(super) fn walk(&mut self, input: WalkInput, cx: &mut Context<'_>) {
        for output in self.lane.walk(input, cx) {
            match output {
                WalkOutput::Dial(attempt, node, _) => {
                    let progress =
                        Progress { started: cx.now, transport: Transport::Opening, phase: Phase::Connecting };
                    self.progress.insert(attempt, progress);
                    self.lane.dial(attempt, node, None, cx);
                }
                WalkOutput::Use(attempt, node, _) => self.take_up(attempt, node, cx),
                WalkOutput::Hang(attempt) => {
                    self.progress.remove(&attempt);
                }
                WalkOutput::Interrupted => self.interrupted(cx),
                WalkOutput::Ended(Ending::Stopped) | WalkOutput::Ask | WalkOutput::Tried(_) => {}
                WalkOutput::Ended(Ending::AllFailed | Ending::Fenced) => {
                    self.finish(Some(ErrorCode::PlayFailed), cx);
                }
                WalkOutput::Ended(Ending::GaveUp) => self.finish(Some(ErrorCode::PlayGaveUp), cx),
            }
            if self.ended() {
                return;
            }
        }
        if self.state == PlayerState::PlayRequesting {
            self.lane.ask(cx);
        }
    }

    fn take_up(&mut self, attempt: AttemptId, node: NodeRef, cx: &mut Context<'_>) {
        self.lane.take_up(attempt, node, cx);
        self.state = PlayerState::Playing;
        self.emit(0, cx);
    }

    fn interrupted(&mut self, cx: &mut Context<'_>) {
        self.lane.interrupted(cx.now);
        if self.state == PlayerState::Playing {
            self.state = PlayerState::PlayRequesting;
            self.emit(ErrorCode::PlayInterrupted.number(), cx);
        }
    }

    fn finish(&mut self, code: Option<ErrorCode>, cx: &mut Context<'_>) {
        self.state = PlayerState::NoPlay;
        self.lane.used = None;
        self.progress.clear();
        self.lane.report(cx);
        self.emit(code.map_or(0, ErrorCode::number), cx);
    }

    fn idle(&self) -> bool {
        let phase = |used: &super::lane::Used| self.progress.get(&used.attempt).map(|p| p.phase);
        self.lane.used.as_ref().and_then(phase) == Some(Phase::Idle)
    }

    fn emit(&mut self, code: u32, cx: &mut Context<'_>) {
        let extended = match self.state {
            PlayerState::NoPlay if code == ErrorCode::PlayFailed.number() => {
                self.lane.extended_final(cx.shared)
            }
            PlayerState::NoPlay | PlayerState::PlayRequesting | PlayerState::Playing => {
                self.lane.extended(self.idle())
            }
        };
        cx.out.push_back(Output::Emit(Event::Player(PlayerStateUpdate {
            key: self.lane.key.clone(),
            state: self.state,
            code,
            node: self.lane.used.as_ref().map(|used| used.node.clone()),
            extended,
        })));
    }
}
