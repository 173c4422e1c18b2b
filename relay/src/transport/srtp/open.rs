//! Opening: SRTP and SRTCP become plaintext where they lie, each packet at most once.

use rtc_crypto::RTCCrypto;
use rtc_srtp::context::Context;
use thiserror::Error;

use super::{
    RTCP_CLEAR_BYTES, RTCP_INDEX_BYTES, TAG_BYTES,
    gcm::Key,
    keys::{KeyError, Profile, SessionKeys},
    replay::{PerSsrc, Window, guess},
    rtp_header_bytes,
    seal::context,
    word,
};

/// SSRCs that a peer may send under one key: a link carries many streams, a client's transport a handful.
const MAX_SSRCS: usize = 4_096;
/// Tag of AES_CM_128_HMAC_SHA1_80.
const CM_TAG_BYTES: usize = 10;
/// The E flag of SRTCP's index word.
const ENCRYPTED: u32 = 1 << 31;

/// Why a packet is not opened.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// Shorter than its headers say, or than a tag.
    #[error("the packet is cut short")]
    Truncated,
    /// Its index was taken, or lies behind the window.
    #[error("the packet was seen before, or is too old")]
    Replayed,
    /// Its tag does not hold.
    #[error("the packet is not authentic")]
    Forged,
    /// One SSRC more than a peer may use.
    #[error("the peer uses more than {MAX_SSRCS} SSRCs")]
    TooManySsrcs,
}

/// The reader of a peer's packets.
pub struct Opener {
    kind: Kind,
    rtp_windows: PerSsrc<Window>,
    rtcp_windows: PerSsrc<Window>,
}

enum Kind {
    Gcm { rtp: Key, rtcp: Key },
    Cm(Box<Context>),
}

impl Opener {
    /// A reader under the keys of the peer's direction.
    ///
    /// # Errors
    /// [`KeyError`] when key or salt have another length than the profile's.
    pub fn new(keys: &SessionKeys, crypto: &dyn RTCCrypto) -> Result<Self, KeyError> {
        keys.check()?;
        let kind = match keys.profile {
            Profile::Aes128Gcm | Profile::Aes256Gcm => {
                Kind::Gcm { rtp: Key::rtp(keys)?, rtcp: Key::rtcp(keys)? }
            }
            Profile::Aes128CmSha1 => Kind::Cm(Box::new(context(keys, crypto)?)),
        };
        Ok(Self { kind, rtp_windows: PerSsrc::new(MAX_SSRCS), rtcp_windows: PerSsrc::new(MAX_SSRCS) })
    }

    /// Opens an RTP packet in place. Answers with its length without the tag.
    ///
    /// # Errors
    /// [`OpenError`]; the buffer's content is then undefined.
    pub fn open_rtp(&mut self, packet: &mut [u8]) -> Result<usize, OpenError> {
        let header_bytes = rtp_header_bytes(packet).ok_or(OpenError::Truncated)?;
        let ssrc = word(packet, 8).ok_or(OpenError::Truncated)?;
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let window = self.rtp_windows.get(ssrc);
        let index = match window {
            Some(window) => guess(window.highest(), sequence).ok_or(OpenError::Replayed)?,
            None => u64::from(sequence),
        };
        if window.is_some_and(|window| !window.is_fresh(index)) {
            return Err(OpenError::Replayed);
        }
        let length = match &mut self.kind {
            Kind::Gcm { rtp, .. } => {
                if packet.len() < header_bytes + TAG_BYTES {
                    return Err(OpenError::Truncated);
                }
                let (header, text) = packet.split_at_mut(header_bytes);
                header_bytes + rtp.open(rtp.rtp_nonce(ssrc, index), header, text).ok_or(OpenError::Forged)?
            }
            Kind::Cm(context) => put(packet, &context.decrypt_rtp(packet).map_err(|_| OpenError::Forged)?),
        };
        // Only what is authentic makes state.
        self.rtp_windows.entry(ssrc, || Window::new(index)).ok_or(OpenError::TooManySsrcs)?.take(index);
        Ok(length)
    }

    /// Opens a compound RTCP packet in place. Answers with its length without tag and index.
    ///
    /// # Errors
    /// [`OpenError`]; the buffer's content is then undefined.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, OpenError> {
        let ssrc = word(packet, 4).ok_or(OpenError::Truncated)?;
        // GCM has its tag before the index word (RFC 7714 §9.3), CM behind it (RFC 3711 §3.4).
        let behind_index = match &self.kind {
            Kind::Gcm { .. } => 0,
            Kind::Cm(_) => CM_TAG_BYTES,
        };
        let index_at =
            packet.len().checked_sub(RTCP_INDEX_BYTES + behind_index).ok_or(OpenError::Truncated)?;
        let flagged = word(packet, index_at).ok_or(OpenError::Truncated)?;
        let index = u64::from(flagged & !ENCRYPTED);
        if self.rtcp_windows.get(ssrc).is_some_and(|window| !window.is_fresh(index)) {
            return Err(OpenError::Replayed);
        }
        let length = match &mut self.kind {
            Kind::Gcm { rtcp, .. } => open_rtcp_gcm(rtcp, packet, index_at, ssrc, flagged)?,
            // WebRTC always encrypts; and `rtc-srtp` 0.21.1 takes what says that it is not encrypted unchecked.
            Kind::Cm(_) if flagged & ENCRYPTED == 0 => return Err(OpenError::Forged),
            Kind::Cm(context) => put(packet, &context.decrypt_rtcp(packet).map_err(|_| OpenError::Forged)?),
        };
        self.rtcp_windows.entry(ssrc, || Window::new(index)).ok_or(OpenError::TooManySsrcs)?.take(index);
        Ok(length)
    }
}

fn open_rtcp_gcm(
    key: &Key,
    packet: &mut [u8],
    end: usize,
    ssrc: u32,
    flagged: u32,
) -> Result<usize, OpenError> {
    if end < RTCP_CLEAR_BYTES + TAG_BYTES {
        return Err(OpenError::Truncated);
    }
    let mut aad = [0; RTCP_CLEAR_BYTES + RTCP_INDEX_BYTES];
    aad[..RTCP_CLEAR_BYTES].copy_from_slice(&packet[..RTCP_CLEAR_BYTES]);
    aad[RTCP_CLEAR_BYTES..].copy_from_slice(&flagged.to_be_bytes());
    let text = &mut packet[RTCP_CLEAR_BYTES..end];
    let length = key.open(key.rtcp_nonce(ssrc, flagged & !ENCRYPTED), &aad, text).ok_or(OpenError::Forged)?;
    Ok(RTCP_CLEAR_BYTES + length)
}

fn put(packet: &mut [u8], plain: &[u8]) -> usize {
    let length = plain.len().min(packet.len());
    packet[..length].copy_from_slice(&plain[..length]);
    length
}
