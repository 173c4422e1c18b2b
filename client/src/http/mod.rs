//! WHIP and WHEP as an SDK speaks them: one POST that opens a session, one DELETE that ends it. The only door to
//! `reqwest`.
//!
//! RFC 9725 §4.2 (WHIP), draft-ietf-wish-whep §4.2, RFC 9457 (problem documents). Invariant: every request has a deadline, every body a bound,
//! and whatever a node answers becomes an [`Opened`] or an [`OpenError`].

mod answer;

#[cfg(test)]
mod tests;

use std::time::Duration;

use reqwest::{
    Client, Response, Url,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
    },
    redirect::Policy,
};
use waystation_proto::{Node, StreamKey, token::Action};

pub(crate) use answer::{MAX_BODY_BYTES, OpenError};

/// A whole attempt has two seconds (PUB-2): one that is not answered by then is not worth its socket.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// For the TCP and TLS handshakes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A goodbye is a courtesy.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The move under which a publish becomes the active one at once.
const MOVE: HeaderName = HeaderName::from_static("waystation-move");

/// Milliseconds after which the node sends a sign of life if it has nothing else to send (GO-2).
const BEAT: HeaderName = HeaderName::from_static("waystation-beat");
const BEAT_MS: &str = "50";

/// A session to open.
#[derive(Clone, Debug)]
pub(crate) struct OpenRequest {
    /// Where.
    pub(crate) node: Node,
    /// Publish or play.
    pub(crate) action: Action,
    /// Which stream.
    pub(crate) stream: StreamKey,
    /// The node token.
    pub(crate) token: String,
    /// For a publish that is to be the active one at once.
    pub(crate) moved: Option<u32>,
    /// The peer connection's offer.
    pub(crate) offer: String,
}

/// A session that a node has taken.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// Its resource.
    pub(crate) resource: Resource,
    /// The node's answer.
    pub(crate) answer: String,
}

/// A session's address, for its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    url: Url,
    token: String,
    /// Names it on the event connection.
    pub(crate) session: String,
}

/// Speaks HTTP to nodes. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct NodeHttp {
    client: Client,
}

impl NodeHttp {
    /// A client that goes to nodes directly, like the media that follows, and follows no redirect by itself.
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .build()?;
        Ok(Self { client })
    }

    /// Opens a session.
    pub(crate) async fn open(&self, request: OpenRequest) -> Result<Opened, OpenError> {
        let url = endpoint(&request)?;
        let post = self
            .client
            .post(url.clone())
            .headers(headers(&request)?)
            .timeout(OPEN_TIMEOUT)
            .body(request.offer);
        let response = post.send().await.map_err(OpenError::of_transport)?;
        let status = response.status();
        let header = |name| {
            response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok()).map(str::to_owned)
        };
        let (location, retry_after) = (header(LOCATION), header(RETRY_AFTER));
        let body = body(response).await?;
        answer::judge(status.as_u16(), retry_after.as_deref(), &body)?;
        let answer =
            String::from_utf8(body).map_err(|_| OpenError::BadAnswer("its SDP is no UTF-8".into()))?;
        let location = location.ok_or_else(|| OpenError::BadAnswer("it names no Location".into()))?;
        let resource = resource(&url, &location, request.token)?;
        Ok(Opened { resource, answer })
    }

    /// Ends a session. Best effort: a node that does not hear it times the session out.
    pub(crate) async fn close(&self, resource: Resource) {
        let delete = self.client.delete(resource.url).bearer_auth(resource.token).timeout(CLOSE_TIMEOUT);
        if let Err(error) = delete.send().await {
            tracing::debug!(session = resource.session, %error, "session not ended at the node");
        }
    }
}

fn endpoint(request: &OpenRequest) -> Result<Url, OpenError> {
    let bad = || OpenError::BadAddress(request.node.http_url.clone());
    let mut url = Url::parse(&request.node.http_url).map_err(|_| bad())?;
    let endpoint = match request.action {
        Action::Publish => "whip",
        Action::Play => "whep",
    };
    let segments = [endpoint, request.stream.room.as_str(), request.stream.stream.as_str()];
    url.path_segments_mut().map_err(|()| bad())?.pop_if_empty().extend(segments);
    Ok(url)
}

fn headers(request: &OpenRequest) -> Result<HeaderMap, OpenError> {
    let bearer = HeaderValue::try_from(format!("Bearer {}", request.token));
    let bearer =
        bearer.map_err(|_| OpenError::TokenRefused("it holds characters that no token has".into()))?;
    let mut headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/sdp")),
        (ACCEPT, HeaderValue::from_static("application/sdp")),
        (AUTHORIZATION, bearer),
        (BEAT, HeaderValue::from_static(BEAT_MS)),
    ]);
    if let Some(moved) = request.moved {
        headers.insert(MOVE, moved.into());
    }
    Ok(headers)
}

async fn body(mut response: Response) -> Result<Vec<u8>, OpenError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(OpenError::of_transport)? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(OpenError::BadAnswer(format!("it is longer than {MAX_BODY_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The resource must be the node's own: the token goes there again.
fn resource(endpoint: &Url, location: &str, token: String) -> Result<Resource, OpenError> {
    let bad = || OpenError::BadAnswer(format!("its Location {location:?} is no resource of the node"));
    let url = endpoint.join(location).map_err(|_| bad())?;
    let session =
        url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default().to_owned();
    if url.origin() != endpoint.origin() || session.is_empty() {
        return Err(bad());
    }
    Ok(Resource { url, token, session })
}
