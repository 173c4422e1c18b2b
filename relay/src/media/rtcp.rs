//! Compound RTCP read where it lies: reports (RFC 3550 §6), feedback (RFC 4585, RFC 5104), REMB, transport-wide
//! feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1); reduced size (RFC 5506) is accepted.
//!
//! Invariant: nothing is copied or allocated; what is malformed ends the walk, with an error.

use thiserror::Error;

use super::{
    clock::Ntp,
    rtp::{be16, be32, be64},
};

/// Most packets that are read of one compound.
pub const MAX_PACKETS: usize = 64;

pub(crate) const SENDER_REPORT: u8 = 200;
pub(crate) const RECEIVER_REPORT: u8 = 201;
pub(crate) const SOURCE_DESCRIPTION: u8 = 202;
pub(crate) const BYE: u8 = 203;
pub(crate) const TRANSPORT_FEEDBACK: u8 = 205;
pub(crate) const PAYLOAD_FEEDBACK: u8 = 206;

pub(crate) const NACK: u8 = 1;
pub(crate) const TRANSPORT_CC: u8 = 15;
pub(crate) const PICTURE_LOSS: u8 = 1;
pub(crate) const FULL_INTRA: u8 = 4;
pub(crate) const APPLICATION: u8 = 15;

/// Why bytes are no RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RtcpError {
    /// Shorter than a length in it says.
    #[error("RTCP packet of type {kind} is cut short at {have} bytes; the rest was dropped")]
    Short {
        /// Packet type, 0 if not even that was there.
        kind: u8,
        /// Bytes that there are.
        have: usize,
    },
    /// Not version 2.
    #[error("RTCP version {0} is not 2; the rest was dropped")]
    Version(u8),
}

/// One report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// Whom it is about.
    pub ssrc: u32,
    /// In 1/256, since the last report.
    pub fraction_lost: u8,
    /// Packets, since the beginning; negative counts (duplicates) read as 0.
    pub lost: u32,
    /// Extended highest sequence number.
    pub highest: u32,
    /// In ticks.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time; 0 for none.
    pub last_report: u32,
    /// Time since that report, in 1/65536 s.
    pub delay: u32,
}

/// One RTCP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// SR.
    SenderReport {
        /// Sender.
        ssrc: u32,
        /// Its NTP time.
        ntp: Ntp,
        /// The same moment as RTP timestamp.
        rtp: u32,
        /// Its report blocks.
        blocks: Blocks<'a>,
    },
    /// RR.
    ReceiverReport {
        /// Its report blocks.
        blocks: Blocks<'a>,
    },
    /// BYE.
    Bye {
        /// The first source that leaves.
        ssrc: u32,
    },
    /// Generic NACK.
    Nack {
        /// Whose packets are missing.
        media: u32,
        /// Which.
        numbers: Nacks<'a>,
    },
    /// PLI.
    PictureLoss {
        /// Whose keyframe is wanted.
        media: u32,
    },
    /// FIR: one message for each of its entries would need a list; the entries are given instead.
    FullIntra {
        /// Whose keyframes are wanted, with FIR's own sequence numbers.
        entries: FullIntras<'a>,
    },
    /// REMB.
    Remb {
        /// The receiver's estimate.
        bits_per_second: u64,
    },
    /// Transport-wide feedback.
    TransportCc(TransportCc<'a>),
    /// Anything else: its packet type.
    Other(u8),
}

/// Iterator over report blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks<'a>(&'a [u8]);

impl Iterator for Blocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.0.split_at_checked(24)?;
        self.0 = rest;
        let lost = be32(block, 4) & 0xff_ffff;
        Some(ReportBlock {
            ssrc: be32(block, 0),
            fraction_lost: block[4],
            lost: if lost & 0x80_0000 == 0 { lost } else { 0 },
            highest: be32(block, 8),
            jitter: be32(block, 12),
            last_report: be32(block, 16),
            delay: be32(block, 20),
        })
    }
}

/// Iterator over the numbers of a NACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nacks<'a> {
    pairs: &'a [u8],
    /// Next number and those that follow it, as bits.
    open: Option<(u16, u16)>,
}

impl Iterator for Nacks<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if let Some((base, bits)) = self.open.filter(|(_, bits)| *bits != 0) {
            self.open = Some((base, bits & (bits - 1)));
            return Some(base.wrapping_add(bits.trailing_zeros() as u16 + 1));
        }
        let (pair, rest) = self.pairs.split_at_checked(4)?;
        self.pairs = rest;
        self.open = Some((be16(pair, 0), be16(pair, 2)));
        Some(be16(pair, 0))
    }
}

/// Iterator over the entries of a FIR: SSRC and FIR's sequence number (RFC 5104 §4.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullIntras<'a>(&'a [u8]);

impl Iterator for FullIntras<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<(u32, u8)> {
        let (entry, rest) = self.0.split_at_checked(8)?;
        self.0 = rest;
        Some((be32(entry, 0), entry[4]))
    }
}

/// A transport-wide feedback packet, as it lies; see [`super::departures`] for its statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportCc<'a> {
    /// First number it is about.
    pub base: u16,
    /// How many numbers it is about.
    pub count: u16,
    /// In 64 ms.
    pub reference: u32,
    /// Chunks and deltas.
    pub(crate) body: &'a [u8],
}

/// Reads a compound.
#[must_use]
pub fn messages(compound: &[u8]) -> Messages<'_> {
    Messages { rest: compound, left: MAX_PACKETS }
}

/// Iterator over the packets of a compound.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.left == 0 {
            return None;
        }
        self.left -= 1;
        let message = self.packet();
        if message.is_err() {
            self.rest = &[];
        }
        Some(message)
    }
}

impl<'a> Messages<'a> {
    fn packet(&mut self) -> Result<Message<'a>, RtcpError> {
        let short = |kind: u8| RtcpError::Short { kind, have: self.rest.len() };
        if self.rest.len() < 4 {
            return Err(short(0));
        }
        let (first, kind) = (self.rest[0], self.rest[1]);
        if first >> 6 != 2 {
            return Err(RtcpError::Version(first >> 6));
        }
        let length = 4 + 4 * usize::from(be16(self.rest, 2));
        let (packet, rest) = self.rest.split_at_checked(length).ok_or(short(kind))?;
        let mut body = &packet[4..];
        if first & 0x20 != 0 {
            let padding = usize::from(body.last().copied().unwrap_or_default());
            body = body.get(..body.len().saturating_sub(padding)).unwrap_or_default();
        }
        let message = read(kind, first & 0x1f, body).ok_or(short(kind))?;
        self.rest = rest;
        Ok(message)
    }
}

/// Reads one packet's body; `None` if it is too short.
fn read(kind: u8, count: u8, body: &[u8]) -> Option<Message<'_>> {
    let word = |at: usize| body.get(at..at + 4).map(|bytes| be32(bytes, 0));
    let blocks = |at: usize| body.get(at..at + 24 * usize::from(count)).map(Blocks);
    Some(match (kind, count) {
        (SENDER_REPORT, _) => Message::SenderReport {
            ssrc: word(0)?,
            ntp: Ntp(body.get(4..12).map(|bytes| be64(bytes, 0))?),
            rtp: word(12)?,
            blocks: blocks(24)?,
        },
        (RECEIVER_REPORT, _) => Message::ReceiverReport { blocks: blocks(4)? },
        (BYE, 1..) => Message::Bye { ssrc: word(0)? },
        (TRANSPORT_FEEDBACK, NACK) => {
            Message::Nack { media: word(4)?, numbers: Nacks { pairs: body.get(8..)?, open: None } }
        }
        (TRANSPORT_FEEDBACK, TRANSPORT_CC) => {
            let head = body.get(8..16)?;
            Message::TransportCc(TransportCc {
                base: be16(head, 0),
                count: be16(head, 2),
                reference: be32(head, 4) >> 8,
                body: &body[16..],
            })
        }
        (PAYLOAD_FEEDBACK, PICTURE_LOSS) => Message::PictureLoss { media: word(4)? },
        (PAYLOAD_FEEDBACK, FULL_INTRA) => Message::FullIntra { entries: FullIntras(body.get(8..)?) },
        (PAYLOAD_FEEDBACK, APPLICATION) if body.get(8..12) == Some(b"REMB") => {
            let rate = word(12)?;
            let exponent = rate >> 18 & 0x3f;
            // 18 bits of mantissa leave room for 46 of shift.
            let bits_per_second =
                if exponent > 46 { u64::MAX } else { u64::from(rate & 0x3_ffff) << exponent };
            Message::Remb { bits_per_second }
        }
        _ => Message::Other(kind),
    })
}
