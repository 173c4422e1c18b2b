//! Links over loopback: two relays, real gRPC.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::TcpListenerStream;
use waystation_proto::{NodeId, NodeRef};

use super::{
    super::{
        authority::Authority,
        handshake::{Identity, Trust},
    },
    LinkEvent, LinkHandle, Links,
};
use crate::{
    control::{LinkUp, PeerMessage},
    takes::play,
};

const PATIENCE: Duration = Duration::from_secs(10);

struct Side {
    links: Links,
    events: mpsc::Receiver<LinkEvent>,
    node: NodeRef,
    url: String,
    _trust: watch::Sender<Trust>,
}

async fn side(authority: &Authority, id: &str) -> Side {
    let (identity, trust) = authority.relay_until(id, u64::MAX / 2);
    serve(identity, trust, id).await
}

async fn serve(identity: Identity, trust: Trust, id: &str) -> Side {
    let (trust_sender, trust) = watch::channel(trust);
    let (sender, events) = mpsc::channel(64);
    let links = Links::new(Arc::new(identity), trust, sender);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(links.service());
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let node = NodeRef { id: NodeId::new(id).unwrap(), incarnation: 5 };
    Side { links, events, node, url, _trust: trust_sender }
}

impl Side {
    async fn next(&mut self) -> LinkEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("links live")
    }

    async fn up(&mut self) -> (LinkUp, LinkHandle) {
        match self.next().await {
            LinkEvent::Up(up, handle) => (up, handle),
            LinkEvent::Message(..) | LinkEvent::Down(_) | LinkEvent::DialFailed(_) => panic!("not a link"),
        }
    }

    async fn refused(&mut self) -> NodeRef {
        match self.next().await {
            LinkEvent::DialFailed(node) => node,
            LinkEvent::Up(..) | LinkEvent::Message(..) | LinkEvent::Down(_) => panic!("not refused"),
        }
    }
}

#[tokio::test]
async fn a_dialled_link_comes_up_at_both_ends_carries_messages_and_goes_down_at_both() {
    play(async || {
        let authority = Authority::new();
        let (mut a, mut b) = (side(&authority, "a").await, side(&authority, "b").await);
        a.links.dial(b.node.clone(), b.url.clone());
        let ((up_a, handle_a), (up_b, _handle_b)) = (a.up().await, b.up().await);
        assert_eq!((&up_a.node, &up_b.node), (&b.node, &a.node));
        assert!(up_a.dialled && !up_b.dialled);
        assert_eq!(up_a.keys.local_key, up_b.keys.remote_key);
        for id in 0..100 {
            assert!(handle_a.send(PeerMessage::Unsubscribe { id }));
        }
        for id in 0..100 {
            let LinkEvent::Message(link, message) = b.next().await else { panic!("not a message") };
            assert_eq!((link, message), (up_b.link, PeerMessage::Unsubscribe { id }), "in order");
        }
        drop(handle_a);
        assert!(matches!(a.next().await, LinkEvent::Down(link) if link == up_a.link));
        assert!(matches!(b.next().await, LinkEvent::Down(link) if link == up_b.link));
    })
    .await;
}

#[tokio::test]
async fn beats_keep_a_quiet_link_up() {
    play(async || {
        let authority = Authority::new();
        let (mut a, mut b) = (side(&authority, "a").await, side(&authority, "b").await);
        a.links.dial(b.node.clone(), b.url.clone());
        let ((_up_a, _handle_a), (_up_b, _handle_b)) = (a.up().await, b.up().await);
        let quiet = timeout(super::DEAD_AFTER * 2, a.events.recv()).await;
        assert!(quiet.is_err(), "nothing happens for longer than a dead link would last");
    })
    .await;
}

#[tokio::test]
async fn a_dial_to_nobody_to_a_stranger_or_to_another_node_fails() {
    play(async || {
        let authority = Authority::new();
        let mut a = side(&authority, "a").await;
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", nobody.local_addr().unwrap());
        drop(nobody);
        let b = side(&authority, "b").await;
        a.links.dial(b.node.clone(), url);
        assert_eq!(a.refused().await, b.node);
        let stranger = side(&Authority::new(), "b").await;
        a.links.dial(b.node.clone(), stranger.url.clone());
        assert_eq!(a.refused().await, b.node);
        let c = NodeRef { id: NodeId::new("c").unwrap(), incarnation: 5 };
        a.links.dial(c.clone(), b.url.clone());
        assert_eq!(a.refused().await, c, "who answers is not who was dialled");
        a.links.dial(c.clone(), "no address".into());
        assert_eq!(a.refused().await, c);
    })
    .await;
}
