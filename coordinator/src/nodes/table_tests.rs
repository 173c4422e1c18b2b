//! Relays that beat, fall silent and come back, on a clock that the tests set.

use super::*;

const FORGOTTEN: Duration = Duration::from_secs(10);

fn node(n: u32, incarnation: u64) -> Node {
    Node {
        node: NodeRef { id: NodeId::new(&format!("n{n}")).unwrap(), incarnation },
        http_url: "http://x".into(),
        link_url: "http://x".into(),
        media_addr: "127.0.0.1:1".parse().unwrap(),
        region: String::new(),
        health: Health::Healthy,
        load: Load::default(),
    }
}

struct Scene {
    table: Table,
    now: Instant,
    attachments: BTreeMap<u32, AttachmentId>,
}

impl Scene {
    fn of(count: u32) -> Self {
        let now = Instant::now();
        let mut scene = Self { table: Table::new(FORGOTTEN), now, attachments: BTreeMap::new() };
        for n in 0..count {
            let attachment = scene.attach(node(n, 1));
            scene.attachments.insert(n, attachment);
        }
        scene.settle();
        scene
    }

    /// A relay attaches, and beats for the first time.
    fn attach(&mut self, node: Node) -> AttachmentId {
        let id = node.node.id.clone();
        let attachment = self.table.attach(node, self.now).unwrap();
        self.table.heard(&id, attachment, None, self.now);
        attachment
    }

    /// What is wanted, as text, and done.
    fn settle(&mut self) -> Vec<String> {
        let wanted = self.table.wanted(self.now);
        for one in &wanted {
            self.table.written(one, self.now);
        }
        let text = |one: &Wanted| match one {
            Wanted::Put(node) | Wanted::Missed(node) => format!("{} {:?}", node.node.id, node.health),
            Wanted::Delete(node) => format!("{} gone", node.id),
        };
        wanted.iter().map(text).collect()
    }

    /// Time passes in beats of those named.
    fn pass(&mut self, time: Duration, beating: impl IntoIterator<Item = u32>) -> Vec<String> {
        let beating: Vec<_> = beating.into_iter().collect();
        let mut all = Vec::new();
        for _ in 0..time.as_millis() / 100 {
            self.now += Duration::from_millis(100);
            for n in &beating {
                self.table.heard(&node(*n, 1).node.id, self.attachments[n], None, self.now);
            }
            self.table.tick(self.now);
            all.extend(self.settle());
        }
        all
    }
}

#[test]
fn three_missed_beats_make_a_node_suspect_and_ten_seconds_make_it_gone() {
    // GO-2
    let mut scene = Scene::of(4);
    assert!(scene.pass(Duration::from_secs(3), 0..4).is_empty());
    assert!(scene.pass(Duration::from_millis(500), 0..3).is_empty());
    assert_eq!(scene.pass(Duration::from_millis(100), 0..3), ["n3 Suspect"]);
    assert!(scene.pass(Duration::from_millis(9300), 0..3).is_empty());
    assert_eq!(scene.pass(Duration::from_millis(100), 0..3), ["n3 gone"]);
}

#[test]
fn a_broken_stream_makes_a_node_suspect_at_once_and_its_return_healthy() {
    // GO-2
    let mut scene = Scene::of(4);
    let id = node(2, 1).node.id;
    scene.table.broke(&id, scene.attachments[&2], scene.now);
    assert_eq!(scene.settle(), ["n2 Suspect"]);
    let again = scene.attach(node(2, 1));
    assert_eq!(scene.settle(), ["n2 Healthy"]);
    scene.table.broke(&id, scene.attachments[&2], scene.now);
    assert!(scene.settle().is_empty(), "the end of the older attachment is no news");
    assert!(scene.table.is_current(&id, again));
}

#[test]
fn a_relay_is_named_once_it_beats_for_before_that_it_may_have_no_keys() {
    let mut scene = Scene::of(1);
    let id = node(1, 1).node.id;
    let attachment = scene.table.attach(node(1, 1), scene.now).unwrap();
    assert!(scene.table.is_current(&id, attachment));
    assert!(scene.settle().is_empty());
    scene.table.heard(&id, attachment, None, scene.now);
    assert_eq!(scene.settle(), ["n1 Healthy"]);
    scene.table.attach(node(2, 1), scene.now).unwrap();
    scene.attachments.insert(1, attachment);
    assert_eq!(scene.pass(Duration::from_secs(20), 0..2), ["n2 gone"], "it never beat");
}

#[test]
fn a_relay_that_greets_again_and_then_falls_silent_is_missed_like_any_other() {
    // GO-2
    let mut scene = Scene::of(3);
    scene.table.attach(node(2, 1), scene.now).unwrap();
    assert_eq!(scene.pass(Duration::from_secs(1), 0..2), ["n2 Suspect"]);
}

#[test]
fn a_restarted_relay_is_a_new_one_and_its_older_life_is_refused() {
    let mut scene = Scene::of(1);
    scene.attach(node(0, 2));
    assert_eq!(scene.settle(), ["n0 Healthy"]);
    assert!(matches!(scene.table.attach(node(0, 1), scene.now), Err(AttachRefusal::Older(_))));
}

#[test]
fn a_coordinator_that_loses_many_at_once_says_nothing_until_they_are_back_or_forgotten() {
    // GO-2
    let mut scene = Scene::of(4);
    assert!(scene.pass(Duration::from_secs(9), 0..2).is_empty(), "two of four");
    assert!(scene.table.suspects_itself());
    assert!(scene.pass(Duration::from_secs(1), 0..4).is_empty());
    assert!(!scene.table.suspects_itself(), "they are back");
    let said = scene.pass(Duration::from_secs(12), 0..2);
    assert_eq!(said, ["n2 gone", "n3 gone"], "they stayed away");
}

#[test]
fn what_another_relay_misses_too_is_no_fault_of_ours() {
    // GO-2
    let mut scene = Scene::of(3);
    scene.table.missed_by_peer(&node(2, 1).node);
    assert_eq!(scene.pass(Duration::from_secs(1), 0..1), ["n2 Suspect"], "two of three are silent");
    assert!(scene.table.suspects_itself());
}

#[test]
fn an_adopted_relay_has_a_rest_then_is_missed_and_then_is_gone() {
    // GO-2
    let mut scene = Scene::of(2);
    scene.table.adopt(node(7, 1), scene.now);
    assert_eq!(scene.settle(), ["n7 Healthy"], "it is ours now");
    assert!(scene.pass(Duration::from_millis(2500), 0..2).is_empty());
    assert_eq!(scene.pass(Duration::from_millis(100), 0..2), ["n7 Suspect"]);
    assert_eq!(scene.pass(Duration::from_secs(10), 0..2), ["n7 gone"]);
}

#[test]
fn an_outage_of_the_store_is_held_against_no_relay() {
    // GO-2
    let mut scene = Scene::of(3);
    for _ in 0..300 {
        scene.now += Duration::from_millis(100);
        scene.table.tick(scene.now);
    }
    scene.table.after_outage(scene.now);
    assert!(scene.pass(Duration::from_millis(1900), []).is_empty());
    for n in 0..3 {
        scene.table.adopt(node(n, 1), scene.now);
    }
    assert_eq!(scene.pass(Duration::from_secs(1), []).len(), 3, "they are taken for ours, and are healthy");
}

#[test]
fn relays_that_were_sent_away_in_an_outage_are_missed_only_after_a_rest() {
    // GO-2
    let mut scene = Scene::of(3);
    for n in 0..3 {
        let id = node(n, 1).node.id;
        scene.table.broke(&id, scene.attachments[&n], scene.now);
    }
    scene.now += Duration::from_secs(4);
    scene.table.after_outage(scene.now);
    assert!(scene.pass(Duration::from_millis(2500), []).is_empty());
    assert!(scene.pass(Duration::from_millis(200), []).is_empty(), "all at once: it suspects itself");
    let said = scene.pass(Duration::from_secs(10), []);
    assert_eq!(said, ["n0 gone", "n1 gone", "n2 gone"]);
}

#[test]
fn only_a_relay_that_is_attached_and_beats_is_taken_from_another() {
    let mut scene = Scene::of(2);
    scene.attach(node(5, 1));
    assert!(matches!(scene.table.wanted(scene.now).as_slice(), [Wanted::Put(_)]));
    scene.settle();
    scene.table.adopt(node(7, 1), scene.now);
    assert!(matches!(scene.table.wanted(scene.now).as_slice(), [Wanted::Missed(_)]));
    scene.settle();
    scene.table.broke(&node(0, 1).node.id, scene.attachments[&0], scene.now);
    assert!(matches!(scene.table.wanted(scene.now).as_slice(), [Wanted::Missed(_)]));
}

#[test]
fn a_single_relay_is_never_our_own_fault() {
    let mut scene = Scene::of(1);
    assert_eq!(scene.pass(Duration::from_secs(1), []), ["n0 Suspect"]);
}

#[test]
fn a_coordinator_that_stood_still_suspects_nobody_for_it() {
    let mut scene = Scene::of(3);
    scene.pass(Duration::from_secs(1), 0..3);
    scene.now += Duration::from_secs(60);
    scene.table.tick(scene.now);
    assert!(scene.settle().is_empty());
}

#[test]
fn a_stop_of_any_length_is_held_against_no_relay_that_beats_and_a_dead_one_is_missed_all_the_same() {
    // GO-2
    for stop_ms in (0..=3000).step_by(50) {
        let mut scene = Scene::of(1);
        assert!(scene.pass(Duration::from_secs(1), [0]).is_empty());
        // Its next beat is due just now.
        scene.now += BEAT_EVERY;
        scene.table.tick(scene.now);
        scene.now += Duration::from_millis(stop_ms);
        scene.table.tick(scene.now);
        assert!(scene.settle().is_empty(), "{stop_ms} ms");
        assert_eq!(scene.pass(Duration::from_millis(600), []), ["n0 Suspect"], "{stop_ms} ms");
    }
}

#[test]
fn load_is_written_in_coarse_steps_and_seldom() {
    let mut scene = Scene::of(1);
    let mut writes = 0;
    for tenth in 1..=100u32 {
        scene.now += Duration::from_millis(100);
        let load = Load { busy_permille: tenth * 10, players: tenth, ..Load::default() };
        scene.table.heard(&node(0, 1).node.id, scene.attachments[&0], Some(load), scene.now);
        scene.table.tick(scene.now);
        writes += scene.settle().len();
    }
    assert!((3..=5).contains(&writes), "{writes} writes in 10 s");
}

#[test]
fn a_relay_that_comes_back_is_no_loss_any_more_and_is_not_written_again() {
    // GO-2
    let mut scene = Scene::of(5);
    for n in [0, 1] {
        scene.table.broke(&node(n, 1).node.id, scene.attachments[&n], scene.now);
    }
    assert!(scene.table.suspects_itself());
    let again = scene.attach(node(0, 1));
    assert!(!scene.table.suspects_itself(), "one that is lost is no fault of ours");
    assert_eq!(scene.settle(), ["n1 Suspect"], "nobody heard of the first");
    scene.attachments.insert(0, again);
}

#[test]
fn a_relay_that_is_gone_stays_gone_until_that_is_written_or_it_attaches() {
    // GO-2
    let mut scene = Scene::of(1);
    let gone = |scene: &Scene| scene.table.wanted(scene.now) == [Wanted::Delete(node(0, 1).node)];
    for _ in 0..110 {
        scene.now += Duration::from_millis(100);
        scene.table.tick(scene.now);
    }
    assert!(gone(&scene));
    scene.table.adopt(node(0, 1), scene.now);
    assert!(gone(&scene), "the store still has it: that is no reason");
    scene.table.written(&Wanted::Delete(node(0, 2).node), scene.now);
    assert!(gone(&scene), "another life of it was deleted");
    scene.attach(node(0, 1));
    assert_eq!(scene.settle(), ["n0 Healthy"]);
}

#[test]
fn one_that_suspects_itself_deletes_nobody() {
    // GO-2
    let mut scene = Scene::of(5);
    scene.pass(Duration::from_secs(8), 0..4);
    for n in [0, 1] {
        scene.table.broke(&node(n, 1).node.id, scene.attachments[&n], scene.now);
    }
    assert!(scene.pass(Duration::from_secs(3), 2..4).is_empty(), "n4 is gone, two more are lost");
    assert_eq!(scene.pass(Duration::from_secs(8), 2..4), ["n0 gone", "n1 gone", "n4 gone"]);
}

#[test]
fn a_peers_word_counts_for_that_life_of_the_relay_and_until_it_is_heard() {
    // GO-2
    let mut scene = Scene::of(3);
    scene.table.missed_by_peer(&node(2, 7).node);
    assert!(scene.pass(Duration::from_secs(1), 0..1).is_empty(), "another life of it");
    scene.pass(Duration::from_secs(1), 0..3);
    scene.table.missed_by_peer(&node(2, 1).node);
    scene.pass(Duration::from_millis(200), 0..3);
    assert!(scene.pass(Duration::from_secs(1), 0..1).is_empty(), "it was heard since");
}

#[test]
fn a_relay_that_went_to_another_coordinator_is_that_ones_business() {
    // GO-2
    let mut scene = Scene::of(4);
    scene.table.release(&node(3, 1).node.id);
    assert!(scene.pass(Duration::from_secs(20), 0..3).is_empty());
}
