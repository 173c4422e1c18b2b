//! SDP, WHIP (RFC 9725), WHEP and the event connection: what clients see of a relay over HTTP.
//!
//! `sdp` and `token` are pure; `http` and `events` are the shell around them, and reach the rest of the relay only
//! through [`Door`].

mod door;
#[cfg(test)]
mod double;
mod events;
mod http;
mod metrics;
mod sdp;
mod token;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::sync::{Semaphore, watch};
use waystation_proto::NodeRef;

use self::http::Generations;
use crate::plane::DtlsRole;

pub use self::{
    door::Door,
    http::router,
    metrics::describe,
    token::{CoordinatorLink, Keys},
};

/// How signalling is set up.
#[derive(Clone, Debug)]
pub struct SignalConfig {
    /// Our side of DTLS where a client leaves the choice. The client's side costs one round trip less.
    pub dtls_role: DtlsRole,
    /// Where Chromium's bandwidth estimate starts, in kbit/s; 0 leaves it alone.
    pub start_kbit_per_second: u32,
    /// Most event connections at once.
    pub max_event_connections: usize,
    /// Whether clients that can set no header may show their token in the address.
    pub query_tokens: QueryTokens,
}

/// What becomes of `?access_token=` (RFC 6750 §2.3): addresses are kept by proxies and browsers, so it is the operator's
/// choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryTokens {
    /// It says nothing.
    Ignored,
    /// It is a token like one in the header.
    Taken,
}

impl Default for SignalConfig {
    fn default() -> Self {
        Self {
            dtls_role: DtlsRole::Client,
            start_kbit_per_second: 1_000,
            max_event_connections: 20_000,
            query_tokens: QueryTokens::Ignored,
        }
    }
}

/// What every request handler holds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SignalState<D> {
    config: SignalConfig,
    node: NodeRef,
    control: D,
    keys: watch::Receiver<Keys>,
    generations: Arc<Mutex<Generations>>,
    /// Every session's one candidate, told by the first that was opened.
    candidate: Arc<OnceLock<SocketAddr>>,
    event_connections: Arc<Semaphore>,
}

impl<D: Door> SignalState<D> {
    /// The state of one relay's signalling.
    #[must_use]
    pub fn new(config: SignalConfig, node: NodeRef, control: D, keys: watch::Receiver<Keys>) -> Self {
        let event_connections = Arc::new(Semaphore::new(config.max_event_connections));
        Self {
            config,
            node,
            control,
            keys,
            generations: Arc::default(),
            candidate: Arc::default(),
            event_connections,
        }
    }

    /// The ICE generations. Held for a look-up only, never across an await.
    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
