//! DTLS-SRTP (RFC 5764): one association per transport, on `rtc-dtls`, the only door to that crate.
//!
//! A transport's address may change, an association's may not: each has a made-up one of its own. Whoever calls
//! [`Association::read`] has checked before that the datagram comes from an address that passed a STUN check.

mod hello;
mod provider;
mod repeat;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::{
    config::{ClientAuthType, ConfigBuilder, HandshakeConfig},
    crypto::Certificate,
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_shared::TransportProtocol;

use self::{
    hello::{Hello, HelloReader},
    provider::Provider,
    repeat::Heard,
};
use super::srtp::{Profile, SessionKeys};
use crate::plane::{DtlsRole, Fingerprint};

/// Exporter label (RFC 5764 §4.2).
const EXPORTER: &str = "EXTRACTOR-dtls_srtp";
/// First retransmission of a flight; it doubles from there (RFC 6347 §4.2.4.1).
const FLIGHT_INTERVAL: Duration = Duration::from_millis(100);
/// Retransmissions of one flight; the library has as many.
const MOST_REPEATS: u32 = 7;
/// Best first.
const PROFILES: [Profile; 3] = [Profile::Aes128Gcm, Profile::Aes256Gcm, Profile::Aes128CmSha1];

/// Our certificate and configurations, shared by all transports.
pub struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    clients: Clients,
    /// One per profile of [`PROFILES`]: a server takes the client's first choice, so it must know one profile only.
    servers: [Arc<HandshakeConfig>; 3],
    fingerprint: String,
}

/// What a client offers: the server chooses from it.
struct Clients {
    all: Arc<HandshakeConfig>,
    aes_128_gcm: Arc<HandshakeConfig>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Identity {
    /// A fresh self-signed certificate.
    ///
    /// # Errors
    /// What the library says.
    pub fn generate() -> Result<Self, String> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(Provider::new());
        let certificate = Certificate::generate_self_signed(vec!["waystation".to_owned()], provider.crypto())
            .map_err(|e| e.to_string())?;
        let der = certificate.certificate.first().ok_or("the library made an empty certificate")?;
        let fingerprint = text(&sha256(der.as_ref()));
        let config = |profiles: Vec<SrtpProtectionProfile>, is_client: bool| {
            ConfigBuilder::default()
                .with_crypto_provider(Arc::clone(&provider))
                .with_certificates(vec![certificate.clone()])
                .with_srtp_protection_profiles(profiles)
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                // The certificate's fingerprint is compared with the SDP's instead (RFC 8122).
                .with_insecure_skip_verify(true)
                .with_flight_interval(FLIGHT_INTERVAL)
                .build(is_client, None)
                .map(Arc::new)
                .map_err(|e| e.to_string())
        };
        let server = |profile| config(vec![wire(profile)], false);
        let [a, b, c] = PROFILES;
        Ok(Self {
            clients: Clients {
                all: config(PROFILES.map(wire).to_vec(), true)?,
                aes_128_gcm: config(vec![wire(Profile::Aes128Gcm)], true)?,
            },
            servers: [server(a)?, server(b)?, server(c)?],
            fingerprint,
            provider,
        })
    }

    /// SHA-256 of the certificate, `AB:CD:…`.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The cryptography that SRTP and STUN use.
    #[must_use]
    pub fn provider(&self) -> &dyn RTCCryptoProvider {
        &*self.provider
    }
}

/// What an association offers as DTLS client. As server it takes the best that it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// To whom we know nothing about: every profile.
    All,
    /// To our SDKs, all of which have it: nothing else, since Chromium takes AES_CM where it may choose, and GCM with the
    /// longer key where that is left.
    Aes128Gcm,
}

/// An association with one peer.
pub struct Association {
    phase: Phase,
    endpoint: Endpoint,
    peer_fingerprint: Fingerprint,
    /// How often the flight that is out was sent again.
    repeats: u32,
}

enum Phase {
    /// We are the client, and the peer's address is not known yet.
    Unstarted(Offered),
    /// We are the server, and the hello is not whole yet.
    AwaitingHello(HelloReader),
    /// The handshake runs.
    Running { we_are_client: bool, heard: Heard },
    /// It is done.
    Done,
}

/// What a step of an association led to.
#[derive(Debug)]
pub enum Progress {
    /// Nothing that matters outside.
    None,
    /// The handshake is done, and the peer is who its SDP said: keys of our direction and of its.
    Up(SessionKeys, SessionKeys),
    /// The peer closed the association.
    Closed,
    /// The peer's certificate is not the one that its SDP named.
    WrongFingerprint,
    /// The handshake cannot come to an end.
    Failed(String),
}

/// The made-up addresses of an association's two sides (RFC 5737).
const OUR_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 9);
const PEER_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)), 9);

impl Association {
    /// An association that waits for the peer's address (client) or hello (server).
    #[must_use]
    pub fn new(role: DtlsRole, offered: Offered, peer_fingerprint: Fingerprint) -> Self {
        let phase = match role {
            DtlsRole::Client => Phase::Unstarted(offered),
            DtlsRole::Server => Phase::AwaitingHello(HelloReader::default()),
        };
        let endpoint = Endpoint::new(OUR_ADDR, TransportProtocol::UDP, None);
        Self { phase, endpoint, peer_fingerprint, repeats: 0 }
    }

    /// The peer passed a STUN check: a client sends its hello, once.
    pub fn reachable(&mut self, identity: &Identity, now: Instant) -> Progress {
        match self.phase {
            Phase::Unstarted(offered) => {
                self.phase = Phase::Running { we_are_client: true, heard: Heard::default() };
                let config = match offered {
                    Offered::All => &identity.clients.all,
                    Offered::Aes128Gcm => &identity.clients.aes_128_gcm,
                };
                match self.endpoint.connect(now, PEER_ADDR, Arc::clone(config), None) {
                    Ok(()) => Progress::None,
                    Err(error) => Progress::Failed(error.to_string()),
                }
            }
            Phase::AwaitingHello(_) | Phase::Running { .. } | Phase::Done => Progress::None,
        }
    }

    /// Takes a datagram of the peer. A record that is broken or forged changes nothing (RFC 6347 §4.1.2.7).
    pub fn read(&mut self, identity: &Identity, datagram: &[u8], now: Instant) -> Progress {
        match &mut self.phase {
            Phase::Unstarted(_) => Progress::None,
            Phase::AwaitingHello(reader) => match reader.read(datagram) {
                Hello::Partial => Progress::None,
                Hello::Whole { profiles, datagrams } => self.accept(identity, &profiles, &datagrams, now),
            },
            Phase::Running { .. } | Phase::Done => self.feed(datagram, now),
        }
    }

    fn accept(&mut self, identity: &Identity, offered: &[u16], held: &[Vec<u8>], now: Instant) -> Progress {
        let best = PROFILES.iter().position(|&profile| offered.contains(&(wire(profile) as u16)));
        let Some(best) = best else {
            return Progress::Failed(format!("the peer offers no SRTP profile of ours, but {offered:04x?}"));
        };
        self.endpoint.set_server_config(Some(Arc::clone(&identity.servers[best])));
        self.phase = Phase::Running { we_are_client: false, heard: Heard::default() };
        let mut progress = Progress::None;
        for datagram in held {
            match self.feed(datagram, now) {
                Progress::None => {}
                other @ (Progress::Up(..)
                | Progress::Closed
                | Progress::WrongFingerprint
                | Progress::Failed(_)) => {
                    progress = other;
                }
            }
        }
        progress
    }

    fn feed(&mut self, datagram: &[u8], now: Instant) -> Progress {
        if let Phase::Running { heard, .. } = &mut self.phase
            && heard.is_repeat(datagram)
        {
            return Progress::None;
        }
        let flight = self.endpoint.poll_timeout(&PEER_ADDR);
        let events = match self.endpoint.read(now, PEER_ADDR, None, BytesMut::from(datagram)) {
            Ok(events) => events,
            Err(error) => {
                tracing::debug!(%error, "a DTLS record was not taken");
                return Progress::None;
            }
        };
        if self.endpoint.poll_timeout(&PEER_ADDR) != flight {
            self.repeats = 0;
        }
        let mut progress = Progress::None;
        for event in events {
            // Application data is not asked about: no data channel is offered.
            if matches!(event, EndpointEvent::HandshakeComplete) {
                progress = self.complete();
                self.phase = Phase::Done;
            } else if matches!(event, EndpointEvent::PeerClosed) {
                progress = Progress::Closed;
            }
        }
        progress
    }

    fn complete(&self) -> Progress {
        let Phase::Running { we_are_client, .. } = self.phase else { return Progress::None };
        let Some(state) = self.endpoint.get_connection_state(PEER_ADDR) else {
            return Progress::Failed("the handshake left no state".to_owned());
        };
        let certificate = state.peer_certificates.first();
        if !certificate.is_some_and(|der| names(&self.peer_fingerprint, der)) {
            return Progress::WrongFingerprint;
        }
        let chosen = state.srtp_protection_profile();
        let Some(profile) = PROFILES.into_iter().find(|&profile| wire(profile) == chosen) else {
            return Progress::Failed(format!("the handshake ended with SRTP profile {chosen:?}"));
        };
        let bytes = 2 * (profile.key_bytes() + profile.salt_bytes());
        let keys = state.export_keying_material(EXPORTER, &[], bytes).map_err(|e| e.to_string()).and_then(
            |material| {
                SessionKeys::split(profile, material.as_ref(), we_are_client).map_err(|e| e.to_string())
            },
        );
        match keys {
            Ok((ours, theirs)) => Progress::Up(ours, theirs),
            Err(error) => Progress::Failed(error),
        }
    }

    /// The next datagram for the peer.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message)
    }

    /// When [`Association::handle_timeout`] is due. The library's interval does not grow: it would give up after 800 ms.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = self.endpoint.poll_timeout(&PEER_ADDR)?;
        Some(first + FLIGHT_INTERVAL * ((1 << self.repeats) - 1))
    }

    /// Sends the last flight again, if that is due.
    pub fn handle_timeout(&mut self, now: Instant) -> Progress {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return Progress::None;
        }
        self.repeats = MOST_REPEATS.min(self.repeats + 1);
        match self.endpoint.handle_timeout(PEER_ADDR, now) {
            Ok(()) => Progress::None,
            Err(error) => Progress::Failed(error.to_string()),
        }
    }

    /// Queues a close_notify.
    pub fn close(&mut self, now: Instant) {
        let _ = self.endpoint.stop(now, PEER_ADDR);
    }
}

fn wire(profile: Profile) -> SrtpProtectionProfile {
    match profile {
        Profile::Aes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        Profile::Aes256Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
        Profile::Aes128CmSha1 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    }
}

/// Whether a fingerprint is that of a certificate.
fn names(fingerprint: &Fingerprint, certificate: &[u8]) -> bool {
    let (algorithm, value): (_, &[u8]) = match fingerprint {
        Fingerprint::Sha256(value) => (&SHA256, value),
        Fingerprint::Sha384(value) => (&SHA384, value),
        Fingerprint::Sha512(value) => (&SHA512, value),
    };
    digest(algorithm, certificate).as_ref() == value
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

fn text(fingerprint: &[u8; 32]) -> String {
    fingerprint.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod openssl_tests;
#[cfg(test)]
mod tests;
