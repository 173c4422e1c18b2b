//! What operators and app servers do to a running cluster: kick users, and see and rotate the keys of node tokens.
//!
//! Any coordinator takes it: what it writes, the others read.

mod kick;
mod service;

use tonic::metadata::MetadataMap;
use waystation_proto::{ErrorCode, Refusal};

pub use self::{kick::refusal, service::Admin};

/// The user token that a call brings.
///
/// # Errors
/// 1002033 without one.
pub fn bearer(metadata: &MetadataMap) -> Result<&str, Refusal> {
    let value = metadata.get("authorization").and_then(|value| value.to_str().ok());
    value.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(|| {
        Refusal::new(ErrorCode::TokenRefused, "no token; send \"authorization: Bearer USER_TOKEN\"")
    })
}
