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
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn},
    response::Response,
    routing::{get, post},
};
use tower_http::cors::{Any, CorsLayer};

pub use self::etag::Generations;
pub use self::problem::Problem;
use super::{Door, SignalState, events, metrics};

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// RFC 8144 has no constant for it in the http crate.
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// How long a browser may remember a preflight's answer.
const CORS_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What clients see of this relay.
pub fn router<D: Door>(state: SignalState<D>) -> Router {
    Router::new()
        .route("/whip/{room}/{stream}", post(open::publish::<D>).get(open::probe))
        .route("/whep/{room}/{stream}", post(open::play::<D>).get(open::probe).head(open::probe_play))
        .route("/session/{id}", get(session::probe::<D>).patch(session::patch::<D>).delete(session::end::<D>))
        .route("/events", get(events::upgrade::<D>))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(cors())
        .layer(from_fn(finish))
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

/// Says on OPTIONS what may be posted or patched (RFC 9725 §4.2), and counts.
async fn finish(request: Request<Body>, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let options = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if options {
        let headers = response.headers_mut();
        match path.split('/').nth(1) {
            Some("whip" | "whep") => headers.insert(ACCEPT_POST, HeaderValue::from_static(SDP)),
            Some("session") => headers.insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT)),
            Some(_) | None => None,
        };
    } else {
        metrics::request(&path, response.status());
    }
    response
}

async fn not_found() -> Problem {
    let detail = "paths here are /whip/{room}/{stream}, /whep/{room}/{stream}, /session/{id} and /events";
    Problem::new(StatusCode::NOT_FOUND, "not-found", "No such path", detail)
}

async fn method_not_allowed(method: Method) -> Problem {
    let detail = format!("{method} is not allowed here");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "The method is not allowed here", detail)
}
