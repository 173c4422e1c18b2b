//! What an app's handles ask of the engine's task.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{mpsc, oneshot};
use waystation_proto::{RoomId, StreamKey};

use crate::{
    config::{PlayConfig, RoomLogin},
    player::Inlet,
    publisher::Outlet,
};

/// Calls under way; an app that makes more waits.
const MAX_QUEUED: usize = 256;

/// Names a publisher for its engine's life: the same stream published again is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PublicationId(pub(crate) u64);

/// Names a player for its engine's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PlayId(pub(crate) u64);

/// Dropped when what was to be stopped has ended.
pub(crate) type Ended = oneshot::Sender<()>;

/// Whether a publisher or player was started, or that stream has one already.
pub(crate) type Started = oneshot::Sender<bool>;

/// What is asked.
#[derive(Debug)]
pub(crate) enum Command {
    Login(RoomLogin),
    Logout(RoomId),
    RenewToken { room: RoomId, token: String },
    Publish { id: PublicationId, key: StreamKey, outlet: Arc<Outlet>, started: Started },
    Play { id: PlayId, key: StreamKey, config: PlayConfig, inlet: Arc<Inlet>, started: Started },
    StopPublishing { id: PublicationId, key: StreamKey, ended: Option<Ended> },
    StopPlaying { id: PlayId, key: StreamKey, ended: Option<Ended> },
    RequestKeyframe { id: PlayId, key: StreamKey },
    Close(Ended),
}

/// The way into the engine's task. Cheap to clone; the task ends after its last clone is gone.
#[derive(Clone, Debug)]
pub(crate) struct Commands {
    queue: mpsc::Sender<Command>,
    next_id: Arc<AtomicU64>,
}

impl Commands {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (queue, commands) = mpsc::channel(MAX_QUEUED);
        (Self { queue, next_id: Arc::default() }, commands)
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// `false` when the engine is closed.
    pub(crate) async fn send(&self, command: Command) -> bool {
        self.queue.send(command).await.is_ok()
    }

    /// Asks without waiting for an answer, also from a destructor. With a full queue a task of its own waits.
    pub(crate) fn post(&self, command: Command) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.queue.try_send(command)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let queue = self.queue.clone();
            runtime.spawn(async move { queue.send(command).await });
        }
    }

    /// Asks, and waits until what is asked for has ended.
    pub(crate) async fn until_ended(&self, command: impl FnOnce(Ended) -> Command) {
        let (ended, has_ended) = oneshot::channel();
        if self.send(command(ended)).await {
            // An error is the end as well: the engine is gone.
            let _ = has_ended.await;
        }
    }
}
