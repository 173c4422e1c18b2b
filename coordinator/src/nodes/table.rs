//! Relays attached here: who beats, who is suspect, who is gone: pure.
//!
//! Level-based: [`Table::wanted`] says how the store should differ from what was last written, whatever led there, so a
//! write that failed is simply wanted again.
//!
//! A coordinator that loses many relays at once suspects itself (its own network, its own CPU) and says nothing about
//! anybody until they are back or until even they would have been forgotten; except of a relay that another relay, one
//! that is attached, misses too.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use thiserror::Error;
use waystation_proto::{Health, Load, Node, NodeId, NodeRef};

/// Relays and coordinators beat this often.
pub const BEAT_EVERY: Duration = Duration::from_millis(200);
/// Beats that may be missing.
const MISSED_BEATS: u32 = 3;
/// Losses within this count as one event.
const LOSSES_WITHIN: Duration = Duration::from_secs(2);
/// One relay lost is never our own fault.
const SELF_SUSPICION_LEAST: usize = 2;
/// Load is written at most this often, and only when its step changed.
const LOAD_WRITTEN_EVERY: Duration = Duration::from_secs(2);
/// Most relays of one coordinator.
const MAX_NODES: usize = 10_000;
/// A relay that was attached to another coordinator, or before an outage, has this long to come before it is missed.
const ADOPTED_REST: Duration = Duration::from_secs(2);
/// A step of busyness that is worth a write.
const BUSY_STEP_PERMILLE: u32 = 100;

/// Names one attachment, so that the end of an older one changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttachmentId(u64);

/// Why a relay is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AttachRefusal {
    /// A later life of the same relay is here.
    #[error("a later start of relay {} is attached already; do two relays have the same id?", .0.id)]
    Older(NodeRef),
    /// Too many.
    #[error("this coordinator has {MAX_NODES} relays already; attach to another")]
    Full,
}

#[derive(Debug)]
enum Stream {
    /// It said hello. Until it says more it may not have our welcome, and so no keys: clients are not sent to it.
    Greeted {
        attachment: AttachmentId,
    },
    Open {
        attachment: AttachmentId,
    },
    Broken,
}

#[derive(Debug)]
struct Held {
    node: Node,
    stream: Stream,
    heard: Instant,
    health: Health,
    written: Option<(Node, Instant)>,
    /// Another relay says that it is silent too.
    missed_by_peer: bool,
}

/// How the store should change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is attached here and beats: write this, whoever had it.
    Put(Node),
    /// It is not heard here: write this, unless it went to another coordinator.
    Missed(Node),
    /// Delete it, if it is still this life of it.
    Delete(NodeRef),
}

/// Relays attached here.
#[derive(Debug)]
pub struct Table {
    forgotten_after: Duration,
    nodes: BTreeMap<NodeId, Held>,
    gone: BTreeMap<NodeId, NodeRef>,
    last_attachment: u64,
    losses: VecDeque<(Instant, NodeId)>,
    looked: Option<Instant>,
}

impl Table {
    /// No relays yet. One that is unheard for `forgotten_after` is gone.
    #[must_use]
    pub fn new(forgotten_after: Duration) -> Self {
        Self {
            forgotten_after,
            nodes: BTreeMap::new(),
            gone: BTreeMap::new(),
            last_attachment: 0,
            losses: VecDeque::new(),
            looked: None,
        }
    }

    /// A relay attaches. An older attachment of it is over. The store is told once it beats.
    ///
    /// # Errors
    /// [`AttachRefusal`]
    pub fn attach(&mut self, node: Node, now: Instant) -> Result<AttachmentId, AttachRefusal> {
        let id = node.node.id.clone();
        match self.nodes.get(&id) {
            Some(held) if held.node.node.incarnation > node.node.incarnation => {
                return Err(AttachRefusal::Older(node.node));
            }
            Some(_) => {}
            None if self.nodes.len() >= MAX_NODES => return Err(AttachRefusal::Full),
            None => {}
        }
        self.last_attachment += 1;
        let attachment = AttachmentId(self.last_attachment);
        let written = self.nodes.remove(&id).and_then(|held| held.written);
        let stream = Stream::Greeted { attachment };
        self.gone.remove(&id);
        self.losses.retain(|(_, lost)| *lost != id);
        self.nodes.insert(
            id,
            Held { node, stream, heard: now, health: Health::Healthy, written, missed_by_peer: false },
        );
        Ok(attachment)
    }

    fn of(&mut self, id: &NodeId, wanted: AttachmentId) -> Option<&mut Held> {
        self.nodes.get_mut(id).filter(|held| match held.stream {
            Stream::Greeted { attachment } | Stream::Open { attachment } => attachment == wanted,
            Stream::Broken => false,
        })
    }

    /// Whether an attachment is the relay's current one.
    pub fn is_current(&mut self, id: &NodeId, attachment: AttachmentId) -> bool {
        self.of(id, attachment).is_some()
    }

    /// A relay was heard.
    pub fn heard(&mut self, id: &NodeId, attachment: AttachmentId, load: Option<Load>, now: Instant) {
        if let Some(held) = self.of(id, attachment) {
            held.stream = Stream::Open { attachment };
            held.heard = now;
            held.health = Health::Healthy;
            held.missed_by_peer = false;
            held.node.load = load.unwrap_or(held.node.load);
            self.losses.retain(|(_, lost)| lost != id);
        }
    }

    /// What a node that is attached here said that it carries.
    #[must_use]
    pub fn load(&self, node: &NodeRef) -> Option<Load> {
        self.nodes.get(&node.id).filter(|held| held.node.node == *node).map(|held| held.node.load)
    }

    /// An attachment broke.
    pub fn broke(&mut self, id: &NodeId, attachment: AttachmentId, now: Instant) {
        if let Some(held) = self.of(id, attachment) {
            held.stream = Stream::Broken;
            self.lose(id, now);
        }
    }

    fn lose(&mut self, id: &NodeId, now: Instant) {
        if let Some(held) = self.nodes.get_mut(id).filter(|held| held.health == Health::Healthy) {
            held.health = Health::Suspect;
            self.losses.push_back((now, id.clone()));
        }
    }

    /// The store says that a relay is ours that is not attached: it is counted as any that went silent, after a rest.
    pub fn adopt(&mut self, node: Node, now: Instant) {
        let id = node.node.id.clone();
        if self.nodes.contains_key(&id) || self.gone.contains_key(&id) || self.nodes.len() >= MAX_NODES {
            return;
        }
        let (health, heard) = (node.health, now + ADOPTED_REST);
        let held = Held { node, stream: Stream::Broken, heard, health, written: None, missed_by_peer: false };
        self.nodes.insert(id, held);
    }

    /// The store was out of reach, and relays had to go: all have time to come back.
    pub fn after_outage(&mut self, now: Instant) {
        self.losses.clear();
        // What the store still has of them is adopted.
        self.gone.clear();
        for held in self.nodes.values_mut() {
            held.heard = now + ADOPTED_REST;
            // That their streams broke meanwhile was our own doing.
            held.health = held.written.as_ref().map_or(Health::Healthy, |(written, _)| written.health);
        }
    }

    /// Another relay misses this one too: if it is missed here, that is no fault of ours.
    pub fn missed_by_peer(&mut self, node: &NodeRef) {
        if let Some(held) = self.nodes.get_mut(&node.id).filter(|held| held.node.node == *node) {
            held.missed_by_peer = true;
        }
    }

    /// A relay went to another coordinator.
    pub fn release(&mut self, id: &NodeId) {
        self.nodes.remove(id);
        self.losses.retain(|(_, lost)| lost != id);
    }

    /// Looks at the clock. To be called at least every beat: nobody is missed in what is beyond.
    pub fn tick(&mut self, now: Instant) {
        let suspect_after = BEAT_EVERY * MISSED_BEATS;
        let looked = self.looked.replace(now).unwrap_or(now);
        let stood_still = now.saturating_duration_since(looked).saturating_sub(BEAT_EVERY);
        // We did not read meanwhile: their beats may be waiting. Who rests is heard in the future, and stays so.
        for held in self.nodes.values_mut().filter(|held| held.heard < now) {
            held.heard = now.min(held.heard + stood_still);
        }
        let silent = |held: &Held| now.saturating_duration_since(held.heard);
        let late: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, held)| silent(held) >= suspect_after)
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            self.lose(&id, now);
        }
        let forgotten_after = self.forgotten_after;
        while self.losses.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= forgotten_after)
        {
            self.losses.pop_front();
        }
        for (id, held) in self.nodes.extract_if(.., |_, held| silent(held) >= forgotten_after) {
            self.gone.insert(id, held.node.node);
        }
    }

    /// Whether so many were lost together that the fault may be ours.
    #[must_use]
    pub fn suspects_itself(&self) -> bool {
        let together = |at: Instant| {
            let within =
                |other: &&(Instant, NodeId)| other.0 >= at && other.0.duration_since(at) <= LOSSES_WITHIN;
            self.losses.iter().filter(within).count()
        };
        let most = self.losses.iter().map(|(at, _)| together(*at)).max().unwrap_or(0);
        most >= SELF_SUSPICION_LEAST && most * 3 > self.nodes.len()
    }

    /// How the store should change.
    #[must_use]
    pub fn wanted(&self, now: Instant) -> Vec<Wanted> {
        let quiet = self.suspects_itself();
        let put = |held: &Held| {
            let node = Node { health: held.health, ..held.node.clone() };
            let news = match &held.written {
                None => true,
                Some((written, at)) => {
                    let same = Node { load: Load::default(), ..written.clone() }
                        == Node { load: Load::default(), ..node.clone() };
                    let rested = now.saturating_duration_since(*at) >= LOAD_WRITTEN_EVERY;
                    !same || (rested && step(written.load) != step(node.load))
                }
            };
            let said = held.health == Health::Healthy || !quiet || held.missed_by_peer;
            let here = match (&held.stream, held.health) {
                (Stream::Greeted { .. }, Health::Healthy) => return None,
                // Clients know it only if it was named before.
                (Stream::Greeted { .. }, _) if held.written.is_none() => return None,
                (Stream::Open { .. }, Health::Healthy) => Wanted::Put,
                (Stream::Greeted { .. } | Stream::Open { .. } | Stream::Broken, _) => Wanted::Missed,
            };
            (news && said).then(|| here(node))
        };
        let gone = self.gone.values().filter(|_| !quiet).map(|node| Wanted::Delete(node.clone()));
        gone.chain(self.nodes.values().filter_map(put)).collect()
    }

    /// The store holds this now.
    pub fn written(&mut self, wanted: &Wanted, now: Instant) {
        match wanted {
            Wanted::Put(node) | Wanted::Missed(node) => {
                if let Some(held) = self.nodes.get_mut(&node.node.id) {
                    held.written = Some((node.clone(), now));
                }
            }
            Wanted::Delete(node) => {
                if self.gone.get(&node.id) == Some(node) {
                    self.gone.remove(&node.id);
                }
            }
        }
    }
}

/// Load, as coarsely as it is worth telling.
fn step(load: Load) -> (u32, u32, u32) {
    let sessions = |count: u32| u32::BITS - count.leading_zeros();
    (load.busy_permille / BUSY_STEP_PERMILLE, sessions(load.publishers), sessions(load.players))
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
