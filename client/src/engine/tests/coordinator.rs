//! A coordinator in memory: one room, everybody welcome whose token is not "bad".

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream,
    wrappers::{TcpListenerStream, UnboundedReceiverStream},
};
use tonic::{Request, Response, Status, transport::Server};
use waystation_proto::{
    ErrorCode, Refusal,
    v1::{
        self,
        connect_event::Event,
        room_service_server::{RoomService, RoomServiceServer},
    },
};

type Answer<T> = Result<Response<T>, Status>;
type EventQueue = mpsc::UnboundedSender<Result<v1::ConnectEvent, Status>>;

#[derive(Debug, Default)]
struct State {
    nodes: Vec<v1::Node>,
    /// What planning a stream of this name is refused with.
    refused: BTreeMap<String, Refusal>,
    connections: Vec<EventQueue>,
    logged_out: usize,
    revision: u64,
}

/// Shared with the test.
#[derive(Clone, Debug, Default)]
pub struct Coordinator {
    state: Arc<Mutex<State>>,
    /// Streams whose claim was given up.
    ended: watch::Sender<Vec<String>>,
    url: String,
}

impl Coordinator {
    /// Serves on a free port of the loopback interface.
    pub async fn start(nodes: Vec<v1::Node>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { nodes, ..State::default() }));
        let coordinator = Self { state, ended: watch::Sender::default(), url };
        let service = RoomServiceServer::new(coordinator.clone());
        let serve = Server::builder().add_service(service);
        tokio::spawn(serve.serve_with_incoming(TcpListenerStream::new(listener)));
        coordinator
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Planning this stream is refused from now on.
    pub fn refuse(&self, stream: &str, code: ErrorCode) {
        self.state.lock().unwrap().refused.insert(stream.to_owned(), Refusal::new(code, "as the test says"));
    }

    /// Tells everybody of a change of the room.
    pub fn change(&self, delta: v1::room_delta::Delta) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let revision = Some(revision(state.revision));
        let deltas = vec![v1::RoomDelta { delta: Some(delta) }];
        let change = v1::RoomChange { room: "room".into(), revision, deltas };
        state.tell(Event::RoomChange(change));
    }

    /// Breaks every connection.
    pub fn break_connections(&self) {
        self.state.lock().unwrap().connections.clear();
    }

    /// Waits until so many claims were given up. Returns their streams.
    pub async fn ended(&self, count: usize) -> Vec<String> {
        let mut ended = self.ended.subscribe();
        ended.wait_for(|streams| streams.len() >= count).await.expect("self holds the sender").clone()
    }

    pub fn logged_out(&self) -> usize {
        self.state.lock().unwrap().logged_out
    }
}

fn revision(number: u64) -> v1::Revision {
    v1::Revision { store_id: "store".into(), number }
}

impl State {
    fn tell(&mut self, event: Event) {
        self.connections.retain(|queue| send(queue, event.clone()));
    }

    fn answer_login(&self, queue: &EventQueue, login: &v1::RoomLogin) {
        let room = login.room.clone();
        send(
            queue,
            if login.user_token == "bad" {
                let code = ErrorCode::TokenRefused.number();
                Event::RoomDown(v1::RoomDown { room, code, message: "bad token".into() })
            } else {
                let me = v1::RoomUser { user: "me".into(), session_id: "mine".into() };
                Event::RoomUp(v1::RoomUp {
                    room,
                    session_id: "mine".into(),
                    revision: Some(revision(self.revision)),
                    users: vec![me],
                    streams: Vec::new(),
                })
            },
        );
    }

    fn plan(&self, stream: &str) -> Result<Vec<v1::Node>, Status> {
        match self.refused.get(stream) {
            Some(refusal) => Err(refusal.clone().into()),
            None => Ok(self.nodes.clone()),
        }
    }
}

fn send(queue: &EventQueue, event: Event) -> bool {
    queue.send(Ok(v1::ConnectEvent { event: Some(event) })).is_ok()
}

#[tonic::async_trait]
impl RoomService for Coordinator {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<v1::ConnectEvent, Status>> + Send>>;

    async fn connect(&self, request: Request<v1::ConnectRequest>) -> Answer<Self::ConnectStream> {
        let (queue, events) = mpsc::unbounded_channel();
        let mut state = self.state.lock().unwrap();
        let welcome = v1::Welcome { coordinator_urls: vec![self.url()], beat_interval_ms: 5_000 };
        send(&queue, Event::Welcome(welcome));
        send(&queue, Event::Nodes(v1::NodeList { epoch: 1, nodes: state.nodes.clone() }));
        request.into_inner().rooms.iter().for_each(|login| state.answer_login(&queue, login));
        state.connections.push(queue);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(events))))
    }

    async fn login(&self, request: Request<v1::LoginRequest>) -> Answer<v1::LoginResponse> {
        let state = self.state.lock().unwrap();
        let queue = state.connections.last().ok_or_else(|| Status::not_found("connect first"))?;
        state.answer_login(queue, &request.into_inner().room.unwrap_or_default());
        Ok(Response::new(v1::LoginResponse {}))
    }

    async fn beat(&self, _: Request<v1::BeatRequest>) -> Answer<v1::BeatResponse> {
        Ok(Response::new(v1::BeatResponse { unknown_rooms: Vec::new() }))
    }

    async fn logout(&self, _: Request<v1::LogoutRequest>) -> Answer<v1::LogoutResponse> {
        self.state.lock().unwrap().logged_out += 1;
        Ok(Response::new(v1::LogoutResponse {}))
    }

    async fn plan_publish(
        &self,
        request: Request<v1::PlanPublishRequest>,
    ) -> Answer<v1::PlanPublishResponse> {
        let nodes = self.state.lock().unwrap().plan(&request.into_inner().stream)?;
        let claim = Some(v1::Claim { epoch: 3, r#move: 0 });
        Ok(Response::new(v1::PlanPublishResponse {
            claim,
            node_token: "node token".into(),
            token_valid_ms: 3_600_000,
            nodes,
        }))
    }

    async fn plan_play(&self, request: Request<v1::PlanPlayRequest>) -> Answer<v1::PlanPlayResponse> {
        let nodes = self.state.lock().unwrap().plan(&request.into_inner().stream)?;
        Ok(Response::new(v1::PlanPlayResponse {
            node_token: "node token".into(),
            token_valid_ms: 3_600_000,
            nodes,
        }))
    }

    async fn end_stream(&self, request: Request<v1::EndStreamRequest>) -> Answer<v1::EndStreamResponse> {
        self.ended.send_modify(|streams| streams.push(request.into_inner().stream));
        Ok(Response::new(v1::EndStreamResponse {}))
    }

    async fn renew_token(&self, _: Request<v1::RenewTokenRequest>) -> Answer<v1::RenewTokenResponse> {
        Ok(Response::new(v1::RenewTokenResponse {}))
    }

    async fn report(&self, _: Request<v1::ReportRequest>) -> Answer<v1::ReportResponse> {
        Ok(Response::new(v1::ReportResponse {}))
    }
}
