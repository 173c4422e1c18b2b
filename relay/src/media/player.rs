//! What a player is told and tells: sender reports on the output's line, and its reports, wishes and estimate.
//!
//! Invariant: nothing that a player says makes more than [`MAX_WISHES`] outcomes a message.

use std::time::{Duration, Instant};

use super::{
    egress::{Egress, Lane},
    rtcp::{Message, ReportBlock},
    rtcp_write::Writer,
    timeline::LinePoint,
};
use crate::plane::Kind;

/// Most packets that one NACK may ask for.
pub const MAX_WISHES: usize = 256;

/// Sender reports that are remembered to measure the round trip.
const REPORTS: usize = 4;

/// A longer round trip is not believed.
const MAX_RTT: Duration = Duration::from_secs(10);

/// What a player said of one of its tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It lacks a packet: see [`Egress::retransmit`].
    Resend {
        /// Of which track.
        kind: Kind,
        /// By its number as the player sees it.
        output: u16,
    },
    /// It needs a keyframe: tell the publish that feeds the stream.
    WantsKeyframe,
    /// How it receives.
    Reception(Quality),
    /// What it can take, by its own estimate; of all tracks.
    Estimate {
        /// The rate.
        bits_per_second: u64,
    },
}

/// How a track is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// Which track.
    pub kind: Kind,
    /// In 1/256, since the last report.
    pub fraction_lost: u8,
    /// Packets, since the beginning.
    pub lost: u32,
    /// In ticks.
    pub jitter: u32,
    /// Round trip, if the player saw a report of ours.
    pub rtt: Option<Duration>,
}

/// The last sender reports of a track.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SentReports {
    ring: [Option<(u32, Instant)>; REPORTS],
    made: usize,
}

impl SentReports {
    fn sent(&mut self, now: Instant, middle: u32) {
        self.ring[self.made % REPORTS] = Some((middle, now));
        self.made = self.made.wrapping_add(1);
    }

    /// RFC 3550 §6.4.1, against our own clock: NTP times of the line are the publisher's.
    fn rtt(&self, now: Instant, block: &ReportBlock) -> Option<Duration> {
        let (_, at) = self.ring.iter().flatten().find(|(middle, _)| *middle == block.last_report)?;
        let delay = Duration::from_nanos(u64::from(block.delay) * 1_000_000_000 / 65_536);
        now.saturating_duration_since(*at).checked_sub(delay).filter(|rtt| *rtt <= MAX_RTT)
    }
}

impl Egress {
    /// Whether an SSRC is one of the play's own.
    #[must_use]
    pub fn owns(&self, ssrc: u32) -> bool {
        self.lane(ssrc).is_some()
    }

    /// Writes a compound of sender reports and CNAME for the tracks that sent something. `point` is the stream's
    /// [`super::source::Source::line_point`]. `None` if there is nothing to report.
    pub fn sender_report(
        &mut self,
        now: Instant,
        cname: &str,
        point: impl Fn(Kind) -> Option<LinePoint>,
        out: &mut [u8],
    ) -> Option<usize> {
        let mut writer = Writer::new(out);
        let mut first = None;
        for lane in self.lanes.iter_mut().filter(|lane| lane.packets > 0) {
            let Some(LinePoint { ntp, rtp }) = point(lane.kind) else { continue };
            let rtp = rtp.wrapping_add(lane.timestamp_shift);
            writer.sender_report(lane.ssrc, ntp, rtp, lane.packets, lane.octets)?;
            lane.reports.sent(now, ntp.middle());
            first = first.or(Some(lane.ssrc));
        }
        writer.cname(first?, cname)?;
        Some(writer.written())
    }

    /// Takes a message of the player and says what it means for this play. Transport-wide feedback is the transport's:
    /// see [`super::departures::Departures::feedback`].
    pub fn handle(&mut self, now: Instant, message: &Message<'_>, mut each: impl FnMut(Outcome)) {
        match message {
            Message::ReceiverReport { blocks } | Message::SenderReport { blocks, .. } => {
                for block in blocks.clone() {
                    if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.ssrc == block.ssrc) {
                        each(Outcome::Reception(lane.reception(now, &block)));
                    }
                }
            }
            Message::Nack { media, numbers } => {
                if let Some(lane) = self.lane(*media).filter(|lane| lane.nack) {
                    let wishes = numbers.clone().take(MAX_WISHES);
                    wishes.for_each(|output| each(Outcome::Resend { kind: lane.kind, output }));
                }
            }
            Message::PictureLoss { media } if self.is_video(*media) => each(Outcome::WantsKeyframe),
            Message::FullIntra { entries } if entries.clone().any(|(ssrc, _)| self.is_video(ssrc)) => {
                each(Outcome::WantsKeyframe);
            }
            Message::Remb { bits_per_second } => {
                each(Outcome::Estimate { bits_per_second: *bits_per_second })
            }
            Message::PictureLoss { .. }
            | Message::FullIntra { .. }
            | Message::Bye { .. }
            | Message::TransportCc(_)
            | Message::Other(_) => {}
        }
    }

    fn lane(&self, ssrc: u32) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.ssrc == ssrc)
    }

    fn is_video(&self, ssrc: u32) -> bool {
        self.lane(ssrc).is_some_and(|lane| lane.kind == Kind::Video)
    }
}

impl Lane {
    fn reception(&mut self, now: Instant, block: &ReportBlock) -> Quality {
        let rtt = self.reports.rtt(now, block);
        self.rtt = rtt.or(self.rtt);
        Quality {
            kind: self.kind,
            fraction_lost: block.fraction_lost,
            lost: block.lost,
            jitter: block.jitter,
            rtt,
        }
    }
}
