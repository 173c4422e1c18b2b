//! Who waits for the copy to hold a revision. A change wakes those whose revision it brings, and nobody else: with one
//! signal for all, each of N writers on their way would be woken N times.
//!
//! Invariant: whoever stops waiting is forgotten; so there are never more than calls on their way.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// A revision, and a number that tells its waiters apart.
type Place = (u64, u64);

#[derive(Debug, Default)]
struct State {
    held: u64,
    next: u64,
    waiting: BTreeMap<Place, oneshot::Sender<()>>,
}

/// The waiters, in the order of what they wait for.
#[derive(Debug, Default)]
pub struct Waiters {
    state: Mutex<State>,
}

/// A place among the waiters, given back when dropped.
struct Waiter<'a> {
    waiters: &'a Waiters,
    place: Place,
    reached: oneshot::Receiver<()>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The copy holds `revision` now: less than before, if the store became another one.
    pub fn reach(&self, revision: u64) {
        let reached = {
            let mut state = self.lock();
            state.held = revision;
            let later = state.waiting.split_off(&(revision.saturating_add(1), 0));
            std::mem::replace(&mut state.waiting, later)
        };
        for waiter in reached.into_values() {
            // It may just have stopped waiting.
            let _ = waiter.send(());
        }
    }

    /// Waits until the copy holds `wanted`.
    pub async fn wait(&self, wanted: u64) {
        if let Some(mut waiter) = self.enter(wanted) {
            // The sender is only let go of by sending.
            let _ = (&mut waiter.reached).await;
        }
    }

    fn enter(&self, wanted: u64) -> Option<Waiter<'_>> {
        let mut state = self.lock();
        if state.held >= wanted {
            return None;
        }
        let (sender, reached) = oneshot::channel();
        let place = (wanted, state.next);
        state.next += 1;
        state.waiting.insert(place, sender);
        Some(Waiter { waiters: self, place, reached })
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.waiters.lock().waiting.remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::Waiters;

    #[test]
    fn a_revision_ends_the_waits_for_it_and_for_earlier_ones_only() {
        let waiters = Waiters::default();
        let mut context = Context::from_waker(Waker::noop());
        let (mut third, mut fourth) = (pin!(waiters.wait(3)), pin!(waiters.wait(4)));
        let mut also_third = pin!(waiters.wait(3));
        assert!(third.as_mut().poll(&mut context).is_pending());
        assert!(fourth.as_mut().poll(&mut context).is_pending());
        assert!(also_third.as_mut().poll(&mut context).is_pending());
        waiters.reach(2);
        assert!(third.as_mut().poll(&mut context).is_pending());
        waiters.reach(3);
        assert_eq!(third.as_mut().poll(&mut context), Poll::Ready(()));
        assert_eq!(also_third.as_mut().poll(&mut context), Poll::Ready(()));
        assert!(fourth.as_mut().poll(&mut context).is_pending());
        waiters.reach(u64::MAX);
        assert_eq!(fourth.as_mut().poll(&mut context), Poll::Ready(()));
    }

    #[test]
    fn what_is_held_is_not_waited_for_until_the_store_becomes_another() {
        let waiters = Waiters::default();
        let mut context = Context::from_waker(Waker::noop());
        waiters.reach(7);
        assert_eq!(pin!(waiters.wait(7)).as_mut().poll(&mut context), Poll::Ready(()));
        waiters.reach(1);
        assert!(pin!(waiters.wait(7)).as_mut().poll(&mut context).is_pending());
    }

    #[test]
    fn whoever_stops_waiting_is_forgotten() {
        let waiters = Waiters::default();
        let mut context = Context::from_waker(Waker::noop());
        for wanted in 1..=100 {
            assert!(pin!(waiters.wait(wanted)).as_mut().poll(&mut context).is_pending());
        }
        assert!(waiters.lock().waiting.is_empty());
    }
}
