//! The admin port: `/healthz` (the process lives), `/readyz` (it takes new sessions), `/metrics` (Prometheus text).

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse as _,
    routing::get,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use thiserror::Error;
use tokio::net::TcpListener;

/// The exporter drains its histograms only when told to; undrained, they grow without end.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Seconds: from one video frame's send call up to a walk that gave up.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Counts in one go, such as datagrams of a batch.
const COUNT_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Content type of the text format that is rendered.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The admin port cannot be served.
#[derive(Debug, Error)]
pub enum AdminError {
    /// Another recorder, or a bad bucket.
    #[error("cannot start metrics: {0}")]
    Metrics(#[from] BuildError),
    /// Its address.
    #[error("cannot listen for admin on {address}: {source}; choose another with --admin-listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// Installs the process's recorder, once, and keeps it tidy. Names are those that the crates give: the exporter adds
/// nothing.
///
/// # Errors
/// [`AdminError::Metrics`] when a recorder is installed already.
pub fn start_metrics(process: &'static str) -> Result<PrometheusHandle, AdminError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)?
        .set_buckets(&COUNT_BUCKETS)?
        .install_recorder()?;
    metrics::describe_gauge!("waystation_build_info", "Always 1; the labels tell what runs.");
    metrics::gauge!("waystation_build_info", "version" => env!("CARGO_PKG_VERSION"), "process" => process)
        .set(1.0);
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            tick.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Binds the admin port.
///
/// # Errors
/// [`AdminError::Listen`]
pub async fn bind(address: SocketAddr) -> Result<TcpListener, AdminError> {
    TcpListener::bind(address).await.map_err(|source| AdminError::Listen { address, source })
}

/// Serves the admin port until the process ends: it answers while the process stops, so that "not ready" is heard.
pub fn serve(
    listener: TcpListener,
    metrics: PrometheusHandle,
    ready: impl Fn() -> bool + Send + Sync + 'static,
) {
    let router = router(move || metrics.render(), ready);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "the admin port is served no more");
        }
    });
}

fn router(
    render: impl Fn() -> String + Send + Sync + 'static,
    ready: impl Fn() -> bool + Send + Sync + 'static,
) -> Router {
    let (render, ready) = (Arc::new(render), Arc::new(ready));
    let readyz = move || {
        let answer = if ready() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        };
        async move { answer }
    };
    let metrics = move || {
        let render = Arc::clone(&render);
        async move { ([(header::CONTENT_TYPE, METRICS_TYPE)], render()).into_response() }
    };
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}
