//! From the payloads of one frame's packets to the frame, per codec.
//!
//! Total: any bytes give a frame or an error. (The depacketisers of `rtc-rtp` keep state from packet to packet, index
//! past the end of truncated aggregates, and take a VP8 fragment of two bytes for damage; a frame whose packets are
//! all there needs no state.) RFC 7741 §4.2, RFC 9628 §4.2, RFC 6184 §5, AV1's RTP payload format 1.0 §4.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::{Codec, VideoCodec};

/// Annex B start code.
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Payloads that are no frame of their codec.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AssembleError {
    /// A payload ends within its header or within a length that it names.
    #[error("a payload is shorter than its header says")]
    Short,
    /// A fragment with no beginning, or none with an end.
    #[error("a fragment lacks its beginning or its end")]
    Fragment,
    /// A packet type that this SDK does not negotiate.
    #[error("NAL unit type {0} is not used in packetization mode 1")]
    NalType(u8),
    /// Nothing is left after the headers.
    #[error("the frame is empty")]
    Empty,
}

/// The frame in these payloads: all packets of one timestamp, in order, none missing.
///
/// # Errors
/// [`AssembleError`] when they are no frame of this codec.
pub fn assemble(codec: Codec, payloads: &[Bytes]) -> Result<Bytes, AssembleError> {
    let frame = match codec {
        Codec::Opus => payloads.first().cloned().unwrap_or_default(),
        Codec::Video(VideoCodec::Vp8) => joined(payloads, vp8_descriptor_bytes)?,
        Codec::Video(VideoCodec::Vp9) => {
            joined(payloads, |payload| Ok(Vp9Descriptor::parse(payload)?.bytes))?
        }
        Codec::Video(VideoCodec::H264) => h264(payloads)?,
        Codec::Video(VideoCodec::Av1) => av1(payloads)?,
    };
    if frame.is_empty() { Err(AssembleError::Empty) } else { Ok(frame) }
}

fn joined(
    payloads: &[Bytes],
    header_bytes: impl Fn(&[u8]) -> Result<usize, AssembleError>,
) -> Result<Bytes, AssembleError> {
    let mut frame = BytesMut::with_capacity(payloads.iter().map(Bytes::len).sum());
    for payload in payloads {
        let header = header_bytes(payload)?;
        frame.put_slice(payload.get(header..).ok_or(AssembleError::Short)?);
    }
    Ok(frame.freeze())
}

fn byte(payload: &[u8], at: usize) -> Result<u8, AssembleError> {
    payload.get(at).copied().ok_or(AssembleError::Short)
}

/// Length of a VP8 payload descriptor (RFC 7741 §4.2).
pub(super) fn vp8_descriptor_bytes(payload: &[u8]) -> Result<usize, AssembleError> {
    let mut at = 1;
    if byte(payload, 0)? & 0x80 != 0 {
        let extension = byte(payload, at)?;
        at += 1;
        if extension & 0x80 != 0 {
            at += if byte(payload, at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extension & 0x40 != 0);
        at += usize::from(extension & 0x30 != 0);
    }
    if at < payload.len() { Ok(at) } else { Err(AssembleError::Short) }
}

/// What matters here of a VP9 payload descriptor (RFC 9628 §4.2).
pub(super) struct Vp9Descriptor {
    /// Its length.
    pub(super) bytes: usize,
    /// Predicted from other pictures.
    pub(super) predicted: bool,
    /// The first packet of a layer frame.
    pub(super) begins: bool,
    /// The spatial layer, where layers are marked.
    pub(super) spatial: Option<u8>,
}

impl Vp9Descriptor {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, AssembleError> {
        let flags = byte(payload, 0)?;
        let (predicted, flexible) = (flags & 0x40 != 0, flags & 0x10 != 0);
        let mut at = 1;
        if flags & 0x80 != 0 {
            at += if byte(payload, at)? & 0x80 != 0 { 2 } else { 1 };
        }
        let mut spatial = None;
        if flags & 0x20 != 0 {
            spatial = Some(byte(payload, at)? >> 1 & 0x07);
            at += if flexible { 1 } else { 2 };
        }
        if flexible && predicted {
            let mut references = 1;
            while byte(payload, at)? & 1 != 0 && references < 3 {
                at += 1;
                references += 1;
            }
            at += 1;
        }
        if flags & 0x02 != 0 {
            at = vp9_structure_end(payload, at)?;
        }
        if at < payload.len() {
            Ok(Self { bytes: at, predicted, begins: flags & 0x08 != 0, spatial })
        } else {
            Err(AssembleError::Short)
        }
    }
}

fn vp9_structure_end(payload: &[u8], mut at: usize) -> Result<usize, AssembleError> {
    let structure = byte(payload, at)?;
    at += 1;
    if structure & 0x10 != 0 {
        at += 4 * (usize::from(structure >> 5) + 1);
    }
    if structure & 0x08 != 0 {
        let pictures = byte(payload, at)?;
        at += 1;
        for _ in 0..pictures {
            at += 1 + usize::from(byte(payload, at)? >> 2 & 0x03);
        }
    }
    Ok(at)
}

fn h264(payloads: &[Bytes]) -> Result<Bytes, AssembleError> {
    let mut frame = BytesMut::with_capacity(payloads.iter().map(|p| p.len() + START_CODE.len()).sum());
    let mut open = false;
    for payload in payloads {
        let indicator = byte(payload, 0)?;
        let nal_type = indicator & 0x1f;
        if open && nal_type != 28 {
            return Err(AssembleError::Fragment);
        }
        match nal_type {
            1..=23 => {
                frame.put_slice(&START_CODE);
                frame.put_slice(payload);
            }
            24 => stap_a(&mut frame, &payload[1..])?,
            28 => {
                let fu = byte(payload, 1)?;
                if (fu & 0x80 != 0) == open {
                    return Err(AssembleError::Fragment);
                }
                if !open {
                    frame.put_slice(&START_CODE);
                    frame.put_u8(indicator & 0xe0 | fu & 0x1f);
                }
                frame.put_slice(&payload[2..]);
                open = fu & 0x40 == 0;
            }
            other => return Err(AssembleError::NalType(other)),
        }
    }
    if open { Err(AssembleError::Fragment) } else { Ok(frame.freeze()) }
}

fn stap_a(frame: &mut BytesMut, mut rest: &[u8]) -> Result<(), AssembleError> {
    while let [high, low, units @ ..] = rest {
        let (unit, after) = units
            .split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
            .ok_or(AssembleError::Short)?;
        frame.put_slice(&START_CODE);
        frame.put_slice(unit);
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(AssembleError::Short) }
}

fn av1(payloads: &[Bytes]) -> Result<Bytes, AssembleError> {
    let mut frame = BytesMut::with_capacity(payloads.iter().map(Bytes::len).sum());
    let mut fragment: Option<BytesMut> = None;
    for payload in payloads {
        let header = byte(payload, 0)?;
        let (continues, goes_on, elements) = (header & 0x80 != 0, header & 0x40 != 0, header >> 4 & 0x03);
        if continues != fragment.is_some() {
            return Err(AssembleError::Fragment);
        }
        let mut rest = &payload[1..];
        let mut element = 0;
        while !rest.is_empty() {
            element += 1;
            let sized = elements == 0 || element < elements;
            let bytes = if sized { leb128(&mut rest)? } else { rest.len() };
            let (obu, after) = rest.split_at_checked(bytes).ok_or(AssembleError::Short)?;
            rest = after;
            let mut whole = fragment.take().unwrap_or_default();
            whole.put_slice(obu);
            if rest.is_empty() && goes_on {
                fragment = Some(whole);
            } else {
                put_obu(&mut frame, &whole)?;
            }
        }
    }
    if fragment.is_some() { Err(AssembleError::Fragment) } else { Ok(frame.freeze()) }
}

/// Writes one OBU with its size, as the low-overhead format wants it (AV1 specification §5.2).
fn put_obu(frame: &mut BytesMut, obu: &[u8]) -> Result<(), AssembleError> {
    let Some(&header) = obu.first() else { return Ok(()) };
    if header & 0x02 != 0 {
        frame.put_slice(obu);
        return Ok(());
    }
    let header_bytes = if header & 0x04 != 0 { 2 } else { 1 };
    let (head, body) = obu.split_at_checked(header_bytes).ok_or(AssembleError::Short)?;
    frame.put_u8(header | 0x02);
    frame.put_slice(&head[1..]);
    let mut left = body.len();
    while left > 0x7f {
        frame.put_u8((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    frame.put_u8(left as u8);
    frame.put_slice(body);
    Ok(())
}

/// Reads a length in LEB128 of at most four bytes: no packet holds more.
fn leb128(rest: &mut &[u8]) -> Result<usize, AssembleError> {
    let mut value = 0;
    for at in 0..4 {
        let part = byte(rest, at)?;
        value |= usize::from(part & 0x7f) << (7 * at);
        if part & 0x80 == 0 {
            *rest = &rest[at + 1..];
            return Ok(value);
        }
    }
    Err(AssembleError::Short)
}
