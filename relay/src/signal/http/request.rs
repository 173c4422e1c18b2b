//! What all requests have in common: who asks, for which stream, with which body.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use waystation_proto::{
    RoomId, StreamId, StreamKey,
    token::{Action, NodeToken},
};

use super::problem::Problem;
use crate::{
    control::{BearerHash, Holder, Resource},
    signal::{
        Door, SignalState,
        sdp::MAX_SDP_BYTES,
        token::{self, MAX_TOKEN_BYTES, Presented},
    },
};

/// Header of an SDK's publish: active at once under this move.
pub const MOVE: HeaderName = HeaderName::from_static("waystation-move");
/// Header of an SDK's session: milliseconds of silence after which a beat is wanted.
pub const BEAT: HeaderName = HeaderName::from_static("waystation-beat");
/// Beats that a client may ask for.
const BEAT_MS: std::ops::RangeInclusive<u64> = 10..=10_000;
/// Longest body that is kept.
pub const MAX_BODY_BYTES: usize = MAX_SDP_BYTES;
/// Longest body that is read to its end.
const MAX_READ_BYTES: usize = 4 << 20;
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

/// The body as it was gathered, if it has at most `most` bytes.
pub fn body(gathered: Gathered, most: usize) -> Result<Bytes, Problem> {
    match gathered {
        Gathered::Whole(bytes) if bytes.len() <= most => Ok(bytes),
        Gathered::Whole(_) | Gathered::TooLong => {
            Err(Problem::too_large(format!("the body has more than {most} bytes")))
        }
    }
}

/// A body that was read before anything was decided: an answer while the client still sends would be lost with the
/// connection.
#[derive(Clone, Debug)]
pub enum Gathered {
    /// All of it.
    Whole(Bytes),
    /// It has more than [`MAX_BODY_BYTES`], and was not kept.
    TooLong,
}

/// Reads a body to its end, if it comes in time, and keeps it if it is short. What is much longer than any offer is not
/// even read: that client loses its connection.
pub async fn gather(body: Body) -> Result<Gathered, Problem> {
    let gather = async {
        let (mut gathered, mut read) = (BytesMut::new(), 0);
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| {
                Problem::bad_request("the body broke off before the length that was announced")
            })?;
            read += chunk.len();
            if read <= MAX_BODY_BYTES {
                gathered.extend_from_slice(&chunk);
            } else if read > MAX_READ_BYTES {
                break;
            }
        }
        Ok(if read <= MAX_BODY_BYTES { Gathered::Whole(gathered.freeze()) } else { Gathered::TooLong })
    };
    tokio::time::timeout(BODY_TIME, gather).await.unwrap_or_else(|_| {
        let detail = format!("the body did not come within {} s", BODY_TIME.as_secs());
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "slow", "The request took too long", detail))
    })
}

/// Who asks, and that they may do this with this stream. A user token is exchanged at the coordinator.
pub async fn authorize<D: Door>(
    state: &SignalState<D>,
    headers: &HeaderMap,
    action: Action,
    stream: &StreamKey,
) -> Result<Holder, Problem> {
    let text = bearer(headers)?;
    let token = match read(state, text)? {
        Presented::Node(token) => token,
        Presented::User => exchange(state, text, action, stream).await?,
    };
    token::covers(&token, action, stream)?;
    Ok(Holder { token, bearer: BearerHash::of(text) })
}

async fn exchange<D: Door>(
    state: &SignalState<D>,
    text: &str,
    action: Action,
    stream: &StreamKey,
) -> Result<NodeToken, Problem> {
    let exchanged = state.control.exchange(text.to_owned(), action, stream.clone()).await?;
    match read(state, &exchanged) {
        Ok(Presented::Node(token)) => Ok(token),
        Ok(Presented::User) => Err(Problem::unavailable("the coordinator gave no node token")),
        // The coordinator vouches for the client: what is wrong here is this node's.
        Err(error) => Err(Problem::unavailable(format!("cannot check the coordinator's token: {error}"))),
    }
}

/// That this session is there, and that who asks holds it: by the token that opened it, whatever became of it since, or
/// by another of the same user for the same stream (RFC 9725 §4.2, §4.7.1). Without a token, or with a bad one, the answer
/// does not tell whether there is such a session.
pub async fn held<D: Door>(
    state: &SignalState<D>,
    headers: &HeaderMap,
    session: &Resource,
) -> Result<(), Problem> {
    let text = bearer(headers)?;
    let holder = state.control.lookup(session).await;
    if holder.as_ref().is_some_and(|holder| holder.bearer == BearerHash::of(text)) {
        return Ok(());
    }
    let presented = read(state, text)?;
    let Some(Holder { token, .. }) = holder else {
        state.generations().forget(session);
        return Err(Problem::no_session());
    };
    let shown = match presented {
        Presented::Node(shown) => shown,
        // A newer token of a plain client. To ask for a play takes no claim, whatever the session does.
        Presented::User => {
            let stream = StreamKey { room: token.room.clone(), stream: token.stream.clone() };
            exchange(state, text, Action::Play, &stream).await?
        }
    };
    let of_holder = |t: &NodeToken| (t.app.clone(), t.room.clone(), t.stream.clone(), t.user.clone());
    if of_holder(&shown) == of_holder(&token) {
        Ok(())
    } else {
        Err(Problem::insufficient_scope(
            "The session is another user's",
            "show the token that opened the session",
        ))
    }
}

fn read<D: Door>(state: &SignalState<D>, text: &str) -> Result<Presented, token::TokenError> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    token::read(&state.keys.borrow(), text, i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(Problem::no_token("no Authorization header; send \"Authorization: Bearer TOKEN\""));
    };
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Problem::no_token("the Authorization header is not \"Bearer TOKEN\""));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Problem::unauthorized(format!("the token has more than {MAX_TOKEN_BYTES} bytes")));
    }
    Ok(token.trim())
}

/// Puts a token that stands in the query (RFC 6750 §2.3) where the others are. Whether there was one: such an answer is
/// nothing to be kept. A request with two tokens is refused (§2).
pub fn take_query_token(uri: &Uri, headers: &mut HeaderMap) -> Result<bool, Problem> {
    let mut pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, token)) = pairs.find(|(name, _)| *name == "access_token") else { return Ok(false) };
    if headers.contains_key(header::AUTHORIZATION) {
        return Err(Problem::bad_request("two tokens: one in the Authorization header, one in the query"));
    }
    // The characters of a JWT stand for themselves in a query.
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    let mut value = value.map_err(|_| Problem::unauthorized("access_token is no token"))?;
    value.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, value);
    Ok(true)
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
