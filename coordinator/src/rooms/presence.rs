//! Who was heard when, and whose time is up: pure.
//!
//! A login lives as long as it is heard: by a beat, or by a relay's word (ROOM-5). Time-outs are counted on the
//! monotonic clock, afresh after this process stood still: a late timer is no evidence.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use waystation_proto::{RoomId, SessionId, StreamKey, UserId};

/// Standing still for longer than this makes everybody heard afresh.
const STALL: Duration = Duration::from_secs(2);

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

#[derive(Clone, Debug)]
struct Tracked {
    session: SessionId,
    modified: u64,
    heard: Instant,
    token: Token,
}

/// Something whose time has come. It stays due until the store says that it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Not heard for too long. Delete only what was seen.
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

/// Everybody whom this coordinator counts.
#[derive(Debug)]
pub struct Presence {
    heard_within: Duration,
    warning: Duration,
    tracked: BTreeMap<Who, Tracked>,
    looked: Option<Instant>,
}

impl Presence {
    /// Nobody yet.
    #[must_use]
    pub fn new(heard_within: Duration, warning: Duration) -> Self {
        Self { heard_within, warning, tracked: BTreeMap::new(), looked: None }
    }

    /// Counts somebody from now on; an entry that was written again was heard just now.
    pub fn track(
        &mut self,
        who: Who,
        session: &SessionId,
        modified: u64,
        expires_s: Option<u64>,
        now: Instant,
    ) {
        let until_ms = expires_s.map(|expires| expires.saturating_mul(1000));
        let token = match (until_ms, self.tracked.get(&who).map(|tracked| tracked.token)) {
            (Some(until), Some(Token::Warned { until_ms })) if until == until_ms => {
                Token::Warned { until_ms }
            }
            (Some(until_ms), _) => Token::Good { until_ms },
            (None, _) => Token::Unknown,
        };
        self.tracked.insert(who, Tracked { session: session.clone(), modified, heard: now, token });
    }

    /// Counts somebody no longer.
    pub fn forget(&mut self, who: &Who) {
        self.tracked.remove(who);
    }

    /// Somebody was heard. Whether it is counted here.
    pub fn heard(&mut self, who: &Who, session: &SessionId, now: Instant) -> bool {
        match self.tracked.get_mut(who).filter(|tracked| tracked.session == *session) {
            Some(tracked) => {
                tracked.heard = tracked.heard.max(now);
                true
            }
            None => false,
        }
    }

    /// Whose time has come.
    pub fn due(&mut self, now: Instant, unix_ms: u64) -> Vec<Due> {
        let stalled = self.looked.is_some_and(|looked| now.saturating_duration_since(looked) > STALL);
        self.looked = Some(now);
        if stalled {
            tracing::warn!("this coordinator stood still; every user counts as heard just now");
            for tracked in self.tracked.values_mut() {
                tracked.heard = now;
            }
        }
        let warning_ms = u64::try_from(self.warning.as_millis()).unwrap_or(u64::MAX);
        let mut due = Vec::new();
        for (who, tracked) in &mut self.tracked {
            let (who, session, modified) = (who.clone(), tracked.session.clone(), tracked.modified);
            match tracked.token {
                Token::Good { until_ms } | Token::Warned { until_ms } if until_ms <= unix_ms => {
                    due.push(Due::Expired { who, session, modified });
                    continue;
                }
                Token::Good { until_ms } if until_ms - unix_ms <= warning_ms => {
                    tracked.token = Token::Warned { until_ms };
                    let within = Duration::from_millis(until_ms - unix_ms);
                    due.push(Due::Expiring { who: who.clone(), session: session.clone(), within });
                }
                Token::Good { .. } | Token::Warned { .. } | Token::Unknown => {}
            }
            if now.saturating_duration_since(tracked.heard) >= self.heard_within {
                due.push(Due::Unheard { who, session, modified });
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARD_WITHIN: Duration = Duration::from_secs(90);
    const WARNING: Duration = Duration::from_secs(30);

    fn ann() -> Who {
        Who::User(RoomId::new("r").unwrap(), UserId::new("ann").unwrap())
    }

    fn session(text: &str) -> SessionId {
        SessionId::new(text).unwrap()
    }

    /// Looks every second from `from` until something is due.
    fn first_due(presence: &mut Presence, from: Instant, unix_ms: u64) -> (u64, Vec<Due>) {
        for second in 0..1000 {
            let due = presence.due(from + Duration::from_secs(second), unix_ms + second * 1000);
            if !due.is_empty() {
                return (second, due);
            }
        }
        panic!("nothing was ever due");
    }

    #[test]
    fn a_user_is_unheard_90_s_after_the_last_word_and_only_what_was_seen_is_deleted() {
        // ROOM-5
        let (mut presence, start) = (Presence::new(HEARD_WITHIN, WARNING), Instant::now());
        presence.track(ann(), &session("a"), 7, None, start);
        let beat = start + Duration::from_secs(60);
        assert!(presence.due(start, 0).is_empty());
        for second in 1..=60 {
            presence.due(start + Duration::from_secs(second), 0);
        }
        assert!(!presence.heard(&ann(), &session("older"), beat), "an older login's beat is not this one's");
        assert!(presence.heard(&ann(), &session("a"), beat));
        let (second, due) = first_due(&mut presence, beat, 0);
        assert_eq!(second, 90);
        assert_eq!(due, [Due::Unheard { who: ann(), session: session("a"), modified: 7 }]);
        presence.forget(&ann());
        assert!(presence.due(beat + HEARD_WITHIN, 0).is_empty());
    }

    #[test]
    fn a_resume_is_heard_and_a_stall_of_the_coordinator_counts_against_nobody() {
        // ROOM-4
        let (mut presence, start) = (Presence::new(HEARD_WITHIN, WARNING), Instant::now());
        presence.track(ann(), &session("a"), 7, None, start);
        presence.due(start, 0);
        let woke = start + Duration::from_secs(500);
        assert!(presence.due(woke, 0).is_empty());
        let (second, due) = first_due(&mut presence, woke, 0);
        assert_eq!((second, due.len()), (90, 1));
        presence.track(ann(), &session("a"), 9, None, woke + HEARD_WITHIN);
        assert_eq!(first_due(&mut presence, woke + HEARD_WITHIN, 0).0, 90);
    }

    #[test]
    fn a_token_is_warned_of_once_30_s_ahead_and_expires_unless_renewed() {
        // ROOM-8
        let (mut presence, start) = (Presence::new(HEARD_WITHIN, WARNING), Instant::now());
        presence.track(ann(), &session("a"), 7, Some(60), start);
        let (second, due) = first_due(&mut presence, start, 0);
        assert_eq!(
            (second, due),
            (30, vec![Due::Expiring { who: ann(), session: session("a"), within: WARNING }])
        );
        presence.track(ann(), &session("a"), 8, Some(60), start + WARNING);
        let (second, due) = first_due(&mut presence, start + WARNING, 30_000);
        assert_eq!(
            (second, due),
            (30, vec![Due::Expired { who: ann(), session: session("a"), modified: 8 }])
        );
        presence.track(ann(), &session("a"), 9, Some(120), start + WARNING * 2);
        let (second, due) = first_due(&mut presence, start + WARNING * 2, 60_000);
        assert_eq!((second, due.len()), (30, 1), "renewed: the next warning is for the new token");
    }
}
