//! Claims: who may publish a stream, and what a relay's word changes: pure.
//!
//! Invariant: the epoch of a stream never goes backwards. Epochs are revisions of the store above a base that is higher
//! than all that its predecessors granted, so an epoch at or below the base, or beyond all revisions, is another's.

use waystation_proto::{Claim, ErrorCode, NodeRef, Refusal, SessionId, StreamKey, UserId};

use crate::{
    keys::{ClaimEntry, EpochSource, StreamEntry},
    mirror::Held,
};

/// What planning a publish does to the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// The session holds it.
    Keep {
        /// Its epoch.
        epoch: u64,
    },
    /// Write this; the revision of the write makes the epoch. An older session of the same user loses it.
    Write(ClaimEntry),
    /// Another user holds it.
    Refuse(Refusal),
}

/// A session asks for a stream.
#[must_use]
pub fn take(
    held: Option<&Held<ClaimEntry>>,
    stream: &StreamKey,
    user: &UserId,
    session: &SessionId,
    base: u64,
) -> Take {
    match held {
        Some(held) if held.value.user != *user => {
            let message =
                format!("stream {stream} is being published by user {}; choose another id", held.value.user);
            Take::Refuse(Refusal::new(ErrorCode::StreamTaken, message))
        }
        Some(held) if held.value.session == *session => Take::Keep { epoch: held.value.epoch(held.modified) },
        Some(_) | None => Take::Write(ClaimEntry {
            user: user.clone(),
            session: session.clone(),
            epoch: EpochSource::Above(base),
        }),
    }
}

/// Whether an epoch was granted by a predecessor of this store.
#[must_use]
pub fn is_foreign(epoch: u64, base: u64, revision: u64) -> bool {
    epoch <= base || epoch > base.saturating_add(revision)
}

/// What somebody says to hold: a relay of an active publish, or a client that resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The stream.
    pub stream: StreamKey,
    /// Its claim.
    pub claim: Claim,
    /// Its holder.
    pub user: UserId,
    /// The holder's login.
    pub session: SessionId,
}

impl Said {
    fn gathered(&self) -> ClaimEntry {
        let epoch = EpochSource::Gathered(self.claim.epoch);
        ClaimEntry { user: self.user.clone(), session: self.session.clone(), epoch }
    }
}

/// How what is said compares with what is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what is held.
    Held,
    /// It was granted by a predecessor and forgotten: hold this again.
    Adopt(ClaimEntry),
    /// It is over, or another has it.
    Over,
}

/// Judges what somebody says to hold. `foreign`: see [`is_foreign`].
#[must_use]
pub fn judge(held: Option<&Held<ClaimEntry>>, said: &Said, foreign: bool) -> Verdict {
    let Some(held) = held else {
        return if foreign { Verdict::Adopt(said.gathered()) } else { Verdict::Over };
    };
    let epoch = held.value.epoch(held.modified);
    if epoch == said.claim.epoch && held.value.session == said.session {
        return Verdict::Held;
    }
    match held.value.epoch {
        // Two of a predecessor's: the higher one was the last.
        EpochSource::Gathered(epoch) if foreign && epoch < said.claim.epoch => {
            Verdict::Adopt(said.gathered())
        }
        EpochSource::Gathered(_) | EpochSource::Above(_) => Verdict::Over,
    }
}

/// The stream's entry once a relay says to be its origin under a claim that is held; `None`: nothing changes.
#[must_use]
pub fn origin_up(held: Option<&StreamEntry>, said: &Said, node: &NodeRef) -> Option<StreamEntry> {
    let new = StreamEntry {
        user: said.user.clone(),
        session: said.session.clone(),
        epoch: said.claim.epoch,
        moved: said.claim.moved,
        origin: Some(node.clone()),
    };
    match held {
        Some(held) if held.epoch == new.epoch && held.moved > new.moved => None,
        Some(held) if *held == new => None,
        Some(_) | None => Some(new),
    }
}

/// The stream's entry once a relay says to be its origin no more; `None`: nothing changes.
#[must_use]
pub fn origin_down(held: Option<&StreamEntry>, claim: Claim, node: &NodeRef) -> Option<StreamEntry> {
    let held = held?;
    let same = held.epoch == claim.epoch && held.moved <= claim.moved && held.origin.as_ref() == Some(node);
    same.then(|| StreamEntry { origin: None, ..held.clone() })
}

#[cfg(test)]
mod tests {
    use waystation_proto::{NodeId, RoomId, StreamId};

    use super::*;

    const BASE: u64 = 1000;

    fn stream() -> StreamKey {
        StreamKey { room: RoomId::new("r").unwrap(), stream: StreamId::new("cam").unwrap() }
    }

    fn user(text: &str) -> UserId {
        UserId::new(text).unwrap()
    }

    fn session(text: &str) -> SessionId {
        SessionId::new(text).unwrap()
    }

    fn written(take: Take, modified: u64) -> Held<ClaimEntry> {
        match take {
            Take::Write(value) => Held { value, modified },
            Take::Keep { .. } | Take::Refuse(_) => panic!("{take:?}"),
        }
    }

    fn ask(held: Option<&Held<ClaimEntry>>, who: &str, login: &str) -> Take {
        take(held, &stream(), &user(who), &session(login), BASE)
    }

    fn said(epoch: u64, moved: u32, login: &str) -> Said {
        Said { stream: stream(), claim: Claim { epoch, moved }, user: user("ann"), session: session(login) }
    }

    fn node(n: u32) -> NodeRef {
        NodeRef { id: NodeId::new(&format!("n{n}")).unwrap(), incarnation: 1 }
    }

    #[test]
    fn a_stream_of_another_user_is_refused_and_ones_own_is_kept_or_taken_over() {
        // PUB-5, PUB-8
        let held = written(ask(None, "ann", "a1"), 5);
        assert_eq!(held.value.epoch(held.modified), BASE + 5);
        assert_eq!(ask(Some(&held), "ann", "a1"), Take::Keep { epoch: BASE + 5 });
        assert!(matches!(ask(Some(&held), "bob", "b1"), Take::Refuse(r) if r.code == ErrorCode::StreamTaken));
        let over = written(ask(Some(&held), "ann", "a2"), 9);
        assert!(over.value.epoch(over.modified) > held.value.epoch(held.modified));
    }

    #[test]
    fn a_claim_taken_after_the_stream_left_the_room_is_still_higher() {
        // PUB-11
        let first = written(ask(None, "ann", "a1"), 5);
        let later = written(ask(None, "bob", "b1"), 6);
        assert!(later.value.epoch(later.modified) > first.value.epoch(first.modified));
    }

    #[test]
    fn a_relays_word_counts_only_under_the_claim_that_is_held() {
        // PUB-11
        let held = written(ask(None, "ann", "a1"), 5);
        assert_eq!(judge(Some(&held), &said(BASE + 5, 0, "a1"), false), Verdict::Held);
        assert_eq!(judge(Some(&held), &said(BASE + 4, 9, "a1"), false), Verdict::Over);
        assert_eq!(judge(Some(&held), &said(BASE + 5, 0, "other"), false), Verdict::Over);
        assert_eq!(
            judge(Some(&held), &said(BASE - 1, 0, "a0"), true),
            Verdict::Over,
            "a predecessor's is lower"
        );
        assert_eq!(
            judge(None, &said(BASE + 5, 0, "a1"), false),
            Verdict::Over,
            "it ended; a late word changes nothing"
        );
    }

    #[test]
    fn a_predecessors_claim_is_held_again_under_its_own_epoch_and_the_highest_wins() {
        // PUB-9
        let Verdict::Adopt(value) = judge(None, &said(900, 2, "a1"), true) else { panic!() };
        let held = Held { value, modified: 3 };
        assert_eq!(held.value.epoch(held.modified), 900);
        assert_eq!(judge(Some(&held), &said(900, 2, "a1"), true), Verdict::Held);
        assert_eq!(judge(Some(&held), &said(800, 7, "a0"), true), Verdict::Over);
        assert!(matches!(judge(Some(&held), &said(950, 0, "a2"), true), Verdict::Adopt(_)));
        assert_eq!(ask(Some(&held), "ann", "a1"), Take::Keep { epoch: 900 });
    }

    #[test]
    fn epochs_of_this_store_are_told_from_those_of_others() {
        assert!(is_foreign(BASE, BASE, 10) && is_foreign(BASE + 11, BASE, 10));
        assert!(!is_foreign(BASE + 1, BASE, 10) && !is_foreign(BASE + 10, BASE, 10));
    }

    #[test]
    fn the_origin_follows_the_highest_move_and_goes_without_taking_the_stream_along() {
        // PUB-9
        let first = origin_up(None, &said(5, 1, "a1"), &node(1)).unwrap();
        assert_eq!(origin_up(Some(&first), &said(5, 1, "a1"), &node(1)), None, "told again");
        assert_eq!(origin_up(Some(&first), &said(5, 0, "a1"), &node(2)), None, "late");
        let moved = origin_up(Some(&first), &said(5, 2, "a1"), &node(2)).unwrap();
        assert_eq!(moved.origin, Some(node(2)));
        assert_eq!(
            origin_down(Some(&moved), Claim { epoch: 5, moved: 1 }, &node(1)),
            None,
            "the one left behind"
        );
        let down = origin_down(Some(&moved), Claim { epoch: 5, moved: 2 }, &node(2)).unwrap();
        assert_eq!((down.origin, down.epoch), (None, 5));
        assert_eq!(origin_down(None, Claim { epoch: 5, moved: 2 }, &node(2)), None);
    }
}
