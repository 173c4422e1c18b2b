//! How old frames are made to show at once: their place in time is pressed together in front of the live edge.
//!
//! A receiver shows a frame when its timestamp says. A burst of ten seconds of old frames under their own timestamps
//! would show for ten seconds, or become ten seconds of delay; under timestamps that are a few ticks apart, the last just
//! before the first live frame's, each is shown as soon as it is decoded, and what follows is on time.
//!
//! Between relays frames keep their timestamps (pressed twice they would fall together); instead each old packet says in
//! a header extension, [`crate::plane::ExtensionKind::Backlog`], how far behind the live edge it was when it left.
//! Distances, not positions: they stay true when numbers and timestamps are mapped at the other end.

use crate::{
    media::{
        extension::{BACKLOG_BYTES, stored},
        history::Packet,
    },
    plane::ExtensionKind,
};

/// Old time is this much shorter for players: ten seconds become 20 ms, and frames up to 170 a second stay apart.
const PRESS: u32 = 512;

/// Where the live edge is, as seen by a play that starts behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveEdge {
    /// First number that is live.
    pub number: u64,
    /// The newest timestamp before it.
    pub timestamp: u32,
}

impl LiveEdge {
    /// What an old packet that came over a link says of it.
    #[must_use]
    pub fn told(packet: &Packet<'_>) -> Option<Self> {
        let backlog = Backlog::of(stored(packet.extensions, ExtensionKind::Backlog)?)?;
        Some(Self {
            number: packet.meta.id.sequence + u64::from(backlog.packets),
            timestamp: packet.meta.timestamp.wrapping_add(backlog.ticks),
        })
    }

    /// The timestamp of an old packet for a player; a live one keeps its own.
    #[must_use]
    pub fn press(&self, packet: &Packet<'_>) -> u32 {
        let ticks = self.ticks_behind(packet).unwrap_or_default();
        packet.meta.timestamp.wrapping_add(ticks - ticks / PRESS)
    }

    /// What an old packet says on a link.
    #[must_use]
    pub fn backlog(&self, packet: &Packet<'_>) -> Option<[u8; BACKLOG_BYTES]> {
        let ticks = self.ticks_behind(packet)?;
        let packets = u16::try_from(self.number - packet.meta.id.sequence).ok()?;
        Some(Backlog { packets, ticks }.bytes())
    }

    fn ticks_behind(&self, packet: &Packet<'_>) -> Option<u32> {
        let ticks = self.timestamp.wrapping_sub(packet.meta.timestamp);
        (packet.meta.id.sequence < self.number && ticks <= i32::MAX as u32).then_some(ticks)
    }
}

/// How far behind the live edge a packet was when it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// In packets.
    pub packets: u16,
    /// In ticks of its clock.
    pub ticks: u32,
}

impl Backlog {
    /// Reads the extension.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, d, e, f] = bytes else { return None };
        Some(Self { packets: u16::from_be_bytes([a, b]), ticks: u32::from_be_bytes([c, d, e, f]) })
    }

    fn bytes(self) -> [u8; BACKLOG_BYTES] {
        let ([a, b], [c, d, e, f]) = (self.packets.to_be_bytes(), self.ticks.to_be_bytes());
        [a, b, c, d, e, f]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        media::history::{PacketMeta, PacketRef},
        plane::{Codec, Kind},
    };

    fn packet(sequence: u64, timestamp: u32, extensions: &[u8]) -> Packet<'_> {
        let id = PacketRef { kind: Kind::Video, sequence };
        let meta = PacketMeta { id, timestamp, codec: Codec::Vp8, marker: false, keyframe: false };
        Packet { meta, extensions, payload: &[] }
    }

    #[test]
    fn ten_seconds_become_twenty_milliseconds_and_the_live_edge_stays_where_it_is() {
        let edge = LiveEdge { number: 1000, timestamp: 5_000 };
        assert_eq!(edge.press(&packet(0, 5_000_u32.wrapping_sub(900_000), &[])), 5_000 - 900_000 / 512);
        assert_eq!(edge.press(&packet(999, 5_000, &[])), 5_000);
        assert_eq!(edge.press(&packet(1000, 8_000, &[])), 8_000);
    }

    proptest! {
        #[test]
        fn frames_stay_apart_and_in_order(start: u32, steps in prop::collection::vec(700_u32..9_000, 1..400)) {
            let mut frames = vec![start];
            for step in steps {
                frames.push(frames[frames.len() - 1].wrapping_add(step));
            }
            let edge = LiveEdge { number: frames.len() as u64, timestamp: *frames.last().unwrap() };
            let pressed: Vec<u32> =
                frames.iter().enumerate().map(|(at, &t)| edge.press(&packet(at as u64, t, &[]))).collect();
            for pair in pressed.windows(2) {
                prop_assert!((pair[1].wrapping_sub(pair[0]) as i32) > 0);
            }
        }

        #[test]
        fn what_a_link_says_leads_to_the_same_edge(number in 1_u64..9_000, ahead in 1_u16..9_000, ticks in 0_u32..2_000_000) {
            let sent = packet(number, 77, &[]);
            let edge = LiveEdge { number: number + u64::from(ahead), timestamp: 77 + ticks };
            let mut extensions = vec![10, 6];
            extensions.extend(edge.backlog(&sent).unwrap());
            // Numbered anew, and moved in time.
            let there = packet(number + 100, 77 + 5_000, &extensions);
            let told = LiveEdge::told(&there).unwrap();
            prop_assert_eq!(told, LiveEdge { number: edge.number + 100, timestamp: edge.timestamp + 5_000 });
        }
    }
}
