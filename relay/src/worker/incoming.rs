//! Datagrams: from strangers, and from peers.
//!
//! A stranger is answered only where a STUN check's integrity holds; everything else needs an address that passed one.

use std::{net::SocketAddr, time::Instant};

use super::{
    count::Reason,
    mail::{Contents, Mail},
    peer::{PeerKind, Phase},
    routes::{WorkerId, worker_of},
    run::{MIN_TIMER, Place, Timer, Worker},
};
use crate::{
    media::{
        player::Outcome,
        rtcp::{Message, messages},
        rtp,
    },
    plane::{PlaneEvent, PublishId, TransportEnd},
    transport::{
        DatagramKind,
        dtls::Progress,
        ice::{self, Check},
        srtp::{Opener, Sealer, SessionKeys},
    },
};

/// SSRCs whose senders are remembered.
const MAX_SENDERS: usize = 65_536;

impl Worker {
    /// Takes a datagram, wherever it landed.
    pub(super) fn datagram(&mut self, bytes: &mut [u8], from: SocketAddr, now: Instant) {
        let place = self.addresses.get(&from).copied();
        match (DatagramKind::of(bytes), place) {
            (Some(DatagramKind::Stun), _) => self.check(bytes, from, now),
            (Some(DatagramKind::Dtls), Some(Place::Here(slot))) => self.dtls(slot, bytes, now),
            (Some(DatagramKind::Rtp), Some(Place::Here(slot))) => self.rtp(slot, bytes, from, now),
            (Some(DatagramKind::Rtcp), Some(Place::Here(slot))) => self.rtcp(slot, bytes, from, now),
            (Some(_), Some(Place::There(worker))) => {
                self.parcel_to(worker, Contents::Datagram { from }, bytes, &[]);
            }
            (Some(kind @ (DatagramKind::Rtp | DatagramKind::Rtcp)), None) => {
                self.stray(kind, bytes, from, now)
            }
            (Some(DatagramKind::Dtls), None) | (None, _) => self.counts.dropped(Reason::Stranger, 1),
        }
    }

    /// Media from an address that nobody has: a peer behind a NAT that gave it another one (RFC 8445 leaves that to
    /// checks, which can take seconds). Whoever knows the SSRC tries to open it, a bounded number of times.
    fn stray(&mut self, kind: DatagramKind, bytes: &mut [u8], from: SocketAddr, now: Instant) {
        if self.trials.spend(now) && !self.follow(kind, bytes, from, now) {
            for worker in 0..self.others.len() {
                self.parcel_to(worker as WorkerId, Contents::Stray { from }, bytes, &[]);
            }
        }
    }

    /// Follows a peer of this worker to an address from which it sent something authentic. Whether its SSRC is known
    /// here.
    pub(super) fn follow(
        &mut self,
        kind: DatagramKind,
        bytes: &mut [u8],
        from: SocketAddr,
        now: Instant,
    ) -> bool {
        let ssrc_at = if kind == DatagramKind::Rtp { 8 } else { 4 };
        let Some(ssrc) = bytes.get(ssrc_at..ssrc_at + 4) else { return false };
        let Some(&slot) = self.senders.get(&rtp::be32(ssrc, 0)) else { return false };
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| matches!(peer.kind, PeerKind::Client { .. }))
        else {
            return true;
        };
        let Some(length) = peer.open(kind, bytes) else {
            self.counts.dropped(Reason::NotAuthentic, 1);
            return true;
        };
        peer.move_to(from);
        self.learn(slot, from);
        match kind {
            DatagramKind::Rtp => self.opened_rtp(slot, &bytes[..length], from, now),
            DatagramKind::Rtcp => self.opened_rtcp(slot, &bytes[..length], from, now),
            DatagramKind::Stun | DatagramKind::Dtls => {}
        }
        true
    }

    /// A STUN check.
    fn check(&mut self, bytes: &[u8], from: SocketAddr, now: Instant) {
        let Some(ufrag) = ice::local_ufrag(bytes) else { return self.counts.dropped(Reason::Stranger, 1) };
        match worker_of(ufrag) {
            Some(worker) if worker == self.id => {}
            Some(worker) => return self.parcel_to(worker, Contents::Datagram { from }, bytes, &[]),
            None => return self.counts.dropped(Reason::Stranger, 1),
        }
        let Some(&slot) = self.ufrags.get(ufrag) else { return self.counts.dropped(Reason::Stranger, 1) };
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let PeerKind::Client { ice, .. } = &peer.kind else { return };
        let crypto = self.shared.identity.provider().crypto();
        let Check::Holds { answer, nominates } = ice::check(bytes, from, ice, crypto) else {
            return self.counts.dropped(Reason::NotAuthentic, 1);
        };
        self.socket.send_to(&answer, from);
        if nominates {
            peer.move_to(from);
        }
        peer.heard(from, now);
        // A peer with several addresses may answer our DTLS from another than the one that it checked first.
        self.learn(slot, from);
        self.reachable(slot, now);
        self.proved(slot, now);
    }

    /// An address proved to be a peer's: every worker learns whose it is.
    pub(super) fn learn(&mut self, slot: usize, addr: SocketAddr) {
        if matches!(self.addresses.get(&addr), Some(Place::Here(at)) if *at == slot) {
            return;
        }
        let Some(peer) = self.peers.get_mut(slot) else { return };
        if let Some(forgotten) = peer.learn(addr) {
            self.unlearn(slot, forgotten);
        }
        self.addresses.insert(addr, Place::Here(slot));
        let id = self.id;
        self.tell_others(|| Mail::Address(addr, id));
    }

    /// An address is not a peer's any more, unless another proved it to be theirs since.
    pub(super) fn unlearn(&mut self, slot: usize, addr: SocketAddr) {
        if matches!(self.addresses.get(&addr), Some(Place::Here(at)) if *at == slot) {
            self.addresses.remove(&addr);
            let id = self.id;
            self.tell_others(|| Mail::NoAddress(addr, id));
        }
    }

    pub(super) fn tell_others(&self, mail: impl Fn() -> Mail) {
        for other in self.others.iter().flatten() {
            other.mailbox.send(mail());
        }
    }

    /// The publishes of a peer that passed a check may be forwarded again after a standstill.
    fn proved(&mut self, slot: usize, now: Instant) {
        let Some(peer) = self.peers.get(slot) else { return };
        let carried: Vec<(PublishId, WorkerId)> =
            peer.carried.iter().map(|(&id, &home)| (id, home)).collect();
        for (publish, home) in carried {
            self.mail_to(home, Mail::PeerProved(publish, now), now);
        }
    }

    fn reachable(&mut self, slot: usize, now: Instant) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let PeerKind::Client { dtls, .. } = &mut peer.kind else { return };
        let progress = dtls.reachable(&self.shared.identity, now);
        self.progress(slot, progress, now);
    }

    fn dtls(&mut self, slot: usize, bytes: &[u8], now: Instant) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let PeerKind::Client { dtls, .. } = &mut peer.kind else { return };
        let progress = dtls.read(&self.shared.identity, bytes, now);
        self.progress(slot, progress, now);
    }

    /// What DTLS came to; its datagrams leave.
    pub(super) fn progress(&mut self, slot: usize, progress: Progress, now: Instant) {
        self.flush_dtls(slot);
        match progress {
            Progress::None => {}
            Progress::Up(ours, theirs) => self.keys(slot, &ours, &theirs, now),
            Progress::Closed => return self.end_peer(slot, TransportEnd::ByPeer, now),
            Progress::WrongFingerprint => return self.end_peer(slot, TransportEnd::WrongFingerprint, now),
            Progress::Failed(how) => return self.end_peer(slot, TransportEnd::Dtls(how), now),
        }
        self.arm_peer(slot, now);
    }

    pub(super) fn flush_dtls(&mut self, slot: usize) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let addr = peer.addr();
        let PeerKind::Client { dtls, .. } = &mut peer.kind else { return };
        while let Some(datagram) = dtls.poll_transmit() {
            if let Some(addr) = addr {
                self.socket.send_to(&datagram, addr);
            }
        }
    }

    fn keys(&mut self, slot: usize, ours: &SessionKeys, theirs: &SessionKeys, now: Instant) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let Some(addr) = peer.addr() else { return };
        let crypto = self.shared.identity.provider().crypto();
        match (Sealer::new(ours, crypto), Opener::new(theirs, crypto)) {
            (Ok(sealer), Ok(opener)) => {
                peer.phase = Phase::Up { addr, sealer: Box::new(sealer), opener: Box::new(opener) };
                let event = PlaneEvent::TransportUp { transport: peer.id, profile: ours.profile.name() };
                self.events.tell(event);
                let plays = peer.plays.clone();
                for (play, stream) in plays {
                    self.start(stream, play, now);
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                self.end_peer(slot, TransportEnd::Dtls(error.to_string()), now);
            }
        }
    }

    fn rtp(&mut self, slot: usize, bytes: &mut [u8], from: SocketAddr, now: Instant) {
        match self.peers.get_mut(slot).and_then(|peer| peer.open(DatagramKind::Rtp, bytes)) {
            Some(length) => self.opened_rtp(slot, &bytes[..length], from, now),
            None => self.counts.dropped(Reason::NotAuthentic, 1),
        }
    }

    fn opened_rtp(&mut self, slot: usize, packet: &[u8], from: SocketAddr, now: Instant) {
        let ssrc = rtp::be32(packet, 8);
        self.remember(slot, ssrc);
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.heard(from, now);
        match peer.publish(ssrc) {
            Some((publish, home)) if home == self.id => self.publisher_rtp(publish, packet, now),
            Some((publish, home)) => self.parcel_to(home, Contents::Rtp(publish), packet, &[]),
            None => self.counts.dropped(Reason::Unbound, 1),
        }
    }

    fn rtcp(&mut self, slot: usize, bytes: &mut [u8], from: SocketAddr, now: Instant) {
        match self.peers.get_mut(slot).and_then(|peer| peer.open(DatagramKind::Rtcp, bytes)) {
            Some(length) => self.opened_rtcp(slot, &bytes[..length], from, now),
            None => self.counts.dropped(Reason::NotAuthentic, 1),
        }
    }

    fn opened_rtcp(&mut self, slot: usize, compound: &[u8], from: SocketAddr, now: Instant) {
        self.remember(slot, rtp::be32(compound, 4));
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.heard(from, now);
        }
        for message in messages(compound).map_while(Result::ok) {
            if let Message::SenderReport { ssrc, .. } = &message {
                self.sender_report(slot, *ssrc, compound, now);
            }
            // The send-side estimate is not made yet; the ring of departures stays true.
            if let (Message::TransportCc(feedback), Some(peer)) = (&message, self.peers.get_mut(slot)) {
                peer.departures.feedback(now, feedback, |_| ());
            }
            self.player_message(slot, &message, now);
        }
    }

    /// Who sends with an SSRC: only what was authentic gets here.
    fn remember(&mut self, slot: usize, ssrc: u32) {
        if self.senders.get(&ssrc) != Some(&slot) && self.senders.len() < MAX_SENDERS {
            self.senders.insert(ssrc, slot);
        }
    }

    fn sender_report(&mut self, slot: usize, ssrc: u32, compound: &[u8], now: Instant) {
        match self.peers.get(slot).and_then(|peer| peer.publish(ssrc)) {
            Some((publish, home)) if home == self.id => self.publisher_rtcp(publish, compound, now),
            Some((publish, home)) => self.parcel_to(home, Contents::Rtcp(publish), compound, &[]),
            None => {}
        }
    }

    /// A message may be about any play on the transport: each knows its own SSRCs. A client has one.
    fn player_message(&mut self, slot: usize, message: &Message<'_>, now: Instant) {
        let Some(peer) = self.peers.get(slot) else { return };
        let mut outcomes = std::mem::take(&mut self.outcomes);
        for (&play, &stream_slot) in &peer.plays {
            let player = self.streams.get_mut(stream_slot).and_then(|stream| stream.players.get_mut(&play));
            if let Some(player) = player {
                player.egress.handle(now, message, |outcome| outcomes.push((stream_slot, play, outcome)));
            }
        }
        for (stream_slot, play, outcome) in outcomes.drain(..) {
            match outcome {
                Outcome::Resend { kind, output } => self.resend(stream_slot, play, kind, output, now),
                Outcome::WantsKeyframe => self.player_wants_keyframe(stream_slot, play, now),
                Outcome::Reception(quality) => self.player_reports(stream_slot, play, &quality, now),
                Outcome::Estimate { .. } => {}
            }
        }
        self.outcomes = outcomes;
    }

    /// Arms a transport's timer.
    pub(super) fn arm_peer(&mut self, slot: usize, now: Instant) {
        let timeout = self.shared.config.session_timeout;
        if let Some(at) = self.peers.get(slot).and_then(|peer| peer.next_at(timeout)) {
            self.timers.arm(Timer::Peer(slot), at.max(now + MIN_TIMER));
        }
    }
}
