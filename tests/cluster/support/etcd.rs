//! A real etcd of some members, each a process of its own, on ports that are kept for it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::{SOON, process::Process, until};

/// Every key: from the byte 0 to the end.
const ALL_KEYS: &str = "AA==";

struct Member {
    name: String,
    client_url: String,
    peer_url: String,
    _ports: [Port; 2],
    data: PathBuf,
    process: Option<Process>,
}

/// An etcd. Dropping it ends its members.
pub struct Etcd {
    members: Vec<Member>,
    http: reqwest::blocking::Client,
    _directory: TempDir,
}

/// A TCP port of loopback that is kept as long as the value: whoever is told of it can listen there, also again after its
/// death, and nobody is given it by chance. (The socket is bound and does not listen; both sides set SO_REUSEADDR.)
pub struct Port {
    number: u16,
    _socket: Socket,
}

impl Port {
    #[track_caller]
    pub fn keep() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
        socket.set_reuse_address(true).expect("an option can be set");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback has a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let number = address.as_socket().expect("it is an address of IP").port();
        Self { number, _socket: socket }
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Etcd {
    /// Starts that many members and waits until they have a leader.
    #[track_caller]
    pub fn start(members: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let member = |n: usize| {
            let ports = [Port::keep(), Port::keep()];
            let [client_url, peer_url] =
                ports.each_ref().map(|port| format!("http://127.0.0.1:{}", port.number()));
            let (name, data) = (format!("m{n}"), directory.path().join(format!("m{n}")));
            Member { name, client_url, peer_url, _ports: ports, data, process: None }
        };
        let http = reqwest::blocking::Client::builder().timeout(Duration::from_secs(2)).build();
        let mut etcd = Self {
            members: (0..members).map(member).collect(),
            http: http.expect("no TLS is needed"),
            _directory: directory,
        };
        for index in 0..members {
            etcd.start_member(index);
        }
        etcd.leader();
        etcd
    }

    /// Where its members are reached.
    pub fn urls(&self) -> String {
        let urls: Vec<_> = self.members.iter().map(|member| member.client_url.as_str()).collect();
        urls.join(",")
    }

    /// A member that is not there is started, on the data that it had.
    #[track_caller]
    pub fn start_member(&mut self, index: usize) {
        let all: Vec<_> =
            self.members.iter().map(|member| format!("{}={}", member.name, member.peer_url)).collect();
        let member = &mut self.members[index];
        let mut command = Command::new("etcd");
        command.args(["--name", &member.name, "--data-dir"]).arg(&member.data);
        command.args([
            "--listen-client-urls",
            &member.client_url,
            "--advertise-client-urls",
            &member.client_url,
        ]);
        command.args([
            "--listen-peer-urls",
            &member.peer_url,
            "--initial-advertise-peer-urls",
            &member.peer_url,
        ]);
        command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
        command.args(["--logger", "zap", "--log-level", "error"]).stdout(Stdio::null());
        member.process = Some(Process::start(&mut command));
    }

    /// SIGKILL.
    pub fn kill_member(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            process.signal(libc::SIGKILL);
            process.wait(SOON);
        }
    }

    /// SIGSTOP.
    pub fn freeze_member(&self, index: usize) {
        if let Some(process) = &self.members[index].process {
            process.signal(libc::SIGSTOP);
        }
    }

    /// SIGCONT.
    pub fn thaw_member(&self, index: usize) {
        if let Some(process) = &self.members[index].process {
            process.signal(libc::SIGCONT);
        }
    }

    fn ask(&self, index: usize, path: &str, body: &Value) -> Option<Value> {
        let url = format!("{}/v3/{path}", self.members[index].client_url);
        let response = self.http.post(url).body(body.to_string()).send().ok()?;
        let status = response.status();
        let answer: Value = serde_json::from_str(&response.text().ok()?).ok()?;
        status.is_success().then_some(answer)
    }

    fn ask_any(&self, path: &str, body: &Value) -> Option<Value> {
        (0..self.members.len()).find_map(|index| self.ask(index, path, body))
    }

    /// Which member leads.
    #[track_caller]
    pub fn leader(&self) -> usize {
        until("a leader of etcd", SOON, || {
            (0..self.members.len()).find(|&index| {
                let status = self.ask(index, "maintenance/status", &json!({}));
                status.is_some_and(|status| {
                    status["leader"].is_string() && status["leader"] == status["header"]["member_id"]
                })
            })
        })
    }

    /// Its current revision.
    #[track_caller]
    pub fn revision(&self) -> u64 {
        let found = until("an answer of etcd", SOON, || {
            self.ask_any("kv/range", &json!({ "key": "Lw==", "count_only": true }))
        });
        let text = found["header"]["revision"].as_str().expect("an answer has a revision");
        text.parse().expect("a revision is a number")
    }

    /// Forgets all history, the latest revision's too: every watch that was behind is told so.
    #[track_caller]
    pub fn compact(&self) {
        let revision = self.revision().to_string();
        let done = self.ask_any("kv/compaction", &json!({ "revision": revision, "physical": true }));
        done.expect("etcd compacts what it holds");
    }

    /// Deletes every key, in one revision.
    #[track_caller]
    pub fn empty(&self) {
        let done = self.ask_any("kv/deleterange", &json!({ "key": ALL_KEYS, "range_end": ALL_KEYS }));
        let deleted = done.expect("etcd deletes what it holds")["deleted"].as_str().map(str::to_owned);
        assert_ne!(deleted, None, "there was nothing to delete");
    }

    /// How many keys it holds.
    pub fn keys(&self) -> u64 {
        let all = json!({ "key": ALL_KEYS, "range_end": ALL_KEYS, "count_only": true });
        let count = self.ask_any("kv/range", &all).and_then(|found| found["count"].as_str()?.parse().ok());
        count.unwrap_or(0)
    }
}
