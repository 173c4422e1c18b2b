//! Which publish feeds a stream: of the activated ones the one with the highest claim.
//!
//! An equal or lower claim never displaces the source, and a claim below the highest that ever fed the stream never
//! feeds it again. After a standstill ([`Router::suspend_all`]) a publish forwards only once it is confirmed: by a fresh
//! authenticated STUN check, or a link's own proof. Invariant: [`Router::forwards`] is true for at most one publish of a
//! stream.

use std::collections::{BTreeMap, VecDeque};

use waystation_proto::{Claim, StreamKey};

use crate::plane::PublishId;

/// Streams without a publish whose highest claim is remembered.
pub const MAX_FENCES: usize = 4096;

/// What feeds a stream now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceChange {
    /// Which stream.
    pub stream: StreamKey,
    /// Its source.
    pub publish: Option<PublishId>,
    /// The claim of the source, or the highest there was.
    pub claim: Claim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Not activated: it forwards nothing.
    Standby,
    /// Activated under a claim.
    Active(Claim),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// We stood still since the last check.
    Stale,
}

#[derive(Clone, Debug)]
struct Entry {
    stream: StreamKey,
    standing: Standing,
    gate: Gate,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    publishes: Vec<PublishId>,
    source: Option<PublishId>,
    /// The highest claim that ever fed it.
    fence: Claim,
}

/// The streams of one relay.
#[derive(Debug, Default)]
pub struct Router {
    publishes: BTreeMap<PublishId, Entry>,
    streams: BTreeMap<StreamKey, Stream>,
    /// Streams without a publish, oldest first; may name one that has publishes again.
    idle: VecDeque<StreamKey>,
}

impl Router {
    /// A publish in standby.
    pub fn add(&mut self, publish: PublishId, stream: StreamKey) {
        self.streams.entry(stream.clone()).or_default().publishes.push(publish);
        self.publishes.insert(publish, Entry { stream, standing: Standing::Standby, gate: Gate::Open });
    }

    /// Makes a publish active; answers what changed. A claim that it has or had higher changes nothing.
    pub fn activate(&mut self, publish: PublishId, claim: Claim) -> Option<SourceChange> {
        let entry = self.publishes.get_mut(&publish)?;
        entry.standing = match entry.standing {
            Standing::Active(held) => Standing::Active(held.max(claim)),
            Standing::Standby => Standing::Active(claim),
        };
        let stream = entry.stream.clone();
        self.choose(&stream)
    }

    /// Ends a publish; answers what changed.
    pub fn remove(&mut self, publish: PublishId) -> Option<SourceChange> {
        let key = self.publishes.remove(&publish)?.stream;
        let stream = self.streams.get_mut(&key)?;
        stream.publishes.retain(|&other| other != publish);
        let was_source = stream.source == Some(publish);
        if was_source {
            stream.source = None;
        }
        let fence = stream.fence;
        if stream.publishes.is_empty() {
            self.rest(&key);
        }
        let next = self.choose(&key);
        next.or_else(|| was_source.then_some(SourceChange { stream: key, publish: None, claim: fence }))
    }

    /// Whether packets of a publish go to players.
    #[must_use]
    pub fn forwards(&self, publish: PublishId) -> bool {
        self.publishes.get(&publish).is_some_and(|entry| {
            entry.gate == Gate::Open
                && self.streams.get(&entry.stream).and_then(|s| s.source) == Some(publish)
        })
    }

    /// What feeds a stream.
    #[must_use]
    pub fn source(&self, stream: &StreamKey) -> Option<PublishId> {
        self.streams.get(stream)?.source
    }

    /// We stood still: nothing is forwarded until it is confirmed.
    pub fn suspend_all(&mut self) {
        for entry in self.publishes.values_mut() {
            entry.gate = Gate::Stale;
        }
    }

    /// The publish's peer proved itself; answers whether it was suspended, and feeds its stream: then
    /// [`super::source::Source::switch`] and a keyframe are due.
    pub fn confirm(&mut self, publish: PublishId) -> bool {
        let Some(entry) = self.publishes.get_mut(&publish) else { return false };
        let was = std::mem::replace(&mut entry.gate, Gate::Open);
        was == Gate::Stale && self.forwards(publish)
    }

    /// Chooses the source of a stream anew.
    fn choose(&mut self, key: &StreamKey) -> Option<SourceChange> {
        let stream = self.streams.get_mut(key)?;
        let claim_of = |publish: PublishId| match self.publishes.get(&publish)?.standing {
            Standing::Active(claim) => Some(claim),
            Standing::Standby => None,
        };
        let held = stream.source.and_then(claim_of);
        // Of equal claims the first that came, so that a repeat changes nothing.
        let best = stream
            .publishes
            .iter()
            .filter_map(|&publish| Some((claim_of(publish)?, std::cmp::Reverse(publish))))
            .filter(|(claim, _)| *claim >= stream.fence && held.is_none_or(|held| *claim > held))
            .max();
        // The source itself may have moved on under a higher claim.
        stream.fence = stream.fence.max(held.unwrap_or_default());
        let (claim, std::cmp::Reverse(publish)) = best?;
        stream.fence = stream.fence.max(claim);
        if stream.source == Some(publish) {
            return None;
        }
        stream.source = Some(publish);
        Some(SourceChange { stream: key.clone(), publish: Some(publish), claim })
    }

    /// Remembers the fence of a stream without publishes, within bounds.
    fn rest(&mut self, key: &StreamKey) {
        self.idle.retain(|other| other != key);
        self.idle.push_back(key.clone());
        while self.idle.len() > MAX_FENCES {
            let Some(oldest) = self.idle.pop_front() else { break };
            if self.streams.get(&oldest).is_some_and(|stream| stream.publishes.is_empty()) {
                self.streams.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waystation_proto::{RoomId, StreamId};

    use super::*;

    fn key(name: &str) -> StreamKey {
        StreamKey { room: RoomId::new("room").unwrap(), stream: StreamId::new(name).unwrap() }
    }

    fn claim(epoch: u64, moved: u32) -> Claim {
        Claim { epoch, moved }
    }

    #[test]
    fn an_older_session_never_wins_over_a_newer_one() {
        // PUB-11
        let mut router = Router::default();
        let (old, new) = (PublishId(1), PublishId(2));
        router.add(old, key("s"));
        router.add(new, key("s"));
        assert!(!router.forwards(old), "not activated");
        assert_eq!(router.activate(old, claim(1, 0)).unwrap().publish, Some(old));
        assert_eq!(router.activate(new, claim(1, 1)).unwrap().publish, Some(new));
        assert_eq!(router.activate(old, claim(1, 1)), None, "an equal claim displaces nobody");
        assert_eq!(router.activate(old, claim(1, 0)), None);
        assert!(router.forwards(new) && !router.forwards(old));
        let late = PublishId(3);
        router.add(late, key("s"));
        assert_eq!(router.remove(old), None);
        assert_eq!(router.remove(new).unwrap().publish, None);
        assert_eq!(router.activate(late, claim(1, 0)), None, "nor when the newer one has gone");
        assert_eq!(router.remove(late), None);
        router.add(PublishId(4), key("s"));
        assert_eq!(router.activate(PublishId(4), claim(1, 0)), None, "nor when nobody was there for a while");
        assert!(router.activate(PublishId(4), claim(1, 1)).is_some(), "the same claim over a new link may");
    }

    #[test]
    fn after_a_standstill_nothing_is_forwarded_before_a_fresh_check() {
        // PUB-11
        let mut router = Router::default();
        router.add(PublishId(1), key("s"));
        router.activate(PublishId(1), claim(1, 0));
        router.suspend_all();
        assert!(!router.forwards(PublishId(1)));
        assert!(router.confirm(PublishId(1)) && router.forwards(PublishId(1)));
        assert!(!router.confirm(PublishId(1)), "a second check changes nothing");
    }

    #[test]
    fn fences_of_streams_that_left_are_bounded() {
        let mut router = Router::default();
        for number in 0..MAX_FENCES as u64 + 10 {
            router.add(PublishId(number), key(&format!("s{number}")));
            router.activate(PublishId(number), claim(1, 0));
            router.remove(PublishId(number));
        }
        assert_eq!(router.streams.len(), MAX_FENCES);
    }

    proptest! {
        #[test]
        fn claims_that_feed_a_stream_never_fall(
            steps in prop::collection::vec((0_u8..5, 0_u64..6, 0_u64..3, 0_u32..3), 0..60),
        ) {
            let (mut router, mut highest) = (Router::default(), Claim::default());
            let stream = key("s");
            for (step, publish, epoch, moved) in steps {
                let publish = PublishId(publish);
                let change = match step {
                    0 if !router.publishes.contains_key(&publish) => { router.add(publish, stream.clone()); None }
                    1 => router.remove(publish),
                    2 => { router.suspend_all(); None }
                    3 => { router.confirm(publish); None }
                    _ => router.activate(publish, claim(epoch, moved)),
                };
                if let Some(SourceChange { publish: Some(_), claim, .. }) = change {
                    prop_assert!(claim >= highest);
                    highest = claim;
                }
                let forwarding = (0..6).filter(|&id| router.forwards(PublishId(id))).count();
                prop_assert!(forwarding <= 1);
            }
        }
    }
}
