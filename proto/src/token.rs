//! What the tokens say. Signing and checking belong to the coordinator and the relay.

use serde::{Deserialize, Serialize};

use crate::{Claim, NodeId, RoomId, SessionId, StreamId, UserId};

/// Claims of a user token: a JWT (RFC 7519) signed by the app, HS256 or EdDSA, checked by coordinators only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserToken {
    /// The app that signed it.
    pub app: String,
    /// The user it speaks for.
    pub user: UserId,
    /// Rooms it is good for; `*` is every room.
    #[serde(default)]
    pub rooms: Vec<String>,
    /// May publish.
    #[serde(default)]
    pub publish: bool,
    /// May play.
    #[serde(default)]
    pub play: bool,
    /// Streams it is restricted to; absent is every stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<Vec<String>>,
    /// May read the cluster's state (the console page, `waystation nodes`).
    #[serde(default)]
    pub observe: bool,
    /// May kick users of its rooms and, if it is good for every room, rotate the cluster's keys.
    #[serde(default)]
    pub admin: bool,
    /// Expiry, Unix seconds.
    pub exp: u64,
}

impl UserToken {
    /// Whether it is good for this room.
    #[must_use]
    pub fn covers_room(&self, room: &RoomId) -> bool {
        self.rooms.iter().any(|r| r == "*" || r == room.as_str())
    }

    /// Whether it is good for every room.
    #[must_use]
    pub fn covers_every_room(&self) -> bool {
        self.rooms.iter().any(|room| room == "*")
    }

    /// Whether its user, if it may observe, sees this room. A token that names no room sees all.
    #[must_use]
    pub fn shows_room(&self, room: &RoomId) -> bool {
        self.rooms.is_empty() || self.covers_room(room)
    }

    /// Whether it is good for this stream.
    #[must_use]
    pub fn covers_stream(&self, stream: &StreamId) -> bool {
        self.streams.as_ref().is_none_or(|streams| streams.iter().any(|s| s == stream.as_str()))
    }
}

/// What a node token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Publish the stream.
    Publish,
    /// Play the stream.
    Play,
}

/// Value of `aud` in a node token.
pub const NODE_TOKEN_AUDIENCE: &str = "waystation-node";

/// Claims of a node token: a JWT signed by coordinators with EdDSA (`kid` names the key), checked by relays
/// offline. Good for every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeToken {
    /// Always [`NODE_TOKEN_AUDIENCE`].
    pub aud: String,
    /// The app of the user token behind it.
    pub app: String,
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// The login; revocation names it.
    pub session: SessionId,
    /// The stream.
    pub stream: StreamId,
    /// What is allowed.
    pub action: Action,
    /// For a publish: the claim taken. The holder may raise its move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Whether it was exchanged for a plain WHIP or WHEP client, which has no login of its own.
    #[serde(default)]
    pub plain: bool,
    /// Issued at, Unix seconds.
    pub iat: u64,
    /// Expiry, Unix seconds. Gates new sessions only.
    pub exp: u64,
}

/// Value of `aud` in a relay's certificate.
pub const RELAY_CERTIFICATE_AUDIENCE: &str = "waystation-link";

/// Claims of the certificate that a coordinator gives an attached relay, with which it proves itself on links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayCertificate {
    /// Always [`RELAY_CERTIFICATE_AUDIENCE`].
    pub aud: String,
    /// The relay.
    pub node: NodeId,
    /// Its life.
    pub incarnation: u64,
    /// Its Ed25519 public key, base64url without padding.
    pub key: String,
    /// Expiry, Unix seconds.
    pub exp: u64,
}

/// Value of `aud` in a join token.
pub const JOIN_AUDIENCE: &str = "waystation-join";

/// Claims of the token with which a relay attaches: HS256 with the cluster's secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Always [`JOIN_AUDIENCE`].
    pub aud: String,
    /// The relay.
    pub node: NodeId,
    /// Expiry, Unix seconds.
    pub exp: u64,
}
