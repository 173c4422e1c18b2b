//! Relays: how they attach, are missed, and tell a coordinator that forgot everything.

use std::time::{Duration, Instant};

use waystation_proto::v1::{
    self, connect_event::Event, coordinator_message::Message, relay_message::Message as Said,
};

use crate::{
    streams::streams,
    support::{Client, Relay, Server, config, hello, login, next, soon},
};

/// Longer than the machine takes for an attachment and a resume, so that these are seen not to wait for it.
const GATHER: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_relay_is_welcomed_with_all_it_needs_and_clients_and_relays_hear_of_it() {
    // GO-1
    let server = Server::start().await;
    let mut ann = Client::login(&server, "ann").await;
    let mut relay = Relay::attach(&server, 1).await;
    let welcome = relay
        .next("the welcome", |message| match message {
            Message::Welcome(welcome) => Some(welcome),
            _ => None,
        })
        .await;
    assert_eq!(welcome.coordinator_urls, [server.url.as_str()]);
    assert_eq!(welcome.keys.unwrap().keys[0].public_key.len(), 32);
    assert!(!welcome.certificate.is_empty());
    let nodes = ann.listed(|nodes| nodes.len() == 1).await;
    assert_eq!(nodes[0].r#ref.as_ref(), Some(&relay.node));
    let _second = Relay::attach(&server, 2).await;
    relay
        .next("a list of two", |message| match message {
            Message::Nodes(list) => (list.nodes.len() == 2).then_some(()),
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn a_relay_without_the_clusters_secret_or_under_anothers_name_is_refused() {
    let server = Server::start().await;
    assert!(Relay::try_attach(&server, hello(1, 1), "a guess at the secret").await.is_err());
    let mut nameless = hello(1, 1);
    nameless.node.as_mut().unwrap().http_url = "nowhere".into();
    assert!(Relay::try_attach(&server, nameless, "the secret of the cluster").await.is_err());
}

#[tokio::test]
async fn a_dead_relay_is_suspected_at_once_a_frozen_one_soon_and_both_are_forgotten() {
    // GO-2
    let mut config = config();
    config.timings.node_forgotten = Duration::from_secs(2);
    let server = Server::with(config).await;
    let mut relays = Vec::new();
    for n in 1..=6 {
        relays.push(Relay::attach(&server, n).await);
    }
    let mut ann = Client::login(&server, "ann").await;
    ann.listed(|nodes| nodes.len() == 6).await;
    for how in [Relay::die as fn(Relay), |relay| std::mem::forget((relay.freeze(), relay))] {
        let relay = relays.remove(0);
        let node = relay.node.clone();
        let left = relays.len();
        how(relay);
        next(ann.events(), "the suspicion", |event| match event {
            Event::Suspect(suspect) => (suspect.node.as_ref() == Some(&node)).then_some(()),
            Event::Nodes(list) => {
                let listed = list.nodes.iter().find(|listed| listed.r#ref.as_ref() == Some(&node));
                let listed = listed.expect("it is suspected before it is forgotten");
                (listed.health() == v1::NodeHealth::Suspect).then_some(())
            }
            _ => None,
        })
        .await;
        ann.listed(|nodes| nodes.len() == left).await;
    }
}

#[tokio::test]
async fn a_restarted_relay_takes_its_older_lifes_place() {
    let server = Server::start().await;
    let old = Relay::attach(&server, 1).await;
    let new = Relay::attach_with(&server, hello(1, 2)).await;
    let mut ann = Client::login(&server, "ann").await;
    // Its older life may be listed until the newer is written.
    let newer = |nodes: &[v1::Node]| nodes.iter().any(|node| node.r#ref.as_ref() == Some(&new.node));
    assert_eq!(ann.listed(newer).await.len(), 1);
    assert!(Relay::try_attach(&server, hello(1, 1), "the secret of the cluster").await.is_err());
    drop(old);
}

#[tokio::test]
async fn a_replaced_login_is_revoked_at_relays_again_at_each_attach() {
    // ROOM-7
    let server = Server::start().await;
    let mut relay = Relay::attach(&server, 1).await;
    let first = Client::with(&server, "c1", 1, login("ann", "one")).await;
    let _second = Client::with(&server, "c2", 1, login("ann", "two")).await;
    let revoked = relay.next("the revocation", |message| match message {
        Message::Revoke(revoke) => Some(revoke),
        _ => None,
    });
    let revoked = revoked.await;
    assert_eq!((&revoked.session_id, revoked.code), (&first.up.session_id, 1_002_050));
    let mut late = Relay::attach(&server, 2).await;
    let welcome = late.next("the welcome", |message| match message {
        Message::Welcome(welcome) => Some(welcome),
        _ => None,
    });
    assert!(welcome.await.revoked.iter().any(|revoked| revoked.session_id == first.up.session_id));
}

#[tokio::test]
async fn a_coordinator_that_forgot_everything_gathers_what_relays_and_clients_hold() {
    // ROOM-4, PUB-9, PUB-11
    let first = Server::start().await;
    let mut relay = Relay::attach(&first, 1).await;
    let keys = Some(relay.keys().await);
    let mut ann = Client::login(&first, "ann").await;
    let mut bob = Client::login(&first, "bob").await;
    let held = ann.plan_publish("cam").await.unwrap();
    let claim = held.claim.unwrap();
    relay.origin_up(&ann, "cam", claim).await;
    assert_eq!((ann.told().await, ann.told().await), ("+bob".into(), "+cam of ann".into()));
    let standby = bob.plan_publish("standby").await.unwrap();
    let store = ann.up.revision.clone().unwrap().store_id;
    let origin = Relay::origin(&ann, "cam", claim);
    let mut config = config();
    config.timings.gather = GATHER;
    first.stop().await;
    let begun = Instant::now();
    let second = Server::with(config).await;

    let again = v1::AttachHello { origins: vec![origin], keys, ..hello(1, 1) };
    let relay = Relay::attach_with(&second, again).await;
    // A relay's word for a publisher whose client is not back yet.
    soon("the stream", async { while streams(&second).await.is_empty() {} }).await;
    let claims = vec![v1::HeldClaim {
        stream: "standby".into(),
        claim: standby.claim,
        node_token: standby.node_token,
    }];
    let resumed = v1::RoomLogin { resume: true, claims, ..login("bob", "secret-of-bob") };
    let session = bob.up.session_id.clone();
    let mut bob = Client::with(&second, "bob", 2, resumed).await;
    assert!(begun.elapsed() < GATHER, "a resume does not wait");
    assert_eq!(bob.up.session_id, session);
    assert_ne!(bob.up.revision.clone().unwrap().store_id, store);
    assert_eq!(bob.up.streams.iter().map(|stream| stream.stream.as_str()).collect::<Vec<_>>(), ["cam"]);

    let kept = bob.plan_publish("standby").await.unwrap().claim.unwrap();
    assert!(begun.elapsed() >= GATHER, "a plan does");
    assert_eq!(kept.epoch, standby.claim.unwrap().epoch);
    assert!(bob.plan_publish("cam").await.is_err(), "it is ann's");
    let new = bob.plan_publish("new").await.unwrap().claim.unwrap();
    assert!(new.epoch > claim.epoch && new.epoch > kept.epoch);
    let resumed = v1::RoomLogin { resume: true, ..login("ann", "secret-of-ann") };
    let mut ann = Client::with(&second, "ann", 2, resumed).await;
    assert_eq!(ann.plan_publish("cam").await.unwrap().claim.unwrap().epoch, claim.epoch);
    relay.origin_up(&ann, "cam", claim).await;
    ann.told_only_of(&second, "carol").await;
}

#[tokio::test]
async fn garbage_in_a_relays_message_is_left_out_or_ends_its_stream_and_nothing_else() {
    let server = Server::start().await;
    let good = Relay::attach(&server, 1).await;
    let bad = Relay::attach(&server, 2).await;
    bad.say(Said::OriginUp(v1::OriginUp { user: "../".into(), ..v1::OriginUp::default() })).await;
    bad.say(Said::UsersHeard(v1::UsersHeard { users: vec![v1::RoomUserSession::default()] })).await;
    bad.say(Said::Exchange(v1::ExchangeRequest::default())).await;
    let mut ann = soon("a login", Client::login(&server, "ann")).await;
    let claim = ann.plan_publish("cam").await.unwrap().claim.unwrap();
    good.origin_up(&ann, "cam", claim).await;
    assert_eq!(ann.told().await, "+cam of ann");
}
