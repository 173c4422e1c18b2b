//! The door between signalling and the control core: what WHIP, WHEP and the event connection ask of it.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use waystation_proto::{
    Claim, NodeRef, Refusal, StreamKey,
    token::{Action, NodeToken},
    v1,
};

use crate::{
    agent::AgentHandle,
    plane::{CodecSpec, DtlsRole, EgressTrack, Extension, Fingerprint, IceCredentials, IngressTrack, Kind},
};

/// The random id at the end of a session's WHIP or WHEP resource URL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource(pub Arc<str>);

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({}…)", self.0.get(..4).unwrap_or_default())
    }
}

/// What a client's offer says of its transport.
#[derive(Clone, Debug)]
pub struct PeerOffer {
    /// Its ICE ufrag.
    pub remote_ufrag: String,
    /// Of its certificate.
    pub fingerprint: Fingerprint,
    /// Our side of DTLS.
    pub role: DtlsRole,
    /// `Waystation-Beat`: send SRTCP whenever nothing else was sent for this long.
    pub beat: Option<Duration>,
}

/// SHA-256 of the bearer token that opened a session: who shows it again is the session's holder, whatever became of the
/// token since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BearerHash(pub [u8; 32]);

impl BearerHash {
    /// Of a token's text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(hash)
    }
}

/// Who may change or end a session (RFC 9725 §4.2): who shows what opened it, or a newer token of the same user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Under which the session is.
    pub token: NodeToken,
    /// Of the token that was presented: a plain client's is not the one above.
    pub bearer: BearerHash,
}

/// A WHIP session to be.
#[derive(Clone, Debug)]
pub struct OpenPublish {
    /// Checked by signalling.
    pub holder: Holder,
    /// `Waystation-Move`: active at once under this move. `None`: standby until it is activated.
    pub activate: Option<u32>,
    /// What will arrive.
    pub tracks: Vec<IngressTrack>,
    /// Its transport.
    pub peer: PeerOffer,
}

/// A WHEP session to be.
#[derive(Clone, Debug)]
pub struct OpenPlay {
    /// Checked by signalling.
    pub holder: Holder,
    /// What was negotiated.
    pub tracks: Vec<EgressTrack>,
    /// Its transport.
    pub peer: PeerOffer,
}

/// A session that was taken.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its name.
    pub resource: Resource,
    /// Our ICE credentials, for the answer.
    pub ice: IceCredentials,
    /// Our one candidate.
    pub candidate: SocketAddr,
    /// SHA-256 of our certificate, `AB:CD:…`.
    pub fingerprint: String,
}

/// Why a session is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// The stream is held under a higher claim: 409 with code 1003028 when the epoch is higher.
    #[error("stream {stream} is published under claim {held}, which is higher than {offered}")]
    Fenced {
        /// Which stream.
        stream: StreamKey,
        /// The claim known here.
        held: Claim,
        /// The one offered.
        offered: Claim,
    },
    /// The login behind the token was ended by this code.
    #[error("the login behind this token was ended: {0}")]
    Revoked(Refusal),
    /// Admissions per second or sessions are at their limit: 503 with Retry-After.
    #[error("this node takes no more sessions now; try another")]
    Full,
    /// The relay is stopping.
    #[error("this node is stopping; try another")]
    Stopping,
}

/// A track of a stream, as a player may get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackInfo {
    /// Audio or video.
    pub kind: Kind,
    /// What the publisher sends.
    pub codec: CodecSpec,
    /// Extensions that arrive with it.
    pub extensions: Vec<Extension>,
}

/// The tracks of a stream that this relay has or has subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTracks {
    /// The claim under which it is published.
    pub claim: Claim,
    /// At most one audio and one video.
    pub tracks: Vec<TrackInfo>,
}

/// Why a stream is not found.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FindError {
    /// "Not here now": 409 with Retry-After, never "no such stream".
    #[error("stream {0} is not here now")]
    NotHere(StreamKey),
    /// The relay is stopping.
    #[error("this node is stopping; try another")]
    Stopping,
}

/// Why a user token is not exchanged.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ExchangeError {
    /// The coordinator's word.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// None is in reach: 503 with Retry-After.
    #[error("no coordinator is in reach to check this token; try again in a few seconds")]
    NoCoordinator,
}

/// Events of sessions for one event connection.
pub type SessionEvents = mpsc::Sender<v1::NodeEvent>;

/// Requests that wait for the core.
pub(crate) const REQUESTS: usize = 4096;

/// A request on its way to the core.
#[derive(Debug)]
pub(crate) enum Ask {
    Find { stream: StreamKey, hint: Option<NodeRef>, reply: oneshot::Sender<Result<StreamTracks, FindError>> },
    OpenPublish { open: Box<OpenPublish>, reply: oneshot::Sender<Result<Opened, OpenError>> },
    OpenPlay { open: Box<OpenPlay>, reply: oneshot::Sender<Result<Opened, OpenError>> },
    RestartIce { resource: Resource, remote_ufrag: String, reply: oneshot::Sender<Option<IceCredentials>> },
    Lookup { resource: Resource, reply: oneshot::Sender<Option<Holder>> },
    Close { resource: Resource, reply: oneshot::Sender<bool> },
    Watch { resource: Resource, to: SessionEvents },
    Activate { resource: Resource, claim: Claim },
}

/// The handle that signalling holds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    asks: mpsc::Sender<Ask>,
    agent: AgentHandle,
}

impl Control {
    pub(crate) fn new(asks: mpsc::Sender<Ask>, agent: AgentHandle) -> Self {
        Self { asks, agent }
    }

    /// `None`: the core is gone, since the relay stops.
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Looks for a stream here, or subscribes to it from the relay that has it, for at most 1.5 s.
    ///
    /// # Errors
    /// [`FindError::NotHere`] when nobody that was asked has it.
    pub async fn find(&self, stream: &StreamKey, hint: Option<NodeRef>) -> Result<StreamTracks, FindError> {
        let stream = stream.clone();
        self.ask(|reply| Ask::Find { stream, hint, reply }).await.unwrap_or(Err(FindError::Stopping))
    }

    /// Takes a WHIP session.
    ///
    /// # Errors
    /// [`OpenError`]
    pub async fn open_publish(&self, open: OpenPublish) -> Result<Opened, OpenError> {
        let open = Box::new(open);
        self.ask(|reply| Ask::OpenPublish { open, reply }).await.unwrap_or(Err(OpenError::Stopping))
    }

    /// Takes a WHEP session.
    ///
    /// # Errors
    /// [`OpenError`]
    pub async fn open_play(&self, open: OpenPlay) -> Result<Opened, OpenError> {
        let open = Box::new(open);
        self.ask(|reply| Ask::OpenPlay { open, reply }).await.unwrap_or(Err(OpenError::Stopping))
    }

    /// New ICE credentials of ours for a session whose client restarts ICE (RFC 9725 §4.3.3); `None`: no such session.
    pub async fn restart_ice(&self, resource: &Resource, remote_ufrag: String) -> Option<IceCredentials> {
        let resource = resource.clone();
        self.ask(|reply| Ask::RestartIce { resource, remote_ufrag, reply }).await?
    }

    /// Who holds a session; `None`: there is no such session.
    pub async fn lookup(&self, resource: &Resource) -> Option<Holder> {
        let resource = resource.clone();
        self.ask(|reply| Ask::Lookup { resource, reply }).await?
    }

    /// Ends a session; false: there is none.
    pub async fn close(&self, resource: &Resource) -> bool {
        let resource = resource.clone();
        self.ask(|reply| Ask::Close { resource, reply }).await.unwrap_or(false)
    }

    /// Sends the state of a session, now and at each change, and its end, to an event connection. An unknown session
    /// is answered with `SessionClosed`.
    pub fn watch(&self, resource: Resource, to: SessionEvents) {
        self.tell(Ask::Watch { resource, to });
    }

    /// Makes a publish the active one under a claim.
    pub fn activate(&self, resource: Resource, claim: Claim) {
        self.tell(Ask::Activate { resource, claim });
    }

    /// What cannot wait is dropped when [`REQUESTS`] wait already: the client notices, and walks on.
    fn tell(&self, ask: Ask) {
        if self.asks.try_send(ask).is_err() {
            tracing::warn!("the control core does not keep up; a client's word was dropped");
        }
    }

    /// Exchanges a plain client's user token for a node token at the coordinator.
    ///
    /// # Errors
    /// [`ExchangeError`]
    pub async fn exchange(
        &self,
        user_token: String,
        action: Action,
        stream: StreamKey,
    ) -> Result<String, ExchangeError> {
        self.agent.exchange(user_token, action, stream).await
    }
}
