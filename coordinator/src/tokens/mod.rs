//! Tokens: what apps sign and we check, and what we sign and relays check.
//!
//! The only door to `jsonwebtoken`. Time is an argument: the library's own clock is never asked.

mod keeper;
mod node;
mod ring;
mod rotation;
mod seal;
mod user;

use thiserror::Error;

pub use keeper::{BeginError, begin, rotate, run};
pub use node::{NODE_TOKEN_VALID, NodeTokens, REVOKED_FOR};
pub use rotation::Rules;
pub(crate) use user::check_right;
pub use user::{App, AppKey, AppSigner, UserTokens, sign_user_token};

/// A token or key that cannot be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SignError {
    /// The key, or the library's objection to the claims.
    #[error("cannot sign the token: {0}; is the key of the right kind?")]
    Key(String),
    /// The store's keys are not here yet, or none of them can be opened.
    #[error("there is no key to sign with yet; try again, or another coordinator")]
    NoKey,
}

fn bad_key(error: impl std::fmt::Display) -> SignError {
    SignError::Key(error.to_string())
}

/// Longest token that is looked at.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How far clocks may differ.
const LEEWAY_S: u64 = 5 * 60;
