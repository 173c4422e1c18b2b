//! `AdminService`: each call checks who calls, has a pure function decide, and writes.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status, metadata::MetadataMap};
use waystation_proto::{
    ErrorCode, Refusal, RoomId, UserId,
    token::UserToken,
    v1::{self, admin_service_server::AdminService},
};

use super::{
    bearer,
    kick::{Kicked, end_rest, kick, unkick},
};
use crate::{
    context::{Context, unix_ms, unix_s},
    fault::{CallError, Fault},
    streams, tokens,
};

/// The service.
#[derive(Clone, Debug)]
pub struct Admin(Arc<Context>);

fn refused(message: impl Into<String>) -> CallError {
    Refusal::new(ErrorCode::TokenRefused, message).into()
}

impl Admin {
    /// The service over what all parts share.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self(context)
    }

    fn administrator(&self, metadata: &MetadataMap) -> Result<UserToken, CallError> {
        let token = self.0.user_tokens.check(bearer(metadata)?, unix_s())?;
        if token.admin {
            return Ok(token);
        }
        Err(refused(format!("the token of user {} does not allow administration", token.user)))
    }

    /// The room and the user that a call names, if the caller may act there.
    fn named(&self, metadata: &MetadataMap, room: &str, user: &str) -> Result<(RoomId, UserId), CallError> {
        let token = self.administrator(metadata)?;
        let (room, user) = (RoomId::new(room)?, UserId::new(user)?);
        if token.covers_room(&room) {
            return Ok((room, user));
        }
        Err(refused(format!("the token is not good for room {room}")))
    }

    fn over_keys(&self, metadata: &MetadataMap) -> Result<(), CallError> {
        if self.administrator(metadata)?.covers_every_room() {
            return Ok(());
        }
        Err(refused("the keys are the whole cluster's; the token is not good for every room ('*')"))
    }

    async fn kick(
        &self,
        metadata: &MetadataMap,
        ask: v1::KickUserRequest,
    ) -> Result<v1::KickUserResponse, CallError> {
        let (room, user) = self.named(metadata, &ask.room, &ask.user)?;
        if ask.for_s == 0 {
            let message = "for_s is 0; say how long the user is refused, or call UnkickUser";
            return Err(CallError::Malformed(message.into()));
        }
        let refused = Duration::from_secs(ask.for_s.into());
        let context = &self.0;
        let now_ms = unix_ms();
        let kicking = context.change(|view| kick(view, &context.keys, &room, &user, refused, now_ms)).await?;
        let Kicked { was_here, mut streams } = kicking.0;
        streams::ended(context, streams.clone());
        while !streams.is_empty() {
            streams = context.change(|view| end_rest(view, &context.keys, &room, &user)).await?.0.streams;
            streams::ended(context, streams.clone());
        }
        tracing::info!(%room, %user, for_s = ask.for_s, was_here, "a user was kicked");
        let until_unix_ms = now_ms.saturating_add(u64::from(ask.for_s) * 1000);
        Ok(v1::KickUserResponse { was_here, until_unix_ms })
    }

    async fn unkick(
        &self,
        metadata: &MetadataMap,
        ask: v1::UnkickUserRequest,
    ) -> Result<v1::UnkickUserResponse, CallError> {
        let (room, user) = self.named(metadata, &ask.room, &ask.user)?;
        let lifting = self.0.change(|view| unkick(view, &self.0.keys, &room, &user, unix_ms())).await?;
        tracing::info!(%room, %user, was_kicked = lifting.0, "a user may come again");
        Ok(v1::UnkickUserResponse { was_kicked: lifting.0 })
    }

    fn keys(&self) -> Vec<v1::KeyStatus> {
        self.0.node_tokens.ring().borrow().status(unix_ms())
    }

    async fn rotate(&self) -> Result<v1::RotateKeysResponse, CallError> {
        tokens::rotate(&self.0).await?;
        // The one that was made, or one that was upcoming already.
        let key = self.keys().pop().filter(|key| key.state() == v1::KeyState::Upcoming);
        let key = key.ok_or(Fault::Contended)?;
        Ok(v1::RotateKeysResponse { key: Some(key) })
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(result: Result<T, CallError>) -> Answer<T> {
    result.map(Response::new).map_err(Into::into)
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn kick_user(&self, request: Request<v1::KickUserRequest>) -> Answer<v1::KickUserResponse> {
        let (metadata, _, ask) = request.into_parts();
        answer(self.kick(&metadata, ask).await)
    }

    async fn unkick_user(&self, request: Request<v1::UnkickUserRequest>) -> Answer<v1::UnkickUserResponse> {
        let (metadata, _, ask) = request.into_parts();
        answer(self.unkick(&metadata, ask).await)
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Answer<v1::ListKeysResponse> {
        answer(self.over_keys(request.metadata()).map(|()| v1::ListKeysResponse { keys: self.keys() }))
    }

    async fn rotate_keys(&self, request: Request<v1::RotateKeysRequest>) -> Answer<v1::RotateKeysResponse> {
        match self.over_keys(request.metadata()) {
            Ok(()) => answer(self.rotate().await),
            Err(error) => Err(error.into()),
        }
    }
}
