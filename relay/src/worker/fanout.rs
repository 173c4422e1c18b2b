//! Fan-out: a stream's packets, player by player, rewritten and sealed into the arena, sent in runs.

use std::time::Instant;

use super::{
    count::Counts,
    events::Events,
    outbox::{Outbox, PACKET_ROOM_BYTES},
    peer::{Peer, Phase},
    run::Worker,
    slots::Slots,
    stream::{Flow, Player, Stream},
};
use crate::{
    media::{
        egress::{MAX_PADDING_BYTES, Skipped, Written},
        history::{Packet, PacketRef, Store},
    },
    plane::{Kind, PlaneEvent, PlayId},
    transport::{
        socket::MediaSocket,
        srtp::{RTCP_OVERHEAD_BYTES, TAG_BYTES},
    },
};

/// Packets that are sent at once to one player: what one GSO call takes.
const CHUNK: usize = 64;

/// Packets of a batch with the padding that makes runs of them.
struct Batch<'a> {
    packets: [Option<(Packet<'a>, u8)>; CHUNK],
}

impl<'a> Batch<'a> {
    /// Looks the packets up, once for all players.
    fn new(ids: impl Iterator<Item = PacketRef>, store: &'a Store) -> Self {
        let mut packets = [None; CHUNK];
        for (slot, id) in packets.iter_mut().zip(ids) {
            *slot = store.get(id).map(|packet| (packet, 0));
        }
        let mut batch = Self { packets };
        batch.pad();
        batch
    }

    /// Packets of one frame often differ by a byte or two, and a run ends behind a shorter packet: all but the last are
    /// padded to the longest that is near enough.
    fn pad(&mut self) {
        let length = |packet: &Packet<'_>| packet.extensions.len() + packet.payload.len();
        let count = self.packets.iter().flatten().count();
        for index in 0..count.saturating_sub(1) {
            let Some((packet, _)) = &self.packets[index] else { continue };
            let own = length(packet);
            let reach = own + usize::from(MAX_PADDING_BYTES);
            let alike = self.packets.iter().flatten().map(|(other, _)| length(other)).filter(|&n| n <= reach);
            let padding = alike.max().unwrap_or(own).saturating_sub(own) as u8;
            if let Some((_, slot)) = &mut self.packets[index] {
                *slot = padding;
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = &(Packet<'a>, u8)> {
        self.packets.iter().flatten()
    }
}

/// What it takes to send to players.
struct Way<'a> {
    peers: &'a mut Slots<Peer>,
    outbox: &'a mut Outbox,
    socket: &'a mut MediaSocket,
    counts: &'a mut Counts,
    events: &'a mut Events,
    now: Instant,
}

impl Way<'_> {
    /// Sends a batch to a player, if its transport is up; whether it waits for a keyframe.
    fn send(&mut self, play: PlayId, player: &mut Player, batch: &Batch<'_>) -> bool {
        let Self { peers, outbox, socket, counts, events, now } = self;
        let now = *now;
        let Some(Peer { phase: Phase::Up { addr, sealer, .. }, departures, beat, .. }) =
            peers.get_mut(player.peer)
        else {
            return false;
        };
        let (mut sent, mut wants_keyframe) = (false, false);
        for (packet, padding) in batch.iter() {
            let room = outbox.room(socket, counts);
            let plain = &mut room[..PACKET_ROOM_BYTES - TAG_BYTES];
            match player.egress.write(now, packet, *padding, departures, plain) {
                Ok(Written { bytes, transport_sequence, .. }) => {
                    let Some(sealed) = sealer.seal_rtp(room, bytes) else { continue };
                    outbox.push(*addr, sealed);
                    if let Some(number) = transport_sequence {
                        departures.sent(now, number, sealed);
                    }
                    sent = true;
                }
                Err(Skipped::AwaitsKeyframe) => wants_keyframe = true,
                Err(Skipped::NoTrack | Skipped::OtherCodec(_) | Skipped::Settled | Skipped::NoRoom(_)) => {}
            }
        }
        if sent {
            if let Some(beat) = beat {
                beat.sent_at = now;
            }
            player.flow = match player.flow {
                Flow::Idle if !events.offer(PlaneEvent::PlayFlow { play, flowing: true }) => Flow::Idle,
                Flow::Idle | Flow::Flowing { .. } => Flow::Flowing { at: now },
            };
        }
        wants_keyframe
    }
}

impl Worker {
    /// Sends what waits of a stream.
    pub(super) fn send_stream(&mut self, slot: usize, now: Instant) {
        let mut ids = std::mem::take(&mut self.batch);
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.pending.take(now, &mut ids);
        }
        let mut wants_keyframe = false;
        for chunk in ids.chunks(CHUNK) {
            wants_keyframe |= self.send_chunk(slot, chunk, now);
        }
        ids.clear();
        self.batch = ids;
        if wants_keyframe {
            self.want_keyframe(slot, now);
        }
    }

    /// Sends packets to all players; whether one of them waits for a keyframe.
    fn send_chunk(&mut self, slot: usize, ids: &[PacketRef], now: Instant) -> bool {
        let Self { streams, peers, outbox, socket, counts, events, .. } = self;
        let Some(Stream { store, players, .. }) = streams.get_mut(slot) else { return false };
        let batch = Batch::new(ids.iter().copied(), store);
        let mut way = Way { peers, outbox, socket, counts, events, now };
        let mut wants_keyframe = false;
        for (&play, player) in players.iter_mut() {
            wants_keyframe |= way.send(play, player, &batch);
        }
        wants_keyframe
    }

    /// A player whose transport is up starts at the last keyframe if it may, or else at the next, which is asked for.
    pub(super) fn join(&mut self, slot: usize, play: PlayId, now: Instant) {
        let Self { streams, peers, outbox, socket, counts, events, .. } = self;
        let Some(Stream { store, players, join, .. }) = streams.get_mut(slot) else { return };
        let Some(player) = players.get_mut(&play).filter(|player| player.egress.awaits_keyframe()) else {
            return;
        };
        let packets = join.packets(now, store).unwrap_or_default();
        let mut way = Way { peers, outbox, socket, counts, events, now };
        for start in packets.clone().step_by(CHUNK) {
            let chunk = start..packets.end.min(start + CHUNK as u64);
            let ids = chunk.map(|sequence| PacketRef { kind: Kind::Video, sequence });
            way.send(play, player, &Batch::new(ids, store));
        }
        if player.egress.awaits_keyframe() {
            self.want_keyframe(slot, now);
        }
    }

    /// Sends a packet again to a player that lacks it.
    pub(super) fn resend(&mut self, slot: usize, play: PlayId, kind: Kind, output: u16, now: Instant) {
        let Self { streams, peers, outbox, socket, counts, .. } = self;
        let Some(Stream { store, players, .. }) = streams.get_mut(slot) else { return };
        let Some(player) = players.get_mut(&play) else { return };
        let Some(Peer { phase: Phase::Up { addr, sealer, .. }, departures, .. }) = peers.get_mut(player.peer)
        else {
            return;
        };
        let room = outbox.room(socket, counts);
        let written = player.egress.retransmit(
            now,
            kind,
            output,
            store,
            departures,
            &mut room[..PACKET_ROOM_BYTES - TAG_BYTES],
        );
        let Ok(Written { bytes, transport_sequence, .. }) = written else { return };
        if let Some(sealed) = sealer.seal_rtp(room, bytes) {
            outbox.push(*addr, sealed);
            if let Some(number) = transport_sequence {
                departures.sent(now, number, sealed);
            }
            counts.again();
        }
    }

    /// Seals an RTCP compound and sends it to a peer.
    pub(super) fn send_rtcp(&mut self, peer: usize, compound: &[u8], now: Instant) {
        let Some(Peer { phase: Phase::Up { addr, sealer, .. }, beat, .. }) = self.peers.get_mut(peer) else {
            return;
        };
        let mut buffer = [0; PACKET_ROOM_BYTES];
        let Some(plain) = buffer.get_mut(..compound.len()) else { return };
        plain.copy_from_slice(compound);
        let room = &mut buffer[..(compound.len() + RTCP_OVERHEAD_BYTES).min(PACKET_ROOM_BYTES)];
        if let Some(sealed) = sealer.seal_rtcp(room, compound.len()) {
            self.socket.send_to(&buffer[..sealed], *addr);
            if let Some(beat) = beat {
                beat.sent_at = now;
            }
        }
    }
}
