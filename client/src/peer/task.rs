//! Drives one peer connection: a socket, a timer, and a channel each way.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{net::UdpSocket, sync::mpsc, time::sleep_until};

use super::{
    connection::{Connection, Output, PeerError},
    offer::Direction,
};
use crate::media::RtpPacket;

/// Packets on their way into the task: a keyframe of 4 MiB.
const MAX_QUEUED_PACKETS: usize = 4096;

/// Requests on their way into the task.
const MAX_QUEUED_REQUESTS: usize = 16;

/// Kernel buffer asked for: half a second of 8 Mbit/s.
const SOCKET_BUFFER_BYTES: usize = 512 << 10;

/// Largest datagram.
const MAX_DATAGRAM_BYTES: usize = 2048;

/// Datagrams or packets handled before the others get a turn.
const BURST: usize = 64;

/// What a peer connection tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerReport {
    /// ICE and DTLS are up.
    Up,
    /// The node's answer cannot be used; the last report.
    BadAnswer(String),
    /// It has failed or was closed by the node; the last report.
    Down,
    /// The node asks for a keyframe.
    KeyframeWanted,
    /// That many packets were asked for again.
    Nacked(usize),
}

enum Request {
    Answer(String),
    Keyframe,
}

/// A peer connection; dropping it says goodbye to the node and ends its task.
#[derive(Debug)]
pub(crate) struct Peer {
    offer: String,
    heard: Arc<Heard>,
    requests: mpsc::Sender<Request>,
    packets: mpsc::Sender<RtpPacket>,
}

/// Where a task's news go.
pub(crate) struct Sinks {
    /// Called with each report.
    pub(crate) report: Box<dyn FnMut(PeerReport) + Send>,
    /// Called with each packet of media.
    pub(crate) media: Box<dyn FnMut(RtpPacket, Instant) + Send>,
}

impl Peer {
    /// Opens a socket towards the node and starts a connection's task. Within a tokio runtime.
    pub(crate) fn start(direction: &Direction, node: SocketAddr, sinks: Sinks) -> Result<Self, PeerError> {
        let socket = socket_towards(node).map_err(|error| PeerError::Socket { node, error })?;
        let local = socket.local_addr().map_err(|error| PeerError::Socket { node, error })?;
        let (connection, offer) = Connection::offer(direction, local, Instant::now())?;
        let (requests, requests_out) = mpsc::channel(MAX_QUEUED_REQUESTS);
        let (packets, packets_out) = mpsc::channel(MAX_QUEUED_PACKETS);
        let heard = Arc::new(Heard::new(Instant::now()));
        let task = Task { connection, socket, sinks, heard: heard.clone() };
        tokio::spawn(task.run(requests_out, packets_out));
        Ok(Self { offer, heard, requests, packets })
    }

    /// The offer to send to the node.
    pub(crate) fn offer(&self) -> &str {
        &self.offer
    }

    /// When the last authentic packet came. Every packet counts, so this is read and not told.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.heard.get()
    }

    /// Gives it the node's answer.
    pub(crate) fn answer(&self, sdp: String) {
        // A full or closed queue is a connection that will report that it is down.
        let _ = self.requests.try_send(Request::Answer(sdp));
    }

    /// Asks the node for a keyframe.
    pub(crate) fn request_keyframe(&self) {
        // One more request of the same kind would change nothing.
        let _ = self.requests.try_send(Request::Keyframe);
    }

    /// Where packets to send go in.
    pub(crate) fn packets(&self) -> mpsc::Sender<RtpPacket> {
        self.packets.clone()
    }
}

/// When something authentic came last.
#[derive(Debug)]
struct Heard {
    start: Instant,
    /// Nanoseconds since then; 0 is never.
    after_ns: AtomicU64,
}

impl Heard {
    fn new(start: Instant) -> Self {
        Self { start, after_ns: AtomicU64::new(0) }
    }

    fn set(&self, at: Instant) {
        let after = u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        self.after_ns.store(after.max(1), Ordering::Relaxed);
    }

    fn get(&self) -> Option<Instant> {
        match self.after_ns.load(Ordering::Relaxed) {
            0 => None,
            after => Some(self.start + Duration::from_nanos(after)),
        }
    }
}

/// A socket on the address from which the system would reach the node.
fn socket_towards(node: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = match node {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let probe = std::net::UdpSocket::bind(any)?;
    // Sends nothing; it only asks for the route.
    probe.connect(node)?;
    let socket = std::net::UdpSocket::bind((probe.local_addr()?.ip(), 0))?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    options.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

struct Task {
    connection: Connection,
    socket: UdpSocket,
    sinks: Sinks,
    heard: Arc<Heard>,
}

impl Task {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, mut packets: mpsc::Receiver<RtpPacket>) {
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
        let mut outgoing = Vec::with_capacity(BURST);
        // A connection with nothing to wait for looks again after this long.
        const IDLE: Duration = Duration::from_secs(1);
        loop {
            if !self.flush().await {
                break;
            }
            let due = self.connection.poll_timeout().unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Answer(sdp)) => {
                        if let Err(error) = self.connection.accept_answer(&sdp, Instant::now()) {
                            (self.sinks.report)(PeerReport::BadAnswer(error.to_string()));
                            break;
                        }
                    }
                    Some(Request::Keyframe) => self.connection.request_keyframe(Instant::now()),
                    None => break,
                },
                received = self.socket.recv_from(&mut buffer) => self.received(received, &mut buffer),
                1.. = packets.recv_many(&mut outgoing, BURST) => {
                    let now = Instant::now();
                    outgoing.drain(..).for_each(|packet| self.connection.send(packet, now));
                }
                () = sleep_until(due.into()) => self.connection.handle_timeout(Instant::now()),
            }
        }
        self.connection.close(Instant::now());
        self.flush().await;
    }

    fn received(&mut self, first: std::io::Result<(usize, SocketAddr)>, buffer: &mut [u8]) {
        let mut next = first;
        for _ in 0..BURST {
            // An error is one of the address (ICMP) and not of the socket: silence will tell.
            let Ok((bytes, from)) = next else { return };
            self.connection.handle_datagram(from, BytesMut::from(&buffer[..bytes]), Instant::now());
            next = self.socket.try_recv_from(buffer);
        }
    }

    /// Does what the connection wants. `false` when it is down.
    async fn flush(&mut self) -> bool {
        while let Some(output) = self.connection.poll_output() {
            match output {
                Output::Transmit { to, datagram } => {
                    if let Err(error) = self.socket.send_to(&datagram, to).await {
                        tracing::debug!(%to, %error, "datagram not sent");
                    }
                }
                Output::Up => (self.sinks.report)(PeerReport::Up),
                Output::Down => {
                    (self.sinks.report)(PeerReport::Down);
                    return false;
                }
                Output::Heard(at) => self.heard.set(at),
                Output::KeyframeWanted => (self.sinks.report)(PeerReport::KeyframeWanted),
                Output::Media(packet) => (self.sinks.media)(packet, Instant::now()),
                Output::Nacked(count) => (self.sinks.report)(PeerReport::Nacked(count)),
            }
        }
        true
    }
}
