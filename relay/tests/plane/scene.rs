//! A plane with publishers and players, one stream, VP8 and Opus.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use waystation_proto::{Claim, RoomId, StreamId, StreamKey};
use waystation_relay::{
    plane::{
        ClientTransport, Codec, CodecSpec, Command, CongestionFeedback, DtlsRole, EgressStart, EgressTrack,
        Fingerprint, IceCredentials, IngressTrack, Kind, PlaneEvent, Play, PlayId, Publish, PublishId,
        TransportId,
    },
    worker::{Plane, PlaneConfig},
};

use crate::peer::{Check, Identity, Peer, SILENCE, Side, receive};

/// Longest wait for anything.
pub const LIMIT: Duration = Duration::from_secs(10);
pub const VIDEO_PT: u8 = 96;
pub const RTX_PT: u8 = 97;
/// What players see the video's SSRC as is this plus their number.
const PLAYER_SSRC: u32 = 0x1000;
const PUBLISHER_SSRC: u32 = 0x2000;
/// Mark of a frame from before what a test is about.
pub const BEFORE: u8 = 255;

pub fn stream(name: &str) -> StreamKey {
    StreamKey { room: RoomId::new("room").unwrap(), stream: StreamId::new(name).unwrap() }
}

pub struct Scene {
    pub plane: Plane,
    pub events: mpsc::Receiver<PlaneEvent>,
    pub identity: Arc<Identity>,
    next: u64,
}

/// A peer with the id of its transport, and of what it does.
pub struct Client {
    pub peer: Peer,
    pub id: u64,
    pub ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// Sequence numbers and timestamps of the media that it received.
    pub stamps: Vec<(u16, u32)>,
}

impl Scene {
    pub fn new(workers: usize) -> Self {
        let config = PlaneConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            workers,
            gso: true,
            // Players say nothing once they are up; no scene takes that long.
            session_timeout: Duration::from_secs(600),
        };
        let (plane, events) = Plane::start(config).unwrap();
        Self { plane, events, identity: Arc::new(Identity::new().unwrap()), next: 1 }
    }

    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A transport as signalling would open it; answers what its peer needs.
    pub fn transport(
        &mut self,
        role: DtlsRole,
        fingerprint: Vec<u8>,
        beat: Option<Duration>,
    ) -> (TransportId, Check) {
        let id = TransportId(self.fresh());
        let ice = IceCredentials {
            local_ufrag: self.plane.local_ufrag(id, Some(&stream("s"))),
            local_pwd: format!("local-password-of-transport-{}", id.0),
            remote_ufrag: "peer".into(),
        };
        let check = Check {
            remote: self.plane.media_addr(),
            username: format!("{}:peer", ice.local_ufrag),
            password: ice.local_pwd.clone(),
        };
        let peer_fingerprint = Fingerprint::Sha256(fingerprint.try_into().unwrap());
        let near = Some(stream("s"));
        self.plane.send(Command::OpenClient(ClientTransport { id, ice, peer_fingerprint, role, beat, near }));
        (id, check)
    }

    /// A transport that is up.
    fn connect(&mut self, role: DtlsRole, beat: Option<Duration>) -> (TransportId, Peer) {
        let (id, check) = self.transport(role, self.identity.fingerprint(), beat);
        (id, self.shake(check, role))
    }

    /// What a transport's peer does until it is up; `role` is the relay's.
    fn shake(&self, check: Check, role: DtlsRole) -> Peer {
        let side = match role {
            DtlsRole::Client => Side::Server,
            DtlsRole::Server => Side::Client,
        };
        Peer::connect(&self.identity, check, side).unwrap()
    }

    /// A publisher that is up and activated under a claim. The relay knows before the handshake what will arrive, so that
    /// nothing that is sent after it comes too early.
    pub fn publisher(&mut self, role: DtlsRole, claim: Claim) -> Client {
        self.publish(role, Some(claim))
    }

    /// A publisher that is up and waits to be activated.
    pub fn standby(&mut self) -> Client {
        self.publish(DtlsRole::Client, None)
    }

    fn publish(&mut self, role: DtlsRole, claim: Option<Claim>) -> Client {
        let (transport, check) = self.transport(role, self.identity.fingerprint(), None);
        let publish = PublishId(transport.0);
        let ssrc = PUBLISHER_SSRC + transport.0 as u32;
        self.plane.send(Command::Publish(Publish {
            id: publish,
            transport,
            stream: stream("s"),
            tracks: vec![video_track(ssrc)],
        }));
        if let Some(claim) = claim {
            self.plane.send(Command::Activate { publish, claim });
        }
        let peer = self.shake(check, role);
        Client { peer, id: transport.0, ssrc, sequence: 65_530, timestamp: 7_000, stamps: Vec::new() }
    }

    /// A player that is up.
    pub fn player(&mut self, role: DtlsRole, beat: Option<Duration>) -> Client {
        let (transport, peer) = self.connect(role, beat);
        let ssrc = self.play(transport);
        Client { peer, id: transport.0, ssrc, sequence: 0, timestamp: 0, stamps: Vec::new() }
    }

    /// A player whose transport is up before its play begins, and what happens in between.
    pub fn late_player<T>(&mut self, meanwhile: impl FnOnce(&mut Self) -> T) -> (Client, T) {
        let (transport, peer) = self.connect(DtlsRole::Client, None);
        let happened = meanwhile(self);
        let ssrc = self.play(transport);
        (Client { peer, id: transport.0, ssrc, sequence: 0, timestamp: 0, stamps: Vec::new() }, happened)
    }

    /// A player whose play begins before its transport is up, and what happens in between.
    pub fn early_player<T>(&mut self, meanwhile: impl FnOnce(&mut Self) -> T) -> (Client, T) {
        let (transport, check) = self.transport(DtlsRole::Client, self.identity.fingerprint(), None);
        let ssrc = self.play(transport);
        let happened = meanwhile(self);
        let peer = self.shake(check, DtlsRole::Client);
        (Client { peer, id: transport.0, ssrc, sequence: 0, timestamp: 0, stamps: Vec::new() }, happened)
    }

    fn play(&mut self, transport: TransportId) -> u32 {
        let ssrc = PLAYER_SSRC + transport.0 as u32;
        self.plane.send(Command::Play(Play {
            id: PlayId(transport.0),
            transport,
            stream: stream("s"),
            tracks: vec![EgressTrack {
                kind: Kind::Video,
                codec: Codec::Vp8,
                payload_type: VIDEO_PT,
                rtx_payload_type: Some(RTX_PT),
                ssrc,
                rtx_ssrc: ssrc + 0x8000,
                mid: "0".into(),
                extensions: vec![],
                nack: true,
            }],
            start: EgressStart::Fresh,
        }));
        ssrc
    }

    /// Waits until a publisher feeds the stream.
    #[track_caller]
    pub fn change_of_source(&mut self, to: &Client) {
        self.event("the change of source", |event| {
            matches!(event, PlaneEvent::StreamSource { publish: Some(publish), .. } if publish.0 == to.id)
        });
    }

    /// The next event that `wanted` takes.
    #[track_caller]
    pub fn event(&mut self, what: &str, wanted: impl Fn(&PlaneEvent) -> bool) -> PlaneEvent {
        let started = Instant::now();
        let mut seen = Vec::new();
        while started.elapsed() < LIMIT {
            match self.events.try_recv() {
                Ok(event) if wanted(&event) => return event,
                Ok(event) => seen.push(event),
                Err(_) => std::thread::park_timeout(Duration::from_millis(2)),
            }
        }
        panic!("{what}: not within {LIMIT:?}, but {seen:?}");
    }
}

fn video_track(ssrc: u32) -> IngressTrack {
    IngressTrack {
        kind: Kind::Video,
        mid: "0".into(),
        codec: CodecSpec { codec: Codec::Vp8, clock_rate: 90_000, channels: 0, fmtp: "".into() },
        payload_type: VIDEO_PT,
        rtx_payload_type: None,
        ssrc: Some(ssrc),
        rtx_ssrc: None,
        extensions: vec![],
        nack: true,
        pli: true,
        feedback: CongestionFeedback::None,
    }
}

/// What a peer received.
#[derive(Debug)]
pub enum Got {
    /// Sequence number and payload of media.
    Media(u16, Vec<u8>),
    /// Original sequence number and payload of a retransmission.
    Again(u16, Vec<u8>),
    /// A compound.
    Rtcp(Vec<u8>),
    /// The association was closed.
    Closed,
}

impl Client {
    /// Sends a frame of so many packets, whose payloads begin with `mark`.
    pub fn send_frame(&mut self, keyframe: bool, packets: usize, mark: u8) {
        self.timestamp = self.timestamp.wrapping_add(3_600);
        for index in 0..packets {
            let last = index + 1 == packets;
            let mut packet = vec![0x80, VIDEO_PT | if last { 0x80 } else { 0 }];
            packet.extend(self.sequence.to_be_bytes());
            packet.extend(self.timestamp.to_be_bytes());
            packet.extend(self.ssrc.to_be_bytes());
            // RFC 7741: S at the frame's start, then the frame tag, whose lowest bit is 0 for a keyframe.
            packet.extend([if index == 0 { 0x10 } else { 0 }, u8::from(!keyframe), 0, 0, 0x9d, 0x01, 0x2a]);
            packet.extend([mark, index as u8]);
            packet.resize(500 + index % 2, 0xab);
            let sealed = self.peer.seal.encrypt_rtp(&packet).unwrap();
            self.peer.socket.send(&sealed).unwrap();
            self.sequence = self.sequence.wrapping_add(1);
        }
    }

    /// Sends a compound.
    pub fn send_rtcp(&mut self, compound: &[u8]) {
        let sealed = self.peer.seal.encrypt_rtcp(compound).unwrap();
        self.peer.socket.send(&sealed).unwrap();
    }

    /// Checks until that is answered.
    pub fn check(&mut self) {
        let started = Instant::now();
        let mut buffer = [0; 2_048];
        while started.elapsed() < LIMIT {
            self.peer.check().unwrap();
            while receive(&self.peer.socket, &mut buffer).unwrap().is_some() {
                if buffer[0] <= 3 {
                    return;
                }
            }
        }
        panic!("no answer to a check within {LIMIT:?}");
    }

    /// The next thing that arrives; `None` after a fifth of a second of silence.
    pub fn receive(&mut self) -> Option<Got> {
        let mut buffer = [0; 2_048];
        let mut silence = Duration::ZERO;
        while silence < Duration::from_millis(200) {
            match receive(&self.peer.socket, &mut buffer).unwrap() {
                Some(length) => {
                    if let Some(got) = self.open(&buffer[..length]) {
                        return Some(got);
                    }
                }
                None => silence += SILENCE,
            }
        }
        None
    }

    /// What has arrived after a few milliseconds.
    pub fn wait_a_moment(&mut self) -> Vec<Got> {
        std::thread::park_timeout(Duration::from_millis(10));
        self.arrived()
    }

    /// What has arrived and was not taken yet.
    pub fn arrived(&mut self) -> Vec<Got> {
        self.peer.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 2_048];
        let mut arrived = Vec::new();
        while let Some(length) = receive(&self.peer.socket, &mut buffer).unwrap() {
            arrived.extend(self.open(&buffer[..length]));
        }
        self.peer.socket.set_nonblocking(false).unwrap();
        arrived
    }

    fn open(&mut self, datagram: &[u8]) -> Option<Got> {
        match datagram[0] {
            0..=3 => None,
            20..=63 => self.peer.is_close(datagram).then_some(Got::Closed),
            _ if (192..=223).contains(&datagram[1]) => {
                Some(Got::Rtcp(self.peer.open.decrypt_rtcp(datagram).expect("RTCP opens").to_vec()))
            }
            _ => {
                let packet = self.peer.open.decrypt_rtp(datagram).expect("RTP opens");
                let got = media(&packet, self.ssrc);
                if let Got::Media(sequence, _) = &got {
                    self.stamps.push((*sequence, u32::from_be_bytes(packet[4..8].try_into().unwrap())));
                }
                Some(got)
            }
        }
    }

    /// The first thing that `wanted` takes.
    #[track_caller]
    pub fn wait<T>(&mut self, what: &str, wanted: impl Fn(Got) -> Option<T>) -> T {
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            if let Some(found) = self.receive().and_then(&wanted) {
                return found;
            }
        }
        panic!("{what}: not within {LIMIT:?}");
    }

    /// Marks of the next media packets behind the keyframes of the start (mark 0).
    #[track_caller]
    pub fn marks(&mut self, count: usize) -> Vec<Mark> {
        (0..count).map(|n| self.wait(&format!("media packet {n}"), |got| got.mark())).collect()
    }
}

/// Sequence number of a media packet, mark of its frame and index in that.
pub type Mark = (u16, u8, u8);

impl Got {
    /// The mark of media behind the keyframes of the start.
    pub fn mark(&self) -> Option<Mark> {
        match self {
            Self::Media(sequence, payload) if !matches!(payload[7], 0 | BEFORE) => {
                Some((*sequence, payload[7], payload[8]))
            }
            Self::Media(..) | Self::Again(..) | Self::Rtcp(_) | Self::Closed => None,
        }
    }

    /// Whether it is media with this mark.
    pub fn is_marked(&self, mark: u8) -> bool {
        matches!(self, Self::Media(_, payload) if payload[7] == mark)
    }

    /// Whether it is a request for a keyframe.
    pub fn is_keyframe_request(&self) -> bool {
        match self {
            Self::Rtcp(compound) => compound.windows(2).any(|bytes| bytes == [0x81, 206]),
            Self::Media(..) | Self::Again(..) | Self::Closed => false,
        }
    }
}

/// Sends keyframes with mark 0 until each player has one: commands reach the workers on their own time. A worker that
/// stood still forwards again once the publisher was checked.
pub fn start(publisher: &mut Client, players: &mut [&mut Client]) {
    for player in players {
        let started = Instant::now();
        loop {
            publisher.send_frame(true, 1, 0);
            match player.receive() {
                Some(Got::Media(_, payload)) if payload[7] == 0 => break,
                Some(Got::Media(..) | Got::Again(..) | Got::Rtcp(_) | Got::Closed) => {}
                None => publisher.peer.check().unwrap(),
            }
            assert!(started.elapsed() < LIMIT, "no keyframe");
        }
    }
}

fn media(packet: &[u8], ssrc: u32) -> Got {
    let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
    let half = |at: usize| u16::from_be_bytes(packet[at..at + 2].try_into().unwrap());
    assert_eq!(packet[0] & 0x10, 0, "no extension was negotiated");
    let padding = if packet[0] & 0x20 == 0 { 0 } else { usize::from(*packet.last().unwrap()) };
    let payload = &packet[12..packet.len() - padding];
    match packet[1] & 0x7f {
        VIDEO_PT => {
            assert_eq!(word(8), ssrc);
            Got::Media(half(2), payload.to_vec())
        }
        RTX_PT => {
            assert_eq!(word(8), ssrc + 0x8000);
            Got::Again(half(12), payload[2..].to_vec())
        }
        other => panic!("payload type {other}"),
    }
}
