//! Datagrams: from strangers, and from peers.
//!
//! A stranger is answered only where a STUN check's integrity holds; everything else needs an address that passed one.

use std::{net::SocketAddr, time::Instant};

use super::{
    count::Reason,
    mail::{Contents, Mail},
    peer::{PeerKind, Phase},
    routes::{WorkerId, worker_of},
    run::{Place, Timer, Worker},
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

impl Worker {
    /// Takes a datagram, wherever it landed.
    pub(super) fn datagram(&mut self, bytes: &mut [u8], from: SocketAddr, now: Instant) {
        let place = self.addresses.get(&from).copied();
        match (DatagramKind::of(bytes), place) {
            (Some(DatagramKind::Stun), _) => self.check(bytes, from, now),
            (Some(DatagramKind::Dtls), Some(Place::Here(slot))) => self.dtls(slot, bytes, now),
            (Some(DatagramKind::Rtp), Some(Place::Here(slot))) => self.rtp(slot, bytes, now),
            (Some(DatagramKind::Rtcp), Some(Place::Here(slot))) => self.rtcp(slot, bytes, now),
            (Some(_), Some(Place::There(worker))) => {
                self.parcel_to(worker, Contents::Datagram { from }, bytes, &[]);
            }
            (Some(_), None) | (None, _) => self.counts.dropped(Reason::Stranger, 1),
        }
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
        peer.heard_at = now;
        let before = peer.addr();
        if before.is_none() || (nominates && before != Some(from)) {
            peer.move_to(from);
            self.settle(slot, before, from);
        }
        self.reachable(slot, now);
        self.proved(slot, now);
    }

    /// A peer is at another address: every worker learns whose it is.
    pub(super) fn settle(&mut self, slot: usize, before: Option<SocketAddr>, addr: SocketAddr) {
        self.addresses.insert(addr, Place::Here(slot));
        let id = self.id;
        if let Some(before) = before {
            self.addresses.remove(&before);
            self.tell_others(|| Mail::Address(before, None));
        }
        self.tell_others(|| Mail::Address(addr, Some(id)));
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
            self.mail_to(home, Mail::PeerProved(publish), now);
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
        self.arm_peer(slot);
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
            }
            (Err(error), _) | (_, Err(error)) => {
                self.end_peer(slot, TransportEnd::Dtls(error.to_string()), now);
            }
        }
    }

    fn rtp(&mut self, slot: usize, bytes: &mut [u8], now: Instant) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let Phase::Up { opener, .. } = &mut peer.phase else { return };
        let Ok(length) = opener.open_rtp(bytes) else { return self.counts.dropped(Reason::NotAuthentic, 1) };
        peer.heard_at = now;
        match peer.publish(rtp::be32(bytes, 8)) {
            Some((publish, home)) if home == self.id => self.publisher_rtp(publish, &bytes[..length], now),
            Some((publish, home)) => self.parcel_to(home, Contents::Rtp(publish), &bytes[..length], &[]),
            None => self.counts.dropped(Reason::Unbound, 1),
        }
    }

    fn rtcp(&mut self, slot: usize, bytes: &mut [u8], now: Instant) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let Phase::Up { opener, .. } = &mut peer.phase else { return };
        let Ok(length) = opener.open_rtcp(bytes) else { return self.counts.dropped(Reason::NotAuthentic, 1) };
        peer.heard_at = now;
        let compound = &bytes[..length];
        for message in messages(compound).map_while(Result::ok) {
            match &message {
                Message::SenderReport { ssrc, .. } => self.sender_report(slot, *ssrc, compound, now),
                // The send-side estimate is not made yet; the ring of departures stays true.
                Message::TransportCc(feedback) => {
                    if let Some(peer) = self.peers.get_mut(slot) {
                        peer.departures.feedback(now, feedback, |_| ());
                    }
                }
                _ => {}
            }
            self.player_message(slot, &message, now);
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
                Outcome::WantsKeyframe => self.want_keyframe(stream_slot, now),
                Outcome::Reception(_) | Outcome::Estimate { .. } => {}
            }
        }
        self.outcomes = outcomes;
    }

    /// Arms a transport's timer.
    pub(super) fn arm_peer(&mut self, slot: usize) {
        let timeout = self.shared.config.session_timeout;
        if let Some(at) = self.peers.get(slot).and_then(|peer| peer.next_at(timeout)) {
            self.timers.arm(Timer::Peer(slot), at);
        }
    }
}
