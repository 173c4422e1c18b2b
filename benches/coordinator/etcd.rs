//! etcd of the bench's own: one or three members on loopback, on disk, that end with it.

use std::{
    fs::File,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use etcd_client::{Client, ConnectOptions};
use tempfile::TempDir;

const UP_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
const CALL_WITHIN: Duration = Duration::from_secs(5);

/// All members.
pub struct Etcd {
    pub urls: Vec<String>,
    members: Vec<Child>,
    _data: TempDir,
}

impl Etcd {
    /// Up, with a leader, when this returns.
    pub async fn start(count: usize) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let ports = free_ports(2 * count)?;
        let address = |port: u16| format!("http://127.0.0.1:{port}");
        let urls: Vec<_> = (0..count).map(|n| address(ports[2 * n])).collect();
        let peers: Vec<_> = (0..count).map(|n| address(ports[2 * n + 1])).collect();
        let cluster: Vec<_> = peers.iter().enumerate().map(|(n, peer)| format!("m{n}={peer}")).collect();
        let mut etcd = Self { urls, members: Vec::new(), _data: data };
        for (n, peer) in peers.iter().enumerate() {
            let folder = etcd._data.path().join(format!("m{n}"));
            let log = File::create(folder.with_extension("log"))?;
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("m{n}"), "--logger", "zap"]).arg("--data-dir").arg(folder);
            command.args(["--listen-client-urls", &etcd.urls[n], "--advertise-client-urls", &etcd.urls[n]]);
            command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
            command.args(["--initial-cluster", &cluster.join(",")]);
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            etcd.members.push(command.spawn().context("etcd does not start; is etcd-server installed?")?);
        }
        for url in &etcd.urls {
            wait_for_leader(url).await?;
        }
        Ok(etcd)
    }

    /// A bare client of all members.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.urls, Some(ConnectOptions::new().with_timeout(CALL_WITHIN))).await?)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            // One that is gone already is as it should be.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

async fn wait_for_leader(url: &str) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < UP_WITHIN {
        let options = ConnectOptions::new().with_timeout(CALL_WITHIN);
        if let Ok(mut client) = Client::connect([url], Some(options)).await
            && client.status().await.is_ok_and(|status| status.leader() != 0)
        {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("etcd at {url} has no leader after {UP_WITHIN:?}")
}
