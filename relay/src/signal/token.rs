//! Node tokens, checked offline (RFC 7519, RFC 8037): a pure function of the keys, the clock and the text.
//!
//! Invariant: a [`NodeToken`] that leaves this module was signed by a coordinator and is not expired.

use std::collections::BTreeMap;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, dangerous, decode, decode_header};
use serde::Deserialize;
use thiserror::Error;
use waystation_proto::{
    StreamKey,
    token::{Action, NODE_TOKEN_AUDIENCE, NodeToken},
    v1,
};

/// Longest token that is looked at.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How far clocks may differ.
const LEEWAY_S: i64 = 5 * 60;
/// How long a token that expired while the relay had no coordinator is still taken.
const GRACE_S: i64 = 60 * 60;
/// Length of an Ed25519 public key.
const KEY_BYTES: usize = 32;

/// Whether a coordinator is there, as far as it matters to tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CoordinatorLink {
    /// It is: expired means expired.
    #[default]
    Attached,
    /// It is not.
    CutOff {
        /// Since when, in Unix seconds of the coordinator's clock.
        since_unix_s: i64,
    },
}

/// What node tokens are checked with.
#[derive(Clone, Default)]
pub struct Keys {
    /// Public keys by their id.
    signing: BTreeMap<String, DecodingKey>,
    /// What is added to this machine's clock to get the coordinator's.
    pub clock_offset_ms: i64,
    /// Whether a coordinator is there.
    pub coordinator: CoordinatorLink,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("signing", &self.signing.keys())
            .field("clock_offset_ms", &self.clock_offset_ms)
            .field("coordinator", &self.coordinator)
            .finish()
    }
}

impl Keys {
    /// Replaces the signing keys by those of a coordinator's message. Keys of another length than Ed25519's are left
    /// out: they would verify nothing.
    pub fn set_signing(&mut self, keys: &v1::SigningKeys) {
        let usable = keys.keys.iter().filter(|key| key.public_key.len() == KEY_BYTES);
        self.signing =
            usable.map(|key| (key.id.clone(), DecodingKey::from_ed_der(&key.public_key))).collect();
    }
}

/// What was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// A coordinator's word, checked.
    Node(NodeToken),
    /// Something else, for a coordinator to judge.
    User,
}

/// Why a token is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// Not a JWT at all.
    #[error("the token is not a JWT of at most {MAX_TOKEN_BYTES} bytes")]
    Malformed,
    /// Its key is not known here.
    #[error("the token's signing key {0:?} is not known to this node; try another node")]
    UnknownKey(String),
    /// The signature, or what it covers, is not that of a node token.
    #[error("the token's signature does not hold, or it says something else than a node token does")]
    Invalid,
    /// Its time is up.
    #[error("the token expired {ago_s} s ago; ask a coordinator for a new one")]
    Expired {
        /// How long ago.
        ago_s: i64,
    },
    /// Good, but not for this.
    #[error("the token is good to {} {stream}, which is not what was asked", verb(*granted))]
    OtherPurpose {
        /// What it allows.
        granted: Action,
        /// On which stream.
        stream: StreamKey,
    },
    /// A publish needs a claim.
    #[error("the token allows publishing but holds no claim; ask a coordinator for a new one")]
    NoClaim,
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Publish => "publish",
        Action::Play => "play",
    }
}

#[derive(Deserialize)]
struct Audience {
    #[serde(default)]
    aud: Option<serde_json::Value>,
}

/// Reads a bearer token. Whether it is a node token is told by its algorithm and audience; who lies about those is
/// refused, by us or by a coordinator.
///
/// # Errors
/// [`TokenError`]
pub fn read(keys: &Keys, text: &str, now_unix_ms: i64) -> Result<Presented, TokenError> {
    if text.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    let header = decode_header(text).map_err(|_| TokenError::Malformed)?;
    let claims: Audience = dangerous::insecure_decode_claims(text).map_err(|_| TokenError::Malformed)?;
    let ours = claims.aud.as_ref().and_then(serde_json::Value::as_str) == Some(NODE_TOKEN_AUDIENCE);
    if header.alg != Algorithm::EdDSA || !ours {
        return Ok(Presented::User);
    }
    let kid = header.kid.unwrap_or_default();
    let Some(key) = keys.signing.get(&kid) else {
        return Err(TokenError::UnknownKey(kid.chars().take(64).collect()));
    };
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[NODE_TOKEN_AUDIENCE]);
    // Expiry is judged below, by the coordinator's clock.
    validation.validate_exp = false;
    let token = decode::<NodeToken>(text, key, &validation).map_err(|_| TokenError::Invalid)?.claims;
    check_expiry(keys, &token, now_unix_ms).map(|()| Presented::Node(token))
}

fn check_expiry(keys: &Keys, token: &NodeToken, now_unix_ms: i64) -> Result<(), TokenError> {
    let now = now_unix_ms.saturating_add(keys.clock_offset_ms) / 1000;
    let expiry = i64::try_from(token.exp).unwrap_or(i64::MAX);
    let ago_s = now.saturating_sub(expiry);
    let good = match keys.coordinator {
        _ if ago_s <= LEEWAY_S => true,
        CoordinatorLink::Attached => false,
        CoordinatorLink::CutOff { since_unix_s } => {
            expiry.saturating_add(LEEWAY_S) >= since_unix_s && ago_s <= GRACE_S
        }
    };
    if good { Ok(()) } else { Err(TokenError::Expired { ago_s }) }
}

/// Whether a token is good for what is asked.
///
/// # Errors
/// [`TokenError::OtherPurpose`], [`TokenError::NoClaim`]
pub fn covers(token: &NodeToken, action: Action, stream: &StreamKey) -> Result<(), TokenError> {
    if token.action != action || token.room != stream.room || token.stream != stream.stream {
        let stream = StreamKey { room: token.room.clone(), stream: token.stream.clone() };
        return Err(TokenError::OtherPurpose { granted: token.action, stream });
    }
    match (action, token.claim) {
        (Action::Publish, None) => Err(TokenError::NoClaim),
        (Action::Publish, Some(_)) | (Action::Play, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use jsonwebtoken::{EncodingKey, Header, encode};
    use proptest::prelude::*;
    use waystation_proto::{Claim, RoomId, SessionId, StreamId, UserId};

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;
    const NOW_S: i64 = NOW_MS / 1000;

    struct Signer {
        key: EncodingKey,
        keys: Keys,
    }

    fn signer() -> Signer {
        let document = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let mut keys = Keys::default();
        let public_key = pair.public_key().as_ref().to_vec();
        keys.set_signing(&v1::SigningKeys {
            keys: vec![v1::SigningKey { id: "k1".into(), public_key, until_unix_ms: 0 }],
        });
        Signer { key: EncodingKey::from_ed_der(document.as_ref()), keys }
    }

    fn stream() -> StreamKey {
        StreamKey { room: RoomId::new("r").unwrap(), stream: StreamId::new("s").unwrap() }
    }

    fn token(exp: i64) -> NodeToken {
        NodeToken {
            aud: NODE_TOKEN_AUDIENCE.into(),
            app: "app".into(),
            room: stream().room,
            user: UserId::new("u").unwrap(),
            session: SessionId::new("login").unwrap(),
            stream: stream().stream,
            action: Action::Publish,
            claim: Some(Claim::of_epoch(3)),
            plain: false,
            iat: 0,
            exp: u64::try_from(exp).unwrap(),
        }
    }

    fn sign(signer: &Signer, token: &NodeToken) -> String {
        let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, token, &signer.key).unwrap()
    }

    #[test]
    fn a_signed_token_is_taken_and_says_what_it_said() {
        let signer = signer();
        let token = token(NOW_S + 60);
        assert_eq!(read(&signer.keys, &sign(&signer, &token), NOW_MS), Ok(Presented::Node(token)));
    }

    #[test]
    fn a_token_signed_with_another_key_or_changed_after_signing_is_refused() {
        // PUB-5
        let (signer, other) = (signer(), signer());
        let forged = sign(&other, &token(NOW_S + 60));
        assert!(matches!(read(&signer.keys, &forged, NOW_MS), Err(TokenError::Invalid)));
        let good = sign(&signer, &token(NOW_S + 60));
        let other_claims = sign(&signer, &token(NOW_S + 6000));
        let mut parts: Vec<&str> = good.split('.').collect();
        parts[1] = other_claims.split('.').nth(1).unwrap();
        assert!(matches!(read(&signer.keys, &parts.join("."), NOW_MS), Err(TokenError::Invalid)));
    }

    #[test]
    fn a_token_of_an_unknown_key_is_refused_and_names_the_key() {
        let signer = signer();
        let text = sign(&signer, &token(NOW_S + 60));
        assert_eq!(read(&Keys::default(), &text, NOW_MS), Err(TokenError::UnknownKey("k1".into())));
    }

    #[test]
    fn expiry_allows_five_minutes_of_skew_and_no_more() {
        let signer = signer();
        let just = sign(&signer, &token(NOW_S - 300));
        assert!(read(&signer.keys, &just, NOW_MS).is_ok());
        let late = sign(&signer, &token(NOW_S - 301));
        assert_eq!(read(&signer.keys, &late, NOW_MS), Err(TokenError::Expired { ago_s: 301 }));
    }

    #[test]
    fn expiry_goes_by_the_coordinators_clock() {
        let mut signer = signer();
        let text = sign(&signer, &token(NOW_S));
        signer.keys.clock_offset_ms = 3_600_000;
        assert!(read(&signer.keys, &text, NOW_MS).is_err());
        signer.keys.clock_offset_ms = -3_600_000;
        assert!(read(&signer.keys, &text, NOW_MS + 3_600_000).is_ok());
    }

    #[test]
    fn without_a_coordinator_a_token_that_expired_since_is_good_for_an_hour() {
        // GO-1
        let mut signer = signer();
        signer.keys.coordinator = CoordinatorLink::CutOff { since_unix_s: NOW_S - 1800 };
        let since = sign(&signer, &token(NOW_S - 1700));
        assert!(read(&signer.keys, &since, NOW_MS).is_ok());
        let before = sign(&signer, &token(NOW_S - 1800 - 301));
        assert!(read(&signer.keys, &before, NOW_MS).is_err());
        assert!(read(&signer.keys, &since, NOW_MS + 3_600_000).is_err());
    }

    #[test]
    fn other_jwts_are_left_to_the_coordinator() {
        let signer = signer();
        let claims = serde_json::json!({"app": "a", "exp": NOW_S + 60});
        let hs256 = encode(&Header::default(), &claims, &EncodingKey::from_secret(b"secret")).unwrap();
        assert_eq!(read(&signer.keys, &hs256, NOW_MS), Ok(Presented::User));
        let eddsa = encode(&Header::new(Algorithm::EdDSA), &claims, &signer.key).unwrap();
        assert_eq!(read(&signer.keys, &eddsa, NOW_MS), Ok(Presented::User));
    }

    #[test]
    fn a_token_covers_only_its_action_room_and_stream() {
        let good = token(NOW_S);
        assert_eq!(covers(&good, Action::Publish, &stream()), Ok(()));
        assert!(covers(&good, Action::Play, &stream()).is_err());
        let other = StreamKey { stream: StreamId::new("t").unwrap(), ..stream() };
        assert!(covers(&good, Action::Publish, &other).is_err());
        let other = StreamKey { room: RoomId::new("q").unwrap(), ..stream() };
        assert!(covers(&good, Action::Publish, &other).is_err());
        let unclaimed = NodeToken { claim: None, ..good };
        assert_eq!(covers(&unclaimed, Action::Publish, &stream()), Err(TokenError::NoClaim));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_left_to_the_coordinator_without_a_panic(text in "[ -~]{0,200}|[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}") {
            prop_assert!(!matches!(read(&Keys::default(), &text, NOW_MS), Ok(Presented::Node(_))));
        }

        #[test]
        fn a_token_cut_short_is_never_taken(cut in 0usize..200) {
            let signer = signer();
            let text = sign(&signer, &token(NOW_S + 60));
            let cut = cut.min(text.len() - 1);
            prop_assert!(!matches!(read(&signer.keys, &text[..cut], NOW_MS), Ok(Presented::Node(_))));
        }
    }
}
