//! Packets through the whole module, and what tests of it share.

use std::time::{Duration, Instant};

use waystation_proto::{RoomId, StreamId, StreamKey};

use super::{
    clock::WallClock,
    departures::Departures,
    egress::Egress,
    history::PacketRef,
    ingress::{Arrival, Dropped, Ingress, IngressConfig},
    source::{Held, Source},
    store::Store,
};
use crate::plane::{
    Codec, CodecSpec, CongestionFeedback, EgressStart, EgressTrack, Extension, ExtensionKind, IngressTrack,
    Kind, Play, PlayId, Publish, PublishId, TransportId,
};

mod continuity;
mod egress;
mod ingress;

const VIDEO_SSRC: u32 = 0x0501;
const VIDEO_RTX_SSRC: u32 = 0x0502;
const AUDIO_SSRC: u32 = 0x0503;
const OUT_VIDEO: u32 = 0x0b01;
const OUT_RTX: u32 = 0x0b02;
const OUT_AUDIO: u32 = 0x0b03;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn stream() -> StreamKey {
    StreamKey { room: RoomId::new("room").unwrap(), stream: StreamId::new("stream").unwrap() }
}

fn ingress_track(kind: Kind) -> IngressTrack {
    let video = kind == Kind::Video;
    let codec = CodecSpec {
        codec: if video { Codec::Vp8 } else { Codec::Opus },
        clock_rate: if video { 90_000 } else { 48_000 },
        channels: if video { 0 } else { 2 },
        fmtp: "".into(),
    };
    let extension = |id, kind| Extension { id, kind };
    IngressTrack {
        kind,
        mid: if video { "1" } else { "0" }.into(),
        codec,
        payload_type: if video { 96 } else { 111 },
        rtx_payload_type: video.then_some(97),
        ssrc: None,
        rtx_ssrc: None,
        extensions: vec![
            extension(4, ExtensionKind::Mid),
            extension(5, ExtensionKind::TransportCc),
            extension(6, ExtensionKind::AbsCaptureTime),
        ],
        nack: true,
        pli: true,
        feedback: CongestionFeedback::TransportCc,
    }
}

fn publish() -> Publish {
    Publish {
        id: PublishId(1),
        transport: TransportId(1),
        stream: stream(),
        tracks: vec![ingress_track(Kind::Audio), ingress_track(Kind::Video)],
    }
}

fn play(start: EgressStart) -> Play {
    let extension = |id, kind| Extension { id, kind };
    let track = |kind, codec, payload_type, rtx_payload_type, ssrc| EgressTrack {
        kind,
        codec,
        payload_type,
        rtx_payload_type,
        ssrc,
        rtx_ssrc: OUT_RTX,
        mid: "v".into(),
        extensions: vec![
            extension(1, ExtensionKind::TransportCc),
            extension(2, ExtensionKind::AbsSendTime),
            extension(3, ExtensionKind::Mid),
        ],
        nack: true,
    };
    Play {
        id: PlayId(1),
        transport: TransportId(2),
        stream: stream(),
        tracks: vec![
            track(Kind::Audio, Codec::Opus, 100, None, OUT_AUDIO),
            track(Kind::Video, Codec::Vp8, 101, Some(102), OUT_VIDEO),
        ],
        start,
    }
}

/// One publisher's packet.
#[derive(Clone, Debug)]
struct Sent {
    ssrc: u32,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
    padding: u8,
}

impl Sent {
    fn video(sequence: u16, timestamp: u32, keyframe: bool) -> Self {
        Self {
            ssrc: VIDEO_SSRC,
            payload_type: 96,
            sequence,
            timestamp,
            marker: false,
            payload: vp8(sequence & 0x7fff, sequence as u8, keyframe),
            padding: 0,
        }
    }

    fn audio(sequence: u16, timestamp: u32) -> Self {
        let payload = vec![sequence as u8; 20];
        Self { ssrc: AUDIO_SSRC, payload_type: 111, sequence, timestamp, marker: false, payload, padding: 0 }
    }

    fn probe(sequence: u16, timestamp: u32) -> Self {
        Self { payload: vec![], padding: 200, ..Self::video(sequence, timestamp, false) }
    }

    /// As its retransmission.
    fn repeated(&self, rtx_sequence: u16) -> Self {
        let mut payload = self.sequence.to_be_bytes().to_vec();
        payload.extend(&self.payload);
        Self { ssrc: VIDEO_RTX_SSRC, payload_type: 97, sequence: rtx_sequence, payload, ..self.clone() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x80, u8::from(self.marker) << 7 | self.payload_type];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.extend(&self.payload);
        if self.padding > 0 {
            bytes[0] |= 0x20;
            bytes.resize(bytes.len() + usize::from(self.padding), 0);
            *bytes.last_mut().unwrap() = self.padding;
        }
        bytes
    }
}

/// A VP8 payload with a 15-bit picture id and a TL0PICIDX.
fn vp8(picture: u16, base_layer: u8, keyframe: bool) -> Vec<u8> {
    let [high, low] = (picture | 0x8000).to_be_bytes();
    vec![0x90, 0xc0, high, low, base_layer, u8::from(!keyframe), 0xaa, 0xbb]
}

fn new_ingress(clock: WallClock, publish: &Publish) -> Ingress {
    let config = IngressConfig { clock, ssrc: 7, cname: "cname".into(), remb_cap_bits_per_second: 4_000_000 };
    Ingress::new(publish, config)
}

/// A publish, the stream and one play.
struct Pipe {
    start: Instant,
    ingress: Ingress,
    source: Source,
    store: Store,
    egress: Egress,
    departures: Departures,
}

impl Pipe {
    fn new(start: EgressStart) -> Self {
        let now = Instant::now();
        let clock = WallClock::new(now, Duration::from_secs(1_000_000));
        Self {
            start: now,
            ingress: new_ingress(clock, &publish()),
            source: Source::new(clock),
            store: Store::default(),
            egress: Egress::new(&play(start), clock, 42),
            departures: Departures::new(now),
        }
    }

    /// Another publish feeds the stream.
    fn switch(&mut self, at_ms: u64) {
        let clock = WallClock::new(self.start, Duration::from_secs(1_000_000));
        self.ingress = new_ingress(clock, &publish());
        self.source.switch(self.start + ms(at_ms));
    }

    fn receive(&mut self, at_ms: u64, sent: &Sent) -> Result<Arrival, Dropped> {
        self.ingress.receive(self.start + ms(at_ms), &sent.bytes())
    }

    fn accept(&mut self, at_ms: u64, sent: &Sent) -> Result<PacketRef, Held> {
        let arrival = self.receive(at_ms, sent).unwrap();
        self.source.accept(self.start + ms(at_ms), &arrival, &sent.bytes(), &mut self.store)
    }

    /// What the player gets of a packet.
    fn send(&mut self, at_ms: u64, sent: &Sent) -> Option<Vec<u8>> {
        let id = self.accept(at_ms, sent).ok()?;
        self.write(at_ms, id)
    }

    fn write(&mut self, at_ms: u64, id: PacketRef) -> Option<Vec<u8>> {
        let packet = self.store.get(id).unwrap();
        let mut out = [0; 1500];
        let now = self.start + ms(at_ms);
        let written = self.egress.write(now, &packet, 0, &mut self.departures, &mut out).ok()?;
        Some(out[..written.bytes].to_vec())
    }
}
