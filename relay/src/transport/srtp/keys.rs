//! Profiles, master keys and session keys (RFC 3711 §4.3, RFC 5764 §4.2, RFC 7714 §12).

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, UnboundCipherKey};
use thiserror::Error;

/// A protection profile (RFC 5764 §4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// AEAD_AES_128_GCM
    Aes128Gcm,
    /// AEAD_AES_256_GCM
    Aes256Gcm,
    /// AES_CM_128_HMAC_SHA1_80
    Aes128CmSha1,
}

impl Profile {
    /// Its IANA name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AEAD_AES_128_GCM",
            Self::Aes256Gcm => "AEAD_AES_256_GCM",
            Self::Aes128CmSha1 => "AES_CM_128_HMAC_SHA1_80",
        }
    }

    /// Length of its master keys.
    #[must_use]
    pub fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128CmSha1 => 16,
            Self::Aes256Gcm => 32,
        }
    }

    /// Length of its master salts.
    #[must_use]
    pub fn salt_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 12,
            Self::Aes128CmSha1 => 14,
        }
    }
}

/// Keys that cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Key, salt or exported material of another length.
    #[error("{what} has {found} bytes where {profile} needs {expected}")]
    Length {
        /// Which part.
        what: &'static str,
        /// The profile's name.
        profile: &'static str,
        /// The right length.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// The cryptographic library refused.
    #[error("the cryptographic library refused the keys of {0}")]
    Refused(&'static str),
}

/// Master key and salt of one direction.
#[derive(Clone)]
pub struct SessionKeys {
    /// Under which profile.
    pub profile: Profile,
    /// Master key.
    pub key: Vec<u8>,
    /// Master salt.
    pub salt: Vec<u8>,
}

impl std::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionKeys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl SessionKeys {
    /// Splits what DTLS exported (RFC 5764 §4.2) into (ours, the peer's).
    ///
    /// # Errors
    /// [`KeyError::Length`] when the material is not two keys and two salts long.
    pub fn split(profile: Profile, material: &[u8], we_are_client: bool) -> Result<(Self, Self), KeyError> {
        let (key, salt) = (profile.key_bytes(), profile.salt_bytes());
        if material.len() != 2 * (key + salt) {
            let (expected, found) = (2 * (key + salt), material.len());
            return Err(KeyError::Length {
                what: "exported material",
                profile: profile.name(),
                expected,
                found,
            });
        }
        let (keys, salts) = material.split_at(2 * key);
        let side = |n: usize| Self {
            profile,
            key: keys[n * key..(n + 1) * key].to_vec(),
            salt: salts[n * salt..(n + 1) * salt].to_vec(),
        };
        let (client, server) = (side(0), side(1));
        Ok(if we_are_client { (client, server) } else { (server, client) })
    }

    pub(super) fn check(&self) -> Result<(), KeyError> {
        for (what, expected, found) in [
            ("master key", self.profile.key_bytes(), self.key.len()),
            ("master salt", self.profile.salt_bytes(), self.salt.len()),
        ] {
            if expected != found {
                return Err(KeyError::Length { what, profile: self.profile.name(), expected, found });
            }
        }
        Ok(())
    }
}

/// Labels of the key derivation (RFC 3711 §4.3.1).
#[derive(Clone, Copy)]
pub(super) enum Label {
    RtpKey = 0,
    RtpSalt = 2,
    RtcpKey = 3,
    RtcpSalt = 5,
}

/// AES-CM as pseudo-random function (RFC 3711 §4.3.3), with a key derivation rate of 0.
pub(super) fn derive(keys: &SessionKeys, label: Label, out: &mut [u8]) -> Result<(), KeyError> {
    let refused = || KeyError::Refused(keys.profile.name());
    let algorithm = if keys.key.len() == 32 { &AES_256 } else { &AES_128 };
    let cipher =
        UnboundCipherKey::new(algorithm, &keys.key).and_then(EncryptingKey::ecb).map_err(|_| refused())?;
    let mut counter = [0; 16];
    counter[..keys.salt.len()].copy_from_slice(&keys.salt);
    counter[7] ^= label as u8;
    for (i, chunk) in out.chunks_mut(16).enumerate() {
        let mut block = counter;
        block[15] = i as u8;
        cipher.encrypt(&mut block).map_err(|_| refused())?;
        chunk.copy_from_slice(&block[..chunk.len()]);
    }
    Ok(())
}
