//! A cluster on this machine, as `waystation dev` starts it.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    SOON,
    client::Client,
    process::{Process, kill, output, waystation},
    ready::{healthy_lives, is_attached, is_in_its_room, is_named},
    until,
};

/// A development cluster. Dropping it ends every process of it.
pub struct Cluster {
    pub page: String,
    pub coordinators: Vec<String>,
    pub relays: Vec<Relay>,
    pub directory: TempDir,
    dev: Process,
    http: reqwest::blocking::Client,
}

/// A relay as the ready file names it.
#[derive(Clone, Debug, Deserialize)]
pub struct Relay {
    pub id: String,
    pub http: String,
    pub pid: u32,
    pub media_port: u16,
    pub admin: String,
}

#[derive(Deserialize)]
struct Ready {
    page: String,
    coordinators: Vec<String>,
    relays: Vec<Relay>,
}

/// What a user token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    Publish,
    Play,
    Both,
    /// And to see the cluster.
    All,
}

/// A user token of the app that `waystation token` signs for when it is told nothing else.
#[track_caller]
pub fn user_token(room: &str, user: &str, rights: Rights) -> String {
    let words: &[&str] = match rights {
        Rights::Publish => &["--publish"],
        Rights::Play => &["--play"],
        Rights::Both => &["--publish", "--play"],
        Rights::All => &["--publish", "--play", "--observe"],
    };
    output(waystation().args(["token", "--room", room, "--user", user]).args(words)).trim().to_owned()
}

impl Cluster {
    /// Starts a coordinator and relays, and waits until they are ready.
    #[track_caller]
    pub fn start(relays: usize) -> Self {
        let cluster = Self::start_with(relays, |_| ());
        for relay in &cluster.relays {
            is_attached(&relay.admin);
        }
        cluster
    }

    /// The same, with the command changed first, to run it in a network namespace, say: from here nobody can be asked.
    #[track_caller]
    pub fn start_with(relays: usize, change: impl FnOnce(&mut Command)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let ready_file = directory.path().join("ready.json");
        let mut command = waystation();
        command
            .args(["dev", "--port", "0", "--relays", &relays.to_string(), "--ready-file"])
            .arg(&ready_file);
        command.stdout(Stdio::null());
        change(&mut command);
        let mut dev = Process::start(&mut command);
        let text = until("the cluster's ready file", SOON, || {
            assert!(dev.ended().is_none(), "waystation dev ended: {}", dev.stderr());
            std::fs::read_to_string(&ready_file).ok()
        });
        let ready: Ready = serde_json::from_str(&text).unwrap_or_else(|e| panic!("ready file {text}: {e}"));
        let http = reqwest::blocking::Client::builder()
            .timeout(Duration::from_secs(5))
            .build()
            .expect("no TLS is needed");
        Self {
            page: ready.page,
            coordinators: ready.coordinators,
            relays: ready.relays,
            directory,
            dev,
            http,
        }
    }

    /// SIGKILL of a relay's process.
    pub fn kill_relay(&self, index: usize) {
        kill(self.relays[index].pid, libc::SIGKILL);
    }

    /// SIGSTOP of a relay's process.
    pub fn freeze_relay(&self, index: usize) {
        kill(self.relays[index].pid, libc::SIGSTOP);
    }

    /// SIGCONT of a relay's process.
    pub fn thaw_relay(&self, index: usize) {
        kill(self.relays[index].pid, libc::SIGCONT);
    }

    /// SIGKILL of the coordinator's process.
    #[track_caller]
    pub fn kill_coordinator(&self) {
        self.dev_action("dev/coordinators/0/kill");
    }

    /// The coordinator again, at the same address.
    #[track_caller]
    pub fn start_coordinator(&self) {
        self.dev_action("dev/coordinators/0/start");
    }

    /// A relay's process again, under the same id; waits until clients are told of it.
    #[track_caller]
    pub fn start_relay(&self, index: usize) {
        let Relay { id, admin, .. } = &self.relays[index];
        let earlier = healthy_lives(&self.coordinators[0], id).unwrap_or_default();
        self.dev_action(&format!("dev/nodes/{id}/start"));
        is_attached(admin);
        is_named(&self.coordinators[0], id, &earlier);
    }

    #[track_caller]
    fn dev_action(&self, path: &str) {
        let url = format!("{}/{path}", self.page.trim_end_matches('/'));
        let response = self.http.post(&url).send().unwrap_or_else(|e| panic!("{url}: {e}"));
        assert!(
            response.status().is_success(),
            "{url}: {} {}",
            response.status(),
            response.text().unwrap_or_default()
        );
    }

    /// A user token of the development cluster.
    #[track_caller]
    pub fn token(&self, room: &str, user: &str, rights: Rights) -> String {
        user_token(room, user, rights)
    }

    /// A publisher as a process of its own. `media` are the words that say what it publishes.
    #[track_caller]
    pub fn publish(&self, room: &str, user: &str, stream: &str, media: &[&str]) -> Client {
        self.client("publish", room, user, stream, Rights::Publish, media)
    }

    /// The same, once its stream is in the room: whoever plays it finds it.
    #[track_caller]
    pub fn published(&self, room: &str, user: &str, stream: &str, media: &[&str]) -> Client {
        let mut publisher = self.publish(room, user, stream, media);
        publisher.state("publisher", 2, 0);
        is_in_its_room(&self.coordinators[0], room, stream);
        publisher
    }

    /// A player as a process of its own.
    #[track_caller]
    pub fn play(&self, room: &str, user: &str, stream: &str, options: &[&str]) -> Client {
        self.client("play", room, user, stream, Rights::Play, options)
    }

    /// A client that presents this token, whatever it allows.
    #[track_caller]
    pub fn client_with_token(
        &self,
        action: &str,
        room: &str,
        stream: &str,
        token: &str,
        options: &[&str],
    ) -> Client {
        let mut command = waystation();
        command.args([action, "--coordinator", &self.coordinators.join(","), "--token", token]);
        command.args(["--room", room, "--stream", stream, "--json"]).args(options);
        Client::start(&mut command)
    }

    #[track_caller]
    fn client(
        &self,
        action: &str,
        room: &str,
        user: &str,
        stream: &str,
        rights: Rights,
        options: &[&str],
    ) -> Client {
        self.client_with_token(action, room, stream, &self.token(room, user, rights), options)
    }

    /// Index of the relay with this id.
    #[track_caller]
    pub fn relay(&self, id: &str) -> usize {
        self.relays.iter().position(|relay| relay.id == id).unwrap_or_else(|| panic!("no relay {id:?}"))
    }

    /// A file in the cluster's own directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What a process serves at `/metrics`.
    #[track_caller]
    pub fn metrics(&self, admin: &str) -> String {
        let url = format!("{admin}/metrics");
        self.http
            .get(&url)
            .send()
            .and_then(reqwest::blocking::Response::text)
            .unwrap_or_else(|e| panic!("{url}: {e}"))
    }

    /// `GET` of the development server's description.
    #[track_caller]
    pub fn info(&self) -> Value {
        let url = format!("{}/dev/info", self.page.trim_end_matches('/'));
        let text = self
            .http
            .get(&url)
            .send()
            .and_then(reqwest::blocking::Response::text)
            .unwrap_or_else(|e| panic!("{url}: {e}"));
        serde_json::from_str(&text).unwrap_or_else(|_| json!({ "text": text }))
    }

    /// The development server's own process.
    pub fn dev(&mut self) -> &mut Process {
        &mut self.dev
    }
}
