//! Packets that have left the ring: those since the last keyframe, in chunks of consecutive numbers.
//!
//! A chunk is made of what is still in the ring, so that a packet costs nothing until then, and what came late or was
//! repaired is in its place. It never changes: the workers of a relay share it. Invariant: a chunk has no hole.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{
    media::history::{History, Packet, PacketMeta, PacketRef},
    plane::Kind,
};

/// Packets of a chunk.
pub const CHUNK_PACKETS: u64 = 128;

/// What the archives of a relay hold together.
#[derive(Debug)]
pub struct Account {
    held: AtomicUsize,
    limit_bytes: usize,
}

impl Account {
    /// An account of which so much may be held.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { held: AtomicUsize::new(0), limit_bytes }
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |held: usize| held.checked_add(bytes).filter(|&sum| sum <= self.limit_bytes);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    meta: PacketMeta,
    start: u32,
    extension_bytes: u16,
    payload_bytes: u16,
}

/// [`CHUNK_PACKETS`] packets of consecutive numbers.
#[derive(Debug)]
pub struct Chunk {
    first: u64,
    slots: Box<[Slot]>,
    data: Box<[u8]>,
    account: Arc<Account>,
}

/// Why a chunk is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSealed {
    /// A packet was lost for good.
    Hole,
    /// The relay holds as much as it may.
    Full,
}

impl Chunk {
    /// Copies packets out of the ring.
    pub(super) fn seal(first: u64, ring: &History, account: &Arc<Account>) -> Result<Self, NotSealed> {
        let numbers = first..first + CHUNK_PACKETS;
        let mut bytes = 0;
        for number in numbers.clone() {
            let packet = ring.get(number).ok_or(NotSealed::Hole)?;
            bytes += packet.extensions.len() + packet.payload.len();
        }
        let whole = bytes + CHUNK_PACKETS as usize * size_of::<Slot>();
        if !account.take(whole) {
            return Err(NotSealed::Full);
        }
        let (mut slots, mut data) = (Vec::with_capacity(CHUNK_PACKETS as usize), Vec::with_capacity(bytes));
        for packet in numbers.filter_map(|number| ring.get(number)) {
            slots.push(Slot {
                meta: packet.meta,
                start: data.len() as u32,
                extension_bytes: packet.extensions.len() as u16,
                payload_bytes: packet.payload.len() as u16,
            });
            data.extend_from_slice(packet.extensions);
            data.extend_from_slice(packet.payload);
        }
        Ok(Self { first, slots: slots.into(), data: data.into(), account: Arc::clone(account) })
    }

    /// Its first number.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// First number behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// What it takes of the account.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len() + self.slots.len() * size_of::<Slot>()
    }

    fn get(&self, number: u64) -> Option<Packet<'_>> {
        let slot = self.slots.get(usize::try_from(number.checked_sub(self.first)?).ok()?)?;
        let payload = slot.start as usize + usize::from(slot.extension_bytes);
        Some(Packet {
            meta: slot.meta,
            extensions: self.data.get(slot.start as usize..payload)?,
            payload: self.data.get(payload..payload + usize::from(slot.payload_bytes))?,
        })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.account.held.fetch_sub(self.bytes(), Ordering::Relaxed);
    }
}

/// The chunks since a keyframe, one behind the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Archive {
    chunks: Vec<Arc<Chunk>>,
    bytes: usize,
}

impl Archive {
    pub(super) fn push(&mut self, chunk: Arc<Chunk>) {
        self.bytes += chunk.bytes();
        self.chunks.push(chunk);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, id: PacketRef) -> Option<Packet<'_>> {
        if id.kind != Kind::Video {
            return None;
        }
        let behind = self.chunks.partition_point(|chunk| chunk.first <= id.sequence);
        self.chunks.get(behind.checked_sub(1)?)?.get(id.sequence)
    }
}
