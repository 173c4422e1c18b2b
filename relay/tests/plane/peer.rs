//! A bare WebRTC peer: one UDP socket, STUN checks, a real DTLS handshake, SRTP by `rtc-srtp`. It trusts the relay and
//! knows nothing of signalling.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rtc_crypto::{RTCCryptoProvider, providers::AwsLcRsProvider};
use rtc_dtls::{
    config::{ClientAuthType, ConfigBuilder, HandshakeConfig},
    crypto::Certificate,
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_shared::TransportProtocol;
use rtc_srtp::{config::Config as SrtpConfig, context::Context, protection_profile::ProtectionProfile};
use rtc_stun::{
    attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, Message, TransactionId},
    textattrs::TextAttribute,
};

/// What goes wrong with a peer goes wrong with whatever it is used for.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Longest wait for a peer to come up.
const SETUP_LIMIT: Duration = Duration::from_secs(10);
/// A peer that has heard nothing for this long looks after itself.
pub const SILENCE: Duration = Duration::from_millis(50);
/// The made-up addresses of the two sides of an association: each peer has an endpoint of its own.
const OURS: ([u8; 4], u16) = ([192, 0, 2, 2], 9);
const THEIRS: ([u8; 4], u16) = ([192, 0, 2, 1], 9);

/// What peers share: one certificate, one crypto provider.
pub struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    certificate: Certificate,
}

/// Which side of DTLS a peer is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

impl Identity {
    pub fn new() -> Result<Self> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let certificate = Certificate::generate_self_signed(vec!["peer".to_owned()], provider.crypto())?;
        Ok(Self { provider, certificate })
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Vec<u8> {
        let der = self.certificate.certificate[0].as_ref();
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref().to_vec()
    }

    fn config(&self, side: Side) -> Result<Arc<HandshakeConfig>> {
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&self.provider))
            .with_certificates(vec![self.certificate.clone()])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .build(side == Side::Client, None)?;
        Ok(Arc::new(config))
    }
}

/// What a connectivity check needs.
#[derive(Clone)]
pub struct Check {
    pub remote: SocketAddr,
    /// Theirs, a colon, ours.
    pub username: String,
    /// Theirs.
    pub password: String,
}

impl Check {
    pub fn send(&self, socket: &UdpSocket, identity: &Identity) -> Result<()> {
        let mut request = Message::new();
        let crypto = identity.provider.crypto();
        let attribute = |typ, value: &[u8]| {
            Box::new(RawAttribute { typ, length: value.len() as u16, value: value.to_vec() })
        };
        request.build(&[
            Box::new(TransactionId::new()),
            Box::new(BINDING_REQUEST),
            Box::new(TextAttribute::new(ATTR_USERNAME, self.username.clone())),
            attribute(ATTR_PRIORITY, &[0x6e, 0, 1, 0xff]),
            attribute(ATTR_ICE_CONTROLLING, &[1; 8]),
            attribute(ATTR_USE_CANDIDATE, &[]),
            Box::new(MessageIntegrity::new_short_term_integrity_with_provider(self.password.clone(), crypto)),
            Box::new(FINGERPRINT),
        ])?;
        socket.send(&request.raw)?;
        Ok(())
    }
}

/// A socket that hears the relay only: its port may have been another's a moment ago.
pub fn socket_to(relay: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(relay)?;
    socket.set_read_timeout(Some(SILENCE))?;
    Ok(socket)
}

/// Takes a datagram; `None` when nothing has come for [`SILENCE`], or none waits where nothing is waited for.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Result<Option<usize>> {
    loop {
        match socket.recv(buffer) {
            Ok(length) => return Ok(Some(length)),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}

/// A peer whose transport is up.
pub struct Peer {
    pub socket: UdpSocket,
    check: Check,
    identity: Arc<Identity>,
    /// Seals what it sends.
    pub seal: Context,
    /// Opens what it receives.
    pub open: Context,
    dtls: Endpoint,
}

impl Peer {
    /// Checks, shakes hands, and has keys.
    pub fn connect(identity: &Arc<Identity>, check: Check, side: Side) -> Result<Self> {
        let socket = socket_to(check.remote)?;
        let server = (side == Side::Server).then(|| identity.config(side)).transpose()?;
        let mut dtls = Endpoint::new(OURS.into(), TransportProtocol::UDP, server);
        let started = Instant::now();
        if side == Side::Client {
            dtls.connect(started, THEIRS.into(), identity.config(side)?, None)?;
        }
        check.send(&socket, identity)?;
        while started.elapsed() < SETUP_LIMIT {
            let complete = step(&mut dtls, &socket, &check, identity)?;
            while let Some(out) = dtls.poll_transmit() {
                socket.send(&out.message)?;
            }
            if complete {
                let (seal, open) = contexts(identity, &dtls, side)?;
                return Ok(Self { socket, check, identity: Arc::clone(identity), seal, open, dtls });
            }
        }
        Err(format!("no DTLS with {} within {SETUP_LIMIT:?}", check.remote).into())
    }

    /// Checks that the relay is there, as a peer does all the time (RFC 7675).
    pub fn check(&self) -> Result<()> {
        self.check.send(&self.socket, &self.identity)
    }

    /// Another address from now on.
    pub fn rebind(&mut self) -> Result<()> {
        self.socket = socket_to(self.check.remote)?;
        Ok(())
    }

    /// Whether a DTLS datagram says that the relay closed the association.
    pub fn is_close(&mut self, datagram: &[u8]) -> bool {
        let events = self.dtls.read(Instant::now(), THEIRS.into(), None, BytesMut::from(datagram));
        events.is_ok_and(|events| events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed)))
    }
}

/// Takes one datagram, or the lack of one; whether the handshake is complete.
fn step(dtls: &mut Endpoint, socket: &UdpSocket, check: &Check, identity: &Identity) -> Result<bool> {
    let mut buffer = [0; 2048];
    let received = receive(socket, &mut buffer)?;
    let now = Instant::now();
    match received {
        Some(len) if (20..=63).contains(&buffer[0]) => Ok(dtls
            .read(now, THEIRS.into(), None, BytesMut::from(&buffer[..len]))?
            .iter()
            .any(|event| matches!(event, EndpointEvent::HandshakeComplete))),
        Some(_) => Ok(false),
        None => {
            check.send(socket, identity)?;
            if dtls.poll_timeout(&THEIRS.into()).is_some_and(|at| at <= now) {
                dtls.handle_timeout(THEIRS.into(), now)?;
            }
            Ok(false)
        }
    }
}

fn contexts(identity: &Identity, dtls: &Endpoint, side: Side) -> Result<(Context, Context)> {
    let state = dtls.get_connection_state(THEIRS.into()).ok_or("the handshake left no state")?;
    let chosen = state.srtp_protection_profile();
    if chosen != SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm {
        return Err(format!("the relay chose {chosen:?}").into());
    }
    let profile = ProtectionProfile::AeadAes128Gcm;
    let mut config = SrtpConfig { profile, ..Default::default() };
    let material = state
        .export_keying_material("EXTRACTOR-dtls_srtp", &[], config.keying_material_len())
        .map_err(|e| e.to_string())?;
    config.set_session_keys_from_keying_material(material.as_ref(), side == Side::Client)?;
    let keys = &config.keys;
    let context =
        |key: &[u8], salt: &[u8]| Context::new(key, salt, profile, None, None, identity.provider.crypto());
    Ok((
        context(&keys.local_master_key, &keys.local_master_salt)?,
        context(&keys.remote_master_key, &keys.remote_master_salt)?,
    ))
}
