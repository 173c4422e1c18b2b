//! Encoded media on its way between the app and RTP: packetisers, the jitter buffer, frames. All pure.
//!
//! Invariant: no input panics, and every buffer has a bound.

mod assemble;
mod gap;
mod jitter;
mod keyframe;
mod nack;
mod outgoing;

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use thiserror::Error;

pub(crate) use assemble::assemble;
pub(crate) use gap::{Gap, GapMeter};
pub(crate) use jitter::JitterBuffer;
pub(crate) use keyframe::starts_keyframe;
pub(crate) use nack::NackTracker;
pub(crate) use outgoing::OutgoingTrack;
pub use outgoing::WriteError;

/// What a track carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Audio => "audio",
            Self::Video => "video",
        })
    }
}

/// Video codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VideoCodec {
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// H.264, packetization mode 1 (RFC 6184).
    H264,
    /// AV1 (its RTP payload format 1.0).
    Av1,
}

impl VideoCodec {
    /// Every codec, in the order in which a player asks for them unless told otherwise.
    pub const ALL: [Self; 4] = [Self::Vp8, Self::H264, Self::Vp9, Self::Av1];
}

/// Codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Opus (RFC 7587).
    Opus,
    /// A video codec.
    Video(VideoCodec),
}

impl Codec {
    /// Which kind of track it makes.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Opus => Kind::Audio,
            Self::Video(_) => Kind::Video,
        }
    }

    /// Ticks of its RTP clock in a second.
    #[must_use]
    pub fn clock_hz(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Video(_) => 90_000,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opus => "opus",
            Self::Video(VideoCodec::Vp8) => "vp8",
            Self::Video(VideoCodec::Vp9) => "vp9",
            Self::Video(VideoCodec::H264) => "h264",
            Self::Video(VideoCodec::Av1) => "av1",
        })
    }
}

/// A word that names no video codec.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no video codec that is known here: vp8, vp9, h264 or av1")]
pub struct UnknownVideoCodec(String);

impl FromStr for VideoCodec {
    type Err = UnknownVideoCodec;
    fn from_str(text: &str) -> Result<Self, UnknownVideoCodec> {
        match text.to_ascii_lowercase().as_str() {
            "vp8" => Ok(Self::Vp8),
            "vp9" => Ok(Self::Vp9),
            "h264" => Ok(Self::H264),
            "av1" => Ok(Self::Av1),
            _ => Err(UnknownVideoCodec(text.to_owned())),
        }
    }
}

/// One encoded frame of video (H.264 in Annex B form, AV1 a temporal unit of OBUs with sizes), or one Opus packet, as the app hands it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The encoded bytes.
    pub data: Bytes,
    /// When it was captured, on a clock that the tracks of a publisher share and that never runs backwards.
    pub timestamp: Duration,
}

/// One encoded frame or Opus packet, as a player hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedSample {
    /// What it is.
    pub codec: Codec,
    /// The encoded bytes, in the form of [`Sample::data`].
    pub data: Bytes,
    /// RTP timestamp, in ticks of the codec's clock. It starts anywhere, and wraps.
    pub rtp_timestamp: u32,
    /// Whether decoding can start here. Always true for audio.
    pub keyframe: bool,
    /// Whether something between the sample before and this one never came.
    pub lost_before: bool,
}

impl ReceivedSample {
    /// Which track it belongs to.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }
}

/// One RTP packet of a player's track, in the order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpPacket {
    /// What its payload is.
    pub codec: Codec,
    /// Names the source; it changes when the player's session does.
    pub ssrc: u32,
    /// Its number, modulo 2^16.
    pub sequence_number: u16,
    /// In ticks of the codec's clock.
    pub timestamp: u32,
    /// Set on the last packet of a video frame.
    pub marker: bool,
    /// In the codec's payload format.
    pub payload: Bytes,
}
