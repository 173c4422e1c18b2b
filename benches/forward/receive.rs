//! Receiving with the kernel's time of arrival and its count of dropped datagrams, 32 at a call.

use std::{io, mem, net::UdpSocket, os::fd::AsRawFd};

/// Datagrams taken with one call.
const BATCH: usize = 32;
const DATAGRAM_BYTES: usize = 2048;
const CONTROL_WORDS: usize = 16;

/// Asks for arrival times and drop counts on a socket.
pub fn prepare(socket: &UdpSocket) -> io::Result<()> {
    for option in [libc::SO_TIMESTAMPNS, libc::SO_RXQ_OVFL] {
        let on: libc::c_int = 1;
        // SAFETY: the option's value is a C int that outlives the call.
        let outcome = unsafe {
            let value: *const libc::c_int = &raw const on;
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                value.cast(),
                size_of::<libc::c_int>() as u32,
            )
        };
        if outcome != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Buffers for one call.
pub struct Receiver {
    buffers: Box<[[u8; DATAGRAM_BYTES]; BATCH]>,
    controls: Box<[[u64; CONTROL_WORDS]; BATCH]>,
}

/// A datagram with what the kernel knows of it.
pub struct Datagram<'a> {
    pub bytes: &'a [u8],
    /// CLOCK_REALTIME at arrival, in nanoseconds.
    pub arrived_ns: u64,
    /// Datagrams that this socket has dropped so far.
    pub dropped: u32,
}

impl Receiver {
    pub fn new() -> Self {
        Self {
            buffers: Box::new([[0; DATAGRAM_BYTES]; BATCH]),
            controls: Box::new([[0; CONTROL_WORDS]; BATCH]),
        }
    }

    /// Takes everything that waits on a non-blocking socket.
    pub fn drain(&mut self, socket: &UdpSocket, mut each: impl FnMut(Datagram<'_>)) -> io::Result<()> {
        loop {
            let mut vectors: [libc::iovec; BATCH] = std::array::from_fn(|i| libc::iovec {
                iov_base: self.buffers[i].as_mut_ptr().cast(),
                iov_len: DATAGRAM_BYTES,
            });
            let mut messages: [libc::mmsghdr; BATCH] = std::array::from_fn(|i| {
                // SAFETY: a message header of zeroes is a valid, empty one.
                let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
                message.msg_hdr.msg_iov = &raw mut vectors[i];
                message.msg_hdr.msg_iovlen = 1;
                message.msg_hdr.msg_control = self.controls[i].as_mut_ptr().cast();
                message.msg_hdr.msg_controllen = CONTROL_WORDS * 8;
                message
            });
            // SAFETY: every header points to a buffer, a vector and a control block that outlive the call.
            let count = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    messages.as_mut_ptr(),
                    BATCH as u32,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            let Ok(count) = usize::try_from(count) else {
                let error = io::Error::last_os_error();
                return if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) };
            };
            for (message, buffer) in messages.iter().zip(self.buffers.iter()).take(count) {
                let (arrived_ns, dropped) = control(&message.msg_hdr);
                each(Datagram { bytes: &buffer[..message.msg_len as usize], arrived_ns, dropped });
            }
            if count < BATCH {
                return Ok(());
            }
        }
    }
}

fn control(header: &libc::msghdr) -> (u64, u32) {
    let (mut arrived_ns, mut dropped) = (0, 0);
    // SAFETY: the kernel filled the control block of `header`; the macros walk it within its length, and each
    // block's data has the type that its level and type name.
    unsafe {
        let mut block = libc::CMSG_FIRSTHDR(header);
        while let Some(cmsg) = block.as_ref() {
            match (cmsg.cmsg_level, cmsg.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let time: libc::timespec =
                        libc::CMSG_DATA(cmsg).cast::<libc::timespec>().read_unaligned();
                    arrived_ns = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    dropped = libc::CMSG_DATA(cmsg).cast::<u32>().read_unaligned();
                }
                _ => {}
            }
            block = libc::CMSG_NXTHDR(header, cmsg);
        }
    }
    (arrived_ns, dropped)
}
