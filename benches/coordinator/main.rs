//! What the control plane carries: logins, plans and room events a second, and how long everybody is away when a
//! coordinator dies; over the memory store and over etcd with one and with three members.
//!
//! Coordinators and etcd are processes of their own; the load is this one, with real gRPC over loopback, a connection
//! for each client. All share the machine, and nothing is pinned: only figures of one run compare. The floor is etcd
//! itself, asked directly for transactions like those of a login.
//! `cargo bench --bench coordinator -- [--seconds S] [--store memory|etcd-1|etcd-3]`

mod calls;
mod client;
mod crowd;
mod drive;
mod etcd;
mod floor;
#[path = "../forward/process.rs"]
#[expect(dead_code, reason = "the control plane is measured by its CPU time alone")]
mod process;
mod relay;
mod report;
mod resume;
mod run;
mod server;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::run::{Plan, Stores};

const DEFAULT_SECONDS: u64 = 2;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| *word != "--bench").collect();
    match words.as_slice() {
        [server::ROLE, config] => server::run(&serde_json::from_str(config)?),
        options => {
            let plan = parse(options)?;
            raise_open_files()?;
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(run::run(&plan))
        }
    }
}

fn parse(words: &[&str]) -> Result<Plan> {
    let mut plan = Plan { row: Duration::from_secs(DEFAULT_SECONDS), stores: Stores::ALL.to_vec() };
    for pair in words.chunks(2) {
        match pair {
            ["--seconds", seconds] => {
                let seconds =
                    seconds.parse().with_context(|| format!("{seconds:?} is no number of seconds"))?;
                if seconds == 0 {
                    bail!("--seconds is at least 1");
                }
                plan.row = Duration::from_secs(seconds);
            }
            ["--store", name] => {
                let named = Stores::ALL.into_iter().find(|stores| stores.name() == *name);
                plan.stores =
                    vec![named.with_context(|| format!("{name:?} is none of memory, etcd-1, etcd-3"))?];
            }
            [name] => bail!("{name} needs a value"),
            _ => bail!("unknown option {}; there are --seconds and --store", pair.concat()),
        }
    }
    Ok(plan)
}

/// As many sockets as the system lets us have: one for each of some thousand clients.
fn raise_open_files() -> Result<()> {
    // SAFETY: both calls take a structure of ours that outlives them.
    let outcome = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        match libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) {
            0 => {
                limit.rlim_cur = limit.rlim_max;
                libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
            }
            failed => failed,
        }
    };
    match outcome {
        0 => Ok(()),
        _ => bail!("cannot open more files: {}", std::io::Error::last_os_error()),
    }
}
