//! Several coordinators on one store: owners and heirs, words that reach another than the owner, the same login twice,
//! a store that loses everything, and what all this writes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use waystation_coordinator::store::{
    Answer, Changes, Entry, Found, LeaseId, Listing, MemoryStore, Outcome, Store, StoreId, Transaction, Write,
};
use waystation_proto::v1::{self, connect_event::Event};

use crate::{
    stopwatch::Stopwatch,
    support::{Client, ROOM, Relay, Server, config, connect, down, login, next, soon},
};

/// Short enough for a test, long enough for a busy machine to beat in.
const HEARD_WITHIN: Duration = Duration::from_millis(1500);

/// Between two looks at the store.
const POLL: Duration = Duration::from_millis(20);

/// A store that counts what is written by calls of this test's coordinators.
#[derive(Clone)]
struct Counting {
    store: MemoryStore,
    transactions: Arc<AtomicU64>,
    /// A transaction takes this long.
    takes: Duration,
}

impl Counting {
    fn new() -> Self {
        Self { store: MemoryStore::new(), transactions: Arc::default(), takes: Duration::ZERO }
    }

    async fn keys(&self, under: &str) -> BTreeSet<String> {
        self.store.list(under).await.unwrap().entries.into_iter().map(|entry| entry.key).collect()
    }

    fn count(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// So many coordinators show themselves.
    async fn shows(&self, coordinators: usize) {
        let living = format!("{}/coordinator/", config().store_prefix);
        soon("the keys of coordinators", async {
            while self.keys(&living).await.len() < coordinators {
                sleep(POLL).await;
            }
        })
        .await;
    }

    /// Everything goes, in one revision, as when somebody empties etcd.
    async fn empty(&self) {
        let all = self.store.list("").await.unwrap().entries;
        let writes = all.into_iter().map(|entry| Write::Delete(entry.key)).collect();
        self.store.commit(Transaction { compares: Vec::new(), writes }).await.unwrap();
    }
}

impl Store for Counting {
    fn id(&self) -> Answer<'_, StoreId> {
        self.store.id()
    }
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Found> {
        self.store.get(key)
    }
    fn list<'a>(&'a self, prefix: &'a str) -> Answer<'a, Listing> {
        self.store.list(prefix)
    }
    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        self.transactions.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            sleep(self.takes).await;
            self.store.commit(transaction).await
        })
    }
    fn watch(&self, prefix: &str, from: u64) -> Changes {
        self.store.watch(prefix, from)
    }
    fn grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        self.store.grant(ttl)
    }
    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.store.keep_alive(lease)
    }
    fn revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.store.revoke(lease)
    }
}

async fn over(store: &Counting, heard_within: Duration) -> Server {
    let mut config = config();
    config.timings.heard_within = heard_within;
    Server::over(config, Arc::new(store.clone())).await
}

/// Logs a user in again, as one who was there before.
async fn resume(server: &Server, user: &str, connection: u64) -> Client {
    let resumed = v1::RoomLogin { resume: true, ..login(user, &format!("secret-of-{user}")) };
    Client::with(server, user, connection, resumed).await
}

#[tokio::test]
async fn users_of_a_dead_coordinator_are_counted_by_its_heir_and_deleted_once() {
    // ROOM-4, ROOM-5, ROOM-13
    let store = Counting::new();
    let (one, two) = (over(&store, HEARD_WITHIN * 2).await, over(&store, HEARD_WITHIN * 2).await);
    let third = over(&store, HEARD_WITHIN * 2).await;
    let mut watcher = Client::login(&one, "watcher").await;
    let (gone, back) = (Client::login(&third, "gone").await, Client::login(&third, "back").await);
    assert_eq!((watcher.told().await, watcher.told().await), ("+gone".into(), "+back".into()));
    drop((gone, back));
    // It says farewell to the store, but nobody hears of a farewell to clients.
    third.stop().await;
    let mut back = resume(&two, "back", 2).await;
    // The watcher has a newer connection: that one listens and beats.
    drop(watcher);
    let mut watcher = resume(&two, "watcher", 2).await;
    let mut pulse =
        Client::with(&one, "pulse", 1, v1::RoomLogin { room: "other".into(), ..login("p", "p") }).await;
    pulse.session = watcher.session.clone();
    let beats = tokio::spawn(async move {
        loop {
            sleep(HEARD_WITHIN / 8).await;
            back.beat().await;
            pulse.beat().await;
        }
    });
    assert_eq!(soon("the end of the user who did not come back", watcher.told()).await, "-gone");
    watcher.told_only_of(&one, "fence").await;
    beats.abort();
}

#[tokio::test]
async fn a_relays_word_at_another_coordinator_keeps_a_user_and_its_end_lets_it_go() {
    // ROOM-5
    let store = Counting::new();
    let (one, two) = (over(&store, HEARD_WITHIN).await, over(&store, HEARD_WITHIN).await);
    let relay = Relay::attach(&two, 1).await;
    let mut bob = Client::login(&two, "bob").await;
    let ann = Client::login(&one, "ann").await;
    assert_eq!(bob.told().await, "+ann");
    let mut bob_beats = Client::with(
        &two,
        "bob-2",
        1,
        v1::RoomLogin { room: "other".into(), ..login("bob", "bobs-other-secret") },
    )
    .await;
    bob_beats.session = bob.session.clone();
    let beating = tokio::spawn(async move {
        loop {
            sleep(HEARD_WITHIN / 8).await;
            bob_beats.beat().await;
        }
    });
    // Ann's link to all coordinators is gone, her media is not.
    let until = Instant::now() + HEARD_WITHIN * 3;
    while Instant::now() < until {
        relay.users_heard(&ann).await;
        let told = timeout(HEARD_WITHIN / 8, bob.told()).await;
        assert!(told.is_err(), "{told:?}");
    }
    assert_eq!(bob.told().await, "-ann");
    beating.abort();
}

#[tokio::test]
async fn the_same_login_through_two_coordinators_whose_answers_are_lost_is_one_login() {
    // ROOM-7, ROOM-9
    let store = Counting::new();
    let (one, two) = (over(&store, HEARD_WITHIN * 10).await, over(&store, HEARD_WITHIN * 10).await);
    let mut watcher = Client::login(&one, "watcher").await;
    let first = || login("ann", "anns-secret");
    // Nobody reads what these answer.
    let lost = tokio::join!(
        connect(&one, "ann", 1, vec![first()]),
        connect(&two, "ann", 2, vec![first()]),
        connect(&one, "ann", 3, vec![first()]),
    );
    let ann = Client::with(&two, "ann", 4, first()).await;
    drop(lost);
    assert_eq!(watcher.told().await, "+ann");
    let again = Client::with(&one, "ann", 5, first()).await;
    assert_eq!(again.up.session_id, ann.up.session_id);
    watcher.told_only_of(&two, "fence").await;
}

#[tokio::test]
async fn a_login_elsewhere_ends_the_older_one_at_its_own_coordinator() {
    // ROOM-7
    let store = Counting::new();
    let (one, two) = (over(&store, HEARD_WITHIN * 10).await, over(&store, HEARD_WITHIN * 10).await);
    let mut old = Client::login(&one, "ann").await;
    let _new = Client::with(&two, "another device", 1, login("ann", "another-secret")).await;
    assert_eq!(down(old.events()).await, 1_002_050);
}

#[tokio::test]
async fn an_emptied_store_is_written_back_and_nobody_hears_of_it() {
    // ROOM-4, ROOM-5, PUB-9, PUB-11
    let store = Counting::new();
    let (one, two) = (over(&store, HEARD_WITHIN * 10).await, over(&store, HEARD_WITHIN * 10).await);
    let relay = Relay::attach(&two, 1).await;
    let mut ann = Client::login(&one, "ann").await;
    let mut bob = Client::login(&two, "bob").await;
    assert_eq!(ann.told().await, "+bob");
    let held = bob.plan_publish("cam").await.unwrap().claim.unwrap();
    relay.origin_up(&bob, "cam", held).await;
    assert_eq!((ann.told().await, bob.told().await), ("+cam of bob".into(), "+cam of bob".into()));
    store.shows(2).await;
    let before = store.keys("").await;
    store.empty().await;
    soon("everything to be back", async {
        while store.keys("").await != before {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    ann.told_only_of(&two, "fence").await;
    assert_eq!(bob.told().await, "+fence");
    assert!(ann.beat().await.is_empty() && bob.beat().await.is_empty());
    let kept = bob.plan_publish("cam").await.unwrap().claim.unwrap();
    assert_eq!(kept.epoch, held.epoch, "what is held stays held");
    let new = ann.plan_publish("screen").await.unwrap().claim.unwrap();
    assert!(new.epoch > held.epoch, "and nothing is granted below it");
    let nodes = ann.plan_play("cam").await.unwrap().nodes;
    assert_eq!(nodes.len(), 1);
}

#[tokio::test]
async fn beats_write_nothing_and_logins_and_publishes_are_a_transaction_each() {
    // ROOM-5
    let store = Counting::new();
    let server = over(&store, HEARD_WITHIN * 20).await;
    let mut ann = Client::login(&server, "ann").await;
    let before = store.count();
    let mut bob = Client::login(&server, "bob").await;
    assert!(store.count() - before <= 2, "a login took {} transactions", store.count() - before);
    let before = store.count();
    ann.plan_publish("cam").await.unwrap();
    assert!(store.count() - before <= 2, "a publish took {} transactions", store.count() - before);
    let before = store.count();
    for _ in 0..500 {
        assert!(ann.beat().await.is_empty() && bob.beat().await.is_empty());
    }
    assert_eq!(store.count(), before, "beats wrote something");
    assert_eq!(ann.up.room, ROOM);
}

#[tokio::test]
async fn many_who_fall_silent_at_once_go_in_time_though_the_store_is_slow() {
    // ROOM-5, ROOM-13
    let store = Counting { takes: Duration::from_millis(50), ..Counting::new() };
    let server = over(&store, HEARD_WITHIN * 2).await;
    let rooms = |n| (0..5).map(move |room| v1::RoomLogin { room: format!("room-{room}"), ..login(n, n) });
    let clients: Vec<_> = (0..16).map(|n| format!("user-{n}")).collect();
    let logins = clients.iter().map(|client| async {
        let mut events = connect(&server, client, 1, rooms(client).collect()).await.unwrap();
        for _ in 0..5 {
            let up = |event| matches!(event, Event::RoomUp(_)).then_some(());
            next(&mut events, "a login", up).await;
        }
        events
    });
    drop(futures_util::future::join_all(logins).await);
    let users = format!("{}/user/", config().store_prefix);
    let clock = Stopwatch::start();
    soon("all of them to go", async {
        while !store.keys(&users).await.is_empty() {
            sleep(POLL).await;
        }
    })
    .await;
    // One after the other, they would take over eight seconds more than the time-out of three.
    let took = clock.ran();
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test]
async fn coordinators_show_themselves_again_at_once_when_their_keys_are_gone() {
    // ROOM-4: nobody takes over what the living own
    let store = Counting::new();
    let mut config = config();
    config.timings.owner_lease = Duration::from_secs(60);
    let servers = [
        Server::over(config.clone(), Arc::new(store.clone())).await,
        Server::over(config.clone(), Arc::new(store.clone())).await,
    ];
    store.shows(servers.len()).await;
    store.empty().await;
    let clock = Stopwatch::start();
    store.shows(servers.len()).await;
    // After two seconds others take what is theirs.
    let took = clock.ran();
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

/// The coordinator that wrote a node's entry.
fn owner(node: &Entry) -> serde_json::Value {
    serde_json::from_slice::<serde_json::Value>(&node.value).unwrap()["owner"].clone()
}

#[tokio::test]
async fn a_coordinator_that_stops_says_nothing_of_the_relays_that_it_sends_away() {
    // GO-2
    let store = Counting::new();
    let (one, two) = (over(&store, HEARD_WITHIN * 20).await, over(&store, HEARD_WITHIN * 20).await);
    let _relay = Relay::attach(&one, 1).await;
    let mut ann = Client::login(&two, "ann").await;
    ann.listed(|nodes| nodes.len() == 1).await;
    let node = format!("{}/node/relay-1", config().store_prefix);
    let before = store.store.get(&node).await.unwrap().entry.unwrap();
    one.stop().await;
    // As long as whatever it still said would take. After two seconds the other takes the relay over.
    sleep(Duration::from_millis(500)).await;
    let after = store.store.get(&node).await.unwrap().entry.expect("the relay is not forgotten yet");
    assert!(after == before || owner(&after) != owner(&before), "{after:?}");
}

#[tokio::test]
async fn a_revision_that_others_made_elsewhere_in_the_store_keeps_nobody_out() {
    // ROOM-4
    let store = Counting::new();
    let server = over(&store, HEARD_WITHIN * 20).await;
    let ann = Client::login(&server, "ann").await;
    let writes = vec![Write::put("somebody/else".into(), Vec::new())];
    let done = store.store.commit(Transaction { compares: Vec::new(), writes }).await.unwrap();
    let Outcome::Done(number) = done else { panic!("{done:?}") };
    let seen = v1::Revision { number, ..ann.up.revision.clone().unwrap() };
    let again = v1::RoomLogin { resume: true, seen: Some(seen), ..login("ann", &ann.session.login_id) };
    let ann = Client::with(&server, "ann", 2, again).await;
    assert!(ann.up.revision.unwrap().number >= number);
}

#[tokio::test]
async fn what_one_still_gathers_is_no_higher_than_what_another_grants() {
    // PUB-11
    let store = Counting::new();
    let ready = over(&store, HEARD_WITHIN * 20).await;
    let mut config = config();
    config.timings.gather = Duration::from_secs(60);
    let gathering = Server::over(config, Arc::new(store.clone())).await;
    let relay = Relay::attach(&gathering, 1).await;
    let mut ann = Client::login(&ready, "ann").await;
    let held = v1::Claim { epoch: 1 << 52, r#move: 0 };
    relay.origin_up(&ann, "cam", held).await;
    assert_eq!(ann.told().await, "+cam of ann");
    let granted = ann.plan_publish("screen").await.unwrap().claim.unwrap();
    assert!(granted.epoch > held.epoch, "{granted:?}");
}
