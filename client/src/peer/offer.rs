//! What a peer connection is built with: codecs and payload types, tracks, timers. Pure.
//!
//! The payload types are always the same: an answer takes those of the offer (RFC 9429 §5.3.1).

use std::time::{Duration, Instant};

use rtc::{
    dtls::extension::extension_use_srtp::SrtpProtectionProfile,
    ice::mdns::MulticastDnsMode,
    interceptor::{NackResponderBuilder, ReceiverReportBuilder, Registry, SenderReportBuilder, Slot},
    media_stream::MediaStreamTrack,
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        configuration::{
            media_engine::{
                MIME_TYPE_AV1, MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_RTX, MIME_TYPE_VP8, MIME_TYPE_VP9,
                MediaEngine,
            },
            setting_engine::SettingEngineBuilder,
        },
    },
    rtp_transceiver::{
        RTCRtpSenderId, RTCRtpTransceiverDirection, RTCRtpTransceiverInit,
        rtp_sender::{
            RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
            RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
        },
    },
    shared::error::Error,
};

use super::observe::{Observed, Observer};
use crate::media::{Codec, Kind, VideoCodec};

/// A connectivity check goes out this often until one is answered: the path is one hop of HTTP old, so this is quick.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Checks before ICE gives up: two seconds of them, the time of an attempt (PUB-2).
const MAX_CHECKS: u16 = 200;

/// A pair unheard for this long is disconnected, and has failed after as long again. The machines act much
/// sooner; this is what remains when they may not.
const ICE_PATIENCE: Duration = Duration::from_secs(15);

/// Consent is refreshed this often (RFC 7675 §5.1).
const ICE_KEEPALIVE: Duration = Duration::from_secs(2);

/// Packets kept of each video track to answer NACKs from.
const NACK_HISTORY: u16 = 2048;

/// Distance from the wire of [`Observer`]: nothing is nearer.
const OBSERVER_SLOT: usize = 500;

/// A track as a publishing peer sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublishedTrack {
    /// What it carries.
    pub(crate) codec: Codec,
    /// Its source.
    pub(crate) ssrc: u32,
    /// The source of its retransmissions (RFC 4588); video only.
    pub(crate) rtx_ssrc: u32,
}

/// Which way media flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the node.
    Publish(Vec<PublishedTrack>),
    /// From the node: audio if wanted, and video in one of these codecs if there are any.
    Play {
        /// Whether audio is wanted.
        audio: bool,
        /// The preferred one first.
        video: Vec<VideoCodec>,
    },
}

/// Payload type of a codec, in every offer of this SDK.
pub(super) fn payload_type(codec: Codec) -> u8 {
    match codec {
        Codec::Opus => 111,
        Codec::Video(VideoCodec::Vp8) => 96,
        Codec::Video(VideoCodec::Vp9) => 98,
        Codec::Video(VideoCodec::H264) => 102,
        Codec::Video(VideoCodec::Av1) => 45,
    }
}

/// The codec of a payload type; `None` for retransmissions.
pub(super) fn codec_of(payload_type_received: u8) -> Option<Codec> {
    let video = VideoCodec::ALL.into_iter().map(Codec::Video);
    video.chain([Codec::Opus]).find(|&codec| payload_type(codec) == payload_type_received)
}

fn parameters(codec: Codec) -> RTCRtpCodec {
    let (mime_type, fmtp) = match codec {
        Codec::Opus => (MIME_TYPE_OPUS, "minptime=10;useinbandfec=1"),
        Codec::Video(VideoCodec::Vp8) => (MIME_TYPE_VP8, ""),
        Codec::Video(VideoCodec::Vp9) => (MIME_TYPE_VP9, "profile-id=0"),
        Codec::Video(VideoCodec::H264) => {
            (MIME_TYPE_H264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
        }
        Codec::Video(VideoCodec::Av1) => (MIME_TYPE_AV1, ""),
    };
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
    let rtcp_feedback = match codec.kind() {
        Kind::Audio => Vec::new(),
        Kind::Video => vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir")],
    };
    RTCRtpCodec {
        mime_type: mime_type.into(),
        clock_rate: codec.clock_hz(),
        channels: if codec == Codec::Opus { 2 } else { 0 },
        sdp_fmtp_line: fmtp.into(),
        rtcp_feedback,
    }
}

fn rtc_kind(kind: Kind) -> RtpCodecKind {
    match kind {
        Kind::Audio => RtpCodecKind::Audio,
        Kind::Video => RtpCodecKind::Video,
    }
}

fn register(engine: &mut MediaEngine, codec: Codec) -> Result<(), Error> {
    let kind = rtc_kind(codec.kind());
    let payload_type = payload_type(codec);
    engine.register_codec(RTCRtpCodecParameters { rtp_codec: parameters(codec), payload_type }, kind)?;
    if codec.kind() == Kind::Audio {
        return Ok(());
    }
    let rtx = RTCRtpCodec {
        mime_type: MIME_TYPE_RTX.into(),
        clock_rate: codec.clock_hz(),
        channels: 0,
        sdp_fmtp_line: format!("apt={payload_type}"),
        rtcp_feedback: Vec::new(),
    };
    engine.register_codec(RTCRtpCodecParameters { rtp_codec: rtx, payload_type: payload_type + 1 }, kind)
}

/// A peer connection with its tracks, and the senders of what it publishes.
pub(super) fn build(
    direction: &Direction,
    settings: SettingEngineBuilder,
    observed: Observed,
    now: Instant,
) -> Result<(RTCPeerConnection, Vec<(Kind, RTCRtpSenderId)>), Error> {
    let mut engine = MediaEngine::default();
    let codecs: Vec<Codec> = match direction {
        Direction::Publish(tracks) => tracks.iter().map(|track| track.codec).collect(),
        Direction::Play { audio, video } => {
            audio.then_some(Codec::Opus).into_iter().chain(video.iter().copied().map(Codec::Video)).collect()
        }
    };
    for &codec in &codecs {
        register(&mut engine, codec)?;
    }
    let mut connection = RTCPeerConnectionBuilder::new()
        .with_setting_engine(settings.build())
        .with_media_engine(engine)
        .with_interceptor_registry(interceptors(observed))
        .build(now)?;
    let mut senders = Vec::new();
    match direction {
        Direction::Publish(tracks) => {
            for track in tracks {
                let init = transceiver(RTCRtpTransceiverDirection::Sendonly);
                connection.add_transceiver_from_track(sent(*track), Some(init))?;
            }
            let kinds = tracks.iter().map(|track| track.codec.kind());
            senders = kinds.zip(connection.get_senders()).collect();
        }
        Direction::Play { audio, video } => {
            let kinds = [(*audio, RtpCodecKind::Audio), (!video.is_empty(), RtpCodecKind::Video)];
            for (_, kind) in kinds.into_iter().filter(|(wanted, _)| *wanted) {
                let init = transceiver(RTCRtpTransceiverDirection::Recvonly);
                connection.add_transceiver_from_kind(kind, Some(init))?;
            }
        }
    }
    Ok((connection, senders))
}

/// Host candidates only, quick checks, GCM first.
pub(super) fn settings() -> SettingEngineBuilder {
    SettingEngineBuilder::new()
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_include_loopback_candidate(true)
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(MAX_CHECKS))
        .with_ice_timeouts(Some(ICE_PATIENCE), Some(ICE_PATIENCE), Some(ICE_KEEPALIVE))
        .with_srtp_protection_profiles(vec![
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        ])
}

/// No NACK generator: `rtc`'s counts packets before RTX is undone and would ask for what it has (`media::nack` asks).
fn interceptors(observed: Observed) -> Registry {
    Registry::new()
        .with(Slot::from(OBSERVER_SLOT), Observer::new(observed))
        .with(Slot::NackResponder, NackResponderBuilder::new().with_size(NACK_HISTORY).build())
        .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
        .with(Slot::SenderReport, SenderReportBuilder::new().build())
}

fn transceiver(direction: RTCRtpTransceiverDirection) -> RTCRtpTransceiverInit {
    RTCRtpTransceiverInit { direction, streams: Vec::new(), send_encodings: Vec::new() }
}

fn sent(track: PublishedTrack) -> MediaStreamTrack {
    let kind = track.codec.kind();
    let rtx = (kind == Kind::Video).then_some(RTCRtpRtxParameters { ssrc: track.rtx_ssrc });
    let coding = RTCRtpCodingParameters { ssrc: Some(track.ssrc), rtx, ..RTCRtpCodingParameters::default() };
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: coding,
        codec: parameters(track.codec),
        ..RTCRtpEncodingParameters::default()
    };
    MediaStreamTrack::new(
        "waystation".into(),
        kind.to_string(),
        kind.to_string(),
        rtc_kind(kind),
        vec![encoding],
    )
}
