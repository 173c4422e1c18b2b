//! Nodes that open no session, each in its own way.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Bytes,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{LOCATION, RETRY_AFTER},
    },
};
use tokio::net::TcpListener;
use waystation_proto::v1;

use crate::vacant::Vacant;

/// How a node meets a POST.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Nobody listens.
    Gone,
    /// It takes the connection and never answers.
    Silent,
    /// 503.
    Full,
    /// 401.
    RefusesToken,
    /// 307 to somewhere else.
    Redirects,
    /// 201 with something that is no SDP.
    Babbles,
}

/// A node of that manner, as a coordinator lists it. It is there as long as the test's runtime.
pub async fn start(id: &str, manner: Manner) -> v1::Node {
    let addr = match manner {
        Manner::Gone => {
            let vacant = Vacant::take();
            kept(vacant.addr(), vacant)
        }
        Manner::Silent => {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            kept(listener.local_addr().unwrap(), listener)
        }
        Manner::Full => serve(StatusCode::SERVICE_UNAVAILABLE, &[(RETRY_AFTER, "2")]).await,
        Manner::RefusesToken => serve(StatusCode::UNAUTHORIZED, &[]).await,
        Manner::Redirects => {
            serve(StatusCode::TEMPORARY_REDIRECT, &[(LOCATION, "http://127.0.0.1:9/whip/r/s")]).await
        }
        Manner::Babbles => serve(StatusCode::CREATED, &[(LOCATION, "/session/a")]).await,
    };
    v1::Node {
        r#ref: Some(v1::NodeRef { id: id.to_owned(), incarnation: 1 }),
        http_url: format!("http://{addr}"),
        link_url: format!("http://{addr}"),
        media_addr: addr.to_string(),
        health: v1::NodeHealth::Healthy.into(),
        ..v1::Node::default()
    }
}

fn kept(addr: SocketAddr, socket: impl Send + 'static) -> SocketAddr {
    tokio::spawn(async move {
        let _socket = socket;
        std::future::pending::<()>().await;
    });
    addr
}

/// Answers every request alike, once it has come whole: what is closed with something unread is reset, and its answer
/// may be lost.
async fn serve(status: StatusCode, headers: &[(HeaderName, &'static str)]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
    let answer = async move |_whole: Bytes| (status, headers, "babble\n");
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(answer)).await });
    addr
}
