//! Node tokens, relay certificates and join tokens (RFC 7519, RFC 8037).
//!
//! The signing key is derived from the cluster's secret (HKDF, RFC 5869): it survives a restart, and all coordinators
//! have the same. Relays know the secret too, as they attach with it; the derivation keeps the two uses apart.

use std::time::Duration;

use aws_lc_rs::{
    digest,
    hkdf::{HKDF_SHA256, KeyType, Salt},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::Serialize;
use waystation_proto::{
    NodeId, NodeRef,
    token::{
        JOIN_AUDIENCE, JoinToken, NODE_TOKEN_AUDIENCE, NodeToken, RELAY_CERTIFICATE_AUDIENCE,
        RelayCertificate,
    },
    v1,
};

use super::{LEEWAY_S, MAX_TOKEN_BYTES, SignError};

/// A node token is good for this long; clients renew at half.
pub const NODE_TOKEN_VALID: Duration = Duration::from_secs(60 * 60);
/// A relay's certificate is good for this long: a day without any coordinator, and then the grace of its peers.
const CERTIFICATE_VALID: Duration = Duration::from_secs(24 * 60 * 60);
/// A revocation is kept until the last token could have expired, clock skew and a relay's grace included.
pub const REVOKED_FOR: Duration = Duration::from_secs(2 * 60 * 60 + LEEWAY_S);

const KEY_BYTES: usize = 32;
const KEY_INFO: &[u8] = b"waystation node token signing key v1";

struct SeedLength;

impl KeyType for SeedLength {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

/// Signs for relays, and checks what relays bring.
#[derive(Clone)]
pub struct NodeTokens {
    id: String,
    public: Vec<u8>,
    signing: EncodingKey,
    checking: DecodingKey,
    join: DecodingKey,
}

impl std::fmt::Debug for NodeTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeTokens").field("id", &self.id).finish_non_exhaustive()
    }
}

fn bad_key(error: impl std::fmt::Display) -> SignError {
    SignError::Key(error.to_string())
}

impl NodeTokens {
    /// Derives the signing key.
    ///
    /// # Errors
    /// [`SignError`] when the library will not make a key.
    pub fn derive(cluster_secret: &str) -> Result<Self, SignError> {
        let secret = Salt::new(HKDF_SHA256, b"waystation").extract(cluster_secret.as_bytes());
        let mut seed = [0; KEY_BYTES];
        let derived = secret.expand(&[KEY_INFO], SeedLength).and_then(|derived| derived.fill(&mut seed));
        derived.map_err(bad_key)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(bad_key)?;
        let public = pair.public_key().as_ref().to_vec();
        let fingerprint = digest::digest(&digest::SHA256, &public);
        Ok(Self {
            id: URL_SAFE_NO_PAD.encode(&fingerprint.as_ref()[..9]),
            signing: EncodingKey::from_ed_der(pair.to_pkcs8v1().map_err(bad_key)?.as_ref()),
            checking: DecodingKey::from_ed_der(&public),
            join: DecodingKey::from_secret(cluster_secret.as_bytes()),
            public,
        })
    }

    /// The public keys that relays check with.
    #[must_use]
    pub fn signing_keys(&self) -> v1::SigningKeys {
        v1::SigningKeys {
            keys: vec![v1::SigningKey { id: self.id.clone(), public_key: self.public.clone() }],
        }
    }

    fn sign(&self, claims: &impl Serialize) -> Result<String, SignError> {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, claims, &self.signing).map_err(bad_key)
    }

    /// Signs a node token.
    ///
    /// # Errors
    /// [`SignError`]
    pub fn sign_node_token(&self, token: &NodeToken) -> Result<String, SignError> {
        self.sign(token)
    }

    /// Certifies a relay's key for its links.
    ///
    /// # Errors
    /// [`SignError`]
    pub fn certify(&self, node: &NodeRef, public_key: &[u8], now_s: u64) -> Result<String, SignError> {
        self.sign(&RelayCertificate {
            aud: RELAY_CERTIFICATE_AUDIENCE.into(),
            node: node.id.clone(),
            incarnation: node.incarnation,
            key: URL_SAFE_NO_PAD.encode(public_key),
            exp: now_s + CERTIFICATE_VALID.as_secs(),
        })
    }

    /// A node token that we, or a predecessor with the same secret, signed, expired or not: what a client brings to
    /// prove its claim after we forgot it.
    #[must_use]
    pub fn read_own(&self, text: &str) -> Option<NodeToken> {
        if text.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[NODE_TOKEN_AUDIENCE]);
        validation.validate_exp = false;
        decode::<NodeToken>(text, &self.checking, &validation).ok().map(|data| data.claims)
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

    #[test]
    fn two_coordinators_with_one_secret_have_one_key_and_others_have_another() {
        let (one, two) =
            (NodeTokens::derive("secret of all").unwrap(), NodeTokens::derive("secret of all").unwrap());
        let other = NodeTokens::derive("another secret").unwrap();
        assert_eq!(one.signing_keys(), two.signing_keys());
        assert_ne!(one.signing_keys(), other.signing_keys());
        let signed = one.sign_node_token(&node_token()).unwrap();
        assert_eq!(two.read_own(&signed), Some(node_token()), "expiry is for relays to judge");
        assert_eq!(other.read_own(&signed), None);
        assert_eq!(one.read_own("no token"), None);
    }

    #[test]
    fn a_certificate_binds_node_life_and_key_and_is_no_node_token() {
        let tokens = NodeTokens::derive("secret").unwrap();
        let node = NodeRef { id: NodeId::new("n").unwrap(), incarnation: 7 };
        let signed = tokens.certify(&node, &[9; 32], NOW).unwrap();
        assert_eq!(tokens.read_own(&signed), None);
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[RELAY_CERTIFICATE_AUDIENCE]);
        validation.validate_exp = false;
        let claims = decode::<RelayCertificate>(&signed, &tokens.checking, &validation).unwrap().claims;
        assert_eq!((claims.node, claims.incarnation), (node.id, 7));
        assert_eq!(URL_SAFE_NO_PAD.decode(claims.key).unwrap(), [9; 32]);
    }

    #[test]
    fn only_a_join_token_with_the_clusters_secret_lets_a_relay_in() {
        let tokens = NodeTokens::derive("secret").unwrap();
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
