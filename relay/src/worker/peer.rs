//! One transport on its worker: where its peer is, how far its keys are, and what is on it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::routes::WorkerId;
use crate::{
    media::departures::Departures,
    plane::{ClientTransport, IceCredentials, LinkTransport, PlayId, PublishId, TransportId},
    transport::{
        DatagramKind,
        dtls::{Association, Offered},
        srtp::{Opener, Sealer},
    },
};

/// Most publishes and plays on one transport: a link carries one of each per stream.
pub const MAX_ON_TRANSPORT: usize = 8_192;

/// A client that has no keys after this time never will: it is ended, however often it checks.
pub const KEYS_WITHIN: Duration = Duration::from_secs(30);
/// An address in use from which nothing came for so long is given up for one from which something comes.
const PATH_SILENCE: Duration = Duration::from_millis(300);
/// Addresses of one peer that are remembered: the one in use, and others that proved to be its.
pub const MAX_ADDRESSES: usize = 4;

/// A transport.
pub struct Peer {
    /// Its id.
    pub id: TransportId,
    /// What stands behind it.
    pub kind: PeerKind,
    /// How far it is.
    pub phase: Phase,
    /// When keys must be there.
    pub keys_by: Instant,
    /// Addresses that proved to be its, oldest first.
    pub addresses: Vec<SocketAddr>,
    /// When something authentic last came.
    pub heard_at: Instant,
    /// When something authentic last came from the address in use.
    pub path_heard_at: Instant,
    /// When something was last sent, and how long a silence of ours may be.
    pub beat: Option<Beat>,
    /// Transport-wide numbers.
    pub departures: Departures,
    /// Publishes whose packets arrive here, and where they are received.
    pub carried: BTreeMap<PublishId, WorkerId>,
    /// Announced SSRCs of publishes.
    pub publish_of: BTreeMap<u32, PublishId>,
    /// Plays that leave here, each with its stream's slot.
    pub plays: BTreeMap<PlayId, usize>,
}

/// Client or link.
pub enum PeerKind {
    /// A client behind ICE and DTLS.
    Client {
        /// Credentials of both sides.
        ice: IceCredentials,
        /// Its association.
        dtls: Box<Association>,
    },
    /// Another relay.
    Link,
}

/// How far a transport is. An address is only ever one that passed a check, or that a link's handshake named.
pub enum Phase {
    /// No check has passed yet.
    Unreachable,
    /// DTLS runs.
    Shaking {
        /// Where the peer is.
        addr: SocketAddr,
    },
    /// Media may flow.
    Up {
        /// Where the peer is.
        addr: SocketAddr,
        /// The one writer under our key.
        sealer: Box<Sealer>,
        /// The reader of what the peer seals.
        opener: Box<Opener>,
    },
}

/// The duty to be heard.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// Longest silence.
    pub every: Duration,
    /// When something was last sent.
    pub sent_at: Instant,
}

impl Peer {
    /// A client from which nothing came yet.
    #[must_use]
    pub fn client(open: ClientTransport, now: Instant) -> Self {
        // Who asks for beats is an SDK of ours.
        let offered = if open.beat.is_some() { Offered::Aes128Gcm } else { Offered::All };
        let dtls = Box::new(Association::new(open.role, offered, open.peer_fingerprint));
        let beat = open.beat.map(|every| Beat { every, sent_at: now });
        Self::new(open.id, PeerKind::Client { ice: open.ice, dtls }, Phase::Unreachable, beat, now)
    }

    /// A link, which is up from the start.
    #[must_use]
    pub fn link(open: &LinkTransport, sealer: Sealer, opener: Opener, now: Instant) -> Self {
        let phase = Phase::Up { addr: open.peer, sealer: Box::new(sealer), opener: Box::new(opener) };
        Self::new(open.id, PeerKind::Link, phase, None, now)
    }

    fn new(id: TransportId, kind: PeerKind, phase: Phase, beat: Option<Beat>, now: Instant) -> Self {
        Self {
            id,
            kind,
            phase,
            keys_by: now + KEYS_WITHIN,
            addresses: Vec::new(),
            heard_at: now,
            path_heard_at: now,
            beat,
            departures: Departures::new(now),
            carried: BTreeMap::new(),
            publish_of: BTreeMap::new(),
            plays: BTreeMap::new(),
        }
    }

    /// Where the peer is, if that is known.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        match &self.phase {
            Phase::Unreachable => None,
            Phase::Shaking { addr } | Phase::Up { addr, .. } => Some(*addr),
        }
    }

    /// The peer is at another address from now on.
    pub fn move_to(&mut self, to: SocketAddr) {
        match &mut self.phase {
            Phase::Unreachable => self.phase = Phase::Shaking { addr: to },
            Phase::Shaking { addr } | Phase::Up { addr, .. } => *addr = to,
        }
    }

    /// Remembers an address; answers one that is forgotten for it.
    pub fn learn(&mut self, addr: SocketAddr) -> Option<SocketAddr> {
        if self.addresses.contains(&addr) {
            return None;
        }
        let in_use = self.addr();
        let oldest = self.addresses.iter().position(|&other| Some(other) != in_use);
        let is_full = self.addresses.len() >= MAX_ADDRESSES;
        let forgotten = oldest.filter(|_| is_full).map(|at| self.addresses.remove(at));
        self.addresses.push(addr);
        forgotten
    }

    /// Something authentic came from one of its addresses. That one is used from now on if none is yet, or if the one in
    /// use went silent.
    pub fn heard(&mut self, from: SocketAddr, now: Instant) {
        self.heard_at = now;
        let is_silent = now.saturating_duration_since(self.path_heard_at) >= PATH_SILENCE;
        if self.addr().is_none() || is_silent {
            self.move_to(from);
        }
        if self.addr() == Some(from) {
            self.path_heard_at = now;
        }
    }

    /// Opens a packet of the peer in place; its length without what SRTP added. `None`: not authentic, or no keys yet.
    pub fn open(&mut self, kind: DatagramKind, bytes: &mut [u8]) -> Option<usize> {
        let Phase::Up { opener, .. } = &mut self.phase else { return None };
        match kind {
            DatagramKind::Rtp => opener.open_rtp(bytes).ok(),
            DatagramKind::Rtcp => opener.open_rtcp(bytes).ok(),
            DatagramKind::Stun | DatagramKind::Dtls => None,
        }
    }

    /// The publish that an SSRC belongs to: the announced one, or the only one there is.
    #[must_use]
    pub fn publish(&self, ssrc: u32) -> Option<(PublishId, WorkerId)> {
        let publish = match self.carried.len() {
            0 => return None,
            1 => *self.carried.keys().next()?,
            _ => *self.publish_of.get(&ssrc)?,
        };
        self.carried.get(&publish).map(|&home| (publish, home))
    }

    /// Whether one more publish or play fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.carried.len() + self.plays.len() < MAX_ON_TRANSPORT
    }

    /// Whether the handshake takes too long.
    #[must_use]
    pub fn is_overdue(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Unreachable | Phase::Shaking { .. } => now >= self.keys_by,
            Phase::Up { .. } => false,
        }
    }

    /// When the transport's timers are next due: DTLS, the handshake's limit, the peer's silence, our own.
    #[must_use]
    pub fn next_at(&self, session_timeout: Duration) -> Option<Instant> {
        let PeerKind::Client { dtls, .. } = &self.kind else { return None };
        let duty = match self.phase {
            Phase::Up { .. } => self.beat.map(|beat| beat.sent_at + beat.every),
            Phase::Unreachable | Phase::Shaking { .. } => Some(self.keys_by),
        };
        [dtls.poll_timeout(), duty, Some(self.heard_at + session_timeout)].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        time::{Duration, Instant},
    };

    use super::{KEYS_WITHIN, MAX_ADDRESSES, PATH_SILENCE, Peer};
    use crate::plane::{ClientTransport, DtlsRole, Fingerprint, IceCredentials, TransportId};

    fn peer(now: Instant) -> Peer {
        let ice = IceCredentials {
            local_ufrag: "00abcdef".to_owned(),
            local_pwd: "a-password-of-the-relay".to_owned(),
            remote_ufrag: "peer".to_owned(),
        };
        let (id, role) = (TransportId(1), DtlsRole::Client);
        let open = ClientTransport {
            id,
            ice,
            peer_fingerprint: Fingerprint::Sha256([0; 32]),
            role,
            beat: None,
            near: None,
        };
        Peer::client(open, now)
    }

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn another_address_is_used_only_once_the_one_in_use_is_silent() {
        let start = Instant::now();
        let mut peer = peer(start);
        peer.heard(addr(1), start);
        peer.heard(addr(2), start + PATH_SILENCE / 2);
        assert_eq!(peer.addr(), Some(addr(1)));
        peer.heard(addr(1), start + PATH_SILENCE / 2);
        peer.heard(addr(2), start + PATH_SILENCE);
        assert_eq!(peer.addr(), Some(addr(1)), "it was heard half a silence ago");
        peer.heard(addr(2), start + PATH_SILENCE * 3 / 2);
        assert_eq!(peer.addr(), Some(addr(2)));
    }

    #[test]
    fn a_client_that_only_ever_checks_is_overdue_in_the_end() {
        let start = Instant::now();
        let mut peer = peer(start);
        let before = start + KEYS_WITHIN - Duration::from_millis(1);
        peer.heard(addr(1), before);
        assert!(!peer.is_overdue(before));
        assert_eq!(peer.next_at(Duration::from_secs(15)), Some(start + KEYS_WITHIN));
        assert!(peer.is_overdue(start + KEYS_WITHIN));
    }

    #[test]
    fn the_oldest_address_is_forgotten_but_never_the_one_in_use() {
        let mut peer = peer(Instant::now());
        peer.move_to(addr(0));
        for port in 0..MAX_ADDRESSES as u16 {
            assert_eq!(peer.learn(addr(port)), None);
            assert_eq!(peer.learn(addr(port)), None, "a known one takes no room");
        }
        assert_eq!(peer.learn(addr(100)), Some(addr(1)));
        assert_eq!(peer.learn(addr(101)), Some(addr(2)));
    }
}
