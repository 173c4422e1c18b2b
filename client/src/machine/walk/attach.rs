//! The walk with a session in use: attaching, losing it, and moving (make before break).

use std::time::{Duration, Instant};

use waystation_proto::{NodeId, NodeRef};

use super::{
    ATTEMPT_TIME, Ending, Standing, State, Walk, WalkOutput,
    session::{HEDGE_PAUSE, InUse, LATE, LOOK, SILENCE_JITTER, STILL_SILENT, Session},
};
use crate::{
    config::Hedging,
    machine::{
        hedge::Shared,
        trial::{AttemptId, Failure, Outcome},
    },
};

/// A coordinator's word reaches all its clients at once: they hedge within this time.
const SUSPECT_JITTER: Duration = Duration::from_millis(200);

/// When something is to be done beside a hedge.
pub(super) fn moving_due(from: &InUse, to: &Session, ready: Option<Instant>) -> Instant {
    match ready {
        Some(_) => from.quiet_since + STILL_SILENT,
        None => from.lost_due().min(to.started + ATTEMPT_TIME),
    }
}

impl Walk {
    pub(super) fn ready(&mut self, attempt: AttemptId, shared: &mut Shared, now: Instant) {
        match &mut self.state {
            State::Dialing { at, standing } if at.attempt == attempt => {
                let (at, standing) = (at.clone(), *standing);
                self.attach(at, standing, shared, now);
            }
            State::Moving { to, ready, .. } if to.attempt == attempt => {
                ready.get_or_insert(now);
                self.decide(shared, now);
            }
            State::Waiting
            | State::Dialing { .. }
            | State::Attached { .. }
            | State::Moving { .. }
            | State::Judging
            | State::Resting { .. }
            | State::Ended(_) => {}
        }
    }

    fn attach(&mut self, session: Session, standing: Standing, shared: &mut Shared, now: Instant) {
        self.outputs.push_back(WalkOutput::Use(session.attempt, session.node.clone(), standing));
        self.record(session.trial(Outcome::Used, now));
        self.roll.forget();
        self.round = 0;
        self.clock.back(now);
        let jitter = shared.dice.between(Duration::ZERO, SILENCE_JITTER);
        self.state = State::Attached { on: InUse::new(session, jitter, now) };
    }

    pub(super) fn heard(&mut self, attempt: AttemptId, at: Instant, shared: &mut Shared, now: Instant) {
        match &mut self.state {
            State::Attached { on } if on.session.attempt == attempt => {
                on.heard(at);
                // It lives: a hedge that found no node leaves no verdicts behind.
                self.roll.forget();
            }
            State::Moving { from, .. } if from.session.attempt == attempt => {
                from.heard(at);
                self.decide(shared, now);
            }
            State::Waiting
            | State::Dialing { .. }
            | State::Attached { .. }
            | State::Moving { .. }
            | State::Judging
            | State::Resting { .. }
            | State::Ended(_) => {}
        }
    }

    pub(super) fn failed(&mut self, attempt: AttemptId, failure: Failure, shared: &mut Shared, now: Instant) {
        match &self.state {
            State::Dialing { at, .. } if at.attempt == attempt => {
                let at = at.clone();
                let fenced = failure == Failure::HigherClaim;
                self.state = State::Judging;
                self.note(&at, failure, shared, now);
                if fenced { self.end(Ending::Fenced, now) } else { self.next(shared, now) }
            }
            State::Attached { on } if on.session.attempt == attempt => self.lost(failure, shared, now),
            State::Moving { from, .. } if from.session.attempt == attempt => self.lost(failure, shared, now),
            State::Moving { from, to, .. } if to.attempt == attempt => {
                let (from, to) = (from.clone(), to.clone());
                let fenced = failure == Failure::HigherClaim;
                self.state = State::Attached { on: from.clone() };
                self.note(&to, failure, shared, now);
                if fenced { self.end(Ending::Fenced, now) } else { self.hedge(from, shared, now) }
            }
            State::Waiting
            | State::Dialing { .. }
            | State::Attached { .. }
            | State::Moving { .. }
            | State::Judging
            | State::Resting { .. }
            | State::Ended(_) => {}
        }
    }

    /// The session in use is lost. A hedge under way takes over.
    pub(super) fn lost(&mut self, failure: Failure, shared: &mut Shared, now: Instant) {
        let (from, hedge) = match &self.state {
            State::Attached { on } => (on.clone(), None),
            State::Moving { from, to, ready, .. } => (from.clone(), Some((to.clone(), *ready))),
            State::Waiting
            | State::Dialing { .. }
            | State::Judging
            | State::Resting { .. }
            | State::Ended(_) => {
                return;
            }
        };
        if failure == Failure::HigherClaim {
            self.record(from.session.trial(Outcome::Failed(failure), now));
            return self.end(Ending::Fenced, now);
        }
        if let Some((to, Some(_))) = hedge {
            return self.win(from, to, failure, shared, now);
        }
        if !self.roll.any_tried() && hedge.is_none() {
            self.trace.clear();
        }
        self.outputs.push_back(WalkOutput::Hang(from.session.attempt));
        if failure.is_answer() {
            shared.evidence.node(&from.session.node.id, now);
        }
        self.record(from.session.trial(Outcome::Failed(failure), now));
        self.roll.demote(&from.session.node.id);
        self.clock.left(now);
        self.round_started = now;
        self.outputs.push_back(WalkOutput::Interrupted);
        // The session is hung up: from here on it is in nobody's hands.
        let hedged = hedge.is_some();
        self.state = match hedge {
            Some((at, _)) => State::Dialing { at, standing: Standing::Standby },
            None => State::Judging,
        };
        if !self.clock.retries() || self.clock.expired(now) {
            self.end(Ending::GaveUp, now);
        } else if !hedged {
            self.next(shared, now);
        }
    }

    /// The node's process is gone.
    pub(super) fn gone(&mut self, node: &NodeRef, shared: &mut Shared, now: Instant) {
        let on = match &self.state {
            State::Attached { on } if on.session.node == *node => on,
            // The line to it was up for other sessions: this attempt need not wait for its time to run out.
            State::Dialing { at: trying, .. } | State::Moving { to: trying, .. } if trying.node == *node => {
                let attempt = trying.attempt;
                return self.failed(attempt, Failure::Gone, shared, now);
            }
            State::Waiting
            | State::Dialing { .. }
            | State::Attached { .. }
            | State::Moving { .. }
            | State::Judging
            | State::Resting { .. }
            | State::Ended(_) => return,
        };
        let next = self.roll.candidate(Some(&node.id)).is_some();
        match shared.hedges.hedging() {
            Hedging::On if next => {
                let from = on.clone();
                self.start_hedge(from, shared, now);
            }
            // Its media still comes, and there is no other node: silence will tell.
            Hedging::On if now < on.quiet_since + STILL_SILENT => {}
            Hedging::On | Hedging::Off => self.lost(Failure::Gone, shared, now),
        }
    }

    /// The node may be in trouble.
    pub(super) fn suspect(&mut self, node: &NodeRef, shared: &mut Shared, now: Instant) {
        if let State::Attached { on } = &mut self.state
            && on.session.node == *node
            && on.suspected.is_none()
        {
            on.suspected = Some(now + shared.dice.between(Duration::ZERO, SUSPECT_JITTER));
        }
    }

    pub(super) fn hedge_if_allowed(&mut self, shared: &mut Shared, now: Instant) {
        let State::Attached { on } = &mut self.state else { return };
        match shared.hedges.allowed_at(&on.session.node, now) {
            Some(at) if at <= now => {
                let from = on.clone();
                if self.roll.candidate(Some(&from.session.node.id)).is_some() {
                    shared.hedges.spend(&from.session.node, now);
                }
                self.start_hedge(from, shared, now);
            }
            Some(at) => on.hedge_from = at,
            None => on.hedge_from = now + HEDGE_PAUSE,
        }
    }

    fn start_hedge(&mut self, from: InUse, shared: &mut Shared, now: Instant) {
        if !self.roll.any_tried() {
            self.trace.clear();
        }
        self.round_started = now;
        self.hedge(from, shared, now);
    }

    /// Dials the next node beside the session in use; with none left, goes on with that session.
    fn hedge(&mut self, mut from: InUse, shared: &mut Shared, now: Instant) {
        let except: NodeId = from.session.node.id.clone();
        match self.roll.candidate(Some(&except)).cloned() {
            Some(node) => {
                let to = self.dial(&node, Standing::Standby, shared, now);
                self.state = State::Moving { from, to, ready: None, looked_at: now };
            }
            None => {
                from.suspected = None;
                from.hedge_from = now + HEDGE_PAUSE;
                self.state = State::Attached { on: from };
            }
        }
    }

    /// A look that comes too late: we stood still, and what the node sent meanwhile may not have been read, whatever is heard
    /// first. Its silence counts from now on. Once a hedge is ready, so much is granted one time only: by the next look
    /// what came has been read, and a page whose timers are slowed down has nothing but late ones.
    pub(super) fn notice_stop(&mut self, now: Instant) {
        match &mut self.state {
            State::Attached { on } if now > on.due() + LATE => on.restart(now),
            State::Moving { from, to, ready, looked_at } => {
                let due = moving_due(from, to, *ready).min(*looked_at + LOOK);
                if now > due + LATE && ready.is_none_or(|ready| from.quiet_since <= ready) {
                    from.restart(now);
                }
                *looked_at = now;
            }
            State::Waiting
            | State::Dialing { .. }
            | State::Attached { .. }
            | State::Judging
            | State::Resting { .. }
            | State::Ended(_) => {}
        }
    }

    pub(super) fn moving_timeout(&mut self, shared: &mut Shared, now: Instant) {
        let State::Moving { from, to, ready, .. } = &self.state else { return };
        match ready {
            Some(_) => self.decide(shared, now),
            None if now >= from.lost_due() => self.lost(Failure::Silent, shared, now),
            None if now >= to.started + ATTEMPT_TIME => {
                let attempt = to.attempt;
                self.failed(attempt, Failure::TimedOut, shared, now);
            }
            None => {}
        }
    }

    /// The hedge is ready: does it win?
    fn decide(&mut self, shared: &mut Shared, now: Instant) {
        let State::Moving { from, to, ready: Some(ready), .. } = &self.state else { return };
        if from.heard_at > *ready {
            let (mut on, to) = (from.clone(), to.clone());
            self.drop_session(&to, now);
            self.roll.forget();
            on.suspected = None;
            on.hedge_from = now + HEDGE_PAUSE;
            self.state = State::Attached { on };
        } else if now >= from.quiet_since + STILL_SILENT {
            let (from, to) = (from.clone(), to.clone());
            self.win(from, to, Failure::Silent, shared, now);
        }
    }

    /// The hedge is used, and only then the first session let go.
    fn win(&mut self, from: InUse, to: Session, failure: Failure, shared: &mut Shared, now: Instant) {
        self.record(from.session.trial(Outcome::Failed(failure), now));
        self.roll.demote(&from.session.node.id);
        let lost = from.session.attempt;
        self.attach(to, Standing::Standby, shared, now);
        self.outputs.push_back(WalkOutput::Hang(lost));
    }
}
