//! Logins that ended: their sessions end, and their tokens are not taken until the last of them expired.

use std::time::Instant;

use waystation_proto::{ErrorCode, Refusal, SessionId};

use super::core::Core;

/// Most revocations kept; the ones that run out first make room.
const MAX_REVOCATIONS: usize = 100_000;

/// One login that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    /// Which login.
    pub session: SessionId,
    /// What its sessions are told.
    pub code: ErrorCode,
    /// Kept until then.
    pub until: Instant,
}

impl Core {
    pub(super) fn revoke(&mut self, revocation: Revocation, now: Instant) {
        let ended: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.token.session == revocation.session)
            .map(|(resource, _)| resource.clone())
            .collect();
        for resource in ended {
            self.end_session(&resource, revocation.code.number(), revocation.code.text(), now);
        }
        if revocation.until <= now {
            return;
        }
        if self.revoked.len() >= MAX_REVOCATIONS {
            let first = self.revoked.values().min_by_key(|r| r.until).map(|r| r.session.clone());
            if let Some(first) = first {
                self.revoked.remove(&first);
            }
        }
        self.revoked.insert(revocation.session.clone(), revocation);
    }

    /// Why a login's token is not taken, if it is not.
    pub(super) fn revocation(&self, session: &SessionId, now: Instant) -> Option<Refusal> {
        let revocation = self.revoked.get(session).filter(|revocation| revocation.until > now)?;
        let message = format!("the login {session} behind this token ended; log in again");
        Some(Refusal::new(revocation.code, message))
    }
}
