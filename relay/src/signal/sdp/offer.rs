//! A client's offer, parsed and bounded (RFC 8866, RFC 8829 §5.2). What is here was checked; what is not was dropped.

use std::{collections::BTreeSet, io::Cursor};

use rtc_sdp::description::{media::MediaDescription, session::SessionDescription};
use thiserror::Error;

use super::{
    extension::extension_kind,
    format::{Format, Formats},
};
use crate::plane::{Extension, Fingerprint, Kind};

/// Largest offer: Chromium's with every codec and simulcast has some 9 KiB.
pub const MAX_SDP_BYTES: usize = 64 * 1024;
/// Most media sections.
const MAX_SECTIONS: usize = 16;
/// Most attributes of a section.
const MAX_ATTRIBUTES: usize = 1024;
/// RFC 8839 §5.4.
const ICE_UFRAG_CHARS: std::ops::RangeInclusive<usize> = 4..=256;
/// Longest mid that is taken; the mid extension in its one-byte form holds 16 bytes (RFC 9143 §15.1).
const MAX_MID_BYTES: usize = 16;

/// Why an offer cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OfferError {
    /// Larger than [`MAX_SDP_BYTES`].
    #[error("the offer has {0} bytes, at most {MAX_SDP_BYTES} are taken")]
    TooLarge(usize),
    /// SDP is UTF-8 here.
    #[error("the offer is not UTF-8")]
    NotUtf8,
    /// A line that is not SDP's.
    #[error("line {0} of the offer is not of SDP's form x=value")]
    Line(usize),
    /// Lines that are SDP's, but not where or as RFC 8866 has them.
    #[error("the offer is not SDP as RFC 8866 has it: a line is out of place, or lacks a part")]
    Syntax,
    /// No media, or too many sections or attributes.
    #[error("the offer has {count} {what}, 1 to {most} are taken")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The bound.
        most: usize,
    },
    /// RFC 9143 needs a mid for bundled media.
    #[error(
        "media section {index} has the mid {mid:?}; each needs one of its own with 1 to {MAX_MID_BYTES} token characters"
    )]
    Mid {
        /// Which section, from 0.
        index: usize,
        /// What it has.
        mid: String,
    },
    /// Another media protocol than DTLS-SRTP.
    #[error("media section {mid:?} is offered over {protocol}; UDP/TLS/RTP/SAVPF is needed")]
    Protocol {
        /// Which section.
        mid: String,
        /// What it has.
        protocol: String,
    },
    /// Another `a=setup` than active, passive and actpass.
    #[error("a=setup:{0} is not taken in an offer; use actpass")]
    Setup(String),
    /// An ICE ufrag outside RFC 8839's grammar.
    #[error("an ICE ufrag must have 4 to 256 letters, digits, '+' or '/'")]
    Ufrag,
}

/// `a=setup` of an offer (RFC 8842 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// The peer sends the hello.
    Active,
    /// We send it.
    Passive,
    /// We choose.
    ActPass,
}

/// Direction as the offerer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both ways; what SDP means when it says nothing.
    SendRecv,
    /// From the client to us.
    SendOnly,
    /// From us to the client.
    RecvOnly,
    /// Nothing flows.
    Inactive,
}

impl Direction {
    /// Whether the client would send.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the client would receive.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// What a section is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Audio or video.
    Rtp(Rtp),
    /// Data channels and what else we refuse, or a section that the client has closed (port 0).
    Refused,
}

/// An audio or video section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtp {
    /// Audio or video.
    pub kind: Kind,
    /// As the offerer sees it.
    pub direction: Direction,
    /// In its order of preference.
    pub formats: Vec<Format>,
    /// Those that we know, under ids of the one-byte form.
    pub extensions: Vec<Extension>,
    /// The first SSRC announced, and the one of its retransmissions.
    pub ssrc: Option<(u32, Option<u32>)>,
    /// Whether the section offers several layers (RFC 8853, or the older SIM group).
    pub simulcast: bool,
    /// Whether RTCP shares the port.
    pub rtcp_mux: bool,
    /// Whether RTCP packets may come alone (RFC 5506 §5).
    pub rtcp_rsize: bool,
    /// Whether it has Chromium's own extensions, and so Chromium's own fmtp hints.
    pub chromium: bool,
}

/// A media section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// First word of the `m=` line, for a refusal.
    pub media: String,
    /// Third word of the `m=` line.
    pub protocol: String,
    /// The rest of the `m=` line, for a refusal.
    pub formats: String,
    /// RFC 5888.
    pub mid: String,
    /// Whether it is in the BUNDLE group.
    pub bundled: bool,
    /// Its ICE ufrag, or the session's.
    pub ufrag: Option<String>,
    /// Its strongest fingerprint, or the session's.
    pub fingerprint: Option<Fingerprint>,
    /// Its side of DTLS, or the session's.
    pub setup: Setup,
    /// What it is for.
    pub content: Content,
}

/// An offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// In the offer's order; at least one.
    pub sections: Vec<Section>,
    /// Whether one- and two-byte header extensions may be mixed in one stream (RFC 8285 §4.1.2).
    pub extmap_allow_mixed: bool,
}

impl Offer {
    /// Parses and checks an offer.
    ///
    /// # Errors
    /// [`OfferError`]
    pub fn parse(body: &[u8]) -> Result<Self, OfferError> {
        if body.len() > MAX_SDP_BYTES {
            return Err(OfferError::TooLarge(body.len()));
        }
        let text = std::str::from_utf8(body).map_err(|_| OfferError::NotUtf8)?;
        let is_line = |line: &str| line.as_bytes().get(1) == Some(&b'=');
        if let Some(index) = text.lines().position(|line| !line.trim().is_empty() && !is_line(line)) {
            return Err(OfferError::Line(index + 1));
        }
        let sdp = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
            .map_err(|_| OfferError::Syntax)?;
        let sections = sdp.media_descriptions.len();
        if !(1..=MAX_SECTIONS).contains(&sections) {
            return Err(OfferError::Count { what: "media sections", count: sections, most: MAX_SECTIONS });
        }
        let session = SessionLevel::read(&sdp)?;
        let mut mids = BTreeSet::new();
        let sections = sdp.media_descriptions.iter().enumerate().map(|(index, media)| {
            let section = section(index, media, &session)?;
            // One section alone needs no name (RFC 9143 §7.2 is about bundles).
            let may_lack_name = sections == 1 && !section.bundled;
            if section.mid.is_empty() && !may_lack_name {
                return Err(OfferError::Mid { index, mid: String::new() });
            }
            if mids.insert(section.mid.clone()) {
                Ok(section)
            } else {
                Err(OfferError::Mid { index, mid: section.mid })
            }
        });
        let everywhere = |media: &MediaDescription| media.has_attribute("extmap-allow-mixed");
        Ok(Self {
            sections: sections.collect::<Result<_, _>>()?,
            extmap_allow_mixed: sdp.has_attribute("extmap-allow-mixed")
                || sdp.media_descriptions.iter().all(everywhere),
        })
    }
}

/// What sections take from the session where they do not say it themselves.
struct SessionLevel {
    bundle: Vec<String>,
    transport: TransportLines,
    direction: Direction,
}

#[derive(Clone, Default)]
struct TransportLines {
    ufrag: Option<String>,
    fingerprint: Option<Fingerprint>,
    setup: Option<Setup>,
}

impl TransportLines {
    fn take(&mut self, key: &str, value: &str) -> Result<(), OfferError> {
        match key {
            "ice-ufrag" => self.ufrag = Some(checked_ufrag(value).ok_or(OfferError::Ufrag)?.to_owned()),
            "fingerprint" => self.fingerprint = self.fingerprint.max(parse_fingerprint(value)),
            "setup" => {
                self.setup = Some(match value {
                    "active" => Setup::Active,
                    "passive" => Setup::Passive,
                    "actpass" => Setup::ActPass,
                    other => return Err(OfferError::Setup(shorten(other))),
                });
            }
            _ => {}
        }
        Ok(())
    }
}

impl SessionLevel {
    fn read(sdp: &SessionDescription) -> Result<Self, OfferError> {
        bounded(sdp.attributes.len())?;
        let mut level =
            Self { bundle: Vec::new(), transport: TransportLines::default(), direction: Direction::SendRecv };
        for attribute in &sdp.attributes {
            let value = attribute.value.as_deref().unwrap_or_default();
            level.transport.take(&attribute.key, value)?;
            if let Some(direction) = parse_direction(&attribute.key) {
                level.direction = direction;
            }
            if let Some(mids) = value.strip_prefix("BUNDLE").filter(|_| attribute.key == "group") {
                level.bundle.extend(mids.split_whitespace().map(str::to_owned));
            }
        }
        Ok(level)
    }
}

fn bounded(count: usize) -> Result<(), OfferError> {
    if count > MAX_ATTRIBUTES {
        return Err(OfferError::Count { what: "attributes in one section", count, most: MAX_ATTRIBUTES });
    }
    Ok(())
}

fn section(index: usize, media: &MediaDescription, session: &SessionLevel) -> Result<Section, OfferError> {
    bounded(media.attributes.len())?;
    let mut transport = session.transport.clone();
    // What the section says of its own certificate goes before what the session says (RFC 8122 §5).
    if media.has_attribute("fingerprint") {
        transport.fingerprint = None;
    }
    let mut mid = String::new();
    for attribute in &media.attributes {
        let value = attribute.value.as_deref().unwrap_or_default();
        transport.take(&attribute.key, value)?;
        if attribute.key == "mid" {
            mid = value.to_owned();
        }
    }
    // RFC 8866 §9: token characters.
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`{|}~".contains(c);
    if mid.len() > MAX_MID_BYTES || !mid.chars().all(token) {
        return Err(OfferError::Mid { index, mid: shorten(&mid) });
    }
    let name = &media.media_name;
    let protocol = name.protos.join("/");
    let closed = name.port.value == 0 && !media.has_attribute("bundle-only");
    let kind = match name.media.as_str() {
        "audio" => Some(Kind::Audio),
        "video" => Some(Kind::Video),
        _ => None,
    };
    let content = match kind {
        Some(kind) if !closed => {
            if protocol != "UDP/TLS/RTP/SAVPF" {
                return Err(OfferError::Protocol { mid, protocol: shorten(&protocol) });
            }
            Content::Rtp(rtp(kind, media, session.direction))
        }
        Some(_) | None => Content::Refused,
    };
    Ok(Section {
        media: name.media.clone(),
        protocol,
        formats: name.formats.join(" "),
        bundled: session.bundle.contains(&mid),
        mid,
        ufrag: transport.ufrag,
        fingerprint: transport.fingerprint,
        // RFC 8842 §5.1: an offer without it means actpass to everyone in use.
        setup: transport.setup.unwrap_or(Setup::ActPass),
        content,
    })
}

fn rtp(kind: Kind, media: &MediaDescription, session_direction: Direction) -> Rtp {
    let mut formats = Formats::default();
    let mut section = Rtp {
        kind,
        direction: session_direction,
        formats: Vec::new(),
        extensions: Vec::new(),
        ssrc: None,
        simulcast: false,
        rtcp_mux: false,
        rtcp_rsize: false,
        chromium: false,
    };
    let mut extensions = Vec::new();
    let mut first_ssrc = None;
    let mut pairs = Vec::new();
    for attribute in &media.attributes {
        let key = attribute.key.as_str();
        let value = attribute.value.as_deref().unwrap_or_default();
        formats.take(key, value);
        if let Some(direction) = parse_direction(key) {
            section.direction = direction;
        }
        match key {
            "extmap" => take_extension(&mut section, &mut extensions, value),
            "ssrc" => {
                first_ssrc = first_ssrc.or_else(|| value.split_whitespace().next()?.parse::<u32>().ok())
            }
            "ssrc-group" => {
                let mut words = value.split_whitespace();
                match (words.next(), words.next().and_then(number), words.next().and_then(number)) {
                    (Some("FID"), Some(primary), Some(rtx)) => pairs.push((primary, rtx)),
                    (Some("SIM"), Some(_), Some(_)) => section.simulcast = true,
                    _ => {}
                }
            }
            "simulcast" => section.simulcast = true,
            "rtcp-mux" => section.rtcp_mux = true,
            "rtcp-rsize" => section.rtcp_rsize = true,
            _ => {}
        }
    }
    section.ssrc = first_ssrc.map(|ssrc| {
        let rtx = pairs.iter().find(|(primary, _)| *primary == ssrc).map(|&(_, rtx)| rtx);
        (ssrc, rtx)
    });
    section.extensions = flowing(extensions, section.direction);
    section.formats = formats.finish(&media.media_name.formats);
    section
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// An extension and the direction in which the offer has it (RFC 8285 §5).
type Offered = (Extension, Direction);

fn take_extension(section: &mut Rtp, extensions: &mut Vec<Offered>, value: &str) {
    let mut words = value.split_whitespace();
    let (Some(id), Some(uri)) = (words.next(), words.next()) else { return };
    section.chromium |= uri == "http://www.webrtc.org/experiments/rtp-hdrext/video-timing";
    let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
    let Some(direction) = parse_direction(direction) else { return };
    // Ids above 14 need the two-byte form, which costs bytes on each packet; no client in use needs one.
    if let (Ok(id @ 1..=14), Some(kind)) = (id.parse(), extension_kind(uri))
        && extensions.iter().all(|(known, _)| known.id != id && known.kind != kind)
    {
        extensions.push((Extension { id, kind }, direction));
    }
}

/// Those that can flow in the section's direction.
fn flowing(extensions: Vec<Offered>, section: Direction) -> Vec<Extension> {
    let flows = |of: Direction| (of.sends() && section.sends()) || (of.receives() && section.receives());
    extensions
        .into_iter()
        .filter(|(_, direction)| flows(*direction))
        .map(|(extension, _)| extension)
        .collect()
}

fn parse_direction(key: &str) -> Option<Direction> {
    match key {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    }
}

/// `text` if it is an ICE ufrag (RFC 8839 §5.4).
pub fn checked_ufrag(text: &str) -> Option<&str> {
    let ice_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=');
    (ICE_UFRAG_CHARS.contains(&text.len()) && text.chars().all(ice_char)).then_some(text)
}

/// RFC 8122 §5. An algorithm that is not known here is passed over.
fn parse_fingerprint(value: &str) -> Option<Fingerprint> {
    let (algorithm, hex) = value.split_once(' ')?;
    match algorithm.to_ascii_lowercase().as_str() {
        "sha-256" => hex_bytes(hex).map(Fingerprint::Sha256),
        "sha-384" => hex_bytes(hex).map(Fingerprint::Sha384),
        "sha-512" => hex_bytes(hex).map(Fingerprint::Sha512),
        _ => None,
    }
}

/// `AB:CD:…`, of exactly so many bytes.
fn hex_bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut pairs = hex.trim().split(':');
    for byte in &mut bytes {
        let pair = pairs.next().filter(|pair| pair.len() == 2)?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(bytes)
}

/// The start of a text that a client sent, for a message.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
