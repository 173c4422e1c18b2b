//! Sealing: plaintext packets become SRTP and SRTCP where they lie.

use rtc_crypto::RTCCrypto;
use rtc_srtp::{context::Context, protection_profile::ProtectionProfile};

use super::{
    RTCP_CLEAR_BYTES, RTCP_INDEX_BYTES, TAG_BYTES,
    gcm::Key,
    keys::{KeyError, Profile, SessionKeys},
    replay::{PerSsrc, Window, guess},
    rtp_header_bytes, word,
};

/// SSRCs that we send under one key: a link carries many streams, a client's transport a handful.
const MAX_SSRCS: usize = 4_096;
/// SRTCP indices have 31 bits.
const RTCP_INDEX_LIMIT: u32 = 1 << 31;

/// The one writer under a key.
pub struct Sealer(Kind);

enum Kind {
    Gcm { rtp: Key, rtcp: Key, sent: PerSsrc<Window>, rtcp_index: u32 },
    Cm(Box<Context>),
}

impl Sealer {
    /// A writer under the keys of our direction.
    ///
    /// # Errors
    /// [`KeyError`] when key or salt have another length than the profile's.
    pub fn new(keys: &SessionKeys, crypto: &dyn RTCCrypto) -> Result<Self, KeyError> {
        keys.check()?;
        Ok(Self(match keys.profile {
            Profile::Aes128Gcm | Profile::Aes256Gcm => Kind::Gcm {
                rtp: Key::rtp(keys)?,
                rtcp: Key::rtcp(keys)?,
                sent: PerSsrc::new(MAX_SSRCS),
                rtcp_index: 0,
            },
            Profile::Aes128CmSha1 => Kind::Cm(Box::new(context(keys, crypto)?)),
        }))
    }

    /// Seals the RTP packet of `length` bytes at the start of `buffer`, which has [`TAG_BYTES`] more. Answers with
    /// the sealed length. `None`: not a packet, no room, or an index that was used or lies
    /// behind the window.
    pub fn seal_rtp(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        match &mut self.0 {
            Kind::Gcm { rtp, sent, .. } => {
                let header_bytes = rtp_header_bytes(buffer.get(..length)?)?;
                let (packet, tail) = buffer.split_at_mut_checked(length)?;
                let tail = tail.get_mut(..TAG_BYTES)?;
                let sequence = u16::from_be_bytes([packet[2], packet[3]]);
                let ssrc = word(packet, 8)?;
                // The first packet's index is its sequence number (RFC 3711 §3.3.1).
                let sent = sent.entry(ssrc, || Window::new(u64::from(sequence)))?;
                let index = guess(sent.highest(), sequence).filter(|&index| sent.is_fresh(index))?;
                sent.take(index);
                let (header, payload) = packet.split_at_mut(header_bytes);
                tail.copy_from_slice(&rtp.seal(rtp.rtp_nonce(ssrc, index), header, payload)?);
                Some(length + TAG_BYTES)
            }
            Kind::Cm(context) => put(buffer, &context.encrypt_rtp(buffer.get(..length)?).ok()?),
        }
    }

    /// Seals the compound RTCP packet of `length` bytes at the start of `buffer`, which has
    /// [`super::RTCP_OVERHEAD_BYTES`] more. Answers with the sealed length.
    pub fn seal_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        match &mut self.0 {
            Kind::Gcm { rtcp, rtcp_index, .. } => {
                let (packet, tail) = buffer.split_at_mut_checked(length)?;
                let (tag, index_word) = tail.get_mut(..TAG_BYTES + RTCP_INDEX_BYTES)?.split_at_mut(TAG_BYTES);
                let (header, text) = packet.split_at_mut_checked(RTCP_CLEAR_BYTES)?;
                let ssrc = word(header, 4)?;
                let index = rtcp_index.checked_add(1).filter(|&index| index < RTCP_INDEX_LIMIT)?;
                *rtcp_index = index;
                let flagged = (index | RTCP_INDEX_LIMIT).to_be_bytes();
                let mut aad = [0; RTCP_CLEAR_BYTES + RTCP_INDEX_BYTES];
                aad[..RTCP_CLEAR_BYTES].copy_from_slice(header);
                aad[RTCP_CLEAR_BYTES..].copy_from_slice(&flagged);
                tag.copy_from_slice(&rtcp.seal(rtcp.rtcp_nonce(ssrc, index), &aad, text)?);
                index_word.copy_from_slice(&flagged);
                Some(length + TAG_BYTES + RTCP_INDEX_BYTES)
            }
            Kind::Cm(context) => put(buffer, &context.encrypt_rtcp(buffer.get(..length)?).ok()?),
        }
    }
}

pub(super) fn context(keys: &SessionKeys, crypto: &dyn RTCCrypto) -> Result<Context, KeyError> {
    Context::new(&keys.key, &keys.salt, ProtectionProfile::Aes128CmHmacSha1_80, None, None, crypto)
        .map_err(|_| KeyError::Refused(keys.profile.name()))
}

fn put(buffer: &mut [u8], sealed: &[u8]) -> Option<usize> {
    buffer.get_mut(..sealed.len())?.copy_from_slice(sealed);
    Some(sealed.len())
}
