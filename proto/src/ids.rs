//! Ids as the domain knows them: checked once, at the door.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::v1;

/// Longest id, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// An id that cannot be taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum IdError {
    /// Nothing was given.
    #[error("{what} id is empty")]
    Empty {
        /// Which id.
        what: &'static str,
    },
    /// Longer than [`MAX_ID_BYTES`].
    #[error("{what} id has {bytes} bytes, at most {MAX_ID_BYTES} are allowed")]
    TooLong {
        /// Which id.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// Something else than letters, digits and `-_.:@`.
    #[error("{what} id holds {found:?}; letters, digits, '-', '_', '.', ':' and '@' are allowed")]
    BadCharacter {
        /// Which id.
        what: &'static str,
        /// The first character that is not allowed.
        found: char,
    },
}

fn check(what: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { what });
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong { what, bytes: text.len() });
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '@');
    match text.chars().find(|&c| !allowed(c)) {
        Some(found) => Err(IdError::BadCharacter { what, found }),
        None if text == "." || text == ".." => Err(IdError::BadCharacter { what, found: '.' }),
        None => Ok(()),
    }
}

macro_rules! ids {
    ($($(#[doc = $doc:literal])+ $name:ident, $what:literal;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text and takes it.
            ///
            /// # Errors
            /// [`IdError`] when it is empty, longer than 128 bytes, or holds other characters than letters,
            /// digits and `-_.:@`.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check($what, text).map(|()| Self(text.into()))
            }

            /// The id's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    )+};
}

ids! {
    /// A key that signs node tokens (a JWT's `kid`, RFC 7515).
    KeyId, "key";
    /// A room.
    RoomId, "room";
    /// A user, unique within a room.
    UserId, "user";
    /// A stream, unique within a room.
    StreamId, "stream";
    /// A relay, whatever its incarnation.
    NodeId, "node";
    /// The public name of a login; others see it.
    SessionId, "session";
    /// The client's secret name of a login, chosen from at least 128 random bits. [`SessionId`] derives from it.
    LoginId, "login";
}

/// A stream by its room and id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamKey {
    /// The room.
    pub room: RoomId,
    /// The stream in it.
    pub stream: StreamId,
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.room, self.stream)
    }
}

impl TryFrom<v1::StreamRef> for StreamKey {
    type Error = IdError;
    fn try_from(wire: v1::StreamRef) -> Result<Self, IdError> {
        Ok(Self { room: RoomId::new(&wire.room)?, stream: StreamId::new(&wire.stream)? })
    }
}

impl From<&StreamKey> for v1::StreamRef {
    fn from(key: &StreamKey) -> Self {
        Self { room: key.room.to_string(), stream: key.stream.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{IdError, RoomId};

    #[test]
    fn an_id_that_could_change_a_path_is_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "a%2f", "a?b", &"x".repeat(129)] {
            assert!(RoomId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(RoomId::new("a/b"), Err(IdError::BadCharacter { what: "room", found: '/' }));
        assert!(RoomId::new("Zürich-1_2.3:x@y").is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused_without_a_panic(text in ".{0,200}") {
            if let Ok(id) = RoomId::new(&text) {
                prop_assert_eq!(id.as_str(), text);
            }
        }
    }
}
