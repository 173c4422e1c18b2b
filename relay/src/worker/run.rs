//! A worker: one thread, one socket, its transports and streams. Its loop is [`Worker::run`]; the rest of its work is
//! in the files beside, by idea.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    ops::ControlFlow,
    sync::{Arc, atomic::AtomicU64, mpsc},
    time::{Duration, Instant},
};

use waystation_proto::StreamKey;

use super::{
    PlaneConfig,
    count::{Counts, LoadMeter, Reason},
    events::Events,
    mail::{Contents, Mail, Mailbox, Parcel, Waker},
    outbox::Outbox,
    peer::Peer,
    publisher::Publisher,
    routes::{Routes, WorkerId},
    slots::Slots,
    stream::Stream,
    timers::Timers,
    wait,
};
use crate::{
    media::{clock::WallClock, history::PacketRef, player::Outcome, router::Router, start::Account},
    plane::{PlayId, PublishId, TransportId},
    transport::{
        DatagramKind,
        dtls::Identity,
        socket::{MediaSocket, RECEIVE_BATCH, ReceiveBatch},
    },
};

/// Longest wait of a round.
const MAX_WAIT: Duration = Duration::from_millis(200);
/// A worker whose rounds are further apart stood still.
const STANDSTILL: Duration = Duration::from_secs(1);
/// Receive calls of one round: timers and sends are not kept waiting by a flood.
const RECEIVES_PER_ROUND: usize = 8;
/// Parcels of one ring in one round.
const PARCELS_PER_ROUND: usize = 256;
/// Parcels that a worker may be behind; what does not fit is dropped and counted.
pub const RING_PARCELS: usize = 512;
/// A timer that was just served is not due again within this time, whatever it says: a round ends.
pub const MIN_TIMER: Duration = Duration::from_millis(1);
/// How often load and counts are told.
const LOAD_EVERY: Duration = Duration::from_secs(1);

/// What all workers share. Nothing in it is locked on the packet path.
pub struct Shared {
    /// Settings.
    pub config: PlaneConfig,
    /// Certificate and cryptography.
    pub identity: Identity,
    /// Who owns what.
    pub routes: Routes,
    /// What time it is.
    pub clock: WallClock,
    /// Our SSRC as a receiver.
    pub ssrc: u32,
    /// Our CNAME.
    pub cname: Arc<str>,
    /// Numbers of replicas.
    pub next_replica: AtomicU64,
    /// What is kept for players to start with.
    pub archives: Arc<Account>,
}

/// Another worker, as this one reaches it.
pub struct Other {
    /// Its mailbox.
    pub mailbox: Mailbox,
    /// The ring to it.
    pub ring: rtrb::Producer<Parcel>,
    /// Whether something was put there in this round.
    pub wake: bool,
}

/// Whose an address is.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A transport of this worker.
    Here(usize),
    /// A transport of another.
    There(WorkerId),
}

/// How often media of strangers is tried: each costs a decryption.
pub struct Trials {
    left: u32,
    since: Instant,
}

impl Trials {
    /// In each tenth of a second.
    const EACH: u32 = 20;
    const TIME: Duration = Duration::from_millis(100);

    fn new(now: Instant) -> Self {
        Self { left: Self::EACH, since: now }
    }

    /// Whether one more may be tried now.
    pub fn spend(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Self::TIME {
            *self = Self::new(now);
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A transport's slot.
    Peer(usize),
    /// Feedback to a publisher.
    Publish(PublishId),
    /// A stream's slot.
    Stream(usize),
    /// A stream's slot: players of it are on their way to the live edge.
    Start(usize),
}

/// A worker.
pub struct Worker {
    pub(super) id: WorkerId,
    pub(super) shared: Arc<Shared>,
    pub(super) socket: MediaSocket,
    pub(super) outbox: Outbox,
    pub(super) others: Vec<Option<Other>>,
    pub(super) peers: Slots<Peer>,
    pub(super) peer_of: BTreeMap<TransportId, usize>,
    /// Transports' slots by the publishes that they carry.
    pub(super) carriers: BTreeMap<PublishId, usize>,
    /// Streams' and transports' slots by play.
    pub(super) play_of: BTreeMap<PlayId, (usize, usize)>,
    pub(super) ufrags: HashMap<String, usize>,
    pub(super) addresses: HashMap<SocketAddr, Place>,
    /// Transports' slots by the SSRCs with which their peers send.
    pub(super) senders: HashMap<u32, usize>,
    pub(super) trials: Trials,
    pub(super) publishers: BTreeMap<PublishId, Publisher>,
    pub(super) router: Router,
    pub(super) streams: Slots<Stream>,
    pub(super) stream_of: BTreeMap<StreamKey, usize>,
    pub(super) replicas: HashMap<u64, usize>,
    pub(super) timers: Timers<Timer>,
    /// Streams with something to be sent at the end of the round.
    pub(super) due: Vec<usize>,
    /// Packets of the stream that is being sent.
    pub(super) batch: Vec<PacketRef>,
    /// What a player's message came to.
    pub(super) outcomes: Vec<(usize, PlayId, Outcome)>,
    pub(super) events: Events,
    pub(super) counts: Counts,
    received: ReceiveBatch,
    inbound: Vec<rtrb::Consumer<Parcel>>,
    mail: mpsc::Receiver<Mail>,
    waker: Waker,
    /// When the worker last stood still.
    pub(super) stood_at: Option<Instant>,
    load: LoadMeter,
    load_at: Instant,
    cpu_before: Duration,
}

/// What a worker is made of.
pub struct Parts {
    /// Its number.
    pub id: WorkerId,
    /// What all share.
    pub shared: Arc<Shared>,
    /// Its socket.
    pub socket: MediaSocket,
    /// The other workers; `None` is itself.
    pub others: Vec<Option<Other>>,
    /// Rings from the others.
    pub inbound: Vec<rtrb::Consumer<Parcel>>,
    /// Its mail.
    pub mail: mpsc::Receiver<Mail>,
    /// How it is woken.
    pub waker: Waker,
    /// Whom it tells.
    pub events: Events,
    /// What it tells of its load.
    pub load: LoadMeter,
}

impl Worker {
    /// A worker that serves nobody yet.
    #[must_use]
    pub fn new(parts: Parts, now: Instant) -> Self {
        Self {
            id: parts.id,
            shared: parts.shared,
            socket: parts.socket,
            outbox: Outbox::default(),
            others: parts.others,
            peers: Slots::default(),
            peer_of: BTreeMap::new(),
            carriers: BTreeMap::new(),
            play_of: BTreeMap::new(),
            ufrags: HashMap::new(),
            addresses: HashMap::new(),
            senders: HashMap::new(),
            trials: Trials::new(now),
            publishers: BTreeMap::new(),
            router: Router::default(),
            streams: Slots::default(),
            stream_of: BTreeMap::new(),
            replicas: HashMap::new(),
            timers: Timers::default(),
            due: Vec::new(),
            batch: Vec::new(),
            outcomes: Vec::new(),
            events: parts.events,
            counts: Counts::default(),
            received: ReceiveBatch::default(),
            inbound: parts.inbound,
            mail: parts.mail,
            waker: parts.waker,
            stood_at: None,
            load: parts.load,
            load_at: now + LOAD_EVERY,
            cpu_before: Duration::ZERO,
        }
    }

    /// Works until the last handle is gone.
    pub fn run(mut self) {
        let mut last_round = wait::boot_time();
        loop {
            let now = Instant::now();
            let wait =
                self.timers.next_at().map_or(MAX_WAIT, |at| at.saturating_duration_since(now).min(MAX_WAIT));
            wait::readable([self.socket.fd(), self.waker.fd()], wait);
            let now = Instant::now();
            let awake = wait::boot_time();
            if awake.saturating_sub(last_round) > STANDSTILL {
                self.stood_still(now);
            }
            last_round = awake;
            if self.round(now).is_break() {
                return;
            }
        }
    }

    fn round(&mut self, now: Instant) -> ControlFlow<()> {
        self.waker.clear();
        while let Ok(mail) = self.mail.try_recv() {
            self.open_mail(mail, now)?;
        }
        for ring in 0..self.inbound.len() {
            for _ in 0..PARCELS_PER_ROUND {
                let Ok(parcel) = self.inbound[ring].pop() else { break };
                self.open_parcel(parcel, now);
            }
            // What is left over waits for the next round, not for the next news.
            if !self.inbound[ring].is_empty() {
                self.waker.wake();
            }
        }
        self.receive(now);
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Peer(slot) => self.peer_due(slot, now),
                Timer::Publish(publish) => self.publish_due(publish, now),
                Timer::Stream(slot) => self.stream_due(slot, now),
                Timer::Start(slot) => self.starts_due(slot, now),
            }
        }
        while let Some(slot) = self.due.pop() {
            self.send_stream(slot, now);
        }
        self.outbox.send(&mut self.socket, &mut self.counts);
        self.events.flush();
        for other in self.others.iter_mut().flatten().filter(|other| other.wake) {
            other.wake = false;
            other.mailbox.waker().wake();
        }
        if now >= self.load_at {
            self.tell_load(now);
        }
        ControlFlow::Continue(())
    }

    fn receive(&mut self, now: Instant) {
        let mut received = std::mem::take(&mut self.received);
        for _ in 0..RECEIVES_PER_ROUND {
            let count = self.socket.receive(&mut received).unwrap_or_else(|error| {
                tracing::warn!(%error, "the media socket cannot be read");
                0
            });
            for index in 0..count {
                if let Some((bytes, from)) = received.datagram(index) {
                    self.datagram(bytes, from, now);
                }
            }
            if count < RECEIVE_BATCH {
                break;
            }
        }
        self.received = received;
    }

    /// SIGSTOP, or a suspended machine: what waited is old, and others may publish what was published here (PUB-11).
    fn stood_still(&mut self, now: Instant) {
        self.counts.stood_still();
        self.stood_at = Some(now);
        self.router.suspend_all();
        for publisher in self.publishers.values_mut() {
            publisher.forwards = false;
        }
        for (_, stream) in self.streams.iter_mut() {
            stream.pending.clear();
            stream.store.clear();
        }
        self.due.clear();
        let mut thrown = 0;
        while let Ok(count @ 1..) = self.socket.receive(&mut self.received) {
            thrown += count;
        }
        for ring in &mut self.inbound {
            while ring.pop().is_ok() {
                thrown += 1;
            }
        }
        self.counts.dropped(Reason::Stale, thrown);
        tracing::warn!(thrown, "the worker stood still; what waited was thrown away");
    }

    fn tell_load(&mut self, now: Instant) {
        let elapsed = LOAD_EVERY + now.saturating_duration_since(self.load_at);
        let cpu = wait::thread_cpu_time();
        let used = cpu.saturating_sub(self.cpu_before);
        self.cpu_before = cpu;
        self.load_at = now + LOAD_EVERY;
        let busy = used.as_secs_f64() / elapsed.as_secs_f64();
        let bits = self.counts.new_sent_bytes() as f64 * 8.0 / elapsed.as_secs_f64();
        self.load.set((busy * 1_000.0) as u32, bits as u64);
        self.counts.archives(self.shared.archives.held_bytes());
        self.counts.flush();
    }

    /// Sends mail to a worker, which may be this one.
    pub(super) fn mail_to(&mut self, worker: WorkerId, mail: Mail, now: Instant) {
        match self.others.get(usize::from(worker)) {
            Some(Some(other)) => other.mailbox.send(mail),
            // Mail to oneself never stops the worker.
            Some(None) => drop(self.open_mail(mail, now)),
            None => {}
        }
    }

    /// Puts a parcel into the ring to another worker.
    pub(super) fn parcel_to(&mut self, worker: WorkerId, contents: Contents, head: &[u8], tail: &[u8]) {
        let Some(Some(other)) = self.others.get_mut(usize::from(worker)) else { return };
        let Some(parcel) = Parcel::pack(contents, head, tail) else { return };
        match other.ring.push(parcel) {
            Ok(()) => other.wake = true,
            Err(_) => self.counts.dropped(Reason::RingFull, 1),
        }
    }

    fn open_parcel(&mut self, mut parcel: Parcel, now: Instant) {
        match parcel.contents {
            Contents::Datagram { from } => self.datagram(parcel.bytes(), from, now),
            Contents::Stray { from } => {
                if let Some(kind) = DatagramKind::of(parcel.bytes()) {
                    let _ = self.follow(kind, parcel.bytes(), from, now);
                }
            }
            Contents::Rtp(publish) => self.publisher_rtp(publish, parcel.bytes(), now),
            Contents::Rtcp(publish) => self.publisher_rtcp(publish, parcel.bytes(), now),
            Contents::Feedback(publish) => self.carry_feedback(publish, parcel.bytes(), now),
            Contents::Packet { stream, meta, extension_bytes } => {
                self.replica_packet(stream, meta, usize::from(extension_bytes), parcel.bytes(), now);
            }
        }
    }
}
