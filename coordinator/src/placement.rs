//! The ordered node list: where a publisher or a player is to try first. A pure function.
//!
//! The policy is the order of the fields of [`Score`]: read it from the top down.
//!
//! A publisher goes where its stream's order says, whoever it is. A player goes to one of the first few nodes of that
//! order, more of them the larger the audience, and which of them depends on the player: so players of one stream
//! share few edges, and the death of one does not send them all to one neighbour. The origin itself is the last of
//! equals: its uplink and CPU are what every other player of the stream depends on, and one hop over a link costs less
//! than a publisher that must move.

use std::{cmp::Reverse, collections::BTreeSet, hash::Hasher as _};

use waystation_proto::{Health, Node, NodeId, NodeRef, SessionId, StreamKey, meeting_order};

/// Nodes over which even a small audience spreads.
const SPREAD_LEAST: usize = 3;
/// Players for which one more node carries the stream.
const PLAYERS_PER_NODE: usize = 50;
/// Steps of headroom: two nodes in one step are equally good.
const BUSY_STEP_PERMILLE: u32 = 250;

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub enum Placing<'a> {
    /// A publisher.
    Publish,
    /// A player.
    Play {
        /// Its login.
        session: &'a SessionId,
        /// The node that takes the stream from its publisher.
        origin: Option<&'a NodeId>,
        /// About how many play the stream.
        audience: usize,
    },
}

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The stream.
    pub stream: &'a StreamKey,
    /// Where the client stands; empty if it does not know.
    pub region: &'a str,
    /// Nodes that failed for this client just now.
    pub failed: &'a BTreeSet<NodeRef>,
    /// Publisher or player.
    pub placing: Placing<'a>,
}

/// Lower is better, and an earlier field weighs more than all later ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// The client just saw it fail. Last, not left out: when everything failed, one of them is back first.
    failed: bool,
    /// Healthy before suspect.
    health: Health,
    /// The client's region first.
    elsewhere: bool,
    /// For a player: nodes that carry the stream, as far as its audience spreads.
    without_stream: bool,
    /// Headroom, in coarse steps, so that a little load does not scatter streams.
    busy_step: u32,
    /// For a player: an edge before the origin.
    origin: bool,
    /// Rendezvous: of (stream, player) among the nodes that carry it, of the stream for all else.
    preference: Preference,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Preference {
    /// The highest weight first.
    OfPlayer(Reverse<u64>),
    /// Position in the stream's own order.
    OfStream(usize),
}

/// All nodes, best first.
#[must_use]
pub fn order<'a>(nodes: impl IntoIterator<Item = &'a Node>, ask: &Ask<'_>) -> Vec<&'a Node> {
    let nodes: Vec<_> = nodes.into_iter().collect();
    let streams_order = meeting_order(ask.stream, nodes.iter().map(|node| &node.node.id));
    let rank = |id: &NodeId| streams_order.iter().position(|other| *other == id).unwrap_or(usize::MAX);
    let score = |node: &Node| {
        let rank = rank(&node.node.id);
        let (without_stream, origin, preference) = match ask.placing {
            Placing::Publish => (false, false, Preference::OfStream(rank)),
            Placing::Play { session, origin, audience } => {
                let is_origin = origin == Some(&node.node.id);
                let carries = is_origin || rank < SPREAD_LEAST + audience / PLAYERS_PER_NODE;
                let of_player = Preference::OfPlayer(Reverse(weight(ask.stream, session, &node.node.id)));
                (!carries, is_origin, if carries { of_player } else { Preference::OfStream(rank) })
            }
        };
        Score {
            failed: ask.failed.contains(&node.node),
            health: node.health,
            elsewhere: !ask.region.is_empty() && node.region != ask.region,
            without_stream,
            busy_step: node.load.busy_permille / BUSY_STEP_PERMILLE,
            origin,
            preference,
        }
    };
    let mut scored: Vec<_> = nodes.into_iter().map(|node| (score(node), &node.node, node)).collect();
    scored.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    scored.into_iter().map(|(_, _, node)| node).collect()
}

fn weight(stream: &StreamKey, session: &SessionId, node: &NodeId) -> u64 {
    // SipHash with constant keys: the same at every coordinator of one build, which is all that is wanted.
    let mut hasher = std::hash::DefaultHasher::new();
    for part in [stream.room.as_str(), stream.stream.as_str(), session.as_str(), node.as_str()] {
        hasher.write(part.as_bytes());
        hasher.write_u8(0);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waystation_proto::{Load, RoomId, StreamId};

    use super::*;

    fn node(n: u32) -> Node {
        Node {
            node: NodeRef { id: NodeId::new(&format!("relay-{n}")).unwrap(), incarnation: 1 },
            http_url: "http://x".into(),
            link_url: "http://x".into(),
            media_addr: "127.0.0.1:1".parse().unwrap(),
            region: if n.is_multiple_of(2) { "even".into() } else { "odd".into() },
            health: Health::Healthy,
            load: Load::default(),
        }
    }

    fn stream(n: u32) -> StreamKey {
        StreamKey { room: RoomId::new("r").unwrap(), stream: StreamId::new(&format!("s{n}")).unwrap() }
    }

    fn session(n: u32) -> SessionId {
        SessionId::new(&format!("player-{n}")).unwrap()
    }

    fn ids(nodes: &[&Node]) -> Vec<NodeRef> {
        nodes.iter().map(|node| node.node.clone()).collect()
    }

    fn publish(stream: &StreamKey) -> Ask<'_> {
        const NONE: &BTreeSet<NodeRef> = &BTreeSet::new();
        Ask { stream, region: "", failed: NONE, placing: Placing::Publish }
    }

    #[test]
    fn each_rule_of_the_policy_outweighs_all_later_ones() {
        // PUB-2
        let (stream, mut nodes) = (stream(1), (0..6).map(node).collect::<Vec<_>>());
        let failed = BTreeSet::from([nodes[0].node.clone()]);
        nodes[2].health = Health::Suspect;
        nodes[3].load.busy_permille = 900;
        let ask = Ask { region: "even", failed: &failed, ..publish(&stream) };
        let order = order(&nodes, &ask);
        let position = |n: usize| order.iter().position(|node| node.node == nodes[n].node).unwrap();
        assert_eq!(position(4), 0, "healthy, same region, idle");
        assert!(
            [1, 5].contains(&position(1).min(position(5))) && position(3) == 3,
            "then idle before busy elsewhere"
        );
        assert_eq!((position(2), position(0)), (4, 5), "suspect after all healthy, failed last");
    }

    #[test]
    fn players_spread_over_edges_more_of_them_as_they_become_more_and_spare_the_origin() {
        // PLAY-2
        let (stream, nodes) = (stream(7), (0..8).map(node).collect::<Vec<_>>());
        let origin = meeting_order(&stream, nodes.iter().map(|node| &node.node.id))[0].clone();
        let firsts = |audience| {
            let first = |n| {
                let session = session(n);
                let placing = Placing::Play { session: &session, origin: Some(&origin), audience };
                order(&nodes, &Ask { placing, ..publish(&stream) })[0].node.id.clone()
            };
            (0..200).map(first).collect::<BTreeSet<_>>()
        };
        assert_eq!(firsts(1).len(), 2, "three of the stream's order carry it, and one of them is the origin");
        assert_eq!(firsts(160).len(), 5);
        assert_eq!(firsts(10_000).len(), 7);
        assert!(!firsts(10_000).contains(&origin));
    }

    #[test]
    fn an_idle_origin_is_better_than_busy_edges_and_the_only_node_is_good_enough() {
        // PLAY-2
        let (stream, session) = (stream(7), session(1));
        let mut nodes: Vec<_> = (0..3).map(node).collect();
        nodes[1].load.busy_permille = 800;
        nodes[2].load.busy_permille = 800;
        let origin = nodes[0].node.id.clone();
        let placing = Placing::Play { session: &session, origin: Some(&origin), audience: 1 };
        let ask = Ask { placing, ..publish(&stream) };
        assert_eq!(order(&nodes, &ask)[0].node.id, origin);
        assert_eq!(order(&nodes[..1], &ask).len(), 1);
    }

    #[test]
    fn the_death_of_a_node_moves_only_its_own_players_and_not_all_to_one_neighbour() {
        let (stream, nodes) = (stream(7), (0..8).map(node).collect::<Vec<_>>());
        let first = |nodes: &[Node], n| {
            let session = session(n);
            let placing =
                Placing::Play { session: &session, origin: Some(&nodes[3].node.id), audience: 100_000 };
            order(nodes, &Ask { placing, ..publish(&stream) })[0].node.clone()
        };
        let dead = nodes[5].node.clone();
        let left: Vec<_> = nodes.iter().filter(|node| node.node != dead).cloned().collect();
        let mut refuges = BTreeSet::new();
        for n in 0..200 {
            let (before, after) = (first(&nodes, n), first(&left, n));
            if before == dead {
                refuges.insert(after);
            } else {
                assert_eq!(before, after);
            }
        }
        assert!(refuges.len() > 3, "{refuges:?}");
    }

    proptest! {
        #[test]
        fn the_order_holds_every_node_once_and_does_not_depend_on_how_they_are_listed(
            count in 0u32..12, seed in 0u32..1000, busy in prop::collection::vec(0u32..=1000, 12), suspect in 0u32..12
        ) {
            let mut nodes: Vec<_> = (0..count).map(node).collect();
            for (n, node) in nodes.iter_mut().enumerate() {
                node.load.busy_permille = busy[n];
                if u32::try_from(n) == Ok(suspect) { node.health = Health::Suspect; }
            }
            let (stream, session) = (stream(seed), session(seed));
            let placing = Placing::Play { session: &session, origin: None, audience: 10 };
            for placing in [Placing::Publish, placing] {
                let ask = Ask { placing, ..publish(&stream) };
                let ordered = ids(&order(&nodes, &ask));
                let backwards = ids(&order(nodes.iter().rev(), &ask));
                prop_assert_eq!(&ordered, &backwards);
                prop_assert_eq!(ordered.iter().collect::<BTreeSet<_>>().len(), nodes.len());
            }
        }

        #[test]
        fn the_death_of_a_node_leaves_the_order_of_the_others_for_a_publisher(dead in 0usize..6, seed in 0u32..1000) {
            let nodes: Vec<_> = (0..6).map(node).collect();
            let stream = stream(seed);
            let before = ids(&order(&nodes, &publish(&stream)));
            let left: Vec<_> = nodes.iter().filter(|n| n.node != nodes[dead].node).cloned().collect();
            let after = ids(&order(&left, &publish(&stream)));
            let expected: Vec<_> = before.into_iter().filter(|n| *n != nodes[dead].node).collect();
            prop_assert_eq!(after, expected);
        }
    }
}
