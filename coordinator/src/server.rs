//! A whole coordinator on one port: gRPC, gRPC-Web, health, reflection and the page.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderName, StatusCode},
    response::{Html, IntoResponse as _},
    serve::ListenerExt as _,
};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;
use tower_http::{
    cors::{AllowHeaders, AllowOrigin, Any, CorsLayer, ExposeHeaders},
    services::ServeDir,
};
use waystation_proto::{
    CODE_METADATA, FILE_DESCRIPTOR_SET,
    v1::{
        admin_service_server::AdminServiceServer, cluster_service_server::ClusterServiceServer,
        node_service_server::NodeServiceServer, room_service_server::RoomServiceServer,
    },
};

use crate::{
    admin::Admin,
    cluster::Cluster,
    config::{Config, MIN_SECRET_BYTES},
    context::{Context, Parts, STORE_WITHIN, Serving, now, unix_ms},
    gathering::{Gathering, first_epoch},
    keys::{Key, Keys, Origin, decode, encode},
    mirror::{Mirror, follow},
    nodes::Nodes,
    rooms::Rooms,
    store::{Compare, Grouped, MemoryStore, Outcome, Store, StoreError, Transaction, Write},
    tokens::{self, BeginError, NodeTokens, Rules, SignError, UserTokens},
    upkeep::{self, Keeper},
};

/// Largest message taken: a relay's hello with all its origins.
const MAX_MESSAGE_BYTES: usize = 8 << 20;
/// Open streams have this long to take their last word.
const STOP_WITHIN: Duration = Duration::from_secs(2);

const NOT_FOUND: &str = "<!doctype html><title>Not here</title><h1>Nothing is here</h1>\
    <p>This is a Waystation coordinator. Its page, if it serves one, is at <a href=\"/\">/</a>.";

/// Why a coordinator does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its address.
    #[error(
        "cannot listen on {address}: {source}; is another process using it? choose another with --listen"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A secret that could be guessed.
    #[error("the cluster secret has {bytes} bytes; at least {MIN_SECRET_BYTES} are needed")]
    ShortSecret {
        /// Its length.
        bytes: usize,
    },
    /// Nobody could log in.
    #[error("no app is configured, so no user token could be taken; add one with its id and key")]
    NoApp,
    /// The page's folder.
    #[error("the page's folder {0:?} has no index.html; build the page, or leave the setting out")]
    Page(std::path::PathBuf),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] SignError),
    /// The store.
    #[error("the store does not answer at the start: {0}")]
    Store(#[from] StoreError),
    /// The store takes too long.
    #[error("the store does not answer at the start within {} s", STORE_WITHIN.as_secs())]
    SlowStore,
    /// The descriptors of our own services.
    #[error("the reflection service cannot be made: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl From<BeginError> for StartError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::Store(error) => error.into(),
            BeginError::Sign(error) => error.into(),
        }
    }
}

/// A coordinator that has its port. [`Coordinator::run`] serves until it is told to stop.
pub struct Coordinator {
    url: String,
    listener: TcpListener,
    context: Arc<Context>,
    page: Option<std::path::PathBuf>,
    ready: watch::Sender<bool>,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Coordinator {
    /// Takes the port, over a memory store of its own.
    ///
    /// # Errors
    /// [`StartError`] says what to change.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        Self::bind_over(config, Arc::new(MemoryStore::new())).await
    }

    /// Takes the port, over this store.
    ///
    /// # Errors
    /// [`StartError`] says what to change.
    pub async fn bind_over(config: Config, store: Arc<dyn Store>) -> Result<Self, StartError> {
        check(&config)?;
        let listener = TcpListener::bind(config.listen).await;
        let listen_error = |source| StartError::Listen { address: config.listen, source };
        let listener = listener.map_err(listen_error)?;
        let url = match &config.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", listener.local_addr().map_err(listen_error)?),
        };
        let store: Arc<dyn Store> = Arc::new(Grouped::new(store));
        let keys = Keys::under(&config.store_prefix);
        let met = timeout(STORE_WITHIN, meet(&*store, &keys, config.timings.gather))
            .await
            .map_err(|_| StartError::SlowStore)??;
        let gathering = match met {
            Met::Empty if config.timings.gather > Duration::ZERO => {
                Gathering::begin(config.timings.gather, now())
            }
            Met::Empty | Met::InUse => Gathering::not_needed(),
        };
        let id = timeout(STORE_WITHIN, store.id()).await.map_err(|_| StartError::SlowStore)??;
        let mut coordinator_urls = vec![url.clone()];
        coordinator_urls.extend(config.peers.iter().map(|peer| peer.trim_end_matches('/').to_owned()));
        let rules = Rules { max_age: config.timings.key_max_age, lead: config.timings.key_lead };
        let node_tokens = NodeTokens::new(&config.cluster_secret, rules)?;
        let begun = timeout(STORE_WITHIN, tokens::begin(&*store, &keys, &node_tokens)).await;
        begun.map_err(|_| StartError::SlowStore)??;
        let parts = Parts {
            coordinator_urls,
            limits: config.limits,
            timings: config.timings,
            mirror: Arc::new(Mirror::new(id, keys.clone())),
            store,
            keys,
            user_tokens: UserTokens::new(config.apps),
            node_tokens,
        };
        let context = Arc::new(Context::new(parts, gathering));
        Ok(Self { url, listener, context, page: config.page, ready: watch::Sender::new(false) })
    }

    /// Base address of gRPC, gRPC-Web and the page.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether clients and relays are taken.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Serves until `shutdown` resolves; then tells clients and relays to go to another coordinator, and returns.
    ///
    /// # Errors
    /// [`StartError::Reflection`], before anything is served.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), StartError> {
        let Self { url, listener, context, page, ready } = self;
        let app = router(&context, page.as_deref()).await?;
        let mut background = JoinSet::new();
        let (store, mirror, keys) =
            (Arc::clone(&context.store), Arc::clone(&context.mirror), context.keys.clone());
        let owner = context.id.clone();
        background.spawn(follow(store, mirror, keys, owner, Keeper::new(Arc::clone(&context))));
        background.spawn(upkeep::run(Arc::clone(&context)));
        background.spawn(tokens::run(Arc::clone(&context)));
        background.spawn(tell_ready(context.serving(), ready.clone()));
        let (stop, stopped) = watch::channel(false);
        let mut serving = tokio::spawn(serve(listener, app, stopped));
        tracing::info!(url, "coordinator up");
        let ended = tokio::select! {
            () = shutdown => None,
            ended = &mut serving => Some(ended),
        };
        ready.send_replace(false);
        // What looks after the store would say that all may stay.
        background.shutdown().await;
        context.serve(Serving::Leaving);
        upkeep::resign(&context).await;
        stop.send_replace(true);
        if ended.is_none() && timeout(STOP_WITHIN, &mut serving).await.is_err() {
            serving.abort();
        }
        Ok(())
    }
}

async fn serve(listener: TcpListener, app: Router, mut stopped: watch::Receiver<bool>) {
    let stop = async move { drop(stopped.wait_for(|&stop| stop).await) };
    let serving = axum::serve(listener.tap_io(set_nodelay), app).with_graceful_shutdown(stop);
    if let Err(error) = serving.await {
        tracing::error!(%error, "the port is served no more");
    }
}

/// Events are small, and are awaited.
fn set_nodelay(stream: &mut TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it was served");
    }
}

async fn tell_ready(mut serving: watch::Receiver<Serving>, ready: watch::Sender<bool>) {
    loop {
        ready.send_replace(*serving.borrow_and_update() == Serving::Up);
        if serving.changed().await.is_err() {
            return;
        }
    }
}

fn check(config: &Config) -> Result<(), StartError> {
    if config.cluster_secret.len() < MIN_SECRET_BYTES {
        return Err(StartError::ShortSecret { bytes: config.cluster_secret.len() });
    }
    if config.apps.is_empty() {
        return Err(StartError::NoApp);
    }
    match &config.page {
        Some(page) if !page.join("index.html").is_file() => Err(StartError::Page(page.clone())),
        Some(_) | None => Ok(()),
    }
}

/// What the store was found to be.
enum Met {
    /// Nobody was here before, or nobody was a moment ago: it may be that all was lost.
    Empty,
    /// Somebody was.
    InUse,
}

/// Meets the store; in an empty one, says where epochs begin. One of several coordinators wins; those that come within
/// the time of its gathering gather too.
async fn meet(store: &dyn Store, keys: &Keys, gather: Duration) -> Result<Met, StoreError> {
    let key = keys.text(&Key::Epochs);
    let now_ms = unix_ms();
    let origin = encode(&Origin::above(first_epoch(now_ms), now_ms));
    let compares = vec![Compare::Absent(key.clone())];
    match store.commit(Transaction { compares, writes: vec![Write::put(key.clone(), origin)] }).await? {
        Outcome::Done(_) => Ok(Met::Empty),
        Outcome::Conflict => {
            let held = store.get(&key).await?.entry;
            let met_ms =
                held.and_then(|held| decode::<Origin>(&held.value)).map_or(0, |origin| origin.met_ms);
            let recent = Duration::from_millis(now_ms.abs_diff(met_ms)) < gather;
            Ok(if recent { Met::Empty } else { Met::InUse })
        }
    }
}

async fn router(context: &Arc<Context>, page: Option<&Path>) -> Result<Router, StartError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<RoomServiceServer<Rooms>>().await;
    health.set_serving::<NodeServiceServer<Nodes>>().await;
    health.set_serving::<ClusterServiceServer<Cluster>>().await;
    health.set_serving::<AdminServiceServer<Admin>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let rooms = RoomServiceServer::new(Rooms::new(Arc::clone(context)));
    let nodes = NodeServiceServer::new(Nodes::new(Arc::clone(context)));
    let cluster = ClusterServiceServer::new(Cluster::new(Arc::clone(context)));
    let grpc = Routes::new(rooms.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(nodes.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(cluster)
        .add_service(AdminServiceServer::new(Admin::new(Arc::clone(context))))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .into_axum_router()
        .reset_fallback()
        .layer(GrpcWebLayer::new());
    let not_found = || async { (StatusCode::NOT_FOUND, Html(NOT_FOUND)).into_response() };
    let app = match page {
        Some(page) => {
            Router::new().fallback_service(ServeDir::new(page).fallback(axum::routing::any(not_found)))
        }
        None => Router::new().fallback(not_found),
    };
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin", CODE_METADATA];
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::from(Any))
        // "*" would leave out "authorization", which the page sends.
        .allow_headers(AllowHeaders::mirror_request())
        .allow_methods(Any)
        .expose_headers(ExposeHeaders::list(exposed.map(HeaderName::from_static)));
    Ok(app.merge(grpc).layer(cors))
}
