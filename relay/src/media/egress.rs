//! One play as it leaves: a player's SSRCs, numbers and extension ids around the stream's packets.
//!
//! Invariant: no output number of an SSRC is ever written twice, whatever is asked: the sealer's nonce is made of it
//! (RFC 7714 §8.1). What is asked for again leaves as RTX (RFC 4588) under a number of its own, or not at all.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::{
    clock::WallClock,
    departures::Departures,
    extension::{ExtensionIds, Own},
    history::{Packet, PacketRef},
    rtp::FIXED_HEADER_BYTES,
    sequence::{Renumber, Seen, SeenWindow, low},
    start::LiveEdge,
    store::Store,
};
use crate::plane::{Codec, EgressStart, EgressTrack, ExtensionKind, Kind, Play};

/// Most padding that may be asked for: packets of a frame differ by a byte or two.
pub const MAX_PADDING_BYTES: u8 = 3;

/// A packet is sent again at most once in this time (or half the round trip, if that is longer).
pub const RESEND_INTERVAL: Duration = Duration::from_millis(10);

/// A player may ask for so many bytes again at once …
pub const MAX_RESEND_CREDIT_BYTES: usize = 256 << 10;
/// … and this share of what it is sent over time: a half, so that no NACK makes a flood.
const RESEND_SHARE: usize = 2;
/// Credit before anything was sent.
const FIRST_RESEND_CREDIT_BYTES: usize = 32 << 10;

/// Packets for which the last retransmission is remembered.
const RESENT: usize = 256;

/// A packet that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Header and payload; the sealer's tag comes behind.
    pub bytes: usize,
    /// Its SSRC.
    pub ssrc: u32,
    /// Its output number over all laps: the SRTP packet index (RFC 3711 §3.3.1).
    pub index: u64,
    /// Its transport-wide number: tell [`Departures::sent`] when it leaves.
    pub transport_sequence: Option<u16>,
}

/// Why a packet was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Skipped {
    /// The play has no such track.
    #[error("the play has no such track")]
    NoTrack,
    /// The player negotiated another codec.
    #[error("the player negotiated {0:?}")]
    OtherCodec(Codec),
    /// Video starts with a keyframe: ask the publisher for one.
    #[error("video waits for a keyframe")]
    AwaitsKeyframe,
    /// It was sent before, is from before the play's start, or too old to tell.
    #[error("packet was sent before or is too old")]
    Settled,
    /// The buffer is too short.
    #[error("a buffer of {0} bytes is too short for the packet")]
    NoRoom(usize),
}

/// Why a packet is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotResent {
    /// No retransmission was negotiated: the number cannot be used a second time.
    #[error("the player negotiated no retransmission")]
    NoRtx,
    /// It was never sent, or the stream does not keep it any more.
    #[error("packet {0} is not kept")]
    NotKept(u16),
    /// It was sent again a moment ago.
    #[error("packet {0} was just sent again")]
    TooSoon(u16),
    /// The player asked for more than its share.
    #[error("packet {0} is over the share of retransmissions")]
    OverShare(u16),
    /// The buffer is too short.
    #[error("a buffer of {0} bytes is too short for the packet")]
    NoRoom(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    AwaitsKeyframe,
    Flowing,
}

#[derive(Clone, Copy, Debug)]
struct Rtx {
    payload_type: u8,
    ssrc: u32,
    next: u64,
}

/// One play.
#[derive(Debug)]
pub struct Egress {
    pub(super) clock: WallClock,
    pub(super) lanes: Vec<Lane>,
}

impl Egress {
    /// A play that has sent nothing. `seed` must be unpredictable: the first numbers of a client's tracks come from it.
    #[must_use]
    pub fn new(play: &Play, clock: WallClock, seed: u64) -> Self {
        let mut seed = seed;
        let lanes = play.tracks.iter().map(|track| Lane::new(track, play.start, &mut seed)).collect();
        Self { clock, lanes }
    }

    /// Whether video waits for a keyframe.
    #[must_use]
    pub fn awaits_keyframe(&self) -> bool {
        self.lanes.iter().any(|lane| lane.sending == Sending::AwaitsKeyframe)
    }

    /// Video packets were left out (the player's pacer is full): go on at the next keyframe, without a gap.
    pub fn restart_at_keyframe(&mut self) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.kind == Kind::Video) {
            lane.sending = Sending::AwaitsKeyframe;
        }
    }

    /// Whether video can begin with this packet of the stream: nothing from there on was sent.
    #[must_use]
    pub fn may_begin_at(&self, sequence: u64) -> bool {
        let before = |lane: &Lane| lane.last.is_none_or(|(_, highest)| highest < sequence);
        self.lanes.iter().filter(|lane| lane.kind == Kind::Video).all(before)
    }

    /// The video that follows begins with old packets, up to this edge.
    pub fn begin_behind(&mut self, edge: LiveEdge) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.kind == Kind::Video) {
            lane.edge = Some(edge);
        }
    }

    /// How long [`Self::write`] would make a packet, without padding; `None` if it would not write it now.
    #[must_use]
    pub fn measure(&self, packet: &Packet<'_>) -> Option<usize> {
        let lane = self.lanes.iter().find(|lane| lane.kind == packet.meta.id.kind)?;
        let starts = lane.sending == Sending::Flowing || packet.meta.keyframe;
        (starts && lane.codec == packet.meta.codec).then(|| lane.measure(packet))
    }

    /// Writes a packet of the stream for this player. `padding_bytes` (at most [`MAX_PADDING_BYTES`]) make packets of one
    /// frame equally long.
    ///
    /// # Errors
    /// [`Skipped`] if it is not for this player, now or ever; nothing was used up then.
    pub fn write(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        padding_bytes: u8,
        departures: &mut Departures,
        out: &mut [u8],
    ) -> Result<Written, Skipped> {
        let lane =
            self.lanes.iter_mut().find(|lane| lane.kind == packet.meta.id.kind).ok_or(Skipped::NoTrack)?;
        if lane.codec != packet.meta.codec {
            return Err(Skipped::OtherCodec(lane.codec));
        }
        let padding = padding_bytes.min(MAX_PADDING_BYTES);
        let bytes = lane.measure(packet) + usize::from(padding);
        let room = out.len();
        let out = out.get_mut(..bytes).ok_or(Skipped::NoRoom(room))?;
        let index = lane.number(packet)?;
        let transport_sequence = lane.ids.id(ExtensionKind::TransportCc).map(|_| departures.number());
        let head = Head { payload_type: lane.payload_type, ssrc: lane.ssrc, sequence: low(index) };
        let own = lane.own(packet, transport_sequence, self.clock.abs_send_time(now));
        let start =
            head.write(lane.timestamp(packet), packet, &lane.ids, &own, out).ok_or(Skipped::NoRoom(room))?;
        let end = start + packet.payload.len();
        out[start..end].copy_from_slice(packet.payload);
        if padding > 0 {
            out[end..].fill(0);
            out[bytes - 1] = padding;
            out[0] |= 0x20;
        }
        lane.packets = lane.packets.wrapping_add(1);
        lane.octets = lane.octets.wrapping_add(packet.payload.len() as u32);
        let credit = lane.resend_credit_bytes + bytes / RESEND_SHARE;
        lane.resend_credit_bytes = credit.min(MAX_RESEND_CREDIT_BYTES);
        Ok(Written { bytes, ssrc: lane.ssrc, index, transport_sequence })
    }

    /// Writes a packet that the player lacks once more, as a retransmission.
    ///
    /// # Errors
    /// [`NotResent`] if it cannot or must not be.
    pub fn retransmit(
        &mut self,
        now: Instant,
        kind: Kind,
        output: u16,
        store: &Store,
        departures: &mut Departures,
        out: &mut [u8],
    ) -> Result<Written, NotResent> {
        let missing = NotResent::NotKept(output);
        let lane = self.lanes.iter_mut().find(|lane| lane.kind == kind).ok_or(missing)?;
        let Some(rtx) = lane.rtx else { return Err(NotResent::NoRtx) };
        let index = lane.near(output).ok_or(missing)?;
        let sequence = lane.line.input(index).ok_or(missing)?;
        let packet = store.get(PacketRef { kind, sequence }).ok_or(missing)?;
        if packet.meta.codec != lane.codec {
            return Err(missing);
        }
        if !lane.resent.may(now, output, lane.rtt) {
            return Err(NotResent::TooSoon(output));
        }
        let bytes = lane.measure(&packet) + 2;
        lane.resend_credit_bytes =
            lane.resend_credit_bytes.checked_sub(bytes).ok_or(NotResent::OverShare(output))?;
        let room = out.len();
        let out = out.get_mut(..bytes).ok_or(NotResent::NoRoom(room))?;
        let transport_sequence = lane.ids.id(ExtensionKind::TransportCc).map(|_| departures.number());
        let head = Head { payload_type: rtx.payload_type, ssrc: rtx.ssrc, sequence: low(rtx.next) };
        let own = lane.own(&packet, transport_sequence, self.clock.abs_send_time(now));
        let start = head
            .write(lane.timestamp(&packet), &packet, &lane.ids, &own, out)
            .ok_or(NotResent::NoRoom(room))?;
        out[start..start + 2].copy_from_slice(&output.to_be_bytes());
        out[start + 2..].copy_from_slice(packet.payload);
        lane.rtx = Some(Rtx { next: rtx.next + 1, ..rtx });
        Ok(Written { bytes, ssrc: rtx.ssrc, index: rtx.next, transport_sequence })
    }
}

/// The part of a header that differs between original and retransmission.
struct Head {
    payload_type: u8,
    ssrc: u32,
    sequence: u16,
}

impl Head {
    /// Writes header and extensions; answers where the payload starts.
    fn write(
        &self,
        timestamp: u32,
        packet: &Packet<'_>,
        ids: &ExtensionIds,
        own: &Own<'_>,
        out: &mut [u8],
    ) -> Option<usize> {
        let fixed = out.first_chunk_mut::<FIXED_HEADER_BYTES>()?;
        fixed[0] = 0x80;
        fixed[1] = u8::from(packet.meta.marker) << 7 | self.payload_type;
        fixed[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        fixed[4..8].copy_from_slice(&timestamp.to_be_bytes());
        fixed[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        ids.write(own, packet.extensions, out)
    }
}

/// One track of a play.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) kind: Kind,
    codec: Codec,
    payload_type: u8,
    pub(super) ssrc: u32,
    rtx: Option<Rtx>,
    pub(super) nack: bool,
    mid: Box<[u8]>,
    ids: ExtensionIds,
    sending: Sending,
    /// The stream's numbers to ours.
    line: Renumber,
    written: SeenWindow,
    /// First output number; `None` starts at the stream's own.
    first: Option<u64>,
    /// Where the live edge was when its video began.
    edge: Option<LiveEdge>,
    /// First output number behind the highest that was given, and the highest input.
    last: Option<(u64, u64)>,
    pub(super) timestamp_shift: u32,
    pub(super) packets: u32,
    pub(super) octets: u32,
    pub(super) rtt: Option<Duration>,
    pub(super) reports: super::player::SentReports,
    resent: Resent,
    resend_credit_bytes: usize,
}

impl Lane {
    fn new(track: &EgressTrack, start: EgressStart, seed: &mut u64) -> Self {
        let (first, timestamp_shift, rtx_first) = match start {
            // The lower half, so that the rollover counter is clear to a player that misses the first packets
            // (RFC 3711 §3.3.1).
            EgressStart::Fresh => (Some(mix(seed) & 0x7fff), mix(seed) as u32, mix(seed) & 0x7fff),
            EgressStart::Passthrough => (None, 0, mix(seed) & 0x7fff),
        };
        Self {
            kind: track.kind,
            codec: track.codec,
            payload_type: track.payload_type,
            ssrc: track.ssrc,
            rtx: track.rtx_payload_type.map(|payload_type| Rtx {
                payload_type,
                ssrc: track.rtx_ssrc,
                next: rtx_first,
            }),
            nack: track.nack,
            mid: track.mid.as_bytes().into(),
            ids: ExtensionIds::new(&track.extensions),
            sending: match track.kind {
                Kind::Audio => Sending::Flowing,
                Kind::Video => Sending::AwaitsKeyframe,
            },
            line: Renumber::default(),
            written: SeenWindow::default(),
            first,
            edge: None,
            last: None,
            timestamp_shift,
            packets: 0,
            octets: 0,
            rtt: None,
            reports: super::player::SentReports::default(),
            resent: Resent::default(),
            resend_credit_bytes: FIRST_RESEND_CREDIT_BYTES,
        }
    }

    fn own(&self, packet: &Packet<'_>, transport_sequence: Option<u16>, send_time: [u8; 3]) -> Own<'_> {
        let edge = self.edge.filter(|_| self.ids.id(ExtensionKind::Backlog).is_some());
        let backlog = edge.and_then(|edge| edge.backlog(packet));
        Own { mid: &self.mid, transport_sequence: transport_sequence.unwrap_or_default(), send_time, backlog }
    }

    fn measure(&self, packet: &Packet<'_>) -> usize {
        let own = self.own(packet, None, [0; 3]);
        FIXED_HEADER_BYTES + self.ids.measure(&own, packet.extensions) + packet.payload.len()
    }

    fn timestamp(&self, packet: &Packet<'_>) -> u32 {
        // Between relays timestamps stay as they are.
        let own = match (self.first, self.edge) {
            (None, _) => packet.meta.timestamp,
            (Some(_), Some(edge)) if packet.meta.id.sequence < edge.number => edge.press(packet),
            (Some(_), _) => LiveEdge::told(packet).map_or(packet.meta.timestamp, |edge| edge.press(packet)),
        };
        own.wrapping_add(self.timestamp_shift)
    }

    /// Gives the packet its output number, once.
    fn number(&mut self, packet: &Packet<'_>) -> Result<u64, Skipped> {
        let input = packet.meta.id.sequence;
        let starts = match self.sending {
            Sending::Flowing => self.last.is_none(),
            Sending::AwaitsKeyframe if !packet.meta.keyframe => return Err(Skipped::AwaitsKeyframe),
            Sending::AwaitsKeyframe => true,
        };
        if starts {
            let (output, gap) = match self.last {
                Some((output, highest)) if input > highest => (output, highest + 1),
                Some(_) => return Err(Skipped::Settled),
                None => (self.first.unwrap_or(u64::from(low(input))), 0),
            };
            self.line.restart(gap, input, output);
            self.sending = Sending::Flowing;
        }
        let output = self.line.output(input).ok_or(Skipped::Settled)?;
        match self.written.insert(output) {
            Seen::New => {}
            Seen::Duplicate | Seen::TooOld => return Err(Skipped::Settled),
        }
        let (next, highest) = self.last.unwrap_or_default();
        self.last = Some((next.max(output + 1), highest.max(input)));
        Ok(output)
    }

    /// The output number of a track that a player means.
    fn near(&self, output: u16) -> Option<u64> {
        let highest = self.last?.0 - 1;
        highest.checked_sub(u64::from(low(highest).wrapping_sub(output)))
    }
}

/// When packets were last sent again, by their number.
#[derive(Debug)]
struct Resent(Box<[Option<(u16, Instant)>; RESENT]>);

impl Default for Resent {
    fn default() -> Self {
        Self(Box::new([None; RESENT]))
    }
}

impl Resent {
    fn may(&mut self, now: Instant, output: u16, rtt: Option<Duration>) -> bool {
        let interval = rtt.map_or(RESEND_INTERVAL, |rtt| RESEND_INTERVAL.max(rtt / 2));
        let slot = &mut self.0[usize::from(output) % RESENT];
        let soon =
            slot.is_some_and(|(sent, at)| sent == output && now.saturating_duration_since(at) < interval);
        if !soon {
            *slot = Some((output, now));
        }
        !soon
    }
}

/// SplitMix64: spreads one seed over the numbers of a play.
fn mix(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *seed;
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}
