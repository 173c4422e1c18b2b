//! A whole relay, with no coordinator in reach.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::oneshot,
    time::timeout,
};

use super::{Relay, StartError};
use crate::Config;

const PATIENCE: Duration = Duration::from_secs(10);

fn config() -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    Config {
        id: "relay-1".into(),
        http_listen: any,
        link_listen: any,
        media_listen: any,
        // Nobody listens there: port 1 is not for us.
        coordinators: vec!["http://127.0.0.1:1".into()],
        cluster_secret: "0123456789abcdef".into(),
        workers: 1,
        ..Config::default()
    }
}

async fn request(url: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer in time").unwrap();
    answer
}

#[tokio::test]
async fn a_relay_is_ready_and_answers_with_no_coordinator_and_stops_when_told() {
    // GO-1
    let relay = Relay::start(config()).await.unwrap();
    assert_eq!(relay.node().id.as_str(), "relay-1");
    assert_ne!(relay.media_addr().port(), 0);
    assert_ne!(relay.http_url(), relay.link_url());
    let url = relay.http_url().to_owned();
    let mut ready = relay.ready();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(relay.run(async { drop(stopped.await) }));
    timeout(PATIENCE, ready.wait_for(|ready| *ready)).await.unwrap().unwrap();
    let answer = request(&url, "GET /whip/hall/s HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    let answer = request(&url, "DELETE /session/nobody HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    drop(stop);
    timeout(PATIENCE, running).await.expect("it stops in time").unwrap();
    assert!(!*ready.borrow());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap();
    let http = Relay::start(Config { http_listen: addr, ..config() }).await.unwrap_err();
    let link = Relay::start(Config { link_listen: addr, ..config() }).await.unwrap_err();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let media_addr = socket.local_addr().unwrap();
    let media = Relay::start(Config { media_listen: media_addr, ..config() }).await.unwrap_err();
    for (error, addr, flag) in [
        (&http, addr, "--http-listen"),
        (&link, addr, "--link-listen"),
        (&media, media_addr, "--media-listen"),
    ] {
        let text = error.to_string();
        assert!(text.contains(&addr.to_string()) && text.contains(flag), "{text}");
    }
    assert!(matches!(media, StartError::Plane(_)));
}
