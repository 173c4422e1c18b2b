//! What a payload says of its frame: whether a keyframe starts, and where its counters lie (VP8: RFC 7741, VP9: RFC
//! 9628, H.264: RFC 6184, AV1: AOM's payload format and its dependency descriptor).
//!
//! Invariant: counters are named by position and width, so that rewriting them never changes a length.

use crate::plane::Codec;

/// Width of a picture id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One byte, M bit clear.
    Seven,
    /// Two bytes, M bit set.
    Fifteen,
}

impl Width {
    /// The bits of the number itself.
    #[must_use]
    pub fn mask(self) -> u16 {
        match self {
            Self::Seven => 0x7f,
            Self::Fifteen => 0x7fff,
        }
    }
}

/// A picture id in a payload descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureId {
    /// Position in the payload.
    pub at: u8,
    /// Its width.
    pub width: Width,
    /// Its value.
    pub value: u16,
}

/// A TL0PICIDX in a payload descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseLayerIndex {
    /// Position in the payload.
    pub at: u8,
    /// Its value.
    pub value: u8,
}

/// What a payload says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// A frame that needs no earlier one starts here.
    pub keyframe: bool,
    /// The picture id, if there is one.
    pub picture: Option<PictureId>,
    /// The TL0PICIDX, if there is one.
    pub base_layer: Option<BaseLayerIndex>,
}

/// Reads a payload. What is cut short says nothing.
#[must_use]
pub fn inspect(codec: Codec, payload: &[u8]) -> Inspected {
    match codec {
        Codec::Opus => Some(Inspected::default()),
        Codec::Vp8 => vp8(payload),
        Codec::Vp9 => vp9(payload),
        Codec::H264 => Some(Inspected { keyframe: h264_keyframe(payload), ..Inspected::default() }),
        Codec::Av1 => Some(Inspected { keyframe: av1_keyframe(payload), ..Inspected::default() }),
    }
    .unwrap_or_default()
}

/// Whether a dependency descriptor carries a template structure: a keyframe starts with it.
#[must_use]
pub fn descriptor_starts_keyframe(descriptor: &[u8]) -> bool {
    descriptor.len() > 3 && descriptor[0] & 0x80 != 0 && descriptor[3] & 0x80 != 0
}

fn picture_id(payload: &[u8], at: usize) -> Option<PictureId> {
    let first = *payload.get(at)?;
    let at_byte = u8::try_from(at).ok()?;
    if first & 0x80 == 0 {
        return Some(PictureId { at: at_byte, width: Width::Seven, value: u16::from(first) });
    }
    let value = u16::from_be_bytes([first & 0x7f, *payload.get(at + 1)?]);
    Some(PictureId { at: at_byte, width: Width::Fifteen, value })
}

/// RFC 7741 §4.2 and §4.3.
fn vp8(payload: &[u8]) -> Option<Inspected> {
    const X: u8 = 0x80;
    const S: u8 = 0x10;
    const PARTITION: u8 = 0x07;
    let first = *payload.first()?;
    let (mut at, mut found) = (1, Inspected::default());
    if first & X != 0 {
        let flags = *payload.get(at)?;
        at += 1;
        if flags & 0x80 != 0 {
            let picture = picture_id(payload, at)?;
            at += if picture.width == Width::Fifteen { 2 } else { 1 };
            found.picture = Some(picture);
        }
        if flags & 0x40 != 0 {
            found.base_layer = Some(BaseLayerIndex { at: u8::try_from(at).ok()?, value: *payload.get(at)? });
            at += 1;
        }
        if flags & 0x30 != 0 {
            at += 1;
        }
    }
    let frame = *payload.get(at)?;
    found.keyframe = first & S != 0 && first & PARTITION == 0 && frame & 1 == 0;
    Some(found)
}

/// RFC 9628 §4.2.
fn vp9(payload: &[u8]) -> Option<Inspected> {
    const I: u8 = 0x80;
    const P: u8 = 0x40;
    const L: u8 = 0x20;
    const F: u8 = 0x10;
    const B: u8 = 0x08;
    let first = *payload.first()?;
    let (mut at, mut found, mut spatial) = (1, Inspected::default(), 0);
    if first & I != 0 {
        let picture = picture_id(payload, at)?;
        at += if picture.width == Width::Fifteen { 2 } else { 1 };
        found.picture = Some(picture);
    }
    if first & L != 0 {
        spatial = *payload.get(at)? >> 1 & 0x07;
        at += 1;
        if first & F == 0 {
            found.base_layer = Some(BaseLayerIndex { at: u8::try_from(at).ok()?, value: *payload.get(at)? });
        }
    }
    found.keyframe = first & B != 0 && first & P == 0 && spatial == 0;
    Some(found)
}

/// A parameter set or an instantaneous refresh starts here.
fn h264_keyframe(payload: &[u8]) -> bool {
    const IDR: u8 = 5;
    const SPS: u8 = 7;
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    const KIND: u8 = 0x1f;
    let starts = |kind: u8| kind & KIND == IDR || kind & KIND == SPS;
    let Some((&first, rest)) = payload.split_first() else { return false };
    match first & KIND {
        STAP_A => {
            let mut rest = rest;
            while let [high, low, after @ ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some((unit, next)) = after.split_at_checked(length) else { return false };
                if unit.first().is_some_and(|&kind| starts(kind)) {
                    return true;
                }
                rest = next;
            }
            false
        }
        FU_A => rest.first().is_some_and(|&fragment| fragment & 0x80 != 0 && starts(fragment)),
        kind => starts(kind),
    }
}

/// The N bit of the aggregation header, or a sequence header as first unit.
fn av1_keyframe(payload: &[u8]) -> bool {
    const CONTINUES: u8 = 0x80;
    const NEW_SEQUENCE: u8 = 0x08;
    const SEQUENCE_HEADER: u8 = 1;
    let Some((&aggregation, rest)) = payload.split_first() else { return false };
    if aggregation & NEW_SEQUENCE != 0 {
        return true;
    }
    if aggregation & CONTINUES != 0 {
        return false;
    }
    // With W = 1 the only unit has no length before it; otherwise a LEB128 length comes first.
    let unit = match aggregation >> 4 & 0x03 {
        1 => rest.first(),
        _ => rest.iter().position(|byte| byte & 0x80 == 0).and_then(|end| rest.get(end + 1)),
    };
    unit.is_some_and(|header| header >> 3 & 0x0f == SEQUENCE_HEADER)
}

/// Writes a picture id of its width at its place.
pub fn set_picture_id(payload: &mut [u8], picture: PictureId, value: u16) {
    let at = usize::from(picture.at);
    match picture.width {
        Width::Seven => {
            if let Some(byte) = payload.get_mut(at) {
                *byte = value as u8 & 0x7f;
            }
        }
        Width::Fifteen => {
            if let Some(bytes) = payload.get_mut(at..at + 2) {
                bytes.copy_from_slice(&(value | 0x8000).to_be_bytes());
            }
        }
    }
}

/// Writes a TL0PICIDX at its place.
pub fn set_base_layer(payload: &mut [u8], index: BaseLayerIndex, value: u8) {
    if let Some(byte) = payload.get_mut(usize::from(index.at)) {
        *byte = value;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODECS: [Codec; 5] = [Codec::Opus, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1];

    /// A VP8 payload with the named optional fields.
    fn vp8_payload(picture: Option<(Width, u16)>, tl0: Option<u8>, t: bool, k: bool, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x90, 0];
        if let Some((width, value)) = picture {
            bytes[1] |= 0x80;
            match width {
                Width::Seven => bytes.push(value as u8 & 0x7f),
                Width::Fifteen => bytes.extend((value | 0x8000).to_be_bytes()),
            }
        }
        if let Some(index) = tl0 {
            bytes[1] |= 0x40;
            bytes.push(index);
        }
        bytes[1] |= u8::from(t) << 5 | u8::from(k) << 4;
        if t || k {
            bytes.push(0x5a);
        }
        bytes.extend(body);
        bytes
    }

    proptest! {
        #[test]
        fn any_payload_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            for codec in CODECS {
                let found = inspect(codec, &bytes);
                let mut copy = bytes.clone();
                if let Some(picture) = found.picture {
                    set_picture_id(&mut copy, picture, picture.value);
                }
                if let Some(index) = found.base_layer {
                    set_base_layer(&mut copy, index, index.value);
                }
                prop_assert_eq!(&copy, &bytes, "writing back what was read changes nothing");
            }
            let _ = descriptor_starts_keyframe(&bytes);
        }

        #[test]
        fn vp8_counters_are_rewritten_and_nothing_else(
            wide: bool, i: bool, l: bool, t: bool, k: bool, id in 0_u16..0x8000, to in 0_u16..0x8000,
            tl0: u8, tl0_to: u8, body in prop::collection::vec(any::<u8>(), 1..40),
        ) {
            let width = if wide { Width::Fifteen } else { Width::Seven };
            let make = |id: u16, tl0: u8| vp8_payload(i.then_some((width, id)), l.then_some(tl0), t, k, &body);
            let mut payload = make(id, tl0);
            let found = inspect(Codec::Vp8, &payload);
            prop_assert_eq!(found.picture.map(|p| p.value), i.then_some(id & width.mask()));
            prop_assert_eq!(found.base_layer.map(|b| b.value), l.then_some(tl0));
            prop_assert_eq!(found.keyframe, body[0] & 1 == 0);
            if let Some(picture) = found.picture {
                set_picture_id(&mut payload, picture, to & width.mask());
            }
            if let Some(index) = found.base_layer {
                set_base_layer(&mut payload, index, tl0_to);
            }
            prop_assert_eq!(payload, make(to, tl0_to));
        }
    }

    #[test]
    fn vp8_without_extension_byte_has_no_counters() {
        let found = inspect(Codec::Vp8, &[0x10, 0x00, 1, 2]);
        assert_eq!(found, Inspected { keyframe: true, picture: None, base_layer: None });
        assert!(!inspect(Codec::Vp8, &[0x00, 0x00]).keyframe, "a continuation starts nothing");
        assert!(!inspect(Codec::Vp8, &[0x11, 0x00]).keyframe, "the second partition starts nothing");
    }

    #[test]
    fn vp9_counters_are_found_behind_either_width() {
        let found = inspect(Codec::Vp9, &[0xa8, 0x81, 0x02, 0x10, 77, 0]);
        let picture = PictureId { at: 1, width: Width::Fifteen, value: 0x102 };
        assert_eq!(
            found,
            Inspected {
                keyframe: true,
                picture: Some(picture),
                base_layer: Some(BaseLayerIndex { at: 4, value: 77 })
            }
        );
        assert!(!inspect(Codec::Vp9, &[0xe8, 5, 0, 1]).keyframe, "predicted");
        assert!(!inspect(Codec::Vp9, &[0xa8, 5, 0x02, 1]).keyframe, "an upper spatial layer");
    }

    #[test]
    fn h264_keyframes_are_seen_in_every_packetization() {
        let key = |payload: &[u8]| inspect(Codec::H264, payload).keyframe;
        assert!(key(&[0x67, 1]) && key(&[0x65, 1]), "single units");
        assert!(key(&[0x78, 0, 2, 0x06, 1, 0, 2, 0x67, 1]), "behind an SEI in a STAP-A");
        assert!(key(&[0x7c, 0x85, 1]) && !key(&[0x7c, 0x05, 1]), "only the first fragment");
        assert!(!key(&[0x61, 1]) && !key(&[0x68, 1]) && !key(&[0x78, 0, 9, 0x67]));
    }

    #[test]
    fn av1_keyframes_are_seen_by_n_bit_sequence_header_or_descriptor() {
        let key = |payload: &[u8]| inspect(Codec::Av1, payload).keyframe;
        assert!(key(&[0x18, 0x30]));
        assert!(key(&[0x10, 0x0a, 1]) && key(&[0x20, 2, 0x0a, 1, 0x32]));
        assert!(!key(&[0x10, 0x32]) && !key(&[0x90, 0x0a]));
        assert!(
            descriptor_starts_keyframe(&[0x80, 0, 1, 0x80, 0]) && !descriptor_starts_keyframe(&[0x80, 0, 1])
        );
    }
}
