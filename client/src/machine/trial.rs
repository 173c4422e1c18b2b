//! What became of an attempt, and the trace of a walk.
//!
//! Invariant: a [`Trace`] is bounded; of a long walk it keeps the newest trials.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use serde_json::json;
use thiserror::Error;
use waystation_proto::NodeRef;

/// Trials that a trace keeps: every node of a large list, some rounds of a small one.
const MAX_TRIALS: usize = 128;

/// Names an attempt for its client's life: an answer to an old one changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a session was not set up, or was lost.
#[derive(Clone, Debug, Error, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Nobody listens there, or the connection broke before an answer.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// Not up within the attempt's time.
    #[error("timed out")]
    TimedOut,
    /// The node does not find the stream now (PLAY-3). Not the node's fault.
    #[error("the stream is not here now")]
    NotHere,
    /// The node proves that somebody holds the stream under a higher claim (PUB-5).
    #[error("fenced by a higher claim")]
    HigherClaim,
    /// The node does not take the token: its clock or its keys may be wrong (PUB-5).
    #[error("token refused by the node: {0}")]
    TokenRefused(String),
    /// The node says that the login was ended: the user was kicked, or logged in elsewhere. Not the node's fault, and not its
    /// to say with which code the stream ends: the room's end follows, or a plan in the name of the room's new login.
    #[error("the login was ended, says the node: {0}")]
    LoginEnded(String),
    /// Some other refusal of the node: full, leaving, or an unusable answer.
    #[error("refused: {0}")]
    Refused(String),
    /// The transport was up and is down.
    #[error("connection lost")]
    Down,
    /// The node ended the session.
    #[error("ended by the node: {0}")]
    Closed(String),
    /// Nothing came from the node any more.
    #[error("silent")]
    Silent,
    /// The process behind the address is gone: it refuses connections, or another life of the node answers.
    #[error("node is gone")]
    Gone,
    /// The app, or a better session, made it superfluous.
    #[error("not needed any more")]
    Unneeded,
}

impl Failure {
    /// The word for metrics and for `Report`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Gone => "unreachable",
            Self::TimedOut => "timed_out",
            Self::NotHere => "not_here",
            Self::HigherClaim | Self::TokenRefused(_) | Self::LoginEnded(_) | Self::Refused(_) => "refused",
            Self::Down | Self::Closed(_) | Self::Silent => "media_lost",
            Self::Unneeded => "unneeded",
        }
    }

    /// Whether the node itself answered: then its failure is its own word, whoever else is in reach.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Self::NotHere
            | Self::HigherClaim
            | Self::TokenRefused(_)
            | Self::LoginEnded(_)
            | Self::Refused(_)
            | Self::Closed(_) => true,
            Self::Unreachable(_)
            | Self::TimedOut
            | Self::Down
            | Self::Silent
            | Self::Gone
            | Self::Unneeded => false,
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its session came to be used.
    Used,
    /// It failed, or its session was lost.
    Failed(Failure),
    /// It failed while nobody answered: it does not count against its node (PUB-2).
    Void(Failure),
}

impl Outcome {
    /// The word for metrics and for `Report`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Failed(failure) => failure.word(),
            Self::Void(_) => "void",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used => f.write_str("used"),
            Self::Failed(failure) => failure.fmt(f),
            Self::Void(failure) => write!(f, "void: {failure}"),
        }
    }
}

/// One attempt in a trace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trial {
    /// Which attempt.
    pub attempt: AttemptId,
    /// At which node.
    pub node: NodeRef,
    /// When it started.
    pub started: Instant,
    /// How it ended.
    pub outcome: Outcome,
    /// From its start to its end.
    pub took: Duration,
}

/// The trials of a walk, in the order of their ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trace {
    trials: VecDeque<Trial>,
}

impl Trace {
    /// Adds one.
    pub fn push(&mut self, trial: Trial) {
        if self.trials.len() == MAX_TRIALS {
            self.trials.pop_front();
        }
        self.trials.push_back(trial);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.trials.clear();
    }

    /// The trials.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Trial> {
        self.trials.iter()
    }

    /// The attempt turned out to be void.
    pub(super) fn void(&mut self, attempt: AttemptId) {
        for trial in self.trials.iter_mut().filter(|trial| trial.attempt == attempt) {
            if let Outcome::Failed(failure) = &trial.outcome {
                trial.outcome = Outcome::Void(failure.clone());
            }
        }
    }

    /// As extended data: node, what happened, when (from the first trial's start), how long.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let start = self.trials.iter().map(|trial| trial.started).min();
        let entry = |trial: &Trial| {
            let at = start.map_or(Duration::ZERO, |start| trial.started.saturating_duration_since(start));
            json!({
                "attempt": trial.attempt.0,
                "node": trial.node.id,
                "incarnation": trial.node.incarnation,
                "outcome": trial.outcome.word(),
                "detail": trial.outcome.to_string(),
                "at_ms": millis(at),
                "took_ms": millis(trial.took),
            })
        };
        self.trials.iter().map(entry).collect()
    }
}

/// Whole milliseconds, as they travel in JSON.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
