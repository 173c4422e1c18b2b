//! Looking for a stream that has no source here, for as long as somebody wants it.
//!
//! A search goes round after round with backoff. In each it asks the first live nodes of the meeting order where the
//! stream is, all at once, and tries to subscribe at the best candidate known so far: announcements held here, the
//! hint of a token, answers, announcements that arrive meanwhile. One subscription is tried at a time; a candidate
//! of a higher claim takes the place of the one being tried.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rand::RngExt as _;
use waystation_proto::{Claim, NodeId, NodeRef, StreamKey};

use super::{
    core::{Core, LinkId},
    message::{MAX_HOPS, PeerMessage},
    peers::Reach,
    streams::{Source, Waiter},
};

/// A find is answered within this.
pub(super) const FIND_WITHIN: Duration = Duration::from_millis(1500);
/// A subscription that is neither granted nor refused by then has failed; a dial may be part of it.
const ATTEMPT_WITHIN: Duration = Duration::from_millis(600);
/// The first round is followed by the second after this; the wait doubles each round.
const ROUND_FIRST: Duration = Duration::from_millis(50);
/// Longest wait between rounds.
const ROUND_MOST: Duration = Duration::from_secs(1);
/// Most candidates of one search.
const MAX_CANDIDATES: usize = 16;

/// One search.
#[derive(Clone, Debug)]
pub(super) struct Search {
    candidates: BTreeMap<NodeId, Candidate>,
    /// Nodes whose subscription failed in this round.
    tried: BTreeSet<NodeId>,
    asked: BTreeMap<NodeId, Question>,
    attempt: Option<Attempt>,
    round: u32,
    next_round: Instant,
}

/// A node that may have the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    node: NodeRef,
    /// `None`: a hint. Whoever names a claim knows better.
    claim: Option<Claim>,
}

/// A `Where` to one node. Its id stays through the search, so that an answer that took longer than a round counts.
#[derive(Clone, Copy, Debug)]
struct Question {
    id: u64,
    /// The link on which it was asked in this round.
    on: Option<LinkId>,
}

/// The subscription that is being tried.
#[derive(Clone, Debug)]
struct Attempt {
    id: u64,
    candidate: Candidate,
    step: Step,
    deadline: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The link is being dialled.
    Linking,
    /// `Subscribe` was sent.
    Sent(LinkId),
}

impl Search {
    fn new(now: Instant) -> Self {
        Self {
            candidates: BTreeMap::new(),
            tried: BTreeSet::new(),
            asked: BTreeMap::new(),
            attempt: None,
            round: 0,
            next_round: now,
        }
    }

    pub(super) fn due(&self) -> impl Iterator<Item = Instant> {
        [self.next_round].into_iter().chain(self.attempt.as_ref().map(|attempt| attempt.deadline))
    }

    /// The id of the subscription that was being tried over this link.
    pub(super) fn lose_link(&mut self, link: LinkId) -> Option<u64> {
        for question in self.asked.values_mut().filter(|question| question.on == Some(link)) {
            question.on = None;
        }
        let on_it = |attempt: &mut Attempt| matches!(attempt.step, Step::Sent(on) if on == link);
        let attempt = self.attempt.take_if(on_it)?;
        self.tried.insert(attempt.candidate.node.id);
        Some(attempt.id)
    }

    fn best(&self) -> Option<Candidate> {
        let open = self.candidates.values().filter(|c| !self.tried.contains(&c.node.id));
        open.max_by_key(|candidate| (candidate.claim, candidate.node.clone())).cloned()
    }

    /// False: it was known.
    fn add(&mut self, node: NodeRef, claim: Option<Claim>) -> bool {
        let known = self.candidates.get(&node.id);
        if known.is_some_and(|k| (k.node.incarnation, k.claim) >= (node.incarnation, claim))
            || (known.is_none() && self.candidates.len() >= MAX_CANDIDATES)
        {
            return false;
        }
        self.tried.remove(&node.id);
        self.candidates.insert(node.id.clone(), Candidate { node, claim });
        true
    }
}

impl Core {
    /// There is a search exactly while somebody wants the stream and it has no source.
    pub(super) fn keep_search(&mut self, stream: &StreamKey, now: Instant) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        let needed = matches!(entry.source, Source::Nowhere { .. }) && entry.is_wanted() && self.serving();
        if !needed {
            return self.drop_search(stream);
        }
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.search.get_or_insert_with(|| Search::new(now));
        }
        self.begin_round(stream, now);
        self.ask_meeting_nodes(stream, now);
        if let Some(held) = self.held.get(stream) {
            let (origin, claim) = (held.origin.clone(), held.claim);
            self.add_candidate(stream, origin, Some(claim));
        }
        self.try_candidates(stream, now);
    }

    pub(super) fn drop_search(&mut self, stream: &StreamKey) {
        let Some(search) = self.streams.get_mut(stream).and_then(|entry| entry.search.take()) else { return };
        for question in search.asked.values() {
            self.questions.remove(&question.id);
        }
        if let Some(attempt) = search.attempt {
            self.give_up(&attempt);
        }
    }

    fn give_up(&mut self, attempt: &Attempt) {
        self.subscriptions.remove(&attempt.id);
        match attempt.step {
            Step::Linking => {}
            Step::Sent(link) => self.tell_peer(link, PeerMessage::Unsubscribe { id: attempt.id }),
        }
    }

    fn search_mut(&mut self, stream: &StreamKey) -> Option<&mut Search> {
        self.streams.get_mut(stream)?.search.as_mut()
    }

    fn begin_round(&mut self, stream: &StreamKey, now: Instant) {
        let jitter = self.rng.random_range(0.8..1.2);
        let Some(search) = self.search_mut(stream) else { return };
        if now < search.next_round {
            return;
        }
        let wait = ROUND_FIRST.saturating_mul(1 << search.round.min(8)).min(ROUND_MOST);
        search.next_round = now + wait.mul_f64(jitter);
        search.round = search.round.saturating_add(1);
        search.tried.clear();
        for question in search.asked.values_mut() {
            question.on = None;
        }
    }

    fn ask_meeting_nodes(&mut self, stream: &StreamKey, now: Instant) {
        for node in self.meeting_nodes(stream, now) {
            if node == self.me.id {
                continue;
            }
            let Reach::Linked(link) = self.reach(&node, now) else { continue };
            let fresh = self.fresh_id();
            let Some(search) = self.search_mut(stream) else { return };
            let question = search.asked.entry(node).or_insert(Question { id: fresh, on: None });
            if question.on.is_none() {
                question.on = Some(link);
                let id = question.id;
                self.questions.insert(id, stream.clone());
                self.tell_peer(link, PeerMessage::Where { id, stream: stream.clone() });
            }
        }
    }

    /// Somebody may have the stream.
    pub(super) fn add_candidate(&mut self, stream: &StreamKey, node: NodeRef, claim: Option<Claim>) {
        let floor = self.floor(stream).unwrap_or_default();
        if node.id == self.me.id || claim.is_some_and(|claim| claim < floor) {
            return;
        }
        if self.search_mut(stream).is_some_and(|search| search.add(node, claim)) {
            self.touch(stream);
        }
    }

    pub(super) fn take_hint(&mut self, stream: &StreamKey, hint: NodeRef, now: Instant) {
        let Some(entry) = self.streams.get_mut(stream) else { return };
        if matches!(entry.source, Source::Nowhere { .. }) && entry.is_wanted() {
            entry.search.get_or_insert_with(|| Search::new(now));
            self.add_candidate(stream, hint, None);
        }
    }

    fn try_candidates(&mut self, stream: &StreamKey, now: Instant) {
        // Each turn ends the loop, or fails one candidate of at most MAX_CANDIDATES.
        for _ in 0..=MAX_CANDIDATES {
            let fresh = self.fresh_id();
            let Some(search) = self.search_mut(stream) else { return };
            let best = search.best();
            let overdue = |attempt: &Attempt| attempt.deadline <= now;
            let beaten = |attempt: &Attempt| {
                best.as_ref().is_some_and(|best| {
                    best.claim > attempt.candidate.claim && best.node != attempt.candidate.node
                })
            };
            if let Some(attempt) = search.attempt.take_if(|attempt| overdue(attempt) || beaten(attempt)) {
                search.tried.insert(attempt.candidate.node.id.clone());
                self.give_up(&attempt);
                continue;
            }
            if search.attempt.is_none() {
                let Some(candidate) = best else { return };
                let deadline = now + ATTEMPT_WITHIN;
                search.attempt = Some(Attempt { id: fresh, candidate, step: Step::Linking, deadline });
            }
            if self.advance_attempt(stream, now) {
                return;
            }
        }
    }

    /// Sends the subscription if its link is there. False: this candidate is of no use now.
    fn advance_attempt(&mut self, stream: &StreamKey, now: Instant) -> bool {
        let path = self.search_path(stream);
        let Some(Attempt { id, candidate, step: Step::Linking, .. }) =
            self.search_mut(stream).and_then(|search| search.attempt.clone())
        else {
            return true;
        };
        let node = candidate.node.id;
        let usable = path.len() <= MAX_HOPS && !path.contains(&node);
        let reach = if usable { self.reach(&node, now) } else { Reach::Not };
        match reach {
            Reach::Soon => true,
            Reach::Linked(link) => {
                if let Some(attempt) = self.search_mut(stream).and_then(|search| search.attempt.as_mut()) {
                    attempt.step = Step::Sent(link);
                }
                self.subscriptions.insert(id, stream.clone());
                self.tell_peer(link, PeerMessage::Subscribe { id, stream: stream.clone(), path });
                true
            }
            Reach::Not => {
                if let Some(search) = self.search_mut(stream) {
                    search.attempt = None;
                    search.tried.insert(node);
                }
                false
            }
        }
    }

    /// The nodes that the subscription to be comes through, this one last.
    fn search_path(&self, stream: &StreamKey) -> Vec<NodeId> {
        let mut path = Vec::new();
        if let Some(entry) = self.streams.get(stream).filter(|entry| entry.players.is_empty()) {
            let paths = entry.waiters.iter().map(|waiter| match waiter {
                Waiter::Door { .. } => Vec::new(),
                Waiter::Peer { path, .. } => path.clone(),
            });
            path = paths.min_by_key(Vec::len).unwrap_or_default();
        }
        path.push(self.me.id.clone());
        path
    }

    /// The attempt under this id was refused.
    pub(super) fn attempt_refused(&mut self, stream: &StreamKey, id: u64) {
        let Some(search) = self.search_mut(stream) else { return };
        if let Some(attempt) = search.attempt.take_if(|attempt| attempt.id == id) {
            search.tried.insert(attempt.candidate.node.id);
            self.subscriptions.remove(&id);
            self.touch(stream);
        }
    }

    /// The attempt under this id was granted over this link: it is the search's no longer.
    pub(super) fn attempt_granted(&mut self, stream: &StreamKey, id: u64, link: LinkId) -> bool {
        let granted =
            |attempt: &mut Attempt| attempt.id == id && matches!(attempt.step, Step::Sent(on) if on == link);
        self.search_mut(stream).and_then(|search| search.attempt.take_if(granted)).is_some()
    }

    /// Whether the node is being tried: a request of its own for the same stream would go round in a loop.
    pub(super) fn is_trying(&self, stream: &StreamKey, node: &NodeId) -> bool {
        let attempt = self.streams.get(stream).and_then(|entry| entry.search.as_ref()?.attempt.as_ref());
        attempt.is_some_and(|attempt| attempt.candidate.node.id == *node)
    }
}
