//! The coordinator's copy of the store, kept up to date by a watch, and those who listen to it.
//!
//! Everybody reads from here; writes go to the store and come back over the watch. So several coordinators on one
//! store work like one.

mod feed;
mod follow;
mod recover;
mod room;
mod view;
#[cfg(test)]
mod view_tests;
mod waiters;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{broadcast, watch};
use waystation_proto::{Load, Node, RoomId, SessionId, UserId, v1};

use self::{feed::Feed, waiters::Waiters};
pub use self::{
    follow::{Follower, follow},
    room::{Delta, Room},
    view::{Held, News, Standing, View},
};
use crate::{
    keys::{Keys, KickedEntry, RevokedEntry},
    store::{Batch, Listing, StoreId},
};

/// News of one room that a listener may be late by; a later one gets the room whole.
const ROOM_BACKLOG: usize = 64;
/// Revocations that an attachment may be late by; a later one is ended and told all of them at its next attach.
const REVOKED_BACKLOG: usize = 1024;

/// What a room's listeners hear.
#[derive(Clone, Debug)]
pub struct RoomNews {
    /// Of the latest change in it.
    pub revision: u64,
    /// In order; may be empty: then something changed that others do not see, such as a login.
    pub deltas: Vec<Delta>,
}

/// What relays are told to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A login.
    Login(SessionId, RevokedEntry),
    /// All that a user does in a room.
    User(RoomId, UserId, KickedEntry),
}

/// The nodes as they are pushed.
#[derive(Clone, Debug, Default)]
pub struct NodeNews {
    /// Raised with each change.
    pub epoch: u64,
    /// In the order of their ids.
    pub nodes: Vec<Node>,
}

/// A room as it stands, and what comes after.
#[derive(Debug)]
pub struct Snapshot {
    /// Up to which revision.
    pub revision: v1::Revision,
    /// Its users.
    pub users: Vec<v1::RoomUser>,
    /// Its streams.
    pub streams: Vec<v1::RoomStream>,
    /// What changes afterwards.
    pub news: broadcast::Receiver<Arc<RoomNews>>,
}

#[derive(Debug)]
struct State {
    store: StoreId,
    view: View,
    feed: Feed,
    listeners: BTreeMap<RoomId, broadcast::Sender<Arc<RoomNews>>>,
}

/// The copy and its listeners.
#[derive(Debug)]
pub struct Mirror {
    state: Mutex<State>,
    revision: Waiters,
    nodes: watch::Sender<Arc<NodeNews>>,
    revoked: broadcast::Sender<Ended>,
    /// Raised with every change of anything, for whoever shows the whole cluster.
    changed: watch::Sender<u64>,
}

/// A coordinator that does not see its own writes in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind;

impl Mirror {
    /// The copy of an empty store.
    #[must_use]
    pub fn new(store: StoreId, keys: Keys) -> Self {
        let state = State { store, view: View::new(keys), feed: Feed::default(), listeners: BTreeMap::new() };
        Self {
            state: Mutex::new(state),
            revision: Waiters::default(),
            nodes: watch::Sender::new(Arc::default()),
            revoked: broadcast::Sender::new(REVOKED_BACKLOG),
            changed: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The view is a copy: what a panic left half done, the next list mends.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the view.
    pub fn read<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.lock().view)
    }

    /// Which store it copies, and up to where.
    #[must_use]
    pub fn revision(&self) -> v1::Revision {
        self.lock().revision()
    }

    /// Which store it copies.
    #[must_use]
    pub fn store(&self) -> StoreId {
        self.lock().store.clone()
    }

    /// Waits until the copy holds a revision of this store. Revisions of another store are no reason to wait.
    ///
    /// # Errors
    /// [`Behind`] when that takes too long.
    pub async fn reached(&self, wanted: &v1::Revision, within: Duration) -> Result<(), Behind> {
        if wanted.store_id != self.lock().store.0 {
            return Ok(());
        }
        self.reached_number(wanted.number, within).await
    }

    /// Waits until the copy holds what was just written.
    ///
    /// # Errors
    /// [`Behind`] when that takes too long.
    pub async fn reached_number(&self, wanted: u64, within: Duration) -> Result<(), Behind> {
        tokio::time::timeout(within, self.revision.wait(wanted)).await.map_err(|_| Behind)
    }

    /// A room as it stands, and what comes after, without a gap or an overlap.
    #[must_use]
    pub fn subscribe(&self, room: &RoomId, now: Instant) -> Snapshot {
        let mut state = self.lock();
        if let Some(waiting) = state.feed.flush(room, now) {
            state.publish(room, waiting);
        }
        let listeners =
            state.listeners.entry(room.clone()).or_insert_with(|| broadcast::Sender::new(ROOM_BACKLOG));
        let news = listeners.subscribe();
        let of_room = state.view.room(room);
        let users = of_room.map(Room::shown_users).unwrap_or_default();
        let streams = of_room.map(Room::shown_streams).unwrap_or_default();
        Snapshot { revision: state.revision(), users, streams, news }
    }

    /// The node list, now and whenever it changes in more than load.
    #[must_use]
    pub fn nodes(&self) -> watch::Receiver<Arc<NodeNews>> {
        self.nodes.subscribe()
    }

    /// Logins that are revoked and users that are kicked from now on.
    #[must_use]
    pub fn revocations(&self) -> broadcast::Receiver<Ended> {
        self.revoked.subscribe()
    }

    /// Ticks with every change of anything.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Plays a batch in and tells the listeners. Answers with what it brought.
    pub fn apply(&self, batch: &Batch, now: Instant) -> Vec<News> {
        self.play(now, |view| view.apply(batch))
    }

    /// Plays a list taken anew in.
    pub fn relist(&self, store: StoreId, listing: &Listing, now: Instant) -> Vec<News> {
        self.lock().store = store;
        self.play(now, |view| view.relist(listing))
    }

    fn play(&self, now: Instant, change: impl FnOnce(&mut View) -> Vec<News>) -> Vec<News> {
        let mut state = self.lock();
        let news = change(&mut state.view);
        let mut nodes_changed = false;
        let mut rooms: BTreeMap<RoomId, Vec<Delta>> = BTreeMap::new();
        for one in &news {
            match one {
                News::Room(room, deltas) => {
                    rooms.entry(room.clone()).or_default().extend(deltas.iter().cloned())
                }
                News::User(..) | News::Claim(_) | News::Coordinator(_) => {}
                News::Node(_) => nodes_changed = true,
                News::Revoked(session) => {
                    if let Some(&revoked) = state.view.revoked().get(session) {
                        // Nobody may be attached.
                        let _ = self.revoked.send(Ended::Login(session.clone(), revoked));
                    }
                }
                News::Kicked(room, user) => {
                    if let Some(kicked) = state.view.kicked(room, user) {
                        let _ = self.revoked.send(Ended::User(room.clone(), user.clone(), kicked.value));
                    }
                }
            }
        }
        for (room, deltas) in rooms {
            if let Some(due) = state.feed.push(&room, deltas, now) {
                state.publish(&room, due);
            }
        }
        if nodes_changed {
            self.publish_nodes(&state.view);
        }
        let revision = state.view.revision();
        drop(state);
        self.revision.reach(revision);
        self.changed.send_modify(|changes| *changes += 1);
        news
    }

    /// Sends what was held back for long enough, and says when to come back.
    pub fn flush(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        for (room, deltas) in state.feed.due(now) {
            state.publish(&room, deltas);
        }
        state.feed.next()
    }

    /// Load alone is for placement and no news to clients.
    fn publish_nodes(&self, view: &View) {
        let nodes: Vec<_> = view.nodes().cloned().collect();
        let without_load = |node: &Node| Node { load: Load::default(), ..node.clone() };
        self.nodes.send_if_modified(|held| {
            let news = !held.nodes.iter().map(without_load).eq(nodes.iter().map(without_load));
            if news {
                *held = Arc::new(NodeNews { epoch: held.epoch + 1, nodes });
            }
            news
        });
    }
}

impl State {
    fn revision(&self) -> v1::Revision {
        v1::Revision { store_id: self.store.0.clone(), number: self.view.revision() }
    }

    fn publish(&mut self, room: &RoomId, deltas: Vec<Delta>) {
        let Some(listeners) = self.listeners.get(room) else { return };
        let news = Arc::new(RoomNews { revision: self.view.revision(), deltas });
        if listeners.send(news).is_err() {
            self.listeners.remove(room);
        }
    }
}
