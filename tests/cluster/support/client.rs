//! A publisher or player as a process: what it prints with `--json`, and how it ends.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{SOON, process::Process};

/// A client process. Its events are read as they come and kept in order.
pub struct Client {
    process: Process,
    lines: Receiver<Value>,
    seen: Vec<Value>,
    /// Events before this index were handed out by [`Client::next`].
    read: usize,
}

impl Client {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut process = Process::start(command.stdout(Stdio::piped()));
        let stdout = process.stdout();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Self { process, lines, seen: Vec::new(), read: 0 }
    }

    /// The next event for which `wanted` holds, from where the last call stopped.
    #[track_caller]
    pub fn next(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.next_within(what, SOON, wanted)
    }

    /// The same with a limit of its own.
    #[track_caller]
    pub fn next_within(&mut self, what: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + limit;
        loop {
            while let Some(event) = self.seen.get(self.read) {
                self.read += 1;
                if wanted(event) {
                    return event.clone();
                }
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => self.seen.push(event),
                Err(RecvTimeoutError::Timeout) => panic!("{what}: not within {limit:?}; {}", self.story()),
                Err(RecvTimeoutError::Disconnected) => panic!("{what}: the client ended; {}", self.story()),
            }
        }
    }

    /// Waits for a state of the publisher or player: 0, 1 or 2 with a code.
    #[track_caller]
    pub fn state(&mut self, machine: &str, number: u64, code: u64) -> Value {
        self.next(&format!("{machine} state {number} with code {code}"), |event| {
            event["event"] == "state"
                && event["machine"] == machine
                && event["state"] == number
                && event["code"] == code
        })
    }

    /// What came up to now is not handed out by [`Client::next`] any more: it says nothing about what is done from here on.
    pub fn pass_over(&mut self) {
        self.read = self.seen().len();
    }

    /// All events up to now.
    pub fn seen(&mut self) -> &[Value] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// All events of a kind up to now.
    pub fn events(&mut self, kind: &str) -> Vec<Value> {
        self.seen().iter().filter(|event| event["event"] == kind).cloned().collect()
    }

    /// Ends it as a person would, with Ctrl-C, and answers with its exit status.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal(libc::SIGINT);
        self.end(SOON)
    }

    /// Waits for its end and reads all that it printed.
    #[track_caller]
    pub fn end(&mut self, limit: Duration) -> ExitStatus {
        let status = self.process.wait(limit);
        while let Ok(event) = self.lines.recv_timeout(SOON) {
            self.seen.push(event);
        }
        status
    }

    /// SIGSTOP: it does nothing by itself any more, such as ending its own sessions.
    pub fn freeze(&self) {
        self.process.signal(libc::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process.signal(libc::SIGCONT);
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.process.signal(libc::SIGKILL);
    }

    /// Everything, for the message of a failing test.
    pub fn story(&mut self) -> String {
        let lines: Vec<String> = self.seen().iter().map(Value::to_string).collect();
        format!("it printed:\n{}\nand on standard error:\n{}", lines.join("\n"), self.process.stderr())
    }
}
