//! The meeting order of a stream: where a publisher and its players find each other with no coordinator.
//!
//! Rendezvous hashing of the stream over node ids and nothing else, so that everybody who knows the same nodes finds
//! the same order. The hash is part of the wire: changing it splits a cluster during a rolling upgrade.

use crate::{NodeId, StreamKey};

/// How many live nodes of the order are told of a stream, and asked for it.
pub const MEETING_NODES: usize = 3;

/// The nodes in the order in which they are told of the stream, and asked for it.
#[must_use]
pub fn meeting_order<'a>(stream: &StreamKey, nodes: impl IntoIterator<Item = &'a NodeId>) -> Vec<&'a NodeId> {
    let mut order: Vec<_> = nodes.into_iter().map(|node| (weight(stream, node), node)).collect();
    order.sort_by(|a, b| b.cmp(a));
    order.dedup();
    order.into_iter().map(|(_, node)| node).collect()
}

/// FNV-1a over room, stream and node, mixed by the finalizer of SplitMix64. Ids hold no byte 0.
fn weight(stream: &StreamKey, node: &NodeId) -> u64 {
    const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
    let parts = [stream.room.as_str(), "\0", stream.stream.as_str(), "\0", node.as_str()];
    let hash = parts
        .iter()
        .flat_map(|part| part.bytes())
        .fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::meeting_order;
    use crate::{NodeId, RoomId, StreamId, StreamKey};

    fn stream(n: u32) -> StreamKey {
        StreamKey { room: RoomId::new("hall").unwrap(), stream: StreamId::new(&format!("s{n}")).unwrap() }
    }

    fn nodes(count: u32) -> Vec<NodeId> {
        (0..count).map(|n| NodeId::new(&format!("relay-{n}")).unwrap()).collect()
    }

    #[test]
    fn the_order_is_the_same_however_the_nodes_are_listed() {
        let forward = nodes(9);
        let backward: Vec<_> = forward.iter().rev().cloned().collect();
        for n in 0..50 {
            assert_eq!(meeting_order(&stream(n), &forward), meeting_order(&stream(n), &backward));
        }
    }

    #[test]
    fn a_node_that_goes_leaves_the_order_of_the_others_as_it_was() {
        let all = nodes(9);
        for n in 0..50 {
            let before = meeting_order(&stream(n), &all);
            let after = meeting_order(&stream(n), all.iter().filter(|node| *node != before[0]));
            assert_eq!(before[1..], after[..]);
        }
    }

    #[test]
    fn streams_spread_evenly_over_nodes() {
        let all = nodes(4);
        let mut firsts = BTreeMap::new();
        for n in 0..4000 {
            *firsts.entry(meeting_order(&stream(n), &all)[0]).or_insert(0) += 1;
        }
        assert!(firsts.values().all(|&count| (850..1150).contains(&count)), "{firsts:?}");
    }
}
