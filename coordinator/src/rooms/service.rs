//! `RoomService`: what clients call. Each call finds the login, asks the part that decides, and answers.

use std::{sync::Arc, time::Duration};

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, metadata::MetadataMap};
use waystation_proto::{
    ErrorCode, LoginId, Refusal, RoomId, SessionId, StreamId, StreamKey, UserId,
    v1::{self, room_service_server::RoomService},
};

use super::{
    connection,
    connections::{Command, NotOpened},
    login::session_of,
    membership::{Leaving, leave, renew},
    presence::Who,
};
use crate::{
    context::{Context, Plan, Serving, now, unix_ms, unix_s},
    fault::CallError,
    keys::UserEntry,
    metrics,
    mirror::{Held, Standing},
    streams,
};

/// Longest client id, in bytes.
const MAX_CLIENT_ID_BYTES: usize = 128;
/// Sessions in one beat: more than any client may have.
const MAX_SESSIONS: usize = 64;
/// Attempts in one report.
const MAX_ATTEMPTS: usize = 256;

/// The service.
#[derive(Clone, Debug)]
pub struct Rooms(Arc<Context>);

/// Who calls.
pub struct Caller {
    /// The room.
    pub room: RoomId,
    /// The login.
    pub session: SessionId,
    /// The user.
    pub user: UserId,
    /// What is held of it.
    pub held: Held<UserEntry>,
}

impl Rooms {
    /// The service over what all parts share.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self(context)
    }

    fn named(session: Option<v1::SessionRef>) -> Result<(RoomId, SessionId), CallError> {
        let session = session.ok_or_else(|| CallError::Malformed("the call names no session".into()))?;
        Ok((RoomId::new(&session.room)?, session_of(&LoginId::new(&session.login_id)?)))
    }

    fn caller(&self, session: Option<v1::SessionRef>) -> Result<Caller, CallError> {
        let (room, session) = Self::named(session)?;
        let found = self.0.mirror.read(|view| match view.user(&room, &session) {
            Some((user, held)) => Ok((user.clone(), held.clone())),
            None => Err(view.standing(&room, &session)),
        });
        match found {
            Ok((user, held)) if held.value.expires_s.is_some_and(|expires| expires <= unix_s()) => {
                let message = format!("the token of user {user} expired; renew it");
                Err(Refusal::new(ErrorCode::TokenExpired, message).into())
            }
            Ok((user, held)) => Ok(Caller { room, session, user, held }),
            Err(Standing::Revoked(revoked)) => {
                let code = revoked.error();
                Err(Refusal::new(code, code.text()).into())
            }
            Err(Standing::Unknown | Standing::Current) => Err(CallError::Unknown("login")),
        }
    }

    fn heard(&self, room: &RoomId, session: &SessionId) -> bool {
        let user = self.0.mirror.read(|view| view.user(room, session).map(|(user, _)| user.clone()));
        user.is_some_and(|user| {
            self.0.presence().heard(&Who::User(room.clone(), user), session, now());
            true
        })
    }

    async fn plan_publish(
        &self,
        request: v1::PlanPublishRequest,
        deadline: Option<Duration>,
    ) -> Result<v1::PlanPublishResponse, CallError> {
        let caller = self.caller(request.session)?;
        let stream = StreamKey { room: caller.room.clone(), stream: StreamId::new(&request.stream)? };
        let ask = streams::Where { region: request.region, failed: streams::failed(request.failed) };
        let granted = streams::plan_publish(&self.0, &caller, &stream, &ask, deadline).await?;
        Ok(v1::PlanPublishResponse {
            claim: Some(granted.claim.into()),
            node_token: granted.node_token,
            token_valid_ms: streams::token_valid_ms(),
            nodes: granted.nodes,
        })
    }

    async fn plan_play(
        &self,
        request: v1::PlanPlayRequest,
        deadline: Option<Duration>,
    ) -> Result<v1::PlanPlayResponse, CallError> {
        let caller = self.caller(request.session)?;
        let stream = StreamKey { room: caller.room.clone(), stream: StreamId::new(&request.stream)? };
        let ask = streams::Where { region: request.region, failed: streams::failed(request.failed) };
        let (node_token, nodes) = streams::plan_play(&self.0, &caller, &stream, &ask, deadline).await?;
        Ok(v1::PlanPlayResponse { node_token, token_valid_ms: streams::token_valid_ms(), nodes })
    }

    async fn log_out(&self, request: v1::LogoutRequest) -> Result<v1::LogoutResponse, CallError> {
        let (room, session) = Self::named(request.session)?;
        // First, so that the open connection does not take the end for a time-out.
        self.0.connections.tell_holder(&session, Command::Forget(room.clone(), session.clone())).await;
        let leaving = self
            .0
            .change(|view| leave(view, &self.0.keys, &room, &session, Leaving::LoggedOut, unix_ms()))
            .await?;
        streams::ended(&self.0, leaving.0.streams);
        Ok(v1::LogoutResponse {})
    }

    async fn renew(&self, request: v1::RenewTokenRequest) -> Result<v1::RenewTokenResponse, CallError> {
        let (room, session) = Self::named(request.session)?;
        let token = self.0.user_tokens.check_for_room(&request.user_token, &room, unix_s())?;
        let renewed = self.0.change(|view| match view.user(&room, &session) {
            Some((user, held)) => match renew(&self.0.keys, &room, user, held, &token) {
                Plan::Write(transaction, done) => Plan::Write(transaction, Some(done)),
                Plan::Settled(done) => Plan::Settled(Some(done)),
            },
            None => Plan::Settled(None),
        });
        match renewed.await?.0 {
            Some(done) => Ok(done.map(|()| v1::RenewTokenResponse {})?),
            None => Err(CallError::Unknown("login")),
        }
    }
}

/// The caller's deadline, as gRPC carries it: at most eight digits and a unit.
fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(result: Result<T, CallError>) -> Answer<T> {
    result.map(Response::new).map_err(Into::into)
}

/// How a call ended, for metrics.
fn outcome<T>(result: &Result<T, CallError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(CallError::Refused(_) | CallError::Malformed(_)) => "refused",
        Err(CallError::Unknown(_) | CallError::Gathering { .. } | CallError::Fault(_)) => "failed",
    }
}

#[tonic::async_trait]
impl RoomService for Rooms {
    type ConnectStream = ReceiverStream<Result<v1::ConnectEvent, Status>>;

    async fn connect(&self, request: Request<v1::ConnectRequest>) -> Answer<Self::ConnectStream> {
        let request = request.into_inner();
        if request.client_id.is_empty() || request.client_id.len() > MAX_CLIENT_ID_BYTES {
            let message = format!(
                "client_id has {} bytes; 1 to {MAX_CLIENT_ID_BYTES} are allowed",
                request.client_id.len()
            );
            return Err(Status::invalid_argument(message));
        }
        if request.rooms.len() > MAX_SESSIONS {
            return Err(Status::invalid_argument(format!("over {MAX_SESSIONS} rooms in one call")));
        }
        if *self.0.serving().borrow() == Serving::Leaving {
            return Err(Status::unavailable("this coordinator is leaving; connect to another"));
        }
        match self.0.connections.open(&request.client_id, request.connection) {
            Ok(commands) => {
                let events = connection::open(Arc::clone(&self.0), request, commands);
                Ok(Response::new(ReceiverStream::new(events)))
            }
            Err(NotOpened::Older) => Err(Status::aborted("a newer connection of this client is open")),
            Err(NotOpened::Full) => Err(Status::unavailable("this coordinator is full; connect to another")),
        }
    }

    async fn login(&self, request: Request<v1::LoginRequest>) -> Answer<v1::LoginResponse> {
        let request = request.into_inner();
        let room = request.room.ok_or_else(|| Status::invalid_argument("the call names no room"))?;
        let command = Command::Login(Box::new(room));
        match self.0.connections.tell(&request.client_id, request.connection, command).await {
            true => Ok(Response::new(v1::LoginResponse {})),
            false => Err(CallError::Unknown("connection").into()),
        }
    }

    async fn beat(&self, request: Request<v1::BeatRequest>) -> Answer<v1::BeatResponse> {
        let mut unknown_rooms = Vec::new();
        for session in request.into_inner().sessions.into_iter().take(MAX_SESSIONS) {
            let text = session.room.clone();
            match Self::named(Some(session)) {
                Ok((room, session)) if self.heard(&room, &session) => {}
                Ok(_) | Err(_) => unknown_rooms.push(text),
            }
        }
        Ok(Response::new(v1::BeatResponse { unknown_rooms }))
    }

    async fn logout(&self, request: Request<v1::LogoutRequest>) -> Answer<v1::LogoutResponse> {
        answer(self.log_out(request.into_inner()).await)
    }

    async fn plan_publish(
        &self,
        request: Request<v1::PlanPublishRequest>,
    ) -> Answer<v1::PlanPublishResponse> {
        let deadline = deadline(request.metadata());
        let result = self.plan_publish(request.into_inner(), deadline).await;
        metrics::plan("publish", outcome(&result));
        answer(result)
    }

    async fn plan_play(&self, request: Request<v1::PlanPlayRequest>) -> Answer<v1::PlanPlayResponse> {
        let deadline = deadline(request.metadata());
        let result = self.plan_play(request.into_inner(), deadline).await;
        metrics::plan("play", outcome(&result));
        answer(result)
    }

    async fn end_stream(&self, request: Request<v1::EndStreamRequest>) -> Answer<v1::EndStreamResponse> {
        let request = request.into_inner();
        let end = async {
            let (room, session) = Self::named(request.session)?;
            let stream = StreamKey { room, stream: StreamId::new(&request.stream)? };
            streams::end(&self.0, &stream, &session, request.epoch).await?;
            Ok(v1::EndStreamResponse {})
        };
        answer(end.await)
    }

    async fn renew_token(&self, request: Request<v1::RenewTokenRequest>) -> Answer<v1::RenewTokenResponse> {
        answer(self.renew(request.into_inner()).await)
    }

    async fn report(&self, request: Request<v1::ReportRequest>) -> Answer<v1::ReportResponse> {
        let request = request.into_inner();
        // Only those who are here may move our metrics.
        self.caller(request.session).map_err(Status::from)?;
        for attempt in request.attempts.iter().take(MAX_ATTEMPTS) {
            metrics::attempt(&attempt.outcome, Duration::from_millis(attempt.took_ms.into()));
        }
        Ok(Response::new(v1::ReportResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<Duration> {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().ok()?);
        deadline(&metadata)
    }

    #[test]
    fn a_deadline_is_read_as_grpc_writes_it() {
        assert_eq!(parse("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse("1999999u"), Some(Duration::from_micros(1_999_999)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "S", "2", "2s", "123456789m", "-1S"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_deadline_is_read_or_ignored_without_a_panic(text in "\\PC{0,12}") {
            let _ = parse(&text);
        }
    }
}
