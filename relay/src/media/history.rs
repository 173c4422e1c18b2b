//! The newest packets of a track: a fixed ring, plaintext, numbered on the stream's line.
//!
//! A batch names packets by [`PacketRef`]; fan-out copies out of here once per player, and so does an answer to a NACK.
//! Invariant: [`History::get`] gives the packet of exactly that number, whole, or nothing.

use super::extension::MAX_STORED_BYTES;
use crate::plane::{Codec, Kind};

/// Most bytes of one stored packet: payload of a full Ethernet frame and its extensions.
pub const MAX_PACKET_BYTES: usize = 1500 + MAX_STORED_BYTES;

/// Packets and bytes that a video track keeps: about two seconds at 4 Mbit/s.
pub const VIDEO_CAPACITY: Capacity = Capacity { packets: 1024, bytes: 1 << 20 };

/// Packets and bytes that an audio track keeps: over two seconds in 20 ms packets.
pub const AUDIO_CAPACITY: Capacity = Capacity { packets: 128, bytes: 32 << 10 };

/// How much a history holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Packets.
    pub packets: usize,
    /// Bytes of extensions and payload.
    pub bytes: usize,
}

/// Names a packet of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketRef {
    /// Its track.
    pub kind: Kind,
    /// Its number on the stream's line.
    pub sequence: u64,
}

/// What is known of a stored packet apart from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketMeta {
    /// Its name.
    pub id: PacketRef,
    /// Timestamp on the stream's line.
    pub timestamp: u32,
    /// Its codec.
    pub codec: Codec,
    /// Marker bit: the last packet of a video frame.
    pub marker: bool,
    /// A keyframe starts with it.
    pub keyframe: bool,
}

/// A stored packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What is known of it.
    pub meta: PacketMeta,
    /// Its extensions, as (kind, length, value).
    pub extensions: &'a [u8],
    /// Its payload.
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    meta: PacketMeta,
    /// Where its bytes were written, counted over all laps.
    position: u64,
    extension_bytes: u16,
    payload_bytes: u16,
}

/// The ring of one track.
#[derive(Debug)]
pub struct History {
    slots: Box<[Option<Slot>]>,
    data: Box<[u8]>,
    /// Bytes written so far, over all laps, with those skipped at the end of a lap.
    written: u64,
}

impl History {
    /// An empty ring, with all its memory.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        let bytes = capacity.bytes.max(MAX_PACKET_BYTES);
        Self {
            slots: vec![None; capacity.packets.max(1)].into_boxed_slice(),
            data: vec![0; bytes].into_boxed_slice(),
            written: 0,
        }
    }

    /// Stores a packet and gives its bytes (extensions, payload) to be finished in place. `None`, and nothing stored,
    /// if it is longer than [`MAX_PACKET_BYTES`].
    pub fn insert(&mut self, packet: &Packet<'_>) -> Option<(&mut [u8], &mut [u8])> {
        let length = packet.extensions.len() + packet.payload.len();
        if length > MAX_PACKET_BYTES {
            return None;
        }
        let lap = self.data.len() as u64;
        if self.written % lap + length as u64 > lap {
            self.written = self.written.next_multiple_of(lap);
        }
        let position = self.written;
        self.written += length as u64;
        let at = self.slot(packet.meta.id.sequence);
        self.slots[at] = Some(Slot {
            meta: packet.meta,
            position,
            extension_bytes: packet.extensions.len() as u16,
            payload_bytes: packet.payload.len() as u16,
        });
        let start = (position % lap) as usize;
        let (extensions, payload) = self.data[start..start + length].split_at_mut(packet.extensions.len());
        extensions.copy_from_slice(packet.extensions);
        payload.copy_from_slice(packet.payload);
        Some((extensions, payload))
    }

    /// The packet with this number, if it is still there.
    #[must_use]
    pub fn get(&self, sequence: u64) -> Option<Packet<'_>> {
        let slot = self.slots[self.slot(sequence)].as_ref()?;
        let lap = self.data.len() as u64;
        if slot.meta.id.sequence != sequence || self.written - slot.position > lap {
            return None;
        }
        let start = (slot.position % lap) as usize;
        let payload = start + usize::from(slot.extension_bytes);
        Some(Packet {
            meta: slot.meta,
            extensions: &self.data[start..payload],
            payload: &self.data[payload..payload + usize::from(slot.payload_bytes)],
        })
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.fill(None);
    }

    fn slot(&self, sequence: u64) -> usize {
        (sequence % self.slots.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(sequence: u64, payload: &[u8]) -> Packet<'_> {
        let id = PacketRef { kind: Kind::Video, sequence };
        let meta = PacketMeta { id, timestamp: 0, codec: Codec::Vp8, marker: false, keyframe: false };
        Packet { meta, extensions: &payload[..payload.len().min(3)], payload }
    }

    /// Bytes that only belong to this number.
    fn bytes(sequence: u64, length: usize) -> Vec<u8> {
        (0..length).map(|at| (sequence.wrapping_mul(31) + at as u64) as u8).collect()
    }

    proptest! {
        #[test]
        fn a_packet_comes_back_whole_or_not_at_all(
            steps in prop::collection::vec((-40_i64..60, 0_usize..1500), 1..200), asked in prop::collection::vec(0_u64..9000, 50),
        ) {
            let mut history = History::new(Capacity { packets: 32, bytes: 8000 });
            let mut at = 4000_u64;
            let mut lengths = std::collections::BTreeMap::new();
            for (step, length) in steps {
                at = at.saturating_add_signed(step);
                prop_assert!(history.insert(&packet(at, &bytes(at, length))).is_some());
                lengths.insert(at, length);
                prop_assert!(history.get(at).is_some(), "the last one is there");
                for sequence in asked.iter().chain(lengths.keys()) {
                    if let Some(found) = history.get(*sequence) {
                        let whole = bytes(*sequence, lengths[sequence]);
                        prop_assert_eq!(found, packet(*sequence, &whole));
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_second_of_usual_video_is_kept() {
        let mut history = History::new(VIDEO_CAPACITY);
        for sequence in 0..2000 {
            history.insert(&packet(sequence, &bytes(sequence, 1000))).unwrap();
        }
        assert!((2000 - 1024..2000).all(|sequence| history.get(sequence).is_some()));
        history.clear();
        assert!(history.get(1999).is_none());
    }

    #[test]
    fn a_packet_that_is_too_long_is_refused() {
        let mut history = History::new(AUDIO_CAPACITY);
        assert!(history.insert(&packet(1, &[0; MAX_PACKET_BYTES + 1])).is_none());
        assert!(history.get(1).is_none());
    }
}
