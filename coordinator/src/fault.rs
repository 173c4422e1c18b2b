//! Why a call brings nothing: a refusal that is final, or trouble that a later call or another coordinator may mend.

use std::time::Duration;

use thiserror::Error;
use tonic::Status;
use waystation_proto::{IdError, NodeError, Refusal};

use crate::{mirror::Behind, store::StoreError, tokens::SignError};

/// Trouble.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store takes too long.
    #[error("the store does not answer in time; try another coordinator")]
    Slow,
    /// This coordinator does not see its store's changes in time.
    #[error("this coordinator is behind its store; try another")]
    Behind,
    /// Others changed the same thing again and again.
    #[error("too many change the same at once; try again")]
    Contended,
    /// The library will not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl From<Behind> for Fault {
    fn from(_: Behind) -> Self {
        Self::Behind
    }
}

/// Why a call brings nothing.
#[derive(Clone, Debug, Error)]
pub enum CallError {
    /// Final.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This coordinator does not know the login or the connection.
    #[error("this coordinator does not know the {0}; connect again")]
    Unknown(&'static str),
    /// What was sent makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// Nothing is granted before all that was granted is known.
    #[error("the cluster's claims are being gathered; try again in {} ms", .left.as_millis())]
    Gathering {
        /// How long it still takes.
        left: Duration,
    },
    /// Trouble.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<IdError> for CallError {
    fn from(error: IdError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<NodeError> for CallError {
    fn from(error: NodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Metadata key that says, in milliseconds, when a call may be repeated.
const RETRY_AFTER_METADATA: &str = "waystation-retry-after-ms";

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Refused(refusal) => refusal.into(),
            CallError::Unknown(_) => Self::not_found(message),
            CallError::Malformed(_) => Self::invalid_argument(message),
            CallError::Gathering { left } => {
                let mut status = Self::unavailable(message);
                let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                status.metadata_mut().insert(RETRY_AFTER_METADATA, left_ms.into());
                status
            }
            CallError::Fault(_) => Self::unavailable(message),
        }
    }
}
