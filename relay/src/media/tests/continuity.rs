//! Players that stay see one stream over a change of publisher.

use proptest::prelude::*;

use super::*;
use crate::media::{clock::Ntp, ingress::SourceReport, payload::inspect, rtp::Header, timeline::Timeline};

struct Seen {
    sequence: u16,
    timestamp: u32,
    picture: u16,
    base_layer: u8,
}

fn seen(packet: &[u8]) -> Seen {
    let header = Header::parse(packet).unwrap();
    let inspected = inspect(Codec::Vp8, &packet[header.payload.clone()]);
    Seen {
        sequence: header.sequence,
        timestamp: header.timestamp,
        picture: inspected.picture.unwrap().value,
        base_layer: inspected.base_layer.unwrap().value,
    }
}

proptest! {
    #[test]
    fn numbers_and_counters_go_on_over_a_switch(
        first: u16, second: u16, frames in 1_u16..40, pause in 1_u64..500, timestamp: u32, other: u32, wait in 0_u16..5,
    ) {
        // PUB-9
        let mut pipe = Pipe::new(EgressStart::Fresh);
        let mut last = None;
        for at in 0..frames {
            let ts = timestamp.wrapping_add(u32::from(at) * 3000);
            let out = pipe.send(u64::from(at) * 33, &Sent::video(first.wrapping_add(at), ts, at == 0)).unwrap();
            last = Some(seen(&out));
        }
        let last = last.unwrap();
        let switched_ms = u64::from(frames - 1) * 33 + pause;
        pipe.switch(switched_ms);
        for at in 0..wait {
            prop_assert!(pipe.send(switched_ms, &Sent::video(second.wrapping_add(at), other, false)).is_none());
        }
        let second = second.wrapping_add(wait);
        let mut next = Sent::video(second, other.wrapping_add(9000), true);
        for at in 0..3_u16 {
            let out = seen(&pipe.send(switched_ms, &next).unwrap());
            prop_assert_eq!(out.sequence, last.sequence.wrapping_add(1 + at));
            prop_assert_eq!(out.picture, last.picture.wrapping_add(1 + at) & 0x7fff);
            prop_assert_eq!(out.base_layer, last.base_layer.wrapping_add(1 + at as u8));
            prop_assert_eq!(out.timestamp, last.timestamp.wrapping_add(pause as u32 * 90 + u32::from(at) * 3000));
            next = Sent::video(next.sequence.wrapping_add(1), next.timestamp.wrapping_add(3000), false);
        }
    }
}

/// An AV1 packet with a dependency descriptor: a template structure makes it a keyframe.
fn av1(sequence: u16, frame: u16, keyframe: bool) -> Vec<u8> {
    let [high, low] = frame.to_be_bytes();
    let mut bytes = Sent { payload: vec![], ..Sent::video(sequence, u32::from(frame) * 3000, false) }.bytes();
    bytes[0] |= 0x10;
    let structure = if keyframe { [0x80, 7] } else { [0, 0] };
    bytes.extend([0xBE, 0xDE, 0, 2, 0x84, 0xc0, high, low, structure[0], structure[1], 0, 0, 0x10, 0x32, 1]);
    bytes
}

#[test]
fn frame_numbers_of_dependency_descriptors_go_on_over_a_switch() {
    // PUB-9
    let start = Instant::now();
    let clock = WallClock::new(start, ms(0));
    let mut publish = publish();
    publish.tracks[1].codec.codec = Codec::Av1;
    publish.tracks[1].extensions = vec![Extension { id: 8, kind: ExtensionKind::DependencyDescriptor }];
    let mut play = play(EgressStart::Fresh);
    play.tracks[1].codec = Codec::Av1;
    play.tracks[1].extensions = vec![Extension { id: 3, kind: ExtensionKind::DependencyDescriptor }];
    let (mut source, mut store) = (Source::new(clock), Store::default());
    let (mut egress, mut departures) = (Egress::new(&play, clock, 9), Departures::new(start));
    let mut frames = Vec::new();
    for first in [65_534_u16, 300] {
        source.switch(start);
        let mut ingress = new_ingress(clock, &publish);
        for at in 0..3 {
            let bytes = av1(first.wrapping_add(at), first.wrapping_add(at), at == 0);
            let arrival = ingress.receive(start, &bytes).unwrap();
            let id = source.accept(start, &arrival, &bytes, &mut store).unwrap();
            let mut out = [0; 200];
            let packet = store.get(id).unwrap();
            let written = egress.write(start, &packet, 0, &mut departures, &mut out).unwrap();
            let header = Header::parse(&out[..written.bytes]).unwrap();
            let (_, descriptor) = header.extensions(&out).find(|(id, _)| *id == 3).unwrap();
            frames.push(u16::from_be_bytes([descriptor[1], descriptor[2]]));
        }
    }
    assert_eq!(frames, [65_534, 65_535, 0, 1, 2, 3]);
}

#[test]
fn packets_from_before_the_switch_point_are_not_mixed_in() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    pipe.accept(0, &Sent::video(10, 0, true)).unwrap();
    pipe.switch(100);
    pipe.accept(100, &Sent::video(500, 0, true)).unwrap();
    assert_eq!(pipe.accept(101, &Sent::video(502, 3000, false)).map(low), Ok(12 + 1));
    // Received late: it is before the first packet that the new publish fed.
    assert!(matches!(pipe.receive(102, &Sent::video(499, 0, false)), Err(Dropped::Late(499))));
}

fn low(id: PacketRef) -> u16 {
    id.sequence as u16
}

const AUDIO_RATE: u32 = 48_000;
const VIDEO_RATE: u32 = 90_000;

/// A publisher whose clocks start anywhere; both tracks are captured together.
struct Clocks {
    ntp: Ntp,
    audio: u32,
    video: u32,
}

impl Clocks {
    fn rtp(&self, kind: Kind, captured_ms: u64) -> u32 {
        let captured = captured_ms as u32;
        match kind {
            Kind::Audio => self.audio.wrapping_add(captured.wrapping_mul(48)),
            Kind::Video => self.video.wrapping_add(captured.wrapping_mul(90)),
        }
    }

    fn report(&self, kind: Kind, captured_ms: u64) -> SourceReport {
        let clock_rate = if kind == Kind::Audio { AUDIO_RATE } else { VIDEO_RATE };
        SourceReport {
            kind,
            ntp: self.ntp.after(ms(captured_ms)),
            rtp: self.rtp(kind, captured_ms),
            clock_rate,
        }
    }
}

/// How much later video is than audio on the line, in milliseconds, for the same moment of capture.
fn skew_ms(timeline: &Timeline, at: Instant, audio: u32, video: u32) -> f64 {
    let (a, v) = (timeline.point(Kind::Audio, at).unwrap(), timeline.point(Kind::Video, at).unwrap());
    let ahead_audio = f64::from(audio.wrapping_sub(a.rtp) as i32) / 48.0;
    let ahead_video = f64::from(video.wrapping_sub(v.rtp) as i32) / 90.0;
    ahead_video - ahead_audio + v.ntp.ticks_since(a.ntp, 1000) as f64
}

#[test]
fn audio_and_video_are_together_again_after_a_switch_whose_packets_came_unevenly() {
    // PUB-9
    let start = Instant::now();
    let mut timeline = Timeline::new(WallClock::new(start, Duration::from_secs(5000)));
    let old = Clocks { ntp: Ntp::of_unix(Duration::from_secs(4000)), audio: 1000, video: 4_294_960_000 };
    let new = Clocks { ntp: Ntp::of_unix(Duration::from_secs(9000)), audio: 77, video: 123_456 };
    let mut last = (0, 0);
    for at in (0..2000).step_by(20) {
        let now = start + ms(at);
        let audio = timeline.place(Kind::Audio, now, old.rtp(Kind::Audio, at), None, AUDIO_RATE);
        let video = timeline.place(Kind::Video, now, old.rtp(Kind::Video, at), None, VIDEO_RATE);
        last = (audio, video);
        if at == 500 {
            timeline.sender_report(now, old.report(Kind::Audio, at));
            timeline.sender_report(now, old.report(Kind::Video, at));
        }
    }
    assert!(skew_ms(&timeline, start + ms(1980), last.0, last.1).abs() < 0.1);
    let both = [(Kind::Audio, AUDIO_RATE), (Kind::Video, VIDEO_RATE)];
    let before = both.map(|(kind, _)| timeline.point(kind, start + ms(2000)).unwrap());
    timeline.switch(start + ms(2000));
    // Video of the new publish comes 45 ms later than audio of the same moment.
    let (mut audio, mut video) = (0, 0);
    for at in (2000..5000).step_by(20) {
        audio = timeline.place(Kind::Audio, start + ms(at), new.rtp(Kind::Audio, at), None, AUDIO_RATE);
        let late = start + ms(at + 45);
        let placed = timeline.place(Kind::Video, late, new.rtp(Kind::Video, at), None, VIDEO_RATE);
        assert!(at == 2000 || placed.wrapping_sub(video) as i32 > 0, "video never goes back");
        video = placed;
        if at == 2400 {
            timeline.sender_report(start + ms(at), new.report(Kind::Video, at));
            timeline.sender_report(start + ms(at + 1), new.report(Kind::Audio, at));
        }
        if at == 4000 {
            timeline.sender_report(start + ms(at), new.report(Kind::Video, at));
            timeline.sender_report(start + ms(at), new.report(Kind::Audio, at));
        }
    }
    let skew = skew_ms(&timeline, start + ms(4980), audio, video);
    assert!(skew.abs() < 1.5, "{skew} ms between audio and video");
    for ((kind, rate), before) in both.into_iter().zip(before) {
        let after = timeline.point(kind, start + ms(5000)).unwrap();
        let ntp_ticks = after.ntp.ticks_since(before.ntp, rate);
        let off_line = i64::from(after.rtp.wrapping_sub(before.rtp) as i32) - ntp_ticks;
        assert!(off_line.abs() <= 3, "{kind:?} is {off_line} ticks off its line");
    }
    // A bent line holds over many circles of timestamps.
    for hour in 1..20 {
        let at = 5000 + 3_600_000 * hour;
        let placed = timeline.place(Kind::Video, start + ms(at), new.rtp(Kind::Video, at), None, VIDEO_RATE);
        let step = new.rtp(Kind::Video, at).wrapping_sub(new.rtp(Kind::Video, 4980));
        assert_eq!(placed.wrapping_sub(video), step, "hour {hour}");
    }
}

#[test]
fn capture_times_place_both_tracks_exactly_however_they_arrive() {
    let start = Instant::now();
    let mut timeline = Timeline::new(WallClock::new(start, Duration::from_secs(5000)));
    let captured = |at: u64| Some(Ntp::of_unix(Duration::from_secs(4000)).after(ms(at)));
    for kind in [Kind::Audio, Kind::Video] {
        let rate = if kind == Kind::Audio { AUDIO_RATE } else { VIDEO_RATE };
        let before = timeline.place(kind, start, 100, captured(0), rate);
        timeline.switch(start + ms(300));
        let late = if kind == Kind::Audio { 310 } else { 390 };
        let after = timeline.place(kind, start + ms(late), 999_999, captured(300), rate);
        assert!(after.wrapping_sub(before).abs_diff(300 * rate / 1000) <= 1);
    }
}
