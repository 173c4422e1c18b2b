//! An app's handle of a published stream, and the engine's end of it.
//!
//! Media goes to the session that is active, straight from the app's call into that session's queue. With no such
//! session, or a full queue, it is dropped, and video resumes with a keyframe (PUB-6).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
};
use waystation_proto::StreamKey;

use crate::{
    engine::{Command, Commands, PublicationId},
    machine::AttemptId,
    media::{Codec, Kind, OutgoingTrack, RtpPacket, Sample, WriteError},
    peer::PublishedTrack,
};

/// What became of media that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is on its way to a node.
    Sent,
    /// There is no session now, or one that cannot keep up, or a keyframe is waited for: it is lost.
    Dropped,
}

/// A stream that is being published. Dropping it stops it.
#[derive(Debug)]
pub struct Publisher {
    key: StreamKey,
    id: PublicationId,
    outlet: Arc<Outlet>,
    commands: Commands,
}

impl Publisher {
    pub(crate) fn new(key: StreamKey, id: PublicationId, outlet: Arc<Outlet>, commands: Commands) -> Self {
        Self { key, id, outlet, commands }
    }

    /// Which stream.
    #[must_use]
    pub fn key(&self) -> &StreamKey {
        &self.key
    }

    /// Sends a frame or an Opus packet. Never waits.
    ///
    /// # Errors
    /// [`WriteError`] when it is no media of that track, or the publisher has ended.
    pub fn write_sample(&self, kind: Kind, sample: Sample) -> Result<Written, WriteError> {
        self.outlet.write(kind, |track| track.write_sample(&sample))
    }

    /// Sends an RTP packet of the track's codec: payload type and SSRC may be any, they are replaced. Never waits.
    ///
    /// # Errors
    /// [`WriteError`] when it is no RTP packet, or the publisher has ended.
    pub fn write_rtp(&self, kind: Kind, packet: &[u8]) -> Result<Written, WriteError> {
        self.outlet.write(kind, |track| Ok(track.write_rtp(packet)?.into_iter().collect()))
    }

    /// Returns when the encoder should make a keyframe: a node asked for one, or media goes to another session.
    /// Several requests may count as one. One caller at a time is woken.
    pub async fn keyframe_wanted(&self) {
        self.outlet.keyframe.notified().await;
    }

    /// Stops publishing: the stream leaves the room (PUB-10). Returns when `NoPublish` was told.
    pub async fn stop(self) {
        let (id, key) = (self.id, self.key.clone());
        self.commands.until_ended(|ended| Command::StopPublishing { id, key, ended: Some(ended) }).await;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let key = self.key.clone();
        self.commands.post(Command::StopPublishing { id: self.id, key, ended: None });
    }
}

/// Where a publisher's media goes.
#[derive(Debug)]
pub(crate) struct Outlet {
    state: Mutex<State>,
    keyframe: Notify,
}

#[derive(Debug)]
struct State {
    tracks: BTreeMap<Kind, OutgoingTrack>,
    route: Route,
}

#[derive(Debug)]
enum Route {
    /// No session is active.
    Nowhere,
    /// To the active session.
    To(AttemptId, mpsc::Sender<RtpPacket>),
    /// The publisher has ended.
    Ended,
}

impl Outlet {
    /// An outlet of these codecs, whose numbers start anywhere.
    pub(crate) fn new(codecs: impl IntoIterator<Item = Codec>) -> Self {
        let track = |codec: Codec| {
            (codec.kind(), OutgoingTrack::new(codec, rand::random(), rand::random(), rand::random()))
        };
        let tracks = codecs.into_iter().map(track).collect();
        Self { state: Mutex::new(State { tracks, route: Route::Nowhere }), keyframe: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tracks, as a peer connection offers them.
    pub(crate) fn tracks(&self) -> Vec<PublishedTrack> {
        let published = |track: &OutgoingTrack| {
            let ssrc = track.ssrc();
            PublishedTrack { codec: track.codec(), ssrc, rtx_ssrc: ssrc.wrapping_add(1) }
        };
        self.state().tracks.values().map(published).collect()
    }

    /// Media goes to this session from now on, from a keyframe on.
    pub(crate) fn route_to(&self, attempt: AttemptId, session: mpsc::Sender<RtpPacket>) {
        let mut state = self.state();
        match state.route {
            Route::Nowhere | Route::To(..) => {
                state.route = Route::To(attempt, session);
                state.interrupt();
            }
            Route::Ended => return,
        }
        drop(state);
        self.want_keyframe();
    }

    /// This session has ended.
    pub(crate) fn leave(&self, attempt: AttemptId) {
        let mut state = self.state();
        match state.route {
            Route::To(active, _) if active == attempt => state.route = Route::Nowhere,
            Route::Nowhere | Route::To(..) | Route::Ended => {}
        }
    }

    /// The publisher has ended.
    pub(crate) fn end(&self) {
        self.state().route = Route::Ended;
        self.want_keyframe();
    }

    /// A keyframe is asked for.
    pub(crate) fn want_keyframe(&self) {
        self.keyframe.notify_one();
    }

    fn write(
        &self,
        kind: Kind,
        packetise: impl FnOnce(&mut OutgoingTrack) -> Result<Vec<RtpPacket>, WriteError>,
    ) -> Result<Written, WriteError> {
        let mut state = self.state();
        let State { tracks, route } = &mut *state;
        let track = tracks.get_mut(&kind).ok_or(WriteError::NoTrack(kind))?;
        let session = match route {
            Route::Nowhere => return Ok(Written::Dropped),
            Route::To(_, session) => session.clone(),
            Route::Ended => return Err(WriteError::Ended),
        };
        let packets = packetise(track)?;
        if packets.is_empty() {
            return Ok(Written::Dropped);
        }
        match session.try_reserve_many(packets.len()) {
            Ok(places) => {
                places.zip(packets).for_each(|(place, packet)| place.send(packet));
                Ok(Written::Sent)
            }
            Err(TrySendError::Full(())) => {
                track.interrupt();
                drop(state);
                self.want_keyframe();
                Ok(Written::Dropped)
            }
            Err(TrySendError::Closed(())) => {
                *route = Route::Nowhere;
                Ok(Written::Dropped)
            }
        }
    }
}

impl State {
    /// What is sent next begins with a keyframe.
    fn interrupt(&mut self) {
        self.tracks.values_mut().for_each(OutgoingTrack::interrupt);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::{Outlet, Written};
    use crate::{
        machine::AttemptId,
        media::{Codec, Kind, Sample, VideoCodec, WriteError},
    };

    fn write(outlet: &Outlet, keyframe: bool) -> Result<Written, WriteError> {
        let data = Bytes::from(vec![u8::from(!keyframe); 3_000]);
        outlet.write(Kind::Video, |track| track.write_sample(&Sample { data, timestamp: Duration::ZERO }))
    }

    #[test]
    fn media_is_dropped_without_a_session_and_resumes_in_the_next_with_a_keyframe() {
        // PUB-6
        let outlet = Outlet::new([Codec::Video(VideoCodec::Vp8)]);
        assert_eq!(write(&outlet, true), Ok(Written::Dropped));
        let (first, mut at_first) = mpsc::channel(100);
        outlet.route_to(AttemptId(1), first);
        assert_eq!(write(&outlet, false), Ok(Written::Dropped));
        assert_eq!(write(&outlet, true), Ok(Written::Sent));
        assert_eq!(write(&outlet, false), Ok(Written::Sent));
        let (second, mut at_second) = mpsc::channel(100);
        outlet.route_to(AttemptId(2), second);
        outlet.leave(AttemptId(1));
        assert_eq!(write(&outlet, false), Ok(Written::Dropped));
        assert_eq!(write(&outlet, true), Ok(Written::Sent));
        let last = std::iter::from_fn(|| at_first.try_recv().ok()).last().expect("two frames");
        let next = at_second.try_recv().expect("a keyframe");
        assert_eq!(next.sequence_number, last.sequence_number.wrapping_add(1));
        outlet.end();
        assert_eq!(write(&outlet, true), Err(WriteError::Ended));
    }

    #[test]
    fn a_session_that_cannot_keep_up_loses_whole_frames_until_a_keyframe() {
        // PUB-6
        let outlet = Outlet::new([Codec::Video(VideoCodec::Vp8)]);
        let (session, mut received) = mpsc::channel(4);
        outlet.route_to(AttemptId(1), session);
        assert_eq!(write(&outlet, true), Ok(Written::Sent));
        assert_eq!(write(&outlet, false), Ok(Written::Dropped));
        while received.try_recv().is_ok() {}
        assert_eq!(write(&outlet, false), Ok(Written::Dropped));
        assert_eq!(write(&outlet, true), Ok(Written::Sent));
        assert_eq!(write(&outlet, false).err(), None);
        assert_eq!(outlet.write(Kind::Audio, |_| Ok(Vec::new())), Err(WriteError::NoTrack(Kind::Audio)));
    }
}
