//! Keys, revocation and kicks, with several coordinators on one store: what one is told, the relays and clients of all
//! hear.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::decode_header;
use tonic::{Request, Status};
use waystation_coordinator::store::MemoryStore;
use waystation_proto::{
    token::UserToken,
    v1::{
        self, admin_service_client::AdminServiceClient, cluster_service_client::ClusterServiceClient,
        coordinator_message::Message, exchange_reply::Result as Exchanged, relay_message::Message as Said,
    },
};

use crate::support::{
    Client, ROOM, Relay, Server, code, config, connect, down, hello, login, node_token, soon, token_with,
};
use crate::{
    stopwatch::Stopwatch,
    wire::{contains, grpc_web, raw},
};

/// Bound of the clauses about kicks.
const SECOND: Duration = Duration::from_secs(1);

/// Coordinators on one store whose new keys sign after this.
async fn two_with(lead: Duration) -> (Server, Server) {
    let store = Arc::new(MemoryStore::new());
    let mut config = config();
    config.timings.key_lead = lead;
    (Server::over(config.clone(), store.clone()).await, Server::over(config, store).await)
}

async fn two() -> (Server, Server) {
    two_with(Duration::from_millis(300)).await
}

fn as_admin<T>(message: T, change: impl FnOnce(&mut UserToken)) -> Request<T> {
    let token = token_with("ops", |token| {
        token.admin = true;
        change(token);
    });
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

async fn kick(server: &Server, user: &str, for_s: u32) -> Result<v1::KickUserResponse, Status> {
    let ask = v1::KickUserRequest { room: ROOM.into(), user: user.into(), for_s };
    let mut client = AdminServiceClient::new(server.channel().await);
    Ok(soon("a kick", client.kick_user(as_admin(ask, |_| {}))).await?.into_inner())
}

async fn rotate(server: &Server) -> v1::KeyStatus {
    let mut client = AdminServiceClient::new(server.channel().await);
    let request = as_admin(v1::RotateKeysRequest {}, |_| {});
    soon("a rotation", client.rotate_keys(request)).await.unwrap().into_inner().key.unwrap()
}

/// The next set of keys that `wanted` takes.
async fn keys(relay: &mut Relay, wanted: impl Fn(&v1::SigningKeys) -> bool) -> v1::SigningKeys {
    let pick = |message| match message {
        Message::Keys(keys) => wanted(&keys).then_some(keys),
        _ => None,
    };
    relay.next("the keys", pick).await
}

fn kid(token: &str) -> String {
    decode_header(token).unwrap().kid.unwrap()
}

/// The next revocation of this user, as a whole.
async fn user_revoked(relay: &mut Relay, user: &str) -> v1::Revoke {
    let pick = |message| match message {
        Message::Revoke(revoke) => {
            revoke.user.as_ref().is_some_and(|named| named.user == user).then_some(revoke)
        }
        _ => None,
    };
    relay.next("the revocation of a user", pick).await
}

async fn exchange(
    relay: &mut Relay,
    id: u64,
    user: &str,
    action: v1::MediaAction,
    stream: &str,
) -> Exchanged {
    let stream = Some(v1::StreamRef { room: ROOM.into(), stream: stream.into() });
    let user_token = token_with(user, |_| {});
    relay.say(Said::Exchange(v1::ExchangeRequest { id, user_token, action: action.into(), stream })).await;
    let pick = |message| match message {
        Message::Exchange(reply) => (reply.id == id).then_some(reply.result.unwrap()),
        _ => None,
    };
    relay.next("the exchange", pick).await
}

#[tokio::test]
async fn what_one_coordinator_signs_the_relays_of_another_take() {
    // PUB-5
    let (one, two) = two().await;
    let mut relay = Relay::attach(&two, 1).await;
    let held = relay.keys().await;
    let mut ann = Client::login(&one, "ann").await;
    let plan = ann.plan_publish("cam").await.unwrap();
    assert_eq!(node_token(&held, &plan.node_token).claim.unwrap().epoch, plan.claim.unwrap().epoch);
}

#[tokio::test]
async fn a_rotated_key_is_at_all_relays_before_it_signs_and_the_old_ones_tokens_stay_good() {
    // PUB-5
    // Longer than the machine takes until a plan is signed: the new key must not sign that.
    let (one, two) = two_with(Duration::from_secs(3)).await;
    let mut relay = Relay::attach(&two, 1).await;
    let first = relay.keys().await;
    let mut ann = Client::login(&one, "ann").await;
    let made = rotate(&one).await;
    let both = keys(&mut relay, |keys| keys.keys.len() == 2).await;
    let before = ann.plan_publish("cam").await.unwrap().node_token;
    assert_eq!(kid(&before), first.keys[0].id, "it does not sign yet");
    let after = soon("the new key", async {
        loop {
            let token = ann.plan_publish("cam").await.unwrap().node_token;
            if kid(&token) == made.id {
                return token;
            }
        }
    })
    .await;
    node_token(&both, &before);
    node_token(&both, &after);
    assert_eq!(
        both.keys.iter().filter(|key| key.until_unix_ms == 0).count(),
        1,
        "the old one's end is known"
    );
    let mut late = Relay::attach(&one, 2).await;
    assert_eq!(late.keys().await, both);
}

#[tokio::test]
async fn two_operators_who_rotate_at_once_through_two_coordinators_get_one_key() {
    let (one, two) = two_with(Duration::from_secs(10)).await;
    let (first, second) = tokio::join!(rotate(&one), rotate(&two));
    assert_eq!(first.id, second.id);
    assert_eq!(first.state(), v1::KeyState::Upcoming);
    let mut client = AdminServiceClient::new(two.channel().await);
    let listed = client.list_keys(as_admin(v1::ListKeysRequest {}, |_| {})).await.unwrap().into_inner().keys;
    let states: Vec<_> = listed.iter().map(v1::KeyStatus::state).collect();
    assert_eq!(states, [v1::KeyState::Signing, v1::KeyState::Upcoming]);
}

#[tokio::test]
async fn keys_are_replaced_by_age_without_a_word() {
    let mut config = config();
    config.timings.key_max_age = Duration::from_millis(50);
    config.timings.key_lead = Duration::from_millis(200);
    let server = Server::with(config).await;
    let mut relay = Relay::attach(&server, 1).await;
    let first = relay.keys().await.keys.remove(0);
    let replaced =
        keys(&mut relay, |keys| keys.keys.iter().any(|key| key.id == first.id && key.until_unix_ms > 0));
    assert!(replaced.await.keys.len() >= 2);
}

#[tokio::test]
async fn a_kick_through_one_coordinator_ends_the_login_at_another_and_at_all_relays_within_a_second() {
    // ROOM-8, ROOM-10, PUB-7
    let (one, two) = two().await;
    let (mut near, mut far) = (Relay::attach(&one, 1).await, Relay::attach(&two, 2).await);
    let mut ann = Client::login(&two, "ann").await;
    let mut bob = Client::login(&two, "bob").await;
    let claim = ann.plan_publish("cam").await.unwrap().claim.unwrap();
    far.origin_up(&ann, "cam", claim).await;
    while bob.told().await != "+cam of ann" {}
    let clock = Stopwatch::start();
    assert!(kick(&one, "ann", 600).await.unwrap().was_here);
    assert_eq!(down(ann.events()).await, 1_002_055);
    for relay in [&mut near, &mut far] {
        let revoked = user_revoked(relay, "ann").await;
        assert_eq!((revoked.code, revoked.user.unwrap().room), (1_002_055, ROOM.to_owned()));
        let session = ann.up.session_id.clone();
        let of_login = relay.next("the revocation of the login", |message| match message {
            Message::Revoke(revoke) => (revoke.session_id == session).then_some(revoke.code),
            _ => None,
        });
        assert_eq!(of_login.await, 1_002_055);
    }
    let mut gone = vec![bob.told().await, bob.told().await];
    gone.sort();
    assert_eq!(gone, ["-ann", "-cam of ann"]);
    let took = clock.ran();
    assert!(took < SECOND, "{took:?}");
    assert_eq!(code(ann.plan_publish("cam").await), 1_002_055);
    bob.plan_publish("cam").await.expect("the claim is free");
}

#[tokio::test]
async fn whoever_is_kicked_is_told_at_once_while_the_news_of_its_busy_room_are_held_back() {
    // ROOM-8
    let (one, _) = two().await;
    let mut quickest = SECOND;
    for n in 0..10 {
        let name = format!("ann{n}");
        let mut ann = Client::login(&one, &name).await;
        // Changes that follow this one wait for 50 ms.
        let _bob = Client::login(&one, &format!("bob{n}")).await;
        let clock = Stopwatch::start();
        kick(&one, &name, 600).await.unwrap();
        assert_eq!(down(ann.events()).await, 1_002_055);
        quickest = quickest.min(clock.ran());
    }
    // Later, its relays would have ended its sessions, and its nodes have refused it, before it knew why.
    assert!(quickest < Duration::from_millis(25), "{quickest:?}");
}

#[tokio::test]
async fn a_kicked_user_is_refused_by_every_coordinator_until_it_is_let_in_again() {
    // ROOM-8, ROOM-2
    let (one, two) = two().await;
    let ann = Client::login(&one, "ann").await;
    kick(&two, "ann", 600).await.unwrap();
    for (n, server) in [&one, &two].into_iter().enumerate() {
        let again = v1::RoomLogin { resume: true, ..login("ann", "secret-of-ann") };
        let mut events = connect(server, &format!("r{n}"), 1, vec![again]).await.unwrap();
        assert_eq!(down(&mut events).await, 1_002_055, "its own login");
        let mut events =
            connect(server, &format!("n{n}"), 1, vec![login("ann", &format!("new{n}"))]).await.unwrap();
        assert_eq!(down(&mut events).await, 1_002_055, "a new login");
    }
    let elsewhere = v1::RoomLogin { room: "another".into(), ..login("ann", "elsewhere") };
    drop(Client::with(&two, "c", 1, elsewhere).await);
    let ask = v1::UnkickUserRequest { room: ROOM.into(), user: "ann".into() };
    let mut client = AdminServiceClient::new(one.channel().await);
    let lifted = client.unkick_user(as_admin(ask.clone(), |_| {})).await.unwrap().into_inner();
    assert!(lifted.was_kicked);
    assert!(!client.unkick_user(as_admin(ask, |_| {})).await.unwrap().into_inner().was_kicked);
    Client::with(&one, "back", 1, login("ann", "fresh")).await.plan_publish("cam").await.unwrap();
    drop(ann);
}

#[tokio::test]
async fn a_relay_that_was_without_a_coordinator_hears_of_kicks_when_it_is_back() {
    // ROOM-8, ROOM-7
    let (one, two) = two().await;
    let ann = Client::login(&one, "ann").await;
    kick(&one, "ann", 1).await.unwrap();
    let first = Client::with(&one, "c1", 1, login("bob", "one")).await;
    let _second = Client::with(&one, "c2", 1, login("bob", "two")).await;
    let mut relay = Relay::attach(&two, 1).await;
    // What this coordinator learns only now from the other follows the welcome, and may be in both.
    let mut revoked: Vec<v1::Revoke> = Vec::new();
    while revoked.len() < 3 {
        let told = relay.next("the revocations", |message| match message {
            Message::Welcome(welcome) => Some(welcome.revoked),
            Message::Revoke(revoke) => Some(vec![revoke]),
            _ => None,
        });
        for one in told.await {
            if !revoked.contains(&one) {
                revoked.push(one);
            }
        }
    }
    let of_login =
        |session: &str| revoked.iter().find(|revoked| revoked.session_id == session).map(|r| r.code);
    assert_eq!(of_login(&ann.up.session_id), Some(1_002_055));
    assert_eq!(of_login(&first.up.session_id), Some(1_002_050));
    let user = revoked.iter().find_map(|revoked| revoked.user.clone()).unwrap();
    assert_eq!(user.user, "ann", "its plain sessions too, though it may be back in a second");
}

#[tokio::test]
async fn a_plain_client_of_a_kicked_user_loses_its_stream_and_gets_no_other_token() {
    // ROOM-8, PUB-7, GO-6
    let (one, two) = two().await;
    let mut relay = Relay::attach(&two, 1).await;
    let mut bob = Client::login(&one, "bob").await;
    let Exchanged::Granted(granted) = exchange(&mut relay, 1, "obs", v1::MediaAction::Publish, "cam").await
    else {
        panic!("refused")
    };
    let token: waystation_proto::token::NodeToken = {
        let mut other = Relay::attach(&one, 2).await;
        node_token(&other.keys().await, &granted.node_token)
    };
    let up = v1::OriginUp {
        stream: Some(v1::StreamRef { room: ROOM.into(), stream: "cam".into() }),
        claim: token.claim.map(Into::into),
        user: "obs".into(),
        session_id: token.session.to_string(),
        plain: true,
    };
    relay.say(Said::OriginUp(up)).await;
    while bob.told().await != "+cam of obs" {}
    assert!(kick(&one, "obs", 600).await.unwrap().was_here);
    assert_eq!(bob.told().await, "-cam of obs");
    let revoked = user_revoked(&mut relay, "obs").await;
    assert!(token.iat * 1000 <= revoked.user.unwrap().issued_until_unix_ms, "its token was issued before");
    for (id, action) in [(2, v1::MediaAction::Publish), (3, v1::MediaAction::Play)] {
        match exchange(&mut relay, id, "obs", action, "cam").await {
            Exchanged::Refused(refused) => assert_eq!(refused.code, 1_002_055),
            Exchanged::Granted(_) => panic!("granted"),
        }
    }
}

#[tokio::test]
async fn only_an_administrators_token_kicks_and_only_one_for_every_room_rotates() {
    let (one, _two) = two().await;
    let mut client = AdminServiceClient::new(one.channel().await);
    let ask = v1::KickUserRequest { room: ROOM.into(), user: "ann".into(), for_s: 1 };
    assert_eq!(code(client.kick_user(ask.clone()).await), 1_002_033);
    assert_eq!(code(client.kick_user(as_admin(ask.clone(), |token| token.admin = false)).await), 1_002_033);
    let of_room = |room: &str| {
        let rooms = vec![room.to_owned()];
        move |token: &mut UserToken| token.rooms = rooms
    };
    assert_eq!(code(client.kick_user(as_admin(ask.clone(), of_room("another"))).await), 1_002_033);
    client.kick_user(as_admin(ask.clone(), of_room(ROOM))).await.unwrap();
    let forever = v1::KickUserRequest { for_s: 0, ..ask };
    let status = client.kick_user(as_admin(forever, |_| {})).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert_eq!(code(client.rotate_keys(as_admin(v1::RotateKeysRequest {}, of_room(ROOM))).await), 1_002_033);
    assert_eq!(code(client.list_keys(v1::ListKeysRequest {}).await), 1_002_033);
}

#[tokio::test]
async fn an_observer_sees_the_rooms_of_its_token_and_no_others() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    for room in ["hall", "yard"] {
        let login = v1::RoomLogin { room: room.into(), ..login("ann", room) };
        clients.push(Client::with(&server, room, 1, login).await);
    }
    let mut client = ClusterServiceClient::new(server.channel().await);
    for (named, seen) in
        [(vec!["yard"], vec!["yard"]), (vec!["*"], vec!["hall", "yard"]), (vec![], vec!["hall", "yard"])]
    {
        let token = token_with("ops", |token| token.rooms = named.iter().map(ToString::to_string).collect());
        let bearer = format!("Bearer {token}");
        let ask = |message| {
            let mut request = Request::new(message);
            request.metadata_mut().insert("authorization", bearer.parse().unwrap());
            request
        };
        let rooms = client.list_rooms(ask(v1::ListRoomsRequest::default())).await.unwrap().into_inner().rooms;
        assert_eq!(rooms.iter().map(|room| room.room.as_str()).collect::<Vec<_>>(), seen);
        let mut watching = Request::new(v1::WatchClusterRequest {});
        watching.metadata_mut().insert("authorization", bearer.parse().unwrap());
        let mut views = client.watch_cluster(watching).await.unwrap().into_inner();
        let view = soon("a view", views.message()).await.unwrap().unwrap();
        assert_eq!(view.rooms.len(), seen.len());
    }
}

#[tokio::test]
async fn a_relay_shows_the_keys_of_a_store_that_was_lost_and_claims_are_proved_with_them() {
    // ROOM-4, PUB-11
    let first = Server::start().await;
    let mut relay = Relay::attach(&first, 1).await;
    let held = relay.keys().await;
    let mut bob = Client::login(&first, "bob").await;
    let standby = bob.plan_publish("standby").await.unwrap();
    let mut config = config();
    // Longer than the machine takes for the attachment: keys are learnt while it lasts.
    config.timings.gather = Duration::from_secs(3);
    first.stop().await;
    let second = Server::with(config).await;
    let again = v1::AttachHello { keys: Some(held.clone()), ..hello(1, 1) };
    let mut relay = Relay::attach_with(&second, again).await;
    assert_ne!(relay.keys().await, held, "another store has other keys");
    let claims = vec![v1::HeldClaim {
        stream: "standby".into(),
        claim: standby.claim,
        node_token: standby.node_token,
    }];
    let resumed = v1::RoomLogin { resume: true, claims, ..login("bob", "secret-of-bob") };
    let mut bob = Client::with(&second, "bob", 2, resumed).await;
    let kept = bob.plan_publish("standby").await.unwrap().claim.unwrap();
    assert_eq!(kept.epoch, standby.claim.unwrap().epoch);
}

#[tokio::test]
async fn an_apps_server_kicks_over_grpc_web() {
    // ROOM-8
    let server = Server::start().await;
    let mut ann = Client::login(&server, "ann").await;
    let ask = v1::KickUserRequest { room: ROOM.into(), user: "ann".into(), for_s: 60 };
    let token = token_with("ops", |token| token.admin = true);
    let mut call = grpc_web("/waystation.v1.AdminService/KickUser", &ask);
    let at = call.windows(10).position(|window| window == b"x-grpc-web").unwrap();
    call.splice(at..at, format!("authorization: Bearer {token}\r\n").into_bytes());
    let answer = raw(server.listen, &call, |_| false).await;
    assert!(contains(&answer, "grpc-status:0"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(down(ann.events()).await, 1_002_055);
}
