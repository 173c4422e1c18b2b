//! What became of the relays that are attached here, as the store has it.

use std::time::Duration;

use super::{every, owners::Orphans};
use crate::{
    context::{Context, Plan, now},
    keys::{Key, Keys, NodeEntry, encode},
    mirror::View,
    nodes::Wanted,
    store::{Compare, Transaction, Write},
};

/// Half a beat: three missed ones are seen at most so much late.
const NODES_EVERY: Duration = Duration::from_millis(100);

/// Runs until dropped.
pub(super) async fn run(context: &Context) {
    let mut ticks = every(NODES_EVERY);
    let mut orphans = Orphans::default();
    loop {
        ticks.tick().await;
        if context.store_is_here() {
            adopt(context, &mut orphans);
            write_nodes(context).await;
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

fn write_node(view: &View, keys: &Keys, wanted: &Wanted, owner: &str) -> Plan<()> {
    let id = match wanted {
        Wanted::Put(node) => &node.node.id,
        Wanted::Delete(node) => &node.id,
    };
    let key = keys.text(&Key::Node(id.clone()));
    let held = view.node(id);
    let compares = vec![Compare::unchanged(key.clone(), held.map(|held| held.modified))];
    let write = match (wanted, held) {
        // A later life of it is attached elsewhere.
        (Wanted::Put(node), Some(held)) if held.value.node.node.incarnation > node.node.incarnation => {
            return Plan::Settled(());
        }
        (Wanted::Put(node), held) => {
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
    for one in wanted {
        match context.change(|view| write_node(view, &context.keys, &one, &context.id)).await {
            Ok(_) => context.nodes().written(&one, now()),
            // It is wanted again at the next tick.
            Err(fault) => tracing::warn!(%fault, "what became of a relay was not written"),
        }
    }
}
