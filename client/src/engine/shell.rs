//! The engine's task: what happens goes into the machines, what they want is done.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time::sleep_until};
use waystation_proto::{NodeRef, StreamKey};

use super::{
    Command, Ended, PlayId, PublicationId, StartError,
    control::Control,
    links::{LinkId, Links},
    sessions::Sessions,
};
use crate::{
    config::{EngineConfig, PlayConfig},
    events::NodeReport,
    http::{NodeHttp, OpenError, Opened},
    machine::{AttemptId, Client, Event, Failure, Input, Settings},
    media::Gap,
    player::Inlet,
    publisher::Outlet,
};

/// Reports of sessions, nodes and coordinators on their way.
const MAX_HAPPENED: usize = 4096;

/// How long a closing engine waits for coordinators and nodes to hear of it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// What happened outside of the machines.
#[derive(Debug)]
pub(super) enum Happened {
    /// Something that the machines know as it is.
    Input(Input),
    /// A node has answered a POST.
    Opened(AttemptId, Result<Opened, OpenError>),
    /// ICE and DTLS are up.
    Up(AttemptId),
    /// The first packet of media came.
    Media(AttemptId),
    /// The peer connection has ended.
    Failed(AttemptId, Failure),
    /// A player's media stopped for a while.
    Gap(AttemptId, Gap<NodeRef>),
    /// A node tells something.
    Node(NodeRef, LinkId, NodeReport),
}

/// A publisher of the app.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) id: PublicationId,
    pub(super) outlet: Arc<Outlet>,
    /// Who waits for its end.
    pub(super) ended: Vec<Ended>,
}

/// A player of the app.
#[derive(Debug)]
pub(super) struct Play {
    pub(super) id: PlayId,
    pub(super) inlet: Arc<Inlet>,
    pub(super) config: PlayConfig,
    /// The session whose media the app gets.
    pub(super) used: Option<AttemptId>,
    /// Who waits for its end.
    pub(super) ended: Vec<Ended>,
}

/// Everything that the task owns.
pub(super) struct Shell {
    client: Client,
    pub(super) events: mpsc::Sender<Event>,
    happened: mpsc::Receiver<Happened>,
    pub(super) control: Control,
    pub(super) sessions: Sessions,
    pub(super) links: Links,
    pub(super) publications: BTreeMap<StreamKey, Publication>,
    pub(super) plays: BTreeMap<StreamKey, Play>,
    /// What doing an output led to at once.
    pub(super) inputs: VecDeque<Input>,
}

impl Shell {
    pub(super) fn new(config: EngineConfig, events: mpsc::Sender<Event>) -> Result<Self, StartError> {
        let http = NodeHttp::new().map_err(|error| StartError::Http(error.to_string()))?;
        let (tell, happened) = mpsc::channel(MAX_HAPPENED);
        let settings = Settings {
            coordinators: config.coordinators,
            seed: rand::random(),
            room_retry_time: config.room_retry_time,
            av_retry_time: config.av_retry_time,
            max_rooms: config.max_rooms,
            hedging: config.hedging,
        };
        Ok(Self {
            client: Client::new(settings),
            events,
            happened,
            control: Control::new(random_name(), config.region, tell.clone()),
            sessions: Sessions::new(http, tell.clone()),
            links: Links::new(tell),
            publications: BTreeMap::new(),
            plays: BTreeMap::new(),
            inputs: VecDeque::new(),
        })
    }

    /// Runs until the app closes the engine, or has dropped every handle.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let closed = loop {
            let due = self.client.poll_timeout();
            let input = tokio::select! {
                // What has happened already comes before the time at which it would have been missed.
                biased;
                command = commands.recv() => match command {
                    Some(Command::Close(ended)) => break Some(ended),
                    Some(command) => self.command(command),
                    None => break None,
                },
                // The senders are in `self`, so the channel is open.
                Some(happened) = self.happened.recv() => self.happened(happened),
                () = wait_until(due) => Some(Input::Timeout),
            };
            for (attempt, at) in self.sessions.heard() {
                self.handle(Input::Heard(attempt, at));
            }
            input.into_iter().for_each(|input| self.handle(input));
        };
        self.handle(Input::Close);
        let told = async { tokio::join!(self.control.finish(), self.sessions.finish()) };
        if tokio::time::timeout(CLOSE_PATIENCE, told).await.is_err() {
            tracing::debug!("closed before everybody was told");
        }
        drop((self, closed));
    }

    /// One input, and all that it leads to.
    fn handle(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            self.client.handle(input, Instant::now());
            while let Some(output) = self.client.poll_output() {
                self.act(output);
            }
        }
    }
}

/// Never returns without a time.
pub(crate) async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// 128 random bits.
pub(super) fn random_name() -> String {
    format!("{:032x}", rand::random::<u128>())
}
