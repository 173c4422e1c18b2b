//! What players see of a stream: one line of numbers, timestamps and counters over all the publishes that feed it.
//!
//! The line begins with the first publish's own numbers. After a switch each track goes on where it stopped: sequence
//! numbers close up, VP8 and VP9 picture ids, TL0PICIDX and frame numbers of dependency descriptors continue, and
//! video waits for a keyframe. Invariant: a number is given to one packet only, and numbers of a later publish are all
//! higher than those of an earlier one.

use std::time::Instant;

use thiserror::Error;

use super::{
    clock::WallClock,
    extension::{MAX_STORED_BYTES, stored_mut},
    history::{Packet, PacketMeta, PacketRef},
    ingress::{Arrival, SourceReport},
    payload::{set_base_layer, set_picture_id},
    store::Store,
    timeline::{LinePoint, Timeline},
};
use crate::plane::{ExtensionKind, Kind};

/// Why a packet of the publish that feeds a stream is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Held {
    /// Video goes on with a keyframe only.
    #[error("video waits for a keyframe after a switch")]
    AwaitsKeyframe,
    /// It is older than the first packet after the switch.
    #[error("packet is older than the switch to its publish")]
    BeforeSwitch,
    /// It does not fit into the history.
    #[error("packet of {0} bytes is too long to keep")]
    TooLong(usize),
}

#[derive(Clone, Copy, Debug, Default)]
enum Feed {
    /// Nothing came since the switch.
    #[default]
    Waiting,
    /// The publish's number `since` became `output`.
    Flowing { since: u64, output: u64 },
}

/// Counters inside of packets: the newest of the line, and what is added to those of the publish.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    newest: Option<u16>,
    add: u16,
}

impl Counter {
    /// Goes on behind the newest with a publish whose first value is `first`.
    fn go_on(&mut self, first: Option<u16>) {
        self.add = match (self.newest, first) {
            (Some(newest), Some(first)) => newest.wrapping_add(1).wrapping_sub(first),
            (_, None) | (None, Some(_)) => 0,
        };
    }

    /// The value on the line; `mask` has the counter's bits.
    fn output(&mut self, value: u16, mask: u16) -> u16 {
        let output = value.wrapping_add(self.add) & mask;
        let ahead = output.wrapping_sub(self.newest.unwrap_or(output)) & mask;
        if self.newest.is_none() || ahead <= mask / 2 {
            self.newest = Some(output);
        }
        output
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    feed: Feed,
    /// First number behind the highest that was given.
    next: Option<u64>,
    picture: Counter,
    base_layer: Counter,
    frame: Counter,
}

/// One stream's line.
#[derive(Clone, Debug)]
pub struct Source {
    audio: Line,
    video: Line,
    timeline: Timeline,
}

impl Source {
    /// A stream that nothing fed yet.
    #[must_use]
    pub fn new(clock: WallClock) -> Self {
        Self { audio: Line::default(), video: Line::default(), timeline: Timeline::new(clock) }
    }

    /// Another publish feeds the stream from now on, or the same one after a pause in which it was not forwarded. Ask it
    /// for a keyframe at once.
    pub fn switch(&mut self, now: Instant) {
        self.timeline.switch(now);
        self.audio.feed = Feed::Waiting;
        self.video.feed = Feed::Waiting;
    }

    /// Puts a packet of the publish that feeds the stream onto the line and keeps it in `store`.
    ///
    /// # Errors
    /// [`Held`] if it is not part of the stream.
    pub fn accept(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        packet: &[u8],
        store: &mut Store,
    ) -> Result<PacketRef, Held> {
        let mut extensions = [0; MAX_STORED_BYTES];
        let length = arrival.ids.store(&arrival.header, packet, &mut extensions);
        let extensions = &mut extensions[..length];
        let payload = packet.get(arrival.payload.clone()).unwrap_or_default();
        let line = match arrival.kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        };
        let sequence = line.number(arrival, extensions)?;
        if arrival.ticks_behind > 0 {
            self.timeline.begins_behind(arrival.kind, arrival.ticks_behind);
        }
        let timestamp =
            self.timeline.place(arrival.kind, now, arrival.timestamp, arrival.captured, arrival.clock_rate);
        let id = PacketRef { kind: arrival.kind, sequence };
        let (marker, keyframe) = (arrival.marker, arrival.keyframe);
        let meta = PacketMeta { id, timestamp, codec: arrival.codec, marker, keyframe };
        let kept = store.insert(&Packet { meta, extensions, payload });
        let (extensions, payload) = kept.ok_or(Held::TooLong(length + payload.len()))?;
        line.rewrite(arrival, extensions, payload);
        Ok(id)
    }

    /// A sender report of the publish that feeds the stream.
    pub fn sender_report(&mut self, now: Instant, report: SourceReport) {
        self.timeline.sender_report(now, report);
    }

    /// What a sender report of a track says at `now`, on the stream's line.
    #[must_use]
    pub fn line_point(&self, kind: Kind, now: Instant) -> Option<LinePoint> {
        self.timeline.point(kind, now)
    }
}

impl Line {
    fn number(&mut self, arrival: &Arrival, extensions: &mut [u8]) -> Result<u64, Held> {
        let (since, output) = match self.feed {
            Feed::Flowing { since, output } => (since, output),
            Feed::Waiting if arrival.kind == Kind::Video && !arrival.keyframe => {
                return Err(Held::AwaitsKeyframe);
            }
            Feed::Waiting => {
                let output = self.next.unwrap_or(arrival.sequence);
                self.picture.go_on(arrival.inspected.picture.map(|picture| picture.value));
                self.base_layer.go_on(arrival.inspected.base_layer.map(|index| u16::from(index.value)));
                self.frame.go_on(frame_number(extensions).map(|bytes| u16::from_be_bytes(*bytes)));
                self.feed = Feed::Flowing { since: arrival.sequence, output };
                (arrival.sequence, output)
            }
        };
        let ahead = arrival.sequence.checked_sub(since).ok_or(Held::BeforeSwitch)?;
        let sequence = output + ahead;
        self.next = self.next.max(Some(sequence + 1));
        Ok(sequence)
    }

    fn rewrite(&mut self, arrival: &Arrival, extensions: &mut [u8], payload: &mut [u8]) {
        if let Some(picture) = arrival.inspected.picture {
            set_picture_id(payload, picture, self.picture.output(picture.value, picture.width.mask()));
        }
        if let Some(index) = arrival.inspected.base_layer {
            set_base_layer(payload, index, self.base_layer.output(u16::from(index.value), 0xff) as u8);
        }
        if let Some(frame) = frame_number(extensions) {
            *frame = self.frame.output(u16::from_be_bytes(*frame), u16::MAX).to_be_bytes();
        }
    }
}

/// The frame number in a dependency descriptor: bytes 1 and 2.
fn frame_number(extensions: &mut [u8]) -> Option<&mut [u8; 2]> {
    let descriptor = stored_mut(extensions, ExtensionKind::DependencyDescriptor)?;
    descriptor.get_mut(1..)?.first_chunk_mut()
}
