//! Header extensions: which id means what on each side (RFC 8285), and the ones that pass through.
//!
//! A stored packet keeps its extensions as a list of (kind, length, value), free of anybody's ids, so that a player's
//! ids are looked up in an array. Invariant: what is not negotiated by both sides is not sent.

use super::rtp::{FIXED_HEADER_BYTES, Header, ONE_BYTE_PROFILE, TWO_BYTE_PROFILE};
use crate::plane::{Extension, ExtensionKind};

/// Length of the backlog extension.
pub const BACKLOG_BYTES: usize = 6;

/// Most bytes of extensions that are stored with a packet.
pub const MAX_STORED_BYTES: usize = 320;

const KINDS: usize = 11;

fn index(kind: ExtensionKind) -> usize {
    match kind {
        ExtensionKind::Mid => 0,
        ExtensionKind::Rid => 1,
        ExtensionKind::RepairedRid => 2,
        ExtensionKind::TransportCc => 3,
        ExtensionKind::AbsSendTime => 4,
        ExtensionKind::AbsCaptureTime => 5,
        ExtensionKind::AudioLevel => 6,
        ExtensionKind::VideoOrientation => 7,
        ExtensionKind::DependencyDescriptor => 8,
        ExtensionKind::PlayoutDelay => 9,
        ExtensionKind::Backlog => 10,
    }
}

/// What is the publisher's own word and the player's too; the others belong to one transport.
const PASSING: [ExtensionKind; 6] = [
    ExtensionKind::AbsCaptureTime,
    ExtensionKind::AudioLevel,
    ExtensionKind::VideoOrientation,
    ExtensionKind::DependencyDescriptor,
    ExtensionKind::PlayoutDelay,
    ExtensionKind::Backlog,
];

/// The ids of one track's negotiated extensions.
#[derive(Clone, Copy, Debug)]
pub struct ExtensionIds {
    /// By kind; 0 is "not negotiated" (RFC 8285: ids start at 1).
    ids: [u8; KINDS],
}

impl ExtensionIds {
    /// The ids that were negotiated.
    #[must_use]
    pub fn new(negotiated: &[Extension]) -> Self {
        let mut ids = [0; KINDS];
        for extension in negotiated {
            ids[index(extension.kind)] = extension.id;
        }
        Self { ids }
    }

    /// The id of a kind.
    #[must_use]
    pub fn id(&self, kind: ExtensionKind) -> Option<u8> {
        Some(self.ids[index(kind)]).filter(|&id| id != 0)
    }

    /// The value of one extension of a packet.
    #[must_use]
    pub fn find<'a>(&self, kind: ExtensionKind, header: &Header, packet: &'a [u8]) -> Option<&'a [u8]> {
        let wanted = self.id(kind)?;
        header.extensions(packet).find_map(|(id, value)| (id == wanted).then_some(value))
    }

    /// Appends what passes through to `stored`, as (kind, length, value), and answers how many bytes it took. Values
    /// that do not fit are left out.
    pub fn store(&self, header: &Header, packet: &[u8], stored: &mut [u8]) -> usize {
        let mut at = 0;
        for (id, value) in header.extensions(packet) {
            let Some(kind) = PASSING.into_iter().find(|&kind| self.id(kind) == Some(id)) else {
                continue;
            };
            let Some(room) = stored.get_mut(at..at + 2 + value.len()) else { continue };
            room[0] = index(kind) as u8;
            room[1] = value.len() as u8;
            room[2..].copy_from_slice(value);
            at += room.len();
        }
        at
    }

    /// Stored values under their ids here.
    fn passing<'a>(&self, own: &Own<'_>, stored: &'a [u8]) -> impl Iterator<Item = (u8, &'a [u8])> {
        let replaced = own.backlog.is_some().then_some(index(ExtensionKind::Backlog) as u8);
        stored_values(stored)
            .filter(move |&(kind, _)| replaced != Some(kind))
            .filter_map(|(kind, value)| Some((self.of_index(kind)?, value)))
    }

    fn of_index(&self, index: u8) -> Option<u8> {
        self.ids.get(usize::from(index)).copied().filter(|&id| id != 0)
    }
}

/// Iterates over stored extensions: index of the kind and value.
fn stored_values(mut stored: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = stored.split_at_checked(2)?;
        let (value, rest) = rest.split_at_checked(usize::from(head[1]))?;
        stored = rest;
        Some((head[0], value))
    })
}

/// The stored value of a kind.
#[must_use]
pub fn stored(stored: &[u8], kind: ExtensionKind) -> Option<&[u8]> {
    let wanted = index(kind) as u8;
    stored_values(stored).find_map(|(found, value)| (found == wanted).then_some(value))
}

/// The stored value of a kind, to be changed in place.
pub fn stored_mut(stored: &mut [u8], kind: ExtensionKind) -> Option<&mut [u8]> {
    let mut at = 0;
    while let Some(&[found, length]) = stored.get(at..at + 2) {
        let value = at + 2..at + 2 + usize::from(length);
        if usize::from(found) == index(kind) {
            return stored.get_mut(value);
        }
        at = value.end;
    }
    None
}

/// What the sender itself adds to a packet.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Value of the mid extension; empty for none.
    pub mid: &'a [u8],
    /// Transport-wide sequence number.
    pub transport_sequence: u16,
    /// abs-send-time.
    pub send_time: [u8; 3],
    /// How far behind the live edge the packet is; it takes the place of what is stored.
    pub backlog: Option<[u8; BACKLOG_BYTES]>,
}

impl ExtensionIds {
    fn own<'a>(&self, own: &'a Own<'a>, sequence: &'a [u8; 2]) -> impl Iterator<Item = (u8, &'a [u8])> {
        [
            (ExtensionKind::Mid, own.mid),
            (ExtensionKind::TransportCc, &sequence[..]),
            (ExtensionKind::AbsSendTime, &own.send_time[..]),
            (ExtensionKind::Backlog, own.backlog.as_ref().map_or(&[][..], |backlog| &backlog[..])),
        ]
        .map(|(kind, value)| (self.ids[index(kind)], value))
        .into_iter()
        .filter(|(id, value)| *id != 0 && !value.is_empty())
    }

    /// Bytes of the extension block that [`Self::write`] makes.
    #[must_use]
    pub fn measure(&self, own: &Own<'_>, stored: &[u8]) -> usize {
        self.shape(own, stored).1
    }

    /// Whether the two-byte form is needed (an id over 14, or a value of 0 or over 16 bytes), and the whole length.
    fn shape(&self, own: &Own<'_>, stored: &[u8]) -> (bool, usize) {
        let (mut two_byte, mut count, mut bytes) = (false, 0, 0);
        let mut add = |id: u8, length: usize| {
            two_byte |= id > 14 || length == 0 || length > 16;
            count += 1;
            bytes += length;
        };
        for (id, value) in self.own(own, &[0; 2]) {
            add(id, value.len());
        }
        for (id, value) in self.passing(own, stored) {
            add(id, value.len());
        }
        match count {
            0 => (false, 0),
            _ => (two_byte, 4 + (bytes + count * if two_byte { 2 } else { 1 }).next_multiple_of(4)),
        }
    }

    /// Writes the extension block behind the fixed header of `out`, sets the X bit, and answers the header's length.
    /// `None` if `out` is too short.
    pub fn write(&self, own: &Own<'_>, stored: &[u8], out: &mut [u8]) -> Option<usize> {
        let (two_byte, length) = self.shape(own, stored);
        let block = out.get_mut(FIXED_HEADER_BYTES..FIXED_HEADER_BYTES + length)?;
        if length == 0 {
            return Some(FIXED_HEADER_BYTES);
        }
        let profile = if two_byte { TWO_BYTE_PROFILE } else { ONE_BYTE_PROFILE };
        block[..2].copy_from_slice(&profile.to_be_bytes());
        block[2..4].copy_from_slice(&((length / 4 - 1) as u16).to_be_bytes());
        let mut at = 4;
        let mut put = |id: u8, value: &[u8]| {
            if two_byte {
                block[at..at + 2].copy_from_slice(&[id, value.len() as u8]);
                at += 2;
            } else {
                block[at] = id << 4 | (value.len() - 1) as u8;
                at += 1;
            }
            block[at..at + value.len()].copy_from_slice(value);
            at += value.len();
        };
        for (id, value) in self.own(own, &own.transport_sequence.to_be_bytes()) {
            put(id, value);
        }
        for (id, value) in self.passing(own, stored) {
            put(id, value);
        }
        block[at..].fill(0);
        out[0] |= 0x10;
        Some(FIXED_HEADER_BYTES + length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(pairs: &[(u8, ExtensionKind)]) -> ExtensionIds {
        let list: Vec<_> = pairs.iter().map(|&(id, kind)| Extension { id, kind }).collect();
        ExtensionIds::new(&list)
    }

    proptest! {
        #[test]
        fn values_arrive_under_the_players_ids(
            level in prop::collection::vec(any::<u8>(), 1..3),
            descriptor in prop::collection::vec(any::<u8>(), 1..40),
            level_id in 1_u8..30, descriptor_id in 31_u8..60, twcc in 61_u8..80, small: bool, sequence: u16,
        ) {
            let shrink = |id: u8| if small { id / 6 + 1 } else { id };
            let publisher = ids(&[(1, ExtensionKind::AudioLevel), (2, ExtensionKind::DependencyDescriptor)]);
            let player = ids(&[
                (shrink(level_id), ExtensionKind::AudioLevel),
                (shrink(descriptor_id), ExtensionKind::DependencyDescriptor),
                (shrink(twcc), ExtensionKind::TransportCc),
            ]);
            // The publisher's packet, in the two-byte form.
            let mut packet = vec![0x90, 96, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1, 0x10, 0];
            let mut block = vec![1, level.len() as u8];
            block.extend(&level);
            block.extend([2, descriptor.len() as u8]);
            block.extend(&descriptor);
            block.resize(block.len().next_multiple_of(4), 0);
            packet.extend((block.len() as u16 / 4).to_be_bytes());
            packet.extend(block);
            let header = Header::parse(&packet).unwrap();
            let mut stored = [0; MAX_STORED_BYTES];
            let length = publisher.store(&header, &packet, &mut stored);
            let own = Own { mid: b"", transport_sequence: sequence, send_time: [0; 3], backlog: None };
            let mut out = vec![0; 200];
            out[0] = 0x80;
            let end = player.write(&own, &stored[..length], &mut out).unwrap();
            prop_assert_eq!(end, 12 + player.measure(&own, &stored[..length]));
            out.truncate(end);
            let sent = Header::parse(&out).unwrap();
            let find = |kind| player.find(kind, &sent, &out);
            prop_assert_eq!(find(ExtensionKind::AudioLevel), Some(&level[..]));
            prop_assert_eq!(find(ExtensionKind::DependencyDescriptor), Some(&descriptor[..]));
            prop_assert_eq!(find(ExtensionKind::TransportCc), Some(&sequence.to_be_bytes()[..]));
            prop_assert_eq!(out[12] == 0xBE, descriptor.len() <= 16 && small);
        }

        #[test]
        fn any_stored_bytes_are_walked_without_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = stored_mut(&mut bytes, ExtensionKind::DependencyDescriptor);
            let _ = stored_values(&bytes).count();
        }
    }
}
