//! What relays say to each other over a link, as the core knows it, and its way to the wire and back.

use std::sync::Arc;

use thiserror::Error;
use waystation_proto::{
    Claim, IdError, NodeError, NodeId, NodeRef, StreamKey,
    v1::{self, link_message::Message},
};

use super::TrackInfo;
use crate::plane::{
    Codec, CodecSpec, CongestionFeedback, EgressTrack, Extension, ExtensionKind, IngressTrack, Kind,
};

/// Most nodes that a subscription came through. The design refuses the fourth hop.
pub(crate) const MAX_HOPS: usize = 3;
/// Most tracks of a stream: one audio and one video.
const MAX_TRACKS: usize = 2;
/// Most header extensions of a track.
const MAX_EXTENSIONS: usize = 32;
/// Longest fmtp line.
const MAX_FMTP_BYTES: usize = 1024;
/// Longest reason of a refusal that is passed on.
const MAX_REASON_BYTES: usize = 256;

/// A message after the handshake. Beats are the link's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerMessage {
    Subscribe { id: u64, stream: StreamKey, path: Vec<NodeId> },
    Subscribed { id: u64, claim: Claim, origin: NodeRef, tracks: Vec<LinkTrack> },
    NotHere { id: u64, reason: String },
    Unsubscribe { id: u64 },
    Unpublished { id: u64 },
    Announce { stream: StreamKey, claim: Claim, origin: NodeRef },
    Withdraw { stream: StreamKey, claim: Claim },
    Where { id: u64, stream: StreamKey },
    Whereabouts { id: u64, found: Option<(NodeRef, Claim)> },
}

/// A track as it travels on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkTrack {
    pub info: TrackInfo,
    pub payload_type: u8,
    pub ssrc: u32,
    pub rtx_payload_type: u8,
    pub rtx_ssrc: u32,
}

/// A link message that cannot be taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum MessageError {
    #[error("link message lacks its {0}")]
    Missing(&'static str),
    #[error("link message: {0}")]
    Id(#[from] IdError),
    #[error("link message: {0}")]
    Node(#[from] NodeError),
    #[error("link message has {count} {what}, at most {most} are allowed")]
    TooMany { what: &'static str, count: usize, most: usize },
    #[error("link message: {what} {value} is out of range")]
    Range { what: &'static str, value: u32 },
    #[error("link message: codec {0:?} is unknown, or not of its track's kind")]
    Codec(String),
    #[error("link message: two tracks of one kind, or two tracks with one SSRC")]
    TrackTwice,
    #[error("a handshake message after the handshake")]
    Handshake,
}

fn stream_key(wire: Option<v1::StreamRef>) -> Result<StreamKey, MessageError> {
    Ok(wire.ok_or(MessageError::Missing("stream"))?.try_into()?)
}

fn node_ref(wire: Option<v1::NodeRef>) -> Result<NodeRef, MessageError> {
    Ok(wire.ok_or(MessageError::Missing("node"))?.try_into()?)
}

fn claim(wire: Option<v1::Claim>) -> Result<Claim, MessageError> {
    Ok(wire.ok_or(MessageError::Missing("claim"))?.into())
}

impl PeerMessage {
    /// The message behind a wire message; `None` for a beat, or a kind that this version does not know.
    ///
    /// # Errors
    /// [`MessageError`] says what cannot be taken.
    pub(crate) fn from_wire(wire: v1::LinkMessage) -> Result<Option<Self>, MessageError> {
        let Some(message) = wire.message else { return Ok(None) };
        Ok(Some(match message {
            Message::Hello(_) | Message::Proof(_) => return Err(MessageError::Handshake),
            Message::Beat(_) => return Ok(None),
            Message::Subscribe(m) => {
                too_many("nodes in its path", m.path.len(), MAX_HOPS + 1)?;
                let path = m.path.iter().map(|id| NodeId::new(id)).collect::<Result<_, _>>()?;
                Self::Subscribe { id: m.id, stream: stream_key(m.stream)?, path }
            }
            Message::Subscribed(m) => Self::Subscribed {
                id: m.id,
                claim: claim(m.claim)?,
                origin: node_ref(m.origin)?,
                tracks: tracks(m.tracks)?,
            },
            Message::NotHere(m) => {
                Self::NotHere { id: m.id, reason: m.reason.chars().take(MAX_REASON_BYTES).collect() }
            }
            Message::Unsubscribe(m) => Self::Unsubscribe { id: m.id },
            Message::Unpublished(m) => Self::Unpublished { id: m.id },
            Message::Announce(m) => Self::Announce {
                stream: stream_key(m.stream)?,
                claim: claim(m.claim)?,
                origin: node_ref(m.origin)?,
            },
            Message::Withdraw(m) => Self::Withdraw { stream: stream_key(m.stream)?, claim: claim(m.claim)? },
            Message::Where(m) => Self::Where { id: m.id, stream: stream_key(m.stream)? },
            Message::Whereabouts(m) => {
                let found = match m.origin {
                    Some(origin) => Some((origin.try_into()?, claim(m.claim)?)),
                    None => None,
                };
                Self::Whereabouts { id: m.id, found }
            }
        }))
    }

    /// The message as it travels.
    pub(crate) fn to_wire(&self) -> v1::LinkMessage {
        let message = match self {
            Self::Subscribe { id, stream, path } => Message::Subscribe(v1::Subscribe {
                id: *id,
                stream: Some(stream.into()),
                path: path.iter().map(ToString::to_string).collect(),
            }),
            Self::Subscribed { id, claim, origin, tracks } => Message::Subscribed(v1::Subscribed {
                id: *id,
                claim: Some((*claim).into()),
                tracks: tracks.iter().map(Into::into).collect(),
                origin: Some(origin.into()),
            }),
            Self::NotHere { id, reason } => Message::NotHere(v1::NotHere { id: *id, reason: reason.clone() }),
            Self::Unsubscribe { id } => Message::Unsubscribe(v1::Unsubscribe { id: *id }),
            Self::Unpublished { id } => Message::Unpublished(v1::Unpublished { id: *id }),
            Self::Announce { stream, claim, origin } => Message::Announce(v1::Announce {
                stream: Some(stream.into()),
                claim: Some((*claim).into()),
                origin: Some(origin.into()),
            }),
            Self::Withdraw { stream, claim } => {
                Message::Withdraw(v1::Withdraw { stream: Some(stream.into()), claim: Some((*claim).into()) })
            }
            Self::Where { id, stream } => Message::Where(v1::Where { id: *id, stream: Some(stream.into()) }),
            Self::Whereabouts { id, found } => Message::Whereabouts(v1::Whereabouts {
                id: *id,
                origin: found.as_ref().map(|(origin, _)| origin.into()),
                claim: found.as_ref().map(|(_, claim)| (*claim).into()),
            }),
        };
        v1::LinkMessage { message: Some(message) }
    }
}

fn too_many(what: &'static str, count: usize, most: usize) -> Result<(), MessageError> {
    if count > most { Err(MessageError::TooMany { what, count, most }) } else { Ok(()) }
}

fn tracks(wire: Vec<v1::LinkTrack>) -> Result<Vec<LinkTrack>, MessageError> {
    too_many("tracks", wire.len(), MAX_TRACKS)?;
    let tracks = wire.into_iter().map(LinkTrack::try_from).collect::<Result<Vec<_>, _>>()?;
    let mut ssrcs: Vec<_> = tracks.iter().flat_map(|t| [t.ssrc, t.rtx_ssrc]).collect();
    ssrcs.sort_unstable();
    let same_ssrc = ssrcs.windows(2).any(|pair| pair[0] == pair[1]);
    let same_kind = tracks.len() == MAX_TRACKS && tracks[0].info.kind == tracks[1].info.kind;
    if same_ssrc || same_kind { Err(MessageError::TrackTwice) } else { Ok(tracks) }
}

fn payload_type(value: u32) -> Result<u8, MessageError> {
    u8::try_from(value)
        .ok()
        .filter(|value| *value < 128)
        .ok_or(MessageError::Range { what: "payload type", value })
}

impl TryFrom<v1::LinkTrack> for LinkTrack {
    type Error = MessageError;

    fn try_from(wire: v1::LinkTrack) -> Result<Self, MessageError> {
        too_many("extensions", wire.extensions.len(), MAX_EXTENSIONS)?;
        too_many("fmtp bytes", wire.fmtp.len(), MAX_FMTP_BYTES)?;
        let kind = match wire.kind() {
            v1::MediaKind::Audio => Kind::Audio,
            v1::MediaKind::Video => Kind::Video,
            v1::MediaKind::Unspecified => return Err(MessageError::Missing("track kind")),
        };
        let codec = CODECS.iter().find(|(_, name, of)| *name == wire.codec && *of == kind).map(|row| row.0);
        let extension = |e: v1::HeaderExtension| {
            let kind = EXTENSIONS.iter().find(|(_, uri)| *uri == e.uri).map(|row| row.0)?;
            let id = u8::try_from(e.id).ok().filter(|id| *id > 0)?;
            Some(Extension { id, kind })
        };
        let channels = u8::try_from(wire.channels)
            .map_err(|_| MessageError::Range { what: "channels", value: wire.channels })?;
        if wire.clock_rate == 0 {
            return Err(MessageError::Range { what: "clock rate", value: 0 });
        }
        Ok(Self {
            info: TrackInfo {
                kind,
                codec: CodecSpec {
                    codec: codec.ok_or(MessageError::Codec(wire.codec))?,
                    clock_rate: wire.clock_rate,
                    channels,
                    fmtp: Arc::from(wire.fmtp),
                },
                extensions: wire.extensions.into_iter().filter_map(extension).collect(),
            },
            payload_type: payload_type(wire.payload_type)?,
            ssrc: wire.ssrc,
            rtx_payload_type: payload_type(wire.rtx_payload_type)?,
            rtx_ssrc: wire.rtx_ssrc,
        })
    }
}

impl From<&LinkTrack> for v1::LinkTrack {
    fn from(track: &LinkTrack) -> Self {
        let info = &track.info;
        let kind = match info.kind {
            Kind::Audio => v1::MediaKind::Audio,
            Kind::Video => v1::MediaKind::Video,
        };
        let name = CODECS.iter().find(|row| row.0 == info.codec.codec).map_or("", |row| row.1);
        let extension = |e: &Extension| v1::HeaderExtension {
            id: e.id.into(),
            uri: EXTENSIONS.iter().find(|row| row.0 == e.kind).map_or("", |row| row.1).to_owned(),
        };
        Self {
            kind: kind.into(),
            codec: name.to_owned(),
            clock_rate: info.codec.clock_rate,
            channels: info.codec.channels.into(),
            fmtp: info.codec.fmtp.to_string(),
            payload_type: track.payload_type.into(),
            ssrc: track.ssrc,
            rtx_payload_type: track.rtx_payload_type.into(),
            rtx_ssrc: track.rtx_ssrc,
            extensions: info.extensions.iter().map(extension).collect(),
        }
    }
}

impl LinkTrack {
    /// The track as it arrives at the subscriber.
    pub(super) fn ingress(&self) -> IngressTrack {
        IngressTrack {
            kind: self.info.kind,
            mid: String::new(),
            codec: self.info.codec.clone(),
            payload_type: self.payload_type,
            rtx_payload_type: Some(self.rtx_payload_type),
            ssrc: Some(self.ssrc),
            rtx_ssrc: Some(self.rtx_ssrc),
            extensions: self.info.extensions.clone(),
            nack: true,
            pli: self.info.kind == Kind::Video,
            feedback: CongestionFeedback::None,
        }
    }

    /// The track as it leaves the relay that has it.
    pub(super) fn egress(&self) -> EgressTrack {
        EgressTrack {
            kind: self.info.kind,
            codec: self.info.codec.codec,
            payload_type: self.payload_type,
            rtx_payload_type: Some(self.rtx_payload_type),
            ssrc: self.ssrc,
            rtx_ssrc: self.rtx_ssrc,
            mid: String::new(),
            extensions: self.info.extensions.clone(),
            nack: true,
        }
    }
}

const CODECS: [(Codec, &str, Kind); 5] = [
    (Codec::Opus, "opus", Kind::Audio),
    (Codec::Vp8, "VP8", Kind::Video),
    (Codec::H264, "H264", Kind::Video),
    (Codec::Vp9, "VP9", Kind::Video),
    (Codec::Av1, "AV1", Kind::Video),
];

/// What passes from one relay to the next: what describes the media, not one hop's identification or feedback.
const EXTENSIONS: [(ExtensionKind, &str); 7] = [
    (ExtensionKind::AbsCaptureTime, "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"),
    (ExtensionKind::AudioLevel, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
    (ExtensionKind::VideoOrientation, "urn:3gpp:video-orientation"),
    (
        ExtensionKind::DependencyDescriptor,
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    ),
    (ExtensionKind::PlayoutDelay, "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"),
    (ExtensionKind::AbsSendTime, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
    (ExtensionKind::Backlog, "urn:waystation:rtp-hdrext:backlog"),
];

/// Whether an extension that arrives leaves on links.
pub(super) fn travels(kind: ExtensionKind) -> bool {
    kind != ExtensionKind::Backlog && EXTENSIONS.iter().any(|row| row.0 == kind)
}

/// The extension that a link adds to video, under an id that is free.
pub(super) fn backlog(others: &[Extension]) -> Option<Extension> {
    let id = (1..=u8::MAX).find(|id| others.iter().all(|other| other.id != *id))?;
    Some(Extension { id, kind: ExtensionKind::Backlog })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use waystation_proto::v1;

    use super::PeerMessage;

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(wire) = v1::LinkMessage::decode(&*bytes) {
                let _ = PeerMessage::from_wire(wire);
            }
        }

        #[test]
        fn what_is_taken_from_the_wire_goes_back_to_it(
            id in any::<u64>(), room in "[a-z]{1,8}", epoch in any::<u64>(), moved in any::<u32>(),
            ssrc in 1u32..1000, codec in prop::sample::select(vec!["VP8", "H264", "VP9", "AV1"]), ext in 1u32..15,
        ) {
            let wire = v1::LinkMessage { message: Some(v1::link_message::Message::Subscribed(v1::Subscribed {
                id,
                claim: Some(v1::Claim { epoch, r#move: moved }),
                origin: Some(v1::NodeRef { id: room, incarnation: epoch }),
                tracks: vec![v1::LinkTrack {
                    kind: v1::MediaKind::Video.into(), codec: codec.into(), clock_rate: 90_000, channels: 0,
                    fmtp: "profile-id=0".into(), payload_type: 96, ssrc, rtx_payload_type: 97, rtx_ssrc: ssrc + 1,
                    extensions: vec![v1::HeaderExtension { id: ext, uri: "urn:3gpp:video-orientation".into() }],
                }],
            }))};
            let taken = PeerMessage::from_wire(wire.clone()).unwrap().unwrap();
            prop_assert_eq!(taken.to_wire(), wire);
        }
    }

    #[test]
    fn two_tracks_with_one_ssrc_are_refused() {
        let track = v1::LinkTrack {
            kind: v1::MediaKind::Video.into(),
            codec: "VP8".into(),
            clock_rate: 90_000,
            ssrc: 5,
            rtx_ssrc: 5,
            ..v1::LinkTrack::default()
        };
        let message = v1::Subscribed {
            claim: Some(v1::Claim::default()),
            origin: Some(v1::NodeRef { id: "a".into(), incarnation: 1 }),
            tracks: vec![track],
            ..v1::Subscribed::default()
        };
        let wire = v1::LinkMessage { message: Some(v1::link_message::Message::Subscribed(message)) };
        assert_eq!(PeerMessage::from_wire(wire), Err(super::MessageError::TrackTwice));
    }
}
