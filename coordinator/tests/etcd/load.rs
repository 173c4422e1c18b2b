//! What users cost etcd, counted by its own revision: it rises by one with every transaction that writes.

use std::{sync::Arc, time::Duration};

use etcd_client::{Client as Etcd, GetOptions};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Streaming, transport::Channel};
use waystation_proto::v1::{self, connect_event::Event, room_service_client::RoomServiceClient};

use self::support::{Client, Relay, Server, config, login};
use crate::cluster::{Cluster, PREFIX, soon};

#[path = "../calls/support.rs"]
#[expect(dead_code, clippy::wildcard_enum_match_arm, reason = "it is made for the tests of single calls")]
mod support;

const USERS: usize = 1000;
const CONNECTIONS: usize = 50;
const ROOM_USERS: usize = 10;
/// A minute of them.
const BEATS: usize = 12;
/// Shorter than it is by default, so that it would run out in the test unless it were kept alive.
const LEASE: Duration = Duration::from_secs(4);

/// A coordinator with default times but for its own lease, once it has shown itself: that is no user's transaction.
async fn coordinator(cluster: &Cluster) -> Server {
    let mut config = config();
    config.store_prefix = PREFIX.trim_end_matches('/').into();
    config.timings.owner_lease = LEASE;
    let server = Server::over(config, Arc::new(cluster.store())).await;
    let mut etcd = cluster.members[0].client().await;
    let living = format!("{PREFIX}coordinator/");
    soon("the coordinator's key", async {
        let under = || Some(GetOptions::new().with_prefix());
        while etcd.get(living.as_str(), under()).await.unwrap().count() == 0 {}
    })
    .await;
    server
}

async fn revision(etcd: &mut Etcd) -> i64 {
    etcd.get("any", None).await.unwrap().header().unwrap().revision()
}

/// Users who share a connection to the coordinator, each with an event stream of its own.
struct Users {
    rpc: RoomServiceClient<Channel>,
    beats: Vec<v1::BeatRequest>,
    /// Nobody reads them: they are open, as those of clients are.
    streams: Vec<Streaming<v1::ConnectEvent>>,
}

impl Users {
    async fn login(mut rpc: RoomServiceClient<Channel>, numbers: impl Iterator<Item = usize>) -> Self {
        let (mut beats, mut streams) = (Vec::new(), Vec::new());
        for number in numbers {
            let (client_id, room) = (format!("user-{number}"), format!("room-{}", number / ROOM_USERS));
            let login_id = format!("secret-of-user-{number}");
            let rooms = vec![v1::RoomLogin { room: room.clone(), ..login(&client_id, &login_id) }];
            let request = v1::ConnectRequest { client_id: client_id.clone(), connection: 1, rooms };
            let mut stream = rpc.connect(request).await.unwrap().into_inner();
            support::next(&mut stream, "the room", |event| matches!(event, Event::RoomUp(_)).then_some(()))
                .await;
            let sessions = vec![v1::SessionRef { room, login_id }];
            beats.push(v1::BeatRequest { client_id, connection: 1, sessions });
            streams.push(stream);
        }
        Self { rpc, beats, streams }
    }

    async fn beat(mut self) -> Self {
        for beat in &self.beats {
            let answer = self.rpc.beat(beat.clone()).await.unwrap().into_inner();
            assert!(answer.unknown_rooms.is_empty(), "{} is not known", beat.client_id);
        }
        self
    }
}

#[tokio::test]
async fn a_thousand_users_beating_for_a_minute_write_nothing() {
    let cluster = Cluster::start(1).await;
    let server = coordinator(&cluster).await;
    let mut etcd = cluster.members[0].client().await;
    let before = revision(&mut etcd).await;
    let mut coming = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let rpc = server.rooms().await;
        coming.spawn(Users::login(rpc, (connection..USERS).step_by(CONNECTIONS)));
    }
    let mut all = coming.join_all().await;
    assert_eq!(all.iter().map(|users| users.streams.len()).sum::<usize>(), USERS);
    let logged_in = revision(&mut etcd).await;
    assert!(
        logged_in - before <= 2 * USERS as i64,
        "{USERS} logins took {} transactions",
        logged_in - before
    );

    // Nothing is written by the clock meanwhile: the coordinator's own key stays because its lease is kept alive, which
    // is no write. If the key went, or a user were doubted, that would show.
    let started = Instant::now();
    let mut rounds = 0;
    while rounds < BEATS || started.elapsed() < LEASE * 3 / 2 {
        let beating: JoinSet<_> = all.into_iter().map(Users::beat).collect();
        all = beating.join_all().await;
        rounds += 1;
    }
    let written = revision(&mut etcd).await - logged_in;
    assert_eq!(written, 0, "{USERS} users, {rounds} beats each");
    server.stop().await;
}

#[tokio::test]
async fn a_login_and_a_publish_are_at_most_two_transactions_each() {
    let cluster = Cluster::start(1).await;
    let server = coordinator(&cluster).await;
    let mut etcd = cluster.members[0].client().await;
    let relay = Relay::attach(&server, 1).await;
    let mut ann = Client::login(&server, "ann").await;
    ann.listed(|nodes| nodes.len() == 1).await;

    let before = revision(&mut etcd).await;
    let mut bob = Client::login(&server, "bob").await;
    let logged_in = revision(&mut etcd).await;
    assert!((1..=2).contains(&(logged_in - before)), "a login took {} transactions", logged_in - before);
    assert_eq!(ann.told().await, "+bob");

    let claim = bob.plan_publish("cam").await.unwrap().claim.unwrap();
    relay.origin_up(&bob, "cam", claim).await;
    assert_eq!(ann.told().await, "+cam of bob");
    let published = revision(&mut etcd).await;
    assert!(
        (1..=2).contains(&(published - logged_in)),
        "from plan to room, a publish took {} transactions",
        published - logged_in
    );
    server.stop().await;
}
