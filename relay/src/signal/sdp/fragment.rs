//! `application/trickle-ice-sdpfrag` (RFC 8840 §9): read for an ICE restart, written for its answer.

use thiserror::Error;

use super::offer::checked_ufrag;
use crate::plane::IceCredentials;

/// Largest fragment: a hundred candidates have some 10 KiB.
pub const MAX_FRAGMENT_BYTES: usize = 16 * 1024;

/// Why a fragment cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FragmentError {
    /// Larger than [`MAX_FRAGMENT_BYTES`].
    #[error("the fragment has {0} bytes, at most {MAX_FRAGMENT_BYTES} are taken")]
    TooLarge(usize),
    /// SDP is UTF-8 here.
    #[error("the fragment is not UTF-8")]
    NotUtf8,
    /// Not SDP lines.
    #[error("line {0} of the fragment is not of the form x=value")]
    Syntax(usize),
    /// Another ICE ufrag than RFC 8839's grammar has.
    #[error("an ICE ufrag must have 4 to 256 letters, digits, '+' or '/'")]
    Ufrag,
}

/// A fragment. Candidates are not kept: a lite agent learns addresses from checks (RFC 8445 §2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The peer's ICE ufrag, if the fragment names it.
    pub ufrag: Option<String>,
}

impl Fragment {
    /// Parses a fragment.
    ///
    /// # Errors
    /// [`FragmentError`]
    pub fn parse(body: &[u8]) -> Result<Self, FragmentError> {
        if body.len() > MAX_FRAGMENT_BYTES {
            return Err(FragmentError::TooLarge(body.len()));
        }
        let text = std::str::from_utf8(body).map_err(|_| FragmentError::NotUtf8)?;
        let mut ufrag = None;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let value = match line.split_once('=') {
                Some((key, value)) if key.len() == 1 => value.trim_end(),
                Some(_) | None => return Err(FragmentError::Syntax(index + 1)),
            };
            if let Some(text) = value.strip_prefix("ice-ufrag:").filter(|_| line.starts_with('a')) {
                let text = checked_ufrag(text).ok_or(FragmentError::Ufrag)?;
                // The first one: the bundle's.
                ufrag.get_or_insert_with(|| text.to_owned());
            }
        }
        Ok(Self { ufrag })
    }

    /// The answer to an ICE restart. Our candidate is the one of the first answer.
    pub fn restarted(ice: &IceCredentials) -> String {
        format!("a=ice-lite\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", ice.local_ufrag, ice.local_pwd)
    }
}
