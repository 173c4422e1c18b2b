//! A node's end of the event connection, told what to say.

use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};
use waystation_proto::{
    Claim, NodeId, NodeRef,
    v1::{
        ClientEvent, EventWelcome, NodeEvent, SessionClosed, SessionPhase, SessionState,
        client_event::Event as Ask, node_event::Event as Tell,
    },
};

use super::{EventLink, LostReason, NodeReport};
use crate::vacant::Vacant;

type Reports = mpsc::UnboundedReceiver<NodeReport>;

async fn connected() -> (EventLink, Reports, WebSocketStream<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tell, reports) = mpsc::unbounded_channel();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let link = EventLink::dial(&url, move |report| drop(tell.send(report)));
    let (socket, _) = listener.accept().await.unwrap();
    (link, reports, accept_async(socket).await.unwrap())
}

fn message(event: Tell) -> Message {
    Message::Binary(NodeEvent { event: Some(event) }.encode_to_vec().into())
}

async fn ask(socket: &mut WebSocketStream<TcpStream>) -> Ask {
    loop {
        let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() else { continue };
        match ClientEvent::decode(bytes).unwrap().event.unwrap() {
            Ask::Ping(_) => {}
            ask @ (Ask::Watch(_) | Ask::Activate(_)) => return ask,
        }
    }
}

#[tokio::test]
async fn a_node_tells_of_sessions_and_is_asked_to_watch_and_to_activate() {
    let (link, mut reports, mut node) = connected().await;
    let me = NodeRef { id: NodeId::new("n").unwrap(), incarnation: 3 };
    node.send(message(Tell::Welcome(EventWelcome { node: Some((&me).into()) }))).await.unwrap();
    assert_eq!(reports.recv().await, Some(NodeReport::Welcome(me)));
    let claim = Claim { epoch: 4, moved: 2 };
    link.watch("abc");
    link.activate("abc", claim);
    let Ask::Watch(watch) = ask(&mut node).await else { panic!("a watch comes first") };
    assert_eq!(watch.session, "abc");
    let Ask::Activate(activate) = ask(&mut node).await else { panic!("then an activation") };
    assert_eq!((activate.session.as_str(), activate.claim), ("abc", Some(claim.into())));
    let state = SessionState {
        session: "abc".into(),
        phase: SessionPhase::Flowing.into(),
        claim: Some(claim.into()),
    };
    node.send(message(Tell::State(state))).await.unwrap();
    let expected =
        NodeReport::Session { session: "abc".into(), phase: SessionPhase::Flowing, claim: Some(claim) };
    assert_eq!(reports.recv().await, Some(expected));
    let closed = SessionClosed { session: "abc".into(), code: 1_002_050, reason: "kicked".into() };
    node.send(message(Tell::Closed(closed))).await.unwrap();
    let expected = NodeReport::Closed { session: "abc".into(), code: 1_002_050, reason: "kicked".into() };
    assert_eq!(reports.recv().await, Some(expected));
    drop(link);
    while let Some(Ok(_)) = node.next().await {}
    assert_eq!(reports.recv().await, None, "whoever lets go is not told of a loss");
}

#[tokio::test]
async fn the_end_of_the_connection_is_told_once() {
    // GO-2
    let (_link, mut reports, node) = connected().await;
    drop(node);
    assert!(matches!(reports.recv().await, Some(NodeReport::Lost(LostReason::Broken(_)))));
    assert_eq!(reports.recv().await, None);
}

#[tokio::test]
async fn a_node_that_speaks_something_else_is_lost() {
    for bad in [Message::Text("hello".into()), Message::Binary(vec![0xff, 0xff].into())] {
        let (_link, mut reports, mut node) = connected().await;
        node.send(bad).await.unwrap();
        assert!(matches!(reports.recv().await, Some(NodeReport::Lost(LostReason::Protocol(_)))));
    }
}

#[tokio::test]
async fn a_refused_dial_is_told_at_once() {
    // GO-2
    let vacant = Vacant::take();
    let (tell, mut reports) = mpsc::unbounded_channel();
    let _link = EventLink::dial(&vacant.url(), move |report| drop(tell.send(report)));
    assert!(matches!(reports.recv().await, Some(NodeReport::Lost(LostReason::Refused(_)))));
}
