//! A cluster as an operator runs it: coordinators over etcd, relays, each a process of its own with its own settings.

use std::{path::Path, process::Stdio};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    SOON,
    client::Client,
    cluster::{Rights, user_token},
    etcd::{Etcd, Port},
    process::{Process, waystation},
    ready::{is_attached, is_in_its_room, is_named, observe},
    until,
};

const CLUSTER_SECRET: &str = "the secret of this test's cluster";
/// The app whose tokens `waystation token` makes when it is told nothing else.
const APPS: &str = r#"{dev={secret="waystation-dev-app-secret-for-loopback-only"}}"#;

/// A coordinator. It keeps its address when it is started again.
pub struct CoordinatorProcess {
    pub url: String,
    pub admin: String,
    port: Port,
    process: Option<Process>,
}

/// A relay.
pub struct RelayProcess {
    pub id: String,
    pub http: String,
    pub admin: String,
    process: Process,
}

/// Settings that tests change.
#[derive(Clone, Debug)]
pub struct Plan {
    pub etcd_members: usize,
    pub coordinators: usize,
    pub relays: usize,
    /// More words for each coordinator.
    pub coordinator_words: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { etcd_members: 3, coordinators: 3, relays: 3, coordinator_words: Vec::new() }
    }
}

/// The cluster. Dropping it ends all its processes.
pub struct Site {
    pub coordinators: Vec<CoordinatorProcess>,
    pub relays: Vec<RelayProcess>,
    pub etcd: Etcd,
    plan: Plan,
    directory: TempDir,
}

#[derive(Deserialize)]
struct CoordinatorReady {
    url: String,
    admin: String,
}

#[derive(Deserialize)]
struct RelayReady {
    http: String,
    admin: String,
}

#[track_caller]
fn ready<T: DeserializeOwned>(process: &mut Process, file: &Path) -> T {
    until("a ready file", SOON, || {
        assert!(process.ended().is_none(), "it ended: {}", process.stderr());
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    })
}

/// Waits until a process takes new sessions.
#[track_caller]
pub fn takes_sessions(admin: &str) {
    let url = format!("{admin}/readyz");
    until("readiness", SOON, || reqwest::blocking::get(&url).ok()?.error_for_status().ok());
}

impl Site {
    /// Starts everything and waits until all of it takes sessions.
    #[track_caller]
    pub fn start(plan: Plan) -> Self {
        let etcd = Etcd::start(plan.etcd_members);
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let mut site = Self { coordinators: Vec::new(), relays: Vec::new(), etcd, plan, directory };
        for _ in 0..site.plan.coordinators {
            let port = Port::keep();
            let (url, admin) = (format!("http://127.0.0.1:{}", port.number()), String::new());
            site.coordinators.push(CoordinatorProcess { url, admin, port, process: None });
        }
        for index in 0..site.plan.coordinators {
            site.start_coordinator(index);
        }
        for n in 0..site.plan.relays {
            let relay = site.start_relay(&format!("relay-{}", n + 1));
            site.relays.push(relay);
        }
        for coordinator in &site.coordinators {
            takes_sessions(&coordinator.admin);
        }
        for relay in &site.relays {
            takes_sessions(&relay.admin);
            is_attached(&relay.admin);
            for coordinator in &site.coordinators {
                is_named(&coordinator.url, &relay.id, &[]);
            }
        }
        site
    }

    /// All coordinators' addresses, with commas.
    pub fn urls(&self) -> String {
        let urls: Vec<_> = self.coordinators.iter().map(|coordinator| coordinator.url.as_str()).collect();
        urls.join(",")
    }

    /// A coordinator, at the address that it had.
    #[track_caller]
    pub fn start_coordinator(&mut self, index: usize) {
        let file = self.directory.path().join(format!("coordinator-{index}.json"));
        // One of an earlier start says nothing about this one.
        let _ = std::fs::remove_file(&file);
        let coordinator = &mut self.coordinators[index];
        let mut command = waystation();
        command.args(["coordinator", "--listen", &format!("127.0.0.1:{}", coordinator.port.number())]);
        command.args(["--admin-listen", "127.0.0.1:0", "--gather-ms", "0", "--ready-file"]).arg(&file);
        command.args(["--store", "etcd", "--etcd", &self.etcd.urls()]);
        command.args(&self.plan.coordinator_words);
        command
            .env("WAYSTATION_COORDINATOR_CLUSTER_SECRET", CLUSTER_SECRET)
            .env("WAYSTATION_COORDINATOR_APPS", APPS);
        let mut process = Process::start(command.stdout(Stdio::null()));
        let CoordinatorReady { url, admin } = ready(&mut process, &file);
        coordinator.url = url;
        coordinator.admin = admin;
        coordinator.process = Some(process);
    }

    /// SIGKILL of a coordinator.
    pub fn kill_coordinator(&mut self, index: usize) {
        if let Some(mut process) = self.coordinators[index].process.take() {
            process.signal(libc::SIGKILL);
            process.wait(SOON);
        }
    }

    #[track_caller]
    fn start_relay(&self, id: &str) -> RelayProcess {
        let file = self.directory.path().join(format!("{id}.json"));
        let mut command = waystation();
        command.args(["relay", "--id", id, "--coordinators", &self.urls(), "--workers", "1"]);
        for listen in ["--http-listen", "--link-listen", "--media-listen", "--admin-listen"] {
            command.args([listen, "127.0.0.1:0"]);
        }
        command.arg("--ready-file").arg(&file).env("WAYSTATION_RELAY_CLUSTER_SECRET", CLUSTER_SECRET);
        let mut process = Process::start(command.stdout(Stdio::null()));
        let RelayReady { http, admin } = ready(&mut process, &file);
        RelayProcess { id: id.to_owned(), http, admin, process }
    }

    /// Sends a signal to the relay with this id.
    #[track_caller]
    pub fn signal_relay(&self, id: &str, signal: libc::c_int) {
        let relay =
            self.relays.iter().find(|relay| relay.id == id).unwrap_or_else(|| panic!("no relay {id:?}"));
        relay.process.signal(signal);
    }

    /// A user token.
    #[track_caller]
    pub fn token(&self, room: &str, user: &str, rights: Rights) -> String {
        user_token(room, user, rights)
    }

    /// A publisher as a process of its own.
    #[track_caller]
    pub fn publish(&self, room: &str, user: &str, stream: &str, words: &[&str]) -> Client {
        self.client("publish", Rights::Publish, (room, user, stream), words)
    }

    /// The same, once its stream is in the room at every coordinator: whoever plays it finds it.
    #[track_caller]
    pub fn published(&self, room: &str, user: &str, stream: &str, words: &[&str]) -> Client {
        let mut publisher = self.publish(room, user, stream, words);
        publisher.state("publisher", 2, 0);
        for coordinator in &self.coordinators {
            is_in_its_room(&coordinator.url, room, stream);
        }
        publisher
    }

    /// A player as a process of its own.
    #[track_caller]
    pub fn play(&self, room: &str, user: &str, stream: &str, words: &[&str]) -> Client {
        self.client("play", Rights::Play, (room, user, stream), words)
    }

    #[track_caller]
    fn client(
        &self,
        action: &str,
        rights: Rights,
        (room, user, stream): (&str, &str, &str),
        words: &[&str],
    ) -> Client {
        let token = self.token(room, user, rights);
        let mut command = waystation();
        command.args([action, "--coordinator", &self.urls(), "--token", &token]);
        command.args(["--room", room, "--stream", stream, "--json"]).args(words);
        Client::start(&mut command)
    }

    /// What `waystation nodes`, `rooms` or `streams` says at this coordinator; `None` if it does not answer.
    pub fn observe(&self, what: &str, coordinator: usize) -> Option<Value> {
        observe(&self.coordinators[coordinator].url, what)
    }
}
