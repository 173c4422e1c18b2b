//! A coordinator that answers as it is told to.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use waystation_proto::{
    ErrorCode, Refusal,
    v1::{
        self,
        room_service_server::{RoomService, RoomServiceServer},
    },
};

use super::{CallError, Coordinator, wire::nodes};
use crate::{machine::Told, vacant::Vacant};

struct Fake;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl RoomService for Fake {
    type ConnectStream = tokio_stream::Iter<std::vec::IntoIter<Result<v1::ConnectEvent, Status>>>;

    async fn connect(&self, request: Request<v1::ConnectRequest>) -> Answer<Self::ConnectStream> {
        let connection = request.into_inner().connection;
        let event = v1::connect_event::Event::TryOther(v1::TryOther { within_ms: connection as u32 });
        let events = vec![Ok(v1::ConnectEvent { event: Some(event) }), Err(Status::unavailable("leaving"))];
        Ok(Response::new(tokio_stream::iter(events)))
    }

    async fn login(&self, _: Request<v1::LoginRequest>) -> Answer<v1::LoginResponse> {
        Err(Status::not_found("no such connection"))
    }

    async fn beat(&self, _: Request<v1::BeatRequest>) -> Answer<v1::BeatResponse> {
        Ok(Response::new(v1::BeatResponse { unknown_rooms: vec!["r".into()] }))
    }

    async fn logout(&self, _: Request<v1::LogoutRequest>) -> Answer<v1::LogoutResponse> {
        Ok(Response::new(v1::LogoutResponse {}))
    }

    async fn plan_publish(&self, _: Request<v1::PlanPublishRequest>) -> Answer<v1::PlanPublishResponse> {
        Err(Refusal::new(ErrorCode::StreamTaken, "ann has it").into())
    }

    async fn plan_play(&self, _: Request<v1::PlanPlayRequest>) -> Answer<v1::PlanPlayResponse> {
        // A coordinator whose store hangs.
        std::future::pending().await
    }

    async fn end_stream(&self, _: Request<v1::EndStreamRequest>) -> Answer<v1::EndStreamResponse> {
        Err(Status::unavailable("later"))
    }

    async fn renew_token(&self, _: Request<v1::RenewTokenRequest>) -> Answer<v1::RenewTokenResponse> {
        Ok(Response::new(v1::RenewTokenResponse {}))
    }

    async fn report(&self, _: Request<v1::ReportRequest>) -> Answer<v1::ReportResponse> {
        Ok(Response::new(v1::ReportResponse {}))
    }
}

async fn coordinator() -> Coordinator {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serve = Server::builder().add_service(RoomServiceServer::new(Fake));
    tokio::spawn(serve.serve_with_incoming(TcpListenerStream::new(listener)));
    Coordinator::at(&url).unwrap()
}

#[tokio::test]
async fn a_coordinators_word_is_told_apart_from_its_trouble() {
    // PUB-5
    let coordinator = coordinator().await;
    let refused = coordinator.plan_publish(v1::PlanPublishRequest::default()).await;
    assert_eq!(refused, Err(CallError::Refused(Refusal::new(ErrorCode::StreamTaken, "ann has it"))));
    assert_eq!(coordinator.login(v1::LoginRequest::default()).await, Err(CallError::NotConnected));
    let troubled = coordinator.end_stream(v1::EndStreamRequest::default()).await;
    assert!(matches!(troubled, Err(CallError::Failed { .. })), "{troubled:?}");
    let beat = coordinator.beat(v1::BeatRequest::default()).await.unwrap();
    assert_eq!(beat.unknown_rooms, ["r"]);
}

#[tokio::test]
async fn a_connection_gives_its_events_and_then_its_end() {
    let coordinator = coordinator().await;
    let request = v1::ConnectRequest { connection: 9, ..v1::ConnectRequest::default() };
    let mut events = coordinator.connect(request).await.unwrap();
    let told = events.next().await.unwrap().unwrap();
    assert_eq!(told, Told::TryOther { within: Duration::from_millis(9) });
    assert!(matches!(events.next().await, Err(CallError::Failed { .. })));
}

#[tokio::test]
async fn a_call_that_hangs_ends_at_its_deadline() {
    let coordinator = coordinator().await;
    // A machine that stood may find both times over: the call is looked at first.
    let hung = tokio::select! {
        biased;
        hung = coordinator.plan_play(v1::PlanPlayRequest::default()) => hung,
        () = tokio::time::sleep(super::CALL_TIMEOUT * 2) => panic!("the call goes on"),
    };
    assert!(matches!(hung, Err(CallError::Failed { .. })), "{hung:?}");
}

#[tokio::test]
async fn a_coordinator_that_is_gone_fails_at_once() {
    let vacant = Vacant::take();
    for bad in [vacant.url().as_str(), "nonsense", ""] {
        let called = async { Coordinator::at(bad)?.beat(v1::BeatRequest::default()).await };
        assert!(matches!(called.await, Err(CallError::Failed { .. })), "{bad}");
    }
}

#[test]
fn a_node_that_cannot_be_understood_does_not_take_the_list_with_it() {
    let good = v1::Node {
        r#ref: Some(v1::NodeRef { id: "n".into(), incarnation: 1 }),
        http_url: "http://127.0.0.1:1".into(),
        link_url: "http://127.0.0.1:2".into(),
        media_addr: "127.0.0.1:3".into(),
        ..v1::Node::default()
    };
    let bad = v1::Node { media_addr: "nowhere".into(), ..good.clone() };
    assert_eq!(nodes(vec![bad, good]).len(), 1);
}
