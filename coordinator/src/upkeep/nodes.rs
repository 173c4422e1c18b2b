//! What became of the relays that are attached here, as the store has it.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::{every, owners::Orphans};
use crate::{
    context::{Context, Plan, now},
    keys::{Key, Keys, NodeEntry, encode},
    mirror::{Held, View},
    nodes::Wanted,
    store::{Compare, Transaction, Write},
};

/// Half a beat: three missed ones are seen at most so much late.
const NODES_EVERY: Duration = Duration::from_millis(100);
/// So many are written at once: the store takes them together.
const WRITTEN_AT_ONCE: usize = 256;

/// Runs until dropped.
pub(super) async fn run(context: &Context) {
    let mut ticks = every(NODES_EVERY);
    let mut orphans = Orphans::default();
    loop {
        ticks.tick().await;
        if context.store_is_here() {
            adopt(context, &mut orphans);
            let writing = write_nodes(context);
            tokio::pin!(writing);
            loop {
                tokio::select! {
                    () = &mut writing => break,
                    // A slow store is not a coordinator that stands still.
                    _ = ticks.tick() => context.nodes().tick(now()),
                }
            }
        } else {
            // What it would say of relays now is about itself.
            orphans.afresh();
        }
    }
}

/// Relays that the store says are ours, or were left to us, but that are not attached: they have a while to come back.
fn adopt(context: &Context, orphans: &mut Orphans) {
    let now = now();
    let strays: Vec<_> = context.mirror.read(|view| {
        let left = orphans.left_to(&context.id, view, now);
        let ours = |owner: &String| *owner == context.id || left.contains(owner);
        let nodes = view.node_entries().filter(|held| ours(&held.value.owner));
        nodes.map(|held| held.value.node.clone()).collect()
    });
    let mut table = context.nodes();
    for node in strays {
        table.adopt(node, now);
    }
}

/// What somebody else wrote meanwhile stands, unless the relay is here for certain: it may have gone to another
/// coordinator long before its stream broke here.
fn write_node(view: &View, keys: &Keys, wanted: &Wanted, owner: &str) -> Plan<()> {
    let id = match wanted {
        Wanted::Put(node) | Wanted::Missed(node) => &node.node.id,
        Wanted::Delete(node) => &node.id,
    };
    let key = keys.text(&Key::Node(id.clone()));
    let held = view.node(id);
    let compares = vec![Compare::unchanged(key.clone(), held.map(|held| held.modified))];
    let others = |held: &&Held<NodeEntry>| {
        held.value.owner != owner && view.coordinators().contains_key(&held.value.owner)
    };
    let write = match (wanted, held) {
        // A later life of it is attached elsewhere.
        (Wanted::Put(node) | Wanted::Missed(node), Some(held))
            if held.value.node.node.incarnation > node.node.incarnation =>
        {
            return Plan::Settled(());
        }
        (Wanted::Missed(_), held) if held.filter(others).is_some() => return Plan::Settled(()),
        (Wanted::Put(node) | Wanted::Missed(node), held) => {
            let entry = NodeEntry { node: node.clone(), owner: owner.to_owned() };
            if held.is_some_and(|held| held.value == entry) {
                return Plan::Settled(());
            }
            Write::put(key, encode(&entry))
        }
        (Wanted::Delete(node), Some(held)) if held.value.node.node == *node && held.value.owner == owner => {
            Write::Delete(key)
        }
        (Wanted::Delete(_), _) => return Plan::Settled(()),
    };
    Plan::Write(Transaction { compares, writes: vec![write] }, ())
}

/// Writes what became of the relays that are attached here.
pub async fn write_nodes(context: &Context) {
    let wanted = {
        let mut table = context.nodes();
        table.tick(now());
        table.wanted(now())
    };
    let writing = stream::iter(wanted).for_each_concurrent(WRITTEN_AT_ONCE, |one| async move {
        match context.change(|view| write_node(view, &context.keys, &one, &context.id)).await {
            Ok(_) => context.nodes().written(&one, now()),
            // It is wanted again at the next tick.
            Err(fault) => tracing::warn!(%fault, "what became of a relay was not written"),
        }
    });
    writing.await;
}

#[cfg(test)]
mod tests {
    use waystation_proto::{Health, Load, Node, NodeId, NodeRef};

    use super::*;
    use crate::{
        keys::CoordinatorEntry,
        store::{Batch, Change, Entry},
    };

    fn node(health: Health, incarnation: u64) -> Node {
        Node {
            node: NodeRef { id: NodeId::new("n").unwrap(), incarnation },
            http_url: "http://x".into(),
            link_url: "http://x".into(),
            media_addr: "127.0.0.1:1".parse().unwrap(),
            region: String::new(),
            health,
            load: Load::default(),
        }
    }

    /// The node is healthy and belongs to `owner`; "me" and "other" live.
    fn view(owner: &str) -> View {
        let keys = Keys::under("w");
        let put = |key: &Key, value| {
            Change::Put(Entry { key: keys.text(key), value, version: 1, modified: 5, lease: None })
        };
        let entry = NodeEntry { node: node(Health::Healthy, 2), owner: owner.into() };
        let mut changes = vec![put(&Key::Node(entry.node.node.id.clone()), encode(&entry))];
        for id in ["me", "other"] {
            let living = CoordinatorEntry { url: String::new() };
            changes.push(put(&Key::Coordinator(id.into()), encode(&living)));
        }
        let mut view = View::new(keys);
        view.apply(&Batch { revision: 5, changes });
        view
    }

    fn writes(owner: &str, wanted: &Wanted) -> bool {
        let view = view(owner);
        match write_node(&view, view.keys(), wanted, "me") {
            Plan::Settled(()) => false,
            Plan::Write(transaction, ()) => {
                assert_eq!((transaction.compares.len(), transaction.writes.len()), (1, 1));
                true
            }
        }
    }

    #[test]
    fn a_relay_that_went_to_another_is_not_taken_back_because_its_stream_broke_here() {
        // GO-2
        let missed = Wanted::Missed(node(Health::Suspect, 2));
        assert!(!writes("other", &missed));
        assert!(writes("me", &missed) && writes("dead", &missed));
        assert!(writes("other", &Wanted::Put(node(Health::Healthy, 2))), "it is attached here");
        assert!(!writes("me", &Wanted::Put(node(Health::Healthy, 2))), "that stands there already");
        assert!(!writes("other", &Wanted::Put(node(Health::Healthy, 1))), "an older life of it");
        assert!(!writes("me", &Wanted::Missed(node(Health::Suspect, 1))));
    }

    #[test]
    fn only_ones_own_relay_is_deleted_and_only_that_life_of_it() {
        // GO-2
        assert!(writes("me", &Wanted::Delete(node(Health::Healthy, 2).node)));
        assert!(!writes("me", &Wanted::Delete(node(Health::Healthy, 1).node)));
        assert!(!writes("other", &Wanted::Delete(node(Health::Healthy, 2).node)));
    }
}
