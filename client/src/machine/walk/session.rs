//! A session in the hands of a walk: being dialled, or in use with its clock of silence.

use std::time::{Duration, Instant};

use waystation_proto::{Node, NodeRef};

use super::super::trial::{AttemptId, Outcome, Trial};

/// Silence of a node that beats every 50 ms, before a hedge (GO-2).
pub(super) const SILENCE: Duration = Duration::from_millis(300);

/// Jitter on it, so that a node's death does not send all its clients at once.
pub(super) const SILENCE_JITTER: Duration = Duration::from_millis(40);

/// Three beats: a session this long silent is still silent when its hedge is ready.
pub(super) const STILL_SILENT: Duration = Duration::from_millis(150);

/// Silence that is a lost session, hedged or not.
pub(super) const LOST: Duration = Duration::from_secs(2);

/// A timer this late is no evidence of silence: what was received may not have been looked at.
pub(super) const LATE: Duration = Duration::from_millis(100);

/// From one look at a session in use to the next while a hedge is under way, so that a stop of ours shows.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// From one look at a session that may not be hedged to the next.
pub(super) const HEDGE_PAUSE: Duration = Duration::from_secs(10);

/// A session being set up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Session {
    pub(super) attempt: AttemptId,
    pub(super) node: NodeRef,
    pub(super) started: Instant,
}

impl Session {
    pub(super) fn new(attempt: AttemptId, node: &Node, now: Instant) -> Self {
        Self { attempt, node: node.node.clone(), started: now }
    }

    pub(super) fn trial(&self, outcome: Outcome, now: Instant) -> Trial {
        Trial {
            attempt: self.attempt,
            node: self.node.clone(),
            started: self.started,
            outcome,
            took: now.saturating_duration_since(self.started),
        }
    }
}

/// A session in use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct InUse {
    pub(super) session: Session,
    /// When the node was last heard.
    pub(super) heard_at: Instant,
    /// From when its silence counts: when it was heard, or when a late timer had the clock start again.
    pub(super) quiet_since: Instant,
    /// After how much silence to hedge.
    pub(super) patience: Duration,
    /// When to hedge on a word of suspicion.
    pub(super) suspected: Option<Instant>,
    /// No hedge before.
    pub(super) hedge_from: Instant,
}

impl InUse {
    pub(super) fn new(session: Session, jitter: Duration, now: Instant) -> Self {
        Self {
            session,
            heard_at: now,
            quiet_since: now,
            patience: SILENCE + jitter,
            suspected: None,
            hedge_from: now,
        }
    }

    pub(super) fn heard(&mut self, at: Instant) {
        self.heard_at = self.heard_at.max(at);
        self.quiet_since = self.quiet_since.max(at);
    }

    /// A timer was late: silence counts from now on. A word of suspicion is as good as before.
    pub(super) fn restart(&mut self, now: Instant) {
        self.quiet_since = now;
        self.suspected = self.suspected.map(|at| at.max(now));
    }

    pub(super) fn hedge_due(&self) -> Instant {
        let silent = self.quiet_since + self.patience;
        self.suspected.map_or(silent, |suspected| silent.min(suspected)).max(self.hedge_from)
    }

    pub(super) fn lost_due(&self) -> Instant {
        self.quiet_since + LOST
    }

    /// The next of both.
    pub(super) fn due(&self) -> Instant {
        self.hedge_due().min(self.lost_due())
    }
}
