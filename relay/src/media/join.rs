//! Where in the past a player's video may start: at the last keyframe, while it is young and kept with all behind it.
//!
//! A player's transport often comes up just behind the keyframe that was asked for on its account. Another one would cost a
//! round trip, and the publisher's encoder refuses it for 300 ms ([`super::pli::INTERVAL`]).

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::history::{PacketRef, Store};
use crate::plane::Kind;

/// An older keyframe is no start: a player takes a burst for a part of its delay and keeps that for seconds. A request is
/// served well within this time.
pub const MAX_AGE: Duration = Duration::from_millis(500);

/// Most packets that a player gets at once: no more than some keyframes have.
pub const MAX_PACKETS: u64 = 256;

#[derive(Clone, Copy, Debug)]
struct Point {
    /// The keyframe's first packet.
    keyframe: u64,
    /// When that came.
    at: Instant,
    /// First number behind the highest that was stored.
    next: u64,
}

/// The last keyframe of a stream, and how far the stream is.
#[derive(Clone, Copy, Debug, Default)]
pub struct JoinPoint(Option<Point>);

impl JoinPoint {
    /// A packet was stored.
    pub fn stored(&mut self, now: Instant, id: PacketRef, keyframe: bool) {
        match id.kind {
            Kind::Audio => return,
            Kind::Video => {}
        }
        let next = id.sequence + 1;
        match &mut self.0 {
            Some(point) if keyframe && id.sequence > point.keyframe => {
                *point = Point { keyframe: id.sequence, at: now, next: point.next.max(next) };
            }
            Some(point) => point.next = point.next.max(next),
            None if keyframe => self.0 = Some(Point { keyframe: id.sequence, at: now, next }),
            None => {}
        }
    }

    /// Nobody starts in the past any more: what feeds the stream changed, or the worker stood still.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// The numbers of the video packets with which a player may start at `now`.
    #[must_use]
    pub fn packets(&self, now: Instant, store: &Store) -> Option<Range<u64>> {
        let Point { keyframe, at, next } = self.0?;
        let is_young = now.saturating_duration_since(at) <= MAX_AGE;
        if !is_young || next - keyframe > MAX_PACKETS {
            return None;
        }
        let is_kept = |sequence| store.get(PacketRef { kind: Kind::Video, sequence }).is_some();
        (keyframe..next).all(is_kept).then_some(keyframe..next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        media::history::{Packet, PacketMeta},
        plane::Codec,
    };

    struct Stream {
        store: Store,
        join: JoinPoint,
        start: Instant,
    }

    impl Stream {
        fn new() -> Self {
            Self { store: Store::default(), join: JoinPoint::default(), start: Instant::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn take(&mut self, ms: u64, sequence: u64, keyframe: bool) {
            let id = PacketRef { kind: Kind::Video, sequence };
            let meta = PacketMeta { id, timestamp: 0, codec: Codec::Vp8, marker: false, keyframe };
            self.store.insert(&Packet { meta, extensions: &[], payload: &[1; 1000] }).unwrap();
            self.join.stored(self.at(ms), id, keyframe);
        }

        fn packets(&self, ms: u64) -> Option<Range<u64>> {
            self.join.packets(self.at(ms), &self.store)
        }
    }

    #[test]
    fn a_player_starts_at_the_last_keyframe_while_it_is_young() {
        let mut stream = Stream::new();
        stream.take(0, 10, false);
        assert_eq!(stream.packets(0), None, "no keyframe yet");
        stream.take(10, 11, true);
        stream.take(20, 12, false);
        assert_eq!(stream.packets(510), Some(11..13));
        assert_eq!(stream.packets(511), None);
        stream.take(400, 13, true);
        assert_eq!(stream.packets(900), Some(13..14));
        stream.join.forget();
        assert_eq!(stream.packets(400), None);
    }

    #[test]
    fn packets_in_another_order_are_none_left_out() {
        let mut stream = Stream::new();
        stream.take(0, 5, true);
        stream.take(1, 9, false);
        assert_eq!(stream.packets(1), None, "6 to 8 are missing");
        stream.take(2, 8, true);
        assert_eq!(stream.packets(2), Some(8..10), "a keyframe whose second packet came first");
        stream.take(3, 7, true);
        assert_eq!(stream.packets(3), Some(8..10), "an older keyframe that came late");
    }

    #[test]
    fn too_many_packets_are_no_start() {
        let mut stream = Stream::new();
        for sequence in 0..MAX_PACKETS {
            stream.take(0, sequence, sequence == 0);
        }
        assert_eq!(stream.packets(1), Some(0..MAX_PACKETS));
        stream.take(1, MAX_PACKETS, false);
        assert_eq!(stream.packets(1), None);
    }

    #[test]
    fn audio_neither_makes_nor_moves_the_point() {
        let mut stream = Stream::new();
        stream.take(0, 5, true);
        let now = stream.at(1);
        stream.join.stored(now, PacketRef { kind: Kind::Audio, sequence: 900 }, false);
        assert_eq!(stream.packets(1), Some(5..6));
    }
}
