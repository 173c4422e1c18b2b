//! What the machines want of coordinators, done: each call is a task that brings its answer back.

use std::collections::BTreeMap;

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use waystation_proto::{NodeRef, RoomId, StreamId, token::Action, v1};

use super::Happened;
use crate::{
    machine::{CallFailure, ConnectionId, Input, Login, RequestId, SessionProof, Trial},
    rpc::{self, CallError, Coordinator},
};

/// Coordinators whose connections are kept.
const MAX_KEPT: usize = 16;

/// A plan to ask for.
#[derive(Debug)]
pub(super) struct PlanCall {
    pub(super) request: RequestId,
    pub(super) action: Action,
    pub(super) session: SessionProof,
    pub(super) stream: StreamId,
    pub(super) failed: Vec<NodeRef>,
}

/// Calls to coordinators.
#[derive(Debug)]
pub(super) struct Control {
    client_id: String,
    region: String,
    happened: mpsc::Sender<Happened>,
    coordinators: BTreeMap<String, Coordinator>,
    connections: BTreeMap<ConnectionId, AbortHandle>,
    /// Calls whose answers nobody awaits.
    goodbyes: JoinSet<()>,
}

impl Control {
    pub(super) fn new(client_id: String, region: String, happened: mpsc::Sender<Happened>) -> Self {
        Self {
            client_id,
            region,
            happened,
            coordinators: BTreeMap::new(),
            connections: BTreeMap::new(),
            goodbyes: JoinSet::new(),
        }
    }

    fn at(&mut self, url: &str) -> Result<Coordinator, CallError> {
        if let Some(known) = self.coordinators.get(url) {
            return Ok(known.clone());
        }
        if self.coordinators.len() >= MAX_KEPT {
            self.coordinators.pop_first();
        }
        let coordinator = Coordinator::at(url)?;
        self.coordinators.insert(url.to_owned(), coordinator.clone());
        Ok(coordinator)
    }

    /// Brings what a call leads to back to the engine.
    fn bring(&self, call: impl Future<Output = Option<Input>> + Send + 'static) {
        let happened = self.happened.clone();
        tokio::spawn(async move {
            if let Some(input) = call.await {
                // The engine may be gone.
                let _ = happened.send(Happened::Input(input)).await;
            }
        });
    }

    /// Makes a call whose answer is only logged.
    fn post<T: Send>(
        &mut self,
        what: &'static str,
        call: impl Future<Output = Result<T, CallError>> + Send + 'static,
    ) {
        self.goodbyes.spawn(async move {
            if let Err(error) = call.await {
                tracing::debug!(what, %error, "call failed");
            }
        });
        // Takes the finished ones out.
        while self.goodbyes.try_join_next().is_some() {}
    }

    /// Returns when every call is done.
    pub(super) async fn finish(&mut self) {
        while self.goodbyes.join_next().await.is_some() {}
    }

    /// Opens a `Connect` stream.
    pub(super) fn connect(&mut self, connection: ConnectionId, url: &str, logins: Vec<Login>) {
        let rooms = logins.into_iter().map(rpc::login).collect();
        let request =
            v1::ConnectRequest { client_id: self.client_id.clone(), connection: connection.0, rooms };
        let (coordinator, happened) = (self.at(url), self.happened.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = follow(coordinator, request, connection, &happened).await {
                tracing::debug!(?connection, %error, "connection lost");
            }
            let _ = happened.send(Happened::Input(Input::ConnectionLost(connection))).await;
        });
        self.connections.retain(|_, task| !task.is_finished());
        self.connections.insert(connection, task.abort_handle());
    }

    /// Lets a `Connect` stream go.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) {
        if let Some(task) = self.connections.remove(&connection) {
            task.abort();
        }
    }

    /// Adds a room to the open connection.
    pub(super) fn login(&mut self, connection: ConnectionId, url: &str, login: Login) {
        let room = login.room.clone();
        let request = v1::LoginRequest {
            client_id: self.client_id.clone(),
            connection: connection.0,
            room: Some(rpc::login(login)),
        };
        let coordinator = self.at(url);
        self.bring(async move {
            let answer = async { coordinator?.login(request).await }.await;
            answer.err().map(|error| Input::LoginFailed(connection, room, error.into()))
        });
    }

    /// Says that the client lives.
    pub(super) fn beat(&mut self, connection: ConnectionId, url: &str, sessions: &[SessionProof]) {
        let request = v1::BeatRequest {
            client_id: self.client_id.clone(),
            connection: connection.0,
            sessions: sessions.iter().map(rpc::proof).collect(),
        };
        let coordinator = self.at(url);
        self.bring(async move {
            let answer = async { coordinator?.beat(request).await }.await;
            let rooms = |answer: v1::BeatResponse| {
                answer.unknown_rooms.iter().filter_map(|room| RoomId::new(room).ok()).collect()
            };
            Some(Input::BeatAnswered(connection, answer.map(rooms).map_err(CallFailure::from)))
        });
    }

    /// Asks for a plan.
    pub(super) fn plan(&mut self, url: &str, call: PlanCall) {
        let PlanCall { request, action, session, stream, failed } = call;
        let (session, stream) = (Some(rpc::proof(&session)), stream.to_string());
        let failed: Vec<v1::NodeRef> = failed.iter().map(v1::NodeRef::from).collect();
        let (coordinator, region) = (self.at(url), self.region.clone());
        self.bring(async move {
            let answer = async {
                let coordinator = coordinator?;
                match action {
                    Action::Publish => {
                        let wanted = v1::PlanPublishRequest { session, stream, region, failed };
                        coordinator.plan_publish(wanted).await.map(rpc::plan_of_publish)
                    }
                    Action::Play => {
                        let wanted = v1::PlanPlayRequest { session, stream, region, failed };
                        coordinator.plan_play(wanted).await.map(rpc::plan_of_play)
                    }
                }
            };
            Some(Input::Planned(request, answer.await.map_err(CallFailure::from)))
        });
    }

    /// Ends a login.
    pub(super) fn logout(&mut self, url: &str, session: &SessionProof) {
        let request = v1::LogoutRequest { session: Some(rpc::proof(session)) };
        let coordinator = self.at(url);
        self.post("logout", async move { coordinator?.logout(request).await });
    }

    /// Replaces a user token.
    pub(super) fn renew_token(&mut self, url: &str, session: &SessionProof, user_token: String) {
        let request = v1::RenewTokenRequest { session: Some(rpc::proof(session)), user_token };
        let coordinator = self.at(url);
        self.post("renew token", async move { coordinator?.renew_token(request).await });
    }

    /// Gives a claim up.
    pub(super) fn end_stream(&mut self, url: &str, session: &SessionProof, stream: &StreamId, epoch: u64) {
        let request =
            v1::EndStreamRequest { session: Some(rpc::proof(session)), stream: stream.to_string(), epoch };
        let coordinator = self.at(url);
        self.post("end stream", async move { coordinator?.end_stream(request).await });
    }

    /// Tells what a walk saw.
    pub(super) fn report(&mut self, url: &str, session: &SessionProof, stream: &StreamId, trials: &[Trial]) {
        let request = v1::ReportRequest {
            session: Some(rpc::proof(session)),
            stream: stream.to_string(),
            attempts: trials.iter().map(rpc::report).collect(),
        };
        let coordinator = self.at(url);
        self.post("report", async move { coordinator?.report(request).await });
    }
}

/// Brings everything that a coordinator tells, until the connection is over.
async fn follow(
    coordinator: Result<Coordinator, CallError>,
    request: v1::ConnectRequest,
    connection: ConnectionId,
    happened: &mpsc::Sender<Happened>,
) -> Result<(), CallError> {
    let mut events = coordinator?.connect(request).await?;
    while let Some(told) = events.next().await? {
        if happened.send(Happened::Input(Input::Told(connection, told))).await.is_err() {
            break;
        }
    }
    Ok(())
}

impl Drop for Control {
    fn drop(&mut self) {
        self.connections.values().for_each(AbortHandle::abort);
    }
}
