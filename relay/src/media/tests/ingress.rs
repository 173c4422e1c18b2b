//! What comes of a publisher's packets, and what it is told.

use proptest::prelude::*;

use super::*;
use crate::media::{
    feedback::MAX_COMPOUND_BYTES,
    rtcp::{Message, messages},
};

fn feedback(pipe: &mut Pipe, at_ms: u64) -> Vec<u8> {
    let mut out = vec![0; MAX_COMPOUND_BYTES];
    let length = pipe.ingress.poll_feedback(pipe.start + ms(at_ms), &mut out).unwrap_or_default();
    out.truncate(length);
    out
}

fn nacked(compound: &[u8]) -> Vec<u16> {
    let mut all = Vec::new();
    for message in messages(compound) {
        if let Message::Nack { media: VIDEO_SSRC, numbers } = message.unwrap() {
            all.extend(numbers);
        }
    }
    all
}

fn picture_losses(compound: &[u8]) -> usize {
    messages(compound).filter(|m| *m == Ok(Message::PictureLoss { media: VIDEO_SSRC })).count()
}

#[test]
fn a_lost_packet_is_asked_for_and_its_retransmission_takes_its_place() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    let first = pipe.receive(0, &Sent::video(65_534, 0, true)).unwrap();
    let lost = Sent::video(65_535, 0, false);
    let third = pipe.receive(1, &Sent::video(0, 0, false)).unwrap();
    assert_eq!(third.sequence, first.sequence + 2);
    assert_eq!(nacked(&feedback(&mut pipe, 2)), [0_u16; 0], "it may be reordered");
    assert_eq!(nacked(&feedback(&mut pipe, 6)), [65_535]);
    let second = pipe.receive(40, &lost.repeated(900)).unwrap();
    assert!(second.repaired && second.sequence == first.sequence + 1);
    let bytes = lost.repeated(900).bytes();
    assert_eq!(bytes[second.payload], lost.payload[..]);
    assert_eq!(nacked(&feedback(&mut pipe, 500)), [0_u16; 0]);
    assert!(matches!(pipe.receive(501, &lost), Err(Dropped::Duplicate(65_535))), "the original came late");
    assert!(matches!(pipe.receive(501, &lost.repeated(901)), Err(Dropped::Duplicate(65_535))));
}

#[test]
fn probes_leave_no_gap() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    let first = pipe.receive(0, &Sent::video(10, 0, true)).unwrap();
    for sequence in 11..16 {
        assert!(matches!(pipe.receive(1, &Sent::probe(sequence, 0)), Err(Dropped::Probe)));
    }
    let mut padded = Sent::video(16, 3000, false);
    padded.padding = 3;
    let next = pipe.receive(2, &padded).unwrap();
    assert_eq!(next.sequence, first.sequence + 1);
    assert_eq!(padded.bytes()[next.payload], padded.payload[..], "padding is stripped");
    assert_eq!(nacked(&feedback(&mut pipe, 100)), [0_u16; 0]);
    let padding_on_rtx = Sent { payload: vec![], padding: 224, ..padded.repeated(3) };
    assert!(matches!(pipe.receive(3, &padding_on_rtx), Err(Dropped::Probe)));
}

#[test]
fn a_keyframe_is_asked_for_until_it_starts() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    pipe.receive(0, &Sent::video(1, 0, false)).unwrap();
    pipe.ingress.want_keyframe(pipe.start);
    pipe.ingress.want_keyframe(pipe.start);
    assert_eq!(picture_losses(&feedback(&mut pipe, 0)), 1);
    assert_eq!(picture_losses(&feedback(&mut pipe, 100)), 0);
    pipe.ingress.want_keyframe_at_once(pipe.start + ms(101));
    assert_eq!(picture_losses(&feedback(&mut pipe, 101)), 1, "a switch does not wait");
    assert_eq!(picture_losses(&feedback(&mut pipe, 440)), 0);
    assert_eq!(picture_losses(&feedback(&mut pipe, 441)), 1);
    assert!(pipe.receive(442, &Sent::video(2, 3000, true)).unwrap().keyframe);
    assert_eq!(picture_losses(&feedback(&mut pipe, 900)), 0);
}

#[test]
fn a_track_without_pli_gets_fir() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    let mut publish = publish();
    publish.tracks[1].pli = false;
    pipe.ingress = new_ingress(WallClock::new(pipe.start, ms(0)), &publish);
    pipe.receive(0, &Sent::video(1, 0, false)).unwrap();
    pipe.ingress.want_keyframe(pipe.start);
    let compound = feedback(&mut pipe, 0);
    assert_eq!(picture_losses(&compound), 0);
    assert!(messages(&compound).any(|m| matches!(m, Ok(Message::FullIntra { .. }))));
}

#[test]
fn a_hole_in_audio_never_makes_the_schedule_spin() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    pipe.receive(0, &Sent::audio(1, 0)).unwrap();
    pipe.receive(0, &Sent::audio(2000, 960)).unwrap();
    let (mut now, mut steps) = (pipe.start, 0);
    while let Some(at) = pipe.ingress.next_feedback_at().filter(|at| *at < pipe.start + ms(5000)) {
        now = now.max(at);
        let _ = pipe.ingress.poll_feedback(now, &mut [0; MAX_COMPOUND_BYTES]);
        steps += 1;
        assert!(steps < 1000, "something stays due");
    }
}

#[test]
fn ssrcs_are_bound_by_payload_type_and_a_second_one_waits_until_the_first_is_silent() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    let first = pipe.receive(0, &Sent::video(500, 0, true)).unwrap();
    let other = Sent { ssrc: 99, ..Sent::video(9, 77, true) };
    assert!(matches!(pipe.receive(10, &other), Err(Dropped::Unbound { ssrc: 99, payload_type: 96 })));
    let moved = pipe.receive(1000, &other).unwrap();
    assert_eq!(moved.sequence, first.sequence + 1, "numbers go on");
    let strange = Sent { payload_type: 120, ssrc: 5, ..other };
    assert!(matches!(pipe.receive(1000, &strange), Err(Dropped::Unbound { .. })));
}

#[test]
fn a_remb_only_publisher_is_told_ever_more_up_to_the_cap() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    let mut publish = publish();
    publish.tracks.iter_mut().for_each(|track| track.feedback = CongestionFeedback::Remb);
    pipe.ingress = new_ingress(WallClock::new(pipe.start, ms(0)), &publish);
    let mut rates = Vec::new();
    for second in 0..12_u16 {
        pipe.receive(u64::from(second) * 1000, &Sent::video(second, 0, second == 0)).unwrap();
        for message in messages(&feedback(&mut pipe, u64::from(second) * 1000)) {
            if let Ok(Message::Remb { bits_per_second }) = message {
                rates.push(bits_per_second);
            }
        }
    }
    assert!(rates.is_sorted() && rates.len() == 11, "{rates:?}");
    assert!(rates[0] >= 1_000_000 && rates[10].abs_diff(4_000_000) < 100, "{rates:?}");
}

#[test]
fn a_publishers_report_is_answered_in_ours() {
    let mut pipe = Pipe::new(EgressStart::Fresh);
    pipe.receive(0, &Sent::video(1, 0, true)).unwrap();
    let mut report = [0; 28];
    let ntp = crate::media::clock::Ntp(0x1122_3344_5566_7788);
    crate::media::rtcp_write::Writer::new(&mut report).sender_report(VIDEO_SSRC, ntp, 1, 2, 3).unwrap();
    let message = messages(&report).next().unwrap().unwrap();
    assert!(pipe.ingress.handle(pipe.start + ms(500), &message).is_some());
    let compound = feedback(&mut pipe, 1000);
    let Some(Ok(Message::ReceiverReport { mut blocks })) = messages(&compound).next() else { panic!() };
    let block = blocks.next().unwrap();
    assert_eq!((block.last_report, block.delay, block.highest), (0x3344_5566, 32_768, 1));
}

proptest! {
    #[test]
    fn any_datagram_is_taken_without_harm(
        datagrams in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..80), 0_u8..6), 1..60),
    ) {
        let mut pipe = Pipe::new(EgressStart::Fresh);
        for (at, (mut bytes, kind)) in datagrams.into_iter().enumerate() {
            if let Some(head) = bytes.first_chunk_mut::<12>() {
                head[0] = head[0] & 0x3f | 0x80;
                head[1] = [96, 97, 111, 96 | 0x80, head[1], 97 | 0x80][usize::from(kind)];
                head[8..].copy_from_slice(&u32::from(kind % 3).to_be_bytes());
            }
            let now = pipe.start + ms(at as u64 * 30);
            if let Ok(arrival) = pipe.ingress.receive(now, &bytes)
                && let Ok(id) = pipe.source.accept(now, &arrival, &bytes, &mut pipe.store)
            {
                let _ = pipe.write(at as u64 * 30, id);
            }
            for message in messages(&bytes).flatten() {
                let _ = pipe.ingress.handle(now, &message);
                pipe.egress.handle(now, &message, drop);
            }
            let _ = feedback(&mut pipe, at as u64 * 30);
        }
    }

    #[test]
    fn numbers_rise_by_one_per_packet_with_media_whatever_is_probed(
        probes in prop::collection::vec(any::<bool>(), 1..300), first: u16,
    ) {
        let mut pipe = Pipe::new(EgressStart::Fresh);
        let mut last = None;
        for (at, probe) in probes.into_iter().enumerate() {
            let sequence = first.wrapping_add(at as u16);
            if probe {
                prop_assert!(pipe.receive(0, &Sent::probe(sequence, 0)).is_err());
            } else {
                let arrival = pipe.receive(0, &Sent::video(sequence, at as u32 * 3000, at == 0)).unwrap();
                prop_assert!(last.is_none_or(|last| arrival.sequence == last + 1));
                last = Some(arrival.sequence);
            }
        }
    }
}
