//! Which life of the store this is: etcd's cluster id, and a key of our own that goes when the store is emptied.
//!
//! A store that was restored from an older copy has both, but a lower revision than was seen before; it gets a new key,
//! so that every coordinator sees another store. Invariant: `revision` was seen in the life `known`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use etcd_client::{Client, Txn, TxnOp};

use super::{Inner, wire};
use crate::store::{Compare, StoreError, StoreId};

/// Others may make the key at the same time, and then it is read again; more often than this, something is wrong.
const MAX_TRIES: usize = 4;

/// A life, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    cluster: u64,
    /// Value of our key.
    own: Vec<u8>,
}

impl Known {
    fn id(&self) -> StoreId {
        StoreId(format!("{:016x}-{}", self.cluster, String::from_utf8_lossy(&self.own)))
    }

    /// Value of our key.
    pub(super) fn own(&self) -> &[u8] {
        &self.own
    }
}

#[derive(Debug, Default)]
struct Seen {
    known: Option<Known>,
    revision: u64,
}

#[derive(Debug)]
pub(super) struct Life {
    key: String,
    seen: Mutex<Seen>,
}

/// The store at one moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) life: Option<Known>,
    pub(super) revision: u64,
}

impl Life {
    /// The key's name sorts before all others: whoever deletes the keys one by one deletes it first.
    pub(super) fn under(prefix: &str) -> Self {
        Self { key: format!("{}/!store", prefix.trim_end_matches('/')), seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Nothing in there panics half way.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Highest revision seen in this life.
    pub(super) fn revision(&self) -> u64 {
        self.seen().revision
    }

    pub(super) fn known(&self) -> Option<Known> {
        self.seen().known.clone()
    }

    /// An answer of the store tells its revision.
    pub(super) fn saw(&self, cluster: u64, revision: u64) {
        let mut seen = self.seen();
        if seen.known.as_ref().is_none_or(|known| known.cluster == cluster) {
            seen.revision = seen.revision.max(revision);
        }
    }

    fn met(&self, known: Known, revision: u64) {
        let mut seen = self.seen();
        let same = seen.known.as_ref() == Some(&known);
        let revision = if same { revision.max(seen.revision) } else { revision };
        *seen = Seen { known: Some(known), revision };
    }
}

impl Inner {
    /// Looks at our key through one connection.
    pub(super) async fn look(&self, mut client: Client) -> Result<Look, etcd_client::Error> {
        let answer = client.get(self.life.key.as_str(), None).await?;
        let (cluster, revision) = wire::stamp(answer.header());
        let life = answer.kvs().first().map(|held| Known { cluster, own: held.value().to_vec() });
        Ok(Look { life, revision })
    }

    /// Which store this is, now.
    pub(super) async fn id(&self) -> Result<StoreId, StoreError> {
        for _ in 0..MAX_TRIES {
            let (known, before) = {
                let seen = self.life.seen();
                (seen.known.clone(), seen.revision)
            };
            let found = self.members.ask("id", |client| self.look(client)).await?;
            let key = self.life.key.clone();
            let expected = match found.life {
                // It has forgotten what was seen: an older copy of it was restored.
                Some(life) if known.as_ref() == Some(&life) && found.revision < before => {
                    tracing::warn!(
                        seen = before,
                        now = found.revision,
                        "the store was restored to an earlier state"
                    );
                    Compare::Value(key, life.own)
                }
                Some(life) => {
                    let id = life.id();
                    self.life.met(life, found.revision);
                    return Ok(id);
                }
                None => Compare::Absent(key),
            };
            self.name(&expected).await?;
        }
        Err(StoreError::Unavailable("its id changes again and again".into()))
    }

    /// Gives the store a new name, unless somebody does it at the same time. Harmless twice: either name is new.
    async fn name(&self, expected: &Compare) -> Result<(), StoreError> {
        let own = format!("{:032x}", rand::random::<u128>());
        let txn = Txn::new().when([wire::compare(expected)]).and_then([TxnOp::put(
            self.life.key.as_str(),
            own,
            None,
        )]);
        let name = |mut client: Client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        };
        self.members.ask("name", name).await?;
        Ok(())
    }

    /// Value of our key, as of the last look.
    pub(super) async fn own(&self) -> Result<Vec<u8>, StoreError> {
        if let Some(known) = self.life.known() {
            return Ok(known.own);
        }
        self.id().await?;
        let known = self.life.known();
        known.map(|known| known.own).ok_or_else(|| StoreError::Unavailable("it has no id".into()))
    }
}
