//! The door between the control half and the data plane: plain types, no behaviour.
//!
//! The control half sends [`Command`]s and hears [`PlaneEvent`]s. Ids are chosen by the control half and never used
//! again, so that a late event about a closed thing is harmless. Commands about one transport arrive in order.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use waystation_proto::{Claim, StreamKey};

/// One peer address with its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportId(pub u64);

/// One source of a stream on a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(pub u64);

/// One sink of a stream on a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlayId(pub u64);

/// What the control half wants.
#[derive(Debug)]
pub enum Command {
    /// A client's transport: wait for its STUN checks, then DTLS.
    OpenClient(ClientTransport),
    /// A link's transport: address and keys are known.
    OpenLink(LinkTransport),
    /// New ICE credentials after an ICE restart (RFC 8445 §9); DTLS and keys stay.
    RestartIce {
        /// Which transport.
        transport: TransportId,
        /// The new local and remote credentials.
        ice: IceCredentials,
    },
    /// Ends a transport with all its publishes and plays; DTLS peers get a close_notify.
    CloseTransport(TransportId),
    /// A source of a stream. It forwards nothing before [`Command::Activate`].
    Publish(Publish),
    /// Makes a publish active under a claim; of a stream's active publishes the highest claim is forwarded.
    Activate {
        /// Which publish.
        publish: PublishId,
        /// Its claim.
        claim: Claim,
    },
    /// Ends a publish.
    Unpublish(PublishId),
    /// A sink of a stream, which need not have a source yet.
    Play(Play),
    /// Ends a play.
    Unplay(PlayId),
}

/// Which certificate a peer's SDP names (RFC 8122 §5). The order is that of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fingerprint {
    /// `sha-256`
    Sha256([u8; 32]),
    /// `sha-384`
    Sha384([u8; 48]),
    /// `sha-512`
    Sha512([u8; 64]),
}

/// A client's transport.
#[derive(Clone, Debug)]
pub struct ClientTransport {
    /// Its id.
    pub id: TransportId,
    /// ICE credentials of both sides. The local ufrag must start with the plane's prefix for this transport, see
    /// `Plane::local_ufrag`.
    pub ice: IceCredentials,
    /// Of the peer's certificate, from its SDP.
    pub peer_fingerprint: Fingerprint,
    /// Our side of DTLS.
    pub role: DtlsRole,
    /// Send an SRTCP packet whenever nothing else was sent for this long.
    pub beat: Option<Duration>,
    /// Whom it will publish or play: a hint for the choice of worker.
    pub near: Option<StreamKey>,
}

/// ICE credentials (RFC 8445 §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceCredentials {
    /// Ours.
    pub local_ufrag: String,
    /// Ours.
    pub local_pwd: String,
    /// The peer's.
    pub remote_ufrag: String,
}

/// Which side of DTLS we are (RFC 8842).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// `a=setup:active`: we send the hello.
    Client,
    /// `a=setup:passive`.
    Server,
}

/// A link's transport: AEAD_AES_128_GCM (RFC 7714) with keys from the link's handshake.
#[derive(Clone)]
pub struct LinkTransport {
    /// Its id.
    pub id: TransportId,
    /// The peer's media port.
    pub peer: SocketAddr,
    /// Master key with which we seal.
    pub local_key: [u8; 16],
    /// Master salt with which we seal.
    pub local_salt: [u8; 12],
    /// Master key with which the peer seals.
    pub remote_key: [u8; 16],
    /// Master salt with which the peer seals.
    pub remote_salt: [u8; 12],
}

impl std::fmt::Debug for LinkTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkTransport")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// A source of a stream.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Its id.
    pub id: PublishId,
    /// Where its packets arrive.
    pub transport: TransportId,
    /// What it feeds.
    pub stream: StreamKey,
    /// Its tracks; at most one audio and one video.
    pub tracks: Vec<IngressTrack>,
}

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Opus.
    Audio,
    /// VP8, H.264, VP9 or AV1.
    Video,
}

/// What passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 6184.
    H264,
    /// RFC 9628.
    Vp9,
    /// AOM's RTP payload format.
    Av1,
}

/// A codec with its parameters, as the publisher described it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CodecSpec {
    /// Which codec.
    pub codec: Codec,
    /// Hz.
    pub clock_rate: u32,
    /// 0 for video.
    pub channels: u8,
    /// The fmtp line without the payload type; empty if there was none.
    pub fmtp: Arc<str>,
}

/// A header extension under its negotiated id (RFC 8285).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Extension {
    /// 1 to 255; 1 to 14 in the one-byte form.
    pub id: u8,
    /// Which extension.
    pub kind: ExtensionKind,
}

/// Header extensions that the relay acts on or passes through; others are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtensionKind {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    Rid,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    RepairedRid,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`
    TransportCc,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`
    AbsSendTime,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`
    AbsCaptureTime,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`
    AudioLevel,
    /// `urn:3gpp:video-orientation`
    VideoOrientation,
    /// `https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension`
    DependencyDescriptor,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`
    PlayoutDelay,
    /// `urn:waystation:rtp-hdrext:backlog`, on links alone: how far behind the live edge an old packet is.
    Backlog,
}

/// A track as it arrives.
#[derive(Clone, Debug)]
pub struct IngressTrack {
    /// Audio or video.
    pub kind: Kind,
    /// Value of the mid extension, for sources that announce no SSRC; empty on a link.
    pub mid: String,
    /// The codec.
    pub codec: CodecSpec,
    /// Its payload type.
    pub payload_type: u8,
    /// Payload type of its retransmissions (RFC 4588), if negotiated.
    pub rtx_payload_type: Option<u8>,
    /// Announced SSRC, if any: otherwise the first packet with this payload type binds it.
    pub ssrc: Option<u32>,
    /// Announced SSRC of its retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// Negotiated extensions.
    pub extensions: Vec<Extension>,
    /// Whether generic NACK was negotiated.
    pub nack: bool,
    /// Whether PLI was negotiated.
    pub pli: bool,
    /// What congestion feedback the sender wants.
    pub feedback: CongestionFeedback,
}

/// Feedback that lets a sender find its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CongestionFeedback {
    /// None was negotiated.
    None,
    /// `goog-remb`
    Remb,
    /// `transport-cc`
    TransportCc,
}

/// A sink of a stream.
#[derive(Clone, Debug)]
pub struct Play {
    /// Its id.
    pub id: PlayId,
    /// Where its packets go.
    pub transport: TransportId,
    /// What it takes.
    pub stream: StreamKey,
    /// Its tracks; at most one audio and one video. A track of the stream that is not here is not sent.
    pub tracks: Vec<EgressTrack>,
    /// How output sequence numbers and timestamps start.
    pub start: EgressStart,
}

/// How output numbers start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EgressStart {
    /// At random values of our own (a client).
    Fresh,
    /// At the publisher's (a link).
    Passthrough,
}

/// A track as it leaves.
#[derive(Clone, Debug)]
pub struct EgressTrack {
    /// Audio or video.
    pub kind: Kind,
    /// The codec that was negotiated; packets of another codec are not sent.
    pub codec: Codec,
    /// Its payload type.
    pub payload_type: u8,
    /// Payload type of retransmissions, if negotiated.
    pub rtx_payload_type: Option<u8>,
    /// Our SSRC.
    pub ssrc: u32,
    /// Our SSRC of retransmissions.
    pub rtx_ssrc: u32,
    /// Value of the mid extension; empty on a link.
    pub mid: String,
    /// Negotiated extensions.
    pub extensions: Vec<Extension>,
    /// Whether generic NACK was negotiated.
    pub nack: bool,
}

/// What the data plane saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaneEvent {
    /// Keys are there and an address is known.
    TransportUp {
        /// Which.
        transport: TransportId,
        /// SRTP protection profile, by its IANA name.
        profile: &'static str,
    },
    /// The transport is gone; the plane has forgotten it and all on it.
    TransportDown {
        /// Which.
        transport: TransportId,
        /// Why.
        why: TransportEnd,
    },
    /// A publish, activated or not, began to receive media, or received none for a second.
    PublishFlow {
        /// Which.
        publish: PublishId,
        /// Whether media arrives.
        flowing: bool,
    },
    /// Another publish feeds the stream now, or none.
    StreamSource {
        /// Which stream.
        stream: StreamKey,
        /// Its source.
        publish: Option<PublishId>,
        /// Under this claim.
        claim: Claim,
    },
    /// A play sent its first media, or none for a second.
    PlayFlow {
        /// Which.
        play: PlayId,
        /// Whether media is sent.
        flowing: bool,
    },
}

/// Why a transport ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportEnd {
    /// By [`Command::CloseTransport`].
    Closed,
    /// The peer sent close_notify.
    ByPeer,
    /// No STUN, RTP or RTCP for the session time-out.
    Silent,
    /// DTLS failed; the text says how.
    Dtls(String),
    /// The peer's certificate is not the one its SDP named.
    WrongFingerprint,
}
