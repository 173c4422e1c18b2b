//! SRTP and SRTCP (RFC 3711), in place.
//!
//! The GCM profiles (RFC 7714) are our own path on `aws-lc-rs`: no allocation, no copy. AES_CM_128_HMAC_SHA1_80, for
//! peers that know nothing better, goes through `rtc-srtp`.
//!
//! Invariant: a [`Sealer`] is the only one that writes under its key, and it never seals one (SSRC, index) twice with
//! GCM, which would leak the authentication key: one that was used, or that is too old to tell, is refused.

mod gcm;
mod keys;
mod open;
mod replay;
mod seal;

pub use keys::{KeyError, Profile, SessionKeys};
pub use open::{OpenError, Opener};
pub use seal::Sealer;

/// Longest tag (GCM; the CM profile's 10 bytes and its index are less).
pub const TAG_BYTES: usize = 16;
/// What SRTCP adds at most: a tag and the index word.
pub const RTCP_OVERHEAD_BYTES: usize = TAG_BYTES + RTCP_INDEX_BYTES;
/// E flag and index (RFC 3711 §3.4).
const RTCP_INDEX_BYTES: usize = 4;
/// RTCP's part that stays readable: header and sender SSRC.
const RTCP_CLEAR_BYTES: usize = 8;

/// Length of an RTP header with its CSRCs and extension (RFC 3550 §5.1, §5.3.1), if the packet holds it whole.
fn rtp_header_bytes(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let fixed = 12 + 4 * usize::from(first & 0x0f);
    if first & 0x10 == 0 {
        return (packet.len() >= fixed).then_some(fixed);
    }
    let words = packet.get(fixed + 2..fixed + 4)?;
    let whole = fixed + 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    (packet.len() >= whole).then_some(whole)
}

fn word(packet: &[u8], at: usize) -> Option<u32> {
    packet.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests;
