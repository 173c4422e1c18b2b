//! A node that answers as it is told to.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use waystation_proto::{Health, Load, Node, NodeId, NodeRef, RoomId, StreamId, StreamKey, token::Action};

use super::{MAX_BODY_BYTES, NodeHttp, OpenError, OpenRequest, Opened};
use crate::{machine::Failure, vacant::Vacant};

/// Takes one request, answers with these bytes and returns the request.
async fn node(answer: impl Into<Vec<u8>>) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = answer.into();
    let task = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let whole = |request: &[u8]| match request.starts_with(b"DELETE") {
            true => request.ends_with(b"\r\n\r\n"),
            false => request.ends_with(b"offer"),
        };
        while !whole(&request) {
            let mut buffer = [0; 4096];
            let bytes = socket.read(&mut buffer).await.unwrap();
            assert!(bytes > 0, "the client left: {request:?}");
            request.extend_from_slice(&buffer[..bytes]);
        }
        // A client that has read enough may be gone.
        let _ = socket.write_all(&answer).await;
        String::from_utf8(request).unwrap()
    });
    (addr, task)
}

fn request(addr: SocketAddr) -> OpenRequest {
    OpenRequest {
        node: Node {
            node: NodeRef { id: NodeId::new("n").unwrap(), incarnation: 1 },
            http_url: format!("http://{addr}"),
            link_url: format!("http://{addr}"),
            media_addr: addr,
            region: String::new(),
            health: Health::Healthy,
            load: Load::default(),
        },
        action: Action::Publish,
        stream: StreamKey { room: RoomId::new("r:1").unwrap(), stream: StreamId::new("Zürich").unwrap() },
        token: "t0ken".into(),
        moved: Some(7),
        offer: "offer".into(),
    }
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

async fn open(answer: impl Into<Vec<u8>>) -> Result<Opened, OpenError> {
    let (addr, _task) = node(answer).await;
    NodeHttp::new().unwrap().open(request(addr)).await
}

#[tokio::test]
async fn a_session_is_opened_with_the_headers_of_an_sdk_and_closed_at_its_resource() {
    let (addr, asked) = node(response("201 Created", "Location: /session/abc\r\n", "answer")).await;
    let http = NodeHttp::new().unwrap();
    let opened = http.open(request(addr)).await.unwrap();
    assert_eq!((opened.answer.as_str(), opened.resource.session.as_str()), ("answer", "abc"));
    let asked = asked.await.unwrap().to_lowercase();
    for line in [
        "post /whip/r:1/z%c3%bcrich http/1.1",
        "authorization: bearer t0ken",
        "content-type: application/sdp",
        "waystation-move: 7",
        "waystation-beat: 50",
    ] {
        assert!(asked.contains(line), "{line} in {asked}");
    }
    let (again, deleted) = node(response("200 OK", "", "")).await;
    let mut resource = opened.resource;
    resource.url.set_port(Some(again.port())).unwrap();
    http.close(resource).await;
    let deleted = deleted.await.unwrap().to_lowercase();
    assert!(deleted.starts_with("delete /session/abc http/1.1"), "{deleted}");
    assert!(deleted.contains("authorization: bearer t0ken"), "{deleted}");
}

#[tokio::test]
async fn each_refusal_is_told_apart() {
    // PUB-5, PLAY-3, ROOM-7, ROOM-8
    let problem = |kind: &str, code: &str| {
        format!(r#"{{"type":"urn:waystation:problem:{kind}","detail":"why"{code}}}"#)
    };
    let why = || "why".to_owned();
    let busy = |seconds: Option<u64>| OpenError::Busy { retry_after: seconds.map(Duration::from_secs) };
    for (status, headers, body, expected) in [
        ("409 Conflict", "", problem("not-here", ""), OpenError::NotHere(why())),
        ("409 Conflict", "", problem("fenced", r#","code":1003028"#), OpenError::HigherClaim(why())),
        ("409 Conflict", "", problem("fenced", ""), OpenError::Refused { status: 409, detail: why() }),
        ("401 Unauthorized", "", problem("token", r#","code":1002033"#), OpenError::TokenRefused(why())),
        ("403 Forbidden", "", problem("forbidden", ""), OpenError::TokenRefused(why())),
        ("403 Forbidden", "", problem("forbidden", r#","code":1003025"#), OpenError::TokenRefused(why())),
        ("403 Forbidden", "", problem("forbidden", r#","code":1002055"#), OpenError::LoginEnded(why())),
        ("403 Forbidden", "", problem("forbidden", r#","code":1002050"#), OpenError::LoginEnded(why())),
        ("503 Unavailable", "Retry-After: 2\r\n", problem("unavailable", ""), busy(Some(2))),
        ("503 Unavailable", "Retry-After: 999999\r\n", String::new(), busy(Some(60))),
        ("503 Unavailable", "", "<html>".into(), busy(None)),
        (
            "307 Temporary Redirect",
            "Location: http://127.0.0.1:1/whip/r/s\r\n",
            String::new(),
            OpenError::Redirected,
        ),
        ("500 Oops", "", "not json".into(), OpenError::Refused { status: 500, detail: String::new() }),
    ] {
        let error = open(response(status, headers, &body)).await.unwrap_err();
        assert_eq!(error, expected, "{status} {body}");
        assert!(Failure::from(error).is_answer());
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error_and_no_token_goes_elsewhere() {
    let long = "x".repeat(MAX_BODY_BYTES + 1);
    for answer in [
        response("201 Created", "", "answer"),
        response("201 Created", "Location: http://127.0.0.1:1/session/abc\r\n", "answer"),
        response("201 Created", "Location: /session/\r\n", "answer"),
        response("201 Created", "Location: /session/a\r\n", &long),
    ] {
        let error = open(answer.clone()).await.unwrap_err();
        assert!(matches!(error, OpenError::BadAnswer(_)), "{error} for {}", &answer[..60.min(answer.len())]);
    }
    let mut invalid = response("201 Created", "Location: /session/a\r\n", "xx").into_bytes();
    let end = invalid.len();
    invalid[end - 2..].copy_from_slice(&[0xc3, 0x28]);
    assert!(matches!(open(invalid).await, Err(OpenError::BadAnswer(_))));
    assert!(matches!(open("no HTTP at all\r\n\r\n").await, Err(OpenError::Unreachable(_))));
}

#[tokio::test]
async fn a_node_that_is_gone_is_unreachable_and_did_not_answer() {
    // PUB-2
    let vacant = Vacant::take();
    let error = NodeHttp::new().unwrap().open(request(vacant.addr())).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable(_)), "{error}");
    assert!(!Failure::from(error).is_answer());
}
