//! One core: sessions, standby, claims, watches, revocation, limits.

use std::time::{Duration, Instant};

use waystation_proto::{
    ErrorCode, SessionId,
    token::Action,
    v1::{SessionPhase, relay_message::Message},
};

use super::super::{
    Ended, OpenError, Revocation,
    core::{Core, Input, Output, Reply, RequestId, WatchId},
};
use super::net::{Net, claim, holder, node, peer_offer, stream, token, track};
use crate::{
    control::{OpenPlay, OpenPublish},
    plane::PlaneEvent,
};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_standby_publish_forwards_nothing_until_it_is_activated() {
    let s = stream("s");
    let mut net = Net::new(1, 1);
    let first = net.publish(0, &s, 1, Some(0)).unwrap();
    let standby = net.publish(0, &s, 1, None).unwrap();
    assert_eq!(net.relays[0].forwards(&s), Some(claim(1, 0)));
    assert_eq!(net.heard(&standby).0, [SessionPhase::Connecting, SessionPhase::Standby]);
    net.input(0, Input::Activate { resource: standby.resource.clone(), claim: claim(1, 1) });
    assert_eq!(net.relays[0].forwards(&s), Some(claim(1, 1)));
    assert_eq!(net.heard(&first).1, Some(0), "the older session of the same holder has moved");
    assert_eq!(net.heard(&standby).0.last(), Some(&SessionPhase::Idle));
}

#[test]
fn a_session_cannot_raise_its_own_epoch() {
    let s = stream("s");
    let mut net = Net::new(1, 1);
    let standby = net.publish(0, &s, 1, None).unwrap();
    net.input(0, Input::Activate { resource: standby.resource.clone(), claim: claim(2, 0) });
    assert_eq!(net.relays[0].forwards(&s), None);
    assert_eq!(net.heard(&standby).0.last(), Some(&SessionPhase::Standby));
}

#[test]
fn a_publish_whose_transport_is_not_up_takes_the_stream_from_nobody() {
    let s = stream("s");
    let mut net = Net::new(1, 1);
    let first = net.publish(0, &s, 1, Some(0)).unwrap();
    let open = OpenPublish {
        holder: holder(token(&s, Action::Publish, 1)),
        activate: Some(1),
        tracks: vec![track()],
        peer: peer_offer(),
    };
    net.input(0, Input::OpenPublish { request: RequestId(900), open: Box::new(open) });
    net.run(500 * MS);
    assert_eq!(net.relays[0].forwards(&s), Some(claim(1, 0)));
    assert_eq!(net.heard(&first).1, None);
}

#[test]
fn a_lower_claim_is_refused_with_the_one_that_is_held() {
    // PUB-5
    let s = stream("s");
    let mut net = Net::new(1, 1);
    net.publish(0, &s, 3, Some(0)).unwrap();
    assert!(net.publish(0, &s, 2, Some(5)).is_none());
    let error = net.relays[0].refused.values().next().unwrap().clone();
    assert_eq!(error, OpenError::Fenced { stream: s, held: claim(3, 0), offered: claim(2, 5) });
}

#[test]
fn a_plain_client_is_active_at_once() {
    // GO-6
    let s = stream("s");
    let mut net = Net::new(1, 1);
    let plain = waystation_proto::token::NodeToken { plain: true, ..token(&s, Action::Publish, 4) };
    let open =
        OpenPublish { holder: holder(plain), activate: None, tracks: vec![track()], peer: peer_offer() };
    net.input(0, Input::OpenPublish { request: RequestId(900), open: Box::new(open) });
    let transport = net.relays[0].opened[&RequestId(900)].1;
    net.input(0, Input::Plane(PlaneEvent::TransportUp { transport, profile: "AEAD_AES_128_GCM" }));
    assert_eq!(net.relays[0].forwards(&s), Some(claim(4, 0)));
    let told = |message: &Message| matches!(message, Message::OriginUp(up) if up.plain);
    assert!(net.relays[0].to_agent.iter().any(told));
}

#[test]
fn a_muted_publisher_is_idle_and_its_players_too() {
    // PUB-1, PLAY-1
    let s = stream("s");
    let mut net = Net::new(1, 1);
    let publisher = net.publish(0, &s, 1, Some(0)).unwrap();
    let player = net.play(0, &s);
    net.run(5000 * MS);
    assert_eq!(net.heard(&publisher).0, [SessionPhase::Connecting, SessionPhase::Idle]);
    assert_eq!(net.heard(&player).0, [SessionPhase::Connecting, SessionPhase::Idle]);
    let publish = crate::plane::PublishId(publisher.transport.0);
    net.input(0, Input::Plane(PlaneEvent::PublishFlow { publish, flowing: true }));
    assert_eq!(net.heard(&publisher).0.last(), Some(&SessionPhase::Flowing));
}

#[test]
fn a_watch_of_an_unknown_session_is_told_so() {
    let mut net = Net::new(1, 1);
    let unknown = super::super::Resource("nobody".into());
    net.input(0, Input::Watch { watch: WatchId(1), resource: unknown });
    assert_eq!(net.relays[0].events[&WatchId(1)].len(), 1);
}

#[test]
fn a_revoked_login_loses_its_sessions_and_opens_none() {
    // ROOM-8
    let s = stream("s");
    let mut net = Net::new(1, 1);
    let session = net.publish(0, &s, 1, Some(0)).unwrap();
    let until = net.now + Duration::from_secs(60);
    let revocation =
        Revocation { ended: Ended::Login(SessionId::new("login1").unwrap()), code: ErrorCode::Kicked, until };
    net.input(0, Input::Revoke(revocation));
    assert_eq!(net.heard(&session).1, Some(1_002_055));
    assert!(net.publish(0, &s, 1, Some(1)).is_none());
    let refused = net.relays[0].refused.values().next().unwrap().clone();
    assert!(matches!(refused, OpenError::Revoked(refusal) if refusal.code == ErrorCode::Kicked));
    net.run(Duration::from_secs(61));
    assert!(net.publish(0, &s, 1, Some(1)).is_some(), "the last token has expired");
}

#[test]
fn a_kicked_user_loses_all_sessions_in_the_room_and_comes_back_with_a_token_issued_later() {
    // ROOM-8
    let s = stream("s");
    let mut net = Net::new(1, 1);
    let session = net.publish(0, &s, 1, Some(0)).unwrap();
    let token = net.relays[0].core.sessions.values().next().unwrap().token.clone();
    let kick = |issued_until_ms| {
        let ended = Ended::User { room: token.room.clone(), user: token.user.clone(), issued_until_ms };
        Revocation { ended, code: ErrorCode::Kicked, until: Instant::now() + Duration::from_secs(3600) }
    };
    let issued_ms = (token.iat + 1) * 1000;
    net.input(0, Input::Revoke(kick(issued_ms - 1)));
    assert_eq!(net.heard(&session).1, None, "its token was issued later");
    net.input(0, Input::Revoke(kick(issued_ms)));
    assert_eq!(net.heard(&session).1, Some(1_002_055));
    assert!(net.publish(0, &s, 1, Some(1)).is_none());
    let refused = net.relays[0].refused.values().next().unwrap().clone();
    assert!(matches!(refused, OpenError::Revoked(refusal) if refusal.code == ErrorCode::Kicked));
}

#[test]
fn admissions_above_the_limit_are_refused_as_full() {
    let now = Instant::now() + Duration::from_secs(10);
    let mut core = Core::new(node(0, 1).node, 10, [1; 32], now);
    let mut full = 0;
    for n in 0..25 {
        let open = OpenPlay {
            holder: holder(token(&stream("s"), Action::Play, 0)),
            tracks: Vec::new(),
            peer: peer_offer(),
        };
        core.handle(Input::OpenPlay { request: RequestId(n), open: Box::new(open) }, now);
        while let Some(output) = core.poll_output() {
            if let Output::Reply { reply: Reply::Refused(error), .. } = output {
                assert_eq!(error, OpenError::Full);
                full += 1;
            }
        }
    }
    assert_eq!(full, 15);
}

#[test]
fn users_with_a_live_session_are_reported_every_five_seconds() {
    // ROOM-5
    let s = stream("s");
    let mut net = Net::new(1, 1);
    let session = net.publish(0, &s, 1, Some(0)).unwrap();
    net.run(Duration::from_secs(11));
    let heard = |net: &Net| {
        net.relays[0].to_agent.iter().filter(|message| matches!(message, Message::UsersHeard(_))).count()
    };
    assert_eq!(heard(&net), 2);
    net.lose_client(&session);
    net.run(Duration::from_secs(11));
    assert_eq!(heard(&net), 2);
}

#[test]
fn a_stopping_relay_ends_everything_and_takes_nothing() {
    let s = stream("s");
    let mut net = Net::new(2, 1);
    let session = net.publish(0, &s, 1, Some(0)).unwrap();
    net.run(100 * MS);
    let other = stream("other");
    let find = net.find(0, &other, None);
    net.input(0, Input::Stop);
    assert_eq!(net.heard(&session).1, Some(0));
    assert_eq!(net.relays[0].found[&find], Err(super::super::FindError::Stopping));
    assert!(net.publish(0, &s, 1, Some(1)).is_none());
    assert!(net.links_of(0).is_empty());
    let down = |message: &&Message| matches!(message, Message::OriginDown(_));
    assert_eq!(net.relays[0].to_agent.iter().filter(down).count(), 1);
}
