//! Nodes that refuse, each in its own way, over plain HTTP.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use waystation_proto::v1;

/// How a node meets a POST.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Nobody listens.
    Gone,
    /// 503.
    Full,
    /// 401.
    RefusesToken,
    /// 307 to somewhere else.
    Redirects,
    /// 201 with something that is no SDP.
    Babbles,
}

impl Manner {
    fn answer(self) -> &'static str {
        match self {
            Self::Gone => "",
            Self::Full => "503 Service Unavailable\r\nRetry-After: 2\r\n",
            Self::RefusesToken => "401 Unauthorized\r\n",
            Self::Redirects => "307 Temporary Redirect\r\nLocation: http://127.0.0.1:9/whip/r/s\r\n",
            Self::Babbles => "201 Created\r\nLocation: /session/a\r\n",
        }
    }
}

/// A node of that manner, as a coordinator lists it.
pub async fn start(id: &str, manner: Manner) -> v1::Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    match manner {
        Manner::Gone => drop(listener),
        Manner::Full | Manner::RefusesToken | Manner::Redirects | Manner::Babbles => {
            tokio::spawn(async move {
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(socket, manner.answer()));
                }
            });
        }
    }
    v1::Node {
        r#ref: Some(v1::NodeRef { id: id.to_owned(), incarnation: 1 }),
        http_url: format!("http://{addr}"),
        link_url: format!("http://{addr}"),
        media_addr: addr.to_string(),
        health: v1::NodeHealth::Healthy.into(),
        ..v1::Node::default()
    }
}

/// Answers every request alike, and closes.
async fn serve(mut socket: TcpStream, answer: &str) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(bytes @ 1..) = socket.read(&mut buffer).await {
        request.extend_from_slice(&buffer[..bytes]);
        // An offer ends with a line; a GET with an empty one.
        if request.ends_with(b"\r\n") {
            break;
        }
    }
    let response = format!("HTTP/1.1 {answer}Content-Length: 7\r\nConnection: close\r\n\r\nbabble\n");
    let _ = socket.write_all(response.as_bytes()).await;
    let _ = socket.shutdown().await;
}
