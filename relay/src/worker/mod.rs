//! The worker threads of the data plane and the handle to them.

mod count;
mod due;
mod events;
mod fanout;
mod incoming;
mod mail;
mod mailroom;
mod outbox;
mod peer;
mod publisher;
mod publishing;
mod routes;
mod run;
mod slots;
mod start;
mod starting;
mod stream;
mod timers;
mod wait;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::sync::mpsc;
use waystation_proto::StreamKey;

pub use self::count::describe;
use self::{
    count::LoadMeter,
    mail::{Mail, Mailbox},
    routes::{Proof, WorkerId, worker_of},
    run::Shared,
};
use crate::plane::{Command, PlaneEvent, Publish, TransportId};

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
    #[error(
        "cannot open media port {addr}: {source}; is another relay using it? set another with --media-listen"
    )]
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
#[derive(Clone)]
pub struct Plane(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    media_addr: SocketAddr,
    mailboxes: Vec<Mailbox>,
    loads: Vec<LoadMeter>,
}

impl fmt::Debug for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plane").field("media_addr", &self.0.media_addr).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        for mailbox in &self.mailboxes {
            mailbox.send(Mail::Stop);
        }
    }
}

impl Plane {
    /// Opens the media port and starts the workers. Events come on the returned channel.
    ///
    /// # Errors
    /// [`PlaneError`] when the port is taken or a thread cannot be started.
    pub fn start(config: PlaneConfig) -> Result<(Self, mpsc::Receiver<PlaneEvent>), PlaneError> {
        let (handle, events) = start::start(config)?;
        Ok((Self(Arc::new(handle)), events))
    }

    /// The bound address of the media port.
    #[must_use]
    pub fn media_addr(&self) -> SocketAddr {
        self.0.media_addr
    }

    /// SHA-256 of our DTLS certificate as SDP writes it: `AB:CD:…`.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        self.0.shared.identity.fingerprint()
    }

    /// A local ufrag for a new transport. It names the worker that will own it, chosen near the stream's others.
    #[must_use]
    pub fn local_ufrag(&self, transport: TransportId, near: Option<&StreamKey>) -> String {
        routes::ufrag(self.0.shared.routes.place(transport, near), mailroom::random_seed())
    }

    /// Hands a command to the workers. Never blocks.
    pub fn send(&self, command: Command) {
        let routes = &self.0.shared.routes;
        match command {
            Command::OpenClient(open) => {
                let named =
                    worker_of(&open.ice.local_ufrag).filter(|&id| usize::from(id) < self.0.mailboxes.len());
                let worker = named.unwrap_or_else(|| routes.place(open.id, open.near.as_ref()));
                routes.open(open.id, worker, Proof::Check);
                self.mail(worker, Mail::OpenClient(open));
            }
            Command::OpenLink(open) => {
                let worker = routes.place(open.id, None);
                routes.open(open.id, worker, Proof::Media);
                self.mail(worker, Mail::OpenLink(open));
            }
            Command::RestartIce { transport, ice } => {
                self.mail_if(routes.transport(transport), Mail::RestartIce(transport, ice));
            }
            Command::CloseTransport(transport) => {
                self.mail_if(routes.transport(transport), Mail::CloseTransport(transport));
            }
            Command::Publish(publish) => self.publish(publish),
            Command::Activate { publish, claim } => {
                self.mail_if(routes.home_of(publish), Mail::Activate(publish, claim));
            }
            Command::Unpublish(publish) => {
                if let Some((carrier, home)) = routes.unpublish(publish) {
                    self.mail(carrier, Mail::Uncarry(publish));
                    self.mail(home, Mail::Unpublish(publish));
                }
            }
            Command::Play(play) => self.mail_if(routes.play(play.id, play.transport), Mail::Play(play)),
            Command::Unplay(play) => self.mail_if(routes.unplay(play), Mail::Unplay(play)),
        }
    }

    fn publish(&self, publish: Publish) {
        let route = self.0.shared.routes.publish(publish.id, publish.transport, &publish.stream);
        let Some((carrier, home, proof)) = route else { return };
        let ssrcs = publish.tracks.iter().flat_map(|track| [track.ssrc, track.rtx_ssrc]).flatten().collect();
        let carry = Mail::Carry { publish: publish.id, transport: publish.transport, ssrcs, home };
        self.mail(home, Mail::Publish { publish, carrier, proof });
        self.mail(carrier, carry);
    }

    fn mail(&self, worker: WorkerId, mail: Mail) {
        if let Some(mailbox) = self.0.mailboxes.get(usize::from(worker)) {
            mailbox.send(mail);
        }
    }

    /// A command about something that has ended says nothing any more.
    fn mail_if(&self, worker: Option<WorkerId>, mail: Mail) {
        if let Some(worker) = worker {
            self.mail(worker, mail);
        }
    }

    /// What the plane carries now.
    #[must_use]
    pub fn load(&self) -> PlaneLoad {
        self.0.loads.iter().map(LoadMeter::get).fold(PlaneLoad::default(), |sum, (busy, bits)| PlaneLoad {
            busy_permille: sum.busy_permille.max(busy),
            out_bits_per_second: sum.out_bits_per_second + bits,
        })
    }
}
