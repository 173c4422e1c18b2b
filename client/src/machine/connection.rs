//! The one connection to a coordinator, for all rooms: which address, when to dial again, beats (ROOM-3, ROOM-12).
//!
//! Invariant: at most one connection is dialled or open, and each has a higher number than the one before.

use std::time::{Duration, Instant};

use super::{
    backoff::{Backoff, Dice},
    io::ConnectionId,
};

/// From the dial to the welcome.
const DIAL_TIME: Duration = Duration::from_secs(3);

/// A beat that is not answered by then has failed.
const BEAT_TIME: Duration = Duration::from_secs(3);

/// Beats that may fail in a row: the next one is the end of the connection.
const MAX_FAILED_BEATS: u32 = 1;

/// Until a welcome says otherwise.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);

/// What a welcome may say.
const SHORTEST_BEAT_INTERVAL: Duration = Duration::from_millis(500);

/// After a loss, before the first dial: not all of a dead coordinator's clients at once.
const SPREAD: Duration = Duration::from_millis(100);

/// Between rounds over all addresses.
const ROUNDS: Backoff = Backoff { first: Duration::from_millis(400), longest: Duration::from_secs(5) };

/// Addresses held.
const MAX_ADDRESSES: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Nobody wants it.
    Idle,
    /// To be dialled then.
    Waiting { until: Instant },
    /// Dialled, not welcome yet.
    Dialing { id: ConnectionId, url: String, until: Instant },
    /// Open.
    Up { id: ConnectionId, url: String, beat: Beat, failed_beats: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Beat {
    Due(Instant),
    Sent { until: Instant },
}

impl Beat {
    fn is_due(&self, now: Instant) -> bool {
        match self {
            Self::Due(at) => now >= *at,
            Self::Sent { .. } => false,
        }
    }
}

/// What a loss amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Of no connection that matters.
    Old,
    /// An address did not answer; there are others.
    Address,
    /// The last address of a round did not answer.
    Round,
    /// The open connection.
    Open,
}

/// The connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Connection {
    state: State,
    urls: Vec<String>,
    /// Which address is next.
    place: usize,
    /// Addresses tried in this round.
    tried: usize,
    round: u32,
    beat_interval: Duration,
    last: ConnectionId,
}

impl Connection {
    pub(super) fn new(mut urls: Vec<String>) -> Self {
        urls.truncate(MAX_ADDRESSES);
        Self {
            state: State::Idle,
            urls,
            place: 0,
            tried: 0,
            round: 0,
            beat_interval: BEAT_INTERVAL,
            last: ConnectionId(0),
        }
    }

    /// The open connection.
    pub(super) fn open(&self) -> Option<(ConnectionId, &str)> {
        match &self.state {
            State::Up { id, url, .. } => Some((*id, url)),
            State::Idle | State::Waiting { .. } | State::Dialing { .. } => None,
        }
    }

    /// Whether what comes over this connection matters.
    pub(super) fn is_current(&self, connection: ConnectionId) -> bool {
        match self.state {
            State::Up { id, .. } | State::Dialing { id, .. } => id == connection,
            State::Idle | State::Waiting { .. } => false,
        }
    }

    /// It is wanted.
    pub(super) fn want(&mut self, now: Instant) {
        if self.state == State::Idle {
            self.state = State::Waiting { until: now };
        }
    }

    /// Nobody wants it any more. Gives the connection to let go.
    pub(super) fn release(&mut self) -> Option<ConnectionId> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Up { id, .. } | State::Dialing { id, .. } => Some(id),
            State::Idle | State::Waiting { .. } => None,
        }
    }

    /// Dials if it is time to.
    pub(super) fn dial_if_due(&mut self, now: Instant) -> Option<(ConnectionId, String)> {
        match self.state {
            State::Waiting { until } if now >= until => {}
            State::Waiting { .. } | State::Idle | State::Dialing { .. } | State::Up { .. } => return None,
        }
        let url = self.urls.get(self.place % self.urls.len().max(1))?.clone();
        self.last.0 += 1;
        let id = self.last;
        self.state = State::Dialing { id, url: url.clone(), until: now + DIAL_TIME };
        Some((id, url))
    }

    /// A coordinator has welcomed the client.
    pub(super) fn welcome(&mut self, coordinators: Vec<String>, beat_interval: Duration, now: Instant) {
        let (id, url) = match &self.state {
            State::Dialing { id, url, .. } | State::Up { id, url, .. } => (*id, url.clone()),
            State::Idle | State::Waiting { .. } => return,
        };
        self.beat_interval = beat_interval.max(SHORTEST_BEAT_INTERVAL);
        self.learn(coordinators, &url);
        self.tried = 0;
        self.round = 0;
        let beat = Beat::Due(now + self.beat_interval);
        self.state = State::Up { id, url, beat, failed_beats: 0 };
    }

    /// Addresses that were given at the start stay: they may be the only ones that lead here from where the client is.
    fn learn(&mut self, coordinators: Vec<String>, current: &str) {
        for url in coordinators {
            if self.urls.len() < MAX_ADDRESSES && !self.urls.contains(&url) {
                self.urls.push(url);
            }
        }
        self.place = self.urls.iter().position(|url| url == current).unwrap_or(0);
    }

    /// This connection is lost, or is to be left: the next address is dialled.
    pub(super) fn lost(&mut self, connection: ConnectionId, dice: &mut Dice, now: Instant) -> Loss {
        if !self.is_current(connection) {
            return Loss::Old;
        }
        self.place = (self.place + 1) % self.urls.len().max(1);
        match self.state {
            State::Up { .. } => {
                self.state = State::Waiting { until: now + dice.between(Duration::ZERO, SPREAD) };
                Loss::Open
            }
            State::Idle | State::Waiting { .. } | State::Dialing { .. } => {
                self.tried += 1;
                if self.tried < self.urls.len() {
                    self.state = State::Waiting { until: now };
                    return Loss::Address;
                }
                self.tried = 0;
                self.state = State::Waiting { until: now + ROUNDS.wait(self.round, dice) };
                self.round = self.round.saturating_add(1);
                Loss::Round
            }
        }
    }

    /// A beat is wanted now: its answer is a sign of a coordinator.
    pub(super) fn want_beat(&mut self, now: Instant) {
        match &mut self.state {
            State::Up { beat: Beat::Due(at), .. } => *at = now,
            State::Up { beat: Beat::Sent { .. }, .. }
            | State::Idle
            | State::Waiting { .. }
            | State::Dialing { .. } => {}
        }
    }

    /// Beats if it is time to.
    pub(super) fn beat_if_due(&mut self, now: Instant) -> Option<(ConnectionId, String)> {
        match &mut self.state {
            State::Up { id, url, beat, .. } if beat.is_due(now) => {
                *beat = Beat::Sent { until: now + BEAT_TIME };
                Some((*id, url.clone()))
            }
            State::Up { .. } | State::Idle | State::Waiting { .. } | State::Dialing { .. } => None,
        }
    }

    /// A beat was answered.
    pub(super) fn beat_answered(&mut self, now: Instant) {
        let next = Beat::Due(now + self.beat_interval);
        match &mut self.state {
            State::Up { beat, failed_beats, .. } => {
                *beat = next;
                *failed_beats = 0;
            }
            State::Idle | State::Waiting { .. } | State::Dialing { .. } => {}
        }
    }

    /// A beat has failed. `true`: and so has the connection.
    pub(super) fn beat_failed(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Up { beat, failed_beats, .. } => {
                *beat = Beat::Due(now);
                *failed_beats += 1;
                *failed_beats > MAX_FAILED_BEATS
            }
            State::Idle | State::Waiting { .. } | State::Dialing { .. } => false,
        }
    }

    /// The connection whose dial or beat has taken too long.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<ConnectionId> {
        match &self.state {
            State::Dialing { id, until, .. } if now >= *until => Some(*id),
            State::Up { id, beat: Beat::Sent { until }, .. } if now >= *until => {
                let id = *id;
                self.beat_failed(now).then_some(id)
            }
            State::Up { .. } | State::Idle | State::Waiting { .. } | State::Dialing { .. } => None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Idle => None,
            // With no address at all there is nothing to wait for.
            State::Waiting { until } => (!self.urls.is_empty()).then_some(*until),
            State::Dialing { until, .. } | State::Up { beat: Beat::Sent { until }, .. } => Some(*until),
            State::Up { beat: Beat::Due(at), .. } => Some(*at),
        }
    }
}
