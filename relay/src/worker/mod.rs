//! The worker threads of the data plane and the handle to them.

use std::{net::SocketAddr, time::Duration};

use thiserror::Error;
use tokio::sync::mpsc;
use waystation_proto::StreamKey;

use crate::plane::{Command, PlaneEvent, TransportId};

/// How the data plane is set up.
#[derive(Clone, Debug)]
pub struct PlaneConfig {
    /// Address and port of the media sockets; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Worker threads; 0 is one per core.
    pub workers: usize,
    /// Whether to use UDP generic segmentation offload where the system has it.
    pub gso: bool,
    /// A transport ends when neither STUN nor RTP nor RTCP came for this long.
    pub session_timeout: Duration,
}

/// Why the data plane does not start.
#[derive(Debug, Error)]
pub enum PlaneError {
    /// The media port cannot be opened.
    #[error("cannot open media port {addr}: {source}; is another relay using it? set another with --media-listen")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The DTLS certificate cannot be made.
    #[error("cannot make a DTLS certificate: {0}")]
    Certificate(String),
    /// A thread cannot be started.
    #[error("cannot start a worker thread: {0}")]
    Thread(std::io::Error),
}

/// What the data plane carries now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaneLoad {
    /// CPU of the busiest worker, 0 to 1000, over the last second.
    pub busy_permille: u32,
    /// Media sent over the last second.
    pub out_bits_per_second: u64,
}

/// The handle to the worker threads. Dropping the last clone stops them.
#[derive(Clone, Debug)]
pub struct Plane {}

impl Plane {
    /// Opens the media port and starts the workers. Events come on the returned channel.
    ///
    /// # Errors
    /// [`PlaneError`] when the port is taken or a thread cannot be started.
    pub fn start(config: PlaneConfig) -> Result<(Self, mpsc::Receiver<PlaneEvent>), PlaneError> {
        let _ = config;
        unimplemented!()
    }

    /// The bound address of the media port.
    #[must_use]
    pub fn media_addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// SHA-256 of our DTLS certificate as SDP writes it: `AB:CD:…`.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        unimplemented!()
    }

    /// A local ufrag for a new transport. It names the worker that will own it, chosen near the stream's others.
    #[must_use]
    pub fn local_ufrag(&self, transport: TransportId, near: Option<&StreamKey>) -> String {
        let _ = (transport, near);
        unimplemented!()
    }

    /// Hands a command to the workers. Never blocks.
    pub fn send(&self, command: Command) {
        let _ = command;
    }

    /// What the plane carries now.
    #[must_use]
    pub fn load(&self) -> PlaneLoad {
        unimplemented!()
    }
}
