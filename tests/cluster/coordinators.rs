//! One of three coordinators dies under many users.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use waystation_client::{Change, Engine, EngineConfig, Event, RoomLogin, RoomState};
use waystation_proto::v1::{self, room_service_client::RoomServiceClient};

use crate::support::{
    cluster::Rights,
    site::{Plan, Site},
    standstill::Stopwatch,
};

/// Users in the room, besides those that the test names.
const USERS: usize = 200;
/// The time after which somebody unheard is gone (ROOM-5).
const HEARD_WITHIN: Duration = Duration::from_secs(90);
/// The dead owner's lease runs out, and then its heir counts the whole time, once (ROOM-5).
const GONE_WITHIN: Duration = Duration::from_secs(2 * 90);
/// Nothing that many users wait for takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const ROOM: &str = "hall";

/// What one user saw so far.
#[derive(Debug, Default)]
struct Seen {
    states: Vec<RoomState>,
    /// Who came and went, and when.
    users: Vec<(Change, String, Instant)>,
}

/// A user in the room, with a task that reads its events.
struct User {
    name: String,
    engine: Engine,
    seen: Arc<Mutex<Seen>>,
}

impl User {
    async fn log_in(site: &Site, name: String, notify_users: bool) -> Self {
        let urls = site.coordinators.iter().map(|coordinator| coordinator.url.clone()).collect();
        let (engine, mut events) = Engine::start(EngineConfig::new(urls)).expect("an engine starts");
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let seen_by_task = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let mut seen = seen_by_task.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Event::Room(update) => seen.states.push(update.state),
                    Event::Users(update) => {
                        let now = Instant::now();
                        seen.users.extend(
                            update.users.into_iter().map(|user| (update.change, user.user.to_string(), now)),
                        );
                    }
                    Event::Publisher(_)
                    | Event::Player(_)
                    | Event::Attempt(_)
                    | Event::Gap(_)
                    | Event::Streams(_)
                    | Event::TokenExpiring { .. } => {}
                }
            }
        });
        let token = site.token(ROOM, &name, Rights::Both);
        engine.login_room(RoomLogin { room: ROOM.parse().unwrap(), token, notify_users }).await.unwrap();
        Self { name, engine, seen }
    }

    fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_connected(&self) -> bool {
        self.look(|seen| seen.states.last() == Some(&RoomState::Connected))
    }

    /// How often it lost its room.
    fn losses(&self) -> usize {
        self.look(|seen| seen.states.iter().filter(|state| **state == RoomState::Connecting).count()) - 1
    }
}

async fn until(what: &str, limit: Duration, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(limit, wait).await.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"));
}

/// A user whose process is only this stream: it dies when the stream is dropped.
async fn doomed(
    site: &Site,
) -> (tonic::Streaming<v1::ConnectEvent>, RoomServiceClient<tonic::transport::Channel>) {
    let channel =
        tonic::transport::Endpoint::from_shared(site.coordinators[0].url.clone()).unwrap().connect().await;
    let mut client = RoomServiceClient::new(channel.unwrap());
    let login = v1::RoomLogin {
        room: ROOM.into(),
        user_token: site.token(ROOM, "doomed", Rights::Play),
        login_id: "the-secret-name-of-the-doomed-login".into(),
        ..v1::RoomLogin::default()
    };
    let request = v1::ConnectRequest { client_id: "doomed".into(), connection: 1, rooms: vec![login] };
    let mut events = client.connect(request).await.unwrap().into_inner();
    loop {
        let event = events.message().await.unwrap().and_then(|event| event.event);
        if let v1::connect_event::Event::RoomUp(_) = event.expect("the coordinator lives") {
            return (events, client);
        }
    }
}

#[test]
fn a_coordinator_is_killed_under_two_hundred_users_and_only_who_died_with_it_goes() {
    // ROOM-3, ROOM-4, ROOM-5, ROOM-13
    let mut site = Site::start(Plan { etcd_members: 1, relays: 1, ..Plan::default() });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let logins = (0..USERS).map(|n| User::log_in(&site, format!("user-{n}"), false));
        let users = join_all(logins).await;
        let onlookers = join_all((0..3).map(|n| User::log_in(&site, format!("onlooker-{n}"), true))).await;
        let everybody = || users.iter().chain(&onlookers);
        until("everybody's login", PATIENCE, || everybody().all(User::is_connected)).await;
        // The last to come: whoever hears of this login has heard of all others, whichever coordinator they came through.
        let doomed = doomed(&site).await;
        let sees_doomed =
            |user: &User| user.look(|seen| seen.users.iter().any(|(_, name, _)| name == "doomed"));
        until("the last newcomer's Add", PATIENCE, || onlookers.iter().all(sees_doomed)).await;
        let before: Vec<_> = onlookers.iter().map(|user| user.look(|seen| seen.users.len())).collect();

        let (killed, watch) = (Instant::now(), Stopwatch::start());
        site.kill_coordinator(0);
        drop(doomed);
        let hit = || everybody().filter(|user| user.losses() > 0).count();
        until("the loss of some", PATIENCE, || hit() > 0).await;
        until("everybody's return", PATIENCE, || everybody().all(User::is_connected)).await;
        let back = watch.ran();
        let news = |user: &User, before: usize| user.look(|seen| seen.users[before..].to_vec());
        let all_heard =
            || onlookers.iter().zip(&before).all(|(user, before)| !news(user, *before).is_empty());
        until("the end of who died", GONE_WITHIN + PATIENCE, all_heard).await;
        // Whatever else were to come would come now.
        sleep(Duration::from_secs(2)).await;
        let stood: Duration = watch.stops().iter().sum();
        for (onlooker, before) in onlookers.iter().zip(&before) {
            let news = news(onlooker, *before);
            let told: Vec<_> = news.iter().map(|(change, name, _)| (*change, name.as_str())).collect();
            assert_eq!(told, [(Change::Delete, "doomed")], "{} heard this", onlooker.name);
            let after = news[0].2.duration_since(killed);
            assert!(
                after + Duration::from_secs(1) >= HEARD_WITHIN && after <= GONE_WITHIN + stood,
                "after {after:?}, of which the machine stood still for {stood:?}"
            );
        }
        assert!(everybody().all(User::is_connected), "somebody was lost again");
        assert!(hit() >= USERS / 10, "only {} users had been at the coordinator that died", hit());
        assert!(back < HEARD_WITHIN, "all were back after {back:?} only");
        join_all(everybody().map(|user| user.engine.clone().close())).await;
    });
}
