//! The store is somewhere else: several coordinators share it, it takes its time, and it can be gone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::{sync::watch, time::sleep};
use waystation_coordinator::store::{
    Answer, Changes, Found, LeaseId, Listing, MemoryStore, Outcome, Store, StoreError, StoreId, Transaction,
    WatchError,
};
use waystation_proto::v1::{self, connect_event::Event};

use crate::support::{Client, Relay, Server, code, config, login, next, soon};

/// To the store and back.
const ROUND_TRIP: Duration = Duration::from_millis(3);

/// A store behind a network that may be cut.
#[derive(Clone)]
struct Distant {
    store: MemoryStore,
    cut: watch::Sender<bool>,
    /// For so long a watch tries to get back before it tells that it broke.
    tries_for: Duration,
    /// For so long a call tries before it fails.
    calls_try_for: Duration,
}

impl Distant {
    fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            cut: watch::Sender::new(false),
            tries_for: Duration::ZERO,
            calls_try_for: Duration::ZERO,
        }
    }

    fn reach<'a, T>(&'a self, call: Answer<'a, T>) -> Answer<'a, T>
    where
        T: Send + 'a,
    {
        async move {
            sleep(ROUND_TRIP).await;
            if *self.cut.borrow() {
                sleep(self.calls_try_for).await;
                return Err(StoreError::Unavailable("the network is cut".into()));
            }
            call.await
        }
        .boxed()
    }
}

impl Store for Distant {
    fn id(&self) -> Answer<'_, StoreId> {
        self.reach(self.store.id())
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Found> {
        self.reach(self.store.get(key))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Answer<'a, Listing> {
        self.reach(self.store.list(prefix))
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        self.reach(self.store.commit(transaction))
    }

    fn watch(&self, prefix: &str, from: u64) -> Changes {
        let (mut cut, tries_for) = (self.cut.subscribe(), self.tries_for);
        let cut = async move {
            drop(cut.wait_for(|&cut| cut).await);
            let since = Instant::now() - tries_for;
            Err(WatchError::Broken { why: "the network is cut".into(), since })
        };
        let changes = self.store.watch(prefix, from).then(|batch| async {
            sleep(ROUND_TRIP).await;
            batch
        });
        stream::select(changes.boxed(), stream::once(cut).boxed()).boxed()
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        self.reach(self.store.grant(ttl))
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.reach(self.store.keep_alive(lease))
    }

    fn revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.reach(self.store.revoke(lease))
    }
}

async fn told_to_leave(client: &mut Client) {
    next(client.events(), "the word to leave", |event| match event {
        Event::TryOther(_) => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn coordinators_on_one_store_work_like_one() {
    // ROOM-1, ROOM-4, ROOM-7, PUB-5
    let store = Distant::new();
    let one = Server::over(config(), Arc::new(store.clone())).await;
    let two = Server::over(config(), Arc::new(store)).await;
    let relay = Relay::attach(&two, 1).await;
    let mut ann = Client::login(&one, "ann").await;
    let mut bob = Client::login(&two, "bob").await;
    assert_eq!(ann.told().await, "+bob");
    for client in [&mut ann, &mut bob] {
        client.listed(|nodes| nodes.len() == 1).await;
    }
    let plan = bob.plan_publish("cam").await.unwrap();
    assert_eq!(plan.nodes.len(), 1);
    assert_eq!(code(ann.plan_publish("cam").await), 1_003_028);
    relay.origin_up(&bob, "cam", plan.claim.unwrap()).await;
    assert_eq!(ann.told().await, "+cam of bob");
    assert_eq!(ann.plan_play("cam").await.unwrap().nodes, plan.nodes);
    let (session, seen) = (bob.up.session_id.clone(), bob.up.revision.clone());
    let resumed = v1::RoomLogin { resume: true, seen, ..login("bob", "secret-of-bob") };
    let mut bob = Client::with(&one, "bob", 2, resumed).await;
    assert_eq!(bob.up.session_id, session);
    assert_eq!(bob.plan_publish("cam").await.unwrap().claim.unwrap().epoch, plan.claim.unwrap().epoch);
    ann.told_only_of(&two, "carol").await;
    bob.logout().await;
    let mut gone = vec![ann.told().await, ann.told().await];
    gone.sort();
    assert_eq!(gone, ["-bob", "-cam of bob"]);
}

#[tokio::test]
async fn a_coordinator_that_is_cut_off_from_its_store_sends_its_clients_away_after_a_while() {
    // ROOM-3
    let store = Distant::new();
    let mut config = config();
    config.timings.cut_off = Duration::from_millis(500);
    let server = Server::over(config, Arc::new(store.clone())).await;
    let mut ann = Client::login(&server, "ann").await;
    store.cut.send_replace(true);
    let failed = ann.plan_publish("cam").await.unwrap_err();
    assert_eq!(failed.code(), tonic::Code::Unavailable, "no refusal: another coordinator may know better");
    assert!(ann.beat().await.is_empty(), "what is known is served for a while");
    told_to_leave(&mut ann).await;
    assert!(crate::support::connect(&server, "bob", 1, vec![login("bob", "b")]).await.is_err());
    store.cut.send_replace(false);
    soon("the store", async {
        while crate::support::connect(&server, "bob", 1, vec![login("bob", "b")]).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let resumed = v1::RoomLogin { resume: true, ..login("ann", "secret-of-ann") };
    let mut ann = Client::with(&server, "ann", 2, resumed).await;
    ann.plan_publish("cam").await.unwrap();
}

#[tokio::test]
async fn the_time_for_which_a_watch_tried_in_vain_counts_as_cut_off() {
    // ROOM-3
    let mut config = config();
    config.timings.cut_off = Duration::from_secs(3600);
    let store = Distant { tries_for: config.timings.cut_off, ..Distant::new() };
    let server = Server::over(config, Arc::new(store.clone())).await;
    let mut ann = Client::login(&server, "ann").await;
    store.cut.send_replace(true);
    told_to_leave(&mut ann).await;
}

#[tokio::test]
async fn clients_are_sent_away_in_time_although_a_call_still_tries() {
    // ROOM-3
    let mut config = config();
    config.timings.cut_off = Duration::from_secs(1);
    let store = Distant { calls_try_for: Duration::from_secs(3600), ..Distant::new() };
    let server = Server::over(config, Arc::new(store.clone())).await;
    let mut ann = Client::login(&server, "ann").await;
    store.cut.send_replace(true);
    told_to_leave(&mut ann).await;
}
