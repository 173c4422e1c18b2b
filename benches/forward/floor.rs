//! The floor: a bare program that seals each packet for each receiver (AES-128-GCM) and sends it, nothing else.
//!
//! Bursts go out with one GSO call per receiver, single packets with `sendmmsg`: the cheapest way for each shape.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::pace::{PAYLOAD_BYTES, Pace};

const HEADER_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const PACKET_BYTES: usize = HEADER_BYTES + PAYLOAD_BYTES + TAG_BYTES;
/// The arena of one round of sends: small enough for the L2 cache.
const ARENA_PACKETS: usize = 256;

/// Seals and sends for `duration`; answers with the packets sent.
pub fn run(ports: &[u16], burst: usize, duration: Duration) -> Result<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let keys: Vec<LessSafeKey> = ports.iter().map(|&port| key(port)).collect::<Result<_>>()?;
    let source = vec![0x5a; HEADER_BYTES + PAYLOAD_BYTES];
    let mut arena = vec![0; ARENA_PACKETS * PACKET_BYTES];
    let group = (ARENA_PACKETS / burst).max(1);
    let started = Instant::now();
    let mut pace = Pace::new(u32::try_from(burst)?, started);
    let (mut sequence, mut sent) = (0_u64, 0);
    while started.elapsed() < duration {
        thread::sleep(pace.wait(Instant::now()));
        if !pace.due(Instant::now()) {
            continue;
        }
        for (ports, keys) in ports.chunks(group).zip(keys.chunks(group)) {
            for (receiver, key) in keys.iter().enumerate() {
                for packet in 0..burst {
                    let at = (receiver * burst + packet) * PACKET_BYTES;
                    seal(key, sequence + packet as u64, &source, &mut arena[at..at + PACKET_BYTES])?;
                }
            }
            send(&socket, ports, burst, &arena)?;
        }
        sequence += burst as u64;
        sent += (ports.len() * burst) as u64;
    }
    Ok(sent)
}

fn key(port: u16) -> Result<LessSafeKey> {
    let mut bytes = [7; 16];
    bytes[..2].copy_from_slice(&port.to_be_bytes());
    Ok(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &bytes).ok().context("an AES-128 key has 16 bytes")?))
}

fn seal(key: &LessSafeKey, sequence: u64, source: &[u8], out: &mut [u8]) -> Result<()> {
    out[..source.len()].copy_from_slice(source);
    out[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&sequence.to_be_bytes());
    let (header, rest) = out.split_at_mut(HEADER_BYTES);
    let (payload, tag) = rest.split_at_mut(PAYLOAD_BYTES);
    let sealed = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&*header), payload)
        .ok()
        .context("sealing failed")?;
    tag.copy_from_slice(sealed.as_ref());
    Ok(())
}

fn send(socket: &UdpSocket, ports: &[u16], burst: usize, arena: &[u8]) -> Result<()> {
    let mut names: Vec<libc::sockaddr_in> = ports.iter().map(|&port| loopback(port)).collect();
    let mut vectors: Vec<libc::iovec> = (0..ports.len())
        .map(|i| libc::iovec {
            iov_base: arena[i * burst * PACKET_BYTES..].as_ptr().cast_mut().cast(),
            iov_len: burst * PACKET_BYTES,
        })
        .collect();
    let mut controls = vec![[0_u64; 3]; ports.len()];
    let mut messages: Vec<libc::mmsghdr> = Vec::with_capacity(ports.len());
    for ((name, vector), control) in names.iter_mut().zip(&mut vectors).zip(&mut controls) {
        // SAFETY: a message header of zeroes is a valid, empty one; the control block has room for one u16, which
        // is what CMSG_SPACE(2) bytes in three aligned words are.
        let message = unsafe {
            let mut message: libc::mmsghdr = std::mem::zeroed();
            let header = &mut message.msg_hdr;
            header.msg_name = (&raw mut *name).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            if burst > 1 {
                header.msg_control = control.as_mut_ptr().cast();
                header.msg_controllen = libc::CMSG_SPACE(2) as usize;
                let block = libc::CMSG_FIRSTHDR(header);
                (*block).cmsg_level = libc::SOL_UDP;
                (*block).cmsg_type = libc::UDP_SEGMENT;
                (*block).cmsg_len = libc::CMSG_LEN(2) as usize;
                libc::CMSG_DATA(block).cast::<u16>().write_unaligned(PACKET_BYTES as u16);
            }
            message
        };
        messages.push(message);
    }
    let mut done = 0;
    while done < messages.len() {
        let left = &mut messages[done..];
        // SAFETY: every header points to a name, a vector, a control block and arena bytes that outlive the call.
        let count = unsafe { libc::sendmmsg(socket.as_raw_fd(), left.as_mut_ptr(), left.len() as u32, 0) };
        match usize::try_from(count) {
            Ok(count) if count > 0 => done += count,
            Ok(_) | Err(_) => bail!("sendmmsg: {}", io::Error::last_os_error()),
        }
    }
    Ok(())
}

fn loopback(port: u16) -> libc::sockaddr_in {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}
