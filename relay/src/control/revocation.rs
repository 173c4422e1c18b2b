//! Logins and users that ended: their sessions end, and their tokens are not taken until the last of them expired.

use std::time::Instant;

use waystation_proto::{ErrorCode, Refusal, RoomId, SessionId, UserId, token::NodeToken};

use super::core::Core;

/// Most revocations kept; the ones that run out first make room.
const MAX_REVOCATIONS: usize = 100_000;

/// Whose sessions end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// One login's.
    Login(SessionId),
    /// All of a user in a room, plain clients' too, if their tokens were issued by then: later ones are those of a user
    /// who was let in again.
    User {
        room: RoomId,
        user: UserId,
        /// By the coordinators' clock, Unix milliseconds.
        issued_until_ms: u64,
    },
}

/// What relays remember revocations by: a later word of the same takes the place of the earlier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Login(SessionId),
    User(RoomId, UserId),
}

impl Ended {
    fn name(&self) -> Name {
        match self {
            Self::Login(session) => Name::Login(session.clone()),
            Self::User { room, user, .. } => Name::User(room.clone(), user.clone()),
        }
    }

    fn covers(&self, token: &NodeToken) -> bool {
        match self {
            Self::Login(session) => token.session == *session,
            Self::User { room, user, issued_until_ms } => {
                // Its second of issue was over by then.
                let issued_ms = token.iat.saturating_add(1).saturating_mul(1000);
                token.room == *room && token.user == *user && issued_ms <= *issued_until_ms
            }
        }
    }
}

/// A login or user that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    /// Whose sessions.
    pub ended: Ended,
    /// What they are told.
    pub code: ErrorCode,
    /// Kept until then.
    pub until: Instant,
}

impl Core {
    pub(super) fn revoke(&mut self, revocation: Revocation, now: Instant) {
        let ended: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| revocation.ended.covers(&session.token))
            .map(|(resource, _)| resource.clone())
            .collect();
        for resource in ended {
            self.end_session(&resource, revocation.code.number(), revocation.code.text(), now);
        }
        if revocation.until <= now {
            return;
        }
        if self.revoked.len() >= MAX_REVOCATIONS {
            let first = self.revoked.iter().min_by_key(|(_, r)| r.until).map(|(name, _)| name.clone());
            if let Some(first) = first {
                self.revoked.remove(&first);
            }
        }
        self.revoked.insert(revocation.ended.name(), revocation);
    }

    /// Why a token is not taken although it is good, if it is not.
    pub(super) fn revocation(&self, token: &NodeToken, now: Instant) -> Option<Refusal> {
        let names = [Name::Login(token.session.clone()), Name::User(token.room.clone(), token.user.clone())];
        let held = names.iter().filter_map(|name| self.revoked.get(name));
        let mut good = held.filter(|held| held.until > now && held.ended.covers(token));
        good.next().map(|revocation| {
            let message = match &revocation.ended {
                Ended::Login(session) => format!("the login {session} behind this token ended; log in again"),
                Ended::User { room, user, .. } => {
                    format!("user {user} was kicked out of room {room} after this token was issued")
                }
            };
            Refusal::new(revocation.code, message)
        })
    }
}
