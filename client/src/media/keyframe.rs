//! Whether decoding can start at an RTP packet or at a frame: after a gap a publisher resumes there (PUB-6).
//!
//! RFC 7741 §4.3, RFC 9628 §4.2, RFC 6184 §5, AV1's RTP payload format 1.0 §4.4. Total: unclear bytes are no keyframe.

use super::{
    Codec, VideoCodec,
    assemble::{Vp9Descriptor, vp8_descriptor_bytes},
};

/// IDR slice and sequence parameter set (ITU-T H.264 table 7-1).
const IDR: u8 = 5;
const SPS: u8 = 7;

/// Whether the payload is the first of a keyframe. Always true for audio.
#[must_use]
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => true,
        Codec::Video(VideoCodec::Vp8) => vp8(payload),
        Codec::Video(VideoCodec::Vp9) => Vp9Descriptor::parse(payload)
            .is_ok_and(|vp9| vp9.begins && !vp9.predicted && vp9.spatial.is_none_or(|layer| layer == 0)),
        Codec::Video(VideoCodec::H264) => h264(payload),
        // The N bit: a new coded video sequence.
        Codec::Video(VideoCodec::Av1) => payload.first().is_some_and(|header| header & 0x88 == 0x08),
    }
}

/// Whether a frame, as the app hands it in, is a keyframe. Always true for audio.
#[must_use]
pub(super) fn is_keyframe(codec: Codec, frame: &[u8]) -> bool {
    match codec {
        Codec::Opus => true,
        // RFC 6386 §9.1: bit 0 of the frame tag is 0 for a keyframe.
        Codec::Video(VideoCodec::Vp8) => frame.first().is_some_and(|tag| tag & 1 == 0),
        Codec::Video(VideoCodec::Vp9) => vp9_frame(frame),
        Codec::Video(VideoCodec::H264) => annex_b_types(frame).any(|nal_type| nal_type == IDR),
        Codec::Video(VideoCodec::Av1) => av1_has_sequence_header(frame),
    }
}

fn vp8(payload: &[u8]) -> bool {
    let Ok(at) = vp8_descriptor_bytes(payload) else { return false };
    let first_of_frame = payload[0] & 0x17 == 0x10;
    first_of_frame && payload[at] & 1 == 0
}

fn h264(payload: &[u8]) -> bool {
    let wanted = |nal_type: u8| matches!(nal_type, IDR | SPS);
    match payload {
        [indicator, fu, ..] if indicator & 0x1f == 28 => fu & 0x80 != 0 && wanted(fu & 0x1f),
        [indicator, units @ ..] if indicator & 0x1f == 24 => {
            let mut rest = units;
            while let [high, low, unit @ ..] = rest {
                if unit.first().is_some_and(|nal| wanted(nal & 0x1f)) {
                    return true;
                }
                rest = unit.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
            }
            false
        }
        [indicator, ..] => wanted(indicator & 0x1f),
        [] => false,
    }
}

/// VP9's uncompressed header (bitstream specification §6.2): marker, profile, show_existing_frame, frame_type.
fn vp9_frame(frame: &[u8]) -> bool {
    let Some(&first) = frame.first() else { return false };
    let profile_3 = first & 0x30 == 0x30;
    let (existing, inter) =
        if profile_3 { (first & 0x04, first & 0x02) } else { (first & 0x08, first & 0x04) };
    first & 0xc0 == 0x80 && existing == 0 && inter == 0
}

/// Types of the NAL units in an Annex B byte stream.
fn annex_b_types(frame: &[u8]) -> impl Iterator<Item = u8> {
    frame.windows(4).filter(|four| four[..3] == [0, 0, 1]).map(|four| four[3] & 0x1f)
}

/// A temporal unit with a sequence header (OBU type 1) is taken for one that begins a sequence.
fn av1_has_sequence_header(unit: &[u8]) -> bool {
    obus(unit).any(|obu| obu == Some(1))
}

/// Whether a temporal unit is a row of whole OBUs, each with its size except perhaps the last (AV1 §5.2, §5.3).
pub(super) fn av1_is_whole(unit: &[u8]) -> bool {
    !unit.is_empty() && obus(unit).all(|obu| obu.is_some())
}

/// The types of a temporal unit's OBUs; `None`, once and at the end, for one that is cut short.
fn obus(mut rest: &[u8]) -> impl Iterator<Item = Option<u8>> {
    std::iter::from_fn(move || {
        let &header = rest.first()?;
        let next = obu_end(rest).and_then(|end| rest.get(end..));
        rest = next.unwrap_or_default();
        Some(next.map(|_| header >> 3 & 0x0f))
    })
}

fn obu_end(obu: &[u8]) -> Option<usize> {
    let header = obu.first()?;
    let mut at = if header & 0x04 != 0 { 2 } else { 1 };
    if header & 0x02 == 0 {
        return Some(obu.len().max(at));
    }
    let mut size = 0;
    // LEB128; a size of more than four bytes is beyond any sample.
    for part in 0..4 {
        let byte = obu.get(at)?;
        size |= usize::from(byte & 0x7f) << (7 * part);
        at += 1;
        if byte & 0x80 == 0 {
            return Some(at + size);
        }
    }
    None
}
