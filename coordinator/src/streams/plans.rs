//! Plans: a claim for a publisher, an ordered node list and a node token for both; and the end of a stream.

use std::{collections::BTreeSet, time::Duration};

use waystation_proto::{
    Claim, ErrorCode, NodeRef, Refusal, SessionId, StreamKey, UserId,
    token::{Action, NODE_TOKEN_AUDIENCE, NodeToken},
    v1,
};

use super::claims::{Take, take};
use crate::{
    admin,
    context::{Context, Plan, unix_ms, unix_s},
    fault::{CallError, Fault},
    keys::{Key, Keys, encode},
    mirror::View,
    placement::{Ask, Placing, order},
    rooms::{Caller, MAX_STREAMS},
    store::{Compare, Transaction, Write},
    tokens::{NODE_TOKEN_VALID, check_right},
};

/// Nodes named as failed that are looked at.
const MAX_FAILED: usize = 1000;

/// Where the client stands, and what failed for it.
#[derive(Clone, Debug, Default)]
pub struct Where {
    /// Its region; empty if it does not know.
    pub region: String,
    /// Nodes that failed in its walk.
    pub failed: BTreeSet<NodeRef>,
}

/// What a publisher is given.
#[derive(Clone, Debug)]
pub struct Granted {
    /// Its claim.
    pub claim: Claim,
    /// The proof of it.
    pub node_token: String,
    /// Where to try, in this order.
    pub nodes: Vec<v1::Node>,
}

/// Failed nodes of the wire; one that makes no sense cannot be in our list either.
#[must_use]
pub fn failed(wire: Vec<v1::NodeRef>) -> BTreeSet<NodeRef> {
    wire.into_iter().take(MAX_FAILED).filter_map(|node| NodeRef::try_from(node).ok()).collect()
}

/// How long a node token is good for, on the wire.
#[must_use]
pub fn token_valid_ms() -> u32 {
    u32::try_from(NODE_TOKEN_VALID.as_millis()).unwrap_or(u32::MAX)
}

/// Whose claim is to be taken.
pub(super) struct Claimant<'a> {
    pub(super) user: &'a UserId,
    pub(super) session: &'a SessionId,
    /// The login's entry must still be as it was seen; a plain client has none.
    pub(super) seen: Option<u64>,
}

enum Taken {
    Epoch(u64),
    ByWrite(u64),
    Refused(Refusal),
}

fn take_claim(view: &View, keys: &Keys, stream: &StreamKey, claimant: &Claimant<'_>) -> Plan<Taken> {
    let Claimant { user, session, seen } = claimant;
    let base = view.epochs().base;
    let held = view.room(&stream.room).and_then(|room| room.claims.get(&stream.stream));
    match take(held, stream, user, session, base) {
        Take::Keep { epoch } => Plan::Settled(Taken::Epoch(epoch)),
        Take::Refuse(refusal) => Plan::Settled(Taken::Refused(refusal)),
        Take::Write(_) if view.claims_of(&stream.room, session).count() >= MAX_STREAMS => {
            let message = format!("one login may publish {MAX_STREAMS} streams; end one");
            Plan::Settled(Taken::Refused(Refusal::new(ErrorCode::PublishForbidden, message)))
        }
        Take::Write(claim) => {
            let key = keys.text(&Key::Claim(stream.clone()));
            let epochs = keys.text(&Key::Epochs);
            let begin = view.known().get(&epochs).map(|known| known.modified);
            let mut compares = vec![
                Compare::unchanged(key.clone(), held.map(|held| held.modified)),
                // Nothing is granted above a base that was raised meanwhile.
                Compare::unchanged(epochs, begin),
            ];
            compares.push(match seen {
                Some(seen) => {
                    Compare::Modified(keys.text(&Key::User(stream.room.clone(), (*user).clone())), *seen)
                }
                // A kick of a user without a login shows in this entry alone.
                None => Compare::unchanged(
                    keys.text(&Key::Kicked(stream.room.clone(), (*user).clone())),
                    view.kicked(&stream.room, user).map(|held| held.modified),
                ),
            });
            // Another session's publication of it ends for others here; this one's begins with a relay's word.
            let gone = Write::Delete(keys.text(&Key::Stream(stream.clone())));
            let writes = vec![Write::put(key, encode(&claim)), gone];
            Plan::Write(Transaction { compares, writes }, Taken::ByWrite(base))
        }
    }
}

/// Takes or keeps the claim of a stream.
pub(super) async fn claim(
    context: &Context,
    stream: &StreamKey,
    user: &UserId,
    session: &SessionId,
    login: Login,
) -> Result<Claim, CallError> {
    let taking = context.change(|view| {
        let seen = match login {
            Login::Plain => match admin::refusal(view, &stream.room, user, unix_ms()) {
                Some(refusal) => return Plan::Settled(Some(Taken::Refused(refusal))),
                None => None,
            },
            Login::Of => match view.user(&stream.room, session) {
                Some((_, held)) => Some(held.modified),
                None => return Plan::Settled(None),
            },
        };
        match take_claim(view, &context.keys, stream, &Claimant { user, session, seen }) {
            Plan::Write(transaction, taken) => Plan::Write(transaction, Some(taken)),
            Plan::Settled(taken) => Plan::Settled(Some(taken)),
        }
    });
    match taking.await? {
        (Some(Taken::Epoch(epoch)), _) => Ok(Claim::of_epoch(epoch)),
        (Some(Taken::ByWrite(base)), Some(revision)) => Ok(Claim::of_epoch(base.saturating_add(revision))),
        (Some(Taken::ByWrite(_)), None) => Err(Fault::Contended.into()),
        (Some(Taken::Refused(refusal)), _) => Err(refusal.into()),
        (None, _) => Err(CallError::Unknown("login")),
    }
}

/// What kind of client claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// One with a login, which must still be there.
    Of,
    /// A plain one.
    Plain,
}

/// What a node token is to say.
pub(super) struct Grant<'a> {
    pub(super) app: &'a str,
    pub(super) user: &'a UserId,
    pub(super) session: &'a SessionId,
    pub(super) stream: &'a StreamKey,
    pub(super) action: Action,
    pub(super) claim: Option<Claim>,
    pub(super) login: Login,
}

pub(super) fn sign(context: &Context, grant: Grant<'_>) -> Result<String, CallError> {
    let now_s = unix_s();
    let token = NodeToken {
        aud: NODE_TOKEN_AUDIENCE.into(),
        app: grant.app.to_owned(),
        room: grant.stream.room.clone(),
        user: grant.user.clone(),
        session: grant.session.clone(),
        stream: grant.stream.stream.clone(),
        action: grant.action,
        claim: grant.claim,
        plain: grant.login == Login::Plain,
        iat: now_s,
        exp: now_s + NODE_TOKEN_VALID.as_secs(),
    };
    Ok(context.node_tokens.sign_node_token(&token).map_err(Fault::from)?)
}

/// Takes (or keeps) the claim and says where to publish.
///
/// # Errors
/// 1003028 for another user's stream, 1003025 for a missing right; see [`CallError`].
pub async fn plan_publish(
    context: &Context,
    caller: &Caller,
    stream: &StreamKey,
    whence: &Where,
    deadline: Option<Duration>,
) -> Result<Granted, CallError> {
    let rights = &caller.held.value.rights;
    check_right(rights.publish, rights.streams.as_deref(), &stream.stream, ErrorCode::PublishForbidden)?;
    context.gathered(deadline).await?;
    let claim = claim(context, stream, &caller.user, &caller.session, Login::Of).await?;
    let node_token = sign(
        context,
        Grant {
            app: &caller.held.value.app,
            user: &caller.user,
            session: &caller.session,
            stream,
            action: Action::Publish,
            claim: Some(claim),
            login: Login::Of,
        },
    )?;
    let nodes = context.mirror.read(|view| {
        let ask = Ask { stream, region: &whence.region, failed: &whence.failed, placing: Placing::Publish };
        order(view.nodes(), &ask).into_iter().map(Into::into).collect()
    });
    Ok(Granted { claim, node_token, nodes })
}

/// That a stream is in the room, by the word that is final.
pub(super) fn no_such_stream(stream: &StreamKey) -> Refusal {
    let message = format!("room {} has no stream {}", stream.room, stream.stream);
    Refusal::new(ErrorCode::NoSuchStream, message)
}

/// Says where to play.
///
/// # Errors
/// 1004002 for a stream that is not in the room, 1004025 for a missing right; see [`CallError`].
pub async fn plan_play(
    context: &Context,
    caller: &Caller,
    stream: &StreamKey,
    whence: &Where,
    deadline: Option<Duration>,
) -> Result<(String, Vec<v1::Node>), CallError> {
    let rights = &caller.held.value.rights;
    check_right(rights.play, rights.streams.as_deref(), &stream.stream, ErrorCode::PlayForbidden)?;
    context.gathered(deadline).await?;
    let nodes = context.mirror.read(|view| {
        let room = view.room(&stream.room)?;
        let entry = room.streams.get(&stream.stream)?;
        let origin = entry.value.origin.as_ref().map(|node| &node.id);
        // How many play it is not known here; nobody plays who is not in the room.
        let placing = Placing::Play { session: &caller.session, origin, audience: room.users.len() };
        let ask = Ask { stream, region: &whence.region, failed: &whence.failed, placing };
        Some(order(view.nodes(), &ask).into_iter().map(Into::into).collect::<Vec<v1::Node>>())
    });
    let nodes = nodes.ok_or_else(|| no_such_stream(stream))?;
    let node_token = sign(
        context,
        Grant {
            app: &caller.held.value.app,
            user: &caller.user,
            session: &caller.session,
            stream,
            action: Action::Play,
            claim: None,
            login: Login::Of,
        },
    )?;
    Ok((node_token, nodes))
}

fn end_claim(
    view: &View,
    keys: &Keys,
    stream: &StreamKey,
    holds: impl Fn(&SessionId, u64, u64) -> bool,
) -> Plan<Option<u64>> {
    let held = view.room(&stream.room).and_then(|room| room.claims.get(&stream.stream));
    let Some(held) = held else { return Plan::Settled(None) };
    let epoch = held.value.epoch(held.modified);
    if !holds(&held.value.session, epoch, held.modified) {
        return Plan::Settled(None);
    }
    let key = keys.text(&Key::Claim(stream.clone()));
    let compares = vec![Compare::Modified(key.clone(), held.modified)];
    let writes = vec![Write::Delete(key), Write::Delete(keys.text(&Key::Stream(stream.clone())))];
    Plan::Write(Transaction { compares, writes }, Some(epoch))
}

/// A publisher gives its claim up, if it is of this epoch or lower.
///
/// # Errors
/// [`CallError`]
pub async fn end(
    context: &Context,
    stream: &StreamKey,
    session: &SessionId,
    epoch: u64,
) -> Result<(), CallError> {
    let holds = |holder: &SessionId, held: u64, _: u64| holder == session && held <= epoch;
    let ending = context.change(|view| end_claim(view, &context.keys, stream, holds)).await?;
    ended(context, ending.0.map(|epoch| (stream.clone(), epoch)));
    Ok(())
}

/// A plain publisher was not heard; only what was seen at this revision goes.
///
/// # Errors
/// [`Fault`]
pub async fn end_unheard(context: &Context, stream: &StreamKey, seen: u64) -> Result<(), Fault> {
    let ending =
        context.change(|view| end_claim(view, &context.keys, stream, |_, _, held| held == seen)).await?;
    ended(context, ending.0.map(|epoch| (stream.clone(), epoch)));
    Ok(())
}

/// Remembers what ended, so that a late word does not bring it back.
pub fn ended(context: &Context, streams: impl IntoIterator<Item = (StreamKey, u64)>) {
    for (stream, epoch) in streams {
        context.gathering().ended(&stream, epoch);
    }
}

#[cfg(test)]
mod tests {
    use waystation_proto::{RoomId, StreamId};

    use super::*;
    use crate::{
        keys::Origin,
        store::{Batch, Change, MemoryStore, Outcome, Store as _},
    };

    #[tokio::test]
    async fn a_claim_is_not_granted_above_a_base_that_was_raised_meanwhile() {
        // PUB-11
        let (keys, store) = (Keys::under("w"), MemoryStore::new());
        let raise = |base| {
            let origin = encode(&Origin::above(base, 0));
            Transaction { compares: Vec::new(), writes: vec![Write::put(keys.text(&Key::Epochs), origin)] }
        };
        store.commit(raise(10)).await.unwrap();
        let mut view = View::new(keys.clone());
        let take = |view: &View| {
            let stream = StreamKey { room: RoomId::new("r").unwrap(), stream: StreamId::new("s").unwrap() };
            let (user, session) = (UserId::new("ann").unwrap(), SessionId::new("a").unwrap());
            let claimant = Claimant { user: &user, session: &session, seen: None };
            match take_claim(view, &keys, &stream, &claimant) {
                Plan::Write(transaction, Taken::ByWrite(base)) => (transaction, base),
                Plan::Write(..) | Plan::Settled(_) => panic!("it is free"),
            }
        };
        let catch_up = async |view: &mut View| {
            let listing = store.list("w/").await.unwrap();
            let changes = listing.entries.into_iter().map(Change::Put).collect();
            view.apply(&Batch { revision: listing.revision, changes });
        };
        catch_up(&mut view).await;
        let (late, base) = take(&view);
        assert_eq!(base, 10);
        store.commit(raise(5000)).await.unwrap();
        assert_eq!(store.commit(late).await, Ok(Outcome::Conflict));
        catch_up(&mut view).await;
        let (again, base) = take(&view);
        assert_eq!(base, 5000);
        assert!(matches!(store.commit(again).await, Ok(Outcome::Done(_))));
    }
}
