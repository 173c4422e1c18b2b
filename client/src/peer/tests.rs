//! Two connections and a node's ends between them, in memory and on made-up time: no socket, no sleep.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Direction, Peer, PeerReport, PublishedTrack, Sinks,
    connection::{Connection, Output},
};
use crate::media::{Codec, JitterBuffer, OutgoingTrack, RtpPacket, Sample, VideoCodec};

const STEP: Duration = Duration::from_millis(1);

fn addr(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Which datagrams get lost on the way from the node's end.
type Drops = Box<dyn FnMut(&[u8]) -> bool>;

/// An SDK's connection and a node's end of it.
struct Pair {
    sdk: Connection,
    node: Connection,
    sdk_addr: SocketAddr,
    node_addr: SocketAddr,
    facts: Vec<Output>,
    at_node: Vec<RtpPacket>,
    drops: Drops,
}

impl Pair {
    fn new(sdk_direction: &Direction, node_direction: &Direction, port: u16, now: Instant) -> Self {
        let (sdk_addr, node_addr) = (addr(port), addr(port + 1));
        let (mut sdk, offer) = Connection::offer(sdk_direction, sdk_addr, now).unwrap();
        let (node, answer) = Connection::answer(node_direction, &offer, node_addr, now);
        assert!(answer.contains("a=setup:active"), "{answer}");
        sdk.accept_answer(&answer, now).unwrap();
        let drops = Box::new(|_: &[u8]| false);
        Self { sdk, node, sdk_addr, node_addr, facts: Vec::new(), at_node: Vec::new(), drops }
    }

    /// Lets everything that is under way arrive.
    fn settle(&mut self, now: Instant) {
        self.sdk.handle_timeout(now);
        self.node.handle_timeout(now);
        loop {
            let mut moved = false;
            while let Some(output) = self.sdk.poll_output() {
                moved = true;
                if let Output::Transmit { datagram, .. } = output {
                    self.node.handle_datagram(self.sdk_addr, datagram, now);
                } else {
                    self.facts.push(output);
                }
            }
            while let Some(output) = self.node.poll_output() {
                moved = true;
                match output {
                    Output::Transmit { datagram, .. } if (self.drops)(&datagram) => {}
                    Output::Transmit { datagram, .. } => {
                        self.sdk.handle_datagram(self.node_addr, datagram, now)
                    }
                    Output::Media(packet) => self.at_node.push(packet),
                    Output::Up
                    | Output::Down
                    | Output::Heard(_)
                    | Output::KeyframeWanted
                    | Output::Nacked(_) => {}
                }
            }
            if !moved {
                break;
            }
        }
    }

    /// Runs until both ends are up. Returns how long that took.
    fn connect(&mut self, start: Instant) -> Duration {
        for step in 0..2_000 {
            self.settle(start + STEP * step);
            if self.facts.iter().any(|fact| matches!(fact, Output::Up)) {
                return STEP * step;
            }
        }
        panic!("not up in two seconds: {:?}", self.facts);
    }

    fn media(&mut self) -> Vec<RtpPacket> {
        let facts = std::mem::take(&mut self.facts);
        facts
            .into_iter()
            .filter_map(|fact| if let Output::Media(packet) = fact { Some(packet) } else { None })
            .collect()
    }
}

fn tracks(ssrc: u32) -> Vec<PublishedTrack> {
    [Codec::Opus, Codec::Video(VideoCodec::Vp8)]
        .into_iter()
        .zip([ssrc, ssrc + 2])
        .map(|(codec, ssrc)| PublishedTrack { codec, ssrc, rtx_ssrc: ssrc + 1 })
        .collect()
}

fn play() -> Direction {
    Direction::Play { audio: true, video: vec![VideoCodec::Vp8] }
}

/// The n-th frame: VP8's frame tag says keyframe for every tenth.
fn frame(n: u32) -> Bytes {
    let tag = u8::from(!n.is_multiple_of(10));
    (0..3_000 + n * 7).map(|at| if at == 0 { tag } else { (at * n) as u8 }).collect()
}

#[test]
fn samples_pass_from_publisher_to_player_without_loss() {
    let start = Instant::now();
    let mut publish = Pair::new(&Direction::Publish(tracks(100)), &play(), 40_000, start);
    let mut player = Pair::new(&play(), &Direction::Publish(tracks(100)), 41_000, start);
    // The budget is 100 ms from the POST to media on a path with no delay.
    for took in [publish.connect(start), player.connect(start)] {
        assert!(took < Duration::from_millis(50), "{took:?}");
    }
    let mut video = OutgoingTrack::new(Codec::Video(VideoCodec::Vp8), 102, 65_530, 7);
    let mut audio = OutgoingTrack::new(Codec::Opus, 100, 0, 9);
    let (mut video_out, mut audio_out) = (JitterBuffer::new(STEP), JitterBuffer::new(STEP));
    let mut received = Vec::new();
    for n in 0..40 {
        let now = start + Duration::from_millis(2_100) + Duration::from_millis(33) * n;
        let timestamp = Duration::from_millis(33) * n;
        let sound = Bytes::from(vec![n as u8; 80]);
        let mut packets = audio.write_sample(&Sample { data: sound, timestamp }).unwrap();
        packets.extend(video.write_sample(&Sample { data: frame(n), timestamp }).unwrap());
        packets.into_iter().for_each(|packet| publish.sdk.send(packet, now));
        publish.settle(now);
        publish.at_node.drain(..).for_each(|packet| player.node.send(packet, now));
        player.settle(now);
        for packet in player.media() {
            let buffer = if packet.codec == Codec::Opus { &mut audio_out } else { &mut video_out };
            buffer.push(packet, now);
        }
        received.extend(std::iter::from_fn(|| audio_out.pop(now)));
        received.extend(std::iter::from_fn(|| video_out.pop(now)));
    }
    let (sounds, frames): (Vec<_>, Vec<_>) =
        received.into_iter().partition(|sample| sample.codec == Codec::Opus);
    assert_eq!(sounds.len(), 40);
    assert_eq!(frames.len(), 40);
    for (n, (sound, picture)) in sounds.iter().zip(&frames).enumerate() {
        assert_eq!(sound.data, vec![n as u8; 80]);
        assert_eq!(picture.data, frame(n as u32));
        assert_eq!(picture.keyframe, n % 10 == 0);
        assert!(!sound.lost_before && !picture.lost_before);
    }
}

#[test]
fn a_lost_packet_is_asked_for_once_and_comes_by_retransmission() {
    let start = Instant::now();
    let mut pair = Pair::new(&play(), &Direction::Publish(tracks(500)), 42_000, start);
    pair.connect(start);
    let mut video = OutgoingTrack::new(Codec::Video(VideoCodec::Vp8), 502, 10, 7);
    let mut buffer = JitterBuffer::new(Duration::from_millis(200));
    let mut lost = 0;
    pair.drops = Box::new(move |datagram: &[u8]| {
        // RFC 3550 §5.1: payload type and sequence number are in the clear.
        let media = datagram.len() > 200 && datagram[1] & 0x7f == 96;
        lost += u32::from(media);
        media && lost == 2
    });
    let now = start + Duration::from_secs(3);
    for packet in video.write_sample(&Sample { data: frame(10), timestamp: Duration::ZERO }).unwrap() {
        pair.node.send(packet, now);
    }
    for step in 0..100 {
        pair.settle(now + STEP * step);
    }
    let asked: usize =
        pair.facts.iter().map(|fact| if let Output::Nacked(count) = fact { *count } else { 0 }).sum();
    assert_eq!(asked, 1);
    for packet in pair.media() {
        buffer.push(packet, now);
    }
    let sample = buffer.pop(now).expect("the frame is whole");
    assert_eq!((sample.data, sample.lost_before), (frame(10), false));
}

#[test]
fn a_keyframe_request_reaches_the_publisher_and_an_empty_report_is_heard() {
    // PUB-6, GO-2
    let start = Instant::now();
    let mut pair = Pair::new(&Direction::Publish(tracks(900)), &play(), 43_000, start);
    pair.connect(start);
    let now = start + Duration::from_secs(3);
    let mut video = OutgoingTrack::new(Codec::Video(VideoCodec::Vp8), 902, 10, 7);
    for packet in video.write_sample(&Sample { data: frame(0), timestamp: Duration::ZERO }).unwrap() {
        pair.sdk.send(packet, now);
    }
    pair.settle(now);
    pair.facts.clear();
    pair.node.request_keyframe(now);
    pair.settle(now);
    assert!(pair.facts.iter().any(|fact| matches!(fact, Output::KeyframeWanted)));
    pair.facts.clear();
    let later = now + Duration::from_millis(50);
    pair.node.beat(later);
    pair.settle(later);
    assert!(pair.facts.iter().any(|fact| matches!(fact, Output::Heard(at) if *at == later)));
    assert!(!pair.facts.iter().any(|fact| matches!(fact, Output::KeyframeWanted)));
}

#[test]
fn garbage_is_neither_heard_nor_a_reason_to_end() {
    let start = Instant::now();
    let mut pair = Pair::new(&play(), &Direction::Publish(tracks(300)), 44_000, start);
    pair.connect(start);
    pair.facts.clear();
    let now = start + Duration::from_millis(2_050);
    for first in 0..=255_u8 {
        for length in [0_usize, 1, 12, 60, 1_200] {
            let datagram =
                std::iter::once(first).chain(std::iter::repeat(first ^ 0x5a)).take(length).collect();
            pair.sdk.handle_datagram(pair.node_addr, datagram, now);
        }
    }
    while let Some(output) = pair.sdk.poll_output() {
        assert!(matches!(output, Output::Transmit { .. }), "{output:?}");
    }
}

/// A node's end on a real socket: answers the offer, and sends back what it receives.
fn echo_node(offer: &str, socket: tokio::net::UdpSocket) -> String {
    let local = socket.local_addr().unwrap();
    let (mut node, answer) = Connection::answer(&play(), offer, local, Instant::now());
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        let mut media = 0;
        loop {
            while let Some(output) = node.poll_output() {
                match output {
                    Output::Transmit { to, datagram } => drop(socket.send_to(&datagram, to).await),
                    Output::Media(_) => {
                        media += 1;
                        if media == 3 {
                            node.request_keyframe(Instant::now());
                        }
                    }
                    Output::Down => return,
                    Output::Up | Output::Heard(_) | Output::KeyframeWanted | Output::Nacked(_) => {}
                }
            }
            let due = node.poll_timeout().unwrap_or_else(|| Instant::now() + STEP);
            tokio::select! {
                Ok((bytes, from)) = socket.recv_from(&mut buffer) => {
                    node.handle_datagram(from, buffer[..bytes].into(), Instant::now());
                }
                () = tokio::time::sleep_until(due.into()) => node.handle_timeout(Instant::now()),
            }
        }
    });
    answer
}

#[tokio::test]
async fn a_peer_connects_over_a_socket_sends_and_hears_what_it_is_asked() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let sinks = Sinks {
        report: Box::new(move |told| report.send(told).unwrap_or_default()),
        media: Box::new(|_, _| {}),
    };
    let started = Instant::now();
    let peer = Peer::start(&Direction::Publish(tracks(100)), socket.local_addr().unwrap(), sinks).unwrap();
    assert!(peer.offer().contains("typ host"), "{}", peer.offer());
    peer.answer(echo_node(peer.offer(), socket));
    while reports.recv().await.expect("it comes up") != PeerReport::Up {}
    eprintln!("up after {:?}", started.elapsed());
    let mut video = OutgoingTrack::new(Codec::Video(VideoCodec::Vp8), 102, 0, 0);
    let packets = peer.packets();
    for packet in video.write_sample(&Sample { data: frame(0), timestamp: Duration::ZERO }).unwrap() {
        packets.send(packet).await.unwrap();
    }
    while reports.recv().await.expect("a request for a keyframe") != PeerReport::KeyframeWanted {}
    assert!(peer.heard().is_some_and(|at| at > started));
}

#[tokio::test]
async fn an_answer_that_is_none_takes_the_peer_down() {
    let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let sinks = Sinks {
        report: Box::new(move |told| report.send(told).unwrap_or_default()),
        media: Box::new(|_, _| {}),
    };
    let peer = Peer::start(&play(), addr(9), sinks).unwrap();
    peer.answer("v=0".into());
    assert!(matches!(reports.recv().await, Some(PeerReport::BadAnswer(_))));
    assert_eq!(reports.recv().await, None);
}
