//! A session's resource: PATCH (RFC 9725 §4.3) and DELETE (§4.2). Who knows its random name may do both.

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{FRAGMENT, etag::Precondition, problem::Problem, request};
use crate::{
    control::Resource,
    signal::{
        Door, SignalState,
        sdp::{Fragment, MAX_FRAGMENT_BYTES},
    },
};

/// Longest session name that is looked up.
const MAX_NAME_BYTES: usize = 128;

type NamePath = Result<Path<String>, PathRejection>;

/// GET and HEAD: whether the session is there; there is nothing to read.
pub async fn probe<D: Door>(
    State(state): State<SignalState<D>>,
    path: NamePath,
) -> Result<StatusCode, Problem> {
    existing(&state, path).await.map(|_| StatusCode::NO_CONTENT)
}

/// DELETE ends the session, whatever its entity tag.
pub async fn end<D: Door>(
    State(state): State<SignalState<D>>,
    path: NamePath,
) -> Result<StatusCode, Problem> {
    let session = named(path)?;
    state.generations().forget(&session);
    if state.control.close(&session).await { Ok(StatusCode::OK) } else { Err(Problem::no_session()) }
}

/// PATCH: candidates, which we need not know, or an ICE restart.
pub async fn patch<D: Door>(
    State(state): State<SignalState<D>>,
    path: NamePath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    request::content_type(&headers, FRAGMENT)?;
    let fragment = Fragment::parse(&request::body(&headers, body, MAX_FRAGMENT_BYTES).await?)?;
    let session = existing(&state, path).await?;
    let Some(if_match) = headers.get(header::IF_MATCH) else {
        let detail = "send If-Match with the session's ETag, or with * to restart ICE";
        return Err(Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "if-match",
            "If-Match is needed",
            detail,
        ));
    };
    let precondition = state.generations().judge(&session, if_match.to_str().unwrap_or_default());
    match precondition {
        Precondition::Current => Ok(StatusCode::NO_CONTENT.into_response()),
        Precondition::Any => restart(&state, &session, &fragment).await,
        Precondition::Stale => {
            let detail = "the ETag is not the session's; ICE was restarted since";
            Err(Problem::new(StatusCode::PRECONDITION_FAILED, "stale", "The ETag is stale", detail))
        }
    }
}

async fn restart<D: Door>(
    state: &SignalState<D>,
    session: &Resource,
    fragment: &Fragment,
) -> Result<Response, Problem> {
    let Some(ufrag) = fragment.ufrag.clone() else {
        return Err(Problem::bad_request("an ICE restart needs a=ice-ufrag and a=ice-pwd in its fragment"));
    };
    let Some(ice) = state.control.restart_ice(session, ufrag).await else {
        return Err(Problem::no_session());
    };
    let tag = state.generations().restarted(session);
    let headers = [(header::CONTENT_TYPE, FRAGMENT.to_owned()), (header::ETAG, tag)];
    Ok((StatusCode::OK, headers, fragment.restarted(&ice, state.candidate.get().copied())).into_response())
}

async fn existing<D: Door>(state: &SignalState<D>, path: NamePath) -> Result<Resource, Problem> {
    let session = named(path)?;
    if state.control.lookup(&session).await.is_some() {
        return Ok(session);
    }
    state.generations().forget(&session);
    Err(Problem::no_session())
}

fn named(path: NamePath) -> Result<Resource, Problem> {
    let Path(name) = path.map_err(Problem::bad_request)?;
    if name.len() > MAX_NAME_BYTES { Err(Problem::no_session()) } else { Ok(Resource(name.into())) }
}
