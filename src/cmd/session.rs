//! What `publish` and `play` share: a client of the cluster, logged in to one room.

use std::{pin::pin, time::Duration};

use anyhow::Context as _;
use tokio::time::timeout;
use waystation_client::{Engine, EngineConfig, Event, Events, Hedging, RoomLogin, RoomState, StreamKey};

use super::report::{End, Report};
use crate::cluster::endpoint;

/// Without an answer for this long, the person is told that there may be nobody to answer.
const ANSWER_EXPECTED: Duration = Duration::from_secs(3);

/// Flags of both.
#[derive(Clone, Debug, clap::Args)]
pub struct Session {
    /// Coordinators, with commas between them; any of them will do.
    #[arg(
        long,
        value_name = "URL,...",
        value_delimiter = ',',
        env = "WAYSTATION_COORDINATORS",
        required = true
    )]
    coordinator: Vec<String>,
    /// User token: `waystation token` prints one for the cluster of `waystation dev`.
    #[arg(long, value_name = "TOKEN", env = "WAYSTATION_TOKEN", hide_env_values = true, required = true)]
    token: String,
    /// Room.
    #[arg(long, value_name = "ROOM")]
    room: String,
    /// Stream in the room.
    #[arg(long, value_name = "STREAM")]
    stream: String,
    /// Where this client stands; nodes of the same region come first.
    #[arg(long, value_name = "REGION", default_value = "", hide_default_value = true)]
    region: String,
    /// How long a lost room is tried again, such as 20m; 0s is never.
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = humantime::parse_duration)]
    room_retry_time: Duration,
    /// How long an interrupted stream is tried again; 0s is never.
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = humantime::parse_duration)]
    av_retry_time: Duration,
    /// Do not meet a silent node with a second session to another.
    #[arg(long)]
    no_hedging: bool,
    /// Tell when other users come and go.
    #[arg(long)]
    notify_users: bool,
    /// Print one JSON object a line on standard output.
    #[arg(long)]
    pub json: bool,
}

impl Session {
    /// The stream.
    ///
    /// # Errors
    /// When an id cannot be used.
    pub fn key(&self) -> anyhow::Result<StreamKey> {
        Ok(StreamKey { room: self.room.parse()?, stream: self.stream.parse()? })
    }

    /// Logs in and waits for the outcome: the engine, or how it failed.
    ///
    /// # Errors
    /// When the engine cannot start.
    pub async fn log_in(&self, report: &Report) -> anyhow::Result<Result<(Engine, Events), End>> {
        self.coordinator.iter().try_for_each(|url| endpoint(url).map(drop))?;
        let mut config = EngineConfig::new(self.coordinator.clone());
        config.region.clone_from(&self.region);
        config.room_retry_time = self.room_retry_time;
        config.av_retry_time = self.av_retry_time;
        config.hedging = if self.no_hedging { Hedging::Off } else { Hedging::On };
        let (engine, mut events) = Engine::start(config)?;
        let room = self.key()?.room;
        engine
            .login_room(RoomLogin { room, token: self.token.clone(), notify_users: self.notify_users })
            .await?;
        let outcome = self.outcome(&mut events, report).await?;
        Ok(outcome.map(|()| (engine, events)))
    }

    async fn outcome(&self, events: &mut Events, report: &Report) -> anyhow::Result<Result<(), End>> {
        let mut outcome = pin!(login_outcome(events, report));
        match timeout(ANSWER_EXPECTED, &mut outcome).await {
            Ok(outcome) => outcome,
            Err(_) => {
                report.sentence(&self.no_answer());
                outcome.await
            }
        }
    }

    fn no_answer(&self) -> String {
        format!(
            "no coordinator has answered yet at {}: is one running there? --coordinator or WAYSTATION_COORDINATORS says \
             where; trying on",
            self.coordinator.join(", ")
        )
    }
}

/// Waits for the login's outcome.
async fn login_outcome(events: &mut Events, report: &Report) -> anyhow::Result<Result<(), End>> {
    loop {
        let event = events.recv().await.context("the engine ended before the login")?;
        report.event(&event);
        if let Some(end) = End::of(&event) {
            return Ok(Err(end));
        }
        if matches!(&event, Event::Room(room) if room.state == RoomState::Connected) {
            return Ok(Ok(()));
        }
    }
}
