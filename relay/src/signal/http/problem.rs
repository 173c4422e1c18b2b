//! Problem documents (RFC 9457): every refusal has one, and each knows its status, number and headers.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use waystation_proto::{Claim, ErrorCode, Refusal};

use crate::{
    control::{ExchangeError, FindError, OpenError},
    signal::{
        sdp::{FragmentError, NegotiateError, OfferError},
        token::TokenError,
    },
};

/// `Retry-After` where a stream may come any moment.
const RETRY_STREAM_S: u32 = 1;
/// `Retry-After` where another node is the better choice.
const RETRY_NODE_S: u32 = 2;

/// A refusal.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    #[serde(serialize_with = "status_number")]
    status: StatusCode,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<Claim>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
    #[serde(skip)]
    challenge: Option<Challenge>,
}

/// `WWW-Authenticate` of a refusal (RFC 6750 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Challenge {
    /// No token was shown.
    Missing,
    /// One that is no good.
    InvalidToken,
    /// A good one, for something else.
    InsufficientScope,
}

impl Challenge {
    fn header(self) -> &'static str {
        match self {
            Self::Missing => "Bearer",
            Self::InvalidToken => "Bearer error=\"invalid_token\"",
            Self::InsufficientScope => "Bearer error=\"insufficient_scope\"",
        }
    }
}

fn status_number<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}

impl Problem {
    /// A refusal without a number. `slug` names its type.
    pub fn new(status: StatusCode, slug: &str, title: &'static str, detail: impl ToString) -> Self {
        Self {
            kind: format!("urn:waystation:problem:{slug}"),
            title,
            status,
            detail: detail.to_string(),
            code: None,
            claim: None,
            retry_after_s: None,
            challenge: None,
        }
    }

    /// A request that is wrong in itself.
    pub fn bad_request(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request cannot be read", detail)
    }

    /// A body beyond its bound.
    pub fn too_large(detail: impl ToString) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large", detail)
    }

    /// No such session.
    pub fn no_session() -> Self {
        let detail = "there is no such session here; it ended, or it is another node's";
        Self::new(StatusCode::NOT_FOUND, "no-session", "No such session", detail)
    }

    /// A request without a token.
    pub fn no_token(detail: impl ToString) -> Self {
        Self { challenge: Some(Challenge::Missing), ..Self::unauthorized(detail) }
    }

    /// A bad token.
    pub fn unauthorized(detail: impl ToString) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "token", "The token is not taken", detail);
        Self { challenge: Some(Challenge::InvalidToken), ..problem.with_code(ErrorCode::TokenRefused) }
    }

    /// A good token that does not allow what is asked.
    pub fn insufficient_scope(title: &'static str, detail: impl ToString) -> Self {
        let problem = Self::new(StatusCode::FORBIDDEN, "forbidden", title, detail);
        Self { challenge: Some(Challenge::InsufficientScope), ..problem }
    }

    /// The node cannot, another can.
    pub fn unavailable(detail: impl ToString) -> Self {
        Self {
            retry_after_s: Some(RETRY_NODE_S),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "This node cannot take it now",
                detail,
            )
        }
    }

    fn with_code(self, code: ErrorCode) -> Self {
        Self { code: Some(code.number()), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // A struct of strings and numbers always serializes.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge.header()));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        match &error {
            TokenError::Malformed | TokenError::UnknownKey(_) | TokenError::Invalid => {
                Self::unauthorized(error)
            }
            TokenError::Expired { .. } => Self::unauthorized(error).with_code(ErrorCode::TokenExpired),
            TokenError::OtherPurpose { .. } | TokenError::NoClaim => {
                Self::insufficient_scope("The token does not allow it", error)
                    .with_code(ErrorCode::TokenRefused)
            }
        }
    }
}

impl From<OfferError> for Problem {
    fn from(error: OfferError) -> Self {
        match &error {
            OfferError::TooLarge(_) => Self::too_large(error),
            OfferError::NotUtf8
            | OfferError::Line(_)
            | OfferError::Syntax
            | OfferError::Count { .. }
            | OfferError::Mid { .. }
            | OfferError::Setup(_)
            | OfferError::Ufrag => Self::bad_request(error),
            OfferError::Protocol { .. } => unprocessable(error),
        }
    }
}

impl From<FragmentError> for Problem {
    fn from(error: FragmentError) -> Self {
        match &error {
            FragmentError::TooLarge(_) => Self::too_large(error),
            FragmentError::NotUtf8
            | FragmentError::Syntax(_)
            | FragmentError::Candidate(_)
            | FragmentError::Empty
            | FragmentError::Ufrag => Self::bad_request(error),
        }
    }
}

fn unprocessable(detail: impl ToString) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "offer", "The offer cannot be answered", detail)
}

impl From<NegotiateError> for Problem {
    fn from(error: NegotiateError) -> Self {
        match &error {
            NegotiateError::NoCodec { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "no-codec", "No codec in common", error)
            }
            NegotiateError::TooManyTracks { .. }
            | NegotiateError::NoTracks(_)
            | NegotiateError::NotBundled { .. }
            | NegotiateError::NoRtcpMux { .. }
            | NegotiateError::NoTransport { .. } => unprocessable(error),
        }
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Fenced { held, offered, .. } => {
                let problem =
                    Self::new(StatusCode::CONFLICT, "fenced", "Published under a higher claim", &error);
                let code = (held.epoch > offered.epoch).then(|| ErrorCode::StreamTaken.number());
                Self { claim: Some(held), code, ..problem }
            }
            OpenError::Revoked(refusal) => refusal.into(),
            OpenError::Full | OpenError::Stopping => Self::unavailable(error),
        }
    }
}

impl From<FindError> for Problem {
    fn from(error: FindError) -> Self {
        match &error {
            FindError::NotHere(_) => not_here(error),
            FindError::Stopping => Self::unavailable(error),
        }
    }
}

fn not_here(detail: impl ToString) -> Problem {
    let problem = Problem::new(StatusCode::CONFLICT, "not-here", "The stream is not here now", detail);
    Problem { retry_after_s: Some(RETRY_STREAM_S), ..problem }
}

impl From<ExchangeError> for Problem {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Refused(refusal) => refusal.into(),
            ExchangeError::NoCoordinator => Self::unavailable(error),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message } = refusal;
        let problem = match code {
            ErrorCode::TokenRefused | ErrorCode::TokenExpired => Self::unauthorized(message),
            ErrorCode::PublishForbidden | ErrorCode::PlayForbidden => {
                Self::insufficient_scope(code.text(), message)
            }
            ErrorCode::Kicked | ErrorCode::Replaced | ErrorCode::RoomFull | ErrorCode::TooManyRooms => {
                Self::new(StatusCode::FORBIDDEN, "forbidden", code.text(), message)
            }
            ErrorCode::StreamTaken => Self::new(StatusCode::CONFLICT, "fenced", code.text(), message),
            ErrorCode::NoSuchStream => not_here(message),
            ErrorCode::NoCoordinator
            | ErrorCode::RoomBroken
            | ErrorCode::RoomGaveUp
            | ErrorCode::PublishFailed
            | ErrorCode::PublishInterrupted
            | ErrorCode::PublishGaveUp
            | ErrorCode::PlayFailed
            | ErrorCode::PlayInterrupted
            | ErrorCode::PlayGaveUp => Self::unavailable(message),
        };
        problem.with_code(code)
    }
}
