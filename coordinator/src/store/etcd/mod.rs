//! The store in etcd, for any number of coordinators.
//!
//! What the crate and etcd leave to us: a deadline on every attempt, another member after a failure ([`members`],
//! [`endpoints`]), writes whose answers are missing ([`commit`]), watches that fall silent or end ([`watch`]), and a
//! store that was emptied or restored ([`life`]). Invariant: no call waits longer than [`CALL_WITHIN`] and one attempt.

mod commit;
mod config;
mod endpoints;
mod failure;
mod life;
mod members;
mod watch;
mod wire;

use std::{sync::Arc, time::Duration};

use etcd_client::{Client, GetOptions};
use futures_util::FutureExt as _;

pub use self::config::{EtcdConfig, EtcdConfigError, EtcdTls, EtcdUser};
use self::{
    failure::Failure,
    life::Life,
    members::{AskError, Members},
};
use super::{
    Answer, Changes, Entry, Found, LeaseId, Listing, Outcome, Store, StoreError, StoreId, Transaction,
};

/// A member that takes no connection within this is taken for dead.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// HTTP/2 pings, and how long an answer may take: finds connections to frozen machines.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// One attempt at one member. Callers wait about two seconds: after a frozen member there is time for another.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(1);
/// No attempt begins later than this after the call.
const CALL_WITHIN: Duration = Duration::from_secs(4);
/// Largest answer taken. What several coordinators write at once is far below.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Entries of one page of a list.
const PAGE: i64 = 1000;
/// A list whose revision is compacted while it is read begins anew, so often.
const MAX_LISTS: usize = 3;

struct Inner {
    members: Members,
    life: Life,
}

/// A store in etcd. Clones are the same store.
#[derive(Clone)]
pub struct EtcdStore(Arc<Inner>);

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore").field("life", &self.0.life).finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Over these members. Nothing is dialled before the first call; a member that is down then may come up later.
    ///
    /// # Errors
    /// [`EtcdConfigError`] says what to change.
    pub fn connect(config: EtcdConfig) -> Result<Self, EtcdConfigError> {
        config.check()?;
        let life = Life::under(&config.prefix);
        Ok(Self(Arc::new(Inner { members: Members::new(config), life })))
    }
}

impl Inner {
    async fn get(&self, key: &str) -> Result<Found, StoreError> {
        let get = |client: Client| async move { kv(client).get(key, None).await };
        let answer = self.members.ask("get", get).await?;
        let (cluster, revision) = wire::stamp(answer.header());
        self.life.saw(cluster, revision);
        Ok(Found { revision, entry: answer.kvs().first().and_then(wire::entry) })
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let mut tries = 0;
        let listing = loop {
            tries += 1;
            match self.pages(prefix).await {
                Ok(listing) => break listing,
                Err(AskError { failure: Failure::Compacted, .. }) if tries < MAX_LISTS => {}
                Err(error) => return Err(error.into()),
            }
        };
        self.of_this_life(prefix, listing)
    }

    /// All pages, at the revision of the first.
    async fn pages(&self, prefix: &str) -> Result<Listing, AskError> {
        let (mut from, end) = wire::range(prefix);
        let mut revision = None;
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
            if let Some(revision) = revision {
                options = options.with_revision(wire::to_wire(revision));
            }
            let page = |client: Client| {
                let (from, options) = (from.clone(), options.clone());
                async move { kv(client).get(from, Some(options)).await }
            };
            let answer = self.members.ask("list", page).await?;
            let (cluster, now) = wire::stamp(answer.header());
            self.life.saw(cluster, now);
            let revision = *revision.get_or_insert(now);
            entries.extend(answer.kvs().iter().filter_map(wire::entry));
            match answer.kvs().last() {
                Some(last) if answer.more() => {
                    from = last.key().to_vec();
                    from.push(0);
                }
                Some(_) | None => return Ok(Listing { revision, entries }),
            }
        }
    }

    /// Takes our own key out. A list that must have it and has not, or has another, is of another store than the one
    /// whose id the caller knows.
    fn of_this_life(&self, prefix: &str, mut listing: Listing) -> Result<Listing, StoreError> {
        let own = listing.entries.iter().position(|entry| entry.key == self.life.key());
        let own = own.map(|index| listing.entries.remove(index).value);
        match self.life.known() {
            Some(known) if self.life.key().starts_with(prefix) && own.as_deref() != Some(known.own()) => {
                Err(StoreError::Unavailable("it is another store than before; ask for its id again".into()))
            }
            Some(_) | None => Ok(listing),
        }
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let seconds = ttl.as_millis().div_ceil(1000).max(1);
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        // One that was granted without an answer runs out by itself.
        let grant = |mut client: Client| async move { client.lease_grant(seconds, None).await };
        let answer = self.members.ask("grant", grant).await?;
        Ok(LeaseId(answer.id().cast_unsigned()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        let id = lease.0.cast_signed();
        let keep = |mut client: Client| async move { client.lease_keep_alive(id).await };
        match self.members.ask("keep_alive", keep).await {
            Ok(_) => Ok(()),
            Err(error) => Err(of_lease(lease, error)),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let id = lease.0.cast_signed();
        let revoke = |mut client: Client| async move { client.lease_revoke(id).await };
        match self.members.ask("revoke", revoke).await {
            Ok(_) => Ok(()),
            Err(error) => Err(of_lease(lease, error)),
        }
    }
}

fn of_lease(lease: LeaseId, error: AskError) -> StoreError {
    if error.failure == Failure::LeaseGone { StoreError::LeaseGone(lease) } else { error.into() }
}

fn kv(client: Client) -> etcd_client::KvClient {
    client.kv_client().max_decoding_message_size(MAX_ANSWER_BYTES)
}

impl Store for EtcdStore {
    fn id(&self) -> Answer<'_, StoreId> {
        self.0.id().boxed()
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Found> {
        self.0.get(key).boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Answer<'a, Listing> {
        self.0.list(prefix).boxed()
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Outcome> {
        self.0.commit(transaction).boxed()
    }

    fn watch(&self, prefix: &str, from: u64) -> Changes {
        watch::changes(Arc::clone(&self.0), prefix, from)
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        self.0.grant(ttl).boxed()
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.0.keep_alive(lease).boxed()
    }

    fn revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.0.revoke(lease).boxed()
    }
}
