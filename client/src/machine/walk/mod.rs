//! The walk: how a stream survives its node.
//!
//! A client that publishes or plays holds an ordered list of nodes. It dials the first. *Dialling* is one attempt: a POST,
//! then ICE and DTLS; it has two seconds, and an id that was never used before. Answers carry the id; an answer to any
//! attempt but those in the walk's hands changes nothing, which makes every race harmless. If the attempt succeeds, the
//! walk is *attached*: the session is used, and all verdicts on nodes are forgotten. If it fails, the next node is dialled,
//! and so on: every node, in order, each once, before anything is reported as failed (PUB-2).
//!
//! A failure must be the node's to count. When a laptop's lid closes, every node "fails"; blaming them would end
//! in a final failure where patience would do. So an attempt counts against its node only if somebody else answered while it
//! ran: a coordinator, or another node. Since a refused connection takes a millisecond and a coordinator's answer a few more,
//! a verdict may stay *open* until the attempt's two seconds are over, while the walk goes on to the next node; the walk
//! asks for a sign of a coordinator whenever it dials. (A refusal in the node's own words counts at once: who answers is in
//! reach. A device that slept through those two seconds learns nothing: void.) When no node is left to dial and some verdict is open, the walk is *judging*. Then there are four ends of a round:
//!
//! - every node failed, and each failure counts: the network works and the cluster does not. The walk has *ended*, and the
//!   app hears so, once, with the whole trace (PUB-3);
//! - some failure is void: nobody answered, we are probably offline. The walk is *resting*, with backoff, and then tries
//!   those nodes again; all of them, if nobody at all was heard in this round (PUB-4). A sign of anybody ends the rest;
//! - for a play, some node answers "not here now": that is no failure of anybody. Short rests, then who answered so is asked
//!   again (PLAY-3): the publisher may be between two nodes just now. A node's word that the login was ended is taken alike: it
//!   may be here before the coordinator's, which ends the stream with its code (ROOM-7, ROOM-8);
//! - there is no list yet: the walk is *waiting* for one, for 5 s if it may not try again.
//!
//! Whatever it does, the retry clock bounds it: it started when the last session was lost, or at the call.
//! A node that joins the list is tried like the others; one that restarted (a higher incarnation) once more.
//!
//! While attached, the walk watches. Nodes beat every 50 ms when they have nothing else to send, so 300 ms in which nothing
//! was heard means something (GO-2). But what? The node, or the path to it, or just this computer being busy. So nothing is torn down: the
//! walk is *moving*: the next node is dialled beside the session in use, a *hedge*. When it is up, it wins only if the first has
//! been silent for three beats and stays so; else it is hung up, and nothing has happened. A coordinator's word that the node
//! is suspect starts a hedge too, and no more than that. Hedges on such soft evidence are jittered and rationed, because
//! a hiccup that all clients see must not double the load of the cluster; and a timer that fires late proves
//! that we slept, not that the node did. (While it moves the walk looks every 50 ms: so a stop of ours shows, whatever is heard
//! first after it.) A refused connection is hard evidence: the process is gone. That hedge is not rationed.
//! Two seconds of silence, or the transport's end, are a lost session, hedged or not: the app hears of it
//! (1003020, 1004020), and the walk starts again, with the lost node as the last of its list; a hedge under way
//! becomes the first attempt of it.
//!
//! For a publisher, each session that becomes the active one does so under a claim with a higher move. An attempt that
//! stands alone is dialled [`Standing::Active`]; a hedge is dialled [`Standing::Standby`] and activated when it wins. The walk says which.

mod attach;
#[cfg(test)]
mod explorer;
mod roll;
mod session;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use waystation_proto::{Node, NodeRef};

use self::{
    attach::moving_due,
    roll::{Roll, Sum, Verdict},
    session::{InUse, LOOK, Session},
};
use super::{
    backoff::Backoff,
    hedge::Shared,
    retry::RetryClock,
    trial::{AttemptId, Failure, Outcome, Trace, Trial},
};

/// What an attempt has (PUB-2).
pub const ATTEMPT_TIME: Duration = Duration::from_secs(2);

/// Between rounds in which nobody answered.
const OFFLINE: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5) };

/// Between rounds in which some node answered "not here now".
const NOT_HERE: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(1) };

/// For its first list a walk that may not try again waits so long.
const LIST_TIME: Duration = Duration::from_secs(5);

/// Where a walk stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// For a list of nodes.
    Waiting,
    /// One attempt, and no session in use.
    Dialing { at: Session, standing: Standing },
    /// One session, in use.
    Attached { on: InUse },
    /// Make before break: the session in use, and a hedge.
    Moving { from: InUse, to: Session, ready: Option<Instant>, looked_at: Instant },
    /// No node is left to dial; some verdicts are open.
    Judging,
    /// Until the next round.
    Resting { until: Instant, why: Rest },
    /// For good.
    Ended(Ending),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rest {
    Offline,
    NotHere,
}

/// Whether a dialled session is to be the active one at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// At once.
    Active,
    /// Only when it is used.
    Standby,
}

/// Why a walk is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Somebody else ended it: the app, or a final word.
    Stopped,
    /// Every node was tried and failed, while the network works.
    AllFailed,
    /// The retry clock has run out.
    GaveUp,
    /// A node has proved that somebody holds a higher claim (PUB-5).
    Fenced,
}

/// What a walk hears.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WalkInput {
    /// The list, in the order in which its nodes are to be tried.
    Nodes(Vec<Node>),
    /// The attempt's session can be used.
    Ready(AttemptId),
    /// Something came from the node, at that time.
    Heard(AttemptId, Instant),
    /// The attempt has failed, or its session is lost.
    Failed(AttemptId, Failure),
    /// The node's process is gone: hard evidence.
    Gone(NodeRef),
    /// The node may be in trouble: soft evidence.
    Suspect(NodeRef),
    /// Somebody answered somebody of this client; [`Shared::evidence`] says who.
    NetworkAnswered,
    /// The session in use gives no stream any more (a play whose origin is lost): the retry clock runs.
    Starved,
    /// It does again.
    Fed,
    /// An end from outside.
    Stop,
    /// Time has passed.
    Timeout,
}

/// What a walk wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WalkOutput {
    /// Open a session.
    Dial(AttemptId, Node, Standing),
    /// Use it.
    Use(AttemptId, NodeRef, Standing),
    /// End an attempt or a session.
    Hang(AttemptId),
    /// A sign of a coordinator is wanted.
    Ask,
    /// A trial for the trace is there.
    Tried(Trial),
    /// The session in use is lost.
    Interrupted,
    /// Nothing follows.
    Ended(Ending),
}

/// A walk, from the call to its end: it sees many sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Walk {
    state: State,
    roll: Roll,
    clock: RetryClock,
    trace: Trace,
    round: u32,
    round_started: Instant,
    outputs: VecDeque<WalkOutput>,
}

impl Walk {
    /// A walk that waits for a list.
    #[must_use]
    pub fn new(retry_time: Duration, now: Instant) -> Self {
        Self {
            state: State::Waiting,
            roll: Roll::default(),
            clock: RetryClock::started(retry_time, now),
            trace: Trace::default(),
            round: 0,
            round_started: now,
            outputs: VecDeque::new(),
        }
    }

    /// Something happened.
    pub fn handle(&mut self, input: WalkInput, shared: &mut Shared, now: Instant) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        self.notice_stop(now);
        match input {
            WalkInput::Nodes(nodes) => {
                self.roll.set(nodes);
                self.look_again(shared, now);
            }
            WalkInput::Ready(attempt) => self.ready(attempt, shared, now),
            WalkInput::Heard(attempt, at) => self.heard(attempt, at, shared, now),
            WalkInput::Failed(attempt, failure) => self.failed(attempt, failure, shared, now),
            WalkInput::Gone(node) => self.gone(&node, shared, now),
            WalkInput::Suspect(node) => self.suspect(&node, shared, now),
            WalkInput::NetworkAnswered => self.network_answered(shared, now),
            WalkInput::Starved => self.clock.left(now),
            WalkInput::Fed => self.clock.back(now),
            WalkInput::Stop => self.end(Ending::Stopped, now),
            WalkInput::Timeout => self.timeout(shared, now),
        }
    }

    /// The next thing that it wants.
    pub fn poll_output(&mut self) -> Option<WalkOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle`] with [`WalkInput::Timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = match &self.state {
            State::Waiting => (!self.clock.retries()).then(|| self.round_started + LIST_TIME),
            State::Judging => None,
            State::Dialing { at, .. } => Some(at.started + ATTEMPT_TIME),
            State::Attached { on } => Some(on.due()),
            State::Moving { from, to, ready, looked_at } => {
                Some(moving_due(from, to, *ready).min(*looked_at + LOOK))
            }
            State::Resting { until, .. } => Some(*until),
            State::Ended(_) => return None,
        };
        [due, self.roll.due(), self.clock.deadline()].into_iter().flatten().min()
    }

    /// What was tried since the walk started.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The nodes that failed in this walk.
    #[must_use]
    pub fn failed_nodes(&self) -> Vec<NodeRef> {
        self.roll.failed()
    }

    /// The attempts in its hands: the one in use, and the one being dialled.
    #[must_use]
    pub fn attempts(&self) -> (Option<AttemptId>, Option<AttemptId>) {
        match &self.state {
            State::Dialing { at, .. } => (None, Some(at.attempt)),
            State::Attached { on } => (Some(on.session.attempt), None),
            State::Moving { from, to, .. } => (Some(from.session.attempt), Some(to.attempt)),
            State::Waiting | State::Judging | State::Resting { .. } | State::Ended(_) => (None, None),
        }
    }

    fn timeout(&mut self, shared: &mut Shared, now: Instant) {
        if self.clock.expired(now) {
            return self.end(Ending::GaveUp, now);
        }
        self.weigh(shared, now);
        match &mut self.state {
            State::Waiting if !self.clock.retries() && now >= self.round_started + LIST_TIME => {
                self.end(Ending::GaveUp, now);
            }
            State::Waiting | State::Ended(_) => {}
            State::Judging => self.next(shared, now),
            State::Dialing { at, .. } if now >= at.started + ATTEMPT_TIME => {
                let attempt = at.attempt;
                self.failed(attempt, Failure::TimedOut, shared, now);
            }
            State::Attached { on } if now >= on.lost_due() => self.lost(Failure::Silent, shared, now),
            State::Attached { on } if now >= on.hedge_due() => self.hedge_if_allowed(shared, now),
            State::Moving { .. } => self.moving_timeout(shared, now),
            State::Resting { until, .. } if now >= *until => self.new_round(shared, now),
            State::Dialing { .. } | State::Attached { .. } | State::Resting { .. } => {}
        }
    }

    fn network_answered(&mut self, shared: &mut Shared, now: Instant) {
        self.weigh(shared, now);
        match self.state {
            State::Resting { why: Rest::Offline, .. } => self.new_round(shared, now),
            State::Judging => self.next(shared, now),
            State::Waiting
            | State::Dialing { .. }
            | State::Attached { .. }
            | State::Moving { .. }
            | State::Resting { why: Rest::NotHere, .. }
            | State::Ended(_) => {}
        }
    }

    /// The list has changed: somebody may be there to be dialled.
    fn look_again(&mut self, shared: &mut Shared, now: Instant) {
        match self.state {
            State::Waiting | State::Judging => self.next(shared, now),
            State::Resting { .. } if self.roll.candidate(None).is_some() => self.next(shared, now),
            State::Resting { .. }
            | State::Dialing { .. }
            | State::Attached { .. }
            | State::Moving { .. }
            | State::Ended(_) => {}
        }
    }

    /// Goes on with no session in hand: the next node, or what the verdicts amount to.
    fn next(&mut self, shared: &mut Shared, now: Instant) {
        if let Some(node) = self.roll.candidate(None).cloned() {
            let at = self.dial(&node, Standing::Active, shared, now);
            self.outputs.push_back(WalkOutput::Ask);
            self.state = State::Dialing { at, standing: Standing::Active };
            return;
        }
        match self.roll.sum() {
            Sum::NoList => self.state = State::Waiting,
            Sum::Open => {
                self.outputs.push_back(WalkOutput::Ask);
                self.state = State::Judging;
            }
            Sum::Void => self.rest(Rest::Offline, OFFLINE, shared, now),
            Sum::NotHere => self.rest(Rest::NotHere, NOT_HERE, shared, now),
            Sum::AllFailed => self.end(Ending::AllFailed, now),
        }
    }

    fn rest(&mut self, why: Rest, backoff: Backoff, shared: &mut Shared, now: Instant) {
        if !self.clock.retries() {
            return self.end(Ending::GaveUp, now);
        }
        let until = now + backoff.wait(self.round, &mut shared.dice);
        self.state = State::Resting { until, why };
    }

    fn new_round(&mut self, shared: &mut Shared, now: Instant) {
        if shared.evidence.any_since(self.round_started) {
            self.roll.next_round();
        } else {
            self.roll.forget();
        }
        self.round = self.round.saturating_add(1);
        self.round_started = now;
        self.next(shared, now);
    }

    fn dial(&mut self, node: &Node, standing: Standing, shared: &mut Shared, now: Instant) -> Session {
        let attempt = shared.fresh_attempt();
        self.outputs.push_back(WalkOutput::Dial(attempt, node.clone(), standing));
        Session::new(attempt, node, now)
    }

    /// An attempt has ended without a session: takes note of it.
    fn note(&mut self, at: &Session, failure: Failure, shared: &mut Shared, now: Instant) {
        self.outputs.push_back(WalkOutput::Hang(at.attempt));
        if failure.is_answer() {
            shared.evidence.node(&at.node.id, now);
        }
        let verdict = if matches!(failure, Failure::NotHere | Failure::LoginEnded(_)) {
            Verdict::NotHere
        } else if failure.is_answer() {
            Verdict::Failed
        } else {
            let until = at.started + ATTEMPT_TIME;
            Verdict::Open { attempt: at.attempt, since: at.started, until }
        };
        self.roll.tried(&at.node, verdict);
        self.record(at.trial(Outcome::Failed(failure), now));
        self.weigh(shared, now);
    }

    fn weigh(&mut self, shared: &Shared, now: Instant) {
        for attempt in self.roll.weigh(&shared.evidence, now) {
            self.trace.void(attempt);
        }
    }

    fn record(&mut self, trial: Trial) {
        self.trace.push(trial.clone());
        self.outputs.push_back(WalkOutput::Tried(trial));
    }

    fn end(&mut self, ending: Ending, now: Instant) {
        match std::mem::replace(&mut self.state, State::Ended(ending)) {
            State::Dialing { at, .. } => self.drop_session(&at, now),
            State::Attached { on } => self.outputs.push_back(WalkOutput::Hang(on.session.attempt)),
            State::Moving { from, to, .. } => {
                self.outputs.push_back(WalkOutput::Hang(from.session.attempt));
                self.drop_session(&to, now);
            }
            State::Waiting | State::Judging | State::Resting { .. } | State::Ended(_) => {}
        }
        self.outputs.push_back(WalkOutput::Ended(ending));
    }

    /// An attempt is of no use any more.
    fn drop_session(&mut self, at: &Session, now: Instant) {
        self.outputs.push_back(WalkOutput::Hang(at.attempt));
        self.record(at.trial(Outcome::Failed(Failure::Unneeded), now));
    }
}
