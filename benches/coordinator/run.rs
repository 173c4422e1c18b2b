//! All rows, for one store after the other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{
    calls::{Ask, Calls, Logins, Session, sessions},
    crowd::{self, Crowd},
    drive::{Sample, drive},
    etcd::Etcd,
    floor,
    relay::Relay,
    report, resume,
    server::Pair,
};

/// Callers at once, of the rows that have callers.
pub const CALLERS: [usize; 3] = [1, 16, 128];
/// Logins for which plans are made.
const SESSIONS: usize = 128;
const RELAYS: u16 = 10;

/// What is to be measured.
pub struct Plan {
    /// How long a row lasts.
    pub row: Duration,
    pub stores: Vec<Stores>,
}

/// Under the coordinators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stores {
    Memory,
    Etcd { members: usize },
}

impl Stores {
    pub const ALL: [Self; 3] = [Self::Memory, Self::Etcd { members: 1 }, Self::Etcd { members: 3 }];

    pub fn name(self) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            Self::Etcd { members } => format!("etcd-{members}"),
        }
    }
}

/// What so many callers at once measured, for each number of callers.
pub type Rows = [Sample; CALLERS.len()];

/// What was measured over one store.
pub struct Figures {
    pub stores: Stores,
    /// Transactions asked of etcd directly.
    pub floor: Option<Rows>,
    pub beats: Rows,
    pub logins: Rows,
    /// CPU time of the coordinator for one login, at most callers.
    pub login_cpu: Duration,
    pub publishes: Rows,
    pub plays: Rows,
    pub crowd: Crowd,
    pub resumes: Sample,
}

/// Measures everything and prints it.
pub async fn run(plan: &Plan) -> Result<()> {
    let started = Instant::now();
    let mut all = Vec::new();
    for &stores in &plan.stores {
        let figures = measure(stores, plan.row).await.with_context(|| format!("over {}", stores.name()))?;
        eprintln!("{} measured after {:.0} s", stores.name(), started.elapsed().as_secs_f64());
        all.push(figures);
    }
    report::print(&all);
    Ok(())
}

async fn measure(stores: Stores, row: Duration) -> Result<Figures> {
    let etcd = match stores {
        Stores::Memory => None,
        Stores::Etcd { members } => Some(Etcd::start(members).await?),
    };
    let floor = match &etcd {
        None => None,
        Some(etcd) => Some(bare(etcd, row).await?),
    };
    let mut pair = Pair::start(etcd.as_ref())?;
    let mut relays = Vec::new();
    for number in 0..RELAYS {
        relays.push(Relay::attach(&pair.first, number).await?);
    }
    let relay = relays.first().context("there are relays")?;
    let (logins, login_cpu) = logins(&pair, row).await?;
    let with = sessions(&pair.first, relay, SESSIONS).await?;
    let (beats, with) = calls(Ask::Beat, with, row).await?;
    let (publishes, with) = calls(Ask::PlanPublish, with, row).await?;
    let (plays, with) = calls(Ask::PlanPlay, with, row).await?;
    drop(with);
    let crowd = crowd::measure(&pair.first, row).await?;
    let resumes = resume::measure(&mut pair).await?;
    Ok(Figures { stores, floor, beats, logins, login_cpu, publishes, plays, crowd, resumes })
}

async fn bare(etcd: &Etcd, row: Duration) -> Result<Rows> {
    let mut rows = Rows::default();
    for (callers, sample) in CALLERS.into_iter().zip(&mut rows) {
        *sample = floor::measure(etcd, callers, row).await?;
    }
    Ok(rows)
}

async fn logins(pair: &Pair, row: Duration) -> Result<(Rows, Duration)> {
    let (mut rows, mut cpu) = (Rows::default(), Duration::ZERO);
    for (count, sample) in CALLERS.into_iter().zip(&mut rows) {
        let mut callers = Vec::new();
        for caller in 0..count {
            callers.push(Logins::new(&pair.first, format!("login-{count}-{caller}")).await?);
        }
        let before = pair.cpu()?;
        *sample = drive(callers, row).await?.0;
        cpu = pair.cpu()?.since(before).total / u32::try_from(sample.count().max(1))?;
    }
    Ok((rows, cpu))
}

async fn calls(ask: Ask, mut with: Vec<Session>, row: Duration) -> Result<(Rows, Vec<Session>)> {
    let mut rows = Rows::default();
    for (count, sample) in CALLERS.into_iter().zip(&mut rows) {
        let (measured, callers) = drive(Calls::share(ask, with, count), row).await?;
        *sample = measured;
        with = Calls::finish(callers).await?;
    }
    Ok((rows, with))
}
