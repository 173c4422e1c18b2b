//! One or three etcd processes of a test's own, on loopback.

use std::{
    collections::BTreeSet,
    fs::File,
    net::TcpListener,
    ops::Range,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use etcd_client::{Client, ConnectOptions, DeleteOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use waystation_coordinator::store::{EtcdConfig, EtcdStore};

/// What every key of these tests begins with.
pub const PREFIX: &str = "waystation/test/";
/// A member that is not up by then never will be.
const UP_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// One etcd process, and how to start it again.
pub struct Member {
    pub url: String,
    data: PathBuf,
    arguments: Vec<String>,
    process: Option<Child>,
}

/// All members; they end with it.
pub struct Cluster {
    pub members: Vec<Member>,
    folder: TempDir,
}

/// Below those that the system gives to whoever asks for any: nobody takes one of these by chance before a member has
/// it, or while that member is down.
const PORTS: Range<u16> = 20_000..32_000;

/// A file system in memory. etcd waits for the disk at each write, for seconds if the disk is busy, and we give it one:
/// how quick the disk is, is not what these tests are about.
const MEMORY: &str = "/dev/shm";
/// Room for three members, each of which allocates two logs of 64 MB ahead.
const ROOM_BYTES: u64 = 1 << 30;

/// In memory if there is room, else where temporary files are.
fn data_folder() -> TempDir {
    let free = Command::new("df").args(["--output=avail", "--block-size=1", MEMORY]).output();
    let free = free.ok().and_then(|free| String::from_utf8(free.stdout).ok());
    let free = free.and_then(|free| free.lines().last()?.trim().parse::<u64>().ok());
    let in_memory = free.filter(|&free| free >= ROOM_BYTES).and_then(|_| tempfile::tempdir_in(MEMORY).ok());
    in_memory.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

fn free_ports(count: usize) -> Vec<u16> {
    let mut ports = BTreeSet::new();
    while ports.len() < count {
        let port = rand::random_range(PORTS);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.insert(port);
        }
    }
    ports.into_iter().collect()
}

impl Cluster {
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, "http", &[]).await
    }

    /// With `arguments` for each member; they are up when this returns.
    pub async fn start_with(count: usize, scheme: &str, arguments: &[&str]) -> Self {
        let mut cluster = Self::prepare(count, scheme, arguments);
        cluster.start_all();
        if scheme == "http" {
            for member in &cluster.members {
                member.client().await;
            }
        }
        cluster
    }

    /// Nothing runs yet.
    pub fn prepare(count: usize, scheme: &str, arguments: &[&str]) -> Self {
        let folder = data_folder();
        let ports = free_ports(2 * count);
        let peer = |index: usize| format!("http://127.0.0.1:{}", ports[2 * index]);
        let initial: Vec<_> = (0..count).map(|index| format!("m{index}={}", peer(index))).collect();
        let member = |index: usize| {
            let url = format!("{scheme}://127.0.0.1:{}", ports[2 * index + 1]);
            let data = folder.path().join(format!("m{index}"));
            let settings = [
                ("--name", format!("m{index}")),
                ("--data-dir", data.display().to_string()),
                ("--listen-client-urls", url.clone()),
                ("--advertise-client-urls", url.clone()),
                ("--listen-peer-urls", peer(index)),
                ("--initial-advertise-peer-urls", peer(index)),
                ("--initial-cluster", initial.join(",")),
                ("--logger", "zap".into()),
            ];
            let settings = settings.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
            let arguments = settings.chain(arguments.iter().map(|&argument| argument.to_owned())).collect();
            Member { url, data, arguments, process: None }
        };
        Self { members: (0..count).map(member).collect(), folder }
    }

    pub fn start_all(&mut self) {
        for member in &mut self.members {
            member.start();
        }
    }

    pub fn config(&self) -> EtcdConfig {
        EtcdConfig::new(self.members.iter().map(|member| member.url.clone()).collect(), PREFIX.into())
    }

    pub fn store(&self) -> EtcdStore {
        EtcdStore::connect(self.config()).unwrap()
    }

    /// A store that may only ask one member.
    pub fn store_at(&self, index: usize) -> EtcdStore {
        EtcdStore::connect(EtcdConfig::new(vec![self.members[index].url.clone()], PREFIX.into())).unwrap()
    }

    /// The number of the leader.
    pub async fn leader(&self) -> usize {
        loop {
            for (index, member) in self.members.iter().enumerate() {
                let status = member.client().await.status().await.unwrap();
                if status.leader() == status.header().unwrap().member_id() {
                    return index;
                }
            }
            sleep(POLL).await;
        }
    }

    /// A copy of a member's data, taken while it is down.
    pub fn copy_data(&self, index: usize) -> PathBuf {
        let copy = self.folder.path().join("copy");
        copy_folder(&self.members[index].data, &copy);
        copy
    }

    /// Gives a member, while it is down, the data of a copy.
    pub fn restore_data(&self, index: usize, copy: &std::path::Path) {
        let data = &self.members[index].data;
        std::fs::remove_dir_all(data).unwrap();
        copy_folder(copy, data);
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

impl Member {
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.data.with_extension("log")).unwrap();
        let mut command = Command::new("etcd");
        command.args(&self.arguments).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().expect("etcd is installed (make test-tools)"));
    }

    /// A plain client of it, once it is up.
    pub async fn client(&self) -> Client {
        self.client_as(None).await
    }

    pub async fn client_as(&self, user: Option<(&str, &str)>) -> Client {
        let mut options = ConnectOptions::new().with_timeout(Duration::from_secs(2));
        if let Some((name, password)) = user {
            options = options.with_user(name, password);
        }
        let deadline = Instant::now() + UP_WITHIN;
        loop {
            let failure = match Client::connect([&self.url], Some(options.clone())).await {
                Ok(mut client) => match client.status().await {
                    Ok(status) if status.leader() != 0 => return client,
                    Ok(_) => "it has no leader".to_owned(),
                    Err(error) => error.to_string(),
                },
                Err(error) => error.to_string(),
            };
            assert!(Instant::now() < deadline, "{} is not up: {failure}", self.url);
            sleep(POLL).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill(Pid::from_raw(process.id().cast_signed()), signal).unwrap();
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Deletes every key.
pub async fn wipe(client: &mut Client) {
    client.delete("", Some(DeleteOptions::new().with_all_keys())).await.unwrap();
}

/// What is awaited comes soon, or the test fails.
pub async fn soon<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    timeout(UP_WITHIN, awaited).await.unwrap_or_else(|_| panic!("{what}: nothing within {UP_WITHIN:?}"))
}
