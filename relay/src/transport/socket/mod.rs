//! The media sockets: one port, one `SO_REUSEPORT` socket per worker, datagrams in and out by the batch.
//!
//! All `unsafe` of the transport is here. Sending takes *runs*: consecutive datagrams of one peer, equal in length but
//! for a shorter last one, which leave in one GSO call (`UDP_SEGMENT`, udp(7)) where the system has it.

#[cfg(test)]
mod tests;

use std::{
    io, mem,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsRawFd, RawFd},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Datagrams taken with one call.
pub const RECEIVE_BATCH: usize = 64;
/// Longest datagram taken; longer ones are cut by the kernel and then fail their check.
pub const DATAGRAM_BYTES: usize = 2048;
/// Most segments of one GSO call (`UDP_MAX_SEGMENTS` of Linux).
pub const MAX_SEGMENTS: usize = 64;
/// Most bytes of one GSO call: an IPv4 datagram's.
pub const MAX_RUN_BYTES: usize = 65_507;
/// Messages of one `sendmmsg` call.
const SEND_BATCH: usize = 64;
/// Asked of the system for each direction, in bytes; it grants what its limits allow.
const BUFFER_BYTES: usize = 4 << 20;

/// A worker's socket.
#[derive(Debug)]
pub struct MediaSocket {
    socket: UdpSocket,
    segmentation: Segmentation,
}

/// Whether runs are left to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segmentation {
    Offloaded,
    Ours,
}

impl MediaSocket {
    /// Opens the first socket on an address.
    ///
    /// # Errors
    /// Those of the system: the address is taken, or is not this machine's.
    pub fn bind(addr: SocketAddr, gso: bool) -> io::Result<Self> {
        let socket = open(addr)?;
        // A socket that shares would be let onto a port that another relay of the same user shares among its workers, and
        // be given one when it leaves the choice to the system. This one shares only once the port is its own.
        socket.bind(&addr.into())?;
        socket.set_reuse_port(true)?;
        let segmentation = if gso { Segmentation::Offloaded } else { Segmentation::Ours };
        Ok(Self { socket: socket.into(), segmentation })
    }

    /// Opens one more socket on the same address, for another worker.
    ///
    /// # Errors
    /// Those of the system.
    pub fn share(&self) -> io::Result<Self> {
        let addr = self.local_addr()?;
        let socket = open(addr)?;
        socket.set_reuse_port(true)?;
        socket.bind(&addr.into())?;
        Ok(Self { socket: socket.into(), segmentation: self.segmentation })
    }

    /// The bound address.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The descriptor, for epoll.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Sends one datagram; whether the kernel took it.
    pub fn send_to(&self, datagram: &[u8], to: SocketAddr) -> bool {
        self.socket.send_to(datagram, to).is_ok()
    }

    /// Takes waiting datagrams. Answers how many came; fewer than [`RECEIVE_BATCH`] means that none waits.
    ///
    /// # Errors
    /// Those of the system, but for "would block", which is 0.
    pub fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.arm();
        // SAFETY: `arm` pointed every header to a name, a vector and a buffer that `batch` owns for longer than the call.
        let count = unsafe {
            libc::recvmmsg(
                self.fd(),
                batch.headers.as_mut_ptr(),
                RECEIVE_BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(count).or_else(|_| {
            let error = io::Error::last_os_error();
            // ICMP errors of earlier sends surface here too; they say nothing about what waits.
            let nothing =
                [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted, io::ErrorKind::ConnectionRefused];
            if nothing.contains(&error.kind()) { Ok(0) } else { Err(error) }
        })
    }

    /// Sends all runs of a queue from the arena that they point into, and empties the queue.
    pub fn send(&mut self, queue: &mut SendQueue, arena: &[u8]) -> Sent {
        let mut sent = Sent::default();
        if self.segmentation == Segmentation::Ours {
            queue.split_runs();
        }
        let mut first = 0;
        while first < queue.runs.len() {
            let last = (first + SEND_BATCH).min(queue.runs.len());
            queue.arm(first..last, arena);
            // SAFETY: `arm` pointed the first `last - first` headers to names, vectors and control blocks that `queue`
            // owns, and the vectors into `arena`, all of which outlive the call.
            let count = unsafe {
                libc::sendmmsg(self.fd(), queue.headers.as_mut_ptr(), (last - first) as libc::c_uint, 0)
            };
            sent.calls += 1;
            match usize::try_from(count) {
                Ok(count) => {
                    sent.datagrams +=
                        queue.runs[first..first + count].iter().map(Run::datagrams).sum::<usize>();
                    first += count;
                }
                Err(_) => first = self.refused(queue, first, &io::Error::last_os_error(), &mut sent),
            }
        }
        queue.runs.clear();
        sent
    }

    /// The kernel refused the run at `at`. Answers where to go on.
    fn refused(&mut self, queue: &mut SendQueue, at: usize, error: &io::Error, sent: &mut Sent) -> usize {
        let run = queue.runs[at];
        let gso_refused = matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::ENOPROTOOPT));
        if error.kind() == io::ErrorKind::Interrupted {
            at
        } else if error.kind() == io::ErrorKind::WouldBlock {
            // The socket's buffer is full: whatever is left would be late.
            sent.dropped += queue.runs[at..].iter().map(Run::datagrams).sum::<usize>();
            queue.runs.len()
        } else if gso_refused && run.datagrams() > 1 && self.segmentation == Segmentation::Offloaded {
            tracing::info!(%error, "the system refuses UDP segmentation offload; datagrams are sent one by one");
            self.segmentation = Segmentation::Ours;
            queue.runs.drain(..at);
            queue.split_runs();
            0
        } else {
            sent.dropped += run.datagrams();
            at + 1
        }
    }
}

fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // A smaller buffer than asked for costs packets under load, not correctness.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    Ok(socket)
}

/// Outcome of a send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams that the kernel took.
    pub datagrams: usize,
    /// Datagrams that it did not take.
    pub dropped: usize,
    /// System calls.
    pub calls: usize,
}

/// Consecutive datagrams in the arena that go to one peer.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Whereto.
    pub to: SocketAddr,
    /// Where they begin in the arena.
    pub start: usize,
    /// Bytes of all together.
    pub bytes: usize,
    /// Bytes of each but the last, which may be shorter.
    pub segment_bytes: usize,
}

impl Run {
    fn datagrams(&self) -> usize {
        self.bytes.div_ceil(self.segment_bytes.max(1))
    }
}

/// Control block with room for one `u16`, aligned as `cmsghdr` asks.
type Control = [u64; 3];

/// Runs that wait to be sent, and the headers to send them with.
pub struct SendQueue {
    runs: Vec<Run>,
    names: Box<[Name; SEND_BATCH]>,
    vectors: Box<[libc::iovec; SEND_BATCH]>,
    controls: Box<[Control; SEND_BATCH]>,
    headers: Box<[libc::mmsghdr; SEND_BATCH]>,
}

// SAFETY: the raw pointers in headers and vectors are set anew before each use and point into the queue itself or into
// the arena of that call; none is used across threads.
unsafe impl Send for SendQueue {}

impl Default for SendQueue {
    fn default() -> Self {
        Self {
            runs: Vec::with_capacity(256),
            names: Box::new([Name::default(); SEND_BATCH]),
            vectors: Box::new([NO_VECTOR; SEND_BATCH]),
            controls: Box::new([[0; 3]; SEND_BATCH]),
            headers: Box::new(std::array::from_fn(|_| no_header())),
        }
    }
}

impl SendQueue {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Appends one datagram that begins at `start` in the arena. It joins the last run where it may: the same peer,
    /// directly behind it, and not longer than the run's segments.
    pub fn push(&mut self, to: SocketAddr, start: usize, bytes: usize) {
        if let Some(run) = self.runs.last_mut() {
            let is_whole = run.bytes % run.segment_bytes == 0;
            let is_next = run.to == to && run.start + run.bytes == start;
            let has_room = run.datagrams() < MAX_SEGMENTS && run.bytes + bytes <= MAX_RUN_BYTES;
            if is_next && is_whole && has_room && bytes <= run.segment_bytes {
                run.bytes += bytes;
                return;
            }
        }
        self.runs.push(Run { to, start, bytes, segment_bytes: bytes });
    }

    /// Makes every datagram a run of its own.
    fn split_runs(&mut self) {
        if self.runs.iter().all(|run| run.datagrams() == 1) {
            return;
        }
        let runs = mem::take(&mut self.runs);
        self.runs = runs
            .into_iter()
            .flat_map(|run| {
                (0..run.datagrams()).map(move |i| {
                    let offset = i * run.segment_bytes;
                    let bytes = run.segment_bytes.min(run.bytes - offset);
                    Run { start: run.start + offset, bytes, segment_bytes: bytes, ..run }
                })
            })
            .collect();
    }

    /// Fills the first headers with these runs.
    fn arm(&mut self, runs: std::ops::Range<usize>, arena: &[u8]) {
        for (slot, run) in self.runs[runs].iter().enumerate() {
            self.names[slot].set(run.to);
            let bytes = &arena[run.start..run.start + run.bytes];
            self.vectors[slot] =
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            let header = &mut self.headers[slot].msg_hdr;
            header.msg_name = self.names[slot].as_mut_ptr();
            header.msg_namelen = self.names[slot].length;
            header.msg_iov = &raw mut self.vectors[slot];
            header.msg_iovlen = 1;
            if run.datagrams() == 1 {
                header.msg_control = std::ptr::null_mut();
                header.msg_controllen = 0;
                continue;
            }
            header.msg_control = self.controls[slot].as_mut_ptr().cast();
            // SAFETY: CMSG_SPACE(2) is 24 bytes, which the control block has, aligned to 8.
            unsafe {
                header.msg_controllen = libc::CMSG_SPACE(2) as usize;
                let block = libc::CMSG_FIRSTHDR(header);
                (*block).cmsg_level = libc::SOL_UDP;
                (*block).cmsg_type = libc::UDP_SEGMENT;
                (*block).cmsg_len = libc::CMSG_LEN(2) as usize;
                libc::CMSG_DATA(block).cast::<u16>().write_unaligned(run.segment_bytes as u16);
            }
        }
    }
}

/// Buffers for one receive call.
pub struct ReceiveBatch {
    buffers: Box<[[u8; DATAGRAM_BYTES]; RECEIVE_BATCH]>,
    names: Box<[Name; RECEIVE_BATCH]>,
    vectors: Box<[libc::iovec; RECEIVE_BATCH]>,
    headers: Box<[libc::mmsghdr; RECEIVE_BATCH]>,
}

// SAFETY: as for SendQueue.
unsafe impl Send for ReceiveBatch {}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self {
            buffers: Box::new([[0; DATAGRAM_BYTES]; RECEIVE_BATCH]),
            names: Box::new([Name::default(); RECEIVE_BATCH]),
            vectors: Box::new([NO_VECTOR; RECEIVE_BATCH]),
            headers: Box::new(std::array::from_fn(|_| no_header())),
        }
    }
}

impl ReceiveBatch {
    /// The datagram at an index below the count that was received, and whence it came.
    pub fn datagram(&mut self, index: usize) -> Option<(&mut [u8], SocketAddr)> {
        let from = self.names[index].get()?;
        let length = (self.headers[index].msg_len as usize).min(DATAGRAM_BYTES);
        Some((&mut self.buffers[index][..length], from))
    }

    fn arm(&mut self) {
        for slot in 0..RECEIVE_BATCH {
            self.vectors[slot] =
                libc::iovec { iov_base: self.buffers[slot].as_mut_ptr().cast(), iov_len: DATAGRAM_BYTES };
            let header = &mut self.headers[slot].msg_hdr;
            header.msg_name = self.names[slot].as_mut_ptr();
            header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            header.msg_iov = &raw mut self.vectors[slot];
            header.msg_iovlen = 1;
        }
    }
}

const NO_VECTOR: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

fn no_header() -> libc::mmsghdr {
    // SAFETY: a message header of zeroes is a valid, empty one.
    unsafe { mem::zeroed() }
}

/// A socket address as the kernel writes it. `sockaddr_in` is a prefix of the storage.
#[derive(Clone, Copy)]
struct Name {
    storage: libc::sockaddr_in6,
    length: libc::socklen_t,
}

impl Default for Name {
    fn default() -> Self {
        // SAFETY: a socket address of zeroes is a valid one of no family.
        Self { storage: unsafe { mem::zeroed() }, length: 0 }
    }
}

impl Name {
    fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        (&raw mut self.storage).cast()
    }

    fn set(&mut self, addr: SocketAddr) {
        match addr {
            SocketAddr::V4(addr) => {
                let name = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(addr.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: sockaddr_in is smaller than sockaddr_in6 and no more strictly aligned.
                unsafe { (&raw mut self.storage).cast::<libc::sockaddr_in>().write(name) };
                self.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(addr) => {
                self.storage = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: addr.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                    sin6_scope_id: addr.scope_id(),
                };
                self.length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
    }

    fn get(&self) -> Option<SocketAddr> {
        match i32::from(self.storage.sin6_family) {
            libc::AF_INET => {
                // SAFETY: the kernel wrote a sockaddr_in, as its family says.
                let name = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in>().read() };
                let ip = name.sin_addr.s_addr.to_ne_bytes();
                Some(SocketAddrV4::new(ip.into(), u16::from_be(name.sin_port)).into())
            }
            libc::AF_INET6 => {
                let name = &self.storage;
                let ip = name.sin6_addr.s6_addr.into();
                let port = u16::from_be(name.sin6_port);
                Some(SocketAddrV6::new(ip, port, name.sin6_flowinfo, name.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}
