//! Which key signs when, and for how long it is public.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000_000;
const RULES: Rules = Rules { max_age: Duration::from_secs(86_400), lead: Duration::from_secs(10) };

fn id(n: usize) -> KeyId {
    KeyId::new(&format!("k{n}")).unwrap()
}

fn span(n: usize, signs_from_ms: u64) -> Span {
    Span { signs_from_ms, id: id(n), created_ms: signs_from_ms.saturating_sub(ms(RULES.lead)) }
}

fn by_clock(spans: &[Span], now_ms: u64) -> Option<Due> {
    due(spans.to_vec(), RULES, Cause::Clock, now_ms)
}

fn phase_of(spans: &[Span], n: usize, now_ms: u64) -> Phase {
    phases(spans.to_vec(), now_ms).into_iter().find(|(span, _)| span.id == id(n)).unwrap().1
}

#[test]
fn the_first_key_signs_at_once_and_its_successor_is_public_before_it_signs() {
    assert_eq!(by_clock(&[], NOW), Some(Due::Make { signs_from_ms: NOW }));
    let first = span(1, NOW);
    let old = NOW + ms(RULES.max_age) - ms(RULES.lead);
    assert_eq!(by_clock(std::slice::from_ref(&first), old - 1), None);
    assert_eq!(
        by_clock(std::slice::from_ref(&first), old),
        Some(Due::Make { signs_from_ms: NOW + ms(RULES.max_age) })
    );
    let both = [span(2, NOW + ms(RULES.max_age)), first];
    assert_eq!(by_clock(&both, old), None, "one is made, not two");
    assert_eq!(phase_of(&both, 2, old), Phase::Upcoming);
    assert_eq!(phase_of(&both, 1, old), Phase::Signing);
}

#[test]
fn a_retired_key_is_public_until_its_last_token_expired_and_no_longer() {
    let both = [span(1, NOW - 5000), span(2, NOW)];
    let until_ms = NOW + ms(VERIFIED_FOR);
    assert_eq!(phase_of(&both, 1, NOW), Phase::Retired { until_ms });
    assert_eq!(phase_of(&both, 2, NOW), Phase::Signing);
    assert_eq!(by_clock(&both, until_ms - 1), None);
    assert_eq!(by_clock(&both, until_ms), Some(Due::Delete(id(1))));
}

#[test]
fn an_operator_gets_one_new_key_however_often_it_is_asked_for() {
    let first = span(1, NOW);
    let ask = |spans: &[Span], now| due(spans.to_vec(), RULES, Cause::Operator, now);
    let made = ask(std::slice::from_ref(&first), NOW + 7);
    assert_eq!(made, Some(Due::Make { signs_from_ms: NOW + 7 + ms(RULES.lead) }));
    assert_eq!(ask(&[first, span(2, NOW + 7 + ms(RULES.lead))], NOW + 8), None);
    let full: Vec<_> = (0..MAX_KEYS).map(|n| span(n, NOW + n as u64)).collect();
    assert_eq!(ask(&full, NOW + 1000), None, "the number of keys is bounded");
}

#[test]
fn a_key_of_a_clock_that_is_a_year_ahead_keeps_nobody_from_rotating() {
    let year_ms = 365 * 86_400 * 1000;
    let keys = [span(1, NOW), span(2, NOW + year_ms)];
    assert_eq!(phase_of(&keys, 1, NOW), Phase::Signing);
    let old = NOW + ms(RULES.max_age);
    assert!(matches!(by_clock(&keys, old), Some(Due::Make { .. })));
}

#[test]
fn a_clock_that_is_behind_all_keys_signs_with_the_first_and_deletes_nothing() {
    let keys = [span(1, NOW), span(2, NOW + 5)];
    assert_eq!(phase_of(&keys, 1, NOW - 60_000), Phase::Signing);
    assert_eq!(by_clock(&keys, NOW - 60_000), None);
}

/// What one of several coordinators does, at its own clock.
#[derive(Clone, Copy, Debug)]
enum Step {
    Tick,
    Rotate,
    Sign,
}

fn step() -> impl Strategy<Value = (u64, usize, Step)> {
    let quick = prop_oneof![0u64..2_000, 0u64..20_000, 0u64..40_000_000];
    (quick, 0usize..3, prop_oneof![Just(Step::Tick), Just(Step::Rotate), Just(Step::Sign)])
}

/// How far the clocks of coordinators differ from the true time here, at most.
const SKEW_MS: u64 = 3_000;

/// The store as it is in truth: when each key was made and deleted.
#[derive(Default)]
struct World {
    keys: BTreeMap<usize, (Span, u64, Option<u64>)>,
    /// Tokens: which key, until when they are good.
    tokens: Vec<(KeyId, u64)>,
}

impl World {
    fn at(&self, true_ms: u64) -> Vec<Span> {
        let there = |(_, made, deleted): &&(Span, u64, Option<u64>)| {
            *made <= true_ms && deleted.is_none_or(|deleted| deleted > true_ms)
        };
        self.keys.values().filter(there).map(|(span, ..)| span.clone()).collect()
    }

    fn act(&mut self, step: Step, clock_ms: u64, true_ms: u64) {
        let cause = match step {
            Step::Sign => {
                let keys = phases(self.at(true_ms), clock_ms);
                if let Some((span, _)) = keys.into_iter().find(|(_, phase)| *phase == Phase::Signing) {
                    self.tokens.push((span.id, true_ms + 3_600_000));
                }
                return;
            }
            Step::Tick => Cause::Clock,
            Step::Rotate => Cause::Operator,
        };
        match due(self.at(true_ms), RULES, cause, clock_ms) {
            Some(Due::Make { signs_from_ms }) => {
                let n = self.keys.len();
                self.keys.insert(n, (Span { signs_from_ms, id: id(n), created_ms: clock_ms }, true_ms, None));
            }
            Some(Due::Delete(gone)) => {
                for (span, _, deleted) in self.keys.values_mut() {
                    if span.id == gone {
                        *deleted = Some(true_ms);
                    }
                }
            }
            None => {}
        }
    }
}

proptest! {
    // However coordinators with clocks some seconds apart rotate, what any of them signs is good at every relay whose
    // keys are at most this old, for as long as the token is.
    // PUB-5
    #[test]
    fn a_token_of_any_coordinator_is_good_at_any_relay_that_saw_the_keys_lately(
        steps in prop::collection::vec(step(), 1..60),
        skews in prop::array::uniform3(0u64..2 * SKEW_MS),
    ) {
        let lately_ms = ms(RULES.lead) - 2 * SKEW_MS;
        let (mut world, mut now) = (World::default(), NOW);
        world.act(Step::Tick, NOW, NOW - lately_ms);
        for (passes_ms, who, step) in steps {
            now += passes_ms;
            let signed = world.tokens.len();
            world.act(step, now + skews[who] - SKEW_MS, now);
            let kids = |spans: Vec<Span>| spans.into_iter().map(|span| span.id).collect::<Vec<_>>();
            if let Some((kid, _)) = world.tokens.get(signed) {
                prop_assert!(kids(world.at(now - lately_ms)).contains(kid), "{} is not known yet", kid);
            }
            world.tokens.retain(|(_, until)| *until >= now);
            for (kid, _) in &world.tokens {
                prop_assert!(kids(world.at(now)).contains(kid), "{} is gone before its token expired", kid);
            }
            let keys = phases(world.at(now), now);
            prop_assert_eq!(keys.iter().filter(|(_, phase)| *phase == Phase::Signing).count(), 1);
            prop_assert!(keys.len() <= MAX_KEYS);
        }
    }
}
