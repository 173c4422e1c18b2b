//! The event connection over a real WebSocket on the loopback address, against a double of the control core.

use axum::serve::ListenerExt as _;
use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::{net::TcpListener, net::TcpStream, sync::watch};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message as ClientMessage, protocol::CloseFrame as ClientClose},
};
use waystation_proto::{Claim, NodeId, v1};

use super::*;
use crate::signal::{Keys, SignalConfig, double::Double, router};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Rig {
    double: Double,
    url: String,
}

async fn rig(max_event_connections: usize) -> Rig {
    let double = Double::default();
    let node = NodeRef { id: NodeId::new("relay-1").unwrap(), incarnation: 7 };
    let config = SignalConfig { max_event_connections, ..SignalConfig::default() };
    let state = SignalState::new(config, node, double.clone(), watch::channel(Keys::default()).1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/events", listener.local_addr().unwrap());
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    tokio::spawn(async move { axum::serve(listener, router(state)).await });
    Rig { double, url }
}

impl Rig {
    /// Connects and takes the welcome.
    async fn connect(&self) -> Client {
        let (mut client, _) = connect_async(&self.url).await.unwrap();
        let Some(node_event::Event::Welcome(welcome)) = event(&mut client).await else {
            panic!("no welcome")
        };
        assert_eq!(welcome.node.unwrap().incarnation, 7);
        client
    }
}

fn bytes(event: client_event::Event) -> Vec<u8> {
    ClientEvent { event: Some(event) }.encode_to_vec()
}

fn watch_session(session: &str) -> Vec<u8> {
    bytes(client_event::Event::Watch(v1::WatchSession { session: session.into() }))
}

fn state(session: &str) -> NodeEvent {
    let state = v1::SessionState { session: session.into(), ..v1::SessionState::default() };
    NodeEvent { event: Some(node_event::Event::State(state)) }
}

async fn send(client: &mut Client, bytes: Vec<u8>) {
    client.send(ClientMessage::Binary(bytes.into())).await.unwrap();
}

async fn event(client: &mut Client) -> Option<node_event::Event> {
    loop {
        let message = client.next().await.unwrap().unwrap();
        if let ClientMessage::Binary(bytes) = message {
            return NodeEvent::decode(bytes).unwrap().event;
        }
    }
}

/// The close frame with which the node ends the connection.
async fn closed(client: &mut Client) -> ClientClose {
    loop {
        let message = client.next().await.expect("a close frame comes first").unwrap();
        if let ClientMessage::Close(frame) = message {
            return frame.unwrap();
        }
    }
}

/// The same, and then nothing: what the client says meanwhile, its answer too, does not break the connection off.
async fn closed_in_order(client: &mut Client) -> ClientClose {
    let frame = closed(client).await;
    assert!(client.next().await.is_none(), "the connection ends in an orderly way");
    frame
}

/// A round trip: what was sent before has been acted on.
async fn settle(client: &mut Client) {
    send(client, bytes(client_event::Event::Ping(v1::EventPing { id: 99 }))).await;
    while event(client).await != Some(node_event::Event::Pong(EventPong { id: 99 })) {}
}

#[tokio::test]
async fn a_client_is_welcomed_hears_its_sessions_and_activates_them() {
    let rig = rig(8).await;
    let mut client = rig.connect().await;
    send(&mut client, watch_session("abc")).await;
    send(&mut client, watch_session("abc")).await;
    let claim = Claim { epoch: 2, moved: 3 };
    let activate = v1::ActivateSession { session: "abc".into(), claim: Some(claim.into()) };
    send(&mut client, bytes(client_event::Event::Activate(activate))).await;
    settle(&mut client).await;
    let to = {
        let script = rig.double.script();
        assert_eq!(script.activated, [(Resource("abc".into()), claim)]);
        assert_eq!(script.watched.len(), 1, "watched once, though asked for twice");
        script.watched[0].1.clone()
    };
    to.send(state("abc")).await.unwrap();
    assert_eq!(event(&mut client).await, state("abc").event);
}

#[tokio::test]
async fn garbage_text_and_large_messages_close_the_connection_with_the_reason() {
    let rig = rig(8).await;
    let mut client = rig.connect().await;
    send(&mut client, vec![0; MAX_MESSAGE_BYTES + 1]).await;
    // Nothing can be read behind what is too large.
    let frame = closed(&mut client).await;
    assert_eq!(u16::from(frame.code), close_code::PROTOCOL);
    assert!(frame.reason.contains("4096"), "{}", frame.reason);
    for garbage in [ClientMessage::Binary(vec![0xff, 0xff].into()), ClientMessage::Text("hello".into())] {
        let mut client = rig.connect().await;
        client.send(garbage).await.unwrap();
        send(&mut client, watch_session("too late")).await;
        let frame = closed_in_order(&mut client).await;
        assert_eq!(u16::from(frame.code), close_code::INVALID);
        assert!(frame.reason.contains("ClientEvent"), "{}", frame.reason);
    }
}

#[tokio::test]
async fn more_watches_than_the_bound_close_the_connection_and_closed_sessions_do_not_count() {
    let rig = rig(8).await;
    let mut client = rig.connect().await;
    for n in 0..MAX_WATCHES {
        send(&mut client, watch_session(&format!("s{n}"))).await;
    }
    settle(&mut client).await;
    let to = rig.double.script().watched[0].1.clone();
    let gone = v1::SessionClosed { session: "s0".into(), code: 0, reason: "ended".into() };
    to.send(NodeEvent { event: Some(node_event::Event::Closed(gone)) }).await.unwrap();
    assert!(matches!(event(&mut client).await, Some(node_event::Event::Closed(_))));
    send(&mut client, watch_session("another")).await;
    settle(&mut client).await;
    send(&mut client, watch_session("one too many")).await;
    assert_eq!(u16::from(closed_in_order(&mut client).await.code), close_code::POLICY);
}

#[tokio::test]
async fn a_client_whose_queue_is_full_is_disconnected_rather_than_told_half() {
    let rig = rig(8).await;
    let mut client = rig.connect().await;
    send(&mut client, watch_session("abc")).await;
    settle(&mut client).await;
    let to = rig.double.script().watched[0].1.clone();
    // No await between them: the connection's task, on this one thread, reads none of them meanwhile.
    while to.try_send(state("abc")).is_ok() {}
    let frame = closed_in_order(&mut client).await;
    assert!(frame.reason.contains("not read fast enough"), "{}", frame.reason);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_answered_503_until_one_ends() {
    let rig = rig(1).await;
    let client = rig.connect().await;
    let error = connect_async(&rig.url).await.unwrap_err().to_string();
    assert!(error.contains("503"), "{error}");
    drop(client);
    while connect_async(&rig.url).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_clients_events_are_read_and_those_without_their_parts_are_garbage() {
    assert_eq!(parse(&watch_session("abc")), Some(Request::Watch(Resource("abc".into()))));
    assert_eq!(parse(&watch_session("")), None);
    assert_eq!(parse(&watch_session(&"x".repeat(MAX_NAME_BYTES + 1))), None);
    let claim = Claim { epoch: 2, moved: 3 };
    let activate =
        |claim| bytes(client_event::Event::Activate(v1::ActivateSession { session: "abc".into(), claim }));
    let read = Request::Activate(Resource("abc".into()), claim);
    assert_eq!(parse(&activate(Some(claim.into()))), Some(read));
    assert_eq!(parse(&activate(None)), None);
    assert_eq!(parse(&bytes(client_event::Event::Ping(v1::EventPing { id: 7 }))), Some(Request::Ping(7)));
    assert_eq!(parse(&[0xff, 0xff]), None);
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_garbage_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }
}
