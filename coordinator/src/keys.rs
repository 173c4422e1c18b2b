//! What is in the store: keys under one prefix, values as JSON.
//!
//! A rolling upgrade mixes two versions: fields are only ever added, with a default, and unknown ones are ignored.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use waystation_proto::{
    ErrorCode, KeyId, Node, NodeId, NodeRef, RoomId, SessionId, StreamId, StreamKey, UserId,
};

/// Begins the session ids of plain WHIP and WHEP clients, which are no users of the room.
pub const PLAIN_PREFIX: &str = "plain-";

/// A key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// [`Origin`]: where the store's epochs begin.
    Epochs,
    /// [`UserEntry`].
    User(RoomId, UserId),
    /// [`ClaimEntry`].
    Claim(StreamKey),
    /// [`StreamEntry`].
    Stream(StreamKey),
    /// [`NodeEntry`].
    Node(NodeId),
    /// [`RevokedEntry`].
    Revoked(SessionId),
    /// [`KickedEntry`].
    Kicked(RoomId, UserId),
    /// [`SigningEntry`].
    Signing(KeyId),
    /// [`NewestEntry`].
    Newest,
    /// [`CoordinatorEntry`].
    Coordinator(String),
    /// [`RestoringEntry`]: some coordinator is writing back what the store lost.
    Restoring,
}

/// Makes keys and takes them apart.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys under a prefix, which ends with a slash or gets one.
    #[must_use]
    pub fn under(prefix: &str) -> Self {
        Self { prefix: format!("{}/", prefix.trim_end_matches('/')) }
    }

    /// What all keys begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The text of a key.
    #[must_use]
    pub fn text(&self, key: &Key) -> String {
        let prefix = &self.prefix;
        match key {
            Key::Epochs => format!("{prefix}epochs"),
            Key::User(room, user) => format!("{prefix}user/{room}/{user}"),
            Key::Claim(stream) => format!("{prefix}claim/{stream}"),
            Key::Stream(stream) => format!("{prefix}stream/{stream}"),
            Key::Node(node) => format!("{prefix}node/{node}"),
            Key::Revoked(session) => format!("{prefix}revoked/{session}"),
            Key::Kicked(room, user) => format!("{prefix}kicked/{room}/{user}"),
            Key::Signing(id) => format!("{prefix}signing/{id}"),
            Key::Newest => format!("{prefix}newest-key"),
            Key::Coordinator(id) => format!("{prefix}coordinator/{id}"),
            Key::Restoring => format!("{prefix}restoring"),
        }
    }

    /// The key of a text; `None` if it is none of ours (a newer version's, say).
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<Key> {
        let mut parts = text.strip_prefix(&self.prefix)?.split('/');
        let (kind, first, second) = (parts.next()?, parts.next(), parts.next());
        if parts.next().is_some() {
            return None;
        }
        let stream = |room, stream| {
            Some(StreamKey { room: RoomId::new(room).ok()?, stream: StreamId::new(stream).ok()? })
        };
        match (kind, first, second) {
            ("epochs", None, None) => Some(Key::Epochs),
            ("user", Some(room), Some(user)) => {
                Some(Key::User(RoomId::new(room).ok()?, UserId::new(user).ok()?))
            }
            ("claim", Some(room), Some(id)) => stream(room, id).map(Key::Claim),
            ("stream", Some(room), Some(id)) => stream(room, id).map(Key::Stream),
            ("node", Some(node), None) => NodeId::new(node).ok().map(Key::Node),
            ("revoked", Some(session), None) => SessionId::new(session).ok().map(Key::Revoked),
            ("coordinator", Some(id), None) => Some(Key::Coordinator(id.to_owned())),
            ("restoring", None, None) => Some(Key::Restoring),
            ("kicked", Some(room), Some(user)) => {
                Some(Key::Kicked(RoomId::new(room).ok()?, UserId::new(user).ok()?))
            }
            ("signing", Some(id), None) => KeyId::new(id).ok().map(Key::Signing),
            ("newest-key", None, None) => Some(Key::Newest),
            (_, _, _) => None,
        }
    }
}

/// Where the store's epochs begin: written by the first coordinator that meets an empty store, and again by one that
/// writes back what a store lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Epochs that this store grants are higher. Those of its predecessors are not.
    pub base: u64,
    /// When an empty store was met, Unix milliseconds: coordinators that come soon after gather too.
    #[serde(default)]
    pub met_ms: u64,
    /// The predecessor whose content was written back into this store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
}

impl Origin {
    /// Of a store that was found empty.
    #[must_use]
    pub fn above(base: u64, met_ms: u64) -> Self {
        Self { base, met_ms, restored_from: None }
    }
}

/// What a user token allows, as far as it matters after the login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// May publish.
    pub publish: bool,
    /// May play.
    pub play: bool,
    /// Streams it is restricted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<Vec<String>>,
}

/// A user in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEntry {
    /// The app whose token let it in; empty if only a relay's word is known.
    #[serde(default)]
    pub app: String,
    /// The login: derived from its secret, so it also proves it.
    pub session: SessionId,
    /// The login with which the user came into the room. Others know the user under it: a login that replaces another
    /// is no update of the user (PUB-8).
    pub shown: SessionId,
    /// What its token allows.
    pub rights: Rights,
    /// When its token expires, Unix seconds; unknown if only a relay's word is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
    /// Number of the connection over which it was last logged in.
    pub connection: u64,
    /// The coordinator that counts its time-out.
    pub owner: String,
    /// Logins that it replaced, the latest last.
    #[serde(default)]
    pub replaced: Vec<SessionId>,
    /// Its owner has not heard it for long, and asks whether another coordinator has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubted: bool,
    /// What a newer version wrote: it is kept when this one writes the entry again.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// Who may publish a stream. Written when the claim is taken and never again, so that the revision of the write can
/// be its epoch: revisions only rise, whatever was deleted between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimEntry {
    /// The holder.
    pub user: UserId,
    /// Its login.
    pub session: SessionId,
    /// Where its epoch comes from.
    pub epoch: EpochSource,
}

/// Where a claim's epoch comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochSource {
    /// The revision of the write, above this base.
    Above(u64),
    /// Granted by a predecessor of this store, and gathered.
    Gathered(u64),
}

impl ClaimEntry {
    /// The epoch of a claim that was written at this revision.
    #[must_use]
    pub fn epoch(&self, modified: u64) -> u64 {
        match self.epoch {
            EpochSource::Above(base) => base.saturating_add(modified),
            EpochSource::Gathered(epoch) => epoch,
        }
    }
}

/// A stream that is in the room for others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEntry {
    /// Its publisher.
    pub user: UserId,
    /// Its publisher's login.
    pub session: SessionId,
    /// Epoch of its claim.
    pub epoch: u64,
    /// Move of the session that is or was last the active one.
    pub moved: u32,
    /// The node that takes it from its publisher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<NodeRef>,
}

/// A relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// As clients see it.
    pub node: Node,
    /// The coordinator to which it is attached.
    pub owner: String,
}

/// A coordinator that lives: the only keys with a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorEntry {
    /// Where clients and relays reach it.
    pub url: String,
}

/// Who writes back what the store lost. It has a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoringEntry {
    /// The coordinator.
    pub owner: String,
}

/// A login that ended by somebody's word, and whose tokens are taken no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedEntry {
    /// Number of the error code.
    pub code: u32,
    /// When its last token has expired, Unix milliseconds.
    pub until_ms: u64,
}

impl RevokedEntry {
    /// The code of the error table.
    #[must_use]
    pub fn error(&self) -> ErrorCode {
        ErrorCode::from_number(self.code).unwrap_or(ErrorCode::Kicked)
    }
}

/// A user that was kicked out of a room: logins and plain clients. It stays until the last token has expired that was
/// issued before, so that every relay hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KickedEntry {
    /// Until when it is refused, Unix milliseconds; in the past once it was let in again.
    pub refused_until_ms: u64,
    /// When it was kicked, Unix milliseconds.
    pub kicked_ms: u64,
    /// When its last token has expired, Unix milliseconds.
    pub until_ms: u64,
}

/// How far clocks of coordinators may differ.
const CLOCKS_DIFFER_MS: u64 = 5 * 60 * 1000;

impl KickedEntry {
    /// Relays take no token that was issued by then, Unix milliseconds. As none is issued to a user that is refused, it
    /// may lie after the kick, so that it covers what a coordinator issued whose clock is ahead.
    #[must_use]
    pub fn issued_until_ms(&self) -> u64 {
        self.refused_until_ms.min(self.kicked_ms.saturating_add(CLOCKS_DIFFER_MS))
    }
}

/// A key with which coordinators sign node tokens. Never changed; how it stands is told by the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningEntry {
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
    /// When it begins to sign, Unix milliseconds: every relay has it by then.
    pub signs_from_ms: u64,
    /// The Ed25519 seed, sealed: base64url of nonce, ciphertext and tag.
    pub sealed: String,
}

/// The key that was made last. Whoever makes one compares this: of two that do, one wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestEntry {
    /// Which key.
    pub id: KeyId,
}

/// The bytes of a value.
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("our values have string keys and no fallible serializers")
}

/// The value of some bytes; `None` if they are no such value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_key_leads_back_to_itself() {
        let keys = Keys::under("way/v1");
        let (room, user) = (RoomId::new("r").unwrap(), UserId::new("u@x").unwrap());
        let stream = StreamKey { room: room.clone(), stream: StreamId::new("s.1").unwrap() };
        for key in [
            Key::Epochs,
            Key::User(room, user),
            Key::Claim(stream.clone()),
            Key::Stream(stream),
            Key::Node(NodeId::new("n").unwrap()),
            Key::Revoked(SessionId::new("s").unwrap()),
            Key::Kicked(RoomId::new("r").unwrap(), UserId::new("u").unwrap()),
            Key::Signing(KeyId::new("k-_1").unwrap()),
            Key::Newest,
            Key::Coordinator("0a".into()),
            Key::Restoring,
        ] {
            assert_eq!(keys.parse(&keys.text(&key)), Some(key));
        }
        assert_eq!(keys.parse("way/v1/user/r/u/more"), None);
        assert_eq!(keys.parse("elsewhere/epochs"), None);
    }

    #[test]
    fn a_value_of_another_version_is_understood() {
        let newer = r#"{"user":"u","session":"s","epoch":{"above":5},"colour":"red"}"#;
        let claim: ClaimEntry = decode(newer.as_bytes()).unwrap();
        assert_eq!(claim.epoch(7), 12);
        let older = r#"{"session":"s","shown":"s","rights":{"publish":true,"play":false},"connection":1,"owner":"c"}"#;
        let user: UserEntry = decode(older.as_bytes()).unwrap();
        assert!(user.replaced.is_empty() && user.expires_s.is_none());
    }

    proptest! {
        #[test]
        fn any_key_and_any_value_are_taken_or_left_without_a_panic(text in ".{0,60}", bytes: Vec<u8>) {
            let keys = Keys::under("p");
            if let Some(key) = keys.parse(&format!("p/{text}")) {
                prop_assert_eq!(keys.text(&key), format!("p/{text}"));
            }
            let _: Option<UserEntry> = decode(&bytes);
        }
    }
}
