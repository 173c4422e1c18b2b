//! `application/trickle-ice-sdpfrag` (RFC 8840 §9): read for an ICE restart, written for its answer.

use std::net::SocketAddr;

use thiserror::Error;

use super::{answer::candidate_lines, offer::checked_ufrag};
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
    /// Not a candidate as RFC 8839 §5.1 has it.
    #[error(
        "line {0} of the fragment is no candidate: \"a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\" is one"
    )]
    Candidate(usize),
    /// It says nothing.
    #[error("the fragment has neither a candidate, nor the end of them, nor ICE credentials")]
    Empty,
    /// Another ICE ufrag than RFC 8839's grammar has.
    #[error("an ICE ufrag must have 4 to 256 letters, digits, '+' or '/'")]
    Ufrag,
}

/// A fragment. Candidates are not kept: a lite agent learns addresses from checks (RFC 8445 §2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The peer's ICE ufrag, if the fragment names it.
    pub ufrag: Option<String>,
    /// Its first `m=` and `a=mid` lines, under which the answer's candidates go.
    pub section: Option<String>,
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
        let (mut ufrag, mut media, mut mid) = (None, None, None);
        let mut says = false;
        for (index, line) in text.lines().map(str::trim_end).enumerate().filter(|(_, line)| !line.is_empty())
        {
            let (key, _) = line.split_once('=').ok_or(FragmentError::Syntax(index + 1))?;
            if key.len() != 1 || line.chars().any(char::is_control) {
                return Err(FragmentError::Syntax(index + 1));
            }
            // Of each the first: the bundle's.
            if key == "m" {
                media.get_or_insert(line);
            } else if let Some(text) = line.strip_prefix("a=ice-ufrag:") {
                ufrag.get_or_insert(checked_ufrag(text).ok_or(FragmentError::Ufrag)?);
            } else if line.starts_with("a=mid:") {
                mid.get_or_insert(line);
            } else if let Some(candidate) = line.strip_prefix("a=candidate:") {
                says = true;
                is_candidate(candidate).then_some(()).ok_or(FragmentError::Candidate(index + 1))?;
            } else if line == "a=end-of-candidates" {
                says = true;
            }
        }
        if !says && ufrag.is_none() {
            return Err(FragmentError::Empty);
        }
        let section = media.zip(mid).map(|(media, mid)| format!("{media}\r\n{mid}\r\n"));
        Ok(Self { ufrag: ufrag.map(str::to_owned), section })
    }

    /// The answer to an ICE restart: our new credentials and, as the client may have dropped it with the old ones,
    /// our candidate.
    pub fn restarted(&self, ice: &IceCredentials, candidate: Option<SocketAddr>) -> String {
        let IceCredentials { local_ufrag, local_pwd, .. } = ice;
        let head = format!("a=ice-lite\r\na=ice-ufrag:{local_ufrag}\r\na=ice-pwd:{local_pwd}\r\n");
        match (&self.section, candidate) {
            (Some(section), Some(candidate)) => head + section + &candidate_lines(candidate),
            (None, _) | (_, None) => head,
        }
    }
}

/// RFC 8839 §5.1, without the extensions behind the type. The address may be a name (RFC 8839 §5.1, mDNS).
fn is_candidate(text: &str) -> bool {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [foundation, component, _transport, priority, _address, port, "typ", _kind, ..] = words[..] else {
        return false;
    };
    let ice_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=');
    (1..=32).contains(&foundation.len())
        && foundation.chars().all(ice_char)
        && component.parse::<u16>().is_ok_and(|n| (1..=256).contains(&n))
        && priority.parse::<u32>().is_ok()
        && port.parse::<u16>().is_ok()
}
