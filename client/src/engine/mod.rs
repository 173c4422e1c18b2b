//! The engine: the app's handle, and the one task that drives the machines.
//!
//! An app's call is a [`Command`] into the task's queue; what happens is an [`Event`] out of it. Invariant: the task
//! waits for nobody: an app that does not read its events loses the newest ones, which the log tells.

mod command;
mod control;
mod deeds;
mod inputs;
mod links;
mod sessions;
mod shell;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use waystation_proto::{RoomId, StreamKey};

pub(crate) use command::{Command, Commands, Ended, PlayId, PublicationId, Started};
use shell::Happened;
pub(crate) use shell::wait_until;

use crate::{
    config::{EngineConfig, PlayConfig, PublishConfig, RoomLogin},
    machine::Event,
    media::Codec,
    player::{Inlet, Player},
    publisher::{Outlet, Publisher},
};

/// Events that wait for the app.
const MAX_EVENTS: usize = 4096;

/// An engine that cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Nobody to log in to.
    #[error("no coordinator is named: give the engine at least one address, such as http://10.0.0.5:7400")]
    NoCoordinator,
    /// No tokio runtime to run in.
    #[error("no tokio runtime: start the engine from within one")]
    NoRuntime,
    /// No TLS.
    #[error("cannot set up HTTP: {0}")]
    Http(String),
}

/// The engine was closed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the engine is closed")]
pub struct EngineClosed;

/// Publishing that cannot start.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StartPublishingError {
    /// Neither audio nor video.
    #[error("nothing to publish: name an audio or a video track")]
    NoTrack,
    /// This engine publishes it already.
    #[error("{0} is being published by this engine: stop that first")]
    Published(StreamKey),
    /// The engine was closed.
    #[error(transparent)]
    Closed(#[from] EngineClosed),
}

/// Playing that cannot start.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StartPlayingError {
    /// Neither audio nor video.
    #[error("nothing to play: ask for audio or for at least one video codec")]
    NoTrack,
    /// This engine plays it already.
    #[error("{0} is being played by this engine: use that player")]
    Played(StreamKey),
    /// The engine was closed.
    #[error(transparent)]
    Closed(#[from] EngineClosed),
}

/// What happens, in order.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Event>,
}

impl Events {
    /// The next event. `None` when the engine is closed. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        self.queue.recv().await
    }
}

/// A client of a cluster. Clones are handles of the same one.
#[derive(Clone, Debug)]
pub struct Engine {
    commands: Commands,
}

impl Engine {
    /// Starts an engine within the current tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(config: EngineConfig) -> Result<(Self, Events), StartError> {
        if config.coordinators.is_empty() {
            return Err(StartError::NoCoordinator);
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let (commands, commanded) = Commands::new();
        let (events, queue) = mpsc::channel(MAX_EVENTS);
        let shell = shell::Shell::new(config, events)?;
        runtime.spawn(shell.run(commanded));
        Ok((Self { commands }, Events { queue }))
    }

    /// Logs in to a room. The outcome is an event (ROOM-1, ROOM-2).
    ///
    /// # Errors
    /// [`EngineClosed`]
    pub async fn login_room(&self, login: RoomLogin) -> Result<(), EngineClosed> {
        self.ask(Command::Login(login)).await
    }

    /// Logs out (ROOM-10). Publishers and players of the room end.
    ///
    /// # Errors
    /// [`EngineClosed`]
    pub async fn logout_room(&self, room: &RoomId) -> Result<(), EngineClosed> {
        self.ask(Command::Logout(room.clone())).await
    }

    /// Replaces a room's user token by one that expires later (ROOM-8).
    ///
    /// # Errors
    /// [`EngineClosed`]
    pub async fn renew_token(&self, room: &RoomId, token: String) -> Result<(), EngineClosed> {
        self.ask(Command::RenewToken { room: room.clone(), token }).await
    }

    /// Publishes a stream of a room that this client is logged in to. States are events (PUB-1).
    ///
    /// # Errors
    /// [`StartPublishingError`]
    pub async fn start_publishing(
        &self,
        key: StreamKey,
        config: PublishConfig,
    ) -> Result<Publisher, StartPublishingError> {
        let audio = config.audio.map(|_| Codec::Opus);
        let codecs: Vec<Codec> =
            audio.into_iter().chain(config.video.map(|video| Codec::Video(video.codec))).collect();
        if codecs.is_empty() {
            return Err(StartPublishingError::NoTrack);
        }
        let id = PublicationId(self.commands.next_id());
        let outlet = Arc::new(Outlet::new(codecs));
        let publish = |started| Command::Publish { id, key: key.clone(), outlet: outlet.clone(), started };
        if !self.start_stream(publish).await? {
            return Err(StartPublishingError::Published(key));
        }
        Ok(Publisher::new(key, id, outlet, self.commands.clone()))
    }

    /// Plays a stream of a room that this client is logged in to. States are events (PLAY-1).
    ///
    /// # Errors
    /// [`StartPlayingError`]
    pub async fn start_playing(
        &self,
        key: StreamKey,
        config: PlayConfig,
    ) -> Result<Player, StartPlayingError> {
        if !config.audio && config.video.is_empty() {
            return Err(StartPlayingError::NoTrack);
        }
        let id = PlayId(self.commands.next_id());
        let (inlet, packets) = Inlet::new();
        let play = |started| {
            let (key, config, inlet) = (key.clone(), config.clone(), inlet.clone());
            Command::Play { id, key, config, inlet, started }
        };
        if !self.start_stream(play).await? {
            return Err(StartPlayingError::Played(key));
        }
        Ok(Player::new(key, id, &config, (inlet, packets), self.commands.clone()))
    }

    /// Ends everything: publishers, players, logins. Returns when the coordinator and the nodes were told.
    pub async fn close(self) {
        self.commands.until_ended(Command::Close).await;
    }

    async fn start_stream(&self, command: impl FnOnce(Started) -> Command) -> Result<bool, EngineClosed> {
        let (started, has_started) = oneshot::channel();
        self.ask(command(started)).await?;
        has_started.await.map_err(|_| EngineClosed)
    }

    async fn ask(&self, command: Command) -> Result<(), EngineClosed> {
        if self.commands.send(command).await { Ok(()) } else { Err(EngineClosed) }
    }
}
