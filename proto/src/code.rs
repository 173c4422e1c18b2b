//! The error codes that clients see.

use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// A number of the behaviour's error table. The numbers are those that users of the source SDK know.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl ErrorCode {
            /// Every code, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// What the code says, in one line.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

codes! {
    /// This client is in as many rooms as it may be (ROOM-12).
    TooManyRooms = 1_002_001, "too many rooms for this client";
    /// No coordinator answered within `room_retry_time`.
    NoCoordinator = 1_002_030, "could not connect to any coordinator";
    /// Bad signature, wrong app, wrong user, room, stream or action.
    TokenRefused = 1_002_033, "token refused";
    /// The room takes no more users.
    RoomFull = 1_002_034, "room full";
    /// The same user logged in elsewhere (ROOM-7).
    Replaced = 1_002_050, "kicked: the same user logged in elsewhere";
    /// The connection to the coordinator is broken (ROOM-3); not final.
    RoomBroken = 1_002_051, "connection broken, reconnecting";
    /// `room_retry_time` is up (ROOM-6).
    RoomGaveUp = 1_002_053, "gave up reconnecting";
    /// Kicked by an operator or the app's server (ROOM-8).
    Kicked = 1_002_055, "kicked by an operator";
    /// The user token expired and was not renewed (ROOM-8).
    TokenExpired = 1_002_056, "token expired and not renewed";
    /// Every node was tried (PUB-3).
    PublishFailed = 1_003_001, "publish failed: every node was tried";
    /// The publisher's session was lost (PUB-2); not final.
    PublishInterrupted = 1_003_020, "publish interrupted, recovering";
    /// `av_retry_time` is up (PUB-4).
    PublishGaveUp = 1_003_021, "gave up publishing";
    /// Forbidden by the token or an operator (PUB-5).
    PublishForbidden = 1_003_025, "publishing forbidden by the token or an operator";
    /// The stream id is being published by another user (PUB-5).
    StreamTaken = 1_003_028, "the stream id is being published by another user";
    /// Every node was tried (PLAY-3).
    PlayFailed = 1_004_001, "play failed: every node was tried";
    /// A coordinator says that the room has no such stream (PLAY-3).
    NoSuchStream = 1_004_002, "no such stream in the room";
    /// The player's session was lost (PLAY-2); not final.
    PlayInterrupted = 1_004_020, "play interrupted, recovering";
    /// `av_retry_time` is up (PLAY-4).
    PlayGaveUp = 1_004_021, "gave up playing";
    /// Forbidden by the token or an operator (PLAY-5).
    PlayForbidden = 1_004_025, "playing forbidden by the token or an operator";
}

impl ErrorCode {
    /// The number of the table.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The code of a number, if the table has it.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.number() == number)
    }

    /// Whether nothing is retried after it.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::RoomBroken | Self::PublishInterrupted | Self::PlayInterrupted)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorCode;

    #[test]
    fn every_number_leads_back_to_its_code() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), Some(code));
        }
        assert_eq!(ErrorCode::from_number(0), None);
    }
}
