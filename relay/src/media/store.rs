//! The packets of a stream that can still be sent: the newest of each track, and those that a player's video starts with.

use std::{sync::Arc, time::Instant};

use super::{
    history::{AUDIO_CAPACITY, History, Packet, PacketMeta, PacketRef, VIDEO_CAPACITY},
    start::{Account, Chunk, GivenUp, Offer, Start, StartPoint},
};
use crate::plane::Kind;

/// What is kept of one stream.
#[derive(Debug)]
pub struct Store {
    audio: History,
    video: History,
    start: StartPoint,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            audio: History::new(AUDIO_CAPACITY),
            video: History::new(VIDEO_CAPACITY),
            start: StartPoint::default(),
        }
    }
}

impl Store {
    /// Stores a packet; a worker uses it for packets that another worker received. Tell [`Self::stored`] when it is as
    /// it stays.
    pub fn insert(&mut self, packet: &Packet<'_>) -> Option<(&mut [u8], &mut [u8])> {
        match packet.meta.id.kind {
            Kind::Audio => self.audio.insert(packet),
            Kind::Video => self.video.insert(packet),
        }
    }

    /// The packet of that name, if it is still there.
    #[must_use]
    pub fn get(&self, id: PacketRef) -> Option<Packet<'_>> {
        match id.kind {
            Kind::Audio => self.audio.get(id.sequence),
            Kind::Video => self.video.get(id.sequence).or_else(|| self.start.get(id)),
        }
    }

    /// A packet was stored: it may be where players start from now on.
    pub fn stored(&mut self, now: Instant, meta: PacketMeta) {
        self.start.stored(now, meta);
    }

    /// Puts aside what is about to leave the ring and players may start with. A chunk that was made goes to the other
    /// workers that keep the stream, for [`Self::adopt`].
    ///
    /// # Errors
    /// [`GivenUp`]: nobody can start before the next keyframe. Told once.
    pub fn seal(&mut self, now: Instant, account: &Arc<Account>) -> Result<Option<Arc<Chunk>>, GivenUp> {
        self.start.seal(now, &self.video, account)
    }

    /// Takes a chunk that the stream's home sealed.
    pub fn adopt(&mut self, chunk: Arc<Chunk>) {
        self.start.adopt(chunk);
    }

    /// What a worker that begins to keep the stream needs: for its [`Self::take_over`], and packets that go there one by
    /// one.
    #[must_use]
    pub fn hand_over(&self) -> Option<(Start, std::ops::Range<u64>)> {
        self.start.hand_over()
    }

    /// Takes over what the stream's home had when this worker began to keep the stream.
    pub fn take_over(&mut self, start: Start) {
        self.start.take_over(start);
    }

    /// What a player may start with at `now`.
    #[must_use]
    pub fn offer(&self, now: Instant) -> Option<Offer> {
        self.start.offer(now, &self.video)
    }

    /// First packet of the last keyframe.
    #[must_use]
    pub fn keyframe(&self) -> Option<u64> {
        self.start.keyframe()
    }

    /// First number of video behind the highest, since the last keyframe.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.start.next()
    }

    /// Nobody starts in the past any more: what feeds the stream changed.
    pub fn forget_start(&mut self) {
        self.start.forget();
    }

    /// Forgets everything: after a standstill nothing queued or kept is to be sent.
    pub fn clear(&mut self) {
        self.audio.clear();
        self.video.clear();
        self.start.forget();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        media::start::{LiveEdge, MAX_AGE, MAX_TRACK_BYTES},
        plane::Codec,
    };

    struct Stream {
        store: Store,
        account: Arc<Account>,
        start: Instant,
        chunks: Vec<Arc<Chunk>>,
    }

    impl Stream {
        fn new(limit_bytes: usize) -> Self {
            let account = Arc::new(Account::new(limit_bytes));
            Self { store: Store::default(), account, start: Instant::now(), chunks: Vec::new() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn insert(&mut self, ms: u64, sequence: u64, keyframe: bool) {
            let id = PacketRef { kind: Kind::Video, sequence };
            let timestamp = sequence as u32 * 10;
            let meta = PacketMeta { id, timestamp, codec: Codec::Vp8, marker: false, keyframe };
            let payload = [sequence as u8; 1000];
            self.store.insert(&Packet { meta, extensions: &[], payload: &payload }).unwrap();
            self.store.stored(self.at(ms), meta);
        }

        fn take(&mut self, ms: u64, sequence: u64, keyframe: bool) -> Result<(), GivenUp> {
            self.insert(ms, sequence, keyframe);
            let chunk = self.store.seal(self.at(ms), &self.account)?;
            self.chunks.extend(chunk);
            Ok(())
        }

        fn keyframe(&self, ms: u64) -> Option<u64> {
            self.store.offer(self.at(ms)).map(|offer| offer.keyframe)
        }
    }

    fn is_whole(store: &Store, numbers: std::ops::Range<u64>) -> bool {
        numbers.into_iter().all(|sequence| {
            let packet = store.get(PacketRef { kind: Kind::Video, sequence });
            packet.is_some_and(|p| p.meta.id.sequence == sequence && p.payload == [sequence as u8; 1000])
        })
    }

    #[test]
    fn all_since_the_last_keyframe_is_kept_and_nothing_before_it() {
        let mut stream = Stream::new(usize::MAX);
        for sequence in 5_u64..5_000 {
            stream.take(sequence, sequence, matches!(sequence, 5 | 4_000)).unwrap();
            let keyframe = if sequence < 4_000 { 5 } else { 4_000 };
            assert_eq!(stream.keyframe(sequence), Some(keyframe));
            if sequence % 500 == 0 {
                assert!(is_whole(&stream.store, keyframe..sequence + 1), "{sequence}");
            }
        }
        let offer = stream.store.offer(stream.at(5_000)).unwrap();
        assert_eq!(offer.edge, LiveEdge { number: 5_000, timestamp: 49_990 });
        assert_eq!(offer.age, Duration::from_millis(1_000));
        stream.chunks.clear();
        assert!(stream.account.held_bytes() < 1_000_000, "what was before the keyframe is free");
        stream.store.forget_start();
        assert_eq!((stream.keyframe(5_000), stream.account.held_bytes()), (None, 0));
    }

    #[test]
    fn another_worker_has_the_same_from_what_it_is_handed() {
        let mut home = Stream::new(usize::MAX);
        let mut replica = Stream::new(usize::MAX);
        for sequence in 0..3_000 {
            home.take(sequence, sequence, sequence == 0).unwrap();
        }
        let (start, newest) = home.store.hand_over().unwrap();
        assert!(newest.end - newest.start < 512, "they fit into the ring between two workers");
        // The newest may come before the rest.
        for sequence in newest {
            replica.insert(sequence, sequence, false);
        }
        replica.store.take_over(start);
        home.chunks.clear();
        for sequence in 3_000..5_000 {
            home.take(sequence, sequence, false).unwrap();
            replica.insert(sequence, sequence, false);
            home.chunks.drain(..).for_each(|chunk| replica.store.adopt(chunk));
        }
        assert_eq!(replica.keyframe(5_000), Some(0));
        assert!(is_whole(&replica.store, 0..5_000));
    }

    #[test]
    fn what_comes_late_is_in_its_place_and_what_is_lost_ends_the_start() {
        let mut stream = Stream::new(usize::MAX);
        for sequence in (0..200).filter(|&sequence| sequence != 20) {
            stream.take(sequence, sequence, sequence == 0).unwrap();
            let may_still_come = sequence < 20 + 64;
            assert_eq!(stream.keyframe(sequence).is_some(), may_still_come, "{sequence}");
        }
        stream.take(200, 20, false).unwrap();
        assert_eq!(stream.keyframe(200), Some(0));
        let ends = (200..900).filter(|&n| n != 300).find_map(|n| Some((n, stream.take(n, n, false).err()?)));
        assert_eq!(ends.map(|(_, why)| why), Some(GivenUp::Hole));
        assert_eq!((stream.keyframe(900), stream.take(900, 900, false)), (None, Ok(())));
        stream.take(901, 901, true).unwrap();
        assert_eq!(stream.keyframe(901), Some(901));
    }

    #[test]
    fn a_keyframes_packets_come_in_any_order() {
        let mut stream = Stream::new(usize::MAX);
        stream.take(0, 5, true).unwrap();
        stream.take(2, 8, true).unwrap();
        stream.take(3, 7, true).unwrap();
        assert_eq!(stream.keyframe(3), Some(8), "an older keyframe that came late");
    }

    #[test]
    fn a_track_and_a_relay_keep_no_more_than_they_may() {
        let mut stream = Stream::new(usize::MAX);
        let gave_up = |stream: &mut Stream, step_ms: u64| {
            (0..100_000).find_map(|n| Some((n, stream.take(n * step_ms, n, n == 0).err()?)))
        };
        let (packets, why) = gave_up(&mut stream, 0).unwrap();
        assert_eq!(why, GivenUp::TooMuch);
        assert!(packets as usize * 1_000 <= MAX_TRACK_BYTES + 1_000_000);
        let mut old = Stream::new(usize::MAX);
        let (packets, why) = gave_up(&mut old, 10).unwrap();
        assert_eq!(why, GivenUp::TooMuch);
        assert!(Duration::from_millis(packets * 10) > MAX_AGE);
        let mut poor = Stream::new(1_000_000);
        assert_eq!(gave_up(&mut poor, 0).unwrap().1, GivenUp::Full);
        assert_eq!(poor.keyframe(0), None);
        poor.chunks.clear();
        assert_eq!(poor.account.held_bytes(), 0);
    }
}
