//! A cluster in a namespace whose relays' media has the address of a virtual Ethernet pair, for peers that pair no address
//! of their own with loopback.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    SOON,
    namespace::Namespace,
    process::{Process, output, waystation},
    ready::is_attached_within,
    until,
};

/// The relays' address. It is reserved for documentation (RFC 5737), and nobody outside the namespace has it.
const ADDRESS: &str = "192.0.2.1";
const CLUSTER_SECRET: &str = "the secret of this test's cluster";
/// The app whose tokens `waystation token` makes when it is told nothing else.
const APPS: &str = r#"{dev={secret="waystation-dev-app-secret-for-loopback-only"}}"#;

#[derive(serde::Deserialize)]
struct CoordinatorReady {
    url: String,
}

#[derive(serde::Deserialize)]
struct RelayReady {
    id: String,
    http: String,
    admin: String,
}

/// A relay's process, by the node's id.
pub struct Relay {
    pub id: String,
    /// Base address of WHIP and WHEP.
    pub http: String,
    pub admin: String,
    pub process: Process,
}

/// A coordinator and its relays. What is named first is dropped first.
pub struct VethCluster {
    pub relays: Vec<Relay>,
    _coordinator: Process,
    pub url: String,
    pub directory: TempDir,
    pub namespace: Namespace,
}

impl VethCluster {
    /// Waits until every relay is in the coordinator's list.
    #[track_caller]
    pub fn start(name: &str, relays: usize, page: Option<&Path>) -> Self {
        let namespace = Namespace::new(name, Some(&format!("{ADDRESS}/24")));
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let mut command = waystation();
        command.args(["coordinator", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--gather-ms", "0"]);
        command
            .env("WAYSTATION_COORDINATOR_CLUSTER_SECRET", CLUSTER_SECRET)
            .env("WAYSTATION_COORDINATOR_APPS", APPS);
        if let Some(page) = page {
            command.arg("--page").arg(page);
        }
        let file = directory.path().join("coordinator.json");
        let (coordinator, CoordinatorReady { url }) = start(&namespace, command, file);
        let relays: Vec<_> =
            (1..=relays).map(|n| start_relay(&namespace, &url, n, directory.path())).collect();
        let cluster = Self { relays, _coordinator: coordinator, url, directory, namespace };
        until("all relays in the coordinator's list", SOON, || {
            let nodes = cluster.observe("nodes")?;
            let healthy = nodes.as_array()?.iter().filter(|node| node["health"] == "Healthy").count();
            (healthy == cluster.relays.len()).then_some(())
        });
        for relay in &cluster.relays {
            is_attached_within(&cluster.namespace, &relay.admin);
        }
        cluster
    }

    /// One more relay, or one again under its id.
    #[track_caller]
    pub fn start_relay(&self, number: usize) -> Relay {
        start_relay(&self.namespace, &self.url, number, self.directory.path())
    }

    /// A client of ours, in the namespace.
    #[track_caller]
    pub fn client(&self, action: &str, room: &str, stream: &str) -> Command {
        let mut command = waystation();
        command.args([action, "--coordinator", &self.url, "--token", &token(action)]);
        command.args(["--room", room, "--stream", stream, "--json"]);
        self.namespace.within(&command)
    }

    /// What `waystation nodes` or `streams` says; `None` if the coordinator does not answer.
    pub fn observe(&self, what: &str) -> Option<Value> {
        let mut command = waystation();
        command.args([what, "--json", "--coordinator", &self.url]);
        let answer = self.namespace.within(&command).output().ok()?;
        serde_json::from_slice(&answer.stdout).ok().filter(|_| answer.status.success())
    }

    /// Waits until a stream is in its room, at a relay.
    #[track_caller]
    pub fn is_in_its_room(&self, stream: &str) {
        until("the stream in its room", SOON, || {
            let streams = self.observe("streams")?;
            let it = |entry: &Value| entry["stream"] == stream && entry["origin"].is_object();
            streams.as_array()?.iter().any(it).then_some(())
        });
    }
}

/// A token for every room.
#[track_caller]
pub fn token(user: &str) -> String {
    let mut command = waystation();
    command.args(["token", "--room", "*", "--user", user, "--publish", "--play", "--observe"]);
    output(&mut command).trim().to_owned()
}

/// Starts a process and reads its ready file.
#[track_caller]
fn start<T: DeserializeOwned>(namespace: &Namespace, mut command: Command, file: PathBuf) -> (Process, T) {
    command.arg("--ready-file").arg(&file);
    let mut process = Process::start(namespace.within(&command).stdout(Stdio::null()));
    let ready = until("a ready file", SOON, || {
        assert!(process.ended().is_none(), "it ended: {}", process.stderr());
        serde_json::from_slice(&std::fs::read(&file).ok()?).ok()
    });
    (process, ready)
}

#[track_caller]
fn start_relay(namespace: &Namespace, url: &str, number: usize, directory: &Path) -> Relay {
    let mut command = waystation();
    command.args(["relay", "--id", &format!("relay-{number}"), "--coordinators", url, "--workers", "1"]);
    command.args(["--link-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    for listen in ["--http-listen", "--media-listen"] {
        command.args([listen, &format!("{ADDRESS}:0")]);
    }
    command.env("WAYSTATION_RELAY_CLUSTER_SECRET", CLUSTER_SECRET);
    let file = directory.join(format!("relay-{number}.json"));
    let _ = std::fs::remove_file(&file);
    let (process, RelayReady { id, http, admin }) = start(namespace, command, file);
    Relay { id, http, admin, process }
}
