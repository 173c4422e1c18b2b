//! Measures the stops in a player's media: from the last packet before one to the first after it.

use std::time::{Duration, Instant};

/// A stop this long is a gap.
pub const GAP: Duration = Duration::from_millis(100);

/// A stop in a player's media, or a change of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap<N> {
    /// From the last packet before it to the first after it.
    pub lasted: Duration,
    /// The node that sent the last packet before it.
    pub before: N,
    /// The node that sent the first packet after it.
    pub after: N,
}

/// Watches the media packets of one player.
#[derive(Clone, Debug, Default)]
pub struct GapMeter<N> {
    last: Option<(Instant, N)>,
}

impl<N: Clone + PartialEq> GapMeter<N> {
    /// A meter that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { last: None }
    }

    /// Takes note of a media packet, and tells of the gap that it ended: a stop of more than 100 ms, or of any
    /// length when the node is another one.
    pub fn packet(&mut self, node: &N, now: Instant) -> Option<Gap<N>> {
        match &mut self.last {
            Some((at, last_node)) => {
                let lasted = now.saturating_duration_since(*at);
                *at = now;
                if last_node == node {
                    return (lasted > GAP).then(|| Gap { lasted, before: node.clone(), after: node.clone() });
                }
                let before = std::mem::replace(last_node, node.clone());
                Some(Gap { lasted, before, after: node.clone() })
            }
            None => {
                self.last = Some((now, node.clone()));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Gap, GapMeter};

    #[test]
    fn a_stop_and_a_change_of_node_are_gaps_and_steady_media_is_none() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = GapMeter::new();
        assert_eq!(meter.packet(&"a", at(0)), None);
        assert_eq!(meter.packet(&"a", at(100)), None);
        let lasted = Duration::from_millis(101);
        assert_eq!(meter.packet(&"a", at(201)), Some(Gap { lasted, before: "a", after: "a" }));
        let lasted = Duration::from_millis(20);
        assert_eq!(meter.packet(&"b", at(221)), Some(Gap { lasted, before: "a", after: "b" }));
        assert_eq!(meter.packet(&"b", at(240)), None);
    }
}
