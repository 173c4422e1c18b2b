//! Which key signs, which are public, and when one is made or deleted: a pure function of the keys and the clock.
//!
//! A key is *upcoming* while relays learn it, *signing* from its instant on until the next one's, *retired* until the
//! last token that it signed has expired, and then deleted. Nothing of that is stored: it follows from the instants at
//! which keys begin to sign, so that all coordinators agree without a word, as far as their clocks do.
//!
//! Invariants: there is always a key that signs, if there is any key; a key that signs, or may yet, is never deleted;
//! of all coordinators that make a key at once, one does (they compare [`NewestEntry`]).
//!
//! [`NewestEntry`]: crate::keys::NewestEntry

use std::time::Duration;

use waystation_proto::KeyId;

use super::{LEEWAY_S, REVOKED_FOR};

/// Most keys kept. Rotations that follow each other faster than keys are deleted are refused at this.
pub const MAX_KEYS: usize = 64;
/// What a retired key signed is taken for this long: as long as a token may be, wherever it is looked at.
pub const VERIFIED_FOR: Duration = REVOKED_FOR;

/// When keys are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A key signs for this long.
    pub max_age: Duration,
    /// A key is public for this long before it signs: by then every attached relay and every coordinator has it.
    pub lead: Duration,
}

/// A key, as far as the time goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// When it begins to sign, Unix milliseconds. First, since keys sign in this order.
    pub signs_from_ms: u64,
    /// Which one.
    pub id: KeyId,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
}

/// How a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Relays learn it.
    Upcoming,
    /// It signs.
    Signing,
    /// What it signed is good until then, Unix milliseconds.
    Retired {
        /// When it may be deleted.
        until_ms: u64,
    },
}

/// What is to be done about the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// A key is to be made, which signs from then on, Unix milliseconds.
    Make {
        /// When it begins.
        signs_from_ms: u64,
    },
    /// This one signed nothing that is still good.
    Delete(KeyId),
}

/// Why a key is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The time passes.
    Clock,
    /// An operator wants the signing key replaced.
    Operator,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How each key stands, in the order in which they sign. `spans` in any order.
#[must_use]
pub fn phases(mut spans: Vec<Span>, now_ms: u64) -> Vec<(Span, Phase)> {
    spans.sort();
    // A clock that is behind sees none begun: the first one signs, as it does for everybody else.
    let signing = spans.iter().rposition(|span| span.signs_from_ms <= now_ms).unwrap_or(0);
    let next: Vec<_> = spans.iter().skip(1).map(|span| span.signs_from_ms).collect();
    let phase = |at: usize| match (at.cmp(&signing), next.get(at)) {
        (std::cmp::Ordering::Less, Some(retired_ms)) => {
            Phase::Retired { until_ms: retired_ms.saturating_add(ms(VERIFIED_FOR)) }
        }
        (std::cmp::Ordering::Greater, _) => Phase::Upcoming,
        (std::cmp::Ordering::Less | std::cmp::Ordering::Equal, _) => Phase::Signing,
    };
    spans.into_iter().enumerate().map(|(at, span)| (span, phase(at))).collect()
}

/// What is to be done now; the first thing first, so that a key is made before one is deleted.
#[must_use]
pub fn due(spans: Vec<Span>, rules: Rules, cause: Cause, now_ms: u64) -> Option<Due> {
    let keys = phases(spans, now_ms);
    let Some((signing, _)) = keys.iter().find(|(_, phase)| *phase == Phase::Signing) else {
        // Nobody holds a token yet: there is nothing to wait for.
        return Some(Due::Make { signs_from_ms: now_ms });
    };
    // One that is to begin later than any made now was made by a clock that is far ahead: the others do not wait for it.
    let skew_ms = LEEWAY_S * 1000;
    let latest_ms = now_ms.saturating_add(ms(rules.lead)).saturating_add(skew_ms);
    let awaited =
        keys.iter().any(|(span, phase)| *phase == Phase::Upcoming && span.signs_from_ms <= latest_ms);
    let old_at_ms = signing.signs_from_ms.saturating_add(ms(rules.max_age)).saturating_sub(ms(rules.lead));
    let wanted = match cause {
        Cause::Operator => true,
        Cause::Clock => old_at_ms <= now_ms,
    };
    if wanted && !awaited && keys.len() < MAX_KEYS {
        return Some(Due::Make { signs_from_ms: now_ms.saturating_add(ms(rules.lead)) });
    }
    keys.into_iter().find_map(|(span, phase)| match phase {
        Phase::Retired { until_ms } if until_ms <= now_ms => Some(Due::Delete(span.id)),
        Phase::Retired { .. } | Phase::Signing | Phase::Upcoming => None,
    })
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
