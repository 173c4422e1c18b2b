//! Signing keys as they lie in the store: sealed under a key that is derived from the cluster's secret.
//!
//! Who reads the store alone cannot sign, nor can a relay, which knows the secret and not the store. HKDF (RFC 5869)
//! with a label of its own keeps this use of the secret apart from join tokens; AES-256-GCM with random nonces, and the
//! key's id as associated data, so that a value under another id is none.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest,
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey};
use waystation_proto::KeyId;

use super::{SignError, bad_key};
use crate::keys::SigningEntry;

const LABEL: &[u8] = b"waystation signing keys in the store, v1";
/// Length of an Ed25519 seed.
const SEED_BYTES: usize = 32;
/// Bytes of the public key's hash that name it.
const ID_BYTES: usize = 9;

/// A key that signs and checks.
#[derive(Clone)]
pub struct SigningKey {
    /// Its name, derived from the public key.
    pub id: KeyId,
    /// Ed25519, 32 bytes.
    pub public: Vec<u8>,
    /// Signs.
    pub signing: EncodingKey,
    /// Checks.
    pub checking: DecodingKey,
}

impl SigningKey {
    fn from_seed(seed: &[u8]) -> Result<Self, SignError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(bad_key)?;
        let public = pair.public_key().as_ref().to_vec();
        let hash = digest::digest(&digest::SHA256, &public);
        let id = KeyId::new(&URL_SAFE_NO_PAD.encode(&hash.as_ref()[..ID_BYTES])).map_err(bad_key)?;
        let signing = EncodingKey::from_ed_der(pair.to_pkcs8v1().map_err(bad_key)?.as_ref());
        Ok(Self { id, signing, checking: DecodingKey::from_ed_der(&public), public })
    }
}

/// Seals and opens.
pub struct Sealer(RandomizedNonceKey);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    /// Derives the sealing key.
    ///
    /// # Errors
    /// [`SignError`] when the library will not make a key.
    pub fn derive(cluster_secret: &str) -> Result<Self, SignError> {
        let secret = Salt::new(HKDF_SHA256, b"waystation").extract(cluster_secret.as_bytes());
        let mut key = [0; 32];
        let derived = secret.expand(&[LABEL], &AES_256_GCM).and_then(|derived| derived.fill(&mut key));
        derived.map_err(bad_key)?;
        Ok(Self(RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(bad_key)?))
    }

    /// A fresh key, and its value in the store.
    ///
    /// # Errors
    /// [`SignError`] when the system gives no random bytes.
    pub fn generate(&self, created_ms: u64, signs_from_ms: u64) -> Result<(KeyId, SigningEntry), SignError> {
        let mut seed = vec![0; SEED_BYTES];
        aws_lc_rs::rand::fill(&mut seed).map_err(bad_key)?;
        let id = SigningKey::from_seed(&seed)?.id;
        let aad = Aad::from(id.as_str().as_bytes());
        let nonce = self.0.seal_in_place_append_tag(aad, &mut seed).map_err(bad_key)?;
        let sealed = URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &seed].concat());
        Ok((id, SigningEntry { created_ms, signs_from_ms, sealed }))
    }

    /// The key of a value; `None` if it was sealed under another secret, or is not what it says.
    #[must_use]
    pub fn open(&self, id: &KeyId, entry: &SigningEntry) -> Option<SigningKey> {
        let mut bytes = URL_SAFE_NO_PAD.decode(&entry.sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let opened = self.open_bytes(nonce, id, sealed).ok()?;
        SigningKey::from_seed(opened).ok().filter(|key| key.id == *id)
    }

    fn open_bytes<'a>(
        &self,
        nonce: &[u8],
        id: &KeyId,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Unspecified> {
        let nonce = Nonce::try_assume_unique_for_key(nonce)?;
        self.0.open_in_place(nonce, Aad::from(id.as_str().as_bytes()), sealed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer(secret: &str) -> Sealer {
        Sealer::derive(secret).unwrap()
    }

    #[test]
    fn what_one_coordinator_seals_another_opens_and_no_other_secret_does() {
        let (one, two) = (sealer("secret of all"), sealer("secret of all"));
        let (id, entry) = one.generate(1, 2).unwrap();
        assert_eq!(two.open(&id, &entry).unwrap().id, id);
        assert!(sealer("another secret").open(&id, &entry).is_none());
        let (other, _) = one.generate(1, 2).unwrap();
        assert_ne!(id, other, "keys are random: the secret alone leads to none");
        assert!(one.open(&other, &entry).is_none(), "a value under another id is none");
    }

    proptest! {
        #[test]
        fn a_value_that_was_changed_or_made_up_is_no_key(sealed in "[A-Za-z0-9_-]{0,100}", at in 0usize..80) {
            let sealer = sealer("secret of all");
            let (id, entry) = sealer.generate(1, 2).unwrap();
            let made_up = SigningEntry { sealed, ..entry.clone() };
            prop_assert!(sealer.open(&id, &made_up).is_none());
            let mut bytes = URL_SAFE_NO_PAD.decode(&entry.sealed).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1;
            let changed = SigningEntry { sealed: URL_SAFE_NO_PAD.encode(bytes), ..entry };
            prop_assert!(sealer.open(&id, &changed).is_none());
        }
    }
}
