//! A refusal with a code of the behaviour's table, as it travels in a gRPC status.

use std::fmt;

use tonic::{Code, Status};

use crate::ErrorCode;

/// Metadata key that holds the number.
pub const CODE_METADATA: &str = "waystation-code";

/// Why a coordinator will not do something, and never will for the same request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The number that clients act on.
    pub code: ErrorCode,
    /// What was wrong, with which value, and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The refusal within a status, if it is one. A status without the metadata is a failure that another
    /// coordinator, or a later call, may mend.
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let number = status.metadata().get(CODE_METADATA)?.to_str().ok()?.parse().ok()?;
        Some(Self { code: ErrorCode::from_number(number)?, message: status.message().to_owned() })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::TokenRefused | ErrorCode::TokenExpired => Code::Unauthenticated,
        ErrorCode::PublishForbidden | ErrorCode::PlayForbidden | ErrorCode::Kicked => Code::PermissionDenied,
        ErrorCode::StreamTaken => Code::AlreadyExists,
        ErrorCode::NoSuchStream => Code::NotFound,
        ErrorCode::TooManyRooms | ErrorCode::RoomFull => Code::ResourceExhausted,
        ErrorCode::Replaced => Code::FailedPrecondition,
        ErrorCode::NoCoordinator
        | ErrorCode::RoomBroken
        | ErrorCode::RoomGaveUp
        | ErrorCode::PublishFailed
        | ErrorCode::PublishInterrupted
        | ErrorCode::PublishGaveUp
        | ErrorCode::PlayFailed
        | ErrorCode::PlayInterrupted
        | ErrorCode::PlayGaveUp => Code::Unavailable,
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut status = Self::new(grpc_code(refusal.code), refusal.message);
        status.metadata_mut().insert(CODE_METADATA, refusal.code.number().into());
        status
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::Refusal;
    use crate::ErrorCode;

    #[test]
    fn a_refusal_survives_the_status() {
        for &code in ErrorCode::ALL {
            let refusal = Refusal::new(code, "because");
            assert_eq!(Refusal::from_status(&refusal.clone().into()), Some(refusal));
        }
        assert_eq!(Refusal::from_status(&Status::unavailable("later")), None);
    }
}
