//! One publish as it arrives: whose packet it is, what it repairs, whether it is new, and what it says.
//!
//! SSRCs are bound by announcement, or by the first packet's payload type and mid (RFC 8843 §9.2, RFC 9143);
//! retransmissions become the packets that they repeat (RFC 4588 §4). Invariant: an [`Arrival`] is given once per
//! packet, and its numbers have no gap where a publisher only probed with padding.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    arrivals::Arrivals,
    clock::{Ntp, WallClock},
    extension::ExtensionIds,
    feedback::Feedback,
    habit::Habit,
    nack::{Hope, MissingList},
    payload::{Inspected, descriptor_starts_keyframe, inspect},
    pli::KeyframeRequests,
    reception::Reception,
    rtcp::Message,
    rtp::{Header, RtpError, be16, be64},
    sequence::{Extended, Extender, Renumber, Seen, SeenWindow, low},
    start::Backlog,
};
use crate::plane::{Codec, ExtensionKind, IngressTrack, Kind, Publish};

/// Most SSRCs of one publish: two for each track, and some that changed.
pub const MAX_BINDINGS: usize = 8;

/// A track whose SSRC was silent for so long may be bound to another.
pub const REBIND_AFTER: Duration = Duration::from_secs(1);

/// How feedback to the publisher is made.
#[derive(Clone, Debug)]
pub struct IngressConfig {
    /// What time it is.
    pub clock: WallClock,
    /// Our SSRC as a receiver.
    pub ssrc: u32,
    /// Our CNAME.
    pub cname: Arc<str>,
    /// The most that a publisher that only knows REMB is told to send.
    pub remb_cap_bits_per_second: u64,
}

/// Why a packet goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Dropped {
    /// It is no RTP packet.
    #[error(transparent)]
    Malformed(#[from] RtpError),
    /// No track has this SSRC or payload type.
    #[error("no track takes SSRC {ssrc} with payload type {payload_type}; dropped")]
    Unbound {
        /// Its SSRC.
        ssrc: u32,
        /// Its payload type.
        payload_type: u8,
    },
    /// It only carries padding.
    #[error("padding-only probe; dropped")]
    Probe,
    /// It arrived before.
    #[error("packet {0} arrived before; dropped")]
    Duplicate(u16),
    /// Nobody waits for it any more, or its number is far from the others.
    #[error("packet {0} is too far from the newest; dropped")]
    Late(u16),
}

/// A new packet of a publish. Positions are in the datagram as it was received.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its track.
    pub kind: Kind,
    /// Its codec.
    pub codec: Codec,
    /// Its number: rises without gaps but for loss; low 16 bits are the publisher's until it first probed.
    pub sequence: u64,
    /// The publisher's timestamp.
    pub timestamp: u32,
    /// Marker bit.
    pub marker: bool,
    /// A keyframe starts with it.
    pub keyframe: bool,
    /// It came as a retransmission.
    pub repaired: bool,
    /// When it was captured, on the publisher's clock, if it says.
    pub captured: Option<Ntp>,
    /// How far behind the live edge it is, if a relay sent it that kept it; in ticks.
    pub ticks_behind: u32,
    /// Where its payload lies.
    pub payload: Range<usize>,
    /// What the payload says.
    pub inspected: Inspected,
    pub(crate) header: Header,
    pub(crate) ids: ExtensionIds,
    pub(crate) clock_rate: u32,
}

/// A sender report of a publish: one moment on its two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceReport {
    /// Which track.
    pub kind: Kind,
    /// NTP time.
    pub ntp: Ntp,
    /// RTP timestamp.
    pub rtp: u32,
    /// Ticks a second.
    pub clock_rate: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Media,
    Repair,
}

#[derive(Clone, Copy, Debug)]
struct Binding {
    ssrc: u32,
    track: usize,
    role: Role,
}

/// One publish.
#[derive(Debug)]
pub struct Ingress {
    pub(super) config: IngressConfig,
    pub(super) tracks: Vec<Track>,
    bindings: Vec<Binding>,
    pub(super) arrivals: Arrivals,
    pub(super) feedback: Feedback,
}

impl Ingress {
    /// A publish from which nothing came yet.
    #[must_use]
    pub fn new(publish: &Publish, config: IngressConfig) -> Self {
        let tracks: Vec<_> = publish.tracks.iter().cloned().map(Track::new).collect();
        let mut bindings = Vec::with_capacity(MAX_BINDINGS);
        for (track, spec) in publish.tracks.iter().enumerate().take(MAX_BINDINGS / 2) {
            bindings.extend(spec.ssrc.map(|ssrc| Binding { ssrc, track, role: Role::Media }));
            bindings.extend(spec.rtx_ssrc.map(|ssrc| Binding { ssrc, track, role: Role::Repair }));
        }
        let feedback = Feedback::new(config.remb_cap_bits_per_second);
        Self { config, tracks, bindings, arrivals: Arrivals::default(), feedback }
    }

    /// Takes a decrypted RTP packet.
    ///
    /// # Errors
    /// [`Dropped`] if it is not to be forwarded.
    pub fn receive(&mut self, now: Instant, packet: &[u8]) -> Result<Arrival, Dropped> {
        let header = Header::parse(packet)?;
        let binding = self.bind(now, &header, packet)?;
        let track = &mut self.tracks[binding.track];
        if let Some(&[high, low]) = track.ids.find(ExtensionKind::TransportCc, &header, packet) {
            self.arrivals.record(now, u16::from_be_bytes([high, low]), &self.config.clock);
        }
        self.feedback.received(now, packet.len());
        match binding.role {
            Role::Media => track.media(now, header, packet, &self.config.clock),
            Role::Repair => track.repair(now, header, packet),
        }
    }

    /// Takes a message of the publisher; answers its sender reports, for [`super::source::Source::sender_report`].
    pub fn handle(&mut self, now: Instant, message: &Message<'_>) -> Option<SourceReport> {
        let &Message::SenderReport { ssrc, ntp, rtp, .. } = message else { return None };
        let track = self.tracks.iter_mut().find(|track| track.ssrc == Some(ssrc))?;
        track.reception.sender_report(now, ntp);
        Some(SourceReport { kind: track.spec.kind, ntp, rtp, clock_rate: track.spec.codec.clock_rate })
    }

    /// Somebody needs a keyframe: asked for with the next feedback, throttled.
    pub fn want_keyframe(&mut self, now: Instant) {
        for track in self.video() {
            track.keyframes.want(now);
        }
    }

    /// The stream is switched to this publish: a keyframe is asked for at once.
    pub fn want_keyframe_at_once(&mut self, now: Instant) {
        for track in self.video() {
            track.keyframes.want_at_once(now);
        }
    }

    /// What is known of the publisher's answers to requests for keyframes.
    #[must_use]
    pub fn habit(&self) -> Habit {
        let video = self.tracks.iter().find(|track| track.spec.kind == Kind::Video);
        video.map_or(Habit::Unknown, |track| track.keyframes.habit())
    }

    /// When media last arrived.
    #[must_use]
    pub fn last_media_at(&self) -> Option<Instant> {
        self.tracks.iter().filter_map(|track| track.last_at).max()
    }

    /// Whether packets with this SSRC are this publish's, as far as is known yet.
    #[must_use]
    pub fn owns(&self, ssrc: u32) -> bool {
        self.bindings.iter().any(|binding| binding.ssrc == ssrc)
    }

    fn video(&mut self) -> impl Iterator<Item = &mut Track> {
        self.tracks.iter_mut().filter(|track| track.spec.kind == Kind::Video)
    }

    fn bind(&mut self, now: Instant, header: &Header, packet: &[u8]) -> Result<Binding, Dropped> {
        if let Some(&known) = self.bindings.iter().find(|binding| binding.ssrc == header.ssrc) {
            let track = &mut self.tracks[known.track];
            // An announced source becomes the track's with its first packet.
            if known.role == Role::Media && track.ssrc.is_none() {
                track.ssrc = Some(header.ssrc);
            }
            return Ok(known);
        }
        let unbound = Dropped::Unbound { ssrc: header.ssrc, payload_type: header.payload_type };
        let (track, role) = self
            .tracks
            .iter()
            .enumerate()
            .find_map(|(at, track)| Some((at, track.takes(header, packet)?)))
            .ok_or(unbound)?;
        if role == Role::Media {
            let bound = &mut self.tracks[track];
            let silent = bound.last_at.is_none_or(|at| now.saturating_duration_since(at) >= REBIND_AFTER);
            if !silent {
                return Err(unbound);
            }
            bound.rebind(header.ssrc);
        }
        self.bindings.retain(|old| old.track != track || old.role != role);
        if self.bindings.len() >= MAX_BINDINGS {
            return Err(unbound);
        }
        let binding = Binding { ssrc: header.ssrc, track, role };
        self.bindings.push(binding);
        Ok(binding)
    }
}

/// One track of a publish.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) spec: IngressTrack,
    ids: ExtensionIds,
    /// The source that it is bound to.
    pub(super) ssrc: Option<u32>,
    extender: Extender,
    seen: SeenWindow,
    /// First number behind the highest that arrived.
    next: Option<u64>,
    /// The publisher's numbers to ours.
    line: Renumber,
    next_output: Option<u64>,
    pub(super) missing: MissingList,
    pub(super) reception: Reception,
    pub(super) keyframes: KeyframeRequests,
    last_keyframe: Option<u32>,
    last_at: Option<Instant>,
}

impl Track {
    fn new(spec: IngressTrack) -> Self {
        Self {
            ids: ExtensionIds::new(&spec.extensions),
            // A link names its SSRCs for good, and can be asked before anything came. A client may send with others.
            ssrc: spec.ssrc.filter(|_| spec.mid.is_empty()),
            spec,
            extender: Extender::default(),
            seen: SeenWindow::default(),
            next: None,
            line: Renumber::default(),
            next_output: None,
            missing: MissingList::default(),
            reception: Reception::default(),
            keyframes: KeyframeRequests::default(),
            last_keyframe: None,
            last_at: None,
        }
    }

    fn takes(&self, header: &Header, packet: &[u8]) -> Option<Role> {
        let role = match header.payload_type {
            media if media == self.spec.payload_type => Role::Media,
            repair if Some(repair) == self.spec.rtx_payload_type => Role::Repair,
            _ => return None,
        };
        let mid = self.ids.find(ExtensionKind::Mid, header, packet);
        mid.is_none_or(|mid| self.spec.mid.is_empty() || mid == self.spec.mid.as_bytes()).then_some(role)
    }

    /// Another source feeds the track from now on; our numbers go on.
    fn rebind(&mut self, ssrc: u32) {
        self.ssrc = Some(ssrc);
        self.extender = Extender::default();
        self.restart();
    }

    fn restart(&mut self) {
        self.seen = SeenWindow::default();
        self.line = Renumber::default();
        self.next = None;
        self.missing.clear();
        self.reception.restart();
    }

    fn media(
        &mut self,
        now: Instant,
        header: Header,
        packet: &[u8],
        clock: &WallClock,
    ) -> Result<Arrival, Dropped> {
        let sequence = match self.extender.extend(header.sequence) {
            Extended::Same(sequence) => sequence,
            Extended::Restart(sequence) => {
                self.restart();
                sequence
            }
            Extended::Astray => return Err(Dropped::Late(header.sequence)),
        };
        self.admit(now, sequence)?;
        self.reception.count(sequence);
        self.reception.time(now, header.timestamp, clock, self.spec.codec.clock_rate);
        self.last_at = Some(now);
        let ours = header.payload_type == self.spec.payload_type;
        if header.payload.is_empty() || !ours {
            // Only the newest can be taken out: others have left a gap already.
            if self.next == Some(sequence + 1) {
                self.line.close(sequence);
            }
            let unbound = Dropped::Unbound { ssrc: header.ssrc, payload_type: header.payload_type };
            return Err(if ours { Dropped::Probe } else { unbound });
        }
        let payload = header.payload.clone();
        self.arrival(sequence, header, packet, payload, false)
    }

    fn repair(&mut self, now: Instant, mut header: Header, packet: &[u8]) -> Result<Arrival, Dropped> {
        if header.payload.len() <= 2 || self.next.is_none() {
            return Err(Dropped::Probe);
        }
        let payload = header.payload.start + 2..header.payload.end;
        header.sequence = be16(packet, header.payload.start);
        let sequence = self.extender.repair(header.sequence).ok_or(Dropped::Late(header.sequence))?;
        self.admit(now, sequence)?;
        self.arrival(sequence, header, packet, payload, true)
    }

    /// Lets a new packet in, and notes what is missing before it.
    fn admit(&mut self, now: Instant, sequence: u64) -> Result<(), Dropped> {
        match self.seen.insert(sequence) {
            Seen::New => {}
            Seen::Duplicate => return Err(Dropped::Duplicate(low(sequence))),
            Seen::TooOld => return Err(Dropped::Late(low(sequence))),
        }
        match self.next {
            None => {
                self.line.restart(sequence, sequence, self.next_output.unwrap_or(sequence));
                self.next = Some(sequence + 1);
            }
            Some(next) if sequence >= next => {
                let lost = self.spec.nack && self.missing.skipped(now, next, sequence) == Hope::Lost;
                if lost && self.spec.kind == Kind::Video {
                    self.keyframes.want(now);
                }
                self.next = Some(sequence + 1);
            }
            Some(_) => self.missing.arrived(now, sequence),
        }
        Ok(())
    }

    fn arrival(
        &mut self,
        sequence: u64,
        header: Header,
        packet: &[u8],
        payload: Range<usize>,
        repaired: bool,
    ) -> Result<Arrival, Dropped> {
        let output = self.line.output(sequence).ok_or(Dropped::Late(header.sequence))?;
        self.next_output = self.next_output.max(Some(output + 1));
        let codec = self.spec.codec.codec;
        let inspected = inspect(codec, &packet[payload.clone()]);
        let descriptor = self.ids.find(ExtensionKind::DependencyDescriptor, &header, packet);
        let starts =
            descriptor.map_or(inspected.keyframe, |d| descriptor_starts_keyframe(d) || inspected.keyframe);
        // Parameter sets and slices of one keyframe share a timestamp: it starts once.
        let keyframe = starts && self.last_keyframe != Some(header.timestamp);
        let behind = self.ids.find(ExtensionKind::Backlog, &header, packet).and_then(Backlog::of);
        if keyframe {
            self.last_keyframe = Some(header.timestamp);
            match (behind, self.last_at) {
                (None, Some(now)) => self.keyframes.arrived(now),
                (Some(_), _) | (None, None) => self.keyframes.settled(),
            }
        }
        let captured = self.ids.find(ExtensionKind::AbsCaptureTime, &header, packet);
        Ok(Arrival {
            kind: self.spec.kind,
            codec,
            sequence: output,
            timestamp: header.timestamp,
            marker: header.marker,
            keyframe,
            repaired,
            captured: captured.filter(|value| value.len() >= 8).map(|value| Ntp(be64(value, 0))),
            ticks_behind: behind.map_or(0, |backlog| backlog.ticks),
            payload,
            inspected,
            ids: self.ids,
            clock_rate: self.spec.codec.clock_rate,
            header,
        })
    }
}
