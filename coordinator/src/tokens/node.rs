//! Node tokens, relay certificates and join tokens (RFC 7519, RFC 8037).
//!
//! The signing keys come from the store (`keeper`): all coordinators have the same. Relays know the cluster's secret,
//! since they attach with it, and of the signing keys the public half.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header, encode};
use serde::Serialize;
use tokio::sync::watch;
use waystation_proto::{
    KeyId, NodeId, NodeRef,
    token::{
        JOIN_AUDIENCE, JoinToken, NODE_TOKEN_AUDIENCE, NodeToken, RELAY_CERTIFICATE_AUDIENCE,
        RelayCertificate,
    },
    v1,
};

use super::{
    LEEWAY_S, MAX_TOKEN_BYTES, SignError, bad_key,
    ring::Ring,
    rotation::{MAX_KEYS, Rules},
    seal::Sealer,
};
use crate::{keys::SigningEntry, mirror::Held};

/// A node token is good for this long; clients renew at half.
pub const NODE_TOKEN_VALID: Duration = Duration::from_secs(60 * 60);
/// A relay's certificate is good for this long: a day without any coordinator, and then the grace of its peers.
const CERTIFICATE_VALID: Duration = Duration::from_secs(24 * 60 * 60);
/// A revocation is kept until the last token could have expired, clock skew and a relay's grace included.
pub const REVOKED_FOR: Duration = Duration::from_secs(2 * 60 * 60 + LEEWAY_S);

/// Length of an Ed25519 public key.
const KEY_BYTES: usize = 32;

/// Signs for relays, and checks what relays and clients bring.
#[derive(Debug)]
pub struct NodeTokens {
    pub(super) sealer: Sealer,
    pub(super) rules: Rules,
    ring: watch::Sender<Arc<Ring>>,
    /// Public keys of a store that was lost, as relays know them.
    predecessors: Mutex<BTreeMap<KeyId, DecodingKey>>,
    join: DecodingKey,
}

impl NodeTokens {
    /// No keys yet.
    ///
    /// # Errors
    /// [`SignError`] when the library will not make a key.
    pub fn new(cluster_secret: &str, rules: Rules) -> Result<Self, SignError> {
        Ok(Self {
            sealer: Sealer::derive(cluster_secret)?,
            rules,
            ring: watch::Sender::new(Arc::default()),
            predecessors: Mutex::default(),
            join: DecodingKey::from_secret(cluster_secret.as_bytes()),
        })
    }

    /// The keys, now and at each change.
    #[must_use]
    pub fn ring(&self) -> watch::Receiver<Arc<Ring>> {
        self.ring.subscribe()
    }

    /// Takes the store's keys in. Those that were sealed under another secret are of no use, and are left out.
    pub fn take(&self, entries: &BTreeMap<KeyId, Held<SigningEntry>>) -> Arc<Ring> {
        self.ring.send_if_modified(|held| {
            let ring = Ring::of(entries, held, &self.sealer);
            let news = ring != **held;
            if news {
                *held = Arc::new(ring);
            }
            news
        });
        self.ring.borrow().clone()
    }

    /// Takes in what a relay checks with, while the store is empty: it proves what clients bring.
    pub fn learn(&self, keys: &v1::SigningKeys) {
        let mut predecessors = self.predecessors.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &keys.keys {
            if predecessors.len() >= MAX_KEYS || key.public_key.len() != KEY_BYTES {
                continue;
            }
            if let Ok(id) = KeyId::new(&key.id) {
                predecessors.entry(id).or_insert_with(|| DecodingKey::from_ed_der(&key.public_key));
            }
        }
    }

    fn sign(&self, claims: &impl Serialize, now_s: u64) -> Result<String, SignError> {
        let ring = self.ring.borrow().clone();
        let key = ring.signing(now_s.saturating_mul(1000)).ok_or(SignError::NoKey)?;
        let header = Header { kid: Some(key.id.to_string()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, claims, &key.signing).map_err(bad_key)
    }

    /// Signs a node token, with the key that signs when it is issued.
    ///
    /// # Errors
    /// [`SignError`]
    pub fn sign_node_token(&self, token: &NodeToken) -> Result<String, SignError> {
        self.sign(token, token.iat)
    }

    /// Certifies a relay's key for its links.
    ///
    /// # Errors
    /// [`SignError`]
    pub fn certify(&self, node: &NodeRef, public_key: &[u8], now_s: u64) -> Result<String, SignError> {
        let claims = RelayCertificate {
            aud: RELAY_CERTIFICATE_AUDIENCE.into(),
            node: node.id.clone(),
            incarnation: node.incarnation,
            key: URL_SAFE_NO_PAD.encode(public_key),
            exp: now_s + CERTIFICATE_VALID.as_secs(),
        };
        self.sign(&claims, now_s)
    }

    /// A node token that a coordinator of this cluster signed, expired or not: what a client brings to prove its claim
    /// after we forgot it.
    #[must_use]
    pub fn read_own(&self, text: &str) -> Option<NodeToken> {
        if text.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let id = decode_header(text).ok()?.kid?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[NODE_TOKEN_AUDIENCE]);
        validation.validate_exp = false;
        let read =
            |key: &DecodingKey| decode::<NodeToken>(text, key, &validation).ok().map(|data| data.claims);
        if let Some(key) = self.ring.borrow().checking(&id) {
            return read(key);
        }
        let predecessors = self.predecessors.lock().unwrap_or_else(PoisonError::into_inner);
        predecessors.get(&KeyId::new(&id).ok()?).and_then(read)
    }

    /// The relay that a join token lets in, if it is good.
    #[must_use]
    pub fn joining(&self, text: &str, now_s: u64) -> Option<NodeId> {
        if text.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[JOIN_AUDIENCE]);
        validation.validate_exp = false;
        let token = decode::<JoinToken>(text, &self.join, &validation).ok()?.claims;
        (token.exp.saturating_add(LEEWAY_S) > now_s).then_some(token.node)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::EncodingKey;
    use waystation_proto::{Claim, RoomId, SessionId, StreamId, UserId, token::Action};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn node_token() -> NodeToken {
        NodeToken {
            aud: NODE_TOKEN_AUDIENCE.into(),
            app: "app".into(),
            room: RoomId::new("r").unwrap(),
            user: UserId::new("u").unwrap(),
            session: SessionId::new("s").unwrap(),
            stream: StreamId::new("cam").unwrap(),
            action: Action::Publish,
            claim: Some(Claim { epoch: 1_800_000_000 << 20, moved: 3 }),
            plain: false,
            iat: NOW,
            exp: NOW,
        }
    }

    type Entries = BTreeMap<KeyId, Held<SigningEntry>>;

    /// A coordinator with this secret, and what its store holds.
    fn tokens(secret: &str, entries: &Entries) -> NodeTokens {
        let rules = Rules { max_age: Duration::from_secs(86_400), lead: Duration::from_secs(10) };
        let tokens = NodeTokens::new(secret, rules).unwrap();
        tokens.take(entries);
        tokens
    }

    fn made(secret: &str, signs_from_s: u64) -> (KeyId, Held<SigningEntry>) {
        let sealer = Sealer::derive(secret).unwrap();
        let (id, value) = sealer.generate(signs_from_s * 1000, signs_from_s * 1000).unwrap();
        (id, Held { value, modified: 1 })
    }

    #[test]
    fn coordinators_on_one_store_check_each_others_tokens_and_nobody_elses() {
        let store = Entries::from([made("secret of all", NOW)]);
        let (one, two) = (tokens("secret of all", &store), tokens("secret of all", &store));
        let other = tokens("another secret", &store);
        assert_eq!(one.ring().borrow().public(), two.ring().borrow().public());
        let signed = one.sign_node_token(&node_token()).unwrap();
        assert_eq!(two.read_own(&signed), Some(node_token()), "expiry is for relays to judge");
        assert_eq!(other.read_own(&signed), None);
        assert_eq!(
            other.sign_node_token(&node_token()),
            Err(SignError::NoKey),
            "it cannot open the store's keys"
        );
        assert_eq!(one.read_own("no token"), None);
    }

    #[test]
    fn a_new_key_signs_from_its_instant_on_and_the_old_one_still_checks() {
        let (old, new) = (made("secret", NOW - 100), made("secret", NOW + 1));
        let tokens = tokens("secret", &Entries::from([old.clone(), new.clone()]));
        let kid = |iat: u64| {
            let signed = tokens.sign_node_token(&NodeToken { iat, ..node_token() }).unwrap();
            assert!(tokens.read_own(&signed).is_some());
            decode_header(&signed).unwrap().kid.unwrap()
        };
        assert_eq!((kid(NOW), kid(NOW + 1)), (old.0.to_string(), new.0.to_string()));
        let public = tokens.ring().borrow().public();
        let ends: BTreeMap<_, _> = public.keys.into_iter().map(|key| (key.id, key.until_unix_ms)).collect();
        assert_eq!(ends[new.0.as_str()], 0);
        assert_eq!(ends[old.0.as_str()], (NOW + 1 + REVOKED_FOR.as_secs()) * 1000);
    }

    #[test]
    fn a_token_of_a_lost_store_is_proved_by_what_relays_still_know() {
        // ROOM-4
        let lost = tokens("secret", &Entries::from([made("secret", NOW)]));
        let signed = lost.sign_node_token(&node_token()).unwrap();
        let after = tokens("secret", &Entries::from([made("secret", NOW)]));
        assert_eq!(after.read_own(&signed), None);
        after.learn(&lost.ring().borrow().public());
        assert_eq!(after.read_own(&signed), Some(node_token()));
        let many = (0..200).map(|n| v1::SigningKey {
            id: format!("k{n}"),
            public_key: vec![1; 32],
            until_unix_ms: 0,
        });
        after.learn(&v1::SigningKeys { keys: many.collect() });
        assert_eq!(after.predecessors.lock().unwrap().len(), MAX_KEYS, "a relay cannot fill the memory");
    }

    #[test]
    fn a_certificate_binds_node_life_and_key_and_is_no_node_token() {
        let tokens = tokens("secret", &Entries::from([made("secret", NOW)]));
        let node = NodeRef { id: NodeId::new("n").unwrap(), incarnation: 7 };
        let signed = tokens.certify(&node, &[9; 32], NOW).unwrap();
        assert_eq!(tokens.read_own(&signed), None);
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[RELAY_CERTIFICATE_AUDIENCE]);
        validation.validate_exp = false;
        let public = tokens.ring().borrow().public().keys[0].public_key.clone();
        let claims = decode::<RelayCertificate>(&signed, &DecodingKey::from_ed_der(&public), &validation)
            .unwrap()
            .claims;
        assert_eq!((claims.node, claims.incarnation), (node.id, 7));
        assert_eq!(URL_SAFE_NO_PAD.decode(claims.key).unwrap(), [9; 32]);
    }

    #[test]
    fn only_a_join_token_with_the_clusters_secret_lets_a_relay_in() {
        let tokens = tokens("secret", &Entries::new());
        let join = |secret: &str, aud: &str, exp| {
            let claims = JoinToken { aud: aud.into(), node: NodeId::new("n").unwrap(), exp };
            encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes()))
                .unwrap()
        };
        assert_eq!(tokens.joining(&join("secret", JOIN_AUDIENCE, NOW), NOW), NodeId::new("n").ok());
        assert_eq!(tokens.joining(&join("secret", JOIN_AUDIENCE, NOW - LEEWAY_S), NOW), None);
        assert_eq!(tokens.joining(&join("secret", "something else", NOW + 9), NOW), None);
        assert_eq!(tokens.joining(&join("guess", JOIN_AUDIENCE, NOW + 9), NOW), None);
        assert_eq!(tokens.joining("", NOW), None);
    }
}
