//! Sockets, ICE-lite, DTLS and SRTP: how bytes reach a peer and come from it.
//!
//! Everything but [`socket`] is free of I/O: datagrams and the time come in, datagrams and verdicts come out.

pub mod dtls;
pub mod ice;
pub mod socket;
pub mod srtp;

/// What a datagram on the media port is, by its first byte (RFC 7983 §7) and, for RTP and RTCP, by its second
/// (RFC 5761 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramKind {
    /// STUN.
    Stun,
    /// A DTLS record.
    Dtls,
    /// SRTP.
    Rtp,
    /// SRTCP.
    Rtcp,
}

impl DatagramKind {
    /// Tells the kind; `None` is nothing that belongs here.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Option<Self> {
        match datagram {
            [0..=3, ..] => Some(Self::Stun),
            [20..=63, ..] => Some(Self::Dtls),
            [128..=191, 192..=223, ..] => Some(Self::Rtcp),
            [128..=191, _, ..] => Some(Self::Rtp),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DatagramKind;

    #[test]
    fn the_first_two_bytes_tell_the_kind() {
        assert_eq!(DatagramKind::of(&[0, 1]), Some(DatagramKind::Stun));
        assert_eq!(DatagramKind::of(&[22, 254]), Some(DatagramKind::Dtls));
        assert_eq!(DatagramKind::of(&[0x80, 96]), Some(DatagramKind::Rtp));
        assert_eq!(DatagramKind::of(&[0x80, 96 | 0x80]), Some(DatagramKind::Rtp));
        assert_eq!(DatagramKind::of(&[0x80, 200]), Some(DatagramKind::Rtcp));
        assert_eq!(DatagramKind::of(&[0x80]), None);
        assert_eq!(DatagramKind::of(&[70, 0]), None);
        assert_eq!(DatagramKind::of(&[]), None);
    }
}
