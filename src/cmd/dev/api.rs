//! What the page asks of the development server: which processes there are, a user token, and to kill, freeze or
//! start a process.

use std::{path::Path, sync::Arc};

use axum::{
    Json, Router,
    extract::{self, State as Extracted},
    http::StatusCode,
    middleware,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower_http::services::ServeDir;

use super::{
    guard,
    process::{Action, ActionError, Process},
};
use crate::{cause::with_causes, ready::Ready};

const NO_PAGE: &str = "<!doctype html><title>Waystation</title><p>The page is not built. Run <code>make web</code>, or \
                       name its folder with <code>waystation dev --page DIR</code>. The cluster runs all the same.";

/// The cluster's processes.
pub struct Cluster {
    /// Address of the page.
    pub page: String,
    /// By number.
    pub coordinators: Vec<Process>,
    /// In the order of their ids.
    pub relays: Vec<Process>,
}

impl Cluster {
    /// Every process.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.coordinators.iter().chain(&self.relays)
    }

    /// Addresses of the coordinators that came up.
    pub fn coordinator_urls(&self) -> Vec<String> {
        let ready = self.coordinators.iter().filter_map(|process| process.seen().ready);
        ready
            .filter_map(|ready| match ready {
                Ready::Coordinator { url, .. } => Some(url),
                Ready::Relay { .. } => None,
            })
            .collect()
    }

    /// What the ready file and `/dev/info` tell.
    pub fn info(&self) -> Value {
        json!({
            "page": self.page,
            "pid": std::process::id(),
            "coordinators": self.coordinator_urls(),
            "coordinator_processes": self.coordinators.iter().map(described).collect::<Vec<_>>(),
            "relays": self.relays.iter().map(described).collect::<Vec<_>>(),
        })
    }
}

/// Name, addresses, process id and state of a process.
fn described(process: &Process) -> Value {
    let seen = process.seen();
    let mut value = match &seen.ready {
        Some(Ready::Coordinator { url, admin, .. }) => json!({ "url": url, "admin": admin }),
        Some(Ready::Relay { http, link, media_port, admin, .. }) => {
            json!({ "http": http, "link": link, "media_port": media_port, "admin": admin })
        }
        None => json!({}),
    };
    value["id"] = process.name().into();
    value["pid"] = seen.pid.into();
    value["state"] = json!(process.state());
    value
}

/// The server's routes; `page` is the folder of the page's files.
pub fn router(cluster: Arc<Cluster>, page: Option<&Path>) -> Router {
    let api = Router::new()
        .route("/dev/info", get(async |Extracted(cluster): Extracted<Arc<Cluster>>| Json(cluster.info())))
        .route("/dev/token", post(token))
        .route("/dev/nodes/{id}/{action}", post(act_on_node))
        .route("/dev/coordinators/{number}/{action}", post(act_on_coordinator))
        .with_state(cluster);
    let router = match page {
        Some(directory) => api.fallback_service(ServeDir::new(directory)),
        None => api.route("/", get(async || Html(NO_PAGE))),
    };
    router.layer(middleware::from_fn(guard::own_page_only))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenWanted {
    room: String,
    user: String,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    play: bool,
    #[serde(default)]
    observe: bool,
}

#[derive(Serialize)]
struct Token {
    token: String,
}

async fn token(Json(wanted): Json<TokenWanted>) -> Response {
    let TokenWanted { room, user, publish, play, observe } = wanted;
    let rights = crate::cmd::token::Rights { publish, play, observe, admin: false };
    match crate::cmd::token::dev_token(&room, &user, rights) {
        Ok(token) => Json(Token { token }).into_response(),
        Err(error) => refusal(StatusCode::BAD_REQUEST, &with_causes(error.as_ref())),
    }
}

type Named = extract::Path<(String, String)>;

async fn act_on_node(
    Extracted(cluster): Extracted<Arc<Cluster>>,
    extract::Path((id, action)): Named,
) -> Response {
    let process = cluster.relays.iter().find(|relay| relay.name() == id);
    act(process, &format!("there is no relay {id:?}"), &action).await
}

async fn act_on_coordinator(
    Extracted(cluster): Extracted<Arc<Cluster>>,
    extract::Path((number, action)): Named,
) -> Response {
    let process = number.parse().ok().and_then(|number: usize| cluster.coordinators.get(number));
    act(process, &format!("there is no coordinator {number:?}; they are numbered from 0"), &action).await
}

async fn act(process: Option<&Process>, none: &str, action: &str) -> Response {
    let Some(process) = process else { return refusal(StatusCode::NOT_FOUND, none) };
    let action = match action {
        "kill" => Action::Kill,
        "freeze" => Action::Freeze,
        "start" => Action::Start,
        other => {
            let why = format!("there is no action {other:?}: kill, freeze or start");
            return refusal(StatusCode::NOT_FOUND, &why);
        }
    };
    match process.act(action).await {
        Ok(()) => Json(described(process)).into_response(),
        Err(error @ (ActionError::Dead(_) | ActionError::Runs(_))) => {
            refusal(StatusCode::CONFLICT, &error.to_string())
        }
        Err(error @ (ActionError::Spawn { .. } | ActionError::NotUp(_) | ActionError::Stopping)) => {
            refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
        }
    }
}

/// A problem document (RFC 9457).
fn refusal(status: StatusCode, detail: &str) -> Response {
    let body = json!({ "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail });
    (status, [(axum::http::header::CONTENT_TYPE, "application/problem+json")], body.to_string())
        .into_response()
}
