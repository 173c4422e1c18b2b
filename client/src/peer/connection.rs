//! One peer connection, sans I/O: datagrams and packets in, datagrams, packets and facts out.
//!
//! Call order: after every `handle_*`, `accept_answer`, `send` or `request_keyframe`, drain [`Connection::poll_output`],
//! then wait until [`Connection::poll_timeout`]. RFC 8445 (ICE, full and controlling), RFC 5764 (DTLS-SRTP).

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Instant,
};

use bytes::BytesMut;
use rtc::{
    peer_connection::{
        RTCPeerConnection,
        event::RTCPeerConnectionEvent,
        message::RTCMessage,
        sdp::RTCSessionDescription,
        state::{RTCIceConnectionState, RTCPeerConnectionState},
        transport::RTCIceCandidateInit,
    },
    rtcp::{
        payload_feedbacks::picture_loss_indication::PictureLossIndication,
        transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
    },
    rtp::{header::Header, packet::Packet},
    rtp_transceiver::RTCRtpSenderId,
    sansio::Protocol,
    shared::{TaggedBytesMut, TransportContext, TransportProtocol},
};
use thiserror::Error;

use super::{
    observe::Observed,
    offer::{self, Direction, codec_of, payload_type},
};
use crate::media::{Kind, NackTracker, RtpPacket};

/// DTLS datagrams held until ICE has a pair: a node that is the DTLS client begins as soon as it was checked.
const MAX_EARLY: usize = 16;

/// A peer connection that cannot be made.
#[derive(Debug, Error)]
pub(crate) enum PeerError {
    /// No socket towards the node.
    #[error("no UDP socket towards {node}: {error}")]
    Socket {
        /// The node's media address.
        node: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// No offer.
    #[error("cannot make an offer: {0}")]
    Offer(rtc::shared::error::Error),
    /// The node's answer is not one.
    #[error("the node's answer cannot be used: {0}")]
    Answer(rtc::shared::error::Error),
}

/// What a connection wants done, or tells.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send a datagram.
    Transmit {
        /// To the node.
        to: SocketAddr,
        /// Its bytes.
        datagram: BytesMut,
    },
    /// ICE and DTLS are up.
    Up,
    /// It has failed or was closed by the node, and stays so.
    Down,
    /// Something authentic came.
    Heard(Instant),
    /// The node asks for a keyframe.
    KeyframeWanted,
    /// A packet of media came.
    Media(RtpPacket),
    /// That many packets were asked for again.
    Nacked(usize),
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Up,
    Down,
}

/// One peer connection.
pub(crate) struct Connection {
    inner: RTCPeerConnection,
    observed: Observed,
    local: SocketAddr,
    senders: BTreeMap<Kind, RTCRtpSenderId>,
    phase: Phase,
    early: VecDeque<(SocketAddr, BytesMut)>,
    ice_up: bool,
    nacks: NackTracker,
    /// The source of the video that is received.
    video_ssrc: Option<u32>,
    outputs: VecDeque<Output>,
}

impl Connection {
    /// A connection whose only candidate is `local`, and its offer.
    pub(crate) fn offer(
        direction: &Direction,
        local: SocketAddr,
        now: Instant,
    ) -> Result<(Self, String), PeerError> {
        let observed = Observed::default();
        let (mut inner, senders) =
            offer::build(direction, offer::settings(), observed.clone(), now).map_err(PeerError::Offer)?;
        let candidate = host_candidate(local);
        let describe = || {
            inner.add_local_candidate(candidate)?;
            let offer = inner.create_offer(None)?;
            inner.set_local_description(now, offer)?;
            // The empty candidate ends gathering.
            inner.add_local_candidate(RTCIceCandidateInit::default())
        };
        describe().map_err(PeerError::Offer)?;
        let sdp = inner.local_description().map(|description| description.sdp).unwrap_or_default();
        Ok((Self::new(inner, observed, local, senders), sdp))
    }

    fn new(
        inner: RTCPeerConnection,
        observed: Observed,
        local: SocketAddr,
        senders: Vec<(Kind, RTCRtpSenderId)>,
    ) -> Self {
        Self {
            inner,
            observed,
            local,
            senders: senders.into_iter().collect(),
            phase: Phase::Connecting,
            early: VecDeque::new(),
            ice_up: false,
            nacks: NackTracker::default(),
            video_ssrc: None,
            outputs: VecDeque::new(),
        }
    }

    /// The other end, as a node would be it: ICE-lite, DTLS client.
    #[cfg(test)]
    pub(crate) fn answer(
        direction: &Direction,
        offer: &str,
        local: SocketAddr,
        now: Instant,
    ) -> (Self, String) {
        use rtc::peer_connection::transport::RTCDtlsRole;
        let settings = offer::settings().with_lite(true).with_answering_dtls_role(RTCDtlsRole::Client);
        let observed = Observed::default();
        let (mut inner, senders) = offer::build(direction, settings, observed.clone(), now).unwrap();
        inner.set_remote_description(now, RTCSessionDescription::offer(offer.to_owned()).unwrap()).unwrap();
        inner.add_local_candidate(host_candidate(local)).unwrap();
        let answer = inner.create_answer(None).unwrap();
        inner.set_local_description(now, answer).unwrap();
        let sdp = inner.local_description().unwrap().sdp;
        (Self::new(inner, observed, local, senders), sdp)
    }

    /// Takes the node's answer: checks start.
    pub(crate) fn accept_answer(&mut self, sdp: &str, now: Instant) -> Result<(), PeerError> {
        let answer = RTCSessionDescription::answer(sdp.to_owned()).map_err(PeerError::Answer)?;
        self.inner.set_remote_description(now, answer).map_err(PeerError::Answer)?;
        self.pump(now);
        Ok(())
    }

    /// Takes a datagram.
    pub(crate) fn handle_datagram(&mut self, from: SocketAddr, datagram: BytesMut, now: Instant) {
        // RFC 7983 §7: 20 to 63 is DTLS.
        let dtls = datagram.first().is_some_and(|first| (20..64).contains(first));
        if dtls && !self.ice_up {
            if self.early.len() < MAX_EARLY {
                self.early.push_back((from, datagram));
            }
            return;
        }
        self.read(from, datagram, now);
        self.pump(now);
    }

    fn read(&mut self, from: SocketAddr, message: BytesMut, now: Instant) {
        let transport = TransportContext {
            local_addr: self.local,
            peer_addr: from,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        if let Err(error) = self.inner.handle_read(TaggedBytesMut { now, transport, message }) {
            tracing::debug!(%from, %error, "datagram dropped");
        }
    }

    /// Sends a packet of a published track. Dropped while the connection is not up.
    pub(crate) fn send(&mut self, packet: RtpPacket, now: Instant) {
        let Some(&sender) = self.senders.get(&packet.codec.kind()).filter(|_| self.phase == Phase::Up) else {
            return;
        };
        let header = Header {
            version: 2,
            marker: packet.marker,
            payload_type: payload_type(packet.codec),
            sequence_number: packet.sequence_number,
            timestamp: packet.timestamp,
            ssrc: packet.ssrc,
            ..Header::default()
        };
        let Some(mut sender) = self.inner.rtp_sender(sender) else { return };
        if let Err(error) = sender.write_rtp(now, Packet { header, payload: packet.payload }) {
            tracing::debug!(%error, "packet not sent");
        }
        self.pump(now);
    }

    /// Asks the node for a keyframe of the video that is received.
    pub(crate) fn request_keyframe(&mut self, now: Instant) {
        let Some(media_ssrc) = self.video_ssrc else { return };
        self.feed_back(Box::new(PictureLossIndication { sender_ssrc: 0, media_ssrc }), now);
        self.pump(now);
    }

    fn feed_back(&mut self, packet: Box<dyn rtc::rtcp::Packet>, now: Instant) {
        let Some(id) = self.inner.get_receivers().next() else { return };
        let Some(mut receiver) = self.inner.rtp_receiver(id) else { return };
        if let Err(error) = receiver.write_rtcp(now, vec![packet]) {
            tracing::debug!(%error, "feedback not sent");
        }
    }

    /// A node's sign of life: an empty receiver report.
    #[cfg(test)]
    pub(crate) fn beat(&mut self, now: Instant) {
        use rtc::rtcp::receiver_report::ReceiverReport;
        self.feed_back(Box::new(ReceiverReport::default()), now);
        self.pump(now);
    }

    /// Time has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Err(error) = self.inner.handle_timeout(now) {
            tracing::debug!(%error, "timer");
        }
        if let Some((media_ssrc, numbers)) = self.nacks.poll(now) {
            let nacks = nack_pairs_from_sequence_numbers(&numbers);
            self.feed_back(Box::new(TransportLayerNack { sender_ssrc: 0, media_ssrc, nacks }), now);
            self.outputs.push_back(Output::Nacked(numbers.len()));
        }
        self.pump(now);
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        self.inner.poll_timeout().into_iter().chain(self.nacks.poll_timeout()).min()
    }

    /// The next thing to do or to tell.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Says goodbye to the node: what is left to transmit is in [`Self::poll_output`].
    pub(crate) fn close(&mut self, now: Instant) {
        if let Err(error) = self.inner.close() {
            tracing::debug!(%error, "close");
        }
        self.phase = Phase::Down;
        self.pump(now);
    }

    /// Moves everything that `rtc` has to say into the outputs.
    fn pump(&mut self, now: Instant) {
        loop {
            while let Some(event) = self.inner.poll_event() {
                self.event(event);
            }
            while let Some(message) = self.inner.poll_read() {
                self.message(message.message, now);
            }
            while let Some(transmit) = self.inner.poll_write() {
                let to = transmit.transport.peer_addr;
                self.outputs.push_back(Output::Transmit { to, datagram: transmit.message });
            }
            match self.early.pop_front() {
                Some((from, datagram)) if self.ice_up => self.read(from, datagram, now),
                Some(early) => break self.early.push_front(early),
                None => break,
            }
        }
        let seen = self.observed.take();
        if let Some(at) = seen.heard {
            self.outputs.push_back(Output::Heard(at));
        }
        if seen.keyframe_wanted {
            self.outputs.push_back(Output::KeyframeWanted);
        }
    }

    fn event(&mut self, event: RTCPeerConnectionEvent) {
        if let RTCPeerConnectionEvent::OnIceConnectionStateChangeEvent(state) = event {
            self.ice_up |=
                matches!(state, RTCIceConnectionState::Connected | RTCIceConnectionState::Completed);
        }
        let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event else { return };
        let ended = matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed);
        match self.phase {
            Phase::Connecting if state == RTCPeerConnectionState::Connected => {
                self.phase = Phase::Up;
                self.outputs.push_back(Output::Up);
            }
            Phase::Connecting | Phase::Up if ended => {
                self.phase = Phase::Down;
                self.outputs.push_back(Output::Down);
            }
            Phase::Connecting | Phase::Up | Phase::Down => {}
        }
    }

    fn message(&mut self, message: RTCMessage, now: Instant) {
        let RTCMessage::RtpPacket(_track, Packet { header, payload }) = message else { return };
        let Some(codec) = codec_of(header.payload_type) else { return };
        if codec.kind() == Kind::Video {
            self.video_ssrc = Some(header.ssrc);
            self.nacks.packet(header.ssrc, header.sequence_number, now);
        }
        self.outputs.push_back(Output::Media(RtpPacket {
            codec,
            ssrc: header.ssrc,
            sequence_number: header.sequence_number,
            timestamp: header.timestamp,
            marker: header.marker,
            payload,
        }));
    }
}

/// A host candidate (RFC 8839 §5.1). Its priority is that of RFC 8445 §5.1.2.2 with the highest local preference.
fn host_candidate(local: SocketAddr) -> RTCIceCandidateInit {
    let (ip, port) = (local.ip(), local.port());
    let candidate = format!("candidate:1 1 udp 2130706431 {ip} {port} typ host");
    RTCIceCandidateInit {
        candidate,
        sdp_mid: Some("0".into()),
        sdp_mline_index: Some(0),
        ..Default::default()
    }
}
