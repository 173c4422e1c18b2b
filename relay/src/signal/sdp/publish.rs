//! What of a WHIP offer is taken (RFC 9725 §4.2): at most one audio and one video, one codec each, no simulcast.

use super::{
    NegotiateError, Negotiated, Offer,
    answer::{AnswerMedia, Flow, formats},
    codec::preferred_format,
    conclude,
    format::{Format, rtx_of},
    idle,
    offer::{Content, Rtp, Section},
};
use crate::plane::{CodecSpec, CongestionFeedback, DtlsRole, Extension, ExtensionKind, IngressTrack, Kind};

/// How publishes are answered.
#[derive(Clone, Copy, Debug)]
pub struct PublishPolicy {
    /// Our side of DTLS where the offer leaves the choice.
    pub role: DtlsRole,
    /// Hint to Chromium where its estimate should start, which is else 300 kbit/s.
    pub start_kbit_per_second: u32,
}

/// Negotiates a publish.
///
/// # Errors
/// [`NegotiateError`]
pub fn negotiate_publish(
    offer: &Offer,
    policy: PublishPolicy,
) -> Result<Negotiated<IngressTrack>, NegotiateError> {
    for kind in [Kind::Audio, Kind::Video] {
        let count = offer.sections.iter().filter(|section| sends(section, kind)).count();
        if count > 1 {
            return Err(NegotiateError::TooManyTracks { kind, count });
        }
    }
    let mut tracks = Vec::new();
    let mut taken = Vec::new();
    for section in &offer.sections {
        taken.push(match &section.content {
            Content::Rtp(rtp) if rtp.direction.sends() => {
                let (track, media) = take(section, rtp, policy)?;
                tracks.push(track);
                Some(media)
            }
            Content::Rtp(rtp) => idle(section, rtp),
            Content::Refused => None,
        });
    }
    if tracks.is_empty() {
        return Err(NegotiateError::NoTracks("sends"));
    }
    conclude(offer, taken, tracks, policy.role)
}

fn sends(section: &Section, of: Kind) -> bool {
    matches!(&section.content, Content::Rtp(rtp) if rtp.kind == of && rtp.direction.sends())
}

fn take(
    section: &Section,
    rtp: &Rtp,
    policy: PublishPolicy,
) -> Result<(IngressTrack, AnswerMedia), NegotiateError> {
    let format = preferred_format(&rtp.formats).ok_or_else(|| NegotiateError::NoCodec {
        kind: rtp.kind,
        wanted: match rtp.kind {
            Kind::Audio => "opus/48000/2".to_owned(),
            Kind::Video => "VP8, H264, VP9 (profile 0) or AV1".to_owned(),
        },
    })?;
    let codec = format.codec().ok_or_else(|| NegotiateError::NoCodec {
        kind: rtp.kind,
        wanted: "a codec that is passed through".to_owned(),
    })?;
    let transport_cc = rtp.extensions.iter().any(|extension| extension.kind == ExtensionKind::TransportCc);
    let feedback = format.congestion(transport_cc);
    let extensions = extensions(&rtp.extensions, feedback);
    let rtx_payload_type = rtx_of(&rtp.formats, format.payload_type);
    let media = AnswerMedia {
        flow: Flow::RecvOnly,
        formats: formats(
            format,
            rtx_payload_type,
            fmtp(rtp, format, policy),
            feedback_lines(format, feedback),
        ),
        extensions: extensions.clone(),
        source: None,
    };
    let track = IngressTrack {
        kind: rtp.kind,
        mid: section.mid.clone(),
        codec: CodecSpec {
            codec,
            clock_rate: format.clock_rate,
            channels: match rtp.kind {
                Kind::Audio => format.channels,
                Kind::Video => 0,
            },
            fmtp: format.fmtp.as_str().into(),
        },
        payload_type: format.payload_type,
        rtx_payload_type,
        ssrc: rtp.ssrc.map(|(ssrc, _)| ssrc),
        rtx_ssrc: rtp.ssrc.and_then(|(_, rtx)| rtx),
        extensions,
        nack: format.nack,
        pli: format.pli,
        feedback,
    };
    Ok((track, media))
}

/// Layers are not taken, so neither are their names; and of the two extensions that feed a congestion estimate only
/// the one that is used.
fn extensions(offered: &[Extension], feedback: CongestionFeedback) -> Vec<Extension> {
    let wanted = |extension: &&Extension| match extension.kind {
        ExtensionKind::Rid | ExtensionKind::RepairedRid | ExtensionKind::Backlog => false,
        ExtensionKind::TransportCc => feedback == CongestionFeedback::TransportCc,
        ExtensionKind::AbsSendTime => feedback == CongestionFeedback::Remb,
        ExtensionKind::Mid
        | ExtensionKind::AbsCaptureTime
        | ExtensionKind::AudioLevel
        | ExtensionKind::VideoOrientation
        | ExtensionKind::DependencyDescriptor
        | ExtensionKind::PlayoutDelay => true,
    };
    offered.iter().filter(wanted).cloned().collect()
}

fn feedback_lines(format: &Format, feedback: CongestionFeedback) -> Vec<&'static str> {
    let congestion = match feedback {
        CongestionFeedback::None => None,
        CongestionFeedback::Remb => Some("goog-remb"),
        CongestionFeedback::TransportCc => Some("transport-cc"),
    };
    let nack = format.nack.then_some("nack");
    let pli = format.pli.then_some("nack pli");
    [nack, pli, congestion].into_iter().flatten().collect()
}

fn fmtp(rtp: &Rtp, format: &Format, policy: PublishPolicy) -> String {
    let mut parts = Vec::new();
    if !format.fmtp.is_empty() {
        parts.push(format.fmtp.clone());
    }
    if rtp.chromium && rtp.kind == Kind::Video && policy.start_kbit_per_second > 0 {
        parts.push(format!("x-google-start-bitrate={}", policy.start_kbit_per_second));
    }
    parts.join(";")
}
