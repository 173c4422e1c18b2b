//! When the changes of a room go out: at once after a quiet time, together while there are many. Pure.
//!
//! Without it, N logins would cost N² events. Invariant: a change waits at most [`COALESCE`], half of what ROOM-1
//! allows, and changes go out in order.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use waystation_proto::RoomId;

use super::room::Delta;

/// Longest time for which a change is held back.
pub const COALESCE: Duration = Duration::from_millis(50);

#[derive(Debug)]
enum Pace {
    /// Changes wait until then.
    Waiting { until: Instant, deltas: Vec<Delta> },
    /// Some went out; what comes before then waits.
    Resting { until: Instant },
}

/// All rooms that changed lately.
#[derive(Debug, Default)]
pub struct Feed {
    rooms: BTreeMap<RoomId, Pace>,
}

impl Feed {
    /// Takes changes in; answers with them if they may go out at once.
    pub fn push(&mut self, room: &RoomId, new: Vec<Delta>, now: Instant) -> Option<Vec<Delta>> {
        match self.rooms.get_mut(room) {
            Some(Pace::Waiting { deltas, .. }) => {
                deltas.extend(new);
                None
            }
            Some(Pace::Resting { until }) if *until > now => {
                let waiting = Pace::Waiting { until: *until, deltas: new };
                self.rooms.insert(room.clone(), waiting);
                None
            }
            Some(Pace::Resting { .. }) | None => {
                self.rooms.insert(room.clone(), Pace::Resting { until: now + COALESCE });
                Some(new)
            }
        }
    }

    /// What waits for a room, now: somebody is about to take a snapshot that holds it already.
    pub fn flush(&mut self, room: &RoomId, now: Instant) -> Option<Vec<Delta>> {
        match self.rooms.remove(room) {
            Some(Pace::Waiting { deltas, .. }) => {
                self.rooms.insert(room.clone(), Pace::Resting { until: now + COALESCE });
                Some(deltas)
            }
            Some(Pace::Resting { until }) => {
                self.rooms.insert(room.clone(), Pace::Resting { until });
                None
            }
            None => None,
        }
    }

    /// What is due.
    pub fn due(&mut self, now: Instant) -> Vec<(RoomId, Vec<Delta>)> {
        let due = |pace: &Pace| match pace {
            Pace::Waiting { until, .. } | Pace::Resting { until } => *until <= now,
        };
        let rooms: Vec<_> = self.rooms.extract_if(.., |_, pace| due(pace)).collect();
        let mut out = Vec::new();
        for (room, pace) in rooms {
            match pace {
                Pace::Waiting { deltas, .. } => {
                    self.rooms.insert(room.clone(), Pace::Resting { until: now + COALESCE });
                    out.push((room, deltas));
                }
                Pace::Resting { .. } => {}
            }
        }
        out
    }

    /// When something is due next.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let waiting = self.rooms.values().filter_map(|pace| match pace {
            Pace::Waiting { until, .. } => Some(*until),
            Pace::Resting { .. } => None,
        });
        waiting.min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use waystation_proto::{RoomId, v1};

    use super::{COALESCE, Delta, Feed};

    fn delta(user: &str) -> Delta {
        Delta::UserAdded(v1::RoomUser { user: user.into(), session_id: user.into() })
    }

    #[test]
    fn a_change_after_a_quiet_time_goes_out_at_once_and_a_burst_goes_out_together() {
        // ROOM-1
        let (mut feed, room, start) = (Feed::default(), RoomId::new("r").unwrap(), Instant::now());
        assert_eq!(feed.push(&room, vec![delta("a")], start), Some(vec![delta("a")]));
        let soon = start + Duration::from_millis(10);
        assert_eq!(feed.push(&room, vec![delta("b")], soon), None);
        assert_eq!(feed.push(&room, vec![delta("c")], soon), None);
        assert_eq!(feed.next(), Some(start + COALESCE), "nothing waits longer");
        assert!(feed.due(soon).is_empty());
        assert_eq!(feed.due(start + COALESCE), [(room.clone(), vec![delta("b"), delta("c")])]);
        assert_eq!(feed.next(), None);
        assert!(feed.due(start + COALESCE * 2).is_empty());
        assert!(feed.rooms.is_empty(), "a quiet room costs nothing");
    }

    #[test]
    fn what_waits_is_not_told_twice_to_whoever_takes_a_snapshot() {
        // ROOM-9
        let (mut feed, room, start) = (Feed::default(), RoomId::new("r").unwrap(), Instant::now());
        feed.push(&room, vec![], start);
        feed.push(&room, vec![delta("a")], start);
        assert_eq!(feed.flush(&room, start), Some(vec![delta("a")]));
        assert_eq!(feed.flush(&room, start), None);
        assert!(feed.due(start + COALESCE).is_empty());
    }
}
