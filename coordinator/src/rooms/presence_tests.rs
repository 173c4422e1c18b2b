//! Who is heard, doubted, vouched for and gone.

use super::*;

const HEARD_WITHIN: Duration = Duration::from_secs(90);
const WARNING: Duration = Duration::from_secs(30);
/// Whoever is silent for this long is doubted.
const DOUBTED_AFTER: Duration = HEARD_WITHIN.saturating_sub(ASK_FOR);

fn ann() -> Who {
    Who::User(RoomId::new("r").unwrap(), UserId::new("ann").unwrap())
}

fn session(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

struct Scene {
    presence: Presence,
    start: Instant,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let start = Instant::now();
        Self { presence: Presence::new(HEARD_WITHIN, WARNING), start, now: start }
    }

    fn own(&mut self, modified: u64, expires_s: Option<u64>, doubted: bool) {
        let session = session("a");
        self.presence.own(ann(), Seen { session: &session, modified, expires_s, doubted }, self.now);
    }

    fn disown(&mut self, modified: u64, doubted: bool) {
        let session = session("a");
        let seen = Seen { session: &session, modified, expires_s: None, doubted };
        self.presence.disown(ann(), seen, self.now);
    }

    fn heard(&mut self, login: &str) -> bool {
        self.presence.heard(&ann(), &session(login), self.now)
    }

    /// Looks every half second until something is due, for at most this long; after how long it was.
    fn next(&mut self, within: Duration) -> Option<(Duration, Vec<Due>)> {
        let from = self.now;
        while self.now < from + within {
            self.now += Duration::from_millis(500);
            let unix_ms = u64::try_from(self.now.duration_since(self.start).as_millis()).unwrap();
            let due = self.presence.due(self.now, unix_ms);
            if !due.is_empty() {
                return Some((self.now.duration_since(from), due));
            }
        }
        None
    }
}

fn doubtful(modified: u64) -> Vec<Due> {
    vec![Due::Doubtful { who: ann(), session: session("a"), modified }]
}

fn unheard(modified: u64) -> Vec<Due> {
    vec![Due::Unheard { who: ann(), session: session("a"), modified }]
}

#[test]
fn a_user_goes_90_s_after_the_last_word_once_the_others_were_asked() {
    // ROOM-5
    let mut scene = Scene::new();
    scene.own(7, None, false);
    assert_eq!(scene.next(Duration::from_secs(60)), None);
    assert!(!scene.heard("older"), "an older login's beat is not this one's");
    assert!(scene.heard("a"));
    assert_eq!(scene.next(HEARD_WITHIN), Some((DOUBTED_AFTER, doubtful(7))));
    scene.own(8, None, true);
    assert_eq!(scene.next(HEARD_WITHIN), Some((ASK_FOR, unheard(8))));
    scene.presence.forget(&ann());
    assert_eq!(scene.next(HEARD_WITHIN), None);
}

#[test]
fn whoever_is_heard_while_others_are_asked_stays_and_they_are_asked_again_later() {
    // ROOM-5
    let mut scene = Scene::new();
    scene.own(7, None, false);
    scene.next(HEARD_WITHIN);
    scene.own(8, None, true);
    scene.now += Duration::from_millis(100);
    scene.heard("a");
    let (after, due) = scene.next(HEARD_WITHIN).unwrap();
    assert!(after >= DOUBTED_AFTER && due == doubtful(8), "{after:?} {due:?}");
}

#[test]
fn a_coordinator_vouches_for_whom_it_heard_and_only_for_them() {
    // ROOM-5
    let mut scene = Scene::new();
    scene.disown(7, true);
    assert_eq!(scene.next(Duration::from_secs(2)), None, "never heard here");
    assert!(scene.heard("a"));
    let vouch = vec![Due::Vouch { who: ann(), session: session("a") }];
    assert_eq!(scene.next(Duration::from_secs(2)).unwrap().1, vouch);
    scene.disown(9, false);
    assert_eq!(scene.next(HEARD_WITHIN), None, "nobody asks");
    scene.disown(10, true);
    assert_eq!(scene.next(Duration::from_secs(2)), None, "what was heard is too long ago");
}

#[test]
fn whoever_vouches_counts_from_when_it_heard_and_not_from_anew() {
    // ROOM-5
    let mut scene = Scene::new();
    scene.disown(7, false);
    scene.now += Duration::from_secs(20);
    scene.heard("a");
    scene.now += Duration::from_secs(60);
    scene.disown(8, true);
    scene.now += Duration::from_secs(1);
    scene.own(9, None, false);
    let (after, due) = scene.next(HEARD_WITHIN).unwrap();
    assert_eq!((after, due), (Duration::from_secs(9 + 10), doubtful(9)), "80 s after the last word");
    scene.own(10, None, true);
    assert_eq!(scene.next(HEARD_WITHIN), Some((ASK_FOR, unheard(10))), "and then 90");
}

#[test]
fn whoever_heard_somebody_before_its_owner_last_did_does_not_vouch() {
    // ROOM-5: or two would vouch in turn for one who is gone
    let mut scene = Scene::new();
    scene.disown(7, false);
    scene.heard("a");
    scene.now += DOUBTED_AFTER + Duration::from_millis(500);
    scene.disown(8, true);
    assert_eq!(scene.next(Duration::from_secs(2)), None);
    scene.heard("a");
    let vouch = vec![Due::Vouch { who: ann(), session: session("a") }];
    assert_eq!(scene.next(Duration::from_secs(2)).unwrap().1, vouch, "heard since");
}

#[test]
fn a_slow_store_is_no_stall_of_the_coordinator_as_long_as_it_is_awake() {
    // ROOM-5
    let mut scene = Scene::new();
    scene.own(7, None, false);
    scene.next(Duration::from_secs(1));
    for _ in 0..90 {
        scene.now += Duration::from_secs(1);
        scene.presence.awake(scene.now);
    }
    assert_eq!(scene.next(Duration::from_secs(1)), Some((Duration::from_millis(500), doubtful(7))));
}

#[test]
fn after_an_outage_everybody_counted_here_was_heard_just_now() {
    // ROOM-5
    let mut scene = Scene::new();
    scene.own(7, None, false);
    assert_eq!(scene.next(HEARD_WITHIN), Some((DOUBTED_AFTER, doubtful(7))));
    scene.own(8, None, true);
    scene.presence.afresh(scene.now);
    assert_eq!(scene.next(HEARD_WITHIN), Some((DOUBTED_AFTER, doubtful(8))), "nobody was heard for a while");
}

#[test]
fn whoever_is_taken_over_has_its_whole_time_again() {
    // ROOM-13
    let mut scene = Scene::new();
    scene.disown(7, false);
    scene.now += Duration::from_secs(80);
    scene.own(8, None, false);
    let (after, due) = scene.next(HEARD_WITHIN).unwrap();
    assert_eq!(due, doubtful(8));
    assert!(after >= DOUBTED_AFTER);
}

#[test]
fn a_resume_is_heard_and_a_stall_of_the_coordinator_counts_against_nobody() {
    // ROOM-4
    let mut scene = Scene::new();
    scene.own(7, None, false);
    scene.next(Duration::from_secs(1));
    scene.now += Duration::from_secs(500);
    let (after, due) = scene.next(HEARD_WITHIN).unwrap();
    assert!(after >= DOUBTED_AFTER && due == doubtful(7), "{after:?}");
    scene.own(9, None, false);
    assert_eq!(scene.next(HEARD_WITHIN).unwrap(), (DOUBTED_AFTER, doubtful(9)));
}

#[test]
fn a_plain_publisher_goes_without_a_question() {
    // PUB-7
    let mut scene = Scene::new();
    let plain = Who::Plain(StreamKey {
        room: RoomId::new("r").unwrap(),
        stream: waystation_proto::StreamId::new("s").unwrap(),
    });
    let session = session("plain-1");
    let seen = Seen { session: &session, modified: 3, expires_s: None, doubted: false };
    scene.presence.own(plain.clone(), seen, scene.now);
    let due = vec![Due::Unheard { who: plain, session: session.clone(), modified: 3 }];
    assert_eq!(scene.next(HEARD_WITHIN), Some((HEARD_WITHIN, due)));
}

#[test]
fn a_token_is_warned_of_once_30_s_ahead_and_expires_unless_renewed() {
    // ROOM-8
    let mut scene = Scene::new();
    scene.own(7, Some(60), false);
    let warned = vec![Due::Expiring { who: ann(), session: session("a"), within: WARNING }];
    assert_eq!(scene.next(HEARD_WITHIN), Some((Duration::from_secs(30), warned)));
    scene.own(8, Some(60), false);
    let expired = vec![Due::Expired { who: ann(), session: session("a"), modified: 8 }];
    assert_eq!(scene.next(HEARD_WITHIN), Some((Duration::from_secs(30), expired)));
    scene.own(9, Some(120), false);
    let (after, due) = scene.next(HEARD_WITHIN).unwrap();
    assert_eq!(
        (after, due.len()),
        (Duration::from_secs(30), 1),
        "renewed: the next warning is for the new token"
    );
}

#[test]
fn an_entry_that_is_doubted_when_it_becomes_ours_is_asked_about_anew() {
    // ROOM-13
    let mut scene = Scene::new();
    scene.own(7, None, true);
    assert_eq!(scene.next(HEARD_WITHIN), Some((DOUBTED_AFTER, doubtful(7))));
}

#[test]
fn others_have_their_time_to_answer_whenever_they_were_asked() {
    // ROOM-5
    let mut scene = Scene::new();
    scene.own(7, None, false);
    scene.now += Duration::from_secs(5);
    scene.own(8, None, true);
    let whole = HEARD_WITHIN.saturating_sub(Duration::from_secs(5));
    assert_eq!(scene.next(HEARD_WITHIN), Some((whole, unheard(8))), "asked early");
    scene.own(9, None, false);
    for _ in 0..95 {
        scene.now += Duration::from_secs(1);
        scene.presence.awake(scene.now);
    }
    scene.own(10, None, true);
    assert_eq!(scene.next(HEARD_WITHIN), Some((ASK_FOR, unheard(10))), "asked late");
}

#[test]
fn whoever_counted_somebody_vouches_for_what_it_heard_then_but_not_for_ever() {
    // ROOM-5
    let mut scene = Scene::new();
    scene.own(7, None, false);
    scene.disown(8, false);
    scene.now += Duration::from_secs(79);
    scene.disown(9, true);
    let vouch = vec![Due::Vouch { who: ann(), session: session("a") }];
    assert_eq!(scene.next(Duration::from_secs(1)).unwrap().1, vouch);
    scene.now += Duration::from_secs(11);
    assert_eq!(scene.next(Duration::from_secs(5)), None, "it was not written in time");
}

#[test]
fn a_login_whose_token_expired_is_due_for_that_alone() {
    // ROOM-8
    let mut scene = Scene::new();
    scene.own(7, Some(1), false);
    let expired = vec![Due::Expired { who: ann(), session: session("a"), modified: 7 }];
    assert_eq!(scene.presence.due(scene.now + HEARD_WITHIN, 90_000), expired);
}
