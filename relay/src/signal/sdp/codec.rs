//! Which offered payload type can take a stream's codec: H.264 profiles (RFC 6184 §8.1), VP9 (RFC 9628 §6), AV1.

use super::format::{Format, parameter};
use crate::plane::{Codec, CodecSpec};

/// Name of a codec in an rtpmap.
pub fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus",
        Codec::Vp8 => "VP8",
        Codec::H264 => "H264",
        Codec::Vp9 => "VP9",
        Codec::Av1 => "AV1",
    }
}

/// H.264 profiles as profile_idc and constraint flags name them (RFC 6184 §8.1, table 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    Other(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct H264 {
    profile: H264Profile,
    level: u8,
    fragments: bool,
}

impl H264 {
    fn read(fmtp: &str) -> Self {
        // RFC 6184 §8.1: without a profile-level-id, Baseline at level 1.
        let id = parameter(fmtp, "profile-level-id")
            .and_then(|id| u32::from_str_radix(id, 16).ok())
            .unwrap_or(0x42_00_0a);
        let [_, idc, flags, level] = id.to_be_bytes();
        let set1 = flags & 0x40 != 0;
        let profile = match idc {
            0x42 if set1 => H264Profile::ConstrainedBaseline,
            0x42 => H264Profile::Baseline,
            0x4d if flags & 0x80 != 0 => H264Profile::ConstrainedBaseline,
            0x4d => H264Profile::Main,
            0x58 if set1 && flags & 0x80 != 0 => H264Profile::ConstrainedBaseline,
            0x64 if flags & 0x0c == 0x0c => H264Profile::ConstrainedHigh,
            0x64 => H264Profile::High,
            other => H264Profile::Other(other),
        };
        Self { profile, level, fragments: parameter(fmtp, "packetization-mode") == Some("1") }
    }

    /// Whether a decoder of this profile decodes `stream` by the standard.
    fn decodes(self, stream: Self) -> bool {
        use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        self.profile == stream.profile
            || match stream.profile {
                ConstrainedBaseline => matches!(self.profile, Baseline | Main | ConstrainedHigh | High),
                Main | ConstrainedHigh => self.profile == High,
                Baseline | High | H264Profile::Other(_) => false,
            }
    }
}

/// How well an offered format takes a stream; the highest wins, and of equals the first. The order of the fields is
/// the order of what matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    same_profile: bool,
    decodes: bool,
    same_packetization: bool,
    level: u8,
}

/// The offered format that takes the stream best.
pub fn best_format<'a>(formats: &'a [Format], stream: &CodecSpec) -> Option<&'a Format> {
    let mut best: Option<(Fit, &Format)> = None;
    for format in formats.iter().filter(|f| f.codec() == Some(stream.codec)) {
        if let Some(fit) = fit(format, stream)
            && best.is_none_or(|(top, _)| fit > top)
        {
            best = Some((fit, format));
        }
    }
    best.map(|(_, format)| format)
}

fn fit(format: &Format, stream: &CodecSpec) -> Option<Fit> {
    let exact = Fit { same_profile: true, decodes: true, same_packetization: true, level: 0 };
    let same =
        |name: &str| format.parameter(name).unwrap_or("0") == parameter(&stream.fmtp, name).unwrap_or("0");
    match stream.codec {
        Codec::Opus | Codec::Vp8 => Some(exact),
        Codec::Vp9 => same("profile-id").then_some(exact),
        Codec::Av1 => same("profile").then_some(exact),
        Codec::H264 => {
            let (wanted, offered) = (H264::read(&stream.fmtp), H264::read(&format.fmtp));
            if wanted.fragments && !offered.fragments {
                return None;
            }
            // A profile beyond the offered one is the last choice, not a refusal: browsers offer Constrained Baseline
            // and decode High, and OBS names Constrained Baseline whatever it sends.
            Some(Fit {
                same_profile: offered.profile == wanted.profile,
                decodes: offered.decodes(wanted),
                same_packetization: offered.fragments == wanted.fragments,
                level: offered.level,
            })
        }
    }
}

/// The publisher's format that is taken: its first codec that we pass through, for H.264 with packetization mode 1
/// if it has one.
pub fn preferred_format(formats: &[Format]) -> Option<&Format> {
    let usable = |f: &&Format| match f.codec() {
        Some(Codec::Vp9) => f.parameter("profile-id").is_none_or(|id| id == "0"),
        Some(Codec::Opus | Codec::Vp8 | Codec::H264 | Codec::Av1) => true,
        None => false,
    };
    let first = formats.iter().find(usable)?;
    let fragmenting = |f: &&Format| f.codec() == Some(Codec::H264) && H264::read(&f.fmtp).fragments;
    match first.codec() {
        Some(Codec::H264) => formats.iter().find(fragmenting).or(Some(first)),
        Some(Codec::Opus | Codec::Vp8 | Codec::Vp9 | Codec::Av1) | None => Some(first),
    }
}
