//! Counts of the data plane: plain numbers on the packet path, brought to the metrics now and then.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use metrics::{Counter, Gauge, Unit};

use crate::media::start::GivenUp;

/// Says what each metric is. Call it once, before the first scrape.
pub fn describe() {
    use metrics::{describe_counter, describe_gauge};
    for (name, unit, text) in [
        ("waystation_relay_packets_received_total", Unit::Count, "Media packets received, by kind."),
        (
            "waystation_relay_packets_sent_total",
            Unit::Count,
            "Datagrams with media sent to players and links.",
        ),
        ("waystation_relay_received_bytes_total", Unit::Bytes, "Bytes of media received."),
        ("waystation_relay_sent_bytes_total", Unit::Bytes, "Bytes of media sent."),
        ("waystation_relay_send_calls_total", Unit::Count, "System calls that sent media."),
        ("waystation_relay_retransmissions_total", Unit::Count, "Packets sent again on request."),
        (
            "waystation_relay_packets_dropped_total",
            Unit::Count,
            "Packets that were not taken or not sent, by reason.",
        ),
        (
            "waystation_relay_standstills_total",
            Unit::Count,
            "Times that a worker stood still for over a second.",
        ),
    ] {
        describe_counter!(name, unit, text);
    }
    for (name, text) in [
        ("waystation_relay_starts_total", "Plays whose video began, by what it began with."),
        (
            "waystation_relay_archives_given_up_total",
            "Archives that were given up until the next keyframe, by reason.",
        ),
        (
            "waystation_relay_keyframe_requests_refused_total",
            "Requests for keyframes of players that asked too often.",
        ),
    ] {
        describe_counter!(name, Unit::Count, text);
    }
    describe_gauge!(
        "waystation_relay_archive_bytes",
        Unit::Bytes,
        "Old packets that are kept for players to start with."
    );
    describe_gauge!(
        "waystation_relay_transports",
        Unit::Count,
        "Transports: peers with an address and keys of their own."
    );
}

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing that belongs here, or from an address that passed no check.
    Stranger,
    /// It did not authenticate, or was seen before.
    NotAuthentic,
    /// No publish takes it.
    Unbound,
    /// The kernel did not take it.
    SocketFull,
    /// A ring to another worker was full.
    RingFull,
    /// It waited while the worker stood still.
    Stale,
}

/// What a play's video began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    /// A keyframe as it came.
    Live,
    /// A keyframe of a moment ago.
    Young,
    /// An old keyframe.
    Old,
}

const BEGINNINGS: [&str; 3] = ["live", "young", "old"];
const GIVEN_UP: [&str; 3] = ["hole", "too_much", "full"];

const REASONS: [(Reason, &str); 6] = [
    (Reason::Stranger, "stranger"),
    (Reason::NotAuthentic, "not_authentic"),
    (Reason::Unbound, "unbound"),
    (Reason::SocketFull, "socket_full"),
    (Reason::RingFull, "ring_full"),
    (Reason::Stale, "stale"),
];

/// A number on the packet path, and the counter that it is brought to.
struct Count {
    new: u64,
    counter: Counter,
}

impl Count {
    fn of(counter: Counter) -> Self {
        Self { new: 0, counter }
    }

    fn flush(&mut self) {
        if self.new > 0 {
            self.counter.increment(std::mem::take(&mut self.new));
        }
    }
}

/// The counts of one worker.
pub struct Counts {
    received_audio: Count,
    received_video: Count,
    received_bytes: Count,
    sent: Count,
    sent_bytes: Count,
    calls: Count,
    again: Count,
    standstills: Counter,
    dropped: [Count; REASONS.len()],
    began: [Count; BEGINNINGS.len()],
    given_up: [Count; GIVEN_UP.len()],
    refused: Count,
    transports: Gauge,
    archives: Gauge,
}

impl Default for Counts {
    fn default() -> Self {
        let received =
            |kind: &'static str| metrics::counter!("waystation_relay_packets_received_total", "kind" => kind);
        let dropped =
            |why: &'static str| metrics::counter!("waystation_relay_packets_dropped_total", "reason" => why);
        Self {
            received_audio: Count::of(received("audio")),
            received_video: Count::of(received("video")),
            received_bytes: Count::of(metrics::counter!("waystation_relay_received_bytes_total")),
            sent: Count::of(metrics::counter!("waystation_relay_packets_sent_total")),
            sent_bytes: Count::of(metrics::counter!("waystation_relay_sent_bytes_total")),
            calls: Count::of(metrics::counter!("waystation_relay_send_calls_total")),
            again: Count::of(metrics::counter!("waystation_relay_retransmissions_total")),
            standstills: metrics::counter!("waystation_relay_standstills_total"),
            dropped: REASONS.map(|(_, name)| Count::of(dropped(name))),
            began: BEGINNINGS
                .map(|with| Count::of(metrics::counter!("waystation_relay_starts_total", "with" => with))),
            given_up: GIVEN_UP.map(|why| {
                Count::of(metrics::counter!("waystation_relay_archives_given_up_total", "reason" => why))
            }),
            refused: Count::of(metrics::counter!("waystation_relay_keyframe_requests_refused_total")),
            archives: metrics::gauge!("waystation_relay_archive_bytes"),
            transports: metrics::gauge!("waystation_relay_transports"),
        }
    }
}

impl Counts {
    /// A media packet of a publish arrived.
    pub fn received(&mut self, kind: crate::plane::Kind, bytes: usize) {
        match kind {
            crate::plane::Kind::Audio => self.received_audio.new += 1,
            crate::plane::Kind::Video => self.received_video.new += 1,
        }
        self.received_bytes.new += bytes as u64;
    }

    /// Media was handed to the kernel.
    pub fn sent(&mut self, outcome: crate::transport::socket::Sent, bytes: usize) {
        self.sent.new += outcome.datagrams as u64;
        self.sent_bytes.new += bytes as u64;
        self.calls.new += outcome.calls as u64;
        self.dropped(Reason::SocketFull, outcome.dropped);
    }

    /// A packet is sent again.
    pub fn again(&mut self) {
        self.again.new += 1;
    }

    /// A play's video began.
    pub fn began(&mut self, with: Began) {
        self.began[with as usize].new += 1;
    }

    /// An archive was given up.
    pub fn gave_up(&mut self, why: GivenUp) {
        self.given_up[why as usize].new += 1;
    }

    /// A player asked for too many keyframes.
    pub fn refused_request(&mut self) {
        self.refused.new += 1;
    }

    /// What all archives of the relay hold.
    pub fn archives(&self, bytes: usize) {
        self.archives.set(bytes as f64);
    }

    /// Packets went no further.
    pub fn dropped(&mut self, reason: Reason, count: usize) {
        self.dropped[reason as usize].new += count as u64;
    }

    /// The worker stood still. That is seldom, and said at once.
    pub fn stood_still(&self) {
        self.standstills.increment(1);
    }

    /// A transport came or went.
    pub fn transports(&self, change: f64) {
        self.transports.increment(change);
    }

    /// Brings the numbers to the metrics.
    pub fn flush(&mut self) {
        let Self { received_audio, received_video, received_bytes, sent, sent_bytes, calls, again, .. } =
            self;
        for count in [received_audio, received_video, received_bytes, sent, sent_bytes, calls, again] {
            count.flush();
        }
        let Self { dropped, began, given_up, refused, .. } = self;
        dropped.iter_mut().chain(began).chain(given_up).chain([refused]).for_each(Count::flush);
    }

    /// Bytes of media sent since the last flush.
    #[must_use]
    pub fn new_sent_bytes(&self) -> u64 {
        self.sent_bytes.new
    }
}

/// What a worker tells of its load; read by the handle.
#[derive(Clone, Debug, Default)]
pub struct LoadMeter(Arc<Meter>);

#[derive(Debug, Default)]
struct Meter {
    busy_permille: AtomicU32,
    out_bits_per_second: AtomicU64,
}

impl LoadMeter {
    /// Sets both figures.
    pub fn set(&self, busy_permille: u32, out_bits_per_second: u64) {
        self.0.busy_permille.store(busy_permille.min(1000), Ordering::Relaxed);
        self.0.out_bits_per_second.store(out_bits_per_second, Ordering::Relaxed);
    }

    /// (busy permille, bits per second).
    #[must_use]
    pub fn get(&self) -> (u32, u64) {
        (self.0.busy_permille.load(Ordering::Relaxed), self.0.out_bits_per_second.load(Ordering::Relaxed))
    }
}
