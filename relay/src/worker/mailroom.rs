//! Commands and news, one by one: transports, publishes, plays and streams come and go.

use std::{ops::ControlFlow, sync::atomic::Ordering, time::Instant};

use aws_lc_rs::rand;
use waystation_proto::StreamKey;

use super::{
    mail::Mail,
    peer::{Peer, PeerKind, Phase},
    routes::WorkerId,
    run::{Place, Worker},
    stream::{Flow, Pending, Player, REPORT_EVERY, Side, Stream},
};
use crate::{
    media::{egress::Egress, habit::Habit, pli::Budget, source::Source, start::Standing, store::Store},
    plane::{
        ClientTransport, IceCredentials, LinkTransport, PlaneEvent, Play, PlayId, TransportEnd, TransportId,
    },
    transport::srtp::{Opener, Profile, Sealer, SessionKeys},
};

impl Worker {
    /// Does what mail says. Breaks at [`Mail::Stop`].
    pub(super) fn open_mail(&mut self, mail: Mail, now: Instant) -> ControlFlow<()> {
        match mail {
            Mail::OpenClient(open) => self.open_client(open, now),
            Mail::OpenLink(open) => self.open_link(&open, now),
            Mail::RestartIce(transport, ice) => self.restart_ice(transport, ice),
            Mail::CloseTransport(transport) => {
                if let Some(&slot) = self.peer_of.get(&transport) {
                    self.end_peer(slot, TransportEnd::Closed, now);
                }
            }
            Mail::Carry { publish, transport, ssrcs, home } => {
                let Some(&slot) = self.peer_of.get(&transport) else { return ControlFlow::Continue(()) };
                if let Some(peer) = self.peers.get_mut(slot).filter(|peer| peer.has_room()) {
                    peer.carried.insert(publish, home);
                    peer.publish_of.extend(ssrcs.into_iter().map(|ssrc| (ssrc, publish)));
                    self.carriers.insert(publish, slot);
                }
            }
            Mail::Uncarry(publish) => {
                let slot = self.carriers.remove(&publish);
                if let Some(peer) = slot.and_then(|slot| self.peers.get_mut(slot)) {
                    peer.carried.remove(&publish);
                    peer.publish_of.retain(|_, of| *of != publish);
                }
            }
            Mail::Publish { publish, carrier, proof } => self.publish(&publish, carrier, proof),
            Mail::Activate(publish, claim) => {
                let change = self.router.activate(publish, claim);
                self.source_changed(change, now);
            }
            Mail::Unpublish(publish) => self.unpublish(publish, now),
            Mail::PeerProved(publish, at) => {
                // A check from before a standstill proves nothing after it.
                if self.stood_at.is_none_or(|stood| at >= stood) {
                    self.confirm(publish, now);
                }
            }
            Mail::Play(play) => self.play(&play, now),
            Mail::Unplay(play) => self.unplay(play, now),
            Mail::Watch(key, worker, number) => self.watch(&key, worker, number, now),
            Mail::Unwatch(key, worker, number) => self.unwatch(&key, worker, number, now),
            Mail::WantKeyframe(key) => {
                if let Some(&slot) = self.stream_of.get(&key) {
                    self.want_keyframe(slot, now);
                }
            }
            Mail::SourceChanged(number) => {
                let slot = self.replicas.get(&number).copied();
                if let Some(stream) = slot.and_then(|slot| self.streams.get_mut(slot)) {
                    stream.store.forget_start();
                }
            }
            Mail::Start(number, start) => self.take_over_start(number, start, now),
            Mail::Chunk(number, chunk) => {
                let slot = self.replicas.get(&number).copied();
                if let Some(stream) = slot.and_then(|slot| self.streams.get_mut(slot)) {
                    stream.store.adopt(chunk);
                }
            }
            Mail::Habit(number, habit) => {
                let slot = self.replicas.get(&number).copied();
                if let Some(stream) = slot.and_then(|slot| self.streams.get_mut(slot)) {
                    stream.habit = habit;
                }
            }
            Mail::Report(number, points) => {
                if let Some(&slot) = self.replicas.get(&number) {
                    self.report(slot, &points, now);
                }
            }
            Mail::Address(addr, worker) => drop(self.addresses.insert(addr, Place::There(worker))),
            Mail::NoAddress(addr, worker) => {
                // Somebody else may have proved it to be theirs since.
                if matches!(self.addresses.get(&addr), Some(Place::There(at)) if *at == worker) {
                    self.addresses.remove(&addr);
                }
            }
            Mail::Stop => {
                self.end_all(now);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn open_client(&mut self, open: ClientTransport, now: Instant) {
        let ufrag = open.ice.local_ufrag.clone();
        let slot = self.add_peer(Peer::client(open, now));
        self.ufrags.insert(ufrag, slot);
        self.arm_peer(slot, now);
    }

    fn open_link(&mut self, open: &LinkTransport, now: Instant) {
        let keys = |key: &[u8], salt: &[u8]| SessionKeys {
            profile: Profile::Aes128Gcm,
            key: key.to_vec(),
            salt: salt.to_vec(),
        };
        let crypto = self.shared.identity.provider().crypto();
        let sealer = Sealer::new(&keys(&open.local_key, &open.local_salt), crypto);
        let opener = Opener::new(&keys(&open.remote_key, &open.remote_salt), crypto);
        match (sealer, opener) {
            (Ok(sealer), Ok(opener)) => {
                let slot = self.add_peer(Peer::link(open, sealer, opener, now));
                self.learn(slot, open.peer);
                let profile = Profile::Aes128Gcm.name();
                self.events.tell(PlaneEvent::TransportUp { transport: open.id, profile });
            }
            (Err(error), _) | (_, Err(error)) => {
                self.shared.routes.forget(open.id);
                let why = TransportEnd::Dtls(error.to_string());
                self.events.tell(PlaneEvent::TransportDown { transport: open.id, why });
            }
        }
    }

    fn add_peer(&mut self, peer: Peer) -> usize {
        let id = peer.id;
        let slot = self.peers.insert(peer);
        self.peer_of.insert(id, slot);
        self.counts.transports(1.0);
        slot
    }

    fn restart_ice(&mut self, transport: TransportId, new: IceCredentials) {
        let Some(&slot) = self.peer_of.get(&transport) else { return };
        let Some(Peer { kind: PeerKind::Client { ice, .. }, .. }) = self.peers.get_mut(slot) else { return };
        self.ufrags.remove(&ice.local_ufrag);
        self.ufrags.insert(new.local_ufrag.clone(), slot);
        *ice = new;
    }

    /// Ends a transport with all that is on it.
    pub(super) fn end_peer(&mut self, slot: usize, why: TransportEnd, now: Instant) {
        if let Some(Peer { kind: PeerKind::Client { dtls, .. }, .. }) = self.peers.get_mut(slot) {
            dtls.close(now);
        }
        self.flush_dtls(slot);
        let Some(peer) = self.peers.remove(slot) else { return };
        self.peer_of.remove(&peer.id);
        if let PeerKind::Client { ice, .. } = &peer.kind {
            self.ufrags.remove(&ice.local_ufrag);
        }
        for addr in peer.addresses {
            self.unlearn(slot, addr);
        }
        self.senders.retain(|_, sender| *sender != slot);
        for play in peer.plays.into_keys() {
            self.unplay(play, now);
        }
        for (publish, home) in peer.carried {
            self.carriers.remove(&publish);
            self.mail_to(home, Mail::Unpublish(publish), now);
        }
        self.shared.routes.forget(peer.id);
        self.counts.transports(-1.0);
        self.events.tell(PlaneEvent::TransportDown { transport: peer.id, why });
    }

    fn end_all(&mut self, now: Instant) {
        for slot in self.peer_of.values().copied().collect::<Vec<_>>() {
            self.end_peer(slot, TransportEnd::Closed, now);
        }
    }

    fn play(&mut self, play: &Play, now: Instant) {
        let Some(&peer_slot) = self.peer_of.get(&play.transport) else { return };
        let slot = self.stream(&play.stream);
        let Some(peer) = self.peers.get_mut(peer_slot).filter(|peer| peer.has_room()) else { return };
        peer.plays.insert(play.id, slot);
        self.play_of.insert(play.id, (slot, peer_slot));
        let egress = Egress::new(play, self.shared.clock, random_seed());
        let is_link = matches!(peer.kind, PeerKind::Link);
        let standing =
            if is_link { Standing::Unready { asked_at: None } } else { Standing::Waiting { asked_at: None } };
        if let Some(stream) = self.streams.get_mut(slot) {
            let requests = Budget::default();
            let player = Player { peer: peer_slot, egress, standing, requests, flow: Flow::Idle };
            stream.players.insert(play.id, player);
        }
        match self.peers.get(peer_slot).map(|peer| &peer.phase) {
            Some(Phase::Up { .. }) if !is_link => self.start(slot, play.id, now),
            Some(_) | None => self.prepare_start(slot, play.id, now),
        }
        self.arm_stream(slot, now);
    }

    fn unplay(&mut self, play: PlayId, now: Instant) {
        let Some((slot, peer)) = self.play_of.remove(&play) else { return };
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.plays.remove(&play);
        }
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.players.remove(&play);
        }
        self.drop_if_unused(slot, now);
    }

    /// The slot of a stream; it is made if it is not there, and its home is told.
    pub(super) fn stream(&mut self, key: &StreamKey) -> usize {
        if let Some(&slot) = self.stream_of.get(key) {
            return slot;
        }
        let now = Instant::now();
        let home = self.shared.routes.home(key);
        let number = self.shared.next_replica.fetch_add(1, Ordering::Relaxed);
        let side = if home == self.id {
            Side::Home { source: Box::new(Source::new(self.shared.clock)), watchers: Vec::new() }
        } else {
            Side::Replica { number, asked_at: Some(now) }
        };
        let slot = self.streams.insert(Stream {
            key: key.clone(),
            side,
            store: Store::default(),
            habit: Habit::Unknown,
            players: std::collections::BTreeMap::new(),
            pending: Pending::default(),
            report_at: now + REPORT_EVERY,
        });
        self.stream_of.insert(key.clone(), slot);
        if home != self.id {
            self.replicas.insert(number, slot);
            self.mail_to(home, Mail::Watch(key.clone(), self.id, number), now);
        }
        slot
    }

    /// Forgets a stream that nobody here publishes, plays or watches.
    pub(super) fn drop_if_unused(&mut self, slot: usize, now: Instant) {
        let Some(stream) = self.streams.get(slot) else { return };
        let is_watched = matches!(&stream.side, Side::Home { watchers, .. } if !watchers.is_empty());
        let is_published = self.publishers.values().any(|publisher| publisher.stream == slot);
        if !stream.players.is_empty() || is_watched || is_published {
            return;
        }
        let Some(stream) = self.streams.remove(slot) else { return };
        self.stream_of.remove(&stream.key);
        self.due.retain(|&due| due != slot);
        if let Side::Replica { number, .. } = stream.side {
            self.replicas.remove(&number);
            let home = self.shared.routes.home(&stream.key);
            self.mail_to(home, Mail::Unwatch(stream.key, self.id, number), now);
        }
    }

    fn watch(&mut self, key: &StreamKey, worker: WorkerId, number: u64, now: Instant) {
        let slot = self.stream(key);
        if let Some(Stream { side: Side::Home { watchers, .. }, .. }) = self.streams.get_mut(slot) {
            watchers.push((worker, number));
            let watcher = watchers.len() - 1;
            self.hand_over_start(slot, watcher);
        }
        self.arm_stream(slot, now);
    }

    fn unwatch(&mut self, key: &StreamKey, worker: WorkerId, number: u64, now: Instant) {
        let Some(&slot) = self.stream_of.get(key) else { return };
        if let Some(Stream { side: Side::Home { watchers, .. }, .. }) = self.streams.get_mut(slot) {
            watchers.retain(|&watcher| watcher != (worker, number));
        }
        self.drop_if_unused(slot, now);
    }
}

/// An unpredictable number: a player's first sequence numbers come from it.
pub(super) fn random_seed() -> u64 {
    let mut seed = [0; 8];
    // The system's generator does not fail once it has started; a constant would only make numbers guessable.
    if rand::fill(&mut seed).is_err() {
        tracing::warn!("the random generator failed");
    }
    u64::from_ne_bytes(seed)
}
