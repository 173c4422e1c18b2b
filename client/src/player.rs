//! An app's handle of a played stream, and the engine's end of it.
//!
//! Packets come from the session in use; those of one that is being tried are kept until it is used. Invariant: the
//! app never slows a peer connection down: what it does not fetch in time is dropped and counted.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use waystation_proto::{NodeRef, StreamKey};

use crate::{
    config::PlayConfig,
    engine::{Command, Commands, PlayId, wait_until},
    machine::AttemptId,
    media::{Gap, GapMeter, JitterBuffer, Kind, ReceivedSample, RtpPacket},
};

/// Packets that wait for the app: some seconds of video.
const MAX_WAITING: usize = 4096;

/// Packets kept of a session that is not used yet: a keyframe and what follows in the meantime.
const MAX_KEPT: usize = 1024;

/// What a player has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlayerStats {
    /// Packets received from the sessions in use.
    pub packets: u64,
    /// Their payloads.
    pub bytes: u64,
    /// Frames and Opus packets handed out by [`Player::recv_sample`].
    pub frames: u64,
    /// Packets that never came in time, as [`Player::recv_sample`] found.
    pub lost: u64,
    /// Packets that were asked for again.
    pub nacks: u64,
    /// Packets dropped because the app did not fetch them in time.
    pub dropped: u64,
    /// The last stop of over 100 ms, or change of node: how long there was no media.
    pub last_gap: Option<Duration>,
    /// The node in use.
    pub node: Option<NodeRef>,
}

/// A stream that is being played. Dropping it stops it.
#[derive(Debug)]
pub struct Player {
    key: StreamKey,
    id: PlayId,
    packets: mpsc::Receiver<(RtpPacket, Instant)>,
    buffers: BTreeMap<Kind, JitterBuffer>,
    inlet: Arc<Inlet>,
    commands: Commands,
}

impl Player {
    pub(crate) fn new(
        key: StreamKey,
        id: PlayId,
        config: &PlayConfig,
        (inlet, packets): (Arc<Inlet>, mpsc::Receiver<(RtpPacket, Instant)>),
        commands: Commands,
    ) -> Self {
        let buffer = |kind| (kind, JitterBuffer::new(config.patience));
        let buffers = [Kind::Audio, Kind::Video].map(buffer).into();
        Self { key, id, packets, buffers, inlet, commands }
    }

    /// Which stream.
    #[must_use]
    pub fn key(&self) -> &StreamKey {
        &self.key
    }

    /// The next packet, in the order of arrival. `None` when the player has ended. Cancel safe.
    ///
    /// An app uses this or [`Self::recv_sample`]: what one takes, the other does not see.
    pub async fn recv_rtp(&mut self) -> Option<RtpPacket> {
        self.packets.recv().await.map(|(packet, _)| packet)
    }

    /// The next whole frame or Opus packet, each track in its order. `None` when the player has ended. Cancel safe.
    pub async fn recv_sample(&mut self) -> Option<ReceivedSample> {
        loop {
            let now = Instant::now();
            if let Some(sample) = self.buffers.values_mut().find_map(|buffer| buffer.pop(now)) {
                return Some(sample);
            }
            let due = self.buffers.values().filter_map(JitterBuffer::poll_timeout).min();
            let received = tokio::select! {
                received = self.packets.recv() => received,
                () = wait_until(due) => continue,
            };
            let (packet, arrived) = received?;
            if let Some(buffer) = self.buffers.get_mut(&packet.codec.kind()) {
                buffer.push(packet, arrived);
            }
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> PlayerStats {
        let mut stats = self.inlet.state().stats.clone();
        for buffer in self.buffers.values().map(JitterBuffer::stats) {
            stats.frames += buffer.samples;
            stats.lost += buffer.lost;
        }
        stats
    }

    /// Asks for a keyframe, for an app whose decoder has lost its way.
    pub fn request_keyframe(&self) {
        self.commands.post(Command::RequestKeyframe { id: self.id, key: self.key.clone() });
    }

    /// Stops playing (PLAY-8). Returns when `NoPlay` was told.
    pub async fn stop(self) {
        let (id, key) = (self.id, self.key.clone());
        self.commands.until_ended(|ended| Command::StopPlaying { id, key, ended: Some(ended) }).await;
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let key = self.key.clone();
        self.commands.post(Command::StopPlaying { id: self.id, key, ended: None });
    }
}

/// Where a player's packets come in.
#[derive(Debug)]
pub(crate) struct Inlet {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    used: Option<AttemptId>,
    kept: BTreeMap<AttemptId, VecDeque<(RtpPacket, Instant)>>,
    out: Option<mpsc::Sender<(RtpPacket, Instant)>>,
    meter: GapMeter<NodeRef>,
    stats: PlayerStats,
}

impl Inlet {
    /// An inlet, and the packets that come out of it.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<(RtpPacket, Instant)>) {
        let (out, packets) = mpsc::channel(MAX_WAITING);
        let state = State {
            used: None,
            kept: BTreeMap::new(),
            out: Some(out),
            meter: GapMeter::new(),
            stats: PlayerStats::default(),
        };
        (Arc::new(Self { state: Mutex::new(state) }), packets)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session's first sign: its packets are kept until it is used or forgotten.
    pub(crate) fn expect(&self, attempt: AttemptId) {
        self.state().kept.insert(attempt, VecDeque::new());
    }

    /// Takes a session's packet in. Tells of the gap that it ended.
    pub(crate) fn packet(
        &self,
        attempt: AttemptId,
        node: &NodeRef,
        packet: RtpPacket,
        now: Instant,
    ) -> Option<Gap<NodeRef>> {
        let mut state = self.state();
        if state.used == Some(attempt) {
            return state.deliver(node, packet, now);
        }
        let kept = state.kept.get_mut(&attempt)?;
        if kept.len() == MAX_KEPT {
            kept.pop_front();
        }
        kept.push_back((packet, now));
        None
    }

    /// Uses this session from now on. Tells of the gap that its first packet ended.
    pub(crate) fn use_session(&self, attempt: AttemptId, node: &NodeRef) -> Option<Gap<NodeRef>> {
        let mut state = self.state();
        state.used = Some(attempt);
        state.stats.node = Some(node.clone());
        let kept = state.kept.remove(&attempt).unwrap_or_default();
        let gaps: Vec<_> =
            kept.into_iter().filter_map(|(packet, arrived)| state.deliver(node, packet, arrived)).collect();
        gaps.into_iter().next()
    }

    /// A session has ended.
    pub(crate) fn forget(&self, attempt: AttemptId) {
        let mut state = self.state();
        state.kept.remove(&attempt);
        if state.used == Some(attempt) {
            state.used = None;
            state.stats.node = None;
        }
    }

    /// Packets were asked for again.
    pub(crate) fn nacked(&self, count: usize) {
        self.state().stats.nacks += count as u64;
    }

    /// The player has ended: what waits is still handed out.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.out = None;
        state.kept.clear();
    }
}

impl State {
    fn deliver(&mut self, node: &NodeRef, packet: RtpPacket, now: Instant) -> Option<Gap<NodeRef>> {
        self.stats.packets += 1;
        self.stats.bytes += packet.payload.len() as u64;
        if let Some(out) = &self.out
            && out.try_send((packet, now)).is_err()
        {
            self.stats.dropped += 1;
        }
        let gap = self.meter.packet(node, now);
        if let Some(gap) = &gap {
            self.stats.last_gap = Some(gap.lasted);
        }
        gap
    }
}
