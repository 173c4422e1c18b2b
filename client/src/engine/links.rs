//! Event connections, one for each node with sessions.
//!
//! Invariant: a report of a connection that was let go, or opened again since, changes nothing.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use waystation_proto::{Claim, Node, NodeRef};

use super::Happened;
use crate::events::EventLink;

/// Names an event connection for its engine's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkId(u64);

/// All event connections.
#[derive(Debug)]
pub(super) struct Links {
    happened: mpsc::Sender<Happened>,
    next: LinkId,
    open: BTreeMap<NodeRef, (LinkId, EventLink)>,
}

impl Links {
    pub(super) fn new(happened: mpsc::Sender<Happened>) -> Self {
        Self { happened, next: LinkId::default(), open: BTreeMap::new() }
    }

    /// Opens one, and watches the sessions that are there.
    pub(super) fn open<'a>(&mut self, node: &Node, sessions: impl Iterator<Item = &'a str>) {
        self.next.0 += 1;
        let (id, happened, name) = (self.next, self.happened.clone(), node.node.clone());
        let link = EventLink::dial(&node.http_url, move |report| {
            if happened.try_send(Happened::Node(name.clone(), id, report)).is_err() {
                tracing::warn!(node = %name, "an event of a node is lost: the engine is behind, or closed");
            }
        });
        sessions.for_each(|session| link.watch(session));
        self.open.insert(node.node.clone(), (id, link));
    }

    /// Lets one go.
    pub(super) fn close(&mut self, node: &NodeRef) {
        self.open.remove(node);
    }

    /// Whether a report comes from the connection that is open now.
    pub(super) fn is_current(&self, node: &NodeRef, id: LinkId) -> bool {
        self.open.get(node).is_some_and(|(current, _)| *current == id)
    }

    /// Asks for a session's states.
    pub(super) fn watch(&self, node: &NodeRef, session: &str) {
        if let Some((_, link)) = self.open.get(node) {
            link.watch(session);
        }
    }

    /// Makes a publishing session the active one.
    pub(super) fn activate(&self, node: &NodeRef, session: &str, claim: Claim) {
        if let Some((_, link)) = self.open.get(node) {
            link.activate(session, claim);
        }
    }
}
