//! What we tell a publisher: RR with CNAME, NACK, PLI or FIR, and transport-wide feedback or REMB, in one compound.
//!
//! Each compound starts with a receiver report (RFC 3550 §6.1); blocks are in it once per [`REPORT_INTERVAL`], so
//! that the fraction lost covers a fair time. Invariant: a publisher's rate can always climb: what limits it is its own
//! congestion control, or for REMB the cap.

use std::time::{Duration, Instant};

use super::{
    ingress::{Ingress, Track},
    nack::Hope,
    rtcp::ReportBlock,
    rtcp_write::{MAX_BLOCKS, Writer},
};
use crate::plane::{CongestionFeedback, Kind};

/// Time between report blocks, and between REMBs.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Room that a compound may need.
pub const MAX_COMPOUND_BYTES: usize = 1200;

/// Most numbers in one compound's NACK.
const MAX_NACKS: usize = 64;

/// What REMB starts with.
const FIRST_REMB: u64 = 1_000_000;
/// What REMB never goes below.
const LOWEST_REMB: u64 = 100_000;

/// The schedule of one publish's feedback.
#[derive(Debug)]
pub struct Feedback {
    report_at: Option<Instant>,
    /// Bytes since the last report.
    received_bytes: u64,
    remb: u64,
    remb_cap: u64,
    full_intra: u8,
}

impl Feedback {
    pub(super) fn new(remb_cap: u64) -> Self {
        Self { report_at: None, received_bytes: 0, remb: FIRST_REMB.min(remb_cap), remb_cap, full_intra: 0 }
    }

    pub(super) fn received(&mut self, now: Instant, bytes: usize) {
        self.received_bytes += bytes as u64;
        self.report_at.get_or_insert(now + REPORT_INTERVAL);
    }

    /// Grows while nearly nothing is lost, whatever arrives; falls below what arrives when much is lost.
    fn next_remb(&mut self, fraction_lost: u8) -> u64 {
        let received = self.received_bytes * 8;
        self.remb = match fraction_lost {
            0..=5 => self.remb + self.remb / 4,
            6..=25 => self.remb,
            26.. => (received * (512 - u64::from(fraction_lost)) / 512).min(self.remb),
        }
        .clamp(LOWEST_REMB.min(self.remb_cap), self.remb_cap);
        self.remb
    }
}

impl Ingress {
    /// When [`Self::poll_feedback`] has something to write.
    #[must_use]
    pub fn next_feedback_at(&self) -> Option<Instant> {
        let tracks = self.tracks.iter().filter(|track| track.ssrc.is_some());
        let wishes = tracks.flat_map(|track| [track.missing.next_at(), track.keyframes.next_at()]);
        let transport =
            self.arrivals.next_at().filter(|_| self.congestion() == CongestionFeedback::TransportCc);
        wishes.chain([transport, self.feedback.report_at]).flatten().min()
    }

    /// Writes one compound of all that is due; answers its length. `out` needs [`MAX_COMPOUND_BYTES`].
    pub fn poll_feedback(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if self.next_feedback_at().is_none_or(|at| at > now) {
            return None;
        }
        let sender = self.config.ssrc;
        let reporting = self.feedback.report_at.is_some_and(|at| at <= now);
        let mut writer = Writer::new(out);
        let mut blocks = [ReportBlock::default(); MAX_BLOCKS];
        let mut count = 0;
        if reporting {
            for track in &mut self.tracks {
                let block = track.ssrc.and_then(|ssrc| track.reception.block(now, ssrc));
                if let (Some(block), Some(slot)) = (block, blocks.get_mut(count)) {
                    *slot = block;
                    count += 1;
                }
            }
        }
        writer.receiver_report(sender, &blocks[..count])?;
        writer.cname(sender, &self.config.cname)?;
        let plain = writer.written();
        for track in &mut self.tracks {
            track.wishes(now, sender, &mut self.feedback.full_intra, &mut writer);
        }
        let media = self.tracks.iter().find_map(|track| track.ssrc).unwrap_or_default();
        match self.congestion() {
            CongestionFeedback::None => {}
            CongestionFeedback::TransportCc => self.arrivals.poll(now, sender, media, &mut writer),
            CongestionFeedback::Remb if reporting => {
                let worst = blocks[..count].iter().map(|block| block.fraction_lost).max().unwrap_or_default();
                let _ = writer.remb(sender, media, self.feedback.next_remb(worst));
            }
            CongestionFeedback::Remb => {}
        }
        if reporting {
            self.feedback.received_bytes = 0;
            self.feedback.report_at = Some(now + REPORT_INTERVAL);
        }
        // An empty report between two real ones says nothing.
        (reporting || writer.written() > plain).then_some(writer.written())
    }

    /// The best that any track negotiated: they share a transport.
    fn congestion(&self) -> CongestionFeedback {
        let any = |wanted| self.tracks.iter().any(|track| track.spec.feedback == wanted);
        if any(CongestionFeedback::TransportCc) {
            CongestionFeedback::TransportCc
        } else if any(CongestionFeedback::Remb) {
            CongestionFeedback::Remb
        } else {
            CongestionFeedback::None
        }
    }
}

impl Track {
    /// NACK and keyframe request, if due.
    fn wishes(&mut self, now: Instant, sender: u32, full_intra: &mut u8, writer: &mut Writer<'_>) {
        let Some(media) = self.ssrc else { return };
        let mut numbers = [0; MAX_NACKS];
        let (count, hope) = self.missing.poll(now, &mut numbers);
        if hope == Hope::Lost && self.spec.kind == Kind::Video {
            self.keyframes.want(now);
        }
        if count > 0 {
            let _ = writer.nack(sender, media, &numbers[..count]);
        }
        if self.spec.kind != Kind::Video || !self.keyframes.poll(now) {
            return;
        }
        if self.spec.pli {
            let _ = writer.picture_loss(sender, media);
        } else {
            let _ = writer.full_intra(sender, media, *full_intra);
            *full_intra = full_intra.wrapping_add(1);
        }
    }
}
