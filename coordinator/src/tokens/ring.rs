//! The keys of the store that this coordinator can use, opened once each.

use std::{collections::BTreeMap, fmt};

use jsonwebtoken::DecodingKey;
use waystation_proto::{KeyId, v1};

use super::{
    rotation::{Phase, Span, VERIFIED_FOR, phases},
    seal::{Sealer, SigningKey},
};
use crate::{keys::SigningEntry, mirror::Held};

/// All usable keys.
#[derive(Clone, Default)]
pub struct Ring(BTreeMap<KeyId, (Span, SigningKey)>);

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ring").field(&self.0.keys()).finish()
    }
}

impl PartialEq for Ring {
    /// An id is the hash of its key.
    fn eq(&self, other: &Self) -> bool {
        self.0.values().map(|(span, _)| span).eq(other.0.values().map(|(span, _)| span))
    }
}

impl Ring {
    /// The ring of these entries; what was opened before is not opened again.
    #[must_use]
    pub(super) fn of(entries: &BTreeMap<KeyId, Held<SigningEntry>>, known: &Self, sealer: &Sealer) -> Self {
        let opened = entries.iter().filter_map(|(id, held)| {
            let SigningEntry { created_ms, signs_from_ms, .. } = held.value;
            let key = match known.0.get(id) {
                Some((_, key)) => Some(key.clone()),
                None => sealer.open(id, &held.value),
            };
            Some((id.clone(), (Span { signs_from_ms, id: id.clone(), created_ms }, key?)))
        });
        Self(opened.collect())
    }

    /// Their times.
    #[must_use]
    pub(super) fn spans(&self) -> Vec<Span> {
        self.0.values().map(|(span, _)| span.clone()).collect()
    }

    /// How each key stands, in the order in which they sign.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> Vec<v1::KeyStatus> {
        let status = |(span, phase): (Span, Phase)| {
            let (state, until_unix_ms) = match phase {
                Phase::Upcoming => (v1::KeyState::Upcoming, 0),
                Phase::Signing => (v1::KeyState::Signing, 0),
                Phase::Retired { until_ms } => (v1::KeyState::Retired, until_ms),
            };
            v1::KeyStatus {
                id: span.id.to_string(),
                state: state.into(),
                created_unix_ms: span.created_ms,
                signs_from_unix_ms: span.signs_from_ms,
                until_unix_ms,
            }
        };
        phases(self.spans(), now_ms).into_iter().map(status).collect()
    }

    /// What relays check with: every key, each with the end that the next one sets it.
    #[must_use]
    pub fn public(&self) -> v1::SigningKeys {
        let mut spans = self.spans();
        spans.sort();
        let verified_ms = u64::try_from(VERIFIED_FOR.as_millis()).unwrap_or(u64::MAX);
        let ends: Vec<_> =
            spans.iter().skip(1).map(|next| next.signs_from_ms.saturating_add(verified_ms)).collect();
        let key = |(at, span): (usize, &Span)| {
            let (_, key) = self.0.get(&span.id)?;
            let until_unix_ms = ends.get(at).copied().unwrap_or(0);
            Some(v1::SigningKey { id: span.id.to_string(), public_key: key.public.clone(), until_unix_ms })
        };
        v1::SigningKeys { keys: spans.iter().enumerate().filter_map(key).collect() }
    }

    /// The key that signs.
    #[must_use]
    pub(super) fn signing(&self, now_ms: u64) -> Option<&SigningKey> {
        let phases = phases(self.spans(), now_ms);
        let (span, _) = phases.into_iter().find(|(_, phase)| *phase == Phase::Signing)?;
        self.0.get(&span.id).map(|(_, key)| key)
    }

    /// The key of that name, to check with.
    #[must_use]
    pub(super) fn checking(&self, id: &str) -> Option<&DecodingKey> {
        self.0.get(&KeyId::new(id).ok()?).map(|(_, key)| &key.checking)
    }
}
