//! The jitter buffer of one received track: packets in any order in, whole frames in order out.
//!
//! It waits for a missing packet until the first packet behind the hole has waited for `patience`; then the frame
//! with the hole is given up and the next sample says so. Invariants: samples leave in the order of their sequence
//! numbers, each at most once, and only when all its packets came; at most [`MAX_HELD`] packets are held.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Codec, ReceivedSample, RtpPacket, VideoCodec, assemble, assemble::Vp9Descriptor, starts_keyframe,
};

/// Packets held at most: over a second of 15 Mbit/s.
pub const MAX_HELD: usize = 2048;

/// Packets in a row from far behind, after which the source is taken to have begun a new count.
const RESTART_AFTER: u32 = 64;

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitterStats {
    /// Packets that never came in time.
    pub lost: u64,
    /// Packets that came too late or twice.
    pub late: u64,
    /// Samples handed out.
    pub samples: u64,
    /// Frames whose packets all came and did not make a frame of their codec.
    pub broken: u64,
}

#[derive(Clone, Debug)]
struct Held {
    packet: RtpPacket,
    arrived: Instant,
}

/// One received track.
#[derive(Clone, Debug)]
pub struct JitterBuffer {
    patience: Duration,
    source: Option<Source>,
    /// Whether the next sample has something missing before it.
    hole: bool,
    stats: JitterStats,
}

/// What is known of the SSRC that is received now.
#[derive(Clone, Debug)]
struct Source {
    ssrc: u32,
    /// The next sequence number to be handed out, counted on past 2^16.
    next: u64,
    /// Whether `next` may lie in the middle of a frame whose first packets are gone.
    torn: bool,
    held: BTreeMap<u64, Held>,
    behind: u32,
}

/// A frame at the head of the buffer.
enum Head {
    /// All packets up to here, this one excluded, make a frame.
    Whole(u64),
    /// The packet with this number is missing and packets behind it are there, the first of them since then.
    Hole { missing: u64, since: Instant },
    /// Nothing is known to be missing; more has to come.
    Open,
}

impl JitterBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { patience, source: None, hole: false, stats: JitterStats::default() }
    }

    /// Takes a packet in.
    pub fn push(&mut self, packet: RtpPacket, now: Instant) {
        let source = match &mut self.source {
            Some(source) if source.ssrc == packet.ssrc => source,
            Some(_) | None => {
                self.hole = self.source.is_some();
                self.source.insert(Source::starting_at(&packet))
            }
        };
        let distance = i64::from(packet.sequence_number.wrapping_sub(source.next as u16) as i16);
        if distance.unsigned_abs() > MAX_HELD as u64 {
            source.behind += 1;
            if distance < 0 && source.behind < RESTART_AFTER {
                self.stats.late += 1;
                return;
            }
            self.hole = true;
            *source = Source::starting_at(&packet);
        }
        let distance = i64::from(packet.sequence_number.wrapping_sub(source.next as u16) as i16);
        match source.next.checked_add_signed(distance) {
            Some(number) if distance >= 0 && !source.held.contains_key(&number) => {
                source.behind = 0;
                source.held.insert(number, Held { packet, arrived: now });
            }
            Some(_) | None => self.stats.late += 1,
        }
    }

    /// Hands out the next sample, if it is whole.
    pub fn pop(&mut self, now: Instant) -> Option<ReceivedSample> {
        let source = self.source.as_mut()?;
        loop {
            match source.head() {
                Head::Whole(end) => {
                    let (codec, rtp_timestamp, payloads) = source.take_until(end)?;
                    if std::mem::take(&mut source.torn) && !begins_frame(codec, payloads.first()?) {
                        self.hole = true;
                        continue;
                    }
                    let Ok(data) = assemble(codec, &payloads) else {
                        self.stats.broken += 1;
                        self.hole = true;
                        continue;
                    };
                    self.stats.samples += 1;
                    let keyframe = starts_keyframe(codec, payloads.first()?);
                    let lost_before = std::mem::take(&mut self.hole);
                    return Some(ReceivedSample { codec, data, rtp_timestamp, keyframe, lost_before });
                }
                Head::Hole { missing, since } => {
                    if now.saturating_duration_since(since) < self.patience && source.held.len() < MAX_HELD {
                        return None;
                    }
                    self.stats.lost += source.give_up(missing);
                    self.hole = true;
                }
                Head::Open => return None,
            }
        }
    }

    /// When [`Self::pop`] may hand something out although nothing came.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.source.as_ref()?.head() {
            Head::Hole { since, .. } => Some(since + self.patience),
            Head::Whole(_) | Head::Open => None,
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> JitterStats {
        self.stats
    }
}

impl Source {
    fn starting_at(packet: &RtpPacket) -> Self {
        // One round ahead, so that the numbers before it exist.
        let next = (1 << 16) + u64::from(packet.sequence_number);
        Self { ssrc: packet.ssrc, next, torn: true, held: BTreeMap::new(), behind: 0 }
    }

    fn head(&self) -> Head {
        let hole = |missing| match self.held.range(missing..).next() {
            Some((_, held)) => Head::Hole { missing, since: held.arrived },
            None => Head::Open,
        };
        let Some(first) = self.held.get(&self.next) else { return hole(self.next) };
        for number in self.next.. {
            match self.held.get(&number) {
                Some(held) if held.packet.timestamp != first.packet.timestamp => return Head::Whole(number),
                Some(held) if held.packet.marker || held.packet.codec == Codec::Opus => {
                    return Head::Whole(number + 1);
                }
                Some(_) => {}
                None => return hole(number),
            }
        }
        Head::Open
    }

    fn take_until(&mut self, end: u64) -> Option<(Codec, u32, Vec<Bytes>)> {
        let rest = self.held.split_off(&end);
        let frame = std::mem::replace(&mut self.held, rest);
        self.next = end;
        let first = &frame.first_key_value()?.1.packet;
        let (codec, timestamp) = (first.codec, first.timestamp);
        Some((codec, timestamp, frame.into_values().map(|held| held.packet.payload).collect()))
    }

    /// Goes on behind the hole that begins at `missing`. Returns how many packets were missing.
    fn give_up(&mut self, missing: u64) -> u64 {
        self.held = self.held.split_off(&missing);
        self.next = self.held.first_key_value().map_or(missing, |(number, _)| *number);
        self.torn = true;
        self.next - missing
    }
}

/// Whether a payload is known to be the first of its frame. H.264 and AV1 mark it at keyframes only, so that after a
/// loss one frame more may be given up there.
fn begins_frame(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => true,
        Codec::Video(VideoCodec::Vp8) => payload.first().is_some_and(|first| first & 0x17 == 0x10),
        Codec::Video(VideoCodec::Vp9) => Vp9Descriptor::parse(payload)
            .is_ok_and(|vp9| vp9.begins && vp9.spatial.is_none_or(|layer| layer == 0)),
        Codec::Video(VideoCodec::H264 | VideoCodec::Av1) => starts_keyframe(codec, payload),
    }
}
