//! Two coordinators on one store, in processes apart from the load.
//!
//! A memory store lives in one process: there both coordinators share it, each with a runtime of its own, and the first
//! dies by the end of its runtime: nothing is said, its connections break. Over etcd each is a process, and dies of
//! SIGKILL.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use waystation_coordinator::{
    App, AppKey, Config, Coordinator,
    store::{EtcdConfig, EtcdStore, MemoryStore, Store},
};

use crate::{etcd::Etcd, process::Cpu, raise_open_files};

/// First word of the command line of such a process.
pub const ROLE: &str = "coordinators";
/// What relays attach with.
pub const CLUSTER_SECRET: &str = "the secret of the bench's cluster";
/// What user tokens are signed with.
pub const APP_SECRET: &[u8] = b"the secret of the bench's app, long enough";
/// The app.
pub const APP: &str = "bench";
/// The line that tells a process to let its first coordinator die.
const DIE: &str = "die";
/// Users who only log in are there until the end of the bench.
const HEARD_WITHIN: Duration = Duration::from_secs(60 * 60);

/// What a process of coordinators is to be.
#[derive(Serialize, Deserialize)]
pub struct Role {
    /// Members of etcd; none: a memory store.
    etcd: Vec<String>,
    coordinators: usize,
}

/// Serves until its standard input ends.
pub fn run(role: &Role) -> Result<()> {
    raise_open_files()?;
    let store: Arc<dyn Store> = match role.etcd.as_slice() {
        [] => Arc::new(MemoryStore::new()),
        members => Arc::new(EtcdStore::connect(EtcdConfig::new(members.to_vec(), "waystation/v1".into()))?),
    };
    let (mut runtimes, mut urls) = (Vec::new(), Vec::new());
    for _ in 0..role.coordinators {
        let app = App { id: APP.into(), key: AppKey::Secret(APP_SECRET.to_vec()) };
        let mut config = Config::new("127.0.0.1:0".parse()?, CLUSTER_SECRET.into(), vec![app]);
        config.timings.gather = Duration::ZERO;
        config.timings.heard_within = HEARD_WITHIN;
        let runtime = Runtime::new()?;
        let coordinator = runtime.block_on(Coordinator::bind_over(config, Arc::clone(&store)))?;
        urls.push(coordinator.url().to_owned());
        let mut ready = coordinator.ready();
        runtime.spawn(async move { coordinator.run(std::future::pending()).await });
        runtime.block_on(async { ready.wait_for(|&ready| ready).await.map(drop) })?;
        runtimes.push(runtime);
    }
    println!("{}", serde_json::to_string(&urls)?);
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            DIE if !runtimes.is_empty() => runtimes.remove(0).shutdown_background(),
            other => bail!("{other:?} is nothing that can be done"),
        }
    }
    Ok(())
}

struct Process(Child);

impl Process {
    fn start(role: &Role) -> Result<(Self, Vec<String>)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([ROLE, &serde_json::to_string(role)?]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        let output = process.0.stdout.take().context("standard output is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let urls = serde_json::from_str(&line).context("the coordinators did not come up")?;
        Ok((process, urls))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that is gone already is as it should be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two coordinators on one store.
pub struct Pair {
    pub first: String,
    pub second: String,
    processes: Vec<Process>,
}

impl Pair {
    /// Over etcd, or over a memory store.
    pub fn start(etcd: Option<&Etcd>) -> Result<Self> {
        let (mut processes, mut urls) = (Vec::new(), Vec::new());
        let roles = match etcd {
            None => vec![Role { etcd: Vec::new(), coordinators: 2 }],
            Some(etcd) => (0..2).map(|_| Role { etcd: etcd.urls.clone(), coordinators: 1 }).collect(),
        };
        for role in roles {
            let (process, of_process) = Process::start(&role)?;
            processes.push(process);
            urls.extend(of_process);
        }
        match <[String; 2]>::try_from(urls) {
            Ok([first, second]) => Ok(Self { first, second, processes }),
            Err(urls) => bail!("two coordinators were to come up, not {urls:?}"),
        }
    }

    /// CPU time of the process of the first.
    pub fn cpu(&self) -> Result<Cpu> {
        Cpu::of(self.processes.first().context("there is a process")?.0.id())
    }

    /// The first dies.
    pub fn kill_first(&mut self) -> Result<()> {
        match self.processes.as_mut_slice() {
            [both] => Ok(writeln!(both.0.stdin.as_mut().context("standard input is piped")?, "{DIE}")?),
            [first, ..] => Ok(first.0.kill()?),
            [] => bail!("there is no process"),
        }
    }
}
