//! The load on a relay: one publisher and N players with real DTLS-SRTP, in one thread of one process.
//!
//! Every packet carries the clock at its send call; a player opens it and compares that with the kernel's time of
//! arrival, so that what the load itself takes to read is not counted as the relay's.

use std::{
    io::{self, BufRead as _},
    os::fd::AsRawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::{
    bare::{Identity, Peer},
    pace::{PAYLOAD_BYTES, Pace, realtime_ns},
    peer::{self, PAYLOAD_TYPE, Role},
    process::Cpu,
    receive::{self, Receiver},
};

const SSRC: u32 = 0x57_41_59_53;
/// A keyframe starts this often, in bursts: a player starts at one.
const KEYFRAME_EVERY: u64 = 25;
/// A relay forgets peers that it does not hear for 15 s.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(3);
/// Time for streams to start, for pacers and caches to settle.
const WARM_UP: Duration = Duration::from_secs(2);
/// What is still under way when the sender stops arrives within this.
const TAIL: Duration = Duration::from_millis(200);

/// Where and how much.
#[derive(Serialize, Deserialize)]
pub struct LoadConfig {
    pub node_url: String,
    pub room: String,
    pub stream: String,
    pub token: String,
    pub players: usize,
    pub burst: usize,
    pub seconds: u64,
}

/// What the load saw while it was measured.
#[derive(Serialize, Deserialize)]
pub struct LoadResult {
    /// Packets that the publisher sent.
    pub published: u64,
    /// Packets that all players together opened.
    pub received: u64,
    /// Datagrams that the players' sockets dropped: the load's own fault.
    pub dropped: u64,
    pub latency_p50_us: u64,
    pub latency_p99_us: u64,
    /// The load's own CPU time over the measured time, in percent of one CPU.
    pub cpu_percent: u64,
}

/// Players and what they received.
struct Players {
    peers: Vec<Peer>,
    receiver: Receiver,
    received: u64,
    dropped: Vec<u32>,
    latencies_ns: Vec<u64>,
}

struct Publisher {
    peer: Peer,
    sequence: u16,
    timestamp: u32,
    frames: u64,
}

/// Sets everything up, says `ready`, runs when told to on standard input, and prints a [`LoadResult`].
pub fn run(config: &LoadConfig) -> Result<()> {
    let identity = Arc::new(Identity::new().map_err(|e| anyhow!(e))?);
    let http = reqwest::blocking::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let url = |kind: &str| format!("{}/{kind}/{}/{}", config.node_url, config.room, config.stream);
    let peer = peer::open(&identity, &http, &url("whip"), &config.token, Role::Publish { ssrc: SSRC })?;
    let mut publisher = Publisher { peer, sequence: 0, timestamp: 0, frames: 0 };
    let mut peers = Vec::with_capacity(config.players);
    for _ in 0..config.players {
        let peer = peer::open(&identity, &http, &url("whep"), &config.token, Role::Play)?;
        receive::prepare(&peer.socket)?;
        peers.push(peer);
        keep_alive(&publisher.peer)?;
    }
    let dropped = vec![0; peers.len()];
    let mut players =
        Players { peers, receiver: Receiver::new(), received: 0, dropped, latencies_ns: Vec::new() };

    drive(&mut publisher, &mut players, config.burst, WARM_UP)?;
    println!("ready");
    if io::stdin().lock().lines().next().is_none() {
        bail!("nobody waits for the load");
    }
    players.forget();
    let before = Cpu::of(std::process::id())?;
    let first = publisher.sent(config.burst);
    drive(&mut publisher, &mut players, config.burst, Duration::from_secs(config.seconds))?;
    let cpu = Cpu::of(std::process::id())?.since(before);
    let published = publisher.sent(config.burst) - first;
    players.drain_for(TAIL)?;
    println!("{}", serde_json::to_string(&players.result(published, cpu, config.seconds))?);
    Ok(())
}

fn drive(publisher: &mut Publisher, players: &mut Players, burst: usize, time: Duration) -> Result<()> {
    let started = Instant::now();
    let mut pace = Pace::new(u32::try_from(burst)?, started);
    let mut keep_alive_at = started;
    while started.elapsed() < time {
        let now = Instant::now();
        if pace.due(now) {
            publisher.send(burst)?;
        }
        if now >= keep_alive_at {
            keep_alive_at = now + KEEP_ALIVE_EVERY;
            keep_alive(&publisher.peer)?;
            players.peers.iter().try_for_each(keep_alive)?;
        }
        players.wait(pace.wait(Instant::now()))?;
    }
    Ok(())
}

/// Says that a peer lives.
fn keep_alive(peer: &Peer) -> Result<()> {
    peer.check().map_err(|e| anyhow!(e))
}

impl Publisher {
    /// Packets sent so far, in bursts of this length.
    fn sent(&self, burst: usize) -> u64 {
        self.frames * burst as u64
    }

    /// One video frame: packets of one timestamp, the last with the marker.
    fn send(&mut self, burst: usize) -> Result<()> {
        self.timestamp = self.timestamp.wrapping_add(90 * 4 * burst as u32);
        let keyframe = self.frames.is_multiple_of(KEYFRAME_EVERY);
        for index in 0..burst {
            let mut packet = [0_u8; 12 + PAYLOAD_BYTES];
            packet[0] = 0x80;
            packet[1] = PAYLOAD_TYPE | if index + 1 == burst { 0x80 } else { 0 };
            packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
            packet[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
            packet[8..12].copy_from_slice(&SSRC.to_be_bytes());
            // RFC 7741: S at the frame's start; then the frame tag, whose lowest bit is 0 for a keyframe.
            packet[12] = if index == 0 { 0x10 } else { 0 };
            if index == 0 {
                packet[13] = u8::from(!keyframe);
                if keyframe {
                    packet[16..19].copy_from_slice(&[0x9d, 0x01, 0x2a]);
                }
            }
            packet[CLOCK_AT..CLOCK_AT + 8].copy_from_slice(&realtime_ns().to_be_bytes());
            let sealed = self.peer.seal.encrypt_rtp(&packet)?;
            self.peer.socket.send(&sealed)?;
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.frames += 1;
        Ok(())
    }
}

/// Where in an RTP packet without extensions the sender's clock is.
const CLOCK_AT: usize = 12 + 32;

impl Players {
    fn forget(&mut self) {
        self.received = 0;
        self.latencies_ns.clear();
        self.dropped.fill(0);
    }

    /// Waits for packets for at most `time`, then reads all there are.
    fn wait(&mut self, time: Duration) -> Result<()> {
        let mut fds: Vec<libc::pollfd> = self
            .peers
            .iter()
            .map(|peer| libc::pollfd { fd: peer.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        let timeout =
            libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        // SAFETY: the descriptors live as long as the peers, and the array and the time outlive the call.
        let count = unsafe {
            libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, &raw const timeout, std::ptr::null())
        };
        if count < 0 {
            return Err(io::Error::last_os_error()).context("ppoll");
        }
        for (index, _) in fds.iter().enumerate().filter(|(_, fd)| fd.revents != 0) {
            self.read(index)?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let Peer { socket, open, .. } = &mut self.peers[index];
        self.receiver.drain(socket, |datagram| {
            self.dropped[index] = datagram.dropped;
            let is_media = datagram.bytes.len() > 12 && datagram.bytes[1] & 0x7f == PAYLOAD_TYPE;
            let Some(packet) = is_media.then(|| open.decrypt_rtp(datagram.bytes).ok()).flatten() else {
                return;
            };
            // A packet may be padded at its end and carry header extensions: the clock is counted from the payload.
            let Some(clock) = packet.get(CLOCK_AT..CLOCK_AT + 8).and_then(|bytes| bytes.try_into().ok())
            else {
                return;
            };
            self.received += 1;
            self.latencies_ns.push(datagram.arrived_ns.saturating_sub(u64::from_be_bytes(clock)));
        })?;
        Ok(())
    }

    fn drain_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.wait(left)?;
        }
        Ok(())
    }

    fn result(mut self, published: u64, cpu: Cpu, seconds: u64) -> LoadResult {
        self.latencies_ns.sort_unstable();
        let percentile = |hundredths: usize| {
            let last = self.latencies_ns.len().saturating_sub(1);
            self.latencies_ns.get(last * hundredths / 100).copied().unwrap_or(0) / 1_000
        };
        LoadResult {
            published,
            received: self.received,
            dropped: self.dropped.iter().map(|&count| u64::from(count)).sum(),
            latency_p50_us: percentile(50),
            latency_p99_us: percentile(99),
            cpu_percent: (cpu.total.as_secs_f64() / seconds as f64 * 100.0).round() as u64,
        }
    }
}

/// Receivers for the floor: `ports` sockets that only read. Prints their ports, ends with standard input.
pub fn sink(ports: usize) -> Result<()> {
    let sockets: Vec<std::net::UdpSocket> =
        (0..ports).map(|_| std::net::UdpSocket::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    let ports: Vec<u16> =
        sockets.iter().map(|socket| Ok(socket.local_addr()?.port())).collect::<Result<_>>()?;
    println!("{}", serde_json::to_string(&ports)?);
    let (ended, end) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _hold = ended;
        io::stdin().lock().lines().for_each(drop);
    });
    let mut receiver = Receiver::new();
    let mut fds: Vec<libc::pollfd> = sockets
        .iter()
        .map(|s| libc::pollfd { fd: s.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    while end.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
        // SAFETY: the descriptors live as long as the sockets, and the array outlives the call.
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, 100) };
        for (socket, _) in sockets.iter().zip(&fds).filter(|(_, fd)| fd.revents != 0) {
            receiver.drain(socket, |_| ())?;
        }
    }
    Ok(())
}
