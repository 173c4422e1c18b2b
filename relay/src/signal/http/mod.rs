//! The router: WHIP (RFC 9725), WHEP, sessions, and what is true of every answer (CORS, problem documents, counting).

mod etag;
mod open;
mod problem;
mod request;
mod session;
#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tower_http::cors::{Any, CorsLayer};

pub use self::etag::Generations;
pub use self::problem::Problem;
use super::{Door, QueryTokens, SignalState, events, metrics};

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// RFC 8144 has no constant for it in the http crate.
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// How long a browser may remember a preflight's answer.
const CORS_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What clients see of this relay.
pub fn router<D: Door>(state: SignalState<D>) -> Router {
    let whip = || post(open::publish::<D>).get(open::probe);
    let whep = || post(open::play::<D>).get(open::probe).head(open::probe_play);
    let session = || get(session::probe::<D>).patch(session::patch::<D>).delete(session::end::<D>);
    Router::new()
        .route("/whip/{room}/{stream}", whip())
        .route("/whip/{room}/{stream}/", whip())
        .route("/whep/{room}/{stream}", whep())
        .route("/whep/{room}/{stream}/", whep())
        .route("/session/{id}", session())
        .route("/session/{id}/", session())
        .route("/events", get(events::upgrade::<D>))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(cors())
        .layer(from_fn_with_state(state.config.query_tokens, finish))
        .with_state(state)
}

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            request::MOVE,
            request::BEAT,
        ])
        .expose_headers([
            header::LOCATION,
            header::ETAG,
            header::LINK,
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            ACCEPT_POST,
            ACCEPT_PATCH,
        ])
        .max_age(CORS_AGE)
}

/// What all requests have in common: the body is read before anything is decided, an answer says which methods there are,
/// and is counted.
async fn finish(State(query_tokens): State<QueryTokens>, request: Request<Body>, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let mut response = match prepare(query_tokens, request).await {
        Ok((request, has_query_token)) => {
            let mut response = next.run(request).await;
            if has_query_token {
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            response
        }
        Err(problem) => problem.into_response(),
    };
    let options = method == Method::OPTIONS;
    if options || response.status() == StatusCode::METHOD_NOT_ALLOWED {
        say_what_is_allowed(&path, response.headers_mut());
    }
    if !options {
        metrics::request(&path, response.status());
    }
    response
}

/// The request with its token and body where handlers look for them; whether its token stood in the query.
async fn prepare(
    query_tokens: QueryTokens,
    mut request: Request<Body>,
) -> Result<(Request<Body>, bool), Problem> {
    let uri = request.uri().clone();
    let has_query_token = match query_tokens {
        QueryTokens::Taken => request::take_query_token(&uri, request.headers_mut())?,
        QueryTokens::Ignored => false,
    };
    if matches!(*request.method(), Method::POST | Method::PATCH) {
        let gathered = request::gather(std::mem::take(request.body_mut())).await?;
        request.extensions_mut().insert(gathered);
    }
    Ok((request, has_query_token))
}

/// `Allow` (RFC 9110 §10.2.1), and what may be posted or patched (RFC 9725 §4.2).
fn say_what_is_allowed(path: &str, headers: &mut HeaderMap) {
    let (allowed, taken) = match path.split('/').nth(1) {
        Some("whip" | "whep") => ("GET, HEAD, POST, OPTIONS", Some((ACCEPT_POST, SDP))),
        Some("session") => ("GET, HEAD, PATCH, DELETE, OPTIONS", Some((ACCEPT_PATCH, FRAGMENT))),
        Some("events") => ("GET, HEAD, OPTIONS", None),
        Some(_) | None => return,
    };
    headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
    if let Some((name, kind)) = taken {
        headers.insert(name, HeaderValue::from_static(kind));
    }
}

async fn not_found() -> Problem {
    let detail = "paths here are /whip/{room}/{stream}, /whep/{room}/{stream}, /session/{id} and /events";
    Problem::new(StatusCode::NOT_FOUND, "not-found", "No such path", detail)
}

async fn method_not_allowed(method: Method) -> Problem {
    let detail = format!("{method} is not allowed here");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "The method is not allowed here", detail)
}
