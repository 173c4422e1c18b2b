//! What reaches a worker from outside its thread: mail (commands and news, seldom) and parcels (packets, often).
//!
//! Mail goes through a channel; parcels go through one bounded ring per pair of workers. Either way the worker is
//! woken by its eventfd.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    os::fd::{AsRawFd as _, FromRawFd as _, RawFd},
    sync::{Arc, mpsc},
    time::Instant,
};

use waystation_proto::{Claim, StreamKey};

use super::routes::{Proof, WorkerId};
use crate::{
    media::{
        habit::Habit,
        history::PacketMeta,
        start::{Chunk, Start},
        timeline::LinePoint,
    },
    plane::{
        ClientTransport, IceCredentials, Kind, LinkTransport, Play, PlayId, Publish, PublishId, TransportId,
    },
    transport::socket::DATAGRAM_BYTES,
};

/// News and commands.
#[derive(Debug)]
pub enum Mail {
    /// To a transport's worker.
    OpenClient(ClientTransport),
    /// To a transport's worker.
    OpenLink(LinkTransport),
    /// To a transport's worker.
    RestartIce(TransportId, IceCredentials),
    /// To a transport's worker.
    CloseTransport(TransportId),
    /// To a transport's worker: packets of these SSRCs are the publish's; it is received at `home`.
    Carry {
        /// Which publish.
        publish: PublishId,
        /// On which transport.
        transport: TransportId,
        /// Announced SSRCs.
        ssrcs: Vec<u32>,
        /// Where it is received.
        home: WorkerId,
    },
    /// To a transport's worker: the publish ended.
    Uncarry(PublishId),
    /// To a stream's home: a publish whose transport lives on `carrier`.
    Publish {
        /// It.
        publish: Publish,
        /// Its transport's worker.
        carrier: WorkerId,
        /// How its peer proves itself.
        proof: Proof,
    },
    /// To a stream's home.
    Activate(PublishId, Claim),
    /// To a stream's home.
    Unpublish(PublishId),
    /// To a stream's home: the publish's peer passed a check at this time.
    PeerProved(PublishId, Instant),
    /// To a transport's worker.
    Play(Play),
    /// To a transport's worker.
    Unplay(PlayId),
    /// To a stream's home: `worker` has players of it, and calls it by this number.
    Watch(StreamKey, WorkerId, u64),
    /// To a stream's home: `worker` has none under this number any more.
    Unwatch(StreamKey, WorkerId, u64),
    /// To a stream's home: a player elsewhere needs a keyframe.
    WantKeyframe(StreamKey),
    /// To a worker with players of a stream whose home is elsewhere: another publish feeds it, or none.
    SourceChanged(u64),
    /// To a worker that begins to keep a stream whose home is elsewhere: what its players may start with.
    Start(u64, Start),
    /// To a worker that keeps a stream whose home is elsewhere: what leaves the ring.
    Chunk(u64, Arc<Chunk>),
    /// To a worker with players of a stream whose home is elsewhere: what is known of its publisher.
    Habit(u64, Habit),
    /// To a worker with players of a stream whose home is elsewhere: its sender reports are due.
    Report(u64, LinePoints),
    /// To every other worker: an address is that of a transport on this one.
    Address(SocketAddr, WorkerId),
    /// To every other worker: it is not this one's any more.
    NoAddress(SocketAddr, WorkerId),
    /// The last handle is gone.
    Stop,
}

/// Where a stream's tracks are on its line, for sender reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinePoints {
    /// The audio track.
    pub audio: Option<LinePoint>,
    /// The video track.
    pub video: Option<LinePoint>,
}

impl LinePoints {
    /// The point of a track.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Option<LinePoint> {
        match kind {
            Kind::Audio => self.audio,
            Kind::Video => self.video,
        }
    }
}

/// What a parcel is.
#[derive(Clone, Copy, Debug)]
pub enum Contents {
    /// A datagram that landed on the wrong worker's socket.
    Datagram {
        /// Its sender.
        from: SocketAddr,
    },
    /// Media from an address that nobody has.
    Stray {
        /// Its sender.
        from: SocketAddr,
    },
    /// To a stream's home: an opened RTP packet of a publish.
    Rtp(PublishId),
    /// To a stream's home: an opened RTCP compound of a publish's peer.
    Rtcp(PublishId),
    /// To a publish's carrier: feedback to be sealed and sent to its peer.
    Feedback(PublishId),
    /// To a worker with players: a packet of a stream, extensions before payload.
    Packet {
        /// What the receiving worker calls the stream.
        stream: u64,
        /// What is known of it.
        meta: PacketMeta,
        /// Length of its extensions.
        extension_bytes: u16,
    },
}

/// A packet on its way to another worker.
pub struct Parcel {
    /// What it is.
    pub contents: Contents,
    length: u16,
    bytes: [u8; DATAGRAM_BYTES],
}

impl Parcel {
    /// Packs bytes, in two parts; `None`: they are longer than a datagram.
    #[must_use]
    pub fn pack(contents: Contents, head: &[u8], tail: &[u8]) -> Option<Self> {
        let length = head.len() + tail.len();
        let mut bytes = [0; DATAGRAM_BYTES];
        bytes.get_mut(..head.len())?.copy_from_slice(head);
        bytes.get_mut(head.len()..length)?.copy_from_slice(tail);
        Some(Self { contents, length: length as u16, bytes })
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[..usize::from(self.length)]
    }
}

/// Wakes a worker (eventfd(2)).
#[derive(Clone, Debug)]
pub struct Waker(Arc<File>);

impl Waker {
    /// A new eventfd.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointer; what it answers is a descriptor that nobody else owns, or -1.
        let file = unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from_raw_fd(fd)
        };
        Ok(Self(Arc::new(file)))
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        // A full counter wakes as well.
        let _ = (&*self.0).write(&1_u64.to_ne_bytes());
    }

    /// Makes it quiet again.
    pub fn clear(&self) {
        let _ = (&*self.0).read(&mut [0; 8]);
    }

    /// The descriptor to wait on.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A worker's address for mail.
#[derive(Clone, Debug)]
pub struct Mailbox {
    sender: mpsc::Sender<Mail>,
    waker: Waker,
}

impl Mailbox {
    /// A mailbox and its reading end.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new() -> io::Result<(Self, mpsc::Receiver<Mail>)> {
        let (sender, receiver) = mpsc::channel();
        Ok((Self { sender, waker: Waker::new()? }, receiver))
    }

    /// Sends mail and wakes the worker. What arrives is bounded by what the control half has open: a few per
    /// transport, publish and play.
    pub fn send(&self, mail: Mail) {
        // A worker that is gone has nothing left that mail could be about.
        let _ = self.sender.send(mail);
        self.waker.wake();
    }

    /// How the worker is woken.
    #[must_use]
    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}
