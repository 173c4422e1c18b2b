//! Between the coordinator's messages and the machines' types. Pure.
//!
//! Invariant: what cannot be understood is left out, never guessed; a room or a list does not fall with one entry.

use std::time::Duration;

use thiserror::Error;
use waystation_proto::{
    Claim, ErrorCode, IdError, Node, NodeError, NodeRef, RoomId, SessionId, StreamId, UserId,
    v1::{self, connect_event::Event, room_delta},
};

use crate::machine::{
    Delta, Login, Plan, Revision, SessionProof, Snapshot, StreamEntry, Told, Trial, UserEntry,
};

/// A beat asked for more often than this would be an attack.
const MIN_BEAT_INTERVAL: Duration = Duration::from_millis(100);

/// A message that cannot be understood.
#[derive(Debug, Error)]
pub(super) enum WireError {
    /// An id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A field that must be there is not.
    #[error("an event lacks its {0}")]
    Missing(&'static str),
}

/// What a coordinator tells; `None` for an event of a later version.
pub(super) fn told(event: v1::ConnectEvent) -> Result<Option<Told>, WireError> {
    let Some(event) = event.event else { return Ok(None) };
    Ok(Some(match event {
        Event::Welcome(welcome) => Told::Welcome {
            coordinators: welcome.coordinator_urls,
            beat_interval: millis(welcome.beat_interval_ms).max(MIN_BEAT_INTERVAL),
        },
        Event::RoomUp(up) => {
            let room = RoomId::new(&up.room)?;
            let snapshot = Snapshot {
                session: SessionId::new(&up.session_id)?,
                revision: revision(up.revision)?,
                users: known(up.users, user).collect(),
                streams: known(up.streams, stream).collect(),
            };
            Told::RoomUp { room, snapshot }
        }
        Event::RoomChange(change) => Told::RoomChange {
            room: RoomId::new(&change.room)?,
            revision: revision(change.revision)?,
            deltas: known(change.deltas, delta).flatten().collect(),
        },
        Event::RoomDown(down) => {
            Told::RoomDown { room: RoomId::new(&down.room)?, code: ErrorCode::from_number(down.code) }
        }
        Event::Nodes(list) => Told::Nodes(nodes(list.nodes)),
        Event::Suspect(suspect) => {
            Told::Suspect(NodeRef::try_from(suspect.node.ok_or(WireError::Missing("node"))?)?)
        }
        Event::TokenExpiring(token) => {
            Told::TokenExpiring { room: RoomId::new(&token.room)?, in_: millis(token.in_ms) }
        }
        Event::TryOther(other) => Told::TryOther { within: millis(other.within_ms) },
    }))
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

fn revision(wire: Option<v1::Revision>) -> Result<Revision, WireError> {
    let wire = wire.ok_or(WireError::Missing("revision"))?;
    Ok(Revision { store_id: wire.store_id, number: wire.number })
}

fn user(wire: v1::RoomUser) -> Result<UserEntry, WireError> {
    Ok(UserEntry { user: UserId::new(&wire.user)?, session: SessionId::new(&wire.session_id)? })
}

fn stream(wire: v1::RoomStream) -> Result<StreamEntry, WireError> {
    Ok(StreamEntry {
        stream: StreamId::new(&wire.stream)?,
        user: UserId::new(&wire.user)?,
        session: SessionId::new(&wire.session_id)?,
        epoch: wire.epoch,
    })
}

fn delta(wire: v1::RoomDelta) -> Result<Option<Delta>, WireError> {
    use room_delta::Delta as Wire;
    wire.delta
        .map(|delta| {
            Ok(match delta {
                Wire::UserAdded(entry) => Delta::UserAdded(user(entry)?),
                Wire::UserDeleted(entry) => Delta::UserDeleted(user(entry)?),
                Wire::StreamAdded(entry) => Delta::StreamAdded(stream(entry)?),
                Wire::StreamDeleted(entry) => Delta::StreamDeleted(stream(entry)?),
            })
        })
        .transpose()
}

/// The entries that can be understood.
fn known<W, T, E: std::fmt::Display>(
    wire: Vec<W>,
    understand: impl Fn(W) -> Result<T, E>,
) -> impl Iterator<Item = T> {
    wire.into_iter().filter_map(move |entry| match understand(entry) {
        Ok(entry) => Some(entry),
        Err(error) => {
            tracing::warn!(%error, "an entry is left out");
            None
        }
    })
}

/// The nodes that can be used.
pub(super) fn nodes(wire: Vec<v1::Node>) -> Vec<Node> {
    known(wire, Node::try_from).collect()
}

/// A login.
pub(crate) fn login(login: Login) -> v1::RoomLogin {
    let claims = login.claims.into_iter().map(|held| v1::HeldClaim {
        stream: held.stream.to_string(),
        claim: Some(held.claim.into()),
        node_token: held.node_token,
    });
    v1::RoomLogin {
        room: login.room.to_string(),
        user_token: login.user_token,
        login_id: login.login_id.to_string(),
        notify_users: login.notify_users,
        resume: login.resume,
        seen: login.seen.map(|seen| v1::Revision { store_id: seen.store_id, number: seen.number }),
        claims: claims.collect(),
    }
}

/// The proof of a login.
pub(crate) fn proof(session: &SessionProof) -> v1::SessionRef {
    v1::SessionRef { room: session.room.to_string(), login_id: session.login_id.to_string() }
}

/// A plan to publish.
pub(crate) fn plan_of_publish(response: v1::PlanPublishResponse) -> Plan {
    Plan {
        claim: response.claim.map(Claim::from),
        node_token: response.node_token,
        token_valid: millis(response.token_valid_ms),
        nodes: nodes(response.nodes),
    }
}

/// A plan to play.
pub(crate) fn plan_of_play(response: v1::PlanPlayResponse) -> Plan {
    Plan {
        claim: None,
        node_token: response.node_token,
        token_valid: millis(response.token_valid_ms),
        nodes: nodes(response.nodes),
    }
}

/// One trial of a walk.
pub(crate) fn report(trial: &Trial) -> v1::AttemptReport {
    v1::AttemptReport {
        node: Some((&trial.node).into()),
        outcome: trial.outcome.word().to_owned(),
        took_ms: u32::try_from(trial.took.as_millis()).unwrap_or(u32::MAX),
    }
}
