//! What the app sees, and what must be so at every moment.

use std::collections::{BTreeMap, BTreeSet};

use waystation_client::machine::{Event, PlayerState, PublisherState};
use waystation_proto::{ErrorCode, NodeId, StreamKey, token::Action};

use crate::world::{Life, SimNode};

/// What an attempt has.
const ATTEMPT_MS: u64 = 2_000;

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    Requesting { since_ms: u64 },
    Working { since_ms: u64 },
    Ended { code: u32, at_ms: u64 },
}

#[derive(Debug, Default)]
pub struct Watch {
    pub streams: BTreeMap<StreamKey, Stands>,
    pub online_since_ms: u64,
    pub offline_since_ms: u64,
    /// What happened, for whoever plays a failed seed again.
    pub log: Vec<String>,
    /// Nodes whose attempts failed, and when.
    failed: Vec<(u64, StreamKey, NodeId)>,
    pub finals: u32,
    pub hedges_lost: u32,
    pub interruptions: u32,
}

/// An app that follows the advice calls again after so many milliseconds.
pub type Advice = Option<(StreamKey, Action, u64)>;

impl Watch {
    pub fn event(&mut self, event: &Event, now_ms: u64, nodes: &[SimNode], online: bool) -> Advice {
        self.log.push(format!("{now_ms} {event}"));
        match event {
            Event::Publisher(update) => {
                let stands = match update.state {
                    PublisherState::NoPublish => Stands::Ended { code: update.code, at_ms: now_ms },
                    PublisherState::PublishRequesting => Stands::Requesting { since_ms: now_ms },
                    PublisherState::Publishing => Stands::Working { since_ms: now_ms },
                };
                let advice = update.extended["retry_after_ms"].as_u64();
                self.stream(&update.key, stands, nodes, online);
                advice.map(|ms| (update.key.clone(), Action::Publish, ms))
            }
            Event::Player(update) => {
                let stands = match update.state {
                    PlayerState::NoPlay => Stands::Ended { code: update.code, at_ms: now_ms },
                    PlayerState::PlayRequesting => Stands::Requesting { since_ms: now_ms },
                    PlayerState::Playing => Stands::Working { since_ms: now_ms },
                };
                let advice = update.extended["retry_after_ms"].as_u64();
                self.stream(&update.key, stands, nodes, online);
                advice.map(|ms| (update.key.clone(), Action::Play, ms))
            }
            Event::Attempt(attempt) => {
                self.failed.push((now_ms, attempt.key.clone(), attempt.node.id.clone()));
                self.hedges_lost += u32::from(attempt.outcome.word() == "unneeded");
                None
            }
            Event::Room(_)
            | Event::Gap(_)
            | Event::Users(_)
            | Event::Streams(_)
            | Event::TokenExpiring { .. } => None,
        }
    }

    fn stream(&mut self, key: &StreamKey, stands: Stands, nodes: &[SimNode], online: bool) {
        let before = self.streams.insert(key.clone(), stands);
        match (before, stands) {
            (None, Stands::Requesting { .. }) => {}
            (None, other) => panic!("{key} starts with {other:?}"),
            // Only the app's next call follows an end.
            (Some(Stands::Ended { code, .. }), Stands::Requesting { .. }) => assert_ne!(code, 0, "{key}"),
            (Some(Stands::Ended { .. }), other) => panic!("{key}: {other:?} follows the end"),
            (Some(Stands::Requesting { since_ms }), Stands::Ended { code, at_ms }) => {
                self.finals += 1;
                self.blames_nobody_in_reach(key, code, since_ms, at_ms, nodes, online);
            }
            (Some(Stands::Working { .. }), Stands::Ended { .. }) => panic!("{key} ends while it works"),
            (Some(Stands::Working { .. }), Stands::Requesting { .. }) => self.interruptions += 1,
            (Some(Stands::Requesting { .. }), Stands::Requesting { .. }) => {
                panic!("{key} is told twice to wait")
            }
            (Some(_), Stands::Working { .. }) => {}
        }
    }

    /// No final failure while a node answered all the time.
    fn blames_nobody_in_reach(
        &self,
        key: &StreamKey,
        code: u32,
        since_ms: u64,
        at_ms: u64,
        nodes: &[SimNode],
        online: bool,
    ) {
        let all_failed = [ErrorCode::PublishFailed.number(), ErrorCode::PlayFailed.number()].contains(&code);
        if !all_failed {
            return;
        }
        // Who answered during the attempt that ends now may have done so before the network went.
        let network = online || at_ms <= self.offline_since_ms + ATTEMPT_MS;
        assert!(network, "{key} ends with {code} at {at_ms} ms without a network");
        // A hedge that was under way when the session was lost is the walk's first attempt.
        let first_ms = since_ms.saturating_sub(ATTEMPT_MS);
        let healthy = |node: &&SimNode| {
            online && node.health == Life::Up && node.up_since_ms.max(self.online_since_ms) <= first_ms
        };
        let healthy = nodes.iter().find(healthy);
        assert!(
            healthy.is_none(),
            "{key} ends with {code} at {at_ms} ms: {healthy:?} was there since {since_ms} ms"
        );
    }

    /// How many nodes have failed the stream since then.
    pub fn tried_since(&self, key: &StreamKey, since_ms: u64) -> usize {
        let since = self.failed.iter().filter(|(at, of, _)| *at >= since_ms && of == key);
        since.map(|(_, _, node)| node).collect::<BTreeSet<_>>().len()
    }

    pub fn works(&self, key: &StreamKey) -> bool {
        matches!(self.streams.get(key), Some(Stands::Working { .. }))
    }
}
