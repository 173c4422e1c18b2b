//! Who was heard when, and whose time is up: pure.
//!
//! A login lives as long as it is heard: by a beat, or by a relay's word (ROOM-5). Time-outs are counted on the
//! monotonic clock, afresh after this process stood still: a late timer is no evidence.
//!
//! One coordinator *owns* a user and counts for it, but a beat or a relay's word may reach any. So nothing is written
//! when somebody is heard; but before its time is up, the owner *doubts* it in the store, and a coordinator that has
//! heard it since becomes its owner, and counts from then on. Who is not vouched for within [`ASK_FOR`] goes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use waystation_proto::{RoomId, SessionId, StreamKey, UserId};

/// Standing still for longer than this makes everybody heard afresh.
const STALL: Duration = Duration::from_secs(2);
/// Other coordinators have this long to say that they heard somebody: enough for one whose member of the store just
/// failed. It is the end of the time-out, so nobody stays longer for it.
const ASK_FOR: Duration = Duration::from_secs(10);

/// Whose presence it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A user of a room.
    User(RoomId, UserId),
    /// A plain WHIP publisher: it has no login, its stream is all there is of it.
    Plain(StreamKey),
}

/// Where a token is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Only a relay's word is known, or the client has no login.
    Unknown,
    Good {
        until_ms: u64,
    },
    Warned {
        until_ms: u64,
    },
}

/// Whether others were asked about somebody whose time is nearly up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    None,
    /// The store says so since then.
    Asked(Instant),
}

/// Whose word counts.
#[derive(Clone, Debug)]
enum Duty {
    /// This coordinator counts the time-out.
    Ours { modified: u64, heard: Instant, token: Token, doubt: Doubt },
    /// Another does. It was perhaps heard here, and its owner perhaps doubts it, since this was seen.
    Others { heard: Option<Instant>, doubted: Option<Instant> },
}

#[derive(Clone, Debug)]
struct Tracked {
    session: SessionId,
    duty: Duty,
}

/// An entry of the store, as far as presence goes.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The login.
    pub session: &'a SessionId,
    /// Revision of the entry.
    pub modified: u64,
    /// When its token expires, Unix seconds.
    pub expires_s: Option<u64>,
    /// Whether its owner asks others about it.
    pub doubted: bool,
}

/// Something whose time has come. It stays due until the store says that it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Not heard for so long that others are to be asked.
    Doubtful {
        /// Who.
        who: Who,
        /// Its login.
        session: SessionId,
        /// Revision of the entry.
        modified: u64,
    },
    /// Its owner doubts it, and it was heard here.
    Vouch {
        /// Who.
        who: Who,
        /// Its login.
        session: SessionId,
    },
    /// Not heard for too long, by anybody. Delete only what was seen.
    Unheard {
        /// Who.
        who: Who,
        /// Its login.
        session: SessionId,
        /// Revision of the entry.
        modified: u64,
    },
    /// The token is about to expire; said once.
    Expiring {
        /// Who.
        who: Who,
        /// Its login.
        session: SessionId,
        /// In how long.
        within: Duration,
    },
    /// The token expired.
    Expired {
        /// Who.
        who: Who,
        /// Its login.
        session: SessionId,
        /// Revision of the entry.
        modified: u64,
    },
}

/// Everybody in the store, as this coordinator heard of them.
#[derive(Debug)]
pub struct Presence {
    heard_within: Duration,
    ask_for: Duration,
    warning: Duration,
    tracked: BTreeMap<Who, Tracked>,
    looked: Option<Instant>,
}

impl Presence {
    /// Nobody yet.
    #[must_use]
    pub fn new(heard_within: Duration, warning: Duration) -> Self {
        let ask_for = ASK_FOR.min(heard_within / 3);
        Self { heard_within, ask_for, warning, tracked: BTreeMap::new(), looked: None }
    }

    /// Counts somebody from now on. An entry that was written again was heard just now, unless it was to doubt it or to
    /// vouch for it.
    pub fn own(&mut self, who: Who, seen: Seen<'_>, now: Instant) {
        let before = self.tracked.remove(&who).filter(|tracked| tracked.session == *seen.session);
        let (heard, token) = match before.map(|tracked| tracked.duty) {
            Some(Duty::Ours { heard, token, .. }) if seen.doubted => (Some(heard), token),
            Some(Duty::Ours { token, .. }) => (None, token),
            // It is ours because it was heard here, and no later than it was.
            Some(Duty::Others { heard, doubted: Some(_) }) => (heard, Token::Unknown),
            Some(Duty::Others { heard: _, doubted: None }) | None => (None, Token::Unknown),
        };
        let until_ms = seen.expires_s.map(|expires| expires.saturating_mul(1000));
        let token = match (until_ms, token) {
            (Some(until), Token::Warned { until_ms }) if until == until_ms => Token::Warned { until_ms },
            (Some(until_ms), _) => Token::Good { until_ms },
            (None, _) => Token::Unknown,
        };
        let doubt = if seen.doubted && heard.is_some() { Doubt::Asked(now) } else { Doubt::None };
        let heard = heard.unwrap_or(now);
        let duty = Duty::Ours { modified: seen.modified, heard, token, doubt };
        self.tracked.insert(who, Tracked { session: seen.session.clone(), duty });
    }

    /// Another coordinator counts somebody from now on.
    pub fn disown(&mut self, who: Who, seen: Seen<'_>, now: Instant) {
        let before = self.tracked.remove(&who).filter(|tracked| tracked.session == *seen.session);
        let heard = match before.map(|tracked| tracked.duty) {
            Some(Duty::Ours { heard, .. }) => Some(heard),
            Some(Duty::Others { heard, .. }) => heard,
            None => None,
        };
        let duty = Duty::Others { heard, doubted: seen.doubted.then_some(now) };
        self.tracked.insert(who, Tracked { session: seen.session.clone(), duty });
    }

    /// Somebody is gone.
    pub fn forget(&mut self, who: &Who) {
        self.tracked.remove(who);
    }

    /// Somebody was heard. Whether anything is known of it.
    pub fn heard(&mut self, who: &Who, session: &SessionId, now: Instant) -> bool {
        match self.tracked.get_mut(who).filter(|tracked| tracked.session == *session) {
            Some(Tracked { duty: Duty::Ours { heard, .. }, .. }) => {
                *heard = now.max(*heard);
                true
            }
            Some(Tracked { duty: Duty::Others { heard, .. }, .. }) => {
                *heard = Some(now);
                true
            }
            None => false,
        }
    }

    /// Everybody whom this coordinator counts was heard just now: nobody could be for a while.
    pub fn afresh(&mut self, now: Instant) {
        for tracked in self.tracked.values_mut() {
            match &mut tracked.duty {
                Duty::Ours { heard, doubt, .. } => (*heard, *doubt) = (now, Doubt::None),
                Duty::Others { .. } => {}
            }
        }
    }

    /// This process runs. To be called more often than [`STALL`], also while the store is slow.
    pub fn awake(&mut self, now: Instant) {
        let stalled = self.looked.is_some_and(|looked| now.saturating_duration_since(looked) > STALL);
        self.looked = Some(now);
        if stalled {
            tracing::warn!("this coordinator stood still; every user counts as heard just now");
            self.afresh(now);
        }
    }

    /// Whose time has come.
    pub fn due(&mut self, now: Instant, unix_ms: u64) -> Vec<Due> {
        self.awake(now);
        let mut due = Vec::new();
        for (who, Tracked { session, duty }) in &mut self.tracked {
            match duty {
                Duty::Ours { modified, token, heard, doubt } => {
                    let of = Of { who, session, modified: *modified };
                    if !of.token(token, self.warning, unix_ms, &mut due) {
                        due.extend(of.silence(doubt, *heard, (self.heard_within, self.ask_for), now));
                    }
                }
                // Later than its owner did: that doubts it after this long.
                Duty::Others { heard: Some(heard), doubted: Some(doubted) }
                    if now.saturating_duration_since(*heard) < self.heard_within
                        && doubted.saturating_duration_since(*heard) < self.heard_within - self.ask_for =>
                {
                    due.push(Due::Vouch { who: who.clone(), session: session.clone() });
                }
                Duty::Others { .. } => {}
            }
        }
        due
    }
}

/// Somebody whom this coordinator counts.
struct Of<'a> {
    who: &'a Who,
    session: &'a SessionId,
    modified: u64,
}

impl Of<'_> {
    /// Looks at the token. Whether it expired.
    fn token(&self, token: &mut Token, warning: Duration, unix_ms: u64, due: &mut Vec<Due>) -> bool {
        let (who, session) = (self.who.clone(), self.session.clone());
        let warning_ms = u64::try_from(warning.as_millis()).unwrap_or(u64::MAX);
        match *token {
            Token::Good { until_ms } | Token::Warned { until_ms } if until_ms <= unix_ms => {
                due.push(Due::Expired { who, session, modified: self.modified });
                return true;
            }
            Token::Good { until_ms } if until_ms - unix_ms <= warning_ms => {
                *token = Token::Warned { until_ms };
                let within = Duration::from_millis(until_ms - unix_ms);
                due.push(Due::Expiring { who, session, within });
            }
            Token::Good { .. } | Token::Warned { .. } | Token::Unknown => {}
        }
        false
    }

    /// Looks at how long nothing was heard.
    fn silence(
        &self,
        doubt: &mut Doubt,
        heard: Instant,
        (heard_within, ask_for): (Duration, Duration),
        now: Instant,
    ) -> Option<Due> {
        let (who, session, modified) = (self.who.clone(), self.session.clone(), self.modified);
        let silent = now.saturating_duration_since(heard);
        match (self.who, *doubt) {
            // Nobody else counts for these.
            (Who::Plain(_), _) => (silent >= heard_within).then_some(Due::Unheard { who, session, modified }),
            (Who::User(..), Doubt::Asked(asked)) if heard > asked => {
                *doubt = Doubt::None;
                None
            }
            (Who::User(..), Doubt::Asked(asked)) => {
                let up = silent >= heard_within && now.saturating_duration_since(asked) >= ask_for;
                up.then_some(Due::Unheard { who, session, modified })
            }
            (Who::User(..), Doubt::None) => {
                (silent + ask_for >= heard_within).then_some(Due::Doubtful { who, session, modified })
            }
        }
    }
}

#[cfg(test)]
#[path = "presence_tests.rs"]
mod tests;
