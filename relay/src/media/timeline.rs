//! Output time of a stream: one line over all the publishes that feed it one after the other.
//!
//! Timestamps are shifted per publish and track. At a switch a track goes on by capture time, if both sides name one,
//! else by arrival. Sender reports of the publish are carried over with one NTP shift for both tracks, chosen so that
//! audio (or the only track) stays exactly on its old line; what then remains between audio and video is an error of
//! the first guess, and video's shift is slewed by at most [`SLEW`] a frame until it is gone.
//!
//! Invariant: packets with one timestamp leave with one timestamp, and a later frame leaves with a later one.

use std::time::{Duration, Instant};

use super::{
    clock::{Ntp, WallClock, ticks},
    ingress::SourceReport,
};
use crate::plane::Kind;

/// Most that a frame's timestamp is bent.
pub const SLEW: Duration = Duration::from_millis(2);

/// An error over this is no error of arrival: the line starts anew.
const MAX_ERROR: Duration = Duration::from_secs(2);

/// Capture times that differ from arrival by more are of another clock.
const MAX_CAPTURE_DOUBT: Duration = Duration::from_secs(1);

/// Least step of time over a switch.
const MIN_STEP: Duration = Duration::from_millis(1);

/// Shifts of a slewed track that late packets may still need.
const SHIFTS: usize = 16;

/// One moment of a track on the stream's line: the content of a sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinePoint {
    /// NTP time.
    pub ntp: Ntp,
    /// RTP timestamp on the stream's line.
    pub rtp: u32,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    rtp: u32,
    at: Instant,
    captured: Option<Ntp>,
}

/// A report of the publish that feeds now.
#[derive(Clone, Copy, Debug)]
struct Heard {
    report: SourceReport,
    at: Instant,
}

/// A point of the line before the switch.
#[derive(Clone, Copy, Debug)]
struct Before {
    point: LinePoint,
    at: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Shift {
    /// First input timestamp that it is for.
    since: u32,
    by: u32,
}

#[derive(Clone, Debug, Default)]
struct Track {
    clock_rate: u32,
    /// Newest last; empty before the first packet of this publish.
    shifts: [Shift; SHIFTS],
    made: usize,
    /// Highest input timestamp.
    newest: u32,
    last: Option<Last>,
    heard: Option<Heard>,
    before: Option<Before>,
    /// Ticks still to be bent.
    slew: i32,
    /// How far behind the live edge the first packet of this publish is.
    behind: u32,
}

/// The NTP shift of the publish that feeds now, and whose line it was taken from.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    shift: u64,
    by: Kind,
}

/// The line of one stream.
#[derive(Clone, Debug)]
pub struct Timeline {
    clock: WallClock,
    audio: Track,
    video: Track,
    anchor: Option<Anchor>,
}

impl Timeline {
    /// A line that begins with the first publish's own timestamps.
    #[must_use]
    pub fn new(clock: WallClock) -> Self {
        Self { clock, audio: Track::default(), video: Track::default(), anchor: None }
    }

    /// Another publish feeds the stream.
    pub fn switch(&mut self, now: Instant) {
        for kind in [Kind::Audio, Kind::Video] {
            let point = self.point(kind, now);
            let track = self.track_mut(kind);
            track.before = point.map(|point| Before { point, at: now });
            track.made = 0;
            track.heard = None;
            track.slew = 0;
            track.behind = 0;
        }
        self.anchor = None;
    }

    /// The next packet of the track is so far behind the live edge. If a publish begins with it, not it but the live edge
    /// goes on where the line was: what is behind has its time before that.
    pub fn begins_behind(&mut self, kind: Kind, ticks: u32) {
        self.track_mut(kind).behind = ticks;
    }

    /// The output timestamp of a packet.
    pub fn place(
        &mut self,
        kind: Kind,
        now: Instant,
        timestamp: u32,
        captured: Option<Ntp>,
        clock_rate: u32,
    ) -> u32 {
        let track = self.track_mut(kind);
        track.clock_rate = clock_rate;
        if track.made == 0 {
            track.start(now, timestamp, captured);
        }
        let output = track.shifted(timestamp);
        let newer = track.last.is_none_or(|last| output.wrapping_sub(last.rtp) as i32 > 0);
        if newer {
            track.last = Some(Last { rtp: output, at: now, captured });
        }
        output
    }

    /// The publish that feeds now said what time it is.
    pub fn sender_report(&mut self, now: Instant, report: SourceReport) {
        let kind = report.kind;
        let audio_has_line = self.audio.before.is_some();
        let track = self.track_mut(kind);
        if track.made == 0 {
            return;
        }
        track.heard = Some(Heard { report, at: now });
        let anchored_by = self.anchor.map(|anchor| anchor.by);
        let leads = match (kind, anchored_by) {
            (_, None) => true,
            // Audio is not bent: it takes the lead as soon as it can.
            (Kind::Audio, Some(Kind::Video)) => audio_has_line,
            (Kind::Audio | Kind::Video, Some(_)) => false,
        };
        if leads {
            let shift = self.solve(kind, now);
            self.anchor = shift.map(|shift| Anchor { shift, by: kind }).or(self.anchor);
        }
        self.bend_video();
    }

    /// Where the line of a track is at `now`.
    #[must_use]
    pub fn point(&self, kind: Kind, now: Instant) -> Option<LinePoint> {
        let track = self.track(kind);
        let rate = track.clock_rate;
        let later = |point: LinePoint, at: Instant| {
            let by = now.saturating_duration_since(at);
            LinePoint { ntp: point.ntp.after(by), rtp: point.rtp.wrapping_add(ticks(by, rate) as u32) }
        };
        match (self.anchor, track.heard, track.before, track.last) {
            (Some(anchor), Some(heard), _, _) => Some(later(track.carried(heard.report, anchor), heard.at)),
            (_, _, Some(before), _) => Some(later(before.point, before.at)),
            (_, _, None, Some(last)) => {
                Some(later(LinePoint { ntp: self.clock.ntp(last.at), rtp: last.rtp }, last.at))
            }
            (_, _, None, None) => None,
        }
    }

    /// The NTP shift with which a track's report lies on its old line, or, without one, on our clock.
    fn solve(&self, kind: Kind, now: Instant) -> Option<u64> {
        let track = self.track(kind);
        let report = track.heard?.report;
        let ntp = match track.before {
            Some(before) => {
                let rtp = report.rtp.wrapping_add(track.shift_of(track.newest));
                let ahead = rtp.wrapping_sub(before.point.rtp) as i32;
                before.point.ntp.plus_ticks(i64::from(ahead), track.clock_rate)
            }
            None => self.clock.ntp(now),
        };
        Some(ntp.0.wrapping_sub(report.ntp.0))
    }

    /// Plans how video gets back to its line.
    fn bend_video(&mut self) {
        let (Some(anchor), Some(heard)) = (self.anchor, self.video.heard) else { return };
        let Some(before) = self.video.before.map(|before| before.point) else { return };
        if anchor.by == Kind::Video {
            return;
        }
        let rate = self.video.clock_rate;
        let carried = self.video.carried(heard.report, anchor);
        let should = before.rtp.wrapping_add(carried.ntp.ticks_since(before.ntp, rate) as u32);
        let error = should.wrapping_sub(carried.rtp) as i32;
        if u64::from(error.unsigned_abs()) <= ticks(MAX_ERROR, rate) {
            self.video.slew = error;
        } else {
            self.video.before = None;
        }
    }

    fn track(&self, kind: Kind) -> &Track {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }

    fn track_mut(&mut self, kind: Kind) -> &mut Track {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
}

impl Track {
    /// The first packet of a publish decides its shift.
    fn start(&mut self, now: Instant, timestamp: u32, captured: Option<Ntp>) {
        let by = match self.last {
            None => 0,
            Some(last) => {
                let arrival = now.saturating_duration_since(last.at);
                let by_arrival = ticks(arrival.max(MIN_STEP), self.clock_rate) as i64;
                let doubt = ticks(MAX_CAPTURE_DOUBT, self.clock_rate) as i64;
                let by_capture = captured
                    .zip(last.captured)
                    .map(|(new, old)| new.ticks_since(old, self.clock_rate) + i64::from(self.behind))
                    .filter(|ticks| (ticks - by_arrival).abs() <= doubt)
                    .map(|capture| capture.max(ticks(MIN_STEP, self.clock_rate) as i64));
                let step = by_capture.unwrap_or(by_arrival);
                last.rtp.wrapping_add(step as u32).wrapping_sub(timestamp.wrapping_add(self.behind))
            }
        };
        self.shifts[0] = Shift { since: timestamp, by };
        self.made = 1;
        self.newest = timestamp;
    }

    fn shifted(&mut self, timestamp: u32) -> u32 {
        let ahead = timestamp.wrapping_sub(self.newest) as i32;
        if ahead > 0 {
            self.newest = timestamp;
            let most = (ticks(SLEW, self.clock_rate) as i32).min(ahead - 1);
            let bend = self.slew.clamp(-most, most);
            self.renew(timestamp);
            if bend != 0 {
                self.slew -= bend;
                let by = self.shift_of(timestamp).wrapping_add(bend as u32);
                self.shifts[self.made % SHIFTS] = Shift { since: timestamp, by };
                self.made += 1;
            }
        }
        timestamp.wrapping_add(self.shift_of(timestamp))
    }

    /// Keeps the newest shift within half the circle of timestamps.
    fn renew(&mut self, timestamp: u32) {
        const FAR: u32 = 1 << 30;
        let newest = self.shifts[(self.made - 1) % SHIFTS];
        if timestamp.wrapping_sub(newest.since) > FAR {
            self.shifts[0] = Shift { since: timestamp.wrapping_sub(FAR / 2), by: newest.by };
            self.made = 1;
        }
    }

    fn shift_of(&self, timestamp: u32) -> u32 {
        let newest_first =
            (self.made.saturating_sub(SHIFTS)..self.made).rev().map(|at| self.shifts[at % SHIFTS]);
        let mut oldest = 0;
        for shift in newest_first {
            oldest = shift.by;
            if timestamp.wrapping_sub(shift.since) as i32 >= 0 {
                break;
            }
        }
        oldest
    }

    /// A report of the publish on the stream's line.
    fn carried(&self, report: SourceReport, anchor: Anchor) -> LinePoint {
        LinePoint {
            ntp: Ntp(report.ntp.0.wrapping_add(anchor.shift)),
            rtp: report.rtp.wrapping_add(self.shift_of(self.newest)),
        }
    }
}
