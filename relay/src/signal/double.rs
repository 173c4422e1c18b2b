//! A double of the control core for the tests of the shell.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use waystation_proto::{Claim, StreamKey, token::Action};

use super::Door;
use crate::{
    control::{
        ExchangeError, FindError, Holder, OpenError, OpenPlay, OpenPublish, Opened, Resource, SessionEvents,
        StreamTracks,
    },
    plane::IceCredentials,
};

/// Name of the session that the double opens.
pub const DOUBLE_SESSION: &str = "abcdefgh";

/// Answers as the test wants and remembers what it was asked.
#[derive(Clone, Default)]
pub struct Double(Arc<Mutex<Script>>);

#[derive(Default)]
pub struct Script {
    pub open: Option<OpenError>,
    pub exchange: Option<Result<String, ExchangeError>>,
    pub stream: Option<StreamTracks>,
    pub published: Vec<OpenPublish>,
    pub played: Vec<OpenPlay>,
    pub sessions: BTreeMap<Resource, Holder>,
    pub restarts: Vec<String>,
    pub watched: Vec<(Resource, SessionEvents)>,
    pub activated: Vec<(Resource, Claim)>,
}

impl Double {
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    fn open(&self, holder: Holder) -> Result<Opened, OpenError> {
        let mut script = self.script();
        if let Some(error) = &script.open {
            return Err(error.clone());
        }
        let resource = Resource(DOUBLE_SESSION.into());
        script.sessions.insert(resource.clone(), holder);
        Ok(Opened {
            resource,
            ice: ice("w0ab"),
            candidate: "127.0.0.1:7000".parse().unwrap(),
            fingerprint: ["AB"; 32].join(":"),
        })
    }
}

fn ice(local_ufrag: &str) -> IceCredentials {
    IceCredentials {
        local_ufrag: local_ufrag.into(),
        local_pwd: "0123456789abcdef01234567".into(),
        remote_ufrag: "x".into(),
    }
}

impl Door for Double {
    async fn find(&self, stream: &StreamKey) -> Result<StreamTracks, FindError> {
        self.script().stream.clone().ok_or_else(|| FindError::NotHere(stream.clone()))
    }
    async fn open_publish(&self, open: OpenPublish) -> Result<Opened, OpenError> {
        let holder = open.holder.clone();
        self.script().published.push(open);
        self.open(holder)
    }
    async fn open_play(&self, open: OpenPlay) -> Result<Opened, OpenError> {
        let holder = open.holder.clone();
        self.script().played.push(open);
        self.open(holder)
    }
    async fn restart_ice(&self, session: &Resource, remote_ufrag: String) -> Option<IceCredentials> {
        let mut script = self.script();
        script.restarts.push(remote_ufrag);
        script.sessions.contains_key(session).then(|| ice("w0cd"))
    }
    async fn lookup(&self, session: &Resource) -> Option<Holder> {
        self.script().sessions.get(session).cloned()
    }
    async fn close(&self, session: &Resource) -> bool {
        self.script().sessions.remove(session).is_some()
    }
    async fn exchange(&self, _: String, _: Action, _: StreamKey) -> Result<String, ExchangeError> {
        self.script().exchange.clone().unwrap_or(Err(ExchangeError::NoCoordinator))
    }
    fn watch(&self, session: Resource, to: SessionEvents) {
        self.script().watched.push((session, to));
    }
    fn activate(&self, session: Resource, claim: Claim) {
        self.script().activated.push((session, claim));
    }
}
