//! Callers that ask one thing after the other, all at the same time, and how long each answer took.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::task::JoinSet;

/// What one caller does again and again.
pub trait Caller: Send + 'static {
    /// Asks once. Answers with how long the answer took; `None`: it has nothing left to ask.
    fn call(&mut self) -> impl Future<Output = Result<Option<Duration>>> + Send;
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// In rising order.
    took: Vec<Duration>,
    over: Duration,
}

impl Sample {
    pub fn new(mut took: Vec<Duration>, over: Duration) -> Self {
        took.sort_unstable();
        Self { took, over }
    }

    pub fn count(&self) -> usize {
        self.took.len()
    }

    pub fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.over.as_secs_f64()
    }

    /// What `percent` of the answers took at most.
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.took.len().saturating_sub(1);
        self.took.get((self.took.len() * percent / 100).min(last)).copied().unwrap_or_default()
    }
}

/// Lets all callers ask for so long.
pub async fn drive<C: Caller>(callers: Vec<C>, within: Duration) -> Result<(Sample, Vec<C>)> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        tasks.spawn(async move {
            let mut took = Vec::new();
            while started.elapsed() < within {
                match caller.call().await? {
                    Some(one) => took.push(one),
                    None => break,
                }
            }
            anyhow::Ok((took, caller))
        });
    }
    let (mut took, mut callers) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (of_one, caller) = done??;
        took.extend(of_one);
        callers.push(caller);
    }
    Ok((Sample::new(took, started.elapsed()), callers))
}
