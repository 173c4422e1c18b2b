//! A session's resource: PATCH (RFC 9725 §4.3) and DELETE (§4.2), both for who holds the session.

use axum::{
    Extension,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    FRAGMENT,
    etag::Precondition,
    problem::Problem,
    request::{self, Gathered},
};
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

/// GET and HEAD: there is nothing to read (RFC 9725 §4.2). Whether the session is there is told to its holder.
pub async fn probe<D: Door>(
    State(state): State<SignalState<D>>,
    path: NamePath,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let session = named(path)?;
    if headers.contains_key(header::AUTHORIZATION) {
        request::held(&state, &headers, &session).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// DELETE ends the session, whatever its entity tag.
pub async fn end<D: Door>(
    State(state): State<SignalState<D>>,
    path: NamePath,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let session = named(path)?;
    request::held(&state, &headers, &session).await?;
    state.generations().forget(&session);
    if state.control.close(&session).await { Ok(StatusCode::OK) } else { Err(Problem::no_session()) }
}

/// PATCH: candidates, which we need not know, or an ICE restart.
pub async fn patch<D: Door>(
    State(state): State<SignalState<D>>,
    path: NamePath,
    headers: HeaderMap,
    Extension(body): Extension<Gathered>,
) -> Result<Response, Problem> {
    let session = named(path)?;
    request::held(&state, &headers, &session).await?;
    request::content_type(&headers, FRAGMENT)?;
    let fragment = Fragment::parse(&request::body(body, MAX_FRAGMENT_BYTES)?)?;
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

/// A name that cannot be a session's is looked up like any other: it is none.
fn named(path: NamePath) -> Result<Resource, Problem> {
    let Path(mut name) = path.map_err(Problem::bad_request)?;
    name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
    Ok(Resource(name.into()))
}
