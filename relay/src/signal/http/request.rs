//! What all requests have in common: who asks, for which stream, with which body.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use waystation_proto::{
    RoomId, StreamId, StreamKey,
    token::{Action, NodeToken},
};

use super::problem::Problem;
use crate::signal::{
    Door, SignalState,
    token::{self, MAX_TOKEN_BYTES, Presented},
};

/// Header of an SDK's publish: active at once under this move.
pub const MOVE: HeaderName = HeaderName::from_static("waystation-move");
/// Header of an SDK's session: milliseconds of silence after which a beat is wanted.
pub const BEAT: HeaderName = HeaderName::from_static("waystation-beat");
/// Beats that a client may ask for.
const BEAT_MS: std::ops::RangeInclusive<u64> = 10..=10_000;
/// How long a client may take to send its body.
const BODY_TIME: Duration = Duration::from_secs(5);

/// The stream that a path names.
pub fn stream_key(room: &str, stream: &str) -> Result<StreamKey, Problem> {
    let room = RoomId::new(room).map_err(Problem::bad_request)?;
    let stream = StreamId::new(stream).map_err(Problem::bad_request)?;
    Ok(StreamKey { room, stream })
}

/// Refuses another content type than `wanted`.
pub fn content_type(headers: &HeaderMap, wanted: &'static str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let detail = format!("the content type is {essence:?}; {wanted} is needed");
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "media-type",
        "Another content type is needed",
        detail,
    ))
}

/// The whole body, if it has at most `most` bytes and comes in time.
pub async fn body(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, Problem> {
    let large = || Problem::too_large(format!("the body has more than {most} bytes"));
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > most as u64) {
        return Err(large());
    }
    let gather = async {
        let mut gathered = BytesMut::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk =
                chunk.map_err(|error| Problem::bad_request(format!("the body broke off: {error}")))?;
            if gathered.len() + chunk.len() > most {
                return Err(large());
            }
            gathered.extend_from_slice(&chunk);
        }
        Ok(gathered.freeze())
    };
    tokio::time::timeout(BODY_TIME, gather).await.unwrap_or_else(|_| {
        let detail = format!("the body did not come within {} s", BODY_TIME.as_secs());
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "slow", "The request took too long", detail))
    })
}

/// A checked token for this action on this stream. A user token is exchanged at the coordinator.
pub async fn authorize<D: Door>(
    state: &SignalState<D>,
    headers: &HeaderMap,
    action: Action,
    stream: &StreamKey,
) -> Result<NodeToken, Problem> {
    let text = bearer(headers)?;
    let checked = match read(state, text)? {
        Presented::Node(token) => token,
        Presented::User => {
            let exchanged = state.control.exchange(text.to_owned(), action, stream.clone()).await?;
            match read(state, &exchanged) {
                Ok(Presented::Node(token)) => token,
                Ok(Presented::User) => {
                    return Err(Problem::unavailable("the coordinator gave no node token"));
                }
                // The coordinator vouches for the client: what is wrong here is this node's.
                Err(error) => {
                    return Err(Problem::unavailable(format!(
                        "cannot check the coordinator's token: {error}"
                    )));
                }
            }
        }
    };
    token::covers(&checked, action, stream)?;
    Ok(checked)
}

fn read<D: Door>(state: &SignalState<D>, text: &str) -> Result<Presented, token::TokenError> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    token::read(&state.keys.borrow(), text, i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(Problem::unauthorized("no Authorization header; send \"Authorization: Bearer TOKEN\""));
    };
    let text = value.to_str().ok().and_then(|text| text.split_once(' '));
    match text {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && token.len() <= MAX_TOKEN_BYTES => {
            Ok(token.trim())
        }
        Some(_) | None => Err(Problem::unauthorized("the Authorization header is not \"Bearer TOKEN\"")),
    }
}

/// `Waystation-Move`
pub fn moved(headers: &HeaderMap) -> Result<Option<u32>, Problem> {
    let what = "a number from 0 to 4294967295";
    number(headers, &MOVE, what)?.map(|n| u32::try_from(n).map_err(|_| not_a_number(&MOVE, what))).transpose()
}

/// `Waystation-Beat`
pub fn beat(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let what = "10 to 10000 milliseconds";
    match number(headers, &BEAT, what)? {
        Some(ms) if !BEAT_MS.contains(&ms) => Err(not_a_number(&BEAT, what)),
        ms => Ok(ms.map(Duration::from_millis)),
    }
}

fn number(headers: &HeaderMap, name: &HeaderName, what: &str) -> Result<Option<u64>, Problem> {
    headers
        .get(name)
        .map(|value| {
            value.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| not_a_number(name, what))
        })
        .transpose()
}

fn not_a_number(name: &HeaderName, what: &str) -> Problem {
    Problem::bad_request(format!("header {name} must be {what}"))
}
