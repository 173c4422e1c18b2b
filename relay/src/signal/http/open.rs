//! POST to an endpoint: WHIP (RFC 9725 §4.2) and WHEP open a session.

use std::time::Duration;

use axum::{
    Extension,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use waystation_proto::{StreamKey, token::Action};

use super::{
    SDP,
    problem::Problem,
    request::{self, Gathered},
};
use crate::{
    control::{OpenPlay, OpenPublish, Opened, PeerOffer, Resource},
    plane::DtlsRole,
    signal::{
        Door, SignalState,
        sdp::{self, Draft, LocalTransport, MAX_SDP_BYTES, Negotiated, Offer, PublishPolicy},
    },
};

type StreamPath = Result<Path<(String, String)>, PathRejection>;

/// GET on an endpoint: there is nothing to read, and it is no error (RFC 9725 §4.2).
pub async fn probe(path: StreamPath) -> Result<StatusCode, Problem> {
    named(path).map(|_| StatusCode::NO_CONTENT)
}

/// HEAD on a WHEP endpoint says what is spoken there.
pub async fn probe_play(path: StreamPath) -> Result<impl IntoResponse, Problem> {
    named(path).map(|_| [(header::CONTENT_TYPE, SDP)])
}

/// WHIP.
pub async fn publish<D: Door>(
    State(state): State<SignalState<D>>,
    path: StreamPath,
    uri: Uri,
    headers: HeaderMap,
    Extension(body): Extension<Gathered>,
) -> Result<Response, Problem> {
    let stream = named(path)?;
    let holder = request::authorize(&state, &headers, Action::Publish, &stream).await?;
    request::content_type(&headers, SDP)?;
    let moved = request::moved(&headers)?;
    let beat = request::beat(&headers)?;
    let offer = Offer::parse(&request::body(body, MAX_SDP_BYTES)?)?;
    let policy = PublishPolicy {
        role: preferred_role(&state, beat),
        start_kbit_per_second: state.config.start_kbit_per_second,
    };
    let Negotiated { tracks, remote_ufrag, fingerprint, role, draft } =
        sdp::negotiate_publish(&offer, policy)?;
    // A plain client knows no moves: what it publishes is meant to be seen at once.
    let of_claim = holder.token.claim.filter(|_| holder.token.plain).map(|claim| claim.moved);
    let peer = PeerOffer { remote_ufrag, fingerprint, role, beat };
    let open = OpenPublish { holder, activate: moved.or(of_claim), tracks, peer };
    let opened = state.control.open_publish(open).await?;
    Ok(created(&state, &uri, &opened, &draft))
}

/// WHEP.
pub async fn play<D: Door>(
    State(state): State<SignalState<D>>,
    path: StreamPath,
    uri: Uri,
    headers: HeaderMap,
    Extension(body): Extension<Gathered>,
) -> Result<Response, Problem> {
    let stream = named(path)?;
    let holder = request::authorize(&state, &headers, Action::Play, &stream).await?;
    let body = request::body(body, MAX_SDP_BYTES)?;
    if body.is_empty() {
        return Err(Problem::bad_request(
            "the body is empty; here the player makes the offer: send it as application/sdp",
        ));
    }
    request::content_type(&headers, SDP)?;
    let beat = request::beat(&headers)?;
    let offer = Offer::parse(&body)?;
    let here = state.control.find(&stream).await?;
    let role = preferred_role(&state, beat);
    let Negotiated { tracks, remote_ufrag, fingerprint, role, draft } =
        sdp::negotiate_play(&offer, &here.tracks, role, &mut rand::rng())?;
    let peer = PeerOffer { remote_ufrag, fingerprint, role, beat };
    let opened = state.control.open_play(OpenPlay { holder, tracks, peer }).await?;
    Ok(created(&state, &uri, &opened, &draft))
}

/// Our side of DTLS where the client leaves the choice. The DTLS server chooses the SRTP profile, and browsers choose
/// AES_CM of all that is offered: only our SDKs, which ask for beats, are trusted with it. Others say what they can do,
/// and we choose.
fn preferred_role<D>(state: &SignalState<D>, beat: Option<Duration>) -> DtlsRole {
    match beat {
        Some(_) => state.config.dtls_role,
        None => DtlsRole::Server,
    }
}

fn named(path: StreamPath) -> Result<StreamKey, Problem> {
    let Path((room, stream)) = path.map_err(Problem::bad_request)?;
    request::stream_key(&room, &stream)
}

/// The session's address, relative to the endpoint's (RFC 3986 §4.2): what a proxy puts before both stays before both.
fn location(endpoint: &Uri, session: &Resource) -> String {
    let folders = endpoint.path().matches('/').count().saturating_sub(1);
    format!("{}session/{}", "../".repeat(folders), session.0)
}

fn created<D: Door>(state: &SignalState<D>, endpoint: &Uri, opened: &Opened, draft: &Draft) -> Response {
    let local =
        LocalTransport { ice: &opened.ice, candidate: opened.candidate, fingerprint: &opened.fingerprint };
    state.candidate.get_or_init(|| opened.candidate);
    let headers = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, location(endpoint, &opened.resource)),
        (header::ETAG, state.generations().tag(&opened.resource)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (StatusCode::CREATED, headers, draft.write(&local, rand::random())).into_response()
}
