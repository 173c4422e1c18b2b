//! RTP headers read where they lie (RFC 3550 §5.1) with header extensions of both forms (RFC 8285), and the test that
//! tells RTCP from RTP on one port (RFC 5761 §4).
//!
//! Invariant: a [`Header`] only exists for a packet in which every range it names lies.

use std::ops::Range;

use thiserror::Error;

/// Bytes of the header without contributors and extensions.
pub const FIXED_HEADER_BYTES: usize = 12;

/// RFC 8285 §4.2.
pub(crate) const ONE_BYTE_PROFILE: u16 = 0xBEDE;
/// RFC 8285 §4.3, with its four "appbits" zero.
pub(crate) const TWO_BYTE_PROFILE: u16 = 0x1000;

/// Why bytes are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RtpError {
    /// Shorter than its own header says.
    #[error("RTP packet of {have} bytes needs at least {need}; dropped")]
    Short {
        /// Bytes that there are.
        have: usize,
        /// Bytes that there must be.
        need: usize,
    },
    /// Not version 2.
    #[error("RTP version {0} is not 2; dropped")]
    Version(u8),
    /// The padding count is zero or more than the payload.
    #[error("RTP padding of {0} bytes does not fit; dropped")]
    Padding(u8),
}

/// Whether a datagram that is RTP or RTCP is RTCP (RFC 5761 §4: packet types 192 to 223).
#[must_use]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.len() >= 2 && (192..=223).contains(&datagram[1])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    None,
    OneByte,
    TwoByte,
}

/// A checked RTP header. It holds positions, not bytes: methods that read take the packet again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Marker bit.
    pub marker: bool,
    /// Payload type.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Where the payload lies, without padding.
    pub payload: Range<usize>,
    /// Bytes of padding behind the payload.
    pub padding_bytes: u8,
    form: Form,
    extensions: Range<usize>,
}

impl Header {
    /// Reads the header of a packet.
    ///
    /// # Errors
    /// [`RtpError`] if the bytes are no whole RTP packet.
    pub fn parse(packet: &[u8]) -> Result<Self, RtpError> {
        let have = packet.len();
        let need = |need: usize| if have < need { Err(RtpError::Short { have, need }) } else { Ok(()) };
        need(FIXED_HEADER_BYTES)?;
        let version = packet[0] >> 6;
        if version != 2 {
            return Err(RtpError::Version(version));
        }
        let mut at = FIXED_HEADER_BYTES + 4 * usize::from(packet[0] & 0x0f);
        let (mut form, mut extensions) = (Form::None, at..at);
        if packet[0] & 0x10 != 0 {
            need(at + 4)?;
            let profile = be16(packet, at);
            let end = at + 4 + 4 * usize::from(be16(packet, at + 2));
            need(end)?;
            form = match profile {
                ONE_BYTE_PROFILE => Form::OneByte,
                p if p & 0xfff0 == TWO_BYTE_PROFILE => Form::TwoByte,
                _ => Form::None,
            };
            extensions = at + 4..end;
            at = end;
        }
        need(at)?;
        let mut padding_bytes = 0;
        if packet[0] & 0x20 != 0 {
            padding_bytes = packet[have - 1];
            if padding_bytes == 0 || usize::from(padding_bytes) > have - at {
                return Err(RtpError::Padding(padding_bytes));
            }
        }
        Ok(Self {
            marker: packet[1] & 0x80 != 0,
            payload_type: packet[1] & 0x7f,
            sequence: be16(packet, 2),
            timestamp: be32(packet, 4),
            ssrc: be32(packet, 8),
            payload: at..have - usize::from(padding_bytes),
            padding_bytes,
            form,
            extensions,
        })
    }

    /// The header extensions, in order: id and value. Stops at the first malformed one.
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        Extensions { form: self.form, rest: packet.get(self.extensions.clone()).unwrap_or_default() }
    }
}

/// Iterator over header extensions.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    form: Form,
    rest: &'a [u8],
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, after) = self.rest.split_first()?;
            if first == 0 {
                self.rest = after;
                continue;
            }
            let (id, length, body) = match self.form {
                Form::None => return None,
                // RFC 8285 §4.2: id 15 ends the walk.
                Form::OneByte if first >> 4 == 15 => return None,
                Form::OneByte => (first >> 4, usize::from(first & 0x0f) + 1, after),
                Form::TwoByte => {
                    let (&length, body) = after.split_first()?;
                    (first, usize::from(length), body)
                }
            };
            let (value, rest) = body.split_at_checked(length)?;
            self.rest = rest;
            // RFC 8285 §4.2: id 0 with a length is padding all the same.
            if id != 0 {
                return Some((id, value));
            }
        }
    }
}

/// Callers have checked that the bytes are there.
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Callers have checked that the bytes are there.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Callers have checked that the bytes are there.
pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rtcp_is_told_from_rtp_by_its_packet_type() {
        assert!(is_rtcp(&[0x80, 200]) && is_rtcp(&[0x81, 206]));
        assert!(!is_rtcp(&[0x80, 96]) && !is_rtcp(&[0x80, 0x80 | 96]) && !is_rtcp(&[0x80]));
    }

    #[test]
    fn both_forms_of_extensions_are_read() {
        let one =
            [0x90, 96, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1, 0xBE, 0xDE, 0, 2, 0x10, b'a', 0, 0x31, 1, 2, 0, 0, 0xaa];
        let header = Header::parse(&one).unwrap();
        assert_eq!(header.extensions(&one).collect::<Vec<_>>(), [(1, &b"a"[..]), (3, &[1, 2][..])]);
        assert_eq!(&one[header.payload.clone()], [0xaa]);
        let two = [0x90, 96, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1, 0x10, 0, 0, 2, 20, 3, 1, 2, 3, 21, 0, 0, 0xbb];
        let header = Header::parse(&two).unwrap();
        assert_eq!(header.extensions(&two).collect::<Vec<_>>(), [(20, &[1, 2, 3][..]), (21, &[][..])]);
    }

    #[test]
    fn padding_is_stripped_and_must_fit() {
        let mut packet = vec![0xa0, 96, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1, 5, 0, 2];
        assert_eq!(Header::parse(&packet).unwrap().payload, 12..13);
        packet[14] = 4;
        assert_eq!(Header::parse(&packet), Err(RtpError::Padding(4)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), likely: bool) {
            if likely && !bytes.is_empty() {
                bytes[0] = bytes[0] & 0x3f | 0x80;
            }
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert!(header.payload.start <= header.payload.end && header.payload.end <= bytes.len());
                prop_assert!(header.extensions(&bytes).all(|(id, _)| id != 0));
            }
        }
    }
}
