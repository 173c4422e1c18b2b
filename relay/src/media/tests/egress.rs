//! What a player gets, again and reported.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::media::{
    clock::Ntp,
    egress::{NotResent, RESEND_INTERVAL, Skipped},
    player::Outcome,
    rtcp::{Message, ReportBlock, messages},
    rtcp_write::Writer,
    rtp::Header,
    timeline::LinePoint,
};

#[test]
fn video_starts_at_a_keyframe_and_audio_at_once() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    assert!(pipe.egress.awaits_keyframe());
    assert!(pipe.send(0, &Sent::audio(1, 0)).is_some());
    pipe.source.switch(pipe.start);
    let early = pipe.accept(0, &Sent::video(1, 0, true)).unwrap();
    let second = pipe.accept(0, &Sent::video(2, 3000, false)).unwrap();
    assert!(
        pipe.write(0, second).is_none() && pipe.egress.measure(&pipe.store.get(second).unwrap()).is_none()
    );
    assert!(pipe.write(0, early).is_some() && pipe.write(0, second).is_some());
    assert!(!pipe.egress.awaits_keyframe());
}

#[test]
fn a_player_of_another_codec_gets_nothing_of_the_track() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    let mut play = play(EgressStart::Fresh);
    play.tracks[1].codec = Codec::H264;
    pipe.egress = Egress::new(&play, WallClock::new(pipe.start, ms(0)), 1);
    let id = pipe.accept(0, &Sent::video(1, 0, true)).unwrap();
    let (packet, mut out) = (pipe.store.get(id).unwrap(), [0; 1500]);
    let result = pipe.egress.write(pipe.start, &packet, 0, &mut pipe.departures, &mut out);
    assert_eq!(result, Err(Skipped::OtherCodec(Codec::H264)));
}

#[test]
fn a_link_passes_the_publishers_numbers_on() {
    let mut pipe = Pipe::new(EgressStart::Passthrough);
    let sent = Sent::video(40_000, 123_456, true);
    let out = pipe.send(0, &sent).unwrap();
    let header = Header::parse(&out).unwrap();
    assert_eq!((header.sequence, header.timestamp), (40_000, 123_456));
    assert_eq!(out[header.payload.clone()], sent.payload[..]);
}

#[test]
fn short_packets_are_padded_as_asked_and_measured_right() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    for padding in 0..=3 {
        let id = pipe.accept(0, &Sent::video(u16::from(padding), 0, padding == 0)).unwrap();
        let (packet, mut out) = (pipe.store.get(id).unwrap(), [0xff; 1500]);
        let measured = pipe.egress.measure(&packet).unwrap();
        let written =
            pipe.egress.write(pipe.start, &packet, padding, &mut pipe.departures, &mut out).unwrap();
        assert_eq!(written.bytes, measured + usize::from(padding));
        let header = Header::parse(&out[..written.bytes]).unwrap();
        assert_eq!((header.padding_bytes, &out[header.payload]), (padding, packet.payload));
    }
}

#[test]
fn what_a_slow_player_missed_leaves_no_gap() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    let first = pipe.send(0, &Sent::video(1, 0, true)).unwrap();
    pipe.egress.restart_at_keyframe();
    let skipped = pipe.accept(1, &Sent::video(2, 3000, false)).unwrap();
    assert!(pipe.write(1, skipped).is_none());
    let next = pipe.send(2, &Sent::video(3, 6000, true)).unwrap();
    let number = |packet: &[u8]| Header::parse(packet).unwrap().sequence;
    assert_eq!(number(&next), number(&first).wrapping_add(1));
    assert!(pipe.write(3, skipped).is_none(), "its number belongs to another packet now");
}

#[test]
fn a_nack_is_answered_with_the_same_payload_under_a_number_of_its_own() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    let original = pipe.send(0, &Sent::video(1, 0, true)).unwrap();
    let header = Header::parse(&original).unwrap();
    let mut nack = [0; 16];
    Writer::new(&mut nack).nack(1, OUT_VIDEO, &[u64::from(header.sequence)]).unwrap();
    let mut outcomes = Vec::new();
    pipe.egress
        .handle(pipe.start, &messages(&nack).next().unwrap().unwrap(), |outcome| outcomes.push(outcome));
    assert_eq!(outcomes, [Outcome::Resend { kind: Kind::Video, output: header.sequence }]);
    let mut out = [0; 1500];
    let mut again = |pipe: &mut Pipe, at: Duration, kind, output| {
        let now = pipe.start + at;
        pipe.egress
            .retransmit(now, kind, output, &pipe.store, &mut pipe.departures, &mut out)
            .map(|w| (w, out))
    };
    let (first, bytes) = again(&mut pipe, ms(1), Kind::Video, header.sequence).unwrap();
    let repeated = Header::parse(&bytes[..first.bytes]).unwrap();
    assert_eq!((repeated.ssrc, repeated.payload_type, repeated.timestamp), (OUT_RTX, 102, header.timestamp));
    assert_eq!(bytes[repeated.payload.start..][..2], header.sequence.to_be_bytes());
    assert_eq!(bytes[repeated.payload.start + 2..repeated.payload.end], original[header.payload]);
    let output = header.sequence;
    assert_eq!(again(&mut pipe, ms(2), Kind::Video, output).unwrap_err(), NotResent::TooSoon(output));
    let (second, _) = again(&mut pipe, ms(1) + RESEND_INTERVAL, Kind::Video, output).unwrap();
    assert_eq!(second.index, first.index + 1);
    let unsent = output.wrapping_add(1);
    assert_eq!(again(&mut pipe, ms(50), Kind::Video, unsent).unwrap_err(), NotResent::NotKept(unsent));
    assert_eq!(again(&mut pipe, ms(50), Kind::Audio, 1).unwrap_err(), NotResent::NoRtx);
}

#[test]
fn a_player_that_lacks_everything_gets_no_more_than_its_share_again() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    let mut sent_bytes = 0;
    let mut resent_bytes = 0;
    let mut out = [0; 1500];
    for at in 0..2000_u16 {
        let sent = Sent { payload: vec![0x10; 1000], ..Sent::video(at, u32::from(at) * 3000, true) };
        let packet = pipe.send(u64::from(at), &sent).unwrap();
        sent_bytes += packet.len();
        let output = Header::parse(&packet).unwrap().sequence;
        for again in 0..4 {
            let now = pipe.start + ms(u64::from(at) * 100 + again * 20);
            let resent =
                pipe.egress.retransmit(now, Kind::Video, output, &pipe.store, &mut pipe.departures, &mut out);
            resent_bytes += resent.map_or(0, |written| written.bytes);
        }
    }
    assert!(sent_bytes > 1_000_000 && resent_bytes > sent_bytes / 3, "{resent_bytes} of {sent_bytes}");
    assert!(resent_bytes <= sent_bytes / 2 + (32 << 10), "{resent_bytes} of {sent_bytes}");
}

#[test]
fn reports_are_on_the_outputs_line_and_measure_the_round_trip() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    let sent = pipe.send(0, &Sent::video(1, 0, true)).unwrap();
    let timestamp = Header::parse(&sent).unwrap().timestamp;
    let mut out = [0; 200];
    let point = LinePoint { ntp: Ntp(0x0a0b_0c0d_0e0f_0000), rtp: 90 };
    let video_only = |kind| (kind == Kind::Video).then_some(point);
    let length = pipe.egress.sender_report(pipe.start, "name", video_only, &mut out).unwrap();
    let Some(Ok(Message::SenderReport { ssrc, ntp, rtp, .. })) = messages(&out[..length]).next() else {
        panic!()
    };
    assert_eq!((ssrc, ntp, rtp), (OUT_VIDEO, point.ntp, timestamp.wrapping_add(90)));
    let block = ReportBlock {
        ssrc: OUT_VIDEO,
        fraction_lost: 12,
        last_report: point.ntp.middle(),
        delay: 65_536 / 4,
        ..ReportBlock::default()
    };
    let mut report = [0; 32];
    Writer::new(&mut report).receiver_report(1, &[block]).unwrap();
    let mut rtt = None;
    pipe.egress.handle(pipe.start + ms(330), &messages(&report).next().unwrap().unwrap(), |outcome| {
        if let Outcome::Reception(quality) = outcome {
            rtt = quality.rtt;
        }
    });
    assert_eq!(rtt, Some(ms(80)));
}

proptest! {
    #[test]
    fn no_number_is_ever_written_twice(
        steps in prop::collection::vec((0_u64..60, any::<bool>(), 0_u8..20), 1..200), passthrough: bool,
    ) {
        let start = if passthrough { EgressStart::Passthrough } else { EgressStart::Fresh };
        let mut pipe = Pipe::new(start);
        let mut kept = Vec::new();
        for sequence in 0..60_u16 {
            let sequence = sequence.wrapping_add(65_500);
            kept.push(pipe.accept(0, &Sent::video(sequence, u32::from(sequence), sequence % 7 == 0)).ok());
        }
        let (mut indexes, mut out) = (BTreeSet::new(), [0; 1500]);
        for (at, restart, again) in steps {
            if restart && again == 0 {
                pipe.egress.restart_at_keyframe();
            }
            let Some(packet) = kept[at as usize].and_then(|id| pipe.store.get(id)) else { continue };
            if let Ok(written) = pipe.egress.write(pipe.start, &packet, 0, &mut pipe.departures, &mut out) {
                prop_assert!(indexes.insert((written.ssrc, written.index)));
                let output = written.index as u16;
                let resent = pipe.egress.retransmit(
                    pipe.start + ms(20), Kind::Video, output, &pipe.store, &mut pipe.departures, &mut out,
                ).unwrap();
                prop_assert!(indexes.insert((resent.ssrc, resent.index)));
                let header = Header::parse(&out[..resent.bytes]).unwrap();
                prop_assert_eq!(&out[header.payload.start + 2..header.payload.end], packet.payload);
            }
        }
    }
}
