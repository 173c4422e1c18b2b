//! Logins: how they begin, go on and end.

use std::time::Duration;

use waystation_proto::v1::{self, connect_event::Event};

use crate::support::{
    Client, ROOM, Relay, Server, config, connect, down, login, next, soon, token, token_with, unix_s,
};

/// Short enough for a test, long enough for a busy machine to beat in.
const HEARD_WITHIN: Duration = Duration::from_millis(1500);

async fn forgetful() -> Server {
    let mut config = config();
    config.timings.heard_within = HEARD_WITHIN;
    Server::with(config).await
}

#[tokio::test]
async fn others_hear_of_a_login_and_the_newcomer_gets_the_room_whole() {
    // ROOM-1
    let server = Server::start().await;
    let mut ann = Client::login(&server, "ann").await;
    let bob = Client::login(&server, "bob").await;
    assert_eq!(ann.told().await, "+bob");
    let users: Vec<_> = bob.up.users.iter().map(|user| user.user.as_str()).collect();
    assert_eq!(users, ["ann", "bob"]);
    assert_ne!(ann.up.session_id, bob.up.session_id);
    assert_eq!(bob.up.session_id.len(), 26);
}

#[tokio::test]
async fn a_refusal_that_no_retry_can_mend_ends_the_login_with_its_code() {
    // ROOM-2
    let mut config = config();
    config.limits.users_per_room = 1;
    let server = Server::with(config).await;
    let _ann = Client::login(&server, "ann").await;
    let cases = [
        ("garbage".to_owned(), 1_002_033),
        (token_with("bob", |token| token.app = "unheard-of".into()), 1_002_033),
        (token_with("bob", |token| token.rooms = vec!["another".into()]), 1_002_033),
        (token_with("bob", |token| token.exp = unix_s() - 60), 1_002_056),
        (token("bob"), 1_002_034),
    ];
    for (user_token, code) in cases {
        let mut events = connect(&server, "bob", 1, vec![v1::RoomLogin { user_token, ..login("bob", "b") }])
            .await
            .unwrap();
        assert_eq!(down(&mut events).await, code);
    }
}

#[tokio::test]
async fn a_client_that_comes_back_in_time_has_the_same_session_and_others_hear_nothing() {
    // ROOM-4
    let server = Server::start().await;
    let mut ann = Client::login(&server, "ann").await;
    let bob = Client::login(&server, "bob").await;
    assert_eq!(ann.told().await, "+bob");
    let (before, seen) = (bob.up.session_id.clone(), bob.up.revision.clone());
    drop(bob);
    let resumed = v1::RoomLogin { resume: true, seen, ..login("bob", "secret-of-bob") };
    let bob = Client::with(&server, "bob", 2, resumed).await;
    assert_eq!(bob.up.session_id, before);
    ann.told_only_of(&server, "carol").await;
}

#[tokio::test]
async fn an_older_connection_of_the_same_client_ends_and_takes_nothing_along() {
    // ROOM-4
    let server = Server::start().await;
    let mut old = Client::login(&server, "ann").await;
    let resumed = v1::RoomLogin { resume: true, ..login("ann", "secret-of-ann") };
    let mut new = Client::with(&server, "ann", 2, resumed).await;
    soon("the end of the older stream", async {
        while let Ok(Some(event)) = old.events().message().await {
            assert!(!matches!(event.event, Some(Event::RoomDown(_))), "{event:?}");
        }
    })
    .await;
    assert!(new.beat().await.is_empty());
    new.told_only_of(&server, "bob").await;
}

#[tokio::test]
async fn who_is_unheard_is_gone_and_comes_back_as_a_new_entry() {
    // ROOM-5, ROOM-13
    let server = forgetful().await;
    let mut ann = Client::login(&server, "ann").await;
    let bob = Client::login(&server, "bob").await;
    assert_eq!(ann.told().await, "+bob");
    // Bob's process dies; ann goes on beating.
    drop(bob);
    let mut alive =
        Client::with(&server, "ann-2", 1, v1::RoomLogin { room: "other".into(), ..login("ann", "x") }).await;
    alive.session = ann.session.clone();
    let beats = tokio::spawn(async move {
        loop {
            tokio::time::sleep(HEARD_WITHIN / 8).await;
            alive.beat().await;
        }
    });
    assert_eq!(ann.told().await, "-bob");
    let resumed = v1::RoomLogin { resume: true, ..login("bob", "secret-of-bob") };
    let _bob = Client::with(&server, "bob", 2, resumed).await;
    assert_eq!(ann.told().await, "+bob");
    beats.abort();
}

#[tokio::test]
async fn a_relays_word_counts_as_heard() {
    // ROOM-5
    let server = forgetful().await;
    let relay = Relay::attach(&server, 1).await;
    let mut bob = Client::login(&server, "bob").await;
    for _ in 0..16 {
        tokio::time::sleep(HEARD_WITHIN / 8).await;
        relay.users_heard(&bob).await;
    }
    assert!(bob.beat().await.is_empty(), "twice the time is over, and it is still known");
}

#[tokio::test]
async fn the_same_user_elsewhere_replaces_the_older_login_and_a_repeat_kicks_nobody() {
    // ROOM-7
    let server = Server::start().await;
    let mut carol = Client::login(&server, "carol").await;
    let mut first = Client::with(&server, "c1", 1, login("ann", "one")).await;
    assert_eq!(carol.told().await, "+ann");
    let again = Client::with(&server, "c1", 2, login("ann", "one")).await;
    assert_eq!(again.up.session_id, first.up.session_id);
    drop(again);
    first = Client::with(&server, "c1", 3, v1::RoomLogin { resume: true, ..login("ann", "one") }).await;
    let mut second = Client::with(&server, "c2", 1, login("ann", "two")).await;
    assert_eq!(down(first.events()).await, 1_002_050);
    let mut late = connect(&server, "c1", 4, vec![login("ann", "one")]).await.unwrap();
    assert_eq!(down(&mut late).await, 1_002_050, "a late repeat of the older login");
    assert!(second.beat().await.is_empty(), "and the newer one is still there");
    carol.told_only_of(&server, "dave").await;
}

#[tokio::test]
async fn a_token_about_to_expire_is_announced_and_renewed_in_time_nothing_else_happens() {
    // ROOM-8
    let server = Server::start().await;
    // Longer than the machine takes until it is renewed.
    let exp = unix_s() + 6;
    let short = |user: &str| token_with(user, |token| token.exp = exp);
    let short_login = |user: &str| v1::RoomLogin { user_token: short(user), ..login(user, user) };
    let mut ann = Client::with(&server, "ann", 1, short_login("ann")).await;
    let kims = v1::RoomLogin { room: "another".into(), ..short_login("kim") };
    let mut kim = Client::with(&server, "kim", 1, kims).await;
    let expiring = next(ann.events(), "the announcement", |event| match event {
        Event::TokenExpiring(expiring) => Some(expiring),
        _ => None,
    })
    .await;
    assert!(expiring.room == ROOM && expiring.in_ms <= 6000, "{expiring:?}");
    let session = Some(ann.session.clone());
    let renew = v1::RenewTokenRequest { session: session.clone(), user_token: token("bob") };
    assert!(ann.rpc.renew_token(renew).await.is_err(), "another user's token");
    ann.rpc.renew_token(v1::RenewTokenRequest { session, user_token: token("ann") }).await.unwrap();
    assert_eq!(down(kim.events()).await, 1_002_056, "it did not renew, and the time of both is over");
    assert!(ann.beat().await.is_empty());
    ann.told_only_of(&server, "bob").await;
}

#[tokio::test]
async fn a_token_that_is_not_renewed_ends_the_login_and_others_hear_it() {
    // ROOM-8
    let server = Server::start().await;
    let mut bob = Client::login(&server, "bob").await;
    // Longer than the machine takes for a login.
    let short = token_with("ann", |token| token.exp = unix_s() + 4);
    let mut ann =
        Client::with(&server, "ann", 1, v1::RoomLogin { user_token: short, ..login("ann", "a") }).await;
    assert_eq!(bob.told().await, "+ann");
    assert_eq!(down(ann.events()).await, 1_002_056);
    assert_eq!(bob.told().await, "-ann");
}

#[tokio::test]
async fn what_changed_while_a_client_was_away_is_in_the_room_that_it_comes_back_to() {
    // ROOM-9
    let server = Server::start().await;
    let ann = Client::login(&server, "ann").await;
    let mut bob = Client::login(&server, "bob").await;
    let old = ann.up.users.clone();
    drop(ann);
    bob.logout().await;
    let bob = Client::with(&server, "bob", 2, login("bob", "another-secret")).await;
    let _carol = Client::login(&server, "carol").await;
    let resumed =
        v1::RoomLogin { resume: true, seen: bob.up.revision.clone(), ..login("ann", "secret-of-ann") };
    let mut ann = Client::with(&server, "ann", 2, resumed).await;
    assert_eq!(old.len(), 1);
    let users: Vec<_> =
        ann.up.users.iter().map(|user| (user.user.as_str(), user.session_id.clone())).collect();
    assert_eq!(users.iter().map(|(user, _)| *user).collect::<Vec<_>>(), ["ann", "bob", "carol"]);
    assert_eq!(users[1].1, bob.up.session_id, "bob is there as another session");
    // Nothing of it comes again as a change.
    ann.told_only_of(&server, "dave").await;
}

#[tokio::test]
async fn a_logout_is_heard_by_others_and_ends_the_login() {
    // ROOM-10
    let server = Server::start().await;
    let mut ann = Client::login(&server, "ann").await;
    let mut bob = Client::login(&server, "bob").await;
    assert_eq!(ann.told().await, "+bob");
    bob.logout().await;
    assert_eq!(ann.told().await, "-bob");
    assert_eq!(bob.beat().await, [ROOM]);
    bob.logout().await;
    ann.told_only_of(&server, "carol").await;
}

#[tokio::test]
async fn user_events_come_only_to_those_who_asked_for_them() {
    // ROOM-11
    let server = Server::start().await;
    let relay = Relay::attach(&server, 1).await;
    let quiet = v1::RoomLogin { notify_users: false, ..login("ann", "a") };
    let mut ann = Client::with(&server, "ann", 1, quiet).await;
    let mut bob = Client::login(&server, "bob").await;
    let plan = bob.plan_publish("cam").await.unwrap();
    relay.origin_up(&bob, "cam", plan.claim.unwrap()).await;
    assert_eq!(ann.told().await, "+cam of bob", "streams only");
    bob.logout().await;
    assert_eq!(ann.told().await, "-cam of bob");
}

#[tokio::test]
async fn a_client_is_in_five_rooms_over_one_connection_and_not_in_six() {
    // ROOM-12
    let server = Server::start().await;
    let of = |n: u32| v1::RoomLogin { room: format!("room-{n}"), ..login("ann", &format!("secret-{n}")) };
    let mut events = connect(&server, "ann", 1, (1..=4).map(of).collect()).await.unwrap();
    let mut up = Vec::new();
    while up.len() < 4 {
        up.push(
            next(&mut events, "a room", |event| match event {
                Event::RoomUp(up) => Some(up.room),
                _ => None,
            })
            .await,
        );
    }
    let mut rpc = server.rooms().await;
    for n in 5..=6 {
        let request = v1::LoginRequest { client_id: "ann".into(), connection: 1, room: Some(of(n)) };
        // The outcome comes over the connection.
        drop(soon("a login", rpc.login(request)).await);
    }
    let mut outcomes = Vec::new();
    while outcomes.len() < 2 {
        outcomes.push(
            next(&mut events, "an outcome", |event| match event {
                Event::RoomUp(up) => Some((up.room, 0)),
                Event::RoomDown(down) => Some((down.room, down.code)),
                _ => None,
            })
            .await,
        );
    }
    outcomes.sort();
    assert_eq!(outcomes, [("room-5".to_owned(), 0), ("room-6".to_owned(), 1_002_001)]);
}

#[tokio::test]
async fn a_login_for_a_connection_that_is_not_here_is_told_to_connect() {
    // ROOM-3
    let server = Server::start().await;
    let request =
        v1::LoginRequest { client_id: "nobody".into(), connection: 1, room: Some(login("ann", "a")) };
    let status = soon("a login", server.rooms().await.login(request)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn a_stopping_coordinator_sends_its_clients_away_and_does_not_wait_for_them() {
    // ROOM-3
    let server = Server::start().await;
    let mut ann = Client::login(&server, "ann").await;
    let sent_away = tokio::spawn(async move {
        next(ann.events(), "the word to leave", |event| match event {
            Event::TryOther(other) => Some(other),
            _ => None,
        })
        .await
    });
    server.stop().await;
    soon("the word to leave", sent_away).await.unwrap();
}

#[tokio::test]
async fn a_login_that_replaces_another_knows_itself_and_others_hear_of_no_user() {
    // ROOM-7, PUB-8
    let server = Server::start().await;
    let mut watcher = Client::login(&server, "watcher").await;
    let mut first = Client::login(&server, "ann").await;
    assert_eq!(watcher.told().await, "+ann");
    let shown = first.up.session_id.clone();
    let mut second = Client::with(&server, "another-device", 1, login("ann", "another-secret")).await;
    assert_eq!(down(first.events()).await, 1_002_050);
    let itself = second.up.users.iter().find(|user| user.user == "ann").unwrap();
    assert_eq!(itself.session_id, second.up.session_id);
    second.told_only_of(&server, "fence").await;
    assert_eq!(watcher.told().await, "+fence");
    let late = Client::login(&server, "late").await;
    let known = late.up.users.iter().find(|user| user.user == "ann").unwrap();
    assert_eq!(known.session_id, shown, "others know it under the login with which it came");
}
