//! AEAD_AES_128_GCM and AEAD_AES_256_GCM (RFC 7714): keys, nonces, additional data.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{
    TAG_BYTES,
    keys::{KeyError, Label, Profile, SessionKeys, derive},
};

/// A session key with its salt: for RTP or for RTCP of one direction.
pub(super) struct Key {
    key: LessSafeKey,
    salt: [u8; 12],
}

impl Key {
    pub(super) fn rtp(keys: &SessionKeys) -> Result<Self, KeyError> {
        Self::new(keys, Label::RtpKey, Label::RtpSalt)
    }

    pub(super) fn rtcp(keys: &SessionKeys) -> Result<Self, KeyError> {
        Self::new(keys, Label::RtcpKey, Label::RtcpSalt)
    }

    fn new(keys: &SessionKeys, key_label: Label, salt_label: Label) -> Result<Self, KeyError> {
        let algorithm = match keys.profile {
            Profile::Aes128Gcm => &AES_128_GCM,
            Profile::Aes256Gcm => &AES_256_GCM,
            Profile::Aes128CmSha1 => return Err(KeyError::Refused(keys.profile.name())),
        };
        let mut key = [0; 32];
        let key = &mut key[..keys.profile.key_bytes()];
        derive(keys, key_label, key)?;
        let mut salt = [0; 12];
        derive(keys, salt_label, &mut salt)?;
        let key = UnboundKey::new(algorithm, key).map_err(|_| KeyError::Refused(keys.profile.name()))?;
        Ok(Self { key: LessSafeKey::new(key), salt })
    }

    /// RFC 7714 §8.1: SSRC, rollover counter and sequence number, which together are the 48-bit index.
    pub(super) fn rtp_nonce(&self, ssrc: u32, index: u64) -> [u8; 12] {
        let mut nonce = self.salt;
        xor(&mut nonce[2..6], &ssrc.to_be_bytes());
        xor(&mut nonce[6..12], &index.to_be_bytes()[2..]);
        nonce
    }

    /// RFC 7714 §9.1.
    pub(super) fn rtcp_nonce(&self, ssrc: u32, index: u32) -> [u8; 12] {
        let mut nonce = self.salt;
        xor(&mut nonce[2..6], &ssrc.to_be_bytes());
        xor(&mut nonce[8..12], &index.to_be_bytes());
        nonce
    }

    /// Encrypts `text` in place and answers with its tag.
    pub(super) fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> Option<[u8; TAG_BYTES]> {
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text)
            .ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Decrypts `text`, whose tag stands at its end, in place. `None`: it is not authentic.
    pub(super) fn open(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> Option<usize> {
        let plain = self.key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text).ok()?;
        Some(plain.len())
    }
}

fn xor(to: &mut [u8], with: &[u8]) {
    for (a, b) in to.iter_mut().zip(with) {
        *a ^= b;
    }
}
