//! Child processes that end with the value that stands for them.

use std::{
    io::Read as _,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::until;

/// How long a process may take to end after SIGTERM or SIGINT.
const END_LIMIT: Duration = Duration::from_secs(10);

/// The `waystation` command under test, without any configuration of the machine it runs on.
pub fn waystation() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waystation"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WAYSTATION_")) {
        command.env_remove(name);
    }
    command
}

/// A running child. Its standard error is kept for the message of a failing test.
pub struct Process {
    child: Child,
    stderr: Arc<Mutex<String>>,
    /// Fills `stderr` until the last process that holds the pipe is gone.
    reader: JoinHandle<()>,
}

impl Process {
    /// Starts a command. Standard output is left as the command has it.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stderr = Arc::new(Mutex::new(String::new()));
        let mut pipe = child.stderr.take().expect("standard error is piped");
        let kept = Arc::clone(&stderr);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                kept.lock().expect("no reader panics").push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        });
        Self { child, stderr, reader }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, once.
    pub fn stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().expect("standard output is piped and was not taken before")
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no reader panics").clone()
    }

    pub fn signal(&self, signal: libc::c_int) {
        kill(self.pid(), signal);
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end, and for the last that it wrote to standard error.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of process {}", self.pid());
        let status = until(&what, limit, || self.ended());
        let what = format!("the end of what process {} writes to standard error", self.pid());
        until(&what, limit, || self.reader.is_finished().then_some(()));
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        self.signal(libc::SIGTERM);
        let ended = (0..END_LIMIT.as_millis() / 10).any(|_| {
            thread::park_timeout(Duration::from_millis(10));
            self.ended().is_some()
        });
        if !ended {
            self.signal(libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal to a process that the test, or a process of the test, started.
pub fn kill(pid: u32, signal: libc::c_int) {
    // SAFETY: kill takes any number; a pid that is gone is answered with an error, which is no harm here.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// Whether a process is there (a zombie is not).
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Runs a command to its end and answers with its standard output.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {:?} {:?}\n{stderr}",
        output.status,
        output.status.signal()
    );
    String::from_utf8(output.stdout).expect("the command prints text")
}
