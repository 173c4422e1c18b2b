//! What is due by the clock: DTLS flights, silences, beats, held frames, reports.

use std::time::Instant;

use super::{
    mail::{LinePoints, Mail},
    peer::{KEYS_WITHIN, PeerKind, Phase},
    run::{Timer, Worker},
    stream::{Flow, REPORT_EVERY, Side, Stream, TICK},
};
use crate::{
    media::rtcp_write::Writer,
    plane::{Kind, PlaneEvent, PlayId, PublishId, TransportEnd},
};

/// Room of a compound of sender reports.
const REPORT_BYTES: usize = 512;

impl Worker {
    /// A transport's timer.
    pub(super) fn peer_due(&mut self, slot: usize, now: Instant) {
        let timeout = self.shared.config.session_timeout;
        let Some(peer) = self.peers.get_mut(slot) else { return };
        // The timer may be that of a client that had the slot before; a link lives by its gRPC stream.
        if matches!(peer.kind, PeerKind::Link) {
            return;
        }
        if now.saturating_duration_since(peer.heard_at) >= timeout {
            return self.end_peer(slot, TransportEnd::Silent, now);
        }
        if peer.is_overdue(now) {
            let how = format!("no keys within {KEYS_WITHIN:?}");
            return self.end_peer(slot, TransportEnd::Dtls(how), now);
        }
        let beats = match (&peer.phase, peer.beat) {
            (Phase::Up { .. }, Some(beat)) => now.saturating_duration_since(beat.sent_at) >= beat.every,
            (Phase::Up { .. } | Phase::Unreachable | Phase::Shaking { .. }, _) => false,
        };
        let PeerKind::Client { dtls, .. } = &mut peer.kind else { return };
        let progress = dtls.handle_timeout(now);
        self.progress(slot, progress, now);
        if beats {
            self.beat(slot, now);
            self.arm_peer(slot, now);
        }
    }

    /// An empty receiver report: the peer hears that we are here.
    fn beat(&mut self, slot: usize, now: Instant) {
        let mut compound = [0; 8];
        let mut writer = Writer::new(&mut compound);
        if writer.receiver_report(self.shared.ssrc, &[]).is_some() {
            let length = writer.written();
            self.send_rtcp(slot, &compound[..length], now);
        }
    }

    /// A stream's timer.
    pub(super) fn stream_due(&mut self, slot: usize, now: Instant) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        if stream.pending.deadline().is_some_and(|at| at <= now) && !self.due.contains(&slot) {
            self.due.push(slot);
        }
        for (&play, player) in &mut stream.players {
            if player.flow.ran_dry(now) && self.events.offer(PlaneEvent::PlayFlow { play, flowing: false }) {
                player.flow = Flow::Idle;
            }
        }
        self.look_again(slot, now);
        let Some(stream) = self.streams.get_mut(slot) else { return };
        let points = match &stream.side {
            Side::Home { source, .. } if now >= stream.report_at => {
                stream.report_at = now + REPORT_EVERY;
                let (audio, video) =
                    (source.line_point(Kind::Audio, now), source.line_point(Kind::Video, now));
                Some(LinePoints { audio, video })
            }
            Side::Home { .. } | Side::Replica { .. } => None,
        };
        if let Some(points) = points {
            self.tell_watchers(slot, points);
            self.report(slot, &points, now);
        }
        self.arm_stream(slot, now);
    }

    pub(super) fn arm_stream(&mut self, slot: usize, now: Instant) {
        let Some(stream) = self.streams.get(slot) else { return };
        // A held frame armed its own deadline; one that is due now is sent in this round.
        let held = stream.pending.deadline().filter(|&at| at > now);
        self.timers.arm(Timer::Stream(slot), held.map_or(now + TICK, |at| at.min(now + TICK)));
    }

    fn tell_watchers(&self, slot: usize, points: LinePoints) {
        let Some(Stream { side: Side::Home { watchers, .. }, .. }) = self.streams.get(slot) else { return };
        for &(worker, number) in watchers {
            if let Some(Some(other)) = self.others.get(usize::from(worker)) {
                other.mailbox.send(Mail::Report(number, points));
            }
        }
    }

    /// Sender reports to the players of this worker.
    pub(super) fn report(&mut self, slot: usize, points: &LinePoints, now: Instant) {
        let Some(stream) = self.streams.get(slot) else { return };
        let plays: Vec<PlayId> = stream.players.keys().copied().collect();
        let mut compound = [0; REPORT_BYTES];
        for play in plays {
            let Some(player) = self.streams.get_mut(slot).and_then(|s| s.players.get_mut(&play)) else {
                continue;
            };
            let peer = player.peer;
            let cname = &self.shared.cname;
            let length = player.egress.sender_report(now, cname, |kind| points.of(kind), &mut compound);
            if let Some(length) = length {
                self.send_rtcp(peer, &compound[..length], now);
            }
        }
    }

    /// Feedback of a publish, made at its stream's home, leaves on its transport.
    pub(super) fn carry_feedback(&mut self, publish: PublishId, compound: &[u8], now: Instant) {
        if let Some(&slot) = self.carriers.get(&publish) {
            self.send_rtcp(slot, compound, now);
        }
    }
}
