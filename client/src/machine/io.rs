//! What goes into a [`Client`](super::Client) and what comes out: the whole contract with its shell.
//!
//! Invariant: whatever is asynchronous carries an id that the machine chose: a connection number, a request or an
//! attempt. The shell repeats it in the answer, and an answer to an old one changes nothing.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use waystation_proto::{
    Claim, ErrorCode, LoginId, Node, NodeRef, RoomId, SessionId, StreamId, StreamKey, token::Action,
};

use super::{
    event::{Event, StreamEntry, UserEntry},
    trial::{AttemptId, Failure, Trial},
};
use crate::config::Hedging;

/// What a [`Client`](super::Client) starts with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Addresses of coordinators.
    pub coordinators: Vec<String>,
    /// From which all jitter comes.
    pub seed: u64,
    /// How long a lost room is tried again; zero is never.
    pub room_retry_time: Duration,
    /// How long an interrupted publisher or player is tried again; zero is never.
    pub av_retry_time: Duration,
    /// Rooms at a time.
    pub max_rooms: usize,
    /// What is done about a silent node.
    pub hedging: Hedging,
}

/// Names a `Connect` for its client's life; it travels as the connection number, so later ones are higher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Names a call to a coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A point in a store's history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision {
    /// Numbers of different stores are not comparable.
    pub store_id: String,
    /// Where in it.
    pub number: u64,
}

/// A stream that a login publishes, for a coordinator that lost its store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeldClaim {
    /// Which stream.
    pub stream: StreamId,
    /// The highest claim used.
    pub claim: Claim,
    /// The proof of its epoch.
    pub node_token: String,
}

/// A login as it goes to a coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Login {
    /// The room.
    pub room: RoomId,
    /// The user token.
    pub user_token: String,
    /// The client's secret name of this login.
    pub login_id: LoginId,
    /// Whether user updates are wanted.
    pub notify_users: bool,
    /// Whether it was answered before.
    pub resume: bool,
    /// What the client has seen.
    pub seen: Option<Revision>,
    /// What it publishes.
    pub claims: Vec<HeldClaim>,
}

/// Proves a login on later calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionProof {
    /// The room.
    pub room: RoomId,
    /// The client's secret name of the login.
    pub login_id: LoginId,
}

/// A call's answer that is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallFailure {
    /// A coordinator's word; another would repeat it.
    Refused(ErrorCode),
    /// The coordinator answers but does not hold the connection or the login: connect again.
    NotConnected,
    /// The coordinator is in trouble or out of reach.
    Failed,
}

/// A coordinator's answer to a plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// For a publish.
    pub claim: Option<Claim>,
    /// For the nodes.
    pub node_token: String,
    /// For so long.
    pub token_valid: Duration,
    /// In the order in which they are to be tried.
    pub nodes: Vec<Node>,
}

/// One change of a room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Delta {
    /// A user came.
    UserAdded(UserEntry),
    /// A user went.
    UserDeleted(UserEntry),
    /// A stream came.
    StreamAdded(StreamEntry),
    /// A stream went.
    StreamDeleted(StreamEntry),
}

/// A room as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The login's public name.
    pub session: SessionId,
    /// When.
    pub revision: Revision,
    /// Who is in it.
    pub users: BTreeSet<UserEntry>,
    /// What is published in it.
    pub streams: BTreeSet<StreamEntry>,
}

/// What a coordinator tells over the `Connect` stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// First of all.
    Welcome {
        /// Every coordinator that clients can reach.
        coordinators: Vec<String>,
        /// How often to beat.
        beat_interval: Duration,
    },
    /// A login was taken.
    RoomUp {
        /// Which room.
        room: RoomId,
        /// How it stands.
        snapshot: Snapshot,
    },
    /// All that one revision changed.
    RoomChange {
        /// Which room.
        room: RoomId,
        /// The revision.
        revision: Revision,
        /// In order.
        deltas: Vec<Delta>,
    },
    /// A login is over.
    RoomDown {
        /// Which room.
        room: RoomId,
        /// Why; `None` for a number that this client does not know, or 0.
        code: Option<ErrorCode>,
    },
    /// Every node known.
    Nodes(Vec<Node>),
    /// A node whose beats are missing.
    Suspect(NodeRef),
    /// A user token is about to expire.
    TokenExpiring {
        /// Of which room.
        room: RoomId,
        /// In how long.
        in_: Duration,
    },
    /// This coordinator is leaving, or cut off from its store.
    TryOther {
        /// Until when to have left.
        within: Duration,
    },
}

/// How a session stands at its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The transport is not up yet.
    Connecting,
    /// Transport up, stream known, nothing flows.
    Idle,
    /// Media flows.
    Flowing,
    /// A play whose stream has lost its origin.
    OriginLost,
    /// A publish that waits for its activation.
    Standby,
}

/// Why an event connection is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventsLoss {
    /// The address refuses connections.
    Refused,
    /// Nobody answers.
    NoAnswer,
    /// It was up and broke, or speaks something else.
    Broken,
}

/// What happened, with the time beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The app logs in to a room; `login_id` is fresh.
    Login {
        /// Which room.
        room: RoomId,
        /// The user token.
        user_token: String,
        /// From at least 128 random bits.
        login_id: LoginId,
        /// Whether user updates are wanted.
        notify_users: bool,
    },
    /// The app leaves a room.
    Logout(RoomId),
    /// The app has a new user token.
    RenewToken {
        /// Of which room.
        room: RoomId,
        /// The token.
        user_token: String,
    },
    /// The app publishes a stream.
    Publish(StreamKey),
    /// The app stops.
    StopPublishing(StreamKey),
    /// The app plays a stream.
    Play(StreamKey),
    /// The app stops.
    StopPlaying(StreamKey),
    /// The app leaves everything.
    Close,

    /// Something came over a `Connect` stream.
    Told(ConnectionId, Told),
    /// A `Connect` stream has ended, or never came to be.
    ConnectionLost(ConnectionId),
    /// [`Output::Login`] failed. (Its success is told over the stream.)
    LoginFailed(ConnectionId, RoomId, CallFailure),
    /// A beat was answered: rooms that this coordinator does not know for this client.
    BeatAnswered(ConnectionId, Result<Vec<RoomId>, CallFailure>),
    /// A plan was answered.
    Planned(RequestId, Result<Plan, CallFailure>),

    /// A node has taken a session: its POST was answered 201.
    Answered(AttemptId),
    /// The attempt's transport is up: ICE and DTLS are done.
    Up(AttemptId),
    /// The attempt's first packet of media has come (plays).
    Media(AttemptId),
    /// Something authentic came from the node at that time. At most one in 10 ms or so is needed.
    Heard(AttemptId, Instant),
    /// The node tells the session's phase.
    Phase(AttemptId, Phase, Option<Claim>),
    /// The attempt has failed, or its session is lost.
    Failed(AttemptId, Failure),
    /// An event connection is up, and this life of the node is behind it.
    EventsUp {
        /// As in [`Output::OpenEvents`].
        node: NodeRef,
        /// Who answered.
        life: NodeRef,
    },
    /// An event connection is not there.
    EventsLost(NodeRef, EventsLoss),
    /// The time of `poll_timeout` has come. Early and late ones are harmless.
    Timeout,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Open the `Connect` stream; what comes is [`Input::Told`], its end [`Input::ConnectionLost`].
    Connect {
        /// Which; the connection number on the wire.
        connection: ConnectionId,
        /// At which coordinator.
        url: String,
        /// Every room.
        logins: Vec<Login>,
    },
    /// Let a `Connect` stream, or the attempt at one, go.
    Disconnect(ConnectionId),
    /// Add a room to the open connection.
    Login {
        /// Which.
        connection: ConnectionId,
        /// At which coordinator.
        url: String,
        /// The room.
        login: Login,
    },
    /// Say that the client lives. The answer is [`Input::BeatAnswered`].
    Beat {
        /// Which connection.
        connection: ConnectionId,
        /// At which coordinator.
        url: String,
        /// Every login.
        sessions: Vec<SessionProof>,
    },
    /// End a login. Nothing is awaited.
    Logout {
        /// At which coordinator.
        url: String,
        /// Which login.
        session: SessionProof,
    },
    /// Replace the user token. Nothing is awaited: a refusal shows when the old one expires.
    RenewToken {
        /// At which coordinator.
        url: String,
        /// Of which login.
        session: SessionProof,
        /// The new one.
        user_token: String,
    },
    /// Ask for a plan; the answer is [`Input::Planned`].
    Plan {
        /// Which call.
        request: RequestId,
        /// At which coordinator.
        url: String,
        /// Publish or play.
        action: Action,
        /// In whose name.
        session: SessionProof,
        /// Which stream.
        stream: StreamId,
        /// Nodes that failed in this walk.
        failed: Vec<NodeRef>,
    },
    /// Give a claim up. Nothing is awaited.
    EndStream {
        /// At which coordinator.
        url: String,
        /// In whose name.
        session: SessionProof,
        /// Which stream.
        stream: StreamId,
        /// Which epoch.
        epoch: u64,
    },
    /// Tell what a walk saw. Nothing is awaited.
    Report {
        /// At which coordinator.
        url: String,
        /// In whose name.
        session: SessionProof,
        /// Which stream.
        stream: StreamId,
        /// The trials.
        trials: Vec<Trial>,
    },
    /// Open a session at a node and watch it over the node's event connection.
    Dial {
        /// Which attempt.
        attempt: AttemptId,
        /// For which stream.
        key: StreamKey,
        /// Publish or play.
        action: Action,
        /// Where.
        node: Node,
        /// The node token.
        node_token: String,
        /// For a publish that is to be active at once: its move.
        moved: Option<u32>,
    },
    /// Make a publishing session the active one.
    Activate {
        /// Which.
        attempt: AttemptId,
        /// Under which claim.
        claim: Claim,
    },
    /// The app's media goes to, or comes from, this session from now on. One used before stays up until it is hung up.
    Use {
        /// Which.
        attempt: AttemptId,
        /// For which stream.
        key: StreamKey,
        /// Publish or play.
        action: Action,
    },
    /// End an attempt, up or not: DELETE it, close its transport. Nothing that it reports matters any more.
    Hang(AttemptId),
    /// Open the event connection to a node; the outcome is [`Input::EventsUp`] or [`Input::EventsLost`]. After a loss
    /// it is opened again by another output of this kind, and every session there is to be watched again.
    OpenEvents(Node),
    /// No session is there any more.
    CloseEvents(NodeRef),
    /// Tell the app.
    Emit(Event),
}
