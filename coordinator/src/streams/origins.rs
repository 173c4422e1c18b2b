//! What relays and returning clients say to hold: it makes streams appear, move and be remembered.

use waystation_proto::{Claim, NodeRef, RoomId, SessionId, StreamKey, UserId, v1};

use super::{
    claims::{Said, Verdict, is_foreign, judge, origin_down as down_entry, origin_up as up_entry},
    plans::ended,
};
use crate::{
    context::{Context, Plan, now},
    fault::{CallError, Fault},
    keys::{Key, Keys, Origin, PLAIN_PREFIX, encode},
    mirror::View,
    rooms::{Who, enter_by_relays_word},
    store::{Compare, Transaction, Write},
};

/// What the wire says of an origin.
fn said(up: v1::OriginUp) -> Result<Said, CallError> {
    let missing = |what| CallError::Malformed(format!("an origin without its {what}"));
    Ok(Said {
        stream: up.stream.ok_or_else(|| missing("stream"))?.try_into()?,
        claim: up.claim.ok_or_else(|| missing("claim"))?.into(),
        user: UserId::new(&up.user)?,
        session: SessionId::new(&up.session_id)?,
    })
}

/// What is said is checked against what is held, and perhaps held again. With a node: it is the stream's origin.
fn hold(view: &View, keys: &Keys, said: &Said, node: Option<&NodeRef>, foreign: bool) -> Plan<()> {
    let room = view.room(&said.stream.room);
    let held = room.and_then(|room| room.claims.get(&said.stream.stream));
    let shown = room.and_then(|room| room.streams.get(&said.stream.stream));
    let claim_key = keys.text(&Key::Claim(said.stream.clone()));
    let stream_key = keys.text(&Key::Stream(said.stream.clone()));
    let compares = vec![
        Compare::unchanged(claim_key.clone(), held.map(|held| held.modified)),
        Compare::unchanged(stream_key.clone(), shown.map(|shown| shown.modified)),
    ];
    let mut writes = match judge(held, said, foreign) {
        Verdict::Over => return Plan::Settled(()),
        Verdict::Held => Vec::new(),
        Verdict::Adopt(claim) => vec![Write::put(claim_key, encode(&claim))],
    };
    let entry = node.and_then(|node| up_entry(shown.map(|shown| &shown.value), said, node));
    writes.extend(entry.map(|entry| Write::put(stream_key, encode(&entry))));
    if writes.is_empty() {
        return Plan::Settled(());
    }
    Plan::Write(Transaction { compares, writes }, ())
}

async fn held(context: &Context, said: &Said, node: Option<&NodeRef>) -> Result<(), Fault> {
    let (base, revision) = context.mirror.read(|view| (view.epochs().base, view.revision()));
    let gathering = context.gathering().until().is_some();
    // While gathering nothing is granted: whatever is said is a predecessor's, even one's of the very same second.
    let foreign = gathering || is_foreign(said.claim.epoch, base, revision);
    let adoptable = foreign && context.gathering().note(&said.stream, said.claim.epoch);
    if foreign {
        // Another coordinator may have gathered already: what it grants from now on must be higher.
        raise_epochs(context, said.claim.epoch).await?;
    }
    context.change(|view| hold(view, &context.keys, said, node, adoptable)).await?;
    Ok(())
}

/// Lets epochs begin above this one.
///
/// # Errors
/// [`Fault`]
pub async fn raise_epochs(context: &Context, above: u64) -> Result<(), Fault> {
    let raise = |view: &View| {
        let held = view.epochs();
        if held.base >= above {
            return Plan::Settled(());
        }
        let key = context.keys.text(&Key::Epochs);
        let seen = view.known().get(&key).map(|known| known.modified);
        let compares = vec![Compare::unchanged(key.clone(), seen)];
        let writes = vec![Write::put(key, encode(&Origin { base: above, ..held.clone() }))];
        Plan::Write(Transaction { compares, writes }, ())
    };
    context.change(raise).await.map(|_| ())
}

/// A client that resumed proved a claim.
///
/// # Errors
/// [`Fault`]
pub async fn hold_again(context: &Context, said: Said) -> Result<(), Fault> {
    held(context, &said, None).await
}

/// A relay is the origin of a stream: it is in the room, and there.
///
/// # Errors
/// [`CallError`]
pub async fn origin_up(context: &Context, node: &NodeRef, up: v1::OriginUp) -> Result<(), CallError> {
    let said = said(up)?;
    held(context, &said, Some(node)).await?;
    heard(context, &said.stream.room, &said.user, &said.session);
    Ok(())
}

/// A stream's origin is gone. That of a plain client goes with it: the relay session was all there was of it.
fn take_down(
    view: &View,
    keys: &Keys,
    stream: &StreamKey,
    claim: Claim,
    node: &NodeRef,
) -> Plan<Option<u64>> {
    let room = view.room(&stream.room);
    let shown = room.and_then(|room| room.streams.get(&stream.stream));
    let entry = down_entry(shown.map(|shown| &shown.value), claim, node);
    let (Some(shown), Some(entry)) = (shown, entry) else { return Plan::Settled(None) };
    let key = keys.text(&Key::Stream(stream.clone()));
    let mut compares = vec![Compare::Modified(key.clone(), shown.modified)];
    if !entry.session.as_str().starts_with(PLAIN_PREFIX) {
        return Plan::Write(Transaction { compares, writes: vec![Write::put(key, encode(&entry))] }, None);
    }
    let mut writes = vec![Write::Delete(key)];
    let held = room.and_then(|room| room.claims.get(&stream.stream));
    if let Some(held) = held.filter(|held| held.value.session == entry.session) {
        let key = keys.text(&Key::Claim(stream.clone()));
        compares.push(Compare::Modified(key.clone(), held.modified));
        writes.push(Write::Delete(key));
    }
    Plan::Write(Transaction { compares, writes }, Some(entry.epoch))
}

/// A relay is the origin of a stream no more. The stream stays in the room, unless it is a plain client's.
///
/// # Errors
/// [`CallError`]
pub async fn origin_down(context: &Context, node: &NodeRef, down: v1::OriginDown) -> Result<(), CallError> {
    let missing = |what| CallError::Malformed(format!("an origin without its {what}"));
    let stream: StreamKey = down.stream.ok_or_else(|| missing("stream"))?.try_into()?;
    let claim: Claim = down.claim.ok_or_else(|| missing("claim"))?.into();
    let down = context.change(|view| take_down(view, &context.keys, &stream, claim, node)).await?;
    ended(context, down.0.map(|epoch| (stream, epoch)));
    Ok(())
}

/// Somebody has a live session at a relay. Whether it is counted here.
fn heard(context: &Context, room: &RoomId, user: &UserId, session: &SessionId) -> bool {
    let now = now();
    if !session.as_str().starts_with(PLAIN_PREFIX) {
        return context.presence().heard(&Who::User(room.clone(), user.clone()), session, now);
    }
    let streams: Vec<_> =
        context.mirror.read(|view| view.claims_of(room, session).map(|(stream, _)| stream).collect());
    let mut presence = context.presence();
    for stream in streams {
        presence.heard(&Who::Plain(stream), session, now);
    }
    true
}

/// A relay says which users have live sessions. While gathering, that brings a user back whom the store forgot.
///
/// # Errors
/// [`Fault`]
pub async fn users_heard(context: &Context, users: Vec<v1::RoomUserSession>) -> Result<(), Fault> {
    for wire in users {
        let ids = (RoomId::new(&wire.room), UserId::new(&wire.user), SessionId::new(&wire.session_id));
        let (Ok(room), Ok(user), Ok(session)) = ids else { continue };
        if heard(context, &room, &user, &session) || context.gathering().until().is_none() {
            continue;
        }
        let enter =
            |view: &View| enter_by_relays_word(view, &context.keys, &room, &user, &session, &context.id);
        context.change(enter).await?;
    }
    Ok(())
}
