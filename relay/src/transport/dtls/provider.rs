//! The cryptography of handshakes: the library's own, but signatures of peers on every curve that they use.
//!
//! The SDP's fingerprint says who a peer is (RFC 8122), so its key may be on any curve: it only has to have signed the
//! handshake. GnuTLS makes FFmpeg's certificates on secp224r1, for one. The library names a scheme by the hash that the peer
//! chose and takes the curve for the usual one of that hash, which TLS 1.2 does not ask for (RFC 8422 §5.10): here the key
//! itself tells its curve.

use std::sync::Arc;

use aws_lc_rs::{
    digest,
    signature::{self, EcdsaVerificationAlgorithm, UnparsedPublicKey},
};
use p224::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier as _};
use rtc_crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher,
    CryptoAlgorithm, CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey,
    PublicKeyEncoding, RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme, SigningKey, StreamCipher,
    StreamCipherAlgorithm, providers::AwsLcRsProvider,
};

/// The library's provider, with more curves.
pub(super) struct Provider(AwsLcRsProvider);

impl Provider {
    pub fn new() -> Self {
        Self(AwsLcRsProvider::new())
    }
}

impl RTCCryptoProvider for Provider {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }

    fn random(&self) -> &dyn RTCRandom {
        self.0.random()
    }
}

impl RTCCrypto for Provider {
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.0.crypto().supports(algorithm)
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.0.crypto().hash(algorithm, data)
    }

    fn block_encrypt(
        &self,
        algorithm: BlockCipherAlgorithm,
        key: &[u8],
        block: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.0.crypto().block_encrypt(algorithm, key, block)
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        self.0.crypto().new_hmac(algorithm, key)
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        self.0.crypto().new_stream_cipher(algorithm, key)
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        self.0.crypto().new_aead(algorithm, key)
    }

    fn new_cbc(&self, algorithm: CbcAlgorithm, key: &[u8]) -> Result<Box<dyn CbcCipher>, CryptoError> {
        self.0.crypto().new_cbc(algorithm, key)
    }

    fn start_key_exchange(
        &self,
        algorithm: KeyExchangeAlgorithm,
    ) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.0.crypto().start_key_exchange(algorithm)
    }

    fn generate_signing_key(&self, scheme: SignatureScheme) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.0.crypto().generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8_der: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.0.crypto().import_signing_key(scheme, pkcs8_der)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        public_key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        match (EcdsaHash::of(scheme), public_key.encoding) {
            (Some(hash), PublicKeyEncoding::EcUncompressedPoint) => {
                verify_ecdsa(hash, public_key.bytes, message, signature)
            }
            _ => self.0.crypto().verify_signature(scheme, public_key, message, signature),
        }
    }
}

/// The hash that an ECDSA signature is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EcdsaHash {
    Sha256,
    Sha384,
}

impl EcdsaHash {
    /// What a scheme says of ECDSA but for its curve; nothing for schemes of other kinds.
    fn of(scheme: SignatureScheme) -> Option<Self> {
        match scheme {
            SignatureScheme::EcdsaP256Sha256 | SignatureScheme::EcdsaP384Sha256 => Some(Self::Sha256),
            SignatureScheme::EcdsaP384Sha384 => Some(Self::Sha384),
            SignatureScheme::Ed25519
            | SignatureScheme::RsaPkcs1Sha1
            | SignatureScheme::RsaPkcs1Sha256
            | SignatureScheme::RsaPkcs1Sha384
            | SignatureScheme::RsaPkcs1Sha512
            | _ => None,
        }
    }

    fn digest(self, message: &[u8]) -> digest::Digest {
        match self {
            Self::Sha256 => digest::digest(&digest::SHA256, message),
            Self::Sha384 => digest::digest(&digest::SHA384, message),
        }
    }
}

/// Curves of keys, told by the length of their uncompressed points (SEC 1 §2.3.3).
fn verify_ecdsa(hash: EcdsaHash, point: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    let algorithm: &'static EcdsaVerificationAlgorithm = match (point.len(), hash) {
        (57, _) => return verify_p224(hash.digest(message).as_ref(), point, signature),
        (65, EcdsaHash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (65, EcdsaHash::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (97, EcdsaHash::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (97, EcdsaHash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (133, EcdsaHash::Sha256) => &signature::ECDSA_P521_SHA256_ASN1,
        (133, EcdsaHash::Sha384) => &signature::ECDSA_P521_SHA384_ASN1,
        _ => return Err(CryptoError::InvalidPublicKey),
    };
    UnparsedPublicKey::new(algorithm, point)
        .verify(message, signature)
        .map_err(|_| CryptoError::InvalidSignature)
}

fn verify_p224(prehash: &[u8], point: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| CryptoError::InvalidPublicKey)?;
    let signature = Signature::from_der(signature).map_err(|_| CryptoError::InvalidSignature)?;
    key.verify_prehash(prehash, &signature).map_err(|_| CryptoError::InvalidSignature)
}

#[cfg(test)]
mod tests {
    use p224::ecdsa::{SigningKey, signature::hazmat::PrehashSigner as _};

    use super::*;

    fn verify(
        scheme: SignatureScheme,
        point: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let public_key = PublicKey { encoding: PublicKeyEncoding::EcUncompressedPoint, bytes: point };
        Provider::new().verify_signature(scheme, public_key, message, signature)
    }

    #[test]
    fn a_key_on_secp224r1_is_known_by_its_signature_alone() {
        let key = SigningKey::from_slice(&[7; 28]).unwrap();
        let point = key.verifying_key().to_encoded_point(false);
        for (scheme, hash) in [
            (SignatureScheme::EcdsaP256Sha256, EcdsaHash::Sha256),
            (SignatureScheme::EcdsaP384Sha384, EcdsaHash::Sha384),
        ] {
            let signature: Signature = key.sign_prehash(hash.digest(b"a handshake").as_ref()).unwrap();
            let signature = signature.to_der();
            assert_eq!(verify(scheme, point.as_bytes(), b"a handshake", signature.as_bytes()), Ok(()));
            let other = verify(scheme, point.as_bytes(), b"another", signature.as_bytes());
            assert_eq!(other, Err(CryptoError::InvalidSignature));
        }
    }

    #[test]
    fn what_is_no_point_or_no_signature_is_refused() {
        let scheme = SignatureScheme::EcdsaP256Sha256;
        for length in [0, 1, 56, 57, 58, 65, 97, 133, 500] {
            let outcome = verify(scheme, &vec![4; length], b"message", &[0x30, 0]);
            assert!(outcome.is_err(), "{length} bytes");
        }
    }
}
