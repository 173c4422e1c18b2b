//! The handshake of a link: pure, apart from the random bytes of its keys.
//!
//! Each side sends a hello (its certificate, a fresh X25519 key, a nonce) and then a proof: an Ed25519 signature over
//! both hellos and the signer's role. Invariant: a [`Peer`] is somebody who holds the key that a coordinator certified
//! for that node id and incarnation, who answered to *this* hello of ours, in the other role. The keys of the media
//! path (RFC 7714) come from the agreement by HKDF (RFC 5869), one pair for each direction.

use std::{collections::BTreeMap, net::SocketAddr};

use aws_lc_rs::{
    agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral},
    digest::{SHA256, digest},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey as VerifyingKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use thiserror::Error;
use waystation_proto::{
    NodeRef,
    token::{RELAY_CERTIFICATE_AUDIENCE, RelayCertificate},
    v1,
};

use crate::control::LinkKeys;

/// How far clocks may differ.
const LEEWAY_S: u64 = 5 * 60;
/// A certificate that ran out while no coordinator was in reach is good for this long.
const GRACE_S: u64 = 60 * 60;
/// Longest certificate that is looked at.
const MAX_CERTIFICATE_BYTES: usize = 4096;
/// Bytes of a nonce, an X25519 key and an Ed25519 key.
const KEY_BYTES: usize = 32;
/// What the signatures are about; a change of the handshake changes it.
const LABEL: &[u8] = b"waystation link v1";

/// Who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }

    fn label(self) -> &'static [u8] {
        match self {
            Self::Dialler => b"dialler",
            Self::Acceptor => b"acceptor",
        }
    }
}

/// What certificates are checked with. Kept when every coordinator is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// Coordinators' Ed25519 keys by their id.
    pub keys: BTreeMap<String, Vec<u8>>,
    /// Our own certificate, once a coordinator gave it.
    pub certificate: Option<String>,
    /// What is added to this machine's clock to get the coordinator's.
    pub clock_offset_ms: i64,
    /// Since when no coordinator is in reach, Unix seconds of the coordinator's clock.
    pub cut_off_since_s: Option<u64>,
}

/// Why a handshake fails.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum HandshakeError {
    #[error("no coordinator has certified this relay yet")]
    NotCertified,
    #[error("the peer's hello lacks its {0}, or it is malformed")]
    Malformed(&'static str),
    #[error("the peer's certificate was signed with key {0:?}, which is not known here")]
    UnknownKey(String),
    #[error("the peer's certificate does not hold: {0}")]
    Certificate(String),
    #[error("the peer says that it is {said}, its certificate says {certified}")]
    OtherNode { said: NodeRef, certified: NodeRef },
    #[error("the peer presents this relay's own id {0}")]
    Myself(NodeRef),
    #[error("the peer's signature does not cover both hellos of this link")]
    Signature,
    #[error("key agreement failed")]
    Agreement,
}

/// Who this relay is on links.
pub(crate) struct Identity {
    node: NodeRef,
    media_addr: SocketAddr,
    key: Ed25519KeyPair,
}

/// The other end of a link, proved.
#[derive(Clone)]
pub(crate) struct Peer {
    pub node: NodeRef,
    pub media_addr: SocketAddr,
    pub keys: LinkKeys,
}

/// After our hello was sent.
pub(crate) struct Greeted {
    side: Side,
    hello: v1::LinkHello,
    ephemeral: EphemeralPrivateKey,
}

/// After the peer's hello was taken and our proof was made.
pub(crate) struct Proving {
    side: Side,
    transcript: Vec<u8>,
    peer_key: Vec<u8>,
    peer: Peer,
}

impl Identity {
    /// An identity with a fresh signing key; `None` if the system gives no random bytes.
    pub(crate) fn generate(node: NodeRef, media_addr: SocketAddr) -> Option<Self> {
        Some(Self { node, media_addr, key: Ed25519KeyPair::generate().ok()? })
    }

    /// The key that a coordinator certifies.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// Our hello.
    ///
    /// # Errors
    /// [`HandshakeError::NotCertified`] before a coordinator gave a certificate.
    pub(crate) fn greet(
        &self,
        side: Side,
        trust: &Trust,
    ) -> Result<(Greeted, v1::LinkHello), HandshakeError> {
        let certificate = trust.certificate.clone().ok_or(HandshakeError::NotCertified)?;
        let random = SystemRandom::new();
        let ephemeral =
            EphemeralPrivateKey::generate(&X25519, &random).map_err(|_| HandshakeError::Agreement)?;
        let public = ephemeral.compute_public_key().map_err(|_| HandshakeError::Agreement)?;
        let mut nonce = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| HandshakeError::Agreement)?;
        let hello = v1::LinkHello {
            node: Some((&self.node).into()),
            certificate,
            ephemeral_key: public.as_ref().to_vec(),
            nonce: nonce.to_vec(),
            media_addr: self.media_addr.to_string(),
        };
        Ok((Greeted { side, hello: hello.clone(), ephemeral }, hello))
    }

    /// Takes the peer's hello and makes our proof.
    ///
    /// # Errors
    /// [`HandshakeError`] says what does not hold.
    pub(crate) fn prove(
        &self,
        greeted: Greeted,
        theirs: v1::LinkHello,
        trust: &Trust,
        now_unix_s: u64,
    ) -> Result<(Proving, v1::LinkProof), HandshakeError> {
        let wire_node = theirs.node.clone().ok_or(HandshakeError::Malformed("node"))?;
        let node = NodeRef::try_from(wire_node).map_err(|_| HandshakeError::Malformed("node"))?;
        let media_addr = theirs.media_addr.parse().map_err(|_| HandshakeError::Malformed("media address"))?;
        if theirs.nonce.len() != KEY_BYTES || theirs.ephemeral_key.len() != KEY_BYTES {
            return Err(HandshakeError::Malformed("nonce or key"));
        }
        if node.id == self.node.id {
            return Err(HandshakeError::Myself(node));
        }
        let peer_key = certified_key(&theirs.certificate, &node, trust, now_unix_s)?;
        let (dialler, acceptor) = match greeted.side {
            Side::Dialler => (&greeted.hello, &theirs),
            Side::Acceptor => (&theirs, &greeted.hello),
        };
        let transcript = transcript(dialler, acceptor);
        let keys = agree(greeted.ephemeral, &theirs.ephemeral_key, &transcript, greeted.side)?;
        let signature = self.key.sign(&signed(greeted.side, &transcript)).as_ref().to_vec();
        let peer = Peer { node, media_addr, keys };
        Ok((Proving { side: greeted.side, transcript, peer_key, peer }, v1::LinkProof { signature }))
    }
}

impl Proving {
    /// Takes the peer's proof.
    ///
    /// # Errors
    /// [`HandshakeError::Signature`] when the peer does not hold the certified key, or signed something else.
    pub(crate) fn finish(self, proof: &v1::LinkProof) -> Result<Peer, HandshakeError> {
        let message = signed(self.side.other(), &self.transcript);
        VerifyingKey::new(&ED25519, &self.peer_key)
            .verify(&message, &proof.signature)
            .map_err(|_| HandshakeError::Signature)?;
        Ok(self.peer)
    }
}

/// The key that a coordinator certified for this node.
fn certified_key(
    certificate: &str,
    node: &NodeRef,
    trust: &Trust,
    now_unix_s: u64,
) -> Result<Vec<u8>, HandshakeError> {
    let bad = |error: jsonwebtoken::errors::Error| HandshakeError::Certificate(error.to_string());
    if certificate.len() > MAX_CERTIFICATE_BYTES {
        return Err(HandshakeError::Malformed("certificate"));
    }
    let id = decode_header(certificate).map_err(bad)?.kid.unwrap_or_default();
    let key = trust.keys.get(&id).ok_or(HandshakeError::UnknownKey(id))?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[RELAY_CERTIFICATE_AUDIENCE]);
    validation.set_required_spec_claims(&["aud", "exp"]);
    // Checked below, against the coordinator's clock.
    validation.validate_exp = false;
    let claims = decode::<RelayCertificate>(certificate, &DecodingKey::from_ed_der(key), &validation)
        .map_err(bad)?
        .claims;
    // What ran out while no coordinator was in reach is good for an hour.
    let reference = match trust.cut_off_since_s {
        Some(since) if now_unix_s.saturating_sub(since) <= GRACE_S => since.min(now_unix_s),
        Some(_) | None => now_unix_s,
    };
    if claims.exp.saturating_add(LEEWAY_S) < reference {
        return Err(HandshakeError::Certificate(format!("expired at Unix second {}", claims.exp)));
    }
    let certified = NodeRef { id: claims.node, incarnation: claims.incarnation };
    if certified != *node {
        return Err(HandshakeError::OtherNode { said: node.clone(), certified });
    }
    let key = URL_SAFE_NO_PAD.decode(&claims.key).map_err(|_| HandshakeError::Malformed("certified key"))?;
    if key.len() == KEY_BYTES { Ok(key) } else { Err(HandshakeError::Malformed("certified key")) }
}

/// Everything that both sides said, each field with its length before it.
fn transcript(dialler: &v1::LinkHello, acceptor: &v1::LinkHello) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2048);
    for hello in [dialler, acceptor] {
        let node = hello.node.clone().unwrap_or_default();
        let incarnation = node.incarnation.to_be_bytes();
        let fields: [&[u8]; 6] = [
            node.id.as_bytes(),
            &incarnation,
            hello.certificate.as_bytes(),
            &hello.ephemeral_key,
            &hello.nonce,
            hello.media_addr.as_bytes(),
        ];
        for field in fields {
            bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
            bytes.extend_from_slice(field);
        }
    }
    digest(&SHA256, &bytes).as_ref().to_vec()
}

fn signed(side: Side, transcript: &[u8]) -> Vec<u8> {
    [LABEL, side.label(), transcript].concat()
}

/// Length of a master key and salt together (RFC 7714 §12).
struct KeyAndSalt;

impl KeyAndSalt {
    const KEY: usize = 16;
    const LEN: usize = 28;
}

impl KeyType for KeyAndSalt {
    fn len(&self) -> usize {
        Self::LEN
    }
}

fn agree(
    ephemeral: EphemeralPrivateKey,
    theirs: &[u8],
    transcript: &[u8],
    side: Side,
) -> Result<LinkKeys, HandshakeError> {
    let theirs = UnparsedPublicKey::new(&X25519, theirs);
    agree_ephemeral(ephemeral, theirs, HandshakeError::Agreement, |secret| {
        let secret = Salt::new(HKDF_SHA256, transcript).extract(secret);
        let expand = |side: Side| {
            let mut bytes = [0; KeyAndSalt::LEN];
            let info = [LABEL, b" srtp ", side.label()];
            let okm = secret.expand(&info, KeyAndSalt).map_err(|_| HandshakeError::Agreement)?;
            okm.fill(&mut bytes).map_err(|_| HandshakeError::Agreement)?;
            let (key, salt) = bytes.split_at(KeyAndSalt::KEY);
            let (mut key_of, mut salt_of) = ([0; 16], [0; 12]);
            key_of.copy_from_slice(key);
            salt_of.copy_from_slice(salt);
            Ok((key_of, salt_of))
        };
        let ((local_key, local_salt), (remote_key, remote_salt)) = (expand(side)?, expand(side.other())?);
        Ok(LinkKeys { local_key, local_salt, remote_key, remote_salt })
    })
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
