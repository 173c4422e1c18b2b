//! What a node's answer to a POST means. Pure.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use waystation_proto::ErrorCode;

use crate::machine::Failure;

/// Longest answer read.
pub(crate) const MAX_BODY_BYTES: usize = 64 << 10;

/// Longest wait that a node may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Why a session was not opened.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// The node's list entry.
    #[error("node address {0:?} is no URL")]
    BadAddress(String),
    /// Nobody listens there, or the connection broke.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer within the time of an attempt.
    #[error("no answer in time")]
    TimedOut,
    /// The node does not find the stream now (PLAY-3).
    #[error("the stream is not here now: {0}")]
    NotHere(String),
    /// The node proves that another session holds the stream under a higher claim (PUB-5).
    #[error("fenced by a higher claim: {0}")]
    HigherClaim(String),
    /// The node does not take the token (its clock or its keys may be wrong).
    #[error("token refused: {0}")]
    TokenRefused(String),
    /// The login behind the token was ended (ROOM-7, ROOM-8).
    #[error("the login was ended: {0}")]
    LoginEnded(String),
    /// It takes no sessions now.
    #[error("node is full or leaving")]
    Busy {
        /// When it may be asked again.
        retry_after: Option<Duration>,
    },
    /// It names a better node; the list says which.
    #[error("redirected elsewhere")]
    Redirected,
    /// Some other refusal.
    #[error("HTTP status {status}: {detail}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// What the problem document says.
        detail: String,
    },
    /// An answer that is none.
    #[error("unusable answer: {0}")]
    BadAnswer(String),
}

impl OpenError {
    /// What `reqwest` met.
    pub(super) fn of_transport(error: reqwest::Error) -> Self {
        if error.is_timeout() { Self::TimedOut } else { Self::Unreachable(innermost(&error)) }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Unreachable(why) => Self::Unreachable(why),
            OpenError::BadAddress(_) => Self::Unreachable(error.to_string()),
            OpenError::TimedOut => Self::TimedOut,
            OpenError::NotHere(_) => Self::NotHere,
            OpenError::HigherClaim(_) => Self::HigherClaim,
            OpenError::TokenRefused(why) => Self::TokenRefused(why),
            OpenError::LoginEnded(why) => Self::LoginEnded(why),
            OpenError::Busy { .. }
            | OpenError::Redirected
            | OpenError::Refused { .. }
            | OpenError::BadAnswer(_) => Self::Refused(error.to_string()),
        }
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}

/// A problem document (RFC 9457 §3), as far as it matters.
#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    code: u32,
}

impl Problem {
    fn text(self) -> String {
        if self.detail.is_empty() { self.title } else { self.detail }
    }
}

/// `Ok` for a session opened; else what the refusal means.
pub(super) fn judge(status: u16, retry_after: Option<&str>, body: &[u8]) -> Result<(), OpenError> {
    if status == 201 {
        return Ok(());
    }
    // A refusal whose document cannot be read is still that refusal.
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let code = ErrorCode::from_number(problem.code);
    Err(match status {
        403 if matches!(code, Some(ErrorCode::Kicked | ErrorCode::Replaced)) => {
            OpenError::LoginEnded(problem.text())
        }
        401 | 403 => OpenError::TokenRefused(problem.text()),
        409 if code == Some(ErrorCode::StreamTaken) => OpenError::HigherClaim(problem.text()),
        404 | 409 if !problem.kind.ends_with(":fenced") => OpenError::NotHere(problem.text()),
        307 | 308 => OpenError::Redirected,
        429 | 503 => {
            let wait = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            OpenError::Busy { retry_after: wait.map(|wait| wait.min(MAX_RETRY_AFTER)) }
        }
        _ => OpenError::Refused { status, detail: problem.text() },
    })
}
