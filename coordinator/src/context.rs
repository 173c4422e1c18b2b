//! What all parts of one coordinator share, and the one way in which they change the store.
//!
//! A change is decided by a pure function of the mirror's view, done as one transaction that compares what was seen,
//! and decided again if others were faster. It is answered only once the mirror holds it: whoever wrote reads it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use waystation_proto::v1;

use crate::{
    config::{Limits, Timings},
    fault::{CallError, Fault},
    gathering::Gathering,
    keys::Keys,
    mirror::{Mirror, View},
    nodes::Table,
    rooms::{Connections, Presence},
    store::{Outcome, Store, Transaction},
    tokens::{NodeTokens, UserTokens},
};

/// Times that a change is decided anew.
const MAX_TRIES: usize = 8;
/// The store has this long for one call.
pub const STORE_WITHIN: Duration = Duration::from_secs(2);
/// After a conflict, what caused it is here by then.
const CATCH_UP_WITHIN: Duration = Duration::from_millis(100);
/// A plan waits at most this long for gathering to end, if its caller set no deadline.
const GATHER_WAIT: Duration = Duration::from_secs(10);
/// What is left of a caller's deadline when its answer is sent.
const DEADLINE_MARGIN: Duration = Duration::from_millis(200);

/// Addresses of coordinators that clients and relays are told.
const MAX_URLS: usize = 32;

/// Whether clients and relays may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// They may.
    Up,
    /// This coordinator is stopping, or cut off from its store: they go to another.
    Leaving,
}

/// What is to be done about a change.
#[derive(Debug)]
pub enum Plan<T> {
    /// Nothing is written.
    Settled(T),
    /// This is written.
    Write(Transaction, T),
}

/// What all parts share.
pub struct Context {
    /// This life of this coordinator.
    pub id: String,
    /// Where others reach this coordinator, then where they reach those that its configuration names.
    configured_urls: Vec<String>,
    /// How much of everything.
    pub limits: Limits,
    /// How long everything takes.
    pub timings: Timings,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Its keys.
    pub keys: Keys,
    /// The copy of it.
    pub mirror: Arc<Mirror>,
    /// Checks user tokens.
    pub user_tokens: UserTokens,
    /// Signs node tokens.
    pub node_tokens: NodeTokens,
    /// Open client connections.
    pub connections: Connections,
    /// Somebody's time may have come before the next tick.
    pub users_due: Notify,
    /// This coordinator's key is gone from the store, or is to be written again.
    pub unseen: Notify,
    presence: Mutex<Presence>,
    nodes: Mutex<Table>,
    gathering: Mutex<Gathering>,
    gathered: watch::Sender<bool>,
    serving: watch::Sender<Serving>,
    store_here: AtomicBool,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The monotonic clock, as tests may set it.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall clock.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock.
#[must_use]
pub fn unix_s() -> u64 {
    unix_ms() / 1000
}

/// Waits until clients and relays have to go.
pub async fn leaving(serving: &mut watch::Receiver<Serving>) {
    // Its sender lives in the context, as long as anything is served.
    drop(serving.wait_for(|serving| *serving == Serving::Leaving).await);
}

/// What a [`Context`] is made of.
pub struct Parts {
    /// Where others reach this coordinator, then those that its configuration names.
    pub coordinator_urls: Vec<String>,
    /// See [`Context::limits`].
    pub limits: Limits,
    /// See [`Context::timings`].
    pub timings: Timings,
    /// See [`Context::store`].
    pub store: Arc<dyn Store>,
    /// See [`Context::keys`].
    pub keys: Keys,
    /// See [`Context::mirror`].
    pub mirror: Arc<Mirror>,
    /// See [`Context::user_tokens`].
    pub user_tokens: UserTokens,
    /// See [`Context::node_tokens`].
    pub node_tokens: NodeTokens,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // These hold no state that a panic between two statements could leave half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// Joins the parts.
    #[must_use]
    pub fn new(parts: Parts, gathering: Gathering) -> Self {
        let Parts { coordinator_urls, limits, timings, store, keys, mirror, user_tokens, node_tokens } =
            parts;
        let gathered = watch::Sender::new(gathering.until().is_none());
        Self {
            id: format!("{:016x}", rand::random::<u64>()),
            configured_urls: coordinator_urls,
            limits,
            timings,
            store,
            keys,
            mirror,
            user_tokens,
            node_tokens,
            connections: Connections::new(limits.connections),
            presence: Mutex::new(Presence::new(timings.heard_within, timings.token_warning)),
            nodes: Mutex::new(Table::new(timings.node_forgotten)),
            gathering: Mutex::new(gathering),
            gathered,
            serving: watch::Sender::new(Serving::Up),
            users_due: Notify::new(),
            unseen: Notify::new(),
            store_here: AtomicBool::new(true),
        }
    }

    /// Who was heard when.
    pub fn presence(&self) -> MutexGuard<'_, Presence> {
        locked(&self.presence)
    }

    /// Relays attached here.
    pub fn nodes(&self) -> MutexGuard<'_, Table> {
        locked(&self.nodes)
    }

    /// What is gathered.
    pub fn gathering(&self) -> MutexGuard<'_, Gathering> {
        locked(&self.gathering)
    }

    /// Where others reach this coordinator.
    #[must_use]
    pub fn url(&self) -> &str {
        self.configured_urls.first().map_or("", String::as_str)
    }

    /// Every coordinator that clients and relays can reach, this one first, once each.
    #[must_use]
    pub fn coordinator_urls(&self) -> Vec<String> {
        let living = self.mirror.read(|view| {
            view.coordinators().values().map(|coordinator| coordinator.url.clone()).collect::<Vec<_>>()
        });
        let mut urls: Vec<String> = Vec::new();
        for url in self.configured_urls.iter().cloned().chain(living) {
            if !urls.contains(&url) && urls.len() < MAX_URLS {
                urls.push(url);
            }
        }
        urls
    }

    /// Whether the store was reached the last time that it was tried.
    #[must_use]
    pub fn store_is_here(&self) -> bool {
        self.store_here.load(Ordering::Relaxed)
    }

    /// The store was reached, or not.
    pub fn store_here(&self, here: bool) {
        self.store_here.store(here, Ordering::Relaxed);
    }

    /// Whether clients and relays may stay.
    #[must_use]
    pub fn serving(&self) -> watch::Receiver<Serving> {
        self.serving.subscribe()
    }

    /// Tells clients and relays whether they may stay.
    pub fn serve(&self, serving: Serving) {
        self.serving.send_if_modified(|held| {
            let news = *held != serving;
            *held = serving;
            news
        });
    }

    /// Ends gathering: plans go on.
    pub fn end_gathering(&self) {
        self.gathering().end();
        self.gathered.send_replace(true);
    }

    /// Waits until claims may be granted.
    ///
    /// # Errors
    /// [`CallError::Gathering`] when the caller would not wait that long.
    pub async fn gathered(&self, deadline: Option<Duration>) -> Result<(), CallError> {
        let until = self.gathering().until();
        let Some(until) = until else { return Ok(()) };
        let left = until.saturating_duration_since(now());
        let patience = deadline.map_or(GATHER_WAIT, |deadline| deadline.saturating_sub(DEADLINE_MARGIN));
        if left > patience {
            return Err(CallError::Gathering { left });
        }
        let mut gathered = self.gathered.subscribe();
        match timeout(patience, gathered.wait_for(|&gathered| gathered)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(CallError::Gathering { left: Duration::ZERO }),
        }
    }

    /// Changes the store as `decide` says. Answers with what it decided, and at which revision that was written.
    ///
    /// # Errors
    /// [`Fault`]; the change may have been done nevertheless.
    pub async fn change<T>(&self, decide: impl Fn(&View) -> Plan<T>) -> Result<(T, Option<u64>), Fault> {
        for _ in 0..MAX_TRIES {
            let (transaction, decided) = match self.mirror.read(&decide) {
                Plan::Settled(decided) => return Ok((decided, None)),
                Plan::Write(transaction, decided) => (transaction, decided),
            };
            let outcome = timeout(STORE_WITHIN, self.store.commit(transaction)).await;
            match outcome.map_err(|_| Fault::Slow)?? {
                Outcome::Done(revision) => {
                    self.mirror.reached_number(revision, STORE_WITHIN).await?;
                    return Ok((decided, Some(revision)));
                }
                Outcome::Conflict => self.catch_up().await?,
            }
        }
        Err(Fault::Contended)
    }

    /// Waits until the mirror holds what a client saw.
    ///
    /// # Errors
    /// [`Fault`] when that takes too long.
    pub async fn seen(&self, wanted: &v1::Revision) -> Result<(), Fault> {
        if self.mirror.reached(wanted, CATCH_UP_WITHIN).await.is_ok() {
            return Ok(());
        }
        // Others may have raised it by writing elsewhere in the store, of which no batch tells; one of ours does.
        self.unseen.notify_one();
        Ok(self.mirror.reached(wanted, STORE_WITHIN).await?)
    }

    /// Waits until the mirror holds what the store holds now.
    async fn catch_up(&self) -> Result<(), Fault> {
        let key = self.keys.text(&crate::keys::Key::Epochs);
        let found = timeout(STORE_WITHIN, self.store.get(&key)).await.map_err(|_| Fault::Slow)??;
        // Others may write elsewhere in the store, which raises its revision without a batch for us: just try again.
        let _ = self.mirror.reached_number(found.revision, CATCH_UP_WITHIN).await;
        Ok(())
    }
}
