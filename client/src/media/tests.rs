//! What goes in as samples comes out as samples: through packetiser, any network, jitter buffer and assembly.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    Codec, JitterBuffer, Kind, OutgoingTrack, ReceivedSample, RtpPacket, Sample, VideoCodec, WriteError,
    assemble, keyframe::is_keyframe, starts_keyframe,
};

const PATIENCE: Duration = Duration::from_millis(200);

fn codecs() -> impl Strategy<Value = Codec> {
    prop_oneof![Just(Codec::Opus), prop::sample::select(VideoCodec::ALL.to_vec()).prop_map(Codec::Video),]
}

/// A frame as an encoder of that codec would begin it. The body has no Annex B start code in it.
fn frame(codec: Codec, keyframe: bool, body: &[u8]) -> Bytes {
    let body: Vec<u8> = body.iter().map(|byte| byte | 0x80).collect();
    let obu = |obu_type: u8, body: &[u8]| {
        let mut bytes = vec![obu_type << 3 | 2];
        let mut left = body.len();
        while left > 0x7f {
            bytes.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
        [&bytes, body].concat()
    };
    let nal = |header: u8, body: &[u8]| [&[0, 0, 0, 1, header][..], body].concat();
    let bytes = match codec {
        Codec::Opus => body,
        Codec::Video(VideoCodec::Vp8) => [&[u8::from(!keyframe)][..], &body].concat(),
        Codec::Video(VideoCodec::Vp9) => [&[if keyframe { 0x80 } else { 0x84 }][..], &body].concat(),
        Codec::Video(VideoCodec::H264) if keyframe => {
            [nal(0x67, &[0x81; 20]), nal(0x68, &[0x81; 5]), nal(0x65, &body)].concat()
        }
        Codec::Video(VideoCodec::H264) => nal(0x41, &body),
        Codec::Video(VideoCodec::Av1) if keyframe => [obu(1, &[0x81; 12]), obu(6, &body)].concat(),
        Codec::Video(VideoCodec::Av1) => obu(6, &body),
    };
    bytes.into()
}

/// A sender's clip: each frame a keyframe or not, and its body.
fn clip(codec: Codec) -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    let longest = if codec == Codec::Opus { 400 } else { 9_000 };
    let frame = (any::<bool>(), prop::collection::vec(any::<u8>(), 4..longest));
    prop::collection::vec(frame, 1..12).prop_map(|mut frames| {
        frames[0].0 = true;
        frames
    })
}

fn packetise(codec: Codec, clip: &[(bool, Vec<u8>)], first_number: u16) -> (Vec<Bytes>, Vec<Vec<RtpPacket>>) {
    let mut track = OutgoingTrack::new(codec, 9, first_number, u32::MAX - 5_000);
    let frames: Vec<Bytes> = clip.iter().map(|(keyframe, body)| frame(codec, *keyframe, body)).collect();
    let write = |(n, data): (usize, &Bytes)| {
        let timestamp = Duration::from_millis(20) * n as u32;
        track.write_sample(&Sample { data: data.clone(), timestamp }).unwrap()
    };
    let packets = frames.iter().enumerate().map(write).collect();
    (frames, packets)
}

fn drain(buffer: &mut JitterBuffer, now: Instant) -> Vec<ReceivedSample> {
    std::iter::from_fn(|| buffer.pop(now)).collect()
}

proptest! {
    #[test]
    fn every_frame_survives_its_packets_in_any_order_and_doubled(
        (codec, clip) in codecs().prop_flat_map(|codec| (Just(codec), clip(codec))),
        first_number in any::<u16>(),
        order in any::<prop::sample::Index>(),
        doubled in any::<prop::sample::Index>(),
    ) {
        let now = Instant::now();
        let (frames, packets) = packetise(codec, &clip, first_number);
        let mut packets: Vec<RtpPacket> = packets.into_iter().flatten().collect();
        // The first packet says where the count begins; what comes before it is too old.
        let mut buffer = JitterBuffer::new(PATIENCE);
        buffer.push(packets.remove(0), now);
        if !packets.is_empty() {
            let at = order.index(packets.len());
            packets.rotate_left(at);
            let again = packets[doubled.index(packets.len())].clone();
            packets.push(again);
        }
        let mut samples = Vec::new();
        for packet in packets {
            prop_assert!(packet.payload.len() <= 1_180);
            buffer.push(packet, now);
            samples.extend(drain(&mut buffer, now));
        }
        samples.extend(drain(&mut buffer, now));
        prop_assert_eq!(samples.len(), frames.len());
        for (n, (sample, (keyframe, _))) in samples.iter().zip(&clip).enumerate() {
            prop_assert_eq!(&sample.data, &frames[n]);
            prop_assert_eq!(sample.keyframe, *keyframe || codec == Codec::Opus);
            prop_assert!(!sample.lost_before);
        }
        prop_assert_eq!(buffer.stats().lost, 0);
    }

    #[test]
    fn a_frame_with_a_lost_packet_is_left_out_and_the_next_one_says_so(
        codec in prop::sample::select(vec![VideoCodec::Vp8, VideoCodec::Vp9]).prop_map(Codec::Video),
        sizes in prop::collection::vec(10_usize..5_000, 4..10),
        which in any::<prop::sample::Index>(),
    ) {
        let now = Instant::now();
        let clip: Vec<(bool, Vec<u8>)> = sizes.iter().map(|&size| (true, vec![7; size])).collect();
        let (frames, packets) = packetise(codec, &clip, 65_530);
        // Neither the first frame nor the last: a loss at the end is not known to be one.
        let torn = 1 + which.index(frames.len() - 2);
        let mut buffer = JitterBuffer::new(PATIENCE);
        for (n, mut frame) in packets.into_iter().enumerate() {
            if n == torn {
                frame.remove(which.index(frame.len()));
            }
            frame.into_iter().for_each(|packet| buffer.push(packet, now));
        }
        let before = drain(&mut buffer, now);
        prop_assert_eq!(before.len(), torn);
        prop_assert_eq!(buffer.poll_timeout(), Some(now + PATIENCE));
        let after = drain(&mut buffer, now + PATIENCE);
        prop_assert_eq!(after.len(), frames.len() - torn - 1);
        prop_assert_eq!(&after[0].data, &frames[torn + 1]);
        prop_assert!(after[0].lost_before);
        prop_assert!(after[1..].iter().all(|sample| !sample.lost_before));
        prop_assert_eq!(buffer.stats().lost, 1);
    }

    #[test]
    fn any_payloads_assemble_or_are_refused_without_a_panic(
        codec in codecs(),
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5),
    ) {
        let payloads: Vec<Bytes> = payloads.into_iter().map(Bytes::from).collect();
        let _ = assemble(codec, &payloads);
        for payload in &payloads {
            let _ = (starts_keyframe(codec, payload), is_keyframe(codec, payload));
        }
    }

    #[test]
    fn any_sample_and_any_packet_are_sent_or_refused_without_a_panic(
        codec in codecs(),
        data in prop::collection::vec(any::<u8>(), 0..3_000),
    ) {
        let mut track = OutgoingTrack::new(codec, 9, 0, 0);
        let _ = track.write_rtp(&data);
        let _ = track.write_sample(&Sample { data: data.into(), timestamp: Duration::ZERO });
    }

    #[test]
    fn any_packets_keep_the_buffer_bounded_and_in_order(
        packets in prop::collection::vec((0..3_u32, any::<u16>(), 0..9_u32, any::<bool>(), prop::collection::vec(any::<u8>(), 0..9)), 0..200),
        codec in codecs(),
    ) {
        let start = Instant::now();
        let mut buffer = JitterBuffer::new(PATIENCE);
        for (n, (ssrc, sequence_number, timestamp, marker, payload)) in packets.into_iter().enumerate() {
            let now = start + Duration::from_millis(7) * n as u32;
            buffer.push(RtpPacket { codec, ssrc, sequence_number, timestamp, marker, payload: payload.into() }, now);
            drain(&mut buffer, now);
        }
        drain(&mut buffer, start + Duration::from_secs(60));
        prop_assert_eq!(buffer.poll_timeout(), None);
    }
}

#[test]
fn after_an_interruption_video_waits_for_a_keyframe_and_numbers_close_up() {
    // PUB-6
    let codec = Codec::Video(VideoCodec::Vp8);
    let mut track = OutgoingTrack::new(codec, 9, 100, 0);
    let write = |track: &mut OutgoingTrack, keyframe, ms| {
        let data = frame(codec, keyframe, &[1; 50]);
        track.write_sample(&Sample { data, timestamp: Duration::from_millis(ms) }).unwrap()
    };
    assert_eq!(write(&mut track, false, 0), vec![], "a stream begins with a keyframe");
    assert_eq!(write(&mut track, true, 40)[0].sequence_number, 100);
    assert_eq!(write(&mut track, false, 80)[0].sequence_number, 101);
    track.interrupt();
    assert_eq!(write(&mut track, false, 120), vec![]);
    let resumed = write(&mut track, true, 160);
    assert_eq!((resumed[0].sequence_number, resumed[0].timestamp), (102, 160 * 90));
    assert!(starts_keyframe(codec, &resumed[0].payload));
}

#[test]
fn rtp_of_the_app_keeps_its_gaps_but_not_those_that_waiting_made() {
    // PUB-6
    let codec = Codec::Video(VideoCodec::Vp8);
    let packet = |number: u16, keyframe: bool| {
        let head = [0x80, 0x80 | 96, (number >> 8) as u8, number as u8, 0, 0, 0, 1, 0, 0, 0, 2];
        [&head[..], &[0x10, u8::from(!keyframe), 0x80, 0x80]].concat()
    };
    let mut track = OutgoingTrack::new(codec, 9, 0, 0);
    let mut number = |bytes: &[u8]| track.write_rtp(bytes).unwrap().map(|packet| packet.sequence_number);
    assert_eq!(number(&packet(10, false)), None);
    assert_eq!(number(&packet(11, true)), Some(10));
    assert_eq!(number(&packet(13, false)), Some(12));
    assert!(matches!(track.write_rtp(&[0x80; 5]), Err(WriteError::Malformed { .. })));
    assert!(matches!(track.write_rtp(&[0x80; 1_500]), Err(WriteError::PacketTooLarge { bytes: 1_500 })));
}

#[test]
fn a_new_source_begins_at_once_and_says_that_something_may_be_missing() {
    let now = Instant::now();
    let codec = Codec::Opus;
    let packet = |ssrc, sequence_number| RtpPacket {
        codec,
        ssrc,
        sequence_number,
        timestamp: u32::from(sequence_number),
        marker: false,
        payload: Bytes::from_static(b"sound"),
    };
    let mut buffer = JitterBuffer::new(PATIENCE);
    buffer.push(packet(1, 5), now);
    assert!(!buffer.pop(now).unwrap().lost_before);
    buffer.push(packet(2, 40_000), now);
    assert!(buffer.pop(now).unwrap().lost_before);
    assert_eq!(codec.kind(), Kind::Audio);
}

#[test]
fn a_stall_of_the_whole_buffer_ends_when_it_is_full() {
    let now = Instant::now();
    let mut buffer = JitterBuffer::new(PATIENCE);
    let mut samples = 0;
    for sequence_number in (0..5_000_u16).filter(|&number| number != 1) {
        let timestamp = u32::from(sequence_number);
        let payload = Bytes::from_static(b"x");
        buffer.push(
            RtpPacket { codec: Codec::Opus, ssrc: 1, sequence_number, timestamp, marker: false, payload },
            now,
        );
        samples += drain(&mut buffer, now).len();
    }
    assert_eq!((samples, buffer.stats().lost), (4_999, 1));
}
