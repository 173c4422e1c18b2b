//! Payload formats of a media section: `a=rtpmap`, `a=fmtp` and `a=rtcp-fb` put together (RFC 8866 §6, RFC 4585 §4.2).

use std::collections::BTreeMap;

use crate::plane::{Codec, CongestionFeedback};

/// Longest value that is taken: fmtp lines with parameter sets have some hundred bytes, and they travel on.
const MAX_VALUE_BYTES: usize = 2048;

/// What a payload type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// A codec that we pass through.
    Codec(Codec),
    /// Retransmissions of another payload type (RFC 4588).
    Rtx {
        /// `apt`
        of: u8,
    },
    /// Something that we do not take.
    Other,
}

/// One payload type of a media section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// 0 to 127.
    pub payload_type: u8,
    /// As the offer spells it.
    pub name: String,
    /// Hz.
    pub clock_rate: u32,
    /// 1 where the offer does not say.
    pub channels: u8,
    /// What it stands for.
    pub encoding: Encoding,
    /// The parameters without the payload type; empty if there are none.
    pub fmtp: String,
    /// Generic NACK.
    pub nack: bool,
    /// Picture loss indication.
    pub pli: bool,
    /// `transport-cc`
    pub transport_cc: bool,
    /// `goog-remb`
    pub remb: bool,
}

impl Format {
    /// The codec, if it is one that we pass through.
    pub fn codec(&self) -> Option<Codec> {
        match self.encoding {
            Encoding::Codec(codec) => Some(codec),
            Encoding::Rtx { .. } | Encoding::Other => None,
        }
    }

    /// A parameter of the fmtp line. Names are compared without case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        parameter(&self.fmtp, name)
    }

    /// The best feedback for congestion control that was offered with it.
    pub fn congestion(&self, transport_cc_extension: bool) -> CongestionFeedback {
        if self.transport_cc && transport_cc_extension {
            CongestionFeedback::TransportCc
        } else if self.remb {
            CongestionFeedback::Remb
        } else {
            CongestionFeedback::None
        }
    }
}

/// A parameter of an fmtp line.
pub fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Payload type of the retransmissions of `payload_type`.
pub fn rtx_of(formats: &[Format], payload_type: u8) -> Option<u8> {
    formats.iter().find(|f| f.encoding == Encoding::Rtx { of: payload_type }).map(|f| f.payload_type)
}

/// Gathers a section's attributes; [`Self::finish`] orders them as the `m=` line does.
#[derive(Default)]
pub struct Formats {
    rtpmap: BTreeMap<u8, String>,
    fmtp: BTreeMap<u8, String>,
    /// Keyed by payload type; `None` is `*`.
    feedback: Vec<(Option<u8>, String)>,
}

impl Formats {
    /// Takes an attribute if it is about a payload type. Malformed ones are left out, as RFC 8866 §5.13 has it.
    pub fn take(&mut self, key: &str, value: &str) {
        let Some((which, rest)) = value.split_once(' ') else { return };
        let payload_type = which.parse::<u8>().ok().filter(|&pt| pt < 128);
        let rest = rest.trim().to_owned();
        if rest.len() > MAX_VALUE_BYTES || rest.chars().any(char::is_control) {
            return;
        }
        match (key, payload_type) {
            ("rtpmap", Some(pt)) => {
                self.rtpmap.entry(pt).or_insert(rest);
            }
            ("fmtp", Some(pt)) => {
                self.fmtp.entry(pt).or_insert(rest);
            }
            ("rtcp-fb", Some(pt)) => self.feedback.push((Some(pt), rest)),
            ("rtcp-fb", None) if which == "*" => self.feedback.push((None, rest)),
            _ => {}
        }
    }

    /// The formats, in the order of preference that the `m=` line gives. Static payload types without an rtpmap are
    /// none of ours and are left out.
    pub fn finish(self, listed: &[String]) -> Vec<Format> {
        let mut formats = Vec::new();
        for payload_type in listed.iter().filter_map(|text| text.parse::<u8>().ok()) {
            let fresh = formats.iter().all(|f: &Format| f.payload_type != payload_type);
            if let Some(map) = self.rtpmap.get(&payload_type).filter(|_| fresh) {
                formats.push(self.format(payload_type, map));
            }
        }
        formats
    }

    fn format(&self, payload_type: u8, map: &str) -> Format {
        let mut parts = map.split('/');
        let name = parts.next().unwrap_or_default().to_owned();
        let clock_rate = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
        let channels = parts.next().and_then(|channels| channels.parse().ok()).unwrap_or(1);
        let fmtp = self.fmtp.get(&payload_type).cloned().unwrap_or_default();
        let has = |what: &str| {
            self.feedback.iter().any(|(pt, text)| pt.is_none_or(|pt| pt == payload_type) && text == what)
        };
        Format {
            payload_type,
            encoding: encoding(&name, clock_rate, channels, &fmtp),
            name,
            clock_rate,
            channels,
            nack: has("nack"),
            pli: has("nack pli"),
            transport_cc: has("transport-cc"),
            remb: has("goog-remb"),
            fmtp,
        }
    }
}

fn encoding(name: &str, clock_rate: u32, channels: u8, fmtp: &str) -> Encoding {
    let named = name.to_ascii_lowercase();
    match (named.as_str(), clock_rate, channels) {
        ("opus", 48_000, 2) => Encoding::Codec(Codec::Opus),
        ("vp8", 90_000, _) => Encoding::Codec(Codec::Vp8),
        ("h264", 90_000, _) => Encoding::Codec(Codec::H264),
        ("vp9", 90_000, _) => Encoding::Codec(Codec::Vp9),
        ("av1", 90_000, _) => Encoding::Codec(Codec::Av1),
        ("rtx", _, _) => match parameter(fmtp, "apt").and_then(|apt| apt.parse().ok()) {
            Some(of) => Encoding::Rtx { of },
            None => Encoding::Other,
        },
        _ => Encoding::Other,
    }
}
