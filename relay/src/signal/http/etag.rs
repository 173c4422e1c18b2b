//! ICE sessions as entity tags (RFC 9725 §4.3.1): each ICE restart makes the next generation.
//!
//! Only sessions that restarted are kept; all others are at generation 0.

use std::collections::{BTreeMap, VecDeque};

use crate::control::Resource;

/// Most sessions that are remembered; the one that restarted first is forgotten first, which costs its client one
/// more ICE restart.
const MAX_REMEMBERED: usize = 10_000;

/// Generations of sessions that restarted ICE.
#[derive(Debug, Default)]
pub struct Generations {
    by_session: BTreeMap<Resource, u32>,
    order: VecDeque<Resource>,
}

/// What an `If-Match` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// `*`: an ICE restart.
    Any,
    /// The tag of now.
    Current,
    /// Another tag.
    Stale,
}

impl Generations {
    /// The tag of a session, quoted.
    pub fn tag(&self, session: &Resource) -> String {
        format!("\"ice-{}\"", self.by_session.get(session).copied().unwrap_or(0))
    }

    /// Judges an `If-Match` value. Browsers' WHIP clients put the star in quotes, as RFC 9725's figures do.
    pub fn judge(&self, session: &Resource, if_match: &str) -> Precondition {
        let tag = self.tag(session);
        let mut given = if_match.split(',').map(str::trim);
        match if_match.trim() {
            "*" | "\"*\"" => Precondition::Any,
            _ if given.any(|given| given == tag) => Precondition::Current,
            _ => Precondition::Stale,
        }
    }

    /// Counts an ICE restart and answers with the new tag.
    pub fn restarted(&mut self, session: &Resource) -> String {
        if let Some(generation) = self.by_session.get_mut(session) {
            *generation = generation.saturating_add(1);
            return self.tag(session);
        }
        if self.order.len() >= MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_session.remove(&oldest);
        }
        self.by_session.insert(session.clone(), 1);
        self.order.push_back(session.clone());
        self.tag(session)
    }

    /// Forgets a session that ended.
    pub fn forget(&mut self, session: &Resource) {
        if self.by_session.remove(session).is_some() {
            self.order.retain(|kept| kept != session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Generations, MAX_REMEMBERED, Precondition};
    use crate::control::Resource;

    #[test]
    fn a_tag_is_stale_after_an_ice_restart_and_the_new_one_holds() {
        let (mut generations, session) = (Generations::default(), Resource("a".into()));
        let first = generations.tag(&session);
        assert_eq!(generations.judge(&session, &first), Precondition::Current);
        assert_eq!(generations.judge(&session, "*"), Precondition::Any);
        let second = generations.restarted(&session);
        assert_ne!(first, second);
        assert_eq!(generations.judge(&session, &first), Precondition::Stale);
        assert_eq!(generations.judge(&session, &second), Precondition::Current);
        assert_ne!(generations.restarted(&session), second);
        generations.forget(&session);
        assert_eq!(generations.tag(&session), first);
    }

    #[test]
    fn restarts_of_any_number_of_sessions_are_remembered_up_to_a_bound() {
        let mut generations = Generations::default();
        for n in 0..MAX_REMEMBERED + 5 {
            generations.restarted(&Resource(format!("{n:08}").into()));
        }
        assert_eq!(generations.by_session.len(), MAX_REMEMBERED);
        assert_eq!(generations.order.len(), MAX_REMEMBERED);
        assert_eq!(generations.judge(&Resource("00000000".into()), "\"ice-1\""), Precondition::Stale);
    }
}
