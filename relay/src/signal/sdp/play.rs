//! What of a WHEP offer is taken: each track of the stream goes to the first section that can take it.

use std::collections::BTreeSet;

use rand::Rng;

use super::{
    NegotiateError, Negotiated, Offer,
    answer::{AnswerMedia, Flow, Source, formats},
    codec::{best_format, codec_name},
    conclude,
    format::{Format, parameter, rtx_of},
    idle,
    offer::{Content, Rtp, Section},
};
use crate::{
    control::TrackInfo,
    plane::{Codec, CodecSpec, DtlsRole, EgressTrack, Extension, ExtensionKind, Kind},
};

/// Negotiates a play of a stream's tracks. SSRCs come from `rng`. A track that no section takes is left out, unless
/// none is taken at all.
///
/// # Errors
/// [`NegotiateError`]
pub fn negotiate_play(
    offer: &Offer,
    stream: &[TrackInfo],
    role: DtlsRole,
    rng: &mut impl Rng,
) -> Result<Negotiated<EgressTrack>, NegotiateError> {
    let mut ssrcs = Ssrcs { rng, used: BTreeSet::new() };
    let mut tracks: Vec<EgressTrack> = Vec::new();
    let mut taken = Vec::new();
    for section in &offer.sections {
        taken.push(match &section.content {
            Content::Rtp(rtp) => {
                let open = tracks.iter().all(|track| track.kind != rtp.kind) && rtp.direction.receives();
                let info = stream.iter().find(|info| open && info.kind == rtp.kind);
                match info.and_then(|info| Some((info, best_format(&rtp.formats, &info.codec)?))) {
                    Some((info, format)) => {
                        let (track, media) = take(offer, section, rtp, info, format, &mut ssrcs);
                        tracks.push(track);
                        Some(media)
                    }
                    None => idle(section, rtp),
                }
            }
            Content::Refused => None,
        });
    }
    if tracks.is_empty() {
        return Err(nothing_in_common(offer, stream));
    }
    conclude(offer, taken, tracks, role)
}

fn nothing_in_common(offer: &Offer, stream: &[TrackInfo]) -> NegotiateError {
    let receives = offer.sections.iter().any(|section| match &section.content {
        Content::Rtp(rtp) => rtp.direction.receives(),
        Content::Refused => false,
    });
    match stream.first() {
        Some(info) if receives => {
            let wanted: Vec<String> = stream.iter().map(|info| describe(&info.codec)).collect();
            NegotiateError::NoCodec { kind: info.kind, wanted: wanted.join(" or ") }
        }
        Some(_) | None => NegotiateError::NoTracks("receives"),
    }
}

fn describe(codec: &CodecSpec) -> String {
    let name = codec_name(codec.codec);
    if codec.fmtp.is_empty() { name.to_owned() } else { format!("{name} ({})", codec.fmtp) }
}

/// Random SSRCs, none twice and none zero.
struct Ssrcs<'a, R> {
    rng: &'a mut R,
    used: BTreeSet<u32>,
}

impl<R: Rng> Ssrcs<'_, R> {
    fn next(&mut self) -> u32 {
        // At most four are drawn, so stepping past a used one ends soon, whatever the source of randomness.
        let mut ssrc = self.rng.next_u32().max(1);
        while !self.used.insert(ssrc) {
            ssrc = ssrc.wrapping_add(1).max(1);
        }
        ssrc
    }
}

fn take<R: Rng>(
    offer: &Offer,
    section: &Section,
    rtp: &Rtp,
    info: &TrackInfo,
    format: &Format,
    ssrcs: &mut Ssrcs<'_, R>,
) -> (EgressTrack, AnswerMedia) {
    let rtx_payload_type = rtx_of(&rtp.formats, format.payload_type);
    let mut extensions = extensions(&rtp.extensions, &info.extensions);
    // A descriptor with its templates needs the two-byte form, which only some of the packets have (RFC 8285 §4.1.2).
    extensions.retain(|extension| {
        extension.kind != ExtensionKind::DependencyDescriptor || offer.extmap_allow_mixed
    });
    let track = EgressTrack {
        kind: rtp.kind,
        codec: info.codec.codec,
        payload_type: format.payload_type,
        rtx_payload_type,
        ssrc: ssrcs.next(),
        rtx_ssrc: ssrcs.next(),
        mid: section.mid.clone(),
        extensions: extensions.clone(),
        nack: format.nack,
    };
    let nack = format.nack.then_some("nack");
    let pli = format.pli.then_some("nack pli");
    let media = AnswerMedia {
        flow: Flow::SendOnly,
        formats: formats(
            format,
            rtx_payload_type,
            fmtp(format, &info.codec),
            [nack, pli].into_iter().flatten().collect(),
        ),
        extensions,
        source: Some(Source {
            ssrc: track.ssrc,
            rtx_ssrc: rtx_payload_type.map(|_| track.rtx_ssrc),
            track: match rtp.kind {
                Kind::Audio => "audio",
                Kind::Video => "video",
            },
        }),
    };
    (track, media)
}

/// The mid is ours to write; what describes the media passes through if it arrives. What describes one hop of the
/// network (transport-wide numbers, send times) ends here.
fn extensions(offered: &[Extension], arriving: &[Extension]) -> Vec<Extension> {
    let wanted = |extension: &&Extension| match extension.kind {
        ExtensionKind::Mid => true,
        ExtensionKind::AbsCaptureTime
        | ExtensionKind::AudioLevel
        | ExtensionKind::VideoOrientation
        | ExtensionKind::DependencyDescriptor
        | ExtensionKind::PlayoutDelay => arriving.iter().any(|a| a.kind == extension.kind),
        ExtensionKind::Rid
        | ExtensionKind::RepairedRid
        | ExtensionKind::TransportCc
        | ExtensionKind::AbsSendTime
        | ExtensionKind::Backlog => false,
    };
    offered.iter().filter(wanted).cloned().collect()
}

/// The offered parameters, which say what the player decodes; for Opus, what comes is the publisher's word (RFC 7587 §7.1):
/// the player's own of what it would send says nothing here.
fn fmtp(format: &Format, stream: &CodecSpec) -> String {
    if stream.codec != Codec::Opus {
        return format.fmtp.clone();
    }
    let is_players_own = |part: &&str| part.trim_start().to_ascii_lowercase().starts_with("sprop-");
    let mut parts: Vec<&str> = format.fmtp.split(';').filter(|part| !is_players_own(part)).collect();
    let says_stereo = |name| parameter(&stream.fmtp, name) == Some("1");
    if says_stereo("stereo") || says_stereo("sprop-stereo") {
        parts.push("sprop-stereo=1");
    }
    parts.retain(|part| !part.trim().is_empty());
    parts.join(";")
}
