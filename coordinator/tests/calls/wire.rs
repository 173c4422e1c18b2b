//! The one port: gRPC, gRPC-Web with CORS, health, reflection, and the page.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Request;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use waystation_coordinator::Coordinator;
use waystation_proto::v1::{self, cluster_service_client::ClusterServiceClient, connect_event::Event};

use crate::support::{Client, Server, config, login, soon, token, token_with};

/// Sends bytes and reads until `enough`, or until the other side has had enough.
pub async fn raw(address: SocketAddr, bytes: &[u8], enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", async {
        let mut part = [0; 4096];
        while !enough(&answer) {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(length) => answer.extend_from_slice(&part[..length]),
            }
        }
    })
    .await;
    answer
}

pub fn contains(bytes: &[u8], wanted: &str) -> bool {
    bytes.windows(wanted.len()).any(|window| window.eq_ignore_ascii_case(wanted.as_bytes()))
}

pub fn grpc_web(path: &str, message: &impl prost::Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\norigin: http://elsewhere\r\ncontent-type: application/grpc-web+proto\r\n\
         x-grpc-web: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len() + 5
    );
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [head.as_bytes(), &[0], &length, &body].concat()
}

#[tokio::test]
async fn a_browser_logs_in_over_grpc_web_and_may_read_the_status() {
    // ROOM-1
    let server = Server::start().await;
    let request =
        v1::ConnectRequest { client_id: "web".into(), connection: 1, rooms: vec![login("ann", "a")] };
    let bytes = grpc_web("/waystation.v1.RoomService/Connect", &request);
    // A server stream over HTTP/1.1: the session id is in the room's snapshot.
    let answer = raw(server.listen, &bytes, |answer| contains(answer, "ann")).await;
    assert!(contains(&answer, "200 OK") && contains(&answer, "access-control-allow-origin"));
    let beat = v1::BeatRequest { client_id: "web".into(), connection: 1, ..v1::BeatRequest::default() };
    let answer = raw(server.listen, &grpc_web("/waystation.v1.RoomService/Beat", &beat), |_| false).await;
    assert!(contains(&answer, "grpc-status:0"), "{}", String::from_utf8_lossy(&answer));
    let plan = v1::PlanPlayRequest {
        session: Some(v1::SessionRef { room: "hall".into(), login_id: "nobody".into() }),
        stream: "cam".into(),
        ..v1::PlanPlayRequest::default()
    };
    let answer = raw(server.listen, &grpc_web("/waystation.v1.RoomService/PlanPlay", &plan), |_| false).await;
    let exposed = ["grpc-status", "grpc-message", "waystation-code"];
    assert!(contains(&answer, "access-control-expose-headers"));
    assert!(exposed.iter().all(|header| contains(&answer, header)), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_preflight_is_allowed() {
    let server = Server::start().await;
    let preflight = b"OPTIONS /waystation.v1.RoomService/Connect HTTP/1.1\r\nhost: x\r\norigin: http://elsewhere\r\n\
        access-control-request-method: POST\r\naccess-control-request-headers: x-grpc-web,content-type,authorization\r\n\
        connection: close\r\n\r\n";
    let answer = raw(server.listen, preflight, |_| false).await;
    assert!(contains(&answer, "access-control-allow-headers: x-grpc-web,content-type,authorization"));
    assert!(contains(&answer, "access-control-allow-methods"));
}

#[tokio::test]
async fn garbage_bytes_and_messages_are_refused_and_nothing_breaks() {
    let server = Server::start().await;
    let garbage: [&[u8]; 3] = [
        b"\0\xff\x13garbage\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x16\x03\x01\x02\0",
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(server.listen).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        drop(soon("the end of it", stream.read_to_end(&mut answer)).await);
    }
    let mut rpc = server.rooms().await;
    let empty = rpc.plan_publish(v1::PlanPublishRequest::default()).await.unwrap_err();
    assert_eq!(empty.code(), tonic::Code::InvalidArgument);
    let bad = v1::ConnectRequest {
        client_id: "c".into(),
        connection: 1,
        rooms: vec![v1::RoomLogin { room: "../etc".into(), login_id: "x/y".into(), ..login("ann", "a") }],
    };
    // Refused as a whole, or the room alone.
    if let Ok(events) = rpc.connect(bad).await {
        let mut events = events.into_inner();
        while let Ok(Some(event)) = soon("an end", events.message()).await {
            match event.event {
                Some(Event::RoomDown(_)) => break,
                other => assert!(!matches!(other, Some(Event::RoomUp(_)))),
            }
        }
    }
    soon("a login", Client::login(&server, "ann")).await;
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let server = Server::start().await;
    let channel = server.channel().await;
    let answer = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    let ask = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    assert!(format!("{:?}", answers.message().await.unwrap()).contains("waystation.v1.RoomService"));
    let ask = tonic_reflection::pb::v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest::ListServices(
                String::new(),
            ),
        ),
    };
    let mut reflection =
        tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    assert!(format!("{:?}", answers.message().await.unwrap()).contains("waystation.v1.RoomService"));
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_flag_that_mends_it() {
    let server = Server::start().await;
    let mut config = config();
    config.listen = server.listen;
    let error = Coordinator::bind(config).await.err().unwrap().to_string();
    assert!(error.contains("--listen") && error.contains(&server.listen.to_string()), "{error}");
}

#[tokio::test]
async fn the_page_is_served_beside_and_only_if_there_is_one() {
    let get = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let server = Server::start().await;
    assert!(contains(&raw(server.listen, get, |_| false).await, "404"));
    let folder = std::env::temp_dir().join(format!("waystation-page-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("index.html"), "the console").unwrap();
    let mut config = config();
    config.page = Some(folder.clone());
    let server = Server::with(config).await;
    let answer = raw(server.listen, get, |_| false).await;
    assert!(contains(&answer, "200 OK") && contains(&answer, "the console"));
    let outside = b"GET /../../etc/hostname HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(!contains(&raw(server.listen, outside, |_| false).await, "200 OK"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn only_who_may_observe_sees_the_cluster_and_the_watch_follows_it() {
    let server = Server::start().await;
    let mut client = ClusterServiceClient::new(server.channel().await);
    let with = |user_token: &str| {
        let mut request = Request::new(v1::WatchClusterRequest {});
        request.metadata_mut().insert("authorization", format!("Bearer {user_token}").parse().unwrap());
        request
    };
    assert!(client.watch_cluster(Request::new(v1::WatchClusterRequest {})).await.is_err());
    let blind = token_with("eve", |token| token.observe = false);
    assert!(client.watch_cluster(with(&blind)).await.is_err());
    let mut views = client.watch_cluster(with(&token("op"))).await.unwrap().into_inner();
    assert!(soon("a view", views.message()).await.unwrap().unwrap().rooms.is_empty());
    let _ann = Client::login(&server, "ann").await;
    soon("the room", async {
        while views.message().await.unwrap().unwrap().rooms.first().map(|room| room.users) != Some(1) {}
    })
    .await;
}
