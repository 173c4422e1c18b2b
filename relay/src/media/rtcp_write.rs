//! Compound RTCP written into a buffer of the caller's: what we send to publishers and players.
//!
//! Invariant: a packet is written whole or not at all, and every length field is right.

use super::{
    clock::Ntp,
    rtcp::{
        APPLICATION, FULL_INTRA, NACK, PAYLOAD_FEEDBACK, PICTURE_LOSS, RECEIVER_REPORT, ReportBlock,
        SENDER_REPORT, SOURCE_DESCRIPTION, TRANSPORT_CC, TRANSPORT_FEEDBACK,
    },
};

/// Most report blocks in one packet: one per track.
pub const MAX_BLOCKS: usize = 2;

/// Writes packets one behind the other.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    written: usize,
}

impl<'a> Writer<'a> {
    /// Starts a compound at the beginning of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, written: 0 }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written
    }

    /// The room for a packet with a body of `bytes`, a multiple of 4, behind its header.
    fn packet(&mut self, kind: u8, count: u8, bytes: usize) -> Option<&mut [u8]> {
        let packet = self.out.get_mut(self.written..self.written + 4 + bytes)?;
        packet[0] = 0x80 | count;
        packet[1] = kind;
        packet[2..4].copy_from_slice(&((bytes / 4) as u16).to_be_bytes());
        self.written += 4 + bytes;
        Some(&mut packet[4..])
    }

    /// SR (RFC 3550 §6.4.1) without blocks.
    pub fn sender_report(&mut self, ssrc: u32, ntp: Ntp, rtp: u32, packets: u32, octets: u32) -> Option<()> {
        let body = self.packet(SENDER_REPORT, 0, 24)?;
        put32(body, 0, ssrc);
        body[4..12].copy_from_slice(&ntp.0.to_be_bytes());
        put32(body, 12, rtp);
        put32(body, 16, packets);
        put32(body, 20, octets);
        Some(())
    }

    /// RR (RFC 3550 §6.4.2); blocks over [`MAX_BLOCKS`] are left out.
    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) -> Option<()> {
        let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
        let body = self.packet(RECEIVER_REPORT, blocks.len() as u8, 4 + 24 * blocks.len())?;
        put32(body, 0, ssrc);
        for (block, out) in blocks.iter().zip(body[4..].chunks_exact_mut(24)) {
            put32(out, 0, block.ssrc);
            put32(out, 4, u32::from(block.fraction_lost) << 24 | block.lost & 0xff_ffff);
            put32(out, 8, block.highest);
            put32(out, 12, block.jitter);
            put32(out, 16, block.last_report);
            put32(out, 20, block.delay);
        }
        Some(())
    }

    /// SDES with one CNAME (RFC 3550 §6.5); of a longer name the first 255 bytes.
    pub fn cname(&mut self, ssrc: u32, cname: &str) -> Option<()> {
        let name = &cname.as_bytes()[..cname.len().min(255)];
        let bytes = (4 + 2 + name.len() + 1).next_multiple_of(4);
        let body = self.packet(SOURCE_DESCRIPTION, 1, bytes)?;
        put32(body, 0, ssrc);
        body[4] = 1;
        body[5] = name.len() as u8;
        body[6..6 + name.len()].copy_from_slice(name);
        body[6 + name.len()..].fill(0);
        Some(())
    }

    /// Generic NACK (RFC 4585 §6.2.1) of rising numbers.
    pub fn nack(&mut self, sender: u32, media: u32, numbers: &[u64]) -> Option<()> {
        let pairs = nack_pairs(numbers).count();
        let body = self.packet(TRANSPORT_FEEDBACK, NACK, 8 + 4 * pairs)?;
        put32(body, 0, sender);
        put32(body, 4, media);
        for ((first, bits), out) in nack_pairs(numbers).zip(body[8..].chunks_exact_mut(4)) {
            out[..2].copy_from_slice(&first.to_be_bytes());
            out[2..].copy_from_slice(&bits.to_be_bytes());
        }
        Some(())
    }

    /// PLI (RFC 4585 §6.3.1).
    pub fn picture_loss(&mut self, sender: u32, media: u32) -> Option<()> {
        let body = self.packet(PAYLOAD_FEEDBACK, PICTURE_LOSS, 8)?;
        put32(body, 0, sender);
        put32(body, 4, media);
        Some(())
    }

    /// FIR (RFC 5104 §4.3.1) with one entry.
    pub fn full_intra(&mut self, sender: u32, media: u32, sequence: u8) -> Option<()> {
        let body = self.packet(PAYLOAD_FEEDBACK, FULL_INTRA, 16)?;
        put32(body, 0, sender);
        put32(body, 4, 0);
        put32(body, 8, media);
        put32(body, 12, u32::from(sequence) << 24);
        Some(())
    }

    /// REMB (draft-alvestrand-rmcat-remb-03 §2.2) for one source.
    pub fn remb(&mut self, sender: u32, media: u32, bits_per_second: u64) -> Option<()> {
        let body = self.packet(PAYLOAD_FEEDBACK, APPLICATION, 20)?;
        let exponent = (64 - bits_per_second.leading_zeros()).saturating_sub(18);
        let mantissa = (bits_per_second >> exponent) as u32;
        put32(body, 0, sender);
        put32(body, 4, 0);
        body[8..12].copy_from_slice(b"REMB");
        put32(body, 12, 1 << 24 | exponent << 18 | mantissa);
        put32(body, 16, media);
        Some(())
    }

    /// Transport-wide feedback around chunks and deltas that were made before.
    pub(crate) fn transport_cc(
        &mut self,
        sender: u32,
        media: u32,
        head: TransportCcHead,
        body_bytes: &[u8],
    ) -> Option<()> {
        let bytes = (16 + body_bytes.len()).next_multiple_of(4);
        let body = self.packet(TRANSPORT_FEEDBACK, TRANSPORT_CC, bytes)?;
        put32(body, 0, sender);
        put32(body, 4, media);
        body[8..10].copy_from_slice(&head.base.to_be_bytes());
        body[10..12].copy_from_slice(&head.count.to_be_bytes());
        put32(body, 12, head.reference << 8 | u32::from(head.feedback));
        body[16..16 + body_bytes.len()].copy_from_slice(body_bytes);
        body[16 + body_bytes.len()..].fill(0);
        Some(())
    }
}

/// The fixed part of transport-wide feedback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransportCcHead {
    pub base: u16,
    pub count: u16,
    /// In 64 ms.
    pub reference: u32,
    pub feedback: u8,
}

/// A first number and the bits of the 16 behind it.
fn nack_pairs(numbers: &[u64]) -> impl Iterator<Item = (u16, u16)> {
    let mut rest = numbers;
    std::iter::from_fn(move || {
        let (&first, mut after) = rest.split_first()?;
        let mut bits = 0;
        while let Some((&next, more)) = after.split_first() {
            let Some(ahead @ 1..=16) = next.checked_sub(first) else { break };
            bits |= 1 << (ahead - 1);
            after = more;
        }
        rest = after;
        Some((first as u16, bits))
    })
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::rtcp::{Message, messages};

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 200_u8..208, count in 0_u8..32) {
            if bytes.len() >= 4 {
                let words = (bytes.len() / 4 - 1) as u16;
                bytes[0] = 0x80 | count | bytes[0] & 0x20;
                bytes[1] = kind;
                bytes[2..4].copy_from_slice(&words.to_be_bytes());
            }
            for message in messages(&bytes).flatten() {
                match message {
                    Message::SenderReport { blocks, .. } | Message::ReceiverReport { blocks } => drop(blocks.count()),
                    Message::Nack { numbers, .. } => prop_assert!(numbers.count() <= 17 * 50),
                    Message::FullIntra { entries } => drop(entries.count()),
                    Message::Bye { .. } | Message::PictureLoss { .. } | Message::Remb { .. }
                    | Message::TransportCc(_) | Message::Other(_) => {}
                }
            }
        }

        #[test]
        fn a_nack_names_exactly_the_missing(numbers in prop::collection::btree_set(65_400_u64..65_700, 1..40)) {
            let numbers: Vec<u64> = numbers.into_iter().collect();
            let mut out = [0; 400];
            let mut writer = Writer::new(&mut out);
            writer.nack(1, 2, &numbers).unwrap();
            let length = writer.written();
            let Some(Ok(Message::Nack { media: 2, numbers: read })) = messages(&out[..length]).next() else { panic!() };
            prop_assert_eq!(read.collect::<Vec<_>>(), numbers.iter().map(|&n| n as u16).collect::<Vec<_>>());
        }

        #[test]
        fn remb_keeps_18_bits_of_the_rate(rate: u64) {
            let mut out = [0; 24];
            Writer::new(&mut out).remb(1, 2, rate).unwrap();
            let Some(Ok(Message::Remb { bits_per_second })) = messages(&out).next() else { panic!() };
            prop_assert!(bits_per_second <= rate && rate - bits_per_second <= rate >> 17);
        }
    }

    #[test]
    fn reports_come_back_as_they_were_written() {
        let block = ReportBlock {
            ssrc: 9,
            fraction_lost: 3,
            lost: 77,
            highest: 1 << 20,
            jitter: 5,
            last_report: 6,
            delay: 7,
        };
        let mut out = [0; 200];
        let mut writer = Writer::new(&mut out);
        writer.sender_report(1, Ntp(2), 3, 4, 5).unwrap();
        writer.receiver_report(8, &[block]).unwrap();
        writer.cname(8, "name").unwrap();
        writer.picture_loss(8, 9).unwrap();
        writer.full_intra(8, 9, 4).unwrap();
        let length = writer.written();
        let read: Vec<_> = messages(&out[..length]).collect::<Result<_, _>>().unwrap();
        let [sr, rr, sdes, pli, fir] = &read[..] else { panic!("{read:?}") };
        assert!(matches!(sr, Message::SenderReport { ssrc: 1, ntp: Ntp(2), rtp: 3, .. }));
        let Message::ReceiverReport { blocks } = rr else { panic!("{rr:?}") };
        assert_eq!(blocks.clone().collect::<Vec<_>>(), [block]);
        assert_eq!((sdes, pli), (&Message::Other(SOURCE_DESCRIPTION), &Message::PictureLoss { media: 9 }));
        let Message::FullIntra { entries } = fir else { panic!("{fir:?}") };
        assert_eq!(entries.clone().collect::<Vec<_>>(), [(9, 4)]);
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut out = [0; 30];
        let mut writer = Writer::new(&mut out);
        assert!(writer.sender_report(1, Ntp(2), 3, 4, 5).is_some());
        assert!(writer.picture_loss(1, 2).is_none());
        assert_eq!(writer.written(), 28);
    }
}
