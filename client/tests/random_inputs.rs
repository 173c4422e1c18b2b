//! The machines under any inputs in any order, late answers among them: no panic, and what always holds holds.
//!
//! Inputs are lines of the transcripts' language, so that a case that fails reads as one.

#[path = "transcripts/words/mod.rs"]
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use waystation_client::{
    Hedging,
    machine::{AttemptId, Client, Event, Input, Output, PlayerState, PublisherState, Settings},
};
use waystation_proto::{Claim, StreamKey, token::Action};

/// A line, and when it comes. `$A`, `$C` and `$R` are the latest attempt, connection and request, or one before it.
#[derive(Clone, Debug)]
struct Line {
    after_ms: u64,
    /// Whether the machine is told of the times that it asks for on the way.
    timers: bool,
    back: u64,
    text: String,
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(texts).prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    let app = one_of(&[
        "login hall tok",
        "login hall tok notify",
        "login attic tok",
        "logout hall",
        "logout attic",
        "renew hall tok2",
        "publish hall/cam",
        "publish attic/cam",
        "unpublish hall/cam",
        "play hall/cam",
        "play hall/mic",
        "unplay hall/mic",
        "close",
    ]);
    let coordinator = one_of(&[
        "welcome $C http://c1 http://c2",
        "welcome $C http://c3",
        "roomup $C hall s1 x:1 streams=mic:ann:s2:1",
        "roomup $C hall s1 y:3",
        "roomup $C attic s3 x:2",
        "nodes $C a b c",
        "nodes $C a#2 b",
        "nodes $C b! c",
        "nodes $C",
        "plan $R ok claim=1.0 a b c",
        "plan $R ok claim=2.7 valid=2000 c a",
        "plan $R ok a b c",
        "plan $R ok",
        "beat $C ok",
        "beat $C ok",
    ]);
    let trouble = one_of(&[
        "lost $C",
        "tryother $C",
        "suspect $C a",
        "suspect $C b",
        "beat $C failed",
        "beat $C notconnected",
        "beat $C ok hall",
        "roomdown $C hall 1002050",
        "roomdown $C attic 0",
        "loginfailed $C hall 1002033",
        "loginfailed $C hall failed",
        "plan $R failed",
        "plan $R notconnected",
        "plan $R 1003028",
        "plan $R 1004002",
        "expiring $C hall 30",
        "change $C hall x:2 -stream mic:ann:s2:1",
        "change $C hall x:3 +stream mic:ann:s2:2 +user ann:s2",
    ]);
    let session = one_of(&[
        "answered $A",
        "up $A",
        "up $A",
        "media $A",
        "heard $A",
        "heard $A",
        "phase $A idle",
        "phase $A flowing",
        "phase $A flowing 1.1",
        "phase $A originlost",
        "phase $A standby",
        "eventsup a",
        "eventsup b",
        "eventsup c",
        "eventsup a a#2",
    ]);
    let failure = one_of(&[
        "fail $A unreachable",
        "fail $A timedout",
        "fail $A nothere",
        "fail $A higherclaim",
        "fail $A tokenrefused",
        "fail $A refused",
        "fail $A down",
        "fail $A closed",
        "eventslost a broken",
        "eventslost b refused",
        "eventslost c noanswer",
    ]);
    prop_oneof![1 => app, 3 => coordinator, 1 => trouble, 4 => session, 2 => failure]
}

fn line() -> impl Strategy<Value = Line> {
    let after_ms = prop_oneof![4 => 0..20u64, 3 => 20..400u64, 2 => 400..3_000u64, 1 => 3_000..400_000u64];
    let back = prop_oneof![5 => Just(0u64), 2 => Just(1), 1 => 2..6u64];
    (after_ms, prop::bool::weighted(0.8), back, text()).prop_map(|(after_ms, timers, back, text)| Line {
        after_ms,
        timers,
        back,
        text,
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    let retry = prop_oneof![1 => Just(0u64), 1 => Just(5), 4 => Just(300)];
    (any::<u64>(), retry.clone(), retry, any::<bool>()).prop_map(|(seed, room_s, av_s, hedging)| Settings {
        coordinators: vec!["http://c1".into(), "http://c2".into()],
        seed,
        room_retry_time: Duration::from_secs(room_s),
        av_retry_time: Duration::from_secs(av_s),
        max_rooms: 2,
        hedging: if hedging { Hedging::On } else { Hedging::Off },
    })
}

/// What the outputs add up to.
struct Driven {
    client: Client,
    start: Instant,
    now_ms: u64,
    attempts: u64,
    connections: u64,
    requests: u64,
    /// Attempts that are dialled and not hung up.
    live: BTreeMap<AttemptId, (StreamKey, &'static str)>,
    used: BTreeMap<(StreamKey, &'static str), AttemptId>,
    claims: BTreeMap<StreamKey, Claim>,
    /// Streams whose machines have not ended.
    open: BTreeSet<(StreamKey, &'static str)>,
    said: Vec<String>,
}

fn kind(action: Action) -> &'static str {
    match action {
        Action::Publish => "publish",
        Action::Play => "play",
    }
}

impl Driven {
    fn new(settings: Settings) -> Self {
        Self {
            client: Client::new(settings),
            start: Instant::now(),
            now_ms: 0,
            attempts: 0,
            connections: 0,
            requests: 0,
            live: BTreeMap::new(),
            used: BTreeMap::new(),
            claims: BTreeMap::new(),
            open: BTreeSet::new(),
            said: Vec::new(),
        }
    }

    fn line(&mut self, line: &Line) {
        let to_ms = self.now_ms + line.after_ms;
        if line.timers {
            self.advance(to_ms);
        }
        self.now_ms = to_ms;
        let resolve = |latest: u64| latest.saturating_sub(line.back).to_string();
        let attempt = AttemptId(self.attempts.saturating_sub(line.back));
        let over = line.text.contains("$A") && !self.live.contains_key(&attempt);
        let text = line
            .text
            .replace("$A", &resolve(self.attempts))
            .replace("$C", &resolve(self.connections))
            .replace("$R", &resolve(self.requests));
        self.said.push(format!("@{} {text}", self.now_ms));
        let now = self.start + Duration::from_millis(self.now_ms);
        let words: Vec<&str> = text.split_whitespace().collect();
        let outputs = self.handle(words::parse(&words, now).expect("the line is an input"));
        if over {
            // What was due at this time anyway may come: nothing of a stream.
            assert!(!outputs.iter().any(of_a_stream), "an answer to an attempt that is over: {outputs:?}");
        }
    }

    fn advance(&mut self, to_ms: u64) {
        const MOST_JUMPS: u32 = 200_000;
        const MOST_AT_ONCE: u32 = 50;
        let mut at_once = 0;
        for _ in 0..MOST_JUMPS {
            let due = self.client.poll_timeout().map(|due| due.saturating_duration_since(self.start));
            let due_ms = due.map_or(u64::MAX, |due| u64::try_from(due.as_micros().div_ceil(1_000)).unwrap());
            if due_ms > to_ms {
                return;
            }
            at_once = if due_ms <= self.now_ms { at_once + 1 } else { 0 };
            assert!(at_once < MOST_AT_ONCE, "it asks for the same time again and again");
            self.now_ms = self.now_ms.max(due_ms);
            self.handle(Input::Timeout);
        }
        panic!("it asks for too many times");
    }

    fn handle(&mut self, input: Input) -> Vec<Output> {
        let now = self.start + Duration::from_millis(self.now_ms);
        self.client.handle(input, now);
        let mut outputs = Vec::new();
        while let Some(output) = self.client.poll_output() {
            self.said.push(format!("  {} {}", self.now_ms, words::show(&output)));
            self.output(&output);
            outputs.push(output);
        }
        for (key, kind) in &self.open {
            let sessions = self.live.values().filter(|(of, what)| of == key && what == kind).count();
            assert!(
                sessions <= 2,
                "{kind} {key} has {sessions} sessions: one in use, and a hedge, are all that may be"
            );
        }
        assert!(
            self.open.is_empty() || self.client.poll_timeout().is_some(),
            "an open stream has a deadline"
        );
        outputs
    }

    fn output(&mut self, output: &Output) {
        match output {
            Output::Connect { connection, .. } => {
                assert!(connection.0 > self.connections, "connection numbers rise");
                self.connections = connection.0;
            }
            Output::Plan { request, action, stream, session, .. } => {
                self.requests = request.0;
                let key = StreamKey { room: session.room.clone(), stream: stream.clone() };
                assert!(self.open.contains(&(key, kind(*action))), "a plan for a stream that is over");
            }
            Output::Dial { attempt, key, action, node_token, .. } => {
                assert!(attempt.0 > self.attempts, "attempt ids are fresh");
                assert!(!node_token.is_empty(), "no dial without a token");
                self.attempts = attempt.0;
                self.live.insert(*attempt, (key.clone(), kind(*action)));
            }
            Output::Use { attempt, key, action } => {
                assert_eq!(self.live.get(attempt), Some(&(key.clone(), kind(*action))));
                self.used.insert((key.clone(), kind(*action)), *attempt);
            }
            Output::Hang(attempt) => {
                assert!(self.live.remove(attempt).is_some(), "{attempt} was hung up before");
                self.used.retain(|_, used| used != attempt);
            }
            Output::Activate { attempt, claim } => {
                let (key, _) = &self.live[attempt];
                let before = self.claims.insert(key.clone(), *claim);
                // The same one may be sent again.
                assert!(before.is_none_or(|before| before <= *claim), "claims rise");
            }
            Output::Emit(Event::Publisher(update)) => {
                let ended = update.state == PublisherState::NoPublish;
                self.stands(&update.key, "publish", ended, update.state == PublisherState::Publishing);
            }
            Output::Emit(Event::Player(update)) => {
                let ended = update.state == PlayerState::NoPlay;
                self.stands(&update.key, "play", ended, update.state == PlayerState::Playing);
            }
            Output::Emit(
                Event::Room(_)
                | Event::Attempt(_)
                | Event::Gap(_)
                | Event::Users(_)
                | Event::Streams(_)
                | Event::TokenExpiring { .. },
            )
            | Output::Disconnect(_)
            | Output::Login { .. }
            | Output::Beat { .. }
            | Output::Logout { .. }
            | Output::RenewToken { .. }
            | Output::EndStream { .. }
            | Output::Report { .. }
            | Output::OpenEvents(_)
            | Output::CloseEvents(_) => {}
        }
    }

    fn stands(&mut self, key: &StreamKey, kind: &'static str, ended: bool, works: bool) {
        let stream = (key.clone(), kind);
        if ended {
            assert!(self.open.remove(&stream), "{kind} {key} ends twice");
            assert!(
                !self.live.values().any(|live| *live == stream),
                "{kind} {key} ends and leaves a session up"
            );
            self.claims.remove(key);
            return;
        }
        self.open.insert(stream.clone());
        assert!(!works || self.used.contains_key(&stream), "{kind} {key} works and uses no session");
    }
}

impl Drop for Driven {
    /// A case that fails is told as a transcript; the last one is the shortest.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---\n{}", self.said.join("\n"));
        }
    }
}

fn of_a_stream(output: &Output) -> bool {
    matches!(
        output,
        Output::Dial { .. }
            | Output::Use { .. }
            | Output::Hang(_)
            | Output::Activate { .. }
            | Output::Emit(Event::Publisher(_) | Event::Player(_) | Event::Attempt(_))
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_inputs_breaks_what_always_holds(
        settings in settings(),
        lines in prop::collection::vec(line(), 1..150),
    ) {
        // PUB-2, PUB-3, PLAY-2, PLAY-3, PUB-11
        let mut driven = Driven::new(settings);
        let first = ["login hall tok", "welcome $C http://c1", "roomup $C hall s1 x:1", "nodes $C a b c",
            "publish hall/cam", "plan $R ok claim=1.0 a b c"];
        for text in first {
            driven.line(&Line { after_ms: 1, timers: true, back: 0, text: text.into() });
        }
        for line in &lines {
            driven.line(line);
        }
    }
}
