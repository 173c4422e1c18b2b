//! Claims: who may publish a stream, and which session is the newest.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::v1;

/// The pair (epoch, move), compared in that order.
///
/// A coordinator raises `epoch` in one store transaction when a session takes a stream id. The publishing client,
/// the only writer of its session, raises `moved` each time it makes another node's session the active one: so
/// failover needs no coordinator, and fencing still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// Raised by a coordinator.
    pub epoch: u64,
    /// Raised by the publishing client; `move` on the wire.
    #[serde(rename = "move")]
    pub moved: u32,
}

impl Claim {
    /// The first claim of an epoch.
    #[must_use]
    pub fn of_epoch(epoch: u64) -> Self {
        Self { epoch, moved: 0 }
    }

    /// The claim under which the next session of the same publisher becomes the active one.
    #[must_use]
    pub fn next_move(self) -> Self {
        Self { moved: self.moved.saturating_add(1), ..self }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.moved)
    }
}

impl From<v1::Claim> for Claim {
    fn from(wire: v1::Claim) -> Self {
        Self { epoch: wire.epoch, moved: wire.r#move }
    }
}

impl From<Claim> for v1::Claim {
    fn from(claim: Claim) -> Self {
        Self { epoch: claim.epoch, r#move: claim.moved }
    }
}

#[cfg(test)]
mod tests {
    use super::Claim;

    #[test]
    fn a_higher_epoch_beats_any_move() {
        let old = Claim { epoch: 1, moved: 900 };
        assert!(Claim::of_epoch(2) > old);
        assert!(old.next_move() > old);
    }
}
