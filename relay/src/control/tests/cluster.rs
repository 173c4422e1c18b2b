//! Several cores: streams are found, and found again, with no coordinator; older claims serve nobody.

use std::time::Duration;

use waystation_proto::{Claim, StreamKey, meeting_order, v1::SessionPhase};

use super::super::{
    FindError,
    core::{Input, LinkId},
    finding::FIND_WITHIN,
    message::PeerMessage,
};
use super::net::{At, Net, claim, node, stream};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Two relays that are not among the meeting nodes of the stream, of seven.
fn outsiders(net: &Net, stream: &StreamKey) -> (At, At) {
    let ids: Vec<_> = (0..net.relays.len()).map(|at| net.node(at).id).collect();
    let order = meeting_order(stream, &ids);
    let at = |n: usize| ids.iter().position(|id| id == order[n]).unwrap();
    (at(4), at(5))
}

#[test]
fn a_player_finds_a_stream_on_another_node_without_a_hint() {
    // GO-1
    for seed in 0..20 {
        let s = stream("s");
        let mut net = Net::new(7, seed);
        let (origin, edge) = outsiders(&net, &s);
        net.publish(origin, &s, 1, Some(0)).unwrap();
        net.run(100 * MS);
        assert_eq!(net.holders(&s).len(), 3, "seed {seed}");
        let find = net.find(edge, &s, None);
        net.run(100 * MS);
        let found = net.relays[edge].found[&find].as_ref().unwrap();
        assert_eq!(found.claim, claim(1, 0));
        assert_eq!(net.relays[edge].forwards(&s), Some(claim(1, 0)));
    }
}

#[test]
fn a_hint_finds_a_stream_that_nobody_announced_yet() {
    let s = stream("s");
    let mut net = Net::new(3, 1);
    net.publish(0, &s, 1, Some(0)).unwrap();
    let hint = net.node(0);
    let find = net.find(2, &s, Some(hint));
    net.run(60 * MS);
    assert!(net.relays[2].found[&find].is_ok());
}

#[test]
fn a_stream_that_nobody_has_is_not_here_within_the_bound() {
    // PLAY-3
    let s = stream("s");
    let mut net = Net::new(3, 1);
    let hint = net.node(0);
    let find = net.find(2, &s, Some(hint));
    net.run(FIND_WITHIN - MS);
    assert!(!net.relays[2].found.contains_key(&find), "it goes on looking");
    net.run(2 * MS);
    assert_eq!(net.relays[2].found[&find], Err(FindError::NotHere(s.clone())));
    net.run(20 * S);
    assert_eq!(net.relays[2].core.counts().searches, 0);
    let messages = net.messages;
    net.run(20 * S);
    assert_eq!(net.messages, messages, "nothing loops on");
}

#[test]
fn a_stream_that_is_published_while_it_is_looked_for_is_found() {
    let s = stream("s");
    let mut net = Net::new(7, 3);
    let (origin, edge) = outsiders(&net, &s);
    let find = net.find(edge, &s, None);
    net.run(700 * MS);
    net.publish(origin, &s, 1, Some(0)).unwrap();
    net.run(60 * MS);
    assert!(net.relays[edge].found[&find].is_ok(), "a meeting node tells who asked");
}

#[test]
fn players_share_one_subscription_and_it_ends_five_seconds_after_the_last() {
    let s = stream("s");
    let mut net = Net::new(3, 1);
    net.publish(0, &s, 1, Some(0)).unwrap();
    net.run(50 * MS);
    let first = net.play(2, &s);
    net.run(100 * MS);
    let second = net.play(2, &s);
    net.run(100 * MS);
    assert_eq!((net.relays[2].core.counts().subscriptions, net.relays[0].core.counts().feeds), (1, 1));
    net.input(2, Input::Close { request: super::super::core::RequestId(1), resource: first.resource });
    net.run(10 * S);
    assert_eq!(net.relays[2].core.counts().subscriptions, 1);
    net.lose_client(&second);
    net.run(4900 * MS);
    assert_eq!(net.relays[0].core.counts().feeds, 1);
    net.run(200 * MS);
    assert_eq!((net.relays[2].core.counts().subscriptions, net.relays[0].core.counts().feeds), (0, 0));
    assert_eq!(net.relays[2].forwards(&s), None);
}

#[test]
fn the_origin_dies_and_players_keep_their_sessions() {
    // PUB-9
    for seed in 0..20 {
        let s = stream("s");
        let mut net = Net::new(7, seed);
        let (origin, edge) = outsiders(&net, &s);
        net.publish(origin, &s, 1, Some(0)).unwrap();
        let player = net.play(edge, &s);
        net.run(200 * MS);
        assert_eq!(net.relays[edge].forwards(&s), Some(claim(1, 0)), "seed {seed}");
        net.kill(origin);
        net.run(150 * MS);
        assert_eq!(net.relays[edge].forwards(&s), None);
        let other = (0..7).find(|at| *at != origin && *at != edge).unwrap();
        net.publish(other, &s, 1, Some(1)).unwrap();
        net.run(100 * MS);
        assert_eq!(net.relays[edge].forwards(&s), Some(claim(1, 1)), "seed {seed}");
        let (phases, closed) = net.heard(&player);
        assert_eq!(closed, None);
        assert!(!phases.contains(&SessionPhase::OriginLost), "found again before anybody had to hear of it");
    }
}

#[test]
fn players_hear_that_the_origin_is_lost_and_resume_when_it_is_back() {
    // PLAY-6
    let s = stream("s");
    let mut net = Net::new(3, 4);
    net.publish(0, &s, 1, Some(0)).unwrap();
    let player = net.play(2, &s);
    net.run(200 * MS);
    net.kill(0);
    net.run(10 * S);
    assert_eq!(net.heard(&player).0.last(), Some(&SessionPhase::OriginLost));
    net.publish(1, &s, 2, Some(0)).unwrap();
    net.run(50 * MS);
    let phases = [SessionPhase::Connecting, SessionPhase::Idle, SessionPhase::OriginLost, SessionPhase::Idle];
    assert_eq!(net.heard(&player), (phases.to_vec(), None));
    assert_eq!(net.relays[2].forwards(&s), Some(claim(2, 0)));
}

#[test]
fn a_frozen_node_that_comes_back_serves_nobody() {
    // PUB-11, PUB-9, GO-1
    for seed in 0..30 {
        let s = stream("s");
        let mut net = Net::new(3, seed);
        let old = net.publish(0, &s, 1, Some(0)).unwrap();
        let near = net.play(0, &s);
        let far = net.play(2, &s);
        net.run(200 * MS);
        net.freeze(0);
        net.run(400 * MS);
        net.publish(1, &s, 1, Some(1)).unwrap();
        net.run(100 * MS);
        assert_eq!(net.relays[2].forwards(&s), Some(claim(1, 1)), "before the old link is given up");
        net.run(3 * S);
        assert_eq!(net.relays[2].forwards(&s), Some(claim(1, 1)), "seed {seed}");
        net.thaw(0);
        net.run_checking(10 * S, |net| {
            assert_eq!(net.relays[2].forwards(&s), Some(claim(1, 1)), "seed {seed}");
            assert_eq!(net.relays[1].forwards(&s), Some(claim(1, 1)), "seed {seed}");
        });
        assert_eq!(net.heard(&old).1, Some(0), "moved");
        assert_eq!(net.heard(&far).1, None);
        assert_eq!(net.heard(&near).1, None);
        assert_eq!(net.relays[0].forwards(&s), Some(claim(1, 1)), "its own players get the newer session");
    }
}

#[test]
fn a_higher_epoch_ends_the_former_holder_with_its_code() {
    // PUB-5
    let s = stream("s");
    let mut net = Net::new(3, 9);
    let old = net.publish(0, &s, 1, Some(7)).unwrap();
    net.run(100 * MS);
    net.publish(1, &s, 2, Some(0)).unwrap();
    net.run(100 * MS);
    assert_eq!(net.heard(&old).1, Some(1_003_028));
    assert!(net.publish(0, &s, 1, Some(8)).is_none(), "a lower claim is refused where the higher is known");
}

#[test]
fn a_publisher_that_moves_back_is_taken_under_its_higher_move() {
    // PUB-9
    let s = stream("s");
    let mut net = Net::new(3, 5);
    let player = net.play(2, &s);
    for moved in 0..6 {
        let at = usize::try_from(moved % 2).unwrap();
        net.publish(at, &s, 1, Some(moved)).unwrap();
        net.run(300 * MS);
        for relay in [at, 2] {
            assert_eq!(net.relays[relay].forwards(&s), Some(claim(1, moved)));
        }
    }
    assert_eq!(net.heard(&player).1, None);
}

#[test]
fn players_of_a_relay_follow_when_its_own_publisher_moves_away() {
    // PUB-9
    let s = stream("s");
    let mut net = Net::new(3, 6);
    let publisher = net.publish(0, &s, 1, Some(0)).unwrap();
    let player = net.play(0, &s);
    net.run(100 * MS);
    net.lose_client(&publisher);
    net.publish(1, &s, 1, Some(1)).unwrap();
    net.run(200 * MS);
    assert_eq!(net.relays[0].forwards(&s), Some(claim(1, 1)));
    assert_eq!(net.heard(&player).1, None);
}

#[test]
fn a_restarted_node_replaces_its_former_life() {
    let s = stream("s");
    let mut net = Net::new(3, 8);
    net.publish(0, &s, 1, Some(0)).unwrap();
    net.play(2, &s);
    net.run(200 * MS);
    net.kill(0);
    net.restart(0);
    net.run(100 * MS);
    net.publish(0, &s, 1, Some(1)).unwrap();
    net.run(3 * S);
    assert_eq!(net.relays[2].forwards(&s), Some(claim(1, 1)));
}

#[test]
fn two_relays_that_dial_each_other_at_once_keep_one_link() {
    let s = stream("s");
    for seed in 0..30 {
        let mut net = Net::new(2, seed);
        let (zero, one) = (net.node(0), net.node(1));
        net.find(0, &s, Some(one));
        net.find(1, &s, Some(zero));
        net.run(10 * S);
        assert_eq!((net.links_of(0).len(), net.links_of(1).len()), (1, 1), "seed {seed}");
        for (at, relay) in net.relays.iter().enumerate() {
            let dialled: Vec<_> = relay.core.links.values().map(|link| link.dialled).collect();
            assert_eq!(dialled, [at == 0], "seed {seed}: the lower id's link stays");
        }
    }
}

#[test]
fn relays_that_hint_at_each_other_do_not_wait_in_a_circle() {
    let s = stream("s");
    let mut net = Net::new(3, 2);
    let finds: Vec<_> = (0..3)
        .map(|at| {
            let hint = net.node((at + 1) % 3);
            (at, net.find(at, &s, Some(hint)))
        })
        .collect();
    net.run(FIND_WITHIN);
    for (at, find) in finds {
        assert_eq!(net.relays[at].found[&find], Err(FindError::NotHere(s.clone())));
    }
}

#[test]
fn an_edge_serves_a_stream_on_but_not_in_a_circle_nor_over_a_fourth_hop() {
    let s = stream("s");
    let mut net = Net::new(4, 2);
    net.publish(0, &s, 1, Some(0)).unwrap();
    net.play(1, &s);
    net.run(200 * MS);
    let edge = net.node(1);
    let find = net.find(2, &s, Some(edge));
    net.run(100 * MS);
    assert!(net.relays[2].found[&find].is_ok());
    let ids: Vec<_> = (0..4).map(|at| node(at, 1).node.id).collect();
    let refusals = [
        vec![ids[1].clone(), ids[3].clone()],
        vec![ids[0].clone(), ids[3].clone()],
        vec![ids[2].clone()],
        vec![],
    ];
    let link = net.relays[1].core.linked(&ids[3]);
    let link = link.unwrap_or_else(|| {
        net.find(3, &stream("other"), Some(node(1, 1).node));
        net.run(50 * MS);
        net.relays[1].core.linked(&ids[3]).unwrap()
    });
    let feeds = net.relays[1].core.counts().feeds;
    for (id, path) in refusals.into_iter().enumerate() {
        let message = PeerMessage::Subscribe { id: 9000 + id as u64, stream: s.clone(), path };
        net.input(1, Input::FromLink { link, message });
    }
    assert_eq!(net.relays[1].core.counts().feeds, feeds);
}

#[test]
fn repeated_and_late_messages_change_nothing() {
    let s = stream("s");
    let mut net = Net::new(3, 2);
    net.publish(0, &s, 1, Some(3)).unwrap();
    net.play(2, &s);
    net.run(200 * MS);
    let link: LinkId = net.relays[2].core.linked(&net.node(0).id).unwrap();
    let before = (net.relays[2].core.counts(), net.relays[2].activated.clone());
    let origin = net.node(0);
    let repeats = [
        PeerMessage::Announce { stream: s.clone(), claim: claim(1, 3), origin: origin.clone() },
        PeerMessage::Announce { stream: s.clone(), claim: claim(1, 2), origin: origin.clone() },
        PeerMessage::Withdraw { stream: s.clone(), claim: claim(1, 2) },
        PeerMessage::NotHere { id: 77, reason: String::new() },
        PeerMessage::Unpublished { id: 77 },
        PeerMessage::Unsubscribe { id: 77 },
        PeerMessage::Subscribed { id: 77, claim: claim(1, 9), origin: origin.clone(), tracks: Vec::new() },
        PeerMessage::Whereabouts { id: 77, found: Some((origin, claim(9, 9))) },
    ];
    for message in repeats.clone().into_iter().chain(repeats) {
        net.input(2, Input::FromLink { link, message });
    }
    assert_eq!((net.relays[2].core.counts(), net.relays[2].activated.clone()), before);
    net.run(S);
    assert_eq!(net.relays[2].forwards(&s), Some(claim(1, 3)));
}

#[test]
fn lower_claims_are_never_served_whatever_dies() {
    // PUB-11
    for seed in 0..40_u32 {
        let s = stream("s");
        let mut net = Net::new(4, u64::from(seed));
        net.play(3, &s);
        let mut highest = Claim::default();
        for moved in 0..8 {
            let at = usize::try_from((moved * 7 + seed) % 3).unwrap();
            if net.relays[at].state == super::net::State::Alive
                && net.publish(at, &s, 1, Some(moved)).is_some()
            {
                highest = claim(1, moved);
            }
            net.run(Duration::from_millis(u64::from(seed * 13 % 200)));
            match (seed + moved) % 4 {
                0 => net.freeze(at),
                1 => (0..3).for_each(|at| {
                    if net.relays[at].state == super::net::State::Frozen {
                        net.thaw(at);
                    }
                }),
                _ => {
                    if let Some(link) = net.links_of(at).first() {
                        net.break_link(at, *link);
                    }
                }
            }
        }
        for at in 0..3 {
            if net.relays[at].state == super::net::State::Frozen {
                net.thaw(at);
            }
        }
        net.run(5 * S);
        net.run_checking(20 * S, |net| {
            for relay in &net.relays {
                assert!(relay.forwards(&s).is_none_or(|served| served == highest), "seed {seed}");
            }
        });
        assert_eq!(net.relays[3].forwards(&s), Some(highest), "seed {seed}");
    }
}
