//! Calls to coordinators. The only door to `tonic`.
//!
//! Invariant: every call has a deadline, and a failure is either a coordinator's word ([`CallError::Refused`]), which
//! another would repeat, or something that another coordinator or a later call may mend.

mod wire;

#[cfg(test)]
mod tests;

use std::{error::Error as _, time::Duration};

use thiserror::Error;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint},
};
use waystation_proto::{
    Refusal,
    v1::{self, room_service_client::RoomServiceClient},
};

pub(crate) use wire::{login, plan_of_play, plan_of_publish, proof, report};

use crate::machine::{CallFailure, Told};

/// For the TCP, TLS and HTTP/2 handshakes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// For one call. A coordinator that lost its store's leader may hang; another will not.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// HTTP/2 pings on an open stream: a connection whose other end is gone breaks within the sum of both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Largest message taken: a room of some ten thousand users.
const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// A call that brought no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum CallError {
    /// A coordinator's word.
    #[error(transparent)]
    Refused(Refusal),
    /// The coordinator does not hold this connection: connect again.
    #[error("this coordinator does not hold the connection")]
    NotConnected,
    /// No coordinator behind the address, or one in trouble.
    #[error("coordinator {url}: {why}")]
    Failed {
        /// Its address.
        url: String,
        /// What happened.
        why: String,
    },
}

/// One coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Coordinator {
    url: String,
    client: RoomServiceClient<Channel>,
}

/// The events of an open connection.
pub(crate) struct ConnectEvents {
    url: String,
    inner: Streaming<v1::ConnectEvent>,
}

impl ConnectEvents {
    /// The next event that means something here. After an error, or `None`, the connection is over.
    pub(crate) async fn next(&mut self) -> Result<Option<Told>, CallError> {
        while let Some(event) = self.inner.message().await.map_err(|status| judge(&self.url, status))? {
            match wire::told(event) {
                Ok(Some(told)) => return Ok(Some(told)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(url = self.url, %error, "an event of the coordinator is left out")
                }
            }
        }
        Ok(None)
    }
}

impl From<CallError> for CallFailure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => Self::Refused(refusal.code),
            CallError::NotConnected => Self::NotConnected,
            CallError::Failed { .. } => Self::Failed,
        }
    }
}

impl Coordinator {
    /// A coordinator at an address. It is reached with the first call, and again after its connection broke.
    pub(crate) fn at(url: &str) -> Result<Self, CallError> {
        let bad =
            |why: tonic::transport::Error| CallError::Failed { url: url.to_owned(), why: innermost(&why) };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(bad)?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let client =
            RoomServiceClient::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { url: url.to_owned(), client })
    }

    async fn call<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, CallError> {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(judge(&self.url, status)),
            Err(_elapsed) => {
                Err(CallError::Failed { url: self.url.clone(), why: "no answer in time".into() })
            }
        }
    }

    /// Opens the event stream.
    pub(crate) async fn connect(&self, request: v1::ConnectRequest) -> Result<ConnectEvents, CallError> {
        let inner = self.call(self.client.clone().connect(request)).await?;
        Ok(ConnectEvents { url: self.url.clone(), inner })
    }

    /// Adds a room to the open connection.
    pub(crate) async fn login(&self, request: v1::LoginRequest) -> Result<v1::LoginResponse, CallError> {
        self.call(self.client.clone().login(deadline(request))).await
    }

    /// Says that this client lives.
    pub(crate) async fn beat(&self, request: v1::BeatRequest) -> Result<v1::BeatResponse, CallError> {
        self.call(self.client.clone().beat(deadline(request))).await
    }

    /// Ends a login.
    pub(crate) async fn logout(&self, request: v1::LogoutRequest) -> Result<v1::LogoutResponse, CallError> {
        self.call(self.client.clone().logout(deadline(request))).await
    }

    /// Takes a stream's claim.
    pub(crate) async fn plan_publish(
        &self,
        request: v1::PlanPublishRequest,
    ) -> Result<v1::PlanPublishResponse, CallError> {
        self.call(self.client.clone().plan_publish(deadline(request))).await
    }

    /// Asks where to play a stream.
    pub(crate) async fn plan_play(
        &self,
        request: v1::PlanPlayRequest,
    ) -> Result<v1::PlanPlayResponse, CallError> {
        self.call(self.client.clone().plan_play(deadline(request))).await
    }

    /// Gives a stream's claim up.
    pub(crate) async fn end_stream(
        &self,
        request: v1::EndStreamRequest,
    ) -> Result<v1::EndStreamResponse, CallError> {
        self.call(self.client.clone().end_stream(deadline(request))).await
    }

    /// Replaces the user token.
    pub(crate) async fn renew_token(
        &self,
        request: v1::RenewTokenRequest,
    ) -> Result<v1::RenewTokenResponse, CallError> {
        self.call(self.client.clone().renew_token(deadline(request))).await
    }

    /// Tells what a walk saw.
    pub(crate) async fn report(&self, request: v1::ReportRequest) -> Result<v1::ReportResponse, CallError> {
        self.call(self.client.clone().report(deadline(request))).await
    }
}

/// The coordinator gives up when the client does.
fn deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn judge(url: &str, status: Status) -> CallError {
    match Refusal::from_status(&status) {
        Some(refusal) => CallError::Refused(refusal),
        None if status.code() == tonic::Code::NotFound => CallError::NotConnected,
        None => CallError::Failed { url: url.to_owned(), why: status_text(&status) },
    }
}

fn status_text(status: &Status) -> String {
    match status.source() {
        Some(source) => innermost(source),
        None => format!("{}: {}", status.code(), status.message()),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}
