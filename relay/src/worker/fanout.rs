//! Fan-out: a stream's packets, player by player, rewritten and sealed into the arena, sent in runs.

use std::time::Instant;

use super::{
    count::{Began, Counts},
    events::Events,
    outbox::{Outbox, PACKET_ROOM_BYTES},
    peer::{Peer, Phase},
    run::Worker,
    slots::Slots,
    stream::{Flow, Player, Stream},
};
use crate::{
    media::{
        egress::{MAX_PADDING_BYTES, Written},
        history::{Packet, PacketRef},
        start::{LiveEdge, Standing},
        store::Store,
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

    /// Whether it has the keyframe that old packets begin with: who waits starts there at its own pace.
    fn begins_old(&self) -> bool {
        self.iter().any(|(packet, _)| packet.meta.keyframe && LiveEdge::told(packet).is_some())
    }

    fn iter(&self) -> impl Iterator<Item = &(Packet<'a>, u8)> {
        self.packets.iter().flatten()
    }
}

/// What it takes to send to players.
pub(super) struct Way<'a> {
    pub(super) peers: &'a mut Slots<Peer>,
    pub(super) outbox: &'a mut Outbox,
    pub(super) socket: &'a mut MediaSocket,
    pub(super) counts: &'a mut Counts,
    pub(super) events: &'a mut Events,
    pub(super) now: Instant,
}

/// What of a batch a player does not get, or not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lacks {
    /// Nothing that could be sent.
    Nothing,
    /// Its video waits for a keyframe.
    Keyframe,
    /// Old packets begin: it starts with them.
    Start,
}

impl Way<'_> {
    /// Sends a live batch to a player, if its transport is up.
    fn live(&mut self, play: PlayId, player: &mut Player, batch: &Batch<'_>, begins_old: bool) -> Lacks {
        match player.standing {
            Standing::Live => {
                self.send(play, player, batch.iter());
                Lacks::Nothing
            }
            Standing::CatchingUp(_) => {
                self.send(
                    play,
                    player,
                    batch.iter().filter(|(packet, _)| packet.meta.id.kind == Kind::Audio),
                );
                Lacks::Nothing
            }
            Standing::Waiting { .. } | Standing::Unready { .. } if begins_old => {
                self.send(
                    play,
                    player,
                    batch.iter().filter(|(packet, _)| packet.meta.id.kind == Kind::Audio),
                );
                Lacks::Start
            }
            Standing::Waiting { .. } | Standing::Unready { .. } => {
                self.send(play, player, batch.iter());
                let is_up =
                    matches!(self.peers.get_mut(player.peer).map(|p| &p.phase), Some(Phase::Up { .. }));
                match player.egress.awaits_keyframe() {
                    true if is_up => Lacks::Keyframe,
                    true => Lacks::Nothing,
                    false => {
                        player.standing = Standing::Live;
                        self.counts.began(Began::Live);
                        Lacks::Nothing
                    }
                }
            }
        }
    }

    /// Sends packets to a player, if its transport is up; how many bytes left.
    pub(super) fn send<'p>(
        &mut self,
        play: PlayId,
        player: &mut Player,
        packets: impl Iterator<Item = &'p (Packet<'p>, u8)>,
    ) -> usize {
        let Self { peers, outbox, socket, counts, events, now } = self;
        let now = *now;
        let Some(Peer { phase: Phase::Up { addr, sealer, .. }, departures, beat, .. }) =
            peers.get_mut(player.peer)
        else {
            return 0;
        };
        let mut sent_bytes = 0;
        for (packet, padding) in packets {
            let room = outbox.room(socket, counts);
            let plain = &mut room[..PACKET_ROOM_BYTES - TAG_BYTES];
            // What is not written waits for a keyframe, is not for this player, or was sent before.
            let Ok(Written { bytes, transport_sequence, .. }) =
                player.egress.write(now, packet, *padding, departures, plain)
            else {
                continue;
            };
            let Some(sealed) = sealer.seal_rtp(room, bytes) else { continue };
            outbox.push(*addr, sealed);
            if let Some(number) = transport_sequence {
                departures.sent(now, number, sealed);
            }
            sent_bytes += sealed;
        }
        if sent_bytes > 0 {
            if let Some(beat) = beat {
                beat.sent_at = now;
            }
            player.flow = match player.flow {
                Flow::Idle if !events.offer(PlaneEvent::PlayFlow { play, flowing: true }) => Flow::Idle,
                Flow::Idle | Flow::Flowing { .. } => Flow::Flowing { at: now },
            };
        }
        sent_bytes
    }
}

impl Worker {
    /// Sends what waits of a stream.
    pub(super) fn send_stream(&mut self, slot: usize, now: Instant) {
        let mut ids = std::mem::take(&mut self.batch);
        if let Some(stream) = self.streams.get_mut(slot) {
            stream.pending.take(now, &mut ids);
        }
        let mut lacks = Lacks::Nothing;
        for chunk in ids.chunks(CHUNK) {
            match self.send_chunk(slot, chunk, now) {
                Lacks::Nothing => {}
                Lacks::Keyframe => lacks = Lacks::Keyframe,
                Lacks::Start => self.look_again(slot, now),
            }
        }
        ids.clear();
        self.batch = ids;
        if lacks == Lacks::Keyframe {
            self.want_keyframe(slot, now);
        }
    }

    /// Sends packets to all players; what one of them lacks.
    fn send_chunk(&mut self, slot: usize, ids: &[PacketRef], now: Instant) -> Lacks {
        let Self { streams, peers, outbox, socket, counts, events, .. } = self;
        let Some(Stream { store, players, .. }) = streams.get_mut(slot) else { return Lacks::Nothing };
        let batch = Batch::new(ids.iter().copied(), store);
        let begins_old = batch.begins_old();
        let mut way = Way { peers, outbox, socket, counts, events, now };
        let mut lacks = Lacks::Nothing;
        for (&play, player) in players.iter_mut() {
            match way.live(play, player, &batch, begins_old) {
                Lacks::Nothing => {}
                found @ (Lacks::Keyframe | Lacks::Start) => lacks = found,
            }
        }
        lacks
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
        player.standing.missed(now);
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
