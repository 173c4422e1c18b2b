//! Where in the past a player's video may start: at the last keyframe, while all behind it is kept.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    archive::{Account, Archive, CHUNK_PACKETS, Chunk, NotSealed},
    behind::LiveEdge,
};
use crate::{
    media::history::{History, Packet, PacketMeta, PacketRef},
    plane::Kind,
};

/// A keyframe that is older is no start. Encoders that are told nothing make one every ten seconds or sooner.
pub const MAX_AGE: Duration = Duration::from_secs(15);
/// Most that is kept of one track behind its ring: 15 s at 8 Mbit/s.
pub const MAX_TRACK_BYTES: usize = 16 << 20;
/// Packets stay in the ring alone until so many newer ones have come: what is repaired by then is in its place.
const LAG_PACKETS: u64 = 256;
/// A number that is missing among the newest may still come; one before them is lost.
const HOPE_PACKETS: u64 = 64;

#[derive(Clone, Debug)]
struct Point {
    /// The keyframe's first packet.
    keyframe: u64,
    /// When that came.
    at: Instant,
    /// First number behind the highest that was stored, and that one's timestamp.
    next: u64,
    newest: u32,
    kept: Kept,
}

/// What was kept of the packets that leave the ring.
#[derive(Clone, Debug)]
enum Kept {
    /// All, up to a number.
    Whole { archive: Archive, until: u64 },
    /// Something is missing, or it was too much.
    Broken,
}

impl Kept {
    fn from(keyframe: u64) -> Self {
        Self::Whole { archive: Archive::default(), until: keyframe }
    }
}

/// What a player may start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The keyframe's first packet.
    pub keyframe: u64,
    /// Since when that is there.
    pub age: Duration,
    /// Up to where it is all old.
    pub edge: LiveEdge,
}

/// Why what was kept since a keyframe was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// A packet was lost for good: nobody could decode what follows.
    Hole,
    /// The track's own bound: [`MAX_TRACK_BYTES`], [`MAX_AGE`].
    TooMuch,
    /// The relay's bound.
    Full,
}

/// The last keyframe of a stream, what is kept since, and how far the stream is.
#[derive(Clone, Debug, Default)]
pub struct StartPoint(Option<Point>);

impl StartPoint {
    /// A packet was stored.
    pub(in crate::media) fn stored(&mut self, now: Instant, meta: PacketMeta) {
        let PacketMeta { id: PacketRef { kind: Kind::Video, sequence }, timestamp, keyframe, .. } = meta
        else {
            return;
        };
        let next = sequence + 1;
        let (highest, newest) = match &self.0 {
            Some(point) if point.next > next => (point.next, point.newest),
            Some(_) | None => (next, timestamp),
        };
        match &mut self.0 {
            Some(point) if keyframe && sequence > point.keyframe => {
                let kept = Kept::from(sequence);
                *point = Point { keyframe: sequence, at: now, next: highest, newest, kept };
            }
            Some(point) => (point.next, point.newest) = (highest, newest),
            None if keyframe => {
                self.0 =
                    Some(Point { keyframe: sequence, at: now, next, newest, kept: Kept::from(sequence) });
            }
            None => {}
        }
    }

    /// Puts the oldest packets of the ring aside, when there are enough of them. Others that keep the stream get the
    /// chunk, too.
    ///
    /// # Errors
    /// [`GivenUp`]: there is no start before the next keyframe. Told once.
    pub(in crate::media) fn seal(
        &mut self,
        now: Instant,
        ring: &History,
        account: &Arc<Account>,
    ) -> Result<Option<Arc<Chunk>>, GivenUp> {
        let Some(Point { at, next, kept, .. }) = &mut self.0 else { return Ok(None) };
        let Kept::Whole { archive, until } = kept else { return Ok(None) };
        if *next < *until + LAG_PACKETS + CHUNK_PACKETS {
            return Ok(None);
        }
        let too_much = archive.bytes() >= MAX_TRACK_BYTES || now.saturating_duration_since(*at) > MAX_AGE;
        let chunk = if too_much {
            Err(GivenUp::TooMuch)
        } else {
            Chunk::seal(*until, ring, account).map_err(|why| match why {
                NotSealed::Hole => GivenUp::Hole,
                NotSealed::Full => GivenUp::Full,
            })
        };
        match chunk.map(Arc::new) {
            Ok(chunk) => {
                *until = chunk.end();
                archive.push(Arc::clone(&chunk));
                Ok(Some(chunk))
            }
            Err(why) => {
                *kept = Kept::Broken;
                Err(why)
            }
        }
    }

    /// Takes a chunk that another worker sealed.
    pub(in crate::media) fn adopt(&mut self, chunk: Arc<Chunk>) {
        let Some(Point { next, kept: Kept::Whole { archive, until }, .. }) = &mut self.0 else { return };
        if chunk.first() == *until {
            *until = chunk.end();
            *next = (*next).max(*until);
            archive.push(chunk);
        }
    }

    /// Takes over what another worker has of the stream.
    pub(in crate::media) fn take_over(&mut self, other: Start) {
        let Start(mut theirs) = other;
        match &self.0 {
            Some(ours) if ours.keyframe > theirs.keyframe => {}
            Some(ours) => {
                if ours.next > theirs.next {
                    (theirs.next, theirs.newest) = (ours.next, ours.newest);
                }
                self.0 = Some(theirs);
            }
            None => self.0 = Some(theirs),
        }
    }

    /// What another worker needs to start players, and the numbers that are in the ring alone.
    pub(in crate::media) fn hand_over(&self) -> Option<(Start, Range<u64>)> {
        let point = self.0.as_ref()?;
        let Kept::Whole { until, .. } = &point.kept else { return None };
        Some((Start(point.clone()), *until..point.next))
    }

    /// Nobody starts in the past any more: what feeds the stream changed, or the worker stood still.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// First number behind the highest that was stored.
    pub(in crate::media) fn next(&self) -> Option<u64> {
        self.0.as_ref().map(|point| point.next)
    }

    /// First packet of the last keyframe.
    pub(in crate::media) fn keyframe(&self) -> Option<u64> {
        self.0.as_ref().map(|point| point.keyframe)
    }

    /// What a player may start with at `now`.
    pub(in crate::media) fn offer(&self, now: Instant, ring: &History) -> Option<Offer> {
        let Point { keyframe, at, next, newest, kept } = self.0.as_ref()?;
        let age = now.saturating_duration_since(*at);
        let Kept::Whole { archive, until } = kept else { return None };
        if age > MAX_AGE {
            return None;
        }
        let lost_before = (*until).max(next.saturating_sub(HOPE_PACKETS)).max(keyframe + 1);
        let first = archive
            .get(PacketRef { kind: Kind::Video, sequence: *keyframe })
            .or_else(|| ring.get(*keyframe))?;
        if !(*until..lost_before).all(|number| ring.get(number).is_some()) {
            return None;
        }
        let newest = LiveEdge { number: *next, timestamp: *newest };
        let told = LiveEdge::told(&first).filter(|told| told.number > newest.number);
        Some(Offer { keyframe: *keyframe, age, edge: told.unwrap_or(newest) })
    }

    pub(in crate::media) fn get(&self, id: PacketRef) -> Option<Packet<'_>> {
        match &self.0.as_ref()?.kept {
            Kept::Whole { archive, .. } => archive.get(id),
            Kept::Broken => None,
        }
    }
}

/// What one worker hands another of a stream's start.
#[derive(Clone, Debug)]
pub struct Start(Point);
