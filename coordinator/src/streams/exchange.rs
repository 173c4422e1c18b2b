//! Plain WHIP and WHEP clients: their user token for a node token.
//!
//! Such a client has no login: each exchange is a session of its own, so that one that reconnects through another node
//! has a higher claim than what it left behind.

use waystation_proto::{
    ErrorCode, Refusal, SessionId, StreamKey,
    token::Action,
    v1::{self, exchange_reply::Result as Reply},
};

use super::plans::{Grant, Login, claim, no_such_stream, sign};
use crate::{
    admin,
    context::{Context, unix_ms, unix_s},
    fault::CallError,
    keys::PLAIN_PREFIX,
    metrics,
    tokens::check_right,
};

fn fresh_session() -> SessionId {
    let text = format!("{PLAIN_PREFIX}{:032x}", rand::random::<u128>());
    SessionId::new(&text).expect("letters, digits and '-' are an id")
}

async fn grant(context: &Context, request: &v1::ExchangeRequest) -> Result<String, CallError> {
    let stream =
        request.stream.clone().ok_or_else(|| CallError::Malformed("the exchange names no stream".into()))?;
    let stream: StreamKey = stream.try_into()?;
    let token = context.user_tokens.check(&request.user_token, unix_s())?;
    if !token.covers_room(&stream.room) {
        let code = match request.action() {
            v1::MediaAction::Publish => ErrorCode::PublishForbidden,
            v1::MediaAction::Play | v1::MediaAction::Unspecified => ErrorCode::PlayForbidden,
        };
        let message = format!("the token is good for other rooms, not for {}", stream.room);
        return Err(Refusal::new(code, message).into());
    }
    let kicked = context.mirror.read(|view| admin::refusal(view, &stream.room, &token.user, unix_ms()));
    if let Some(refusal) = kicked {
        return Err(refusal.into());
    }
    let session = fresh_session();
    let streams = token.streams.as_deref();
    // The relay asks again, or tells its client when to come again: nothing is gained by waiting here.
    let (action, claim) = match request.action() {
        v1::MediaAction::Publish => {
            check_right(token.publish, streams, &stream.stream, ErrorCode::PublishForbidden)?;
            context.gathered(Some(std::time::Duration::ZERO)).await?;
            let claim = claim(context, &stream, &token.user, &session, Login::Plain).await?;
            (Action::Publish, Some(claim))
        }
        v1::MediaAction::Play => {
            check_right(token.play, streams, &stream.stream, ErrorCode::PlayForbidden)?;
            context.gathered(Some(std::time::Duration::ZERO)).await?;
            let shown = |room: &crate::mirror::Room| room.streams.contains_key(&stream.stream);
            if !context.mirror.read(|view| view.room(&stream.room).is_some_and(shown)) {
                return Err(no_such_stream(&stream).into());
            }
            (Action::Play, None)
        }
        v1::MediaAction::Unspecified => {
            return Err(CallError::Malformed("the exchange names no action".into()));
        }
    };
    let grant = Grant {
        app: &token.app,
        user: &token.user,
        session: &session,
        stream: &stream,
        action,
        claim,
        login: Login::Plain,
    };
    sign(context, grant)
}

/// Answers a relay. Without a result: this coordinator cannot say now.
pub async fn exchange(context: &Context, request: v1::ExchangeRequest) -> v1::ExchangeReply {
    let kind = match request.action() {
        v1::MediaAction::Publish => "plain_publish",
        v1::MediaAction::Play | v1::MediaAction::Unspecified => "plain_play",
    };
    let (outcome, result) = match grant(context, &request).await {
        Ok(node_token) => ("ok", Some(Reply::Granted(v1::ExchangeGranted { node_token }))),
        Err(CallError::Refused(refusal)) => {
            let refused = v1::ExchangeRefused { code: refusal.code.number(), message: refusal.message };
            ("refused", Some(Reply::Refused(refused)))
        }
        Err(CallError::Malformed(message)) => {
            let code = ErrorCode::TokenRefused.number();
            ("refused", Some(Reply::Refused(v1::ExchangeRefused { code, message })))
        }
        Err(error @ (CallError::Gathering { .. } | CallError::Fault(_) | CallError::Unknown(_))) => {
            tracing::debug!(%error, "an exchange cannot be answered");
            ("failed", None)
        }
    };
    metrics::plan(kind, outcome);
    v1::ExchangeReply { id: request.id, result }
}
