//! Claims, plans, and streams as the room sees them.

use std::{collections::BTreeSet, time::Duration};

use tonic::Request;
use waystation_proto::{
    token::Action,
    v1::{
        self, cluster_service_client::ClusterServiceClient, coordinator_message::Message, exchange_reply,
        relay_message::Message as Said,
    },
};

use crate::support::{Client, ROOM, Relay, Server, code, config, login, node_token, soon, token, token_with};

/// All streams, as an operator sees them.
pub async fn streams(server: &Server) -> Vec<v1::Stream> {
    let mut client = ClusterServiceClient::new(server.channel().await);
    let mut request = Request::new(v1::ListStreamsRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {}", token("op")).parse().unwrap());
    client.list_streams(request).await.unwrap().into_inner().streams
}

#[tokio::test]
async fn a_stream_of_another_user_is_refused_at_once_and_so_is_what_the_token_does_not_allow() {
    // PUB-5, PLAY-5
    let server = Server::start().await;
    let _relay = Relay::attach(&server, 1).await;
    let mut ann = Client::login(&server, "ann").await;
    ann.plan_publish("cam").await.unwrap();
    let mut bob = Client::login(&server, "bob").await;
    assert_eq!(code(bob.plan_publish("cam").await), 1_003_028);
    let user_token = token_with("eve", |token| (token.publish, token.play) = (false, false));
    let mut eve = Client::with(&server, "eve", 1, v1::RoomLogin { user_token, ..login("eve", "e") }).await;
    assert_eq!(code(eve.plan_publish("other").await), 1_003_025);
    assert_eq!(code(eve.plan_play("cam").await), 1_004_025);
    let user_token = token_with("kim", |token| token.streams = Some(vec!["only".into()]));
    let mut kim = Client::with(&server, "kim", 1, v1::RoomLogin { user_token, ..login("kim", "k") }).await;
    assert_eq!(code(kim.plan_publish("other").await), 1_003_025);
    kim.plan_publish("only").await.unwrap();
}

#[tokio::test]
async fn a_plan_names_every_node_those_that_failed_last_and_the_session_keeps_its_epoch() {
    // PUB-2
    let server = Server::start().await;
    let mut relays = Vec::new();
    for n in 1..=3 {
        relays.push(Relay::attach(&server, n).await);
    }
    let mut ann = Client::login(&server, "ann").await;
    ann.listed(|nodes| nodes.len() == 3).await;
    let plan = ann.plan_publish("cam").await.unwrap();
    let ids =
        |nodes: &[v1::Node]| nodes.iter().map(|node| node.r#ref.clone().unwrap().id).collect::<Vec<_>>();
    let first = ids(&plan.nodes);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3);
    let said = node_token(&relays[0].keys().await, &plan.node_token);
    assert_eq!((said.action, said.claim), (Action::Publish, plan.claim.map(Into::into)));
    assert_eq!((said.stream.as_str(), said.session.as_str()), ("cam", ann.up.session_id.as_str()));
    assert_eq!((said.exp - said.iat, plan.token_valid_ms, said.plain), (3600, 3_600_000, false));
    let request = v1::PlanPublishRequest {
        session: Some(ann.session.clone()),
        stream: "cam".into(),
        failed: vec![plan.nodes[0].r#ref.clone().unwrap()],
        ..v1::PlanPublishRequest::default()
    };
    let again = ann.rpc.plan_publish(request).await.unwrap().into_inner();
    assert_eq!(ids(&again.nodes), [first[1].clone(), first[2].clone(), first[0].clone()]);
    assert_eq!(again.claim.unwrap().epoch, plan.claim.unwrap().epoch);
}

#[tokio::test]
async fn a_player_is_sent_to_an_edge_before_the_origin() {
    // PLAY-2
    let server = Server::start().await;
    let mut relays = Vec::new();
    for n in 1..=3 {
        relays.push(Relay::attach(&server, n).await);
    }
    let mut ann = Client::login(&server, "ann").await;
    ann.listed(|nodes| nodes.len() == 3).await;
    let plan = ann.plan_publish("cam").await.unwrap();
    let origin = plan.nodes[0].r#ref.clone().unwrap();
    let relay = relays.iter().find(|relay| relay.node == origin).unwrap();
    relay.origin_up(&ann, "cam", plan.claim.unwrap()).await;
    assert_eq!(ann.told().await, "+cam of ann");
    let mut firsts = BTreeSet::new();
    for n in 0..12 {
        let mut player = Client::login(&server, &format!("player-{n}")).await;
        let plan = player.plan_play("cam").await.unwrap();
        assert_eq!(plan.nodes.len(), 3);
        assert_eq!(plan.nodes[2].r#ref.as_ref(), Some(&origin));
        firsts.insert(plan.nodes[0].r#ref.clone().unwrap().id);
    }
    assert_eq!(firsts.len(), 2, "several players spread");
}

#[tokio::test]
async fn a_stream_that_is_not_in_the_room_is_no_stream() {
    // PLAY-3
    let server = Server::start().await;
    let _relay = Relay::attach(&server, 1).await;
    let mut ann = Client::login(&server, "ann").await;
    assert_eq!(code(ann.plan_play("cam").await), 1_004_002);
}

#[tokio::test]
async fn a_stream_is_in_the_room_from_its_first_origin_until_it_is_ended() {
    // PUB-7, PUB-10, PLAY-7
    let server = Server::start().await;
    let relay = Relay::attach(&server, 1).await;
    let mut ann = Client::login(&server, "ann").await;
    let mut bob = Client::login(&server, "bob").await;
    let claim = bob.plan_publish("cam").await.unwrap().claim.unwrap();
    relay.origin_up(&bob, "cam", claim).await;
    assert_eq!((ann.told().await, ann.told().await), ("+bob".into(), "+cam of bob".into()));
    bob.end_stream("cam", claim.epoch - 1).await;
    ann.told_only_of(&server, "carol").await;
    bob.end_stream("cam", claim.epoch).await;
    assert_eq!(ann.told().await, "-cam of bob");
    let again = bob.plan_publish("cam").await.unwrap().claim.unwrap();
    assert!(again.epoch > claim.epoch);
    relay.origin_up(&bob, "cam", claim).await;
    relay.origin_up(&bob, "cam", again).await;
    assert_eq!(ann.told().await, "+cam of bob");
    ann.told_only_of(&server, "dave").await;
}

#[tokio::test]
async fn a_publisher_that_is_unheard_loses_its_claim() {
    // PUB-7
    let mut config = config();
    config.timings.heard_within = Duration::from_millis(1500);
    let server = Server::with(config).await;
    let relay = Relay::attach(&server, 1).await;
    let mut bob = Client::login(&server, "bob").await;
    let claim = bob.plan_publish("cam").await.unwrap().claim.unwrap();
    relay.origin_up(&bob, "cam", claim).await;
    assert_eq!(bob.told().await, "+cam of bob");
    drop(bob);
    // The newest of these has not timed out when bob has.
    let mut round = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut ann = Client::login(&server, &format!("ann-{round}")).await;
        if ann.up.streams.is_empty() {
            assert!(ann.up.users.iter().all(|user| user.user != "bob"));
            ann.plan_publish("cam").await.unwrap();
            break;
        }
        round += 1;
        assert!(round < 20, "the stream is still there");
    }
}

#[tokio::test]
async fn a_new_session_of_the_same_user_takes_its_stream_over_with_a_delete_and_an_add() {
    // PUB-8
    let server = Server::start().await;
    let relay = Relay::attach(&server, 1).await;
    let mut ann = Client::login(&server, "ann").await;
    let mut bob = Client::login(&server, "bob").await;
    let old = bob.plan_publish("cam").await.unwrap().claim.unwrap();
    relay.origin_up(&bob, "cam", old).await;
    assert_eq!((ann.told().await, ann.told().await), ("+bob".into(), "+cam of bob".into()));
    drop(bob);
    let mut bob = Client::with(&server, "bob", 1, login("bob", "after-the-crash")).await;
    let new = bob.plan_publish("cam").await.unwrap().claim.unwrap();
    assert!(new.epoch > old.epoch);
    relay.origin_up(&bob, "cam", new).await;
    assert_eq!((ann.told().await, ann.told().await), ("-cam of bob".into(), "+cam of bob".into()));
    ann.told_only_of(&server, "carol").await;
}

#[tokio::test]
async fn a_publisher_that_moves_changes_the_origin_and_nothing_in_the_room() {
    // PUB-9
    let server = Server::start().await;
    let (one, two) = (Relay::attach(&server, 1).await, Relay::attach(&server, 2).await);
    let mut ann = Client::login(&server, "ann").await;
    let claim = ann.plan_publish("cam").await.unwrap().claim.unwrap();
    one.origin_up(&ann, "cam", claim).await;
    assert_eq!(ann.told().await, "+cam of ann");
    let moved = v1::Claim { r#move: 1, ..claim };
    two.origin_up(&ann, "cam", moved).await;
    one.origin_down("cam", claim).await;
    soon("the new origin", async {
        while streams(&server).await[0].origin.as_ref() != Some(&two.node) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    two.origin_down("cam", moved).await;
    ann.told_only_of(&server, "bob").await;
    assert_eq!(streams(&server).await.len(), 1);
}

async fn exchange(
    relay: &mut Relay,
    id: u64,
    user_token: String,
    action: v1::MediaAction,
) -> exchange_reply::Result {
    let stream = v1::StreamRef { room: ROOM.into(), stream: "cam".into() };
    let request = v1::ExchangeRequest { id, user_token, action: action.into(), stream: Some(stream) };
    relay.say(Said::Exchange(request)).await;
    relay
        .next("the exchange", |message| match message {
            Message::Exchange(reply) if reply.id == id => reply.result,
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_plain_client_publishes_by_its_user_token_and_its_stream_goes_with_its_session() {
    // PUB-5
    let server = Server::start().await;
    let mut relay = Relay::attach(&server, 1).await;
    let keys = relay.keys().await;
    let mut ann = Client::login(&server, "ann").await;
    let exchange_reply::Result::Granted(granted) =
        exchange(&mut relay, 1, token("obs"), v1::MediaAction::Publish).await
    else {
        panic!("it was refused");
    };
    let node_token = node_token(&keys, &granted.node_token);
    assert!(node_token.plain && node_token.user.as_str() == "obs");
    let claim = v1::Claim::from(node_token.claim.unwrap());
    let up = v1::OriginUp {
        stream: Some(v1::StreamRef { room: ROOM.into(), stream: "cam".into() }),
        claim: Some(claim),
        user: "obs".into(),
        session_id: node_token.session.to_string(),
        plain: true,
    };
    relay.say(Said::OriginUp(up)).await;
    assert_eq!(ann.told().await, "+cam of obs");
    assert_eq!(code(ann.plan_publish("cam").await), 1_003_028);
    let refused = exchange(&mut relay, 2, token("other"), v1::MediaAction::Publish).await;
    assert!(matches!(refused, exchange_reply::Result::Refused(refused) if refused.code == 1_003_028));
    let refused = exchange(&mut relay, 3, "garbage".into(), v1::MediaAction::Play).await;
    assert!(matches!(refused, exchange_reply::Result::Refused(refused) if refused.code == 1_002_033));
    let granted = exchange(&mut relay, 4, token("viewer"), v1::MediaAction::Play).await;
    assert!(matches!(granted, exchange_reply::Result::Granted(_)));
    relay.origin_down("cam", claim).await;
    assert_eq!(ann.told().await, "-cam of obs");
    let refused = exchange(&mut relay, 5, token("viewer"), v1::MediaAction::Play).await;
    assert!(matches!(refused, exchange_reply::Result::Refused(refused) if refused.code == 1_004_002));
}
