//! What a coordinator is told at its start.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::tokens::App;

/// Shortest cluster secret, in bytes.
pub const MIN_SECRET_BYTES: usize = 16;

/// A coordinator's configuration.
#[derive(Clone)]
pub struct Config {
    /// Address of gRPC, gRPC-Web and the page; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Base address under which clients and relays reach it, if it is not that of `listen`.
    pub url: Option<String>,
    /// Base addresses of the other coordinators.
    pub peers: Vec<String>,
    /// What relays attach with, and what the signing keys in the store are sealed with; the same in the whole cluster.
    pub cluster_secret: String,
    /// Apps whose user tokens are taken.
    pub apps: Vec<App>,
    /// Folder of the page's files, served at `/`.
    pub page: Option<PathBuf>,
    /// What every key in the store begins with.
    pub store_prefix: String,
    /// How much of everything.
    pub limits: Limits,
    /// How long everything takes.
    pub timings: Timings,
}

impl Config {
    /// A configuration with defaults for all that may have one.
    #[must_use]
    pub fn new(listen: SocketAddr, cluster_secret: String, apps: Vec<App>) -> Self {
        Self {
            listen,
            url: None,
            peers: Vec::new(),
            cluster_secret,
            apps,
            page: None,
            store_prefix: "waystation/v1".into(),
            limits: Limits::default(),
            timings: Timings::default(),
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Config");
        fields.field("listen", &self.listen).field("url", &self.url).field("peers", &self.peers);
        fields.field("apps", &self.apps).field("limits", &self.limits).field("timings", &self.timings);
        fields.finish_non_exhaustive()
    }
}

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rooms that one client may be in (1002001).
    pub rooms_per_client: usize,
    /// Users that one room takes (1002034).
    pub users_per_room: usize,
    /// Open client connections; more are sent to another coordinator.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rooms_per_client: 5, users_per_room: 10_000, connections: 50_000 }
    }
}

/// How long everything takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// How long a coordinator whose store came up empty gathers what relays and clients hold. Until then, plans wait.
    /// Zero only where nothing can have been before: at the first start of a new cluster.
    pub gather: Duration,
    /// A user that is not heard for this long is gone.
    pub heard_within: Duration,
    /// Clients are asked to beat this often.
    pub client_beat: Duration,
    /// A relay that is not heard for this long is gone.
    pub node_forgotten: Duration,
    /// A token's end is announced this long ahead.
    pub token_warning: Duration,
    /// A key signs node tokens for this long; then a new one does.
    pub key_max_age: Duration,
    /// A new key signs only after this, when every relay and coordinator knows it: longer than their clocks differ and
    /// news takes.
    pub key_lead: Duration,
    /// Without its store, a coordinator serves what it has for this long.
    pub cut_off: Duration,
    /// A coordinator that does not reach the store for this long is taken for dead by the others.
    pub owner_lease: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            gather: Duration::from_secs(5),
            heard_within: Duration::from_secs(90),
            client_beat: Duration::from_secs(5),
            node_forgotten: Duration::from_secs(10),
            token_warning: Duration::from_secs(30),
            key_max_age: Duration::from_secs(24 * 60 * 60),
            key_lead: Duration::from_secs(10),
            cut_off: Duration::from_secs(5),
            owner_lease: Duration::from_secs(10),
        }
    }
}
