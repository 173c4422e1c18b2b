//! What an app hears: the three machines' states, and what happened on the way.
//!
//! Invariant: a final state comes once, and nothing of that machine follows it.

use std::{fmt, time::Duration};

use serde::Serialize;
use waystation_proto::{ErrorCode, NodeRef, RoomId, SessionId, StreamId, StreamKey, UserId};

use super::trial::Outcome;

macro_rules! states {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $state_doc:literal])+ $state:ident = $number:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[doc = $state_doc])+ $state = $number,)+
        }

        impl $name {
            /// The number of the behaviour's table.
            #[must_use]
            pub fn number(self) -> u8 {
                self as u8
            }

            /// Its name in the behaviour's table.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$state => stringify!($state)),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

states! {
    /// Where a room stands.
    RoomState {
        /// Not logged in, or not any more.
        Disconnected = 0,
        /// On the way in, or back in.
        Connecting = 1,
        /// Logged in.
        Connected = 2,
    }
}

states! {
    /// Where a publisher stands.
    PublisherState {
        /// Nothing is published, and nothing will be.
        NoPublish = 0,
        /// Looking for a node.
        PublishRequesting = 1,
        /// A node has the session.
        Publishing = 2,
    }
}

states! {
    /// Where a player stands.
    PlayerState {
        /// Nothing is played, and nothing will be.
        NoPlay = 0,
        /// Looking for the stream.
        PlayRequesting = 1,
        /// Media arrives, or the stream is idle.
        Playing = 2,
    }
}

/// A room's change of state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomStateUpdate {
    /// Which room.
    pub room: RoomId,
    /// Its state.
    pub state: RoomState,
    /// 0, or a number of the error table.
    pub code: u32,
    /// `{"session": id}` once there is one.
    pub extended: serde_json::Value,
}

/// A publisher's change of state, or of node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublisherStateUpdate {
    /// Which stream.
    pub key: StreamKey,
    /// Its state.
    pub state: PublisherState,
    /// 0, or a number of the error table.
    pub code: u32,
    /// The node in use.
    pub node: Option<NodeRef>,
    /// `attempt`, `idle`, `trace`, and `retry_after_ms` where nothing else is tried.
    pub extended: serde_json::Value,
}

/// A player's change of state, or of node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlayerStateUpdate {
    /// Which stream.
    pub key: StreamKey,
    /// Its state.
    pub state: PlayerState,
    /// 0, or a number of the error table.
    pub code: u32,
    /// The node in use.
    pub node: Option<NodeRef>,
    /// `attempt`, `idle`, `trace`, and `retry_after_ms` where nothing else is tried.
    pub extended: serde_json::Value,
}

macro_rules! updates {
    ($($name:ident, $subject:ident, $end:path;)+) => {$(
        impl $name {
            /// Whether it is a final failure: nothing is retried after it.
            #[must_use]
            pub fn is_final(&self) -> bool {
                self.state == $end && self.code != 0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}: {} ({})", self.$subject, self.state, self.code)?;
                match ErrorCode::from_number(self.code) {
                    Some(code) => write!(f, " {}", code.text()),
                    None => Ok(()),
                }
            }
        }
    )+};
}

updates! {
    RoomStateUpdate, room, RoomState::Disconnected;
    PublisherStateUpdate, key, PublisherState::NoPublish;
    PlayerStateUpdate, key, PlayerState::NoPlay;
}

/// The end of an attempt at a node (GO-5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttemptEvent {
    /// For which stream.
    pub key: StreamKey,
    /// At which node.
    pub node: NodeRef,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// A stop in a player's media; measured where the packets are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GapEvent {
    /// In which stream.
    pub key: StreamKey,
    /// How long there was no media.
    pub lasted: Duration,
    /// The node before it.
    pub before: Option<NodeRef>,
    /// The node after it.
    pub after: Option<NodeRef>,
}

/// Whether entries came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// They went.
    Delete,
    /// They came.
    Add,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delete => "Delete",
            Self::Add => "Add",
        })
    }
}

/// A user in a room. The same user in another login is another entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserEntry {
    /// Who.
    pub user: UserId,
    /// The login.
    pub session: SessionId,
}

/// A stream in a room. The same stream of another session or epoch is another entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamEntry {
    /// Which.
    pub stream: StreamId,
    /// Who publishes it.
    pub user: UserId,
    /// In which login.
    pub session: SessionId,
    /// Under which epoch.
    pub epoch: u64,
}

/// Other users came or went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomUserUpdate {
    /// In which room.
    pub room: RoomId,
    /// Which way.
    pub change: Change,
    /// Who.
    pub users: Vec<UserEntry>,
}

/// Streams of others came or went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomStreamUpdate {
    /// In which room.
    pub room: RoomId,
    /// Which way.
    pub change: Change,
    /// Which.
    pub streams: Vec<StreamEntry>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A room's state.
    Room(RoomStateUpdate),
    /// A publisher's state.
    Publisher(PublisherStateUpdate),
    /// A player's state.
    Player(PlayerStateUpdate),
    /// An attempt at a node has ended.
    Attempt(AttemptEvent),
    /// Media stopped for a while.
    Gap(GapEvent),
    /// Users of a room.
    Users(RoomUserUpdate),
    /// Streams of a room.
    Streams(RoomStreamUpdate),
    /// A room's user token is about to expire: renew it.
    TokenExpiring {
        /// Which room.
        room: RoomId,
        /// In how long.
        in_: Duration,
    },
}

fn listed<T>(entries: &[T], name: impl Fn(&T) -> &str) -> String {
    entries.iter().map(name).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room(update) => update.fmt(f),
            Self::Publisher(update) => update.fmt(f),
            Self::Player(update) => update.fmt(f),
            Self::Attempt(AttemptEvent { key, node, outcome, took }) => {
                write!(f, "{key}: {node} {outcome} after {} ms", took.as_millis())
            }
            Self::Gap(GapEvent { key, lasted, .. }) => {
                write!(f, "{key}: no media for {} ms", lasted.as_millis())
            }
            Self::Users(RoomUserUpdate { room, change, users }) => {
                write!(f, "{room}: {change} users {}", listed(users, |entry| entry.user.as_str()))
            }
            Self::Streams(RoomStreamUpdate { room, change, streams }) => {
                write!(f, "{room}: {change} streams {}", listed(streams, |entry| entry.stream.as_str()))
            }
            Self::TokenExpiring { room, in_ } => {
                write!(f, "{room}: the token expires in {} s", in_.as_secs())
            }
        }
    }
}
