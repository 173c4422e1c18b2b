//! The coordinators' public keys that this relay checks with: pure.
//!
//! Invariant: a key is kept as long as a token that it signed may be good. A coordinator says when that ends, once
//! another key has replaced it; one that leaves the set before it was replaced belongs to a store that was lost, and its
//! tokens are still in clients' hands: it is kept as if it had been replaced when it was last named. With no coordinator
//! in reach nothing changes.

use std::{collections::BTreeMap, time::Duration};

use waystation_proto::{KeyId, v1};

/// How long what a key signed is taken after its end: a token's hour, the hour's grace of a relay without a coordinator,
/// and the difference of clocks.
const KEPT: Duration = Duration::from_secs(2 * 60 * 60 + 5 * 60);
/// Most keys kept; those that end first make room.
const MAX_KEYS: usize = 128;
/// Length of an Ed25519 public key.
const KEY_BYTES: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    public_key: Vec<u8>,
    /// By the coordinator's clock; `None` until another key replaces it.
    until_ms: Option<u64>,
}

/// The keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KnownKeys(BTreeMap<KeyId, Known>);

impl KnownKeys {
    /// Takes what a coordinator says, which is all that it knows. Without a good key in it, it changes nothing.
    pub(super) fn take(&mut self, said: v1::SigningKeys, now_ms: u64) {
        let good = said.keys.into_iter().filter(|key| key.public_key.len() == KEY_BYTES).filter_map(|key| {
            let until_ms = (key.until_unix_ms > 0).then_some(key.until_unix_ms);
            Some((KeyId::new(&key.id).ok()?, Known { public_key: key.public_key, until_ms }))
        });
        let said: BTreeMap<_, _> = good.take(MAX_KEYS).collect();
        if said.is_empty() {
            return;
        }
        let kept_ms = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        for (id, known) in &mut self.0 {
            if !said.contains_key(id) {
                known.until_ms.get_or_insert(now_ms.saturating_add(kept_ms));
            }
        }
        self.0.retain(|_, known| known.until_ms.is_none_or(|until_ms| until_ms > now_ms));
        let room = MAX_KEYS - said.len();
        self.0.retain(|id, _| !said.contains_key(id));
        while self.0.len() > room {
            let ends = |known: &Known| known.until_ms.unwrap_or(u64::MAX);
            let first = self.0.iter().min_by_key(|(_, known)| ends(known)).map(|(id, _)| id.clone());
            first.map(|first| self.0.remove(&first));
        }
        self.0.extend(said);
    }

    /// The public keys by their ids.
    pub(super) fn public(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.iter().map(|(id, known)| (id.to_string(), known.public_key.clone())).collect()
    }

    /// What a coordinator that lost its store is told.
    pub(super) fn wire(&self) -> v1::SigningKeys {
        let key = |(id, known): (&KeyId, &Known)| v1::SigningKey {
            id: id.to_string(),
            public_key: known.public_key.clone(),
            until_unix_ms: known.until_ms.unwrap_or(0),
        };
        v1::SigningKeys { keys: self.0.iter().map(key).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn key(id: &str, until_unix_ms: u64) -> v1::SigningKey {
        v1::SigningKey { id: id.into(), public_key: vec![7; 32], until_unix_ms }
    }

    fn take(known: &mut KnownKeys, keys: Vec<v1::SigningKey>, now_ms: u64) -> Vec<String> {
        known.take(v1::SigningKeys { keys }, now_ms);
        known.public().into_keys().collect()
    }

    #[test]
    fn a_retired_key_is_kept_to_its_end_whether_it_is_still_named_or_not() {
        let mut known = KnownKeys::default();
        assert_eq!(take(&mut known, vec![key("a", 0)], NOW), ["a"]);
        assert_eq!(take(&mut known, vec![key("a", NOW + 9), key("b", 0)], NOW), ["a", "b"]);
        assert_eq!(take(&mut known, vec![key("b", 0)], NOW + 8), ["a", "b"]);
        assert_eq!(take(&mut known, vec![key("b", 0)], NOW + 9), ["b"]);
    }

    #[test]
    fn the_keys_of_a_store_that_was_lost_are_kept_until_their_last_tokens_expired() {
        // GO-1
        let mut known = KnownKeys::default();
        take(&mut known, vec![key("a", 0)], NOW);
        assert_eq!(take(&mut known, vec![key("z", 0)], NOW), ["a", "z"]);
        let end = NOW + u64::try_from(KEPT.as_millis()).unwrap();
        assert_eq!(take(&mut known, vec![key("z", 0)], end - 1), ["a", "z"]);
        assert_eq!(
            take(&mut known, vec![key("z", 0)], end),
            ["z"],
            "naming it again and again keeps nothing longer"
        );
    }

    #[test]
    fn a_set_without_a_good_key_changes_nothing_and_no_set_fills_the_memory() {
        let mut known = KnownKeys::default();
        take(&mut known, vec![key("a", 0)], NOW);
        let bad = v1::SigningKey { public_key: vec![1; 31], ..key("b", 0) };
        assert_eq!(take(&mut known, vec![bad, key("no id", 0)], NOW), ["a"]);
        assert_eq!(take(&mut known, vec![], NOW), ["a"]);
        for round in 0..5 {
            let many = (0..200).map(|n| key(&format!("{round}-{n}"), 0)).collect();
            assert_eq!(take(&mut known, many, NOW + round).len(), MAX_KEYS);
        }
    }
}
