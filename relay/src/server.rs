//! A whole relay: ports, data plane, control core, links and agent, started and stopped together.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::serve::ListenerExt as _;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::TcpListenerStream;
use waystation_proto::{Health, Load, Node, NodeRef, v1};

use crate::{
    agent::{Agent, AgentSettings},
    config::{Config, ConfigError},
    control::{Control, Core, Counts, REQUESTS, Shell, Sources},
    link::{Identity, Links, Trust},
    signal::{CoordinatorLink, Keys, QueryTokens, SignalConfig, SignalState, router},
    worker::{Plane, PlaneConfig, PlaneError},
};

/// Events of links that wait for the core.
const LINK_EVENTS: usize = 4096;
/// Events of the agent that wait for the core.
const AGENT_EVENTS: usize = 1024;
/// After the core has ended everything, open requests and the coordinator's stream have this long.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// Why a relay does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The HTTP port.
    #[error(
        "cannot open the HTTP port {addr}: {source}; is another process using it? set another with --http-listen"
    )]
    Http {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The link port.
    #[error(
        "cannot open the link port {addr}: {source}; is another process using it? set another with --link-listen"
    )]
    Link {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The media port or its threads.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for this relay's key")]
    Random,
}

/// A relay that has its ports. [`Relay::run`] serves until it is told to stop.
pub struct Relay {
    node: Node,
    ready: watch::Receiver<bool>,
    parts: Parts,
}

/// What runs.
struct Parts {
    http: TcpListener,
    link: TcpListener,
    control: Control,
    signal: SignalConfig,
    keys: watch::Receiver<Keys>,
    trust: watch::Receiver<Trust>,
    keys_sender: watch::Sender<Keys>,
    ready: watch::Sender<bool>,
    links: Links,
    shell: Shell,
    sources: Sources,
    agent: Agent,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Relay {
    /// Opens the ports and starts the data plane.
    ///
    /// # Errors
    /// [`StartError`] names the port that cannot be opened and the flag that changes it.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let id = config.check()?;
        let http = bind(config.http_listen).await;
        let http = http.map_err(|source| StartError::Http { addr: config.http_listen, source })?;
        let link = bind(config.link_listen).await;
        let link = link.map_err(|source| StartError::Link { addr: config.link_listen, source })?;
        let (plane, plane_events) = Plane::start(PlaneConfig {
            listen: config.media_listen,
            workers: config.workers,
            gso: config.gso,
            session_timeout: config.session_timeout,
        })?;
        let bound = plane.media_addr();
        let media_addr = SocketAddr::new(config.media_advertise.unwrap_or(bound.ip()), bound.port());
        let address = |listener: &TcpListener, asked| listener.local_addr().unwrap_or(asked);
        let url = |given: &Option<String>, addr: SocketAddr| match given {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{addr}"),
        };
        let node = Node {
            node: NodeRef { id, incarnation: unix_ms() },
            http_url: url(&config.http_url, address(&http, config.http_listen)),
            link_url: url(&config.link_url, address(&link, config.link_listen)),
            media_addr,
            region: config.region.clone(),
            health: Health::Healthy,
            load: Load::default(),
        };
        let (ready_sender, ready) = watch::channel(false);
        let ports = (http, link);
        let parts = wire(&config, &node, ports, (plane, plane_events), ready_sender)?;
        Ok(Self { node, ready, parts })
    }

    /// Which life of which relay this is.
    #[must_use]
    pub fn node(&self) -> &NodeRef {
        &self.node.node
    }

    /// Base address of WHIP, WHEP and the event connection.
    #[must_use]
    pub fn http_url(&self) -> &str {
        &self.node.http_url
    }

    /// Base address of the link service.
    #[must_use]
    pub fn link_url(&self) -> &str {
        &self.node.link_url
    }

    /// The media port, as others see it.
    #[must_use]
    pub fn media_addr(&self) -> SocketAddr {
        self.node.media_addr
    }

    /// Whether sessions are taken. It never depends on a coordinator.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Serves until `shutdown` resolves; then ends every session and link, tells the coordinator, and returns.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Parts {
            http,
            link,
            control,
            signal,
            keys,
            trust,
            keys_sender,
            ready,
            links,
            shell,
            sources,
            agent,
        } = self.parts;
        let app = router(SignalState::new(signal, self.node.node.clone(), control, keys));
        let (stop_http, http_stopped) = oneshot::channel::<()>();
        let (stop_link, link_stopped) = oneshot::channel::<()>();
        let (stop_core, core_stopped) = oneshot::channel();
        let core = tokio::spawn(shell.run(sources, core_stopped));
        let mut tasks = JoinSet::new();
        tasks.spawn(agent.run());
        tasks.spawn(follow_trust(trust, keys_sender));
        // What an event connection is told does not wait until the client acknowledges what it was told before.
        let http = http.tap_io(|stream| drop(stream.set_nodelay(true)));
        tasks.spawn(async move {
            let stopped = async move { drop(http_stopped.await) };
            if let Err(error) = axum::serve(http, app).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "the HTTP port failed");
            }
        });
        tasks.spawn(async move {
            let incoming = TcpListenerStream::new(link);
            let server = tonic::transport::Server::builder().tcp_nodelay(true).add_service(links.service());
            let stopped = async move { drop(link_stopped.await) };
            if let Err(error) = server.serve_with_incoming_shutdown(incoming, stopped).await {
                tracing::error!(%error, "the link port failed");
            }
        });
        ready.send_replace(true);
        tracing::info!(node = %self.node.node, http = self.node.http_url, media = %self.node.media_addr, "relay up");
        shutdown.await;
        ready.send_replace(false);
        // The core first, so that sessions end with a word and new requests are refused with one.
        drop(stop_core);
        let _ = core.await;
        drop((stop_http, stop_link));
        let _ = timeout(STOP_WITHIN, async { while tasks.join_next().await.is_some() {} }).await;
    }
}

/// Joins the parts by their channels.
fn wire(
    config: &Config,
    node: &Node,
    (http, link): (TcpListener, TcpListener),
    (plane, plane_events): (Plane, mpsc::Receiver<crate::plane::PlaneEvent>),
    ready: watch::Sender<bool>,
) -> Result<Parts, StartError> {
    let me = node.node.clone();
    let identity = Identity::generate(me.clone(), node.media_addr).ok_or(StartError::Random)?;
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| StartError::Random)?;
    let (trust_sender, trust) = watch::channel(Trust::default());
    let (keys_sender, keys) = watch::channel(Keys::default());
    let (link_events, link_receiver) = mpsc::channel(LINK_EVENTS);
    let (agent_events, agent_receiver) = mpsc::channel(AGENT_EVENTS);
    let (asks, ask_receiver) = mpsc::channel(REQUESTS);
    let (counts_sender, counts) = watch::channel(Counts::default());
    let loaded = plane.clone();
    let settings = AgentSettings {
        coordinators: config.coordinators.clone(),
        cluster_secret: config.cluster_secret.clone(),
        node: node.clone(),
        public_key: identity.public_key().to_vec(),
        load: Arc::new(move || load(&loaded, *counts.borrow())),
        seed: rand::random(),
    };
    let (agent, agent_handle) = Agent::new(settings, agent_events, trust_sender);
    let links = Links::new(Arc::new(identity), trust.clone(), link_events);
    let core = Core::new(me, config.admissions_per_second, seed, std::time::Instant::now());
    let shell = Shell::new(core, plane, node.media_addr, links.clone(), agent_handle.clone(), counts_sender);
    let sources =
        Sources { asks: ask_receiver, plane: plane_events, links: link_receiver, agent: agent_receiver };
    let signal = SignalConfig {
        dtls_role: config.dtls_role,
        start_kbit_per_second: config.start_kbit_per_second,
        query_tokens: if config.query_tokens { QueryTokens::Taken } else { QueryTokens::Ignored },
        ..SignalConfig::default()
    };
    let control = Control::new(asks, agent_handle);
    Ok(Parts { http, link, control, signal, keys, trust, keys_sender, ready, links, shell, sources, agent })
}

fn load(plane: &Plane, counts: Counts) -> Load {
    let plane = plane.load();
    Load {
        busy_permille: plane.busy_permille,
        publishers: counts.publishers,
        players: counts.players,
        out_bits_per_second: plane.out_bits_per_second,
    }
}

/// What the agent learned, as the check of node tokens wants it.
async fn follow_trust(mut trust: watch::Receiver<Trust>, keys: watch::Sender<Keys>) {
    loop {
        let (signing, offset, coordinator) = {
            let trust = trust.borrow_and_update();
            let key = |(id, key): (&String, &Vec<u8>)| v1::SigningKey {
                id: id.clone(),
                public_key: key.clone(),
                ..v1::SigningKey::default()
            };
            let signing = v1::SigningKeys { keys: trust.keys.iter().map(key).collect() };
            let coordinator = match trust.cut_off_since_s {
                None => CoordinatorLink::Attached,
                Some(since) => {
                    CoordinatorLink::CutOff { since_unix_s: i64::try_from(since).unwrap_or(i64::MAX) }
                }
            };
            (signing, trust.clock_offset_ms, coordinator)
        };
        keys.send_modify(|keys| {
            keys.set_signing(&signing);
            keys.clock_offset_ms = offset;
            keys.coordinator = coordinator;
        });
        if trust.changed().await.is_err() {
            return;
        }
    }
}

async fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(addr).await
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
