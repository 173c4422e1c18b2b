//! A link between two planes, as the control halves would open it.

use waystation_proto::Claim;
use waystation_relay::plane::{
    Codec, CodecSpec, Command, CongestionFeedback, EgressStart, EgressTrack, Extension, ExtensionKind,
    IngressTrack, Kind, Play, PlayId, Publish, PublishId, TransportId,
};

use crate::{
    cases::link_ends,
    scene::{Scene, VIDEO_PT, stream},
};

const LINK: u64 = 900;
const SSRC: u32 = 0x7777;

/// Stream `s` of the origin feeds stream `s` of the edge.
pub fn join(origin: &mut Scene, edge: &mut Scene) {
    let (from, to) = link_ends(origin, edge, LINK);
    origin.plane.send(Command::OpenLink(from));
    edge.plane.send(Command::OpenLink(to));
    origin.plane.send(Command::Play(Play {
        id: PlayId(LINK),
        transport: TransportId(LINK),
        stream: stream("s"),
        tracks: vec![EgressTrack {
            kind: Kind::Video,
            codec: Codec::Vp8,
            payload_type: VIDEO_PT,
            rtx_payload_type: Some(97),
            ssrc: SSRC,
            rtx_ssrc: SSRC + 1,
            mid: String::new(),
            extensions: vec![Extension { id: 1, kind: ExtensionKind::Backlog }],
            nack: true,
        }],
        start: EgressStart::Passthrough,
    }));
    edge.plane.send(Command::Publish(Publish {
        id: PublishId(LINK),
        transport: TransportId(LINK),
        stream: stream("s"),
        tracks: vec![IngressTrack {
            kind: Kind::Video,
            mid: String::new(),
            codec: CodecSpec { codec: Codec::Vp8, clock_rate: 90_000, channels: 0, fmtp: "".into() },
            payload_type: VIDEO_PT,
            rtx_payload_type: Some(97),
            ssrc: Some(SSRC),
            rtx_ssrc: Some(SSRC + 1),
            extensions: vec![Extension { id: 1, kind: ExtensionKind::Backlog }],
            nack: true,
            pli: true,
            feedback: CongestionFeedback::None,
        }],
    }));
    edge.plane.send(Command::Activate { publish: PublishId(LINK), claim: Claim::of_epoch(1) });
}
