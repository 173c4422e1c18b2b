//! Publishes at their stream's home: what arrives is received, put on the stream's line, and handed to players' workers.

use std::time::Instant;

use super::{
    count::Reason,
    mail::{Contents, Mail},
    publisher::Publisher,
    routes::{Proof, WorkerId},
    run::{MIN_TIMER, Timer, Worker},
    stream::{ASK_HOME_EVERY, Flow, Side, Stream},
};
use crate::{
    media::{
        feedback::MAX_COMPOUND_BYTES,
        history::{Packet, PacketMeta, PacketRef},
        ingress::{Arrival, Dropped, Ingress, IngressConfig},
        router::SourceChange,
        rtcp::messages,
    },
    plane::{Kind, PlaneEvent, Publish, PublishId},
};

/// The most that a publisher that only knows REMB is told to send.
const REMB_CAP_BITS_PER_SECOND: u64 = 20_000_000;

impl Worker {
    /// A publish begins, in standby.
    pub(super) fn publish(&mut self, publish: &Publish, carrier: WorkerId, proof: Proof) {
        let config = IngressConfig {
            clock: self.shared.clock,
            ssrc: self.shared.ssrc,
            cname: self.shared.cname.clone(),
            remb_cap_bits_per_second: REMB_CAP_BITS_PER_SECOND,
        };
        let stream = self.stream(&publish.stream);
        let publisher = Publisher {
            carrier,
            proof,
            stream,
            ingress: Ingress::new(publish, config),
            forwards: false,
            flow: Flow::Idle,
        };
        self.publishers.insert(publish.id, publisher);
        self.router.add(publish.id, publish.stream.clone());
    }

    /// A publish ends.
    pub(super) fn unpublish(&mut self, publish: PublishId, now: Instant) {
        let Some(publisher) = self.publishers.remove(&publish) else { return };
        let change = self.router.remove(publish);
        self.source_changed(change, now);
        self.drop_if_unused(publisher.stream, now);
    }

    /// Another publish feeds a stream.
    pub(super) fn source_changed(&mut self, change: Option<SourceChange>, now: Instant) {
        let Some(change) = change else { return };
        let Some(&slot) = self.stream_of.get(&change.stream) else { return };
        for (&id, publisher) in self.publishers.iter_mut().filter(|(_, publisher)| publisher.stream == slot) {
            publisher.forwards = self.router.forwards(id);
        }
        if let Some(Stream { side: Side::Home { watchers, .. }, store, .. }) = self.streams.get_mut(slot) {
            store.forget_start();
            for &(worker, number) in watchers.iter() {
                if let Some(Some(other)) = self.others.get(usize::from(worker)) {
                    other.mailbox.send(Mail::SourceChanged(number));
                }
            }
        }
        self.learn_habit(slot);
        if let Some(publish) = change.publish {
            self.switch(publish, now);
        }
        let SourceChange { stream, publish, claim } = change;
        self.events.tell(PlaneEvent::StreamSource { stream, publish, claim });
    }

    /// A publish feeds its stream from now on, or again.
    fn switch(&mut self, publish: PublishId, now: Instant) {
        let Some(publisher) = self.publishers.get_mut(&publish) else { return };
        if let Some(Stream { side: Side::Home { source, .. }, .. }) = self.streams.get_mut(publisher.stream) {
            source.switch(now);
        }
        publisher.ingress.want_keyframe_at_once(now);
        self.arm_publish(publish);
    }

    /// A publish's peer proved that it is there, after a standstill.
    pub(super) fn confirm(&mut self, publish: PublishId, now: Instant) {
        if self.router.confirm(publish) {
            if let Some(publisher) = self.publishers.get_mut(&publish) {
                publisher.forwards = true;
            }
            self.switch(publish, now);
        }
    }

    /// An opened RTP packet of a publish.
    pub(super) fn publisher_rtp(&mut self, publish: PublishId, packet: &[u8], now: Instant) {
        let Some(publisher) = self.publishers.get_mut(&publish) else {
            return self.counts.dropped(Reason::Unbound, 1);
        };
        let arrival = match publisher.ingress.receive(now, packet) {
            Ok(arrival) => arrival,
            Err(Dropped::Unbound { .. } | Dropped::Malformed(_)) => {
                return self.counts.dropped(Reason::Unbound, 1);
            }
            Err(Dropped::Probe | Dropped::Duplicate(_) | Dropped::Late(_)) => {
                return self.arm_publish(publish);
            }
        };
        self.counts.received(arrival.kind, packet.len());
        publisher.flow = match publisher.flow {
            Flow::Idle if !self.events.offer(PlaneEvent::PublishFlow { publish, flowing: true }) => {
                Flow::Idle
            }
            Flow::Idle | Flow::Flowing { .. } => Flow::Flowing { at: now },
        };
        let (slot, forwards, proof) = (publisher.stream, publisher.forwards, publisher.proof);
        self.arm_publish(publish);
        match (forwards, proof) {
            (true, _) => self.accept(slot, &arrival, packet, now),
            (false, Proof::Media) => self.confirm(publish, now),
            (false, Proof::Check) => {}
        }
    }

    /// A packet of the publish that feeds a stream.
    fn accept(&mut self, slot: usize, arrival: &Arrival, packet: &[u8], now: Instant) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        let Side::Home { source, watchers } = &mut stream.side else { return };
        let watchers = watchers.len();
        let Ok(id) = source.accept(now, arrival, packet, &mut stream.store) else {
            // Video waits for the keyframe that the switch asked for.
            return;
        };
        stored(stream, id, now);
        for index in 0..watchers {
            self.hand_over(slot, index, id);
        }
        if id.kind == Kind::Video {
            self.keep(slot, now);
            if arrival.keyframe {
                self.learn_habit(slot);
            }
        }
        self.pend(slot, id, arrival.marker || arrival.repaired, now);
    }

    /// Sends a stored packet to a worker with players.
    pub(super) fn hand_over(&mut self, slot: usize, watcher: usize, id: PacketRef) {
        let Self { streams, others, counts, .. } = self;
        let Some(Stream { side: Side::Home { watchers, .. }, store, .. }) = streams.get(slot) else { return };
        let (Some(&(worker, number)), Some(packet)) = (watchers.get(watcher), store.get(id)) else { return };
        let Some(Some(other)) = others.get_mut(usize::from(worker)) else { return };
        let extension_bytes = packet.extensions.len() as u16;
        let contents = Contents::Packet { stream: number, meta: packet.meta, extension_bytes };
        let pushed = super::mail::Parcel::pack(contents, packet.extensions, packet.payload)
            .is_some_and(|parcel| other.ring.push(parcel).is_ok());
        if pushed {
            other.wake = true;
        } else {
            counts.dropped(Reason::RingFull, 1);
        }
    }

    /// A packet of a stream whose home is elsewhere.
    pub(super) fn replica_packet(
        &mut self,
        number: u64,
        meta: PacketMeta,
        extension_bytes: usize,
        bytes: &[u8],
        now: Instant,
    ) {
        let Some(&slot) = self.replicas.get(&number) else { return };
        let Some(stream) = self.streams.get_mut(slot) else { return };
        let Some((extensions, payload)) = bytes.split_at_checked(extension_bytes) else { return };
        if stream.store.insert(&Packet { meta, extensions, payload }).is_some() {
            stream.store.stored(now, meta);
            self.pend(slot, meta.id, meta.marker, now);
        }
    }

    /// A stored packet waits for the end of the round, or of its frame.
    fn pend(&mut self, slot: usize, id: PacketRef, ends_frame: bool, now: Instant) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        if stream.players.is_empty() {
            return;
        }
        if stream.pending.push(id, ends_frame, now) {
            if !self.due.contains(&slot) {
                self.due.push(slot);
            }
        } else if let Some(at) = stream.pending.deadline() {
            self.timers.arm(Timer::Stream(slot), at);
        }
    }

    /// RTCP of a publish's peer.
    pub(super) fn publisher_rtcp(&mut self, publish: PublishId, compound: &[u8], now: Instant) {
        let Some(publisher) = self.publishers.get_mut(&publish) else { return };
        let Some(stream) = self.streams.get_mut(publisher.stream) else { return };
        for message in messages(compound).map_while(Result::ok) {
            let report = publisher.ingress.handle(now, &message);
            if let (Some(report), Side::Home { source, .. }, true) =
                (report, &mut stream.side, publisher.forwards)
            {
                source.sender_report(now, report);
            }
        }
    }

    /// A player of this worker needs a keyframe of a stream. Cheap to call for every packet.
    pub(super) fn want_keyframe(&mut self, slot: usize, now: Instant) {
        let Some(stream) = self.streams.get_mut(slot) else { return };
        match &mut stream.side {
            Side::Home { .. } => {
                let Some(publish) = self.router.source(&stream.key) else { return };
                if let Some(publisher) = self.publishers.get_mut(&publish) {
                    publisher.ingress.want_keyframe(now);
                    self.arm_publish(publish);
                }
            }
            Side::Replica { asked_at, .. } => {
                if asked_at.is_none_or(|at| now.saturating_duration_since(at) >= ASK_HOME_EVERY) {
                    *asked_at = Some(now);
                    let key = stream.key.clone();
                    let home = self.shared.routes.home(&key);
                    self.mail_to(home, Mail::WantKeyframe(key), now);
                }
            }
        }
    }

    pub(super) fn arm_publish(&mut self, publish: PublishId) {
        let at = self.publishers.get(&publish).and_then(|publisher| publisher.ingress.next_feedback_at());
        if let Some(at) = at {
            self.timers.arm(Timer::Publish(publish), at);
        }
    }

    /// Feedback to a publish's peer is due.
    pub(super) fn publish_due(&mut self, publish: PublishId, now: Instant) {
        let Some(publisher) = self.publishers.get_mut(&publish) else { return };
        if publisher.flow.ran_dry(now)
            && self.events.offer(PlaneEvent::PublishFlow { publish, flowing: false })
        {
            publisher.flow = Flow::Idle;
        }
        let carrier = publisher.carrier;
        let mut compound = [0; MAX_COMPOUND_BYTES];
        while let Some(length) =
            self.publishers.get_mut(&publish).and_then(|p| p.ingress.poll_feedback(now, &mut compound))
        {
            if carrier == self.id {
                self.carry_feedback(publish, &compound[..length], now);
            } else {
                self.parcel_to(carrier, Contents::Feedback(publish), &compound[..length], &[]);
            }
        }
        if let Some(slot) = self.publishers.get(&publish).map(|publisher| publisher.stream) {
            self.learn_habit(slot);
        }
        // What could not be written now is not tried again in this round.
        let at = self.publishers.get(&publish).and_then(|publisher| publisher.ingress.next_feedback_at());
        if let Some(at) = at {
            self.timers.arm(Timer::Publish(publish), at.max(now + MIN_TIMER));
        }
    }
}

/// A packet is in the store as it stays.
fn stored(stream: &mut Stream, id: PacketRef, now: Instant) {
    if let Some(meta) = stream.store.get(id).map(|packet| packet.meta) {
        stream.store.stored(now, meta);
    }
}
