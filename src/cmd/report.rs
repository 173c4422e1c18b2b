//! What `publish` and `play` tell while they run: one JSON object a line for scripts, or sentences for a person.

use std::{
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use waystation_client::{Event, NodeRef};

/// Exit status after a final failure.
const FAILED: u8 = 3;

/// How often statistics are told.
pub const STATS_EVERY: Duration = Duration::from_millis(500);

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// As it was meant to: the clip ended, the time was up, the person or the publisher stopped it.
    Clean {
        /// 0, or the code with which the stream ended.
        code: u32,
    },
    /// By a final failure.
    Failed {
        /// A number of the error table.
        code: u32,
        /// What the failure came with: the trace of attempts, for one.
        extended: Value,
    },
}

impl End {
    /// The final failure that an event is, if it is one.
    pub fn of(event: &Event) -> Option<Self> {
        let (is_final, code, extended) = match event {
            Event::Room(update) => (update.is_final(), update.code, &update.extended),
            Event::Publisher(update) => (update.is_final(), update.code, &update.extended),
            Event::Player(update) => (update.is_final(), update.code, &update.extended),
            Event::Attempt(_)
            | Event::Gap(_)
            | Event::Users(_)
            | Event::Streams(_)
            | Event::TokenExpiring { .. } => return None,
        };
        is_final.then(|| Self::Failed { code, extended: extended.clone() })
    }
}

/// For whom it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For a machine, on standard output.
    Json,
    /// For a person, on standard error.
    Sentences,
    /// For a person, with a line of figures that is written over again and again, and by whatever else is told.
    LiveLine,
}

/// Where it is told.
#[derive(Debug)]
pub struct Report {
    started: Instant,
    form: Form,
}

/// Back to the line's start, and clears it.
const CLEAR_LINE: &str = "\r\x1b[K";

impl Report {
    /// Starts the clock of `t_ms`.
    pub fn new(form: Form) -> Self {
        Self { started: Instant::now(), form }
    }

    /// Tells an event of the SDK.
    pub fn event(&self, event: &Event) {
        match self.form {
            Form::Json => {
                let (name, body) = event_json(event);
                self.line(name, body);
            }
            Form::Sentences | Form::LiveLine => {
                self.sentence(&format!("{:>8.3}  {event}", self.started.elapsed().as_secs_f64()));
            }
        }
    }

    /// Tells a person, whatever the form, a sentence that no machine needs.
    pub fn sentence(&self, text: &str) {
        match self.form {
            Form::Json | Form::Sentences => eprintln!("{text}"),
            Form::LiveLine => eprintln!("{CLEAR_LINE}{text}"),
        }
    }

    /// Tells figures: `text` makes the live line for a person.
    pub fn stats(&self, body: Value, text: impl FnOnce() -> String) {
        match self.form {
            Form::Json => self.line("stats", body),
            Form::Sentences => {}
            Form::LiveLine => {
                eprint!("{CLEAR_LINE}{}", text());
                let _ = std::io::stderr().flush();
            }
        }
    }

    /// Tells the last figures: `text` takes the live line's place and stays.
    pub fn last_stats(&self, body: Value, text: impl FnOnce() -> String) {
        match self.form {
            Form::Json => self.line("stats", body),
            Form::Sentences => {}
            Form::LiveLine => self.sentence(&text()),
        }
    }

    /// Tells the end, and makes the exit status of it.
    pub fn end(&self, end: &End) -> ExitCode {
        let (code, extended, status) = match end {
            End::Clean { code } => (*code, Value::Null, ExitCode::SUCCESS),
            End::Failed { code, extended } => (*code, extended.clone(), ExitCode::from(FAILED)),
        };
        match self.form {
            Form::Json => self.line("end", json!({ "code": code, "trace": extended["trace"] })),
            Form::Sentences | Form::LiveLine => {}
        }
        status
    }

    fn line(&self, event: &str, mut body: Value) {
        body["t_ms"] = json!(self.started.elapsed().as_millis() as u64);
        body["event"] = event.into();
        let mut out = std::io::stdout().lock();
        // Nobody reads any more: the run goes on to its end.
        let _ = writeln!(out, "{body}").and_then(|()| out.flush());
    }
}

fn name(node: Option<&NodeRef>) -> Value {
    node.map_or(Value::Null, |node| node.id.to_string().into())
}

fn state(
    machine: &str,
    number: u8,
    code: u32,
    node: Option<&NodeRef>,
    extended: &Value,
) -> (&'static str, Value) {
    let body = json!({ "machine": machine, "state": number, "code": code, "node": name(node), "extended": extended });
    ("state", body)
}

fn event_json(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Room(room) => state("room", room.state.number(), room.code, None, &room.extended),
        Event::Publisher(update) => {
            state("publisher", update.state.number(), update.code, update.node.as_ref(), &update.extended)
        }
        Event::Player(update) => {
            state("player", update.state.number(), update.code, update.node.as_ref(), &update.extended)
        }
        Event::Attempt(attempt) => {
            let (node, outcome) = (name(Some(&attempt.node)), attempt.outcome.to_string());
            (
                "attempt",
                json!({ "node": node, "outcome": outcome, "took_ms": attempt.took.as_millis() as u64 }),
            )
        }
        Event::Gap(gap) => {
            let (before, after) = (name(gap.before.as_ref()), name(gap.after.as_ref()));
            ("gap", json!({ "gap_ms": gap.lasted.as_millis() as u64, "before": before, "after": after }))
        }
        Event::Users(update) => {
            let users: Vec<&str> = update.users.iter().map(|entry| entry.user.as_str()).collect();
            ("update", json!({ "kind": "user", "change": update.change, "ids": users }))
        }
        Event::Streams(update) => {
            let streams: Vec<&str> = update.streams.iter().map(|entry| entry.stream.as_str()).collect();
            ("update", json!({ "kind": "stream", "change": update.change, "ids": streams }))
        }
        Event::TokenExpiring { in_, .. } => ("token_expiring", json!({ "in_ms": in_.as_millis() as u64 })),
    }
}
