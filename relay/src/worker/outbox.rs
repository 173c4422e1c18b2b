//! Packets on their way out: written and sealed one behind the other in an arena, sent together.

use std::net::SocketAddr;

use super::count::Counts;
use crate::transport::socket::{MediaSocket, SendQueue};

/// Room of one packet: the longest that is kept, with header, extensions and tag.
pub const PACKET_ROOM_BYTES: usize = 2_048;
/// The arena: small enough for the L2 cache.
const ARENA_BYTES: usize = 256 * 1_500;

/// The arena and what is in it.
pub struct Outbox {
    queue: SendQueue,
    arena: Box<[u8]>,
    used: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { queue: SendQueue::default(), arena: vec![0; ARENA_BYTES].into_boxed_slice(), used: 0 }
    }
}

impl Outbox {
    /// Room for the next packet, [`PACKET_ROOM_BYTES`] long; what fills the arena is sent first.
    pub fn room(&mut self, socket: &mut MediaSocket, counts: &mut Counts) -> &mut [u8] {
        if self.used + PACKET_ROOM_BYTES > self.arena.len() {
            self.send(socket, counts);
        }
        &mut self.arena[self.used..self.used + PACKET_ROOM_BYTES]
    }

    /// What was written into the room goes to a peer.
    pub fn push(&mut self, to: SocketAddr, bytes: usize) {
        self.queue.push(to, self.used, bytes);
        self.used += bytes;
    }

    /// Sends everything.
    pub fn send(&mut self, socket: &mut MediaSocket, counts: &mut Counts) {
        if !self.queue.is_empty() {
            let outcome = socket.send(&mut self.queue, &self.arena);
            counts.sent(outcome, self.used);
        }
        self.used = 0;
    }
}
