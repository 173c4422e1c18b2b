//! Chromium at the console page.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

/// Folder of the console page, which must have been built.
#[track_caller]
pub fn page() -> PathBuf {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/dist");
    assert!(page.join("index.html").exists(), "the page is not built: run `make web` first");
    page
}

/// Chromium at the console page, told what to do line by line; see `web/e2e/browser.mjs`.
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    /// Opens no tab yet. `token` is pasted where no development server gives one; `place` says where the driver runs.
    #[track_caller]
    pub fn start(page: &str, token: Option<&str>, place: impl FnOnce(Command) -> Command) -> Self {
        let mut driver = Command::new("node");
        driver.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("web/e2e/browser.mjs")).arg(page);
        if let Some(token) = token {
            driver.env("TOKEN", token);
        }
        let mut driver = place(driver);
        let mut child = driver
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {driver:?}: {error}"));
        let commands = child.stdin.take().expect("standard input is piped");
        let answers = BufReader::new(child.stdout.take().expect("standard output is piped"));
        Self { child, commands, answers }
    }

    /// Does one thing, and answers with what came of it.
    #[track_caller]
    pub fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.commands, "{command}").expect("the driver takes commands");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the driver answers");
        let answer: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{command} was answered {line:?}: {error}"));
        assert!(answer.get("error").is_none(), "{command} was answered {answer}");
        answer
    }

    /// The node that a session of the page uses now.
    #[track_caller]
    pub fn node_of(&mut self, session: &str) -> String {
        let answer = self.ask(&json!({ "do": "await", "session": session, "state": 2 }));
        answer["session"]["node"].as_str().expect("a session in state 2 has a node").to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends the browser, too; killed, it could not.
        let _ = writeln!(self.commands, "{}", json!({ "do": "quit" }));
        let _ = self.child.wait();
    }
}
