//! An address at which nobody listens, for the tests that dial one.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port of the loopback interface that is taken and not listened on: whoever dials it is refused. A port that was
/// only found free may be somebody else's by the time it is dialled.
#[derive(Debug)]
pub(crate) struct Vacant(TcpSocket);

impl Vacant {
    pub(crate) fn take() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self(socket)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr())
    }
}
