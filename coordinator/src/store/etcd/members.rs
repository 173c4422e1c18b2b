//! The members of the store and our connections to them: one channel each, a deadline on every attempt, another member
//! after a failure.
//!
//! Invariant: only what is harmless twice goes through [`Members::ask`]; all else makes its attempts one by one and
//! judges each failure.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::{Client, Error};
use tokio::time::{Instant, sleep, timeout};

use super::{
    ATTEMPT_WITHIN, CALL_WITHIN, EtcdConfig,
    endpoints::{Endpoints, Pick},
    failure::Failure,
};
use crate::{metrics, store::StoreError};

/// Pause before a member is asked that rests.
const PAUSE: Duration = Duration::from_millis(100);

struct Member {
    url: String,
    /// Made at the first use: with a user, that takes a call.
    client: tokio::sync::Mutex<Option<Client>>,
}

/// An attempt at a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    index: usize,
    began: Instant,
}

pub(super) struct Members {
    config: EtcdConfig,
    members: Vec<Member>,
    endpoints: Mutex<Endpoints>,
}

impl Members {
    /// Nothing is dialled yet. Coordinators begin at different members, so that these share the load.
    pub(super) fn new(config: EtcdConfig) -> Self {
        let member = |url: &String| Member { url: url.clone(), client: tokio::sync::Mutex::new(None) };
        let members: Vec<_> = config.endpoints.iter().map(member).collect();
        let endpoints = Mutex::new(Endpoints::new(members.len(), rand::random::<u16>().into()));
        Self { config, members, endpoints }
    }

    fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        // Nothing in there panics half way.
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses a member. Waits a little if all of them failed lately.
    pub(super) async fn choose(&self) -> Attempt {
        let pick = self.endpoints().pick(Instant::now().into_std());
        match pick {
            Pick::Fit(_) => {}
            Pick::Resting(_) => sleep(PAUSE.mul_f64(0.5 + rand::random::<f64>())).await,
        }
        Attempt { index: pick.index(), began: Instant::now() }
    }

    /// The connection to a member.
    pub(super) async fn client(&self, attempt: Attempt) -> Result<Client, Failure> {
        let member = &self.members[attempt.index];
        let mut held = member.client.lock().await;
        if let Some(client) = &*held {
            return Ok(client.clone());
        }
        let options = self.config.options(&member.url);
        let client = Client::connect([member.url.as_str()], Some(options)).await.map_err(|error| {
            match Failure::from(error) {
                // To authenticate is harmless twice.
                Failure::Unclear(text) => Failure::NotDone(text),
                failure @ (Failure::NotDone(_)
                | Failure::LeaseGone
                | Failure::Compacted
                | Failure::Bad(_)
                | Failure::Denied(_)) => failure,
            }
        })?;
        Ok(held.insert(client).clone())
    }

    /// One attempt at one member, with its deadline.
    pub(super) async fn attempt<T, F>(
        &self,
        attempt: Attempt,
        call: &'static str,
        act: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let whole = async {
            let client = self.client(attempt).await?;
            act(client).await.map_err(Failure::from)
        };
        let result = match timeout(ATTEMPT_WITHIN, whole).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Unclear(format!("no answer within {} ms", ATTEMPT_WITHIN.as_millis()))),
        };
        let outcome = result.as_ref().err().map_or("ok", Failure::label);
        metrics::store_call(call, outcome, attempt.began.elapsed());
        match &result {
            Err(failure) if failure.blames_member() => self.blame(attempt, &failure.text()),
            Ok(_) | Err(_) => self.endpoints().worked(attempt.index),
        }
        result
    }

    /// A member failed: it is left alone for a while.
    pub(super) fn blame(&self, attempt: Attempt, why: &str) {
        let now = Instant::now().into_std();
        let mut endpoints = self.endpoints();
        let before = endpoints.pick(now);
        endpoints.failed(attempt.index, attempt.began.into_std(), now, rand::random());
        let after = endpoints.pick(now);
        drop(endpoints);
        match (before, after) {
            (Pick::Fit(from), Pick::Fit(to)) if from != to => {
                metrics::store_switch();
                let (from, to) = (&self.members[from].url, &self.members[to].url);
                tracing::warn!(from, to, why, "a member of the store failed; another is asked");
            }
            (Pick::Fit(from), Pick::Resting(_)) => {
                let member = &self.members[from].url;
                tracing::warn!(member, why, "no member of the store answers");
            }
            (Pick::Fit(_) | Pick::Resting(_), _) => {}
        }
    }

    /// Asks for something that is harmless twice, until somebody answers.
    pub(super) async fn ask<T, F>(&self, call: &'static str, act: impl Fn(Client) -> F) -> Result<T, AskError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = Instant::now() + CALL_WITHIN;
        loop {
            let attempt = self.choose().await;
            let failure = match self.attempt(attempt, call, &act).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let again = failure.blames_member() && Instant::now() < deadline;
            if !again {
                return Err(AskError { at: self.url(attempt).to_owned(), failure });
            }
        }
    }

    /// A member's address.
    pub(super) fn url(&self, attempt: Attempt) -> &str {
        &self.members[attempt.index].url
    }
}

/// What the last member that was asked said.
#[derive(Clone, Debug)]
pub(super) struct AskError {
    pub(super) at: String,
    pub(super) failure: Failure,
}

impl From<AskError> for StoreError {
    fn from(AskError { at, failure }: AskError) -> Self {
        match failure {
            Failure::Bad(why) => Self::BadTransaction(why),
            Failure::NotDone(_)
            | Failure::Unclear(_)
            | Failure::LeaseGone
            | Failure::Compacted
            | Failure::Denied(_) => Self::Unavailable(format!("etcd at {at}: {}", failure.text())),
        }
    }
}
