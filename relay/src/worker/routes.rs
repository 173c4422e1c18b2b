//! Which worker owns what. Asked by the handle for each command, never on the packet path.
//!
//! A transport lives on one worker; its ufrag names it. A stream has a *home*, the worker that its key hashes to:
//! there its publishes are received and its source is chosen, wherever their transports are. So a stream's fence
//! stays where it is while publishes come and go.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

use waystation_proto::StreamKey;

use crate::plane::{PlayId, PublishId, TransportId};

/// A worker by its number.
pub type WorkerId = u8;

/// Most workers: the ufrag has two hexadecimal digits for them.
pub const MAX_WORKERS: usize = 64;
/// By how many transports a stream's home may exceed the least loaded worker and still get the stream's next one.
const HOME_SPREAD: usize = 8;

/// How a publish's peer proves, after a standstill of ours, that it still is the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A client: by a fresh STUN check.
    Check,
    /// A link: by anything that authenticates.
    Media,
}

/// The table, shared by all handles and workers.
#[derive(Debug)]
pub struct Routes(Mutex<Table>);

#[derive(Debug)]
struct Table {
    /// Transports per worker.
    load: Vec<usize>,
    transports: BTreeMap<TransportId, (WorkerId, Proof)>,
    publishes: BTreeMap<PublishId, (TransportId, WorkerId)>,
    plays: BTreeMap<PlayId, TransportId>,
}

impl Routes {
    /// An empty table for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self(Mutex::new(Table {
            load: vec![0; workers.clamp(1, MAX_WORKERS)],
            transports: BTreeMap::new(),
            publishes: BTreeMap::new(),
            plays: BTreeMap::new(),
        }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // The table is whole after each statement, so that a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker that chooses a stream's source.
    #[must_use]
    pub fn home(&self, stream: &StreamKey) -> WorkerId {
        let mut hasher = DefaultHasher::new();
        stream.hash(&mut hasher);
        (hasher.finish() % self.table().load.len() as u64) as WorkerId
    }

    /// Where a transport lives or is to live: near the stream's home unless that is busier than others.
    #[must_use]
    pub fn place(&self, transport: TransportId, near: Option<&StreamKey>) -> WorkerId {
        let home = near.map(|stream| usize::from(self.home(stream)));
        let table = self.table();
        if let Some(&(worker, _)) = table.transports.get(&transport) {
            return worker;
        }
        let least = (0..table.load.len()).min_by_key(|&worker| table.load[worker]).unwrap_or(0);
        let limit = table.load[least] + HOME_SPREAD;
        home.filter(|&home| table.load[home] < limit).unwrap_or(least) as WorkerId
    }

    /// A transport is opened on a worker.
    pub fn open(&self, transport: TransportId, worker: WorkerId, proof: Proof) {
        let mut table = self.table();
        if table.transports.insert(transport, (worker, proof)).is_none() {
            table.load[usize::from(worker)] += 1;
        }
    }

    /// A transport ended, with all on it.
    pub fn forget(&self, transport: TransportId) {
        let mut table = self.table();
        if let Some((worker, _)) = table.transports.remove(&transport) {
            table.load[usize::from(worker)] -= 1;
        }
        table.publishes.retain(|_, (on, _)| *on != transport);
        table.plays.retain(|_, on| *on != transport);
    }

    /// The worker of a transport.
    #[must_use]
    pub fn transport(&self, transport: TransportId) -> Option<WorkerId> {
        self.table().transports.get(&transport).map(|&(worker, _)| worker)
    }

    /// A publish begins: (its transport's worker, its stream's home, how its peer proves itself).
    pub fn publish(
        &self,
        publish: PublishId,
        transport: TransportId,
        stream: &StreamKey,
    ) -> Option<(WorkerId, WorkerId, Proof)> {
        let home = self.home(stream);
        let mut table = self.table();
        let (worker, proof) = *table.transports.get(&transport)?;
        table.publishes.insert(publish, (transport, home));
        Some((worker, home, proof))
    }

    /// The home of a publish's stream.
    #[must_use]
    pub fn home_of(&self, publish: PublishId) -> Option<WorkerId> {
        self.table().publishes.get(&publish).map(|&(_, home)| home)
    }

    /// A publish ends: (its transport's worker, its stream's home).
    pub fn unpublish(&self, publish: PublishId) -> Option<(WorkerId, WorkerId)> {
        let mut table = self.table();
        let (transport, home) = table.publishes.remove(&publish)?;
        Some((table.transports.get(&transport)?.0, home))
    }

    /// A play begins: its transport's worker.
    pub fn play(&self, play: PlayId, transport: TransportId) -> Option<WorkerId> {
        let mut table = self.table();
        let (worker, _) = *table.transports.get(&transport)?;
        table.plays.insert(play, transport);
        Some(worker)
    }

    /// A play ends: its transport's worker.
    pub fn unplay(&self, play: PlayId) -> Option<WorkerId> {
        let mut table = self.table();
        let transport = table.plays.remove(&play)?;
        table.transports.get(&transport).map(|&(worker, _)| worker)
    }
}

/// A ufrag of a transport on a worker (RFC 8445 §5.3: 4 to 256 ice-chars).
#[must_use]
pub fn ufrag(worker: WorkerId, random: u64) -> String {
    format!("{worker:02x}{random:016x}")
}

/// The worker that a ufrag names.
#[must_use]
pub fn worker_of(ufrag: &str) -> Option<WorkerId> {
    WorkerId::from_str_radix(ufrag.get(..2)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use waystation_proto::{RoomId, StreamId, StreamKey};

    use super::{HOME_SPREAD, Proof, Routes, ufrag, worker_of};
    use crate::plane::{PlayId, PublishId, TransportId};

    fn stream(name: &str) -> StreamKey {
        StreamKey { room: RoomId::new("room").unwrap(), stream: StreamId::new(name).unwrap() }
    }

    #[test]
    fn a_ufrag_leads_back_to_its_worker() {
        for worker in [0, 1, 63] {
            assert_eq!(worker_of(&ufrag(worker, u64::MAX)), Some(worker));
        }
        assert_eq!(worker_of("z"), None);
        assert_eq!(worker_of("ü0"), None);
    }

    #[test]
    fn transports_gather_at_the_streams_home_until_it_is_busier_than_others() {
        let routes = Routes::new(4);
        let home = routes.home(&stream("s"));
        let mut elsewhere = 0;
        for id in 0..200 {
            let worker = routes.place(TransportId(id), Some(&stream("s")));
            routes.open(TransportId(id), worker, Proof::Check);
            assert_eq!(routes.place(TransportId(id), None), worker, "a transport stays where it is");
            elsewhere += usize::from(worker != home);
            if id < HOME_SPREAD as u64 {
                assert_eq!(worker, home);
            }
        }
        assert!((135..150).contains(&elsewhere), "{elsewhere}");
    }

    #[test]
    fn what_is_on_a_transport_is_forgotten_with_it() {
        let routes = Routes::new(2);
        routes.open(TransportId(1), 1, Proof::Check);
        assert!(routes.publish(PublishId(5), TransportId(1), &stream("s")).is_some());
        assert_eq!(routes.play(PlayId(6), TransportId(1)), Some(1));
        routes.forget(TransportId(1));
        assert_eq!(routes.unpublish(PublishId(5)), None);
        assert_eq!(routes.unplay(PlayId(6)), None);
        assert_eq!(routes.play(PlayId(7), TransportId(1)), None);
    }
}
