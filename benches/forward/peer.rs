//! A bare WebRTC peer for load: one UDP socket, STUN checks, a real DTLS handshake and SRTP by `rtc-srtp`.
//!
//! It trusts the relay and knows nothing of walks: it is the cheapest thing that a relay takes for a client.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
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

/// Longest wait for a peer to come up.
const SETUP_LIMIT: Duration = Duration::from_secs(10);
/// Receive buffer asked of the system, in bytes.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// ICE password of every peer of the load.
const PASSWORD: &str = "a-password-of-the-load-alone";

/// What all peers of a load share: one certificate, one crypto provider.
pub struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    server: Arc<HandshakeConfig>,
    fingerprint: String,
}

impl Identity {
    pub fn new() -> Result<Self> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let certificate = Certificate::generate_self_signed(vec!["load".to_owned()], provider.crypto())?;
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.certificate[0].as_ref());
        let fingerprint = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":");
        let server = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&provider))
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .build(false, None)?;
        Ok(Self { provider, server: Arc::new(server), fingerprint })
    }
}

/// What a peer does.
#[derive(Clone, Copy)]
pub enum Role {
    Publish { ssrc: u32 },
    Play,
}

/// Payload type of the VP8 video that the load sends.
pub const PAYLOAD_TYPE: u8 = 96;

/// A peer whose transport is up.
pub struct Peer {
    pub socket: UdpSocket,
    pub srtp: Context,
    check: Check,
}

/// What a connectivity check needs.
struct Check {
    remote: SocketAddr,
    username: String,
    password: String,
}

impl Check {
    fn send(&self, socket: &UdpSocket, identity: &Identity) -> Result<()> {
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
        socket.send_to(&request.raw, self.remote)?;
        Ok(())
    }
}

impl Peer {
    /// Sets a session up by WHIP or WHEP and waits for its keys.
    pub fn open(
        identity: &Identity,
        http: &reqwest::blocking::Client,
        url: &str,
        token: &str,
        role: Role,
    ) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let socket = {
            let socket = socket2::Socket::from(socket);
            socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
            UdpSocket::from(socket)
        };
        let response = http
            .post(url)
            .header("content-type", "application/sdp")
            .header("authorization", format!("Bearer {token}"))
            .body(offer(identity, role))
            .send()?;
        let status = response.status();
        let answer = response.text()?;
        if !status.is_success() {
            bail!("{url}: {status}: {answer}");
        }
        let check = check(&answer)?;
        let srtp = handshake(identity, &socket, &check, role)
            .with_context(|| format!("no DTLS with {}", check.remote))?;
        socket.set_read_timeout(None)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, srtp, check })
    }

    /// Says that the peer lives. Without it the relay ends the session after its time-out.
    pub fn keep_alive(&self, identity: &Identity) -> Result<()> {
        self.check.send(&self.socket, identity)
    }

    /// Sends a sealed packet to the relay.
    pub fn send(&self, sealed: &[u8]) -> Result<()> {
        self.socket.send_to(sealed, self.check.remote)?;
        Ok(())
    }
}

fn offer(identity: &Identity, role: Role) -> String {
    let (direction, ssrc) = match role {
        Role::Publish { ssrc } => ("sendonly", format!("a=msid:load video\r\na=ssrc:{ssrc} cname:load\r\n")),
        Role::Play => ("recvonly", String::new()),
    };
    let pt = PAYLOAD_TYPE;
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=msid-semantic: WMS *\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF {pt}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:load\r\n\
         a=ice-pwd:{PASSWORD}\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:0\r\na={direction}\r\n\
         a=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:{pt} VP8/90000\r\na=rtcp-fb:{pt} nack\r\na=rtcp-fb:{pt} nack pli\r\n{ssrc}",
        identity.fingerprint
    )
}

fn check(answer: &str) -> Result<Check> {
    let value = |name: &str| {
        answer
            .lines()
            .find_map(|line| line.trim_end().strip_prefix(name))
            .ok_or_else(|| anyhow!("the answer has no {name}"))
    };
    let candidate: Vec<&str> = value("a=candidate:")?.split(' ').collect();
    let (Some(ip), Some(port)) = (candidate.get(4), candidate.get(5)) else {
        bail!("candidate {candidate:?} is short")
    };
    Ok(Check {
        remote: SocketAddr::new(ip.parse()?, port.parse()?),
        username: format!("{}:load", value("a=ice-ufrag:")?),
        password: value("a=ice-pwd:")?.to_owned(),
    })
}

fn handshake(identity: &Identity, socket: &UdpSocket, check: &Check, role: Role) -> Result<Context> {
    // The endpoint is keyed by address; a constant one serves, since each peer has an endpoint of its own.
    let peer = SocketAddr::from(([192, 0, 2, 1], 9));
    let local = SocketAddr::from(([192, 0, 2, 2], 9));
    let mut dtls = Endpoint::new(local, TransportProtocol::UDP, Some(Arc::clone(&identity.server)));
    let started = Instant::now();
    let mut buffer = [0; 2048];
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    check.send(socket, identity)?;
    while started.elapsed() < SETUP_LIMIT {
        let now = Instant::now();
        let complete = match socket.recv_from(&mut buffer) {
            Ok((len, _)) if (20..=63).contains(&buffer[0]) => dtls
                .read(now, peer, None, BytesMut::from(&buffer[..len]))?
                .iter()
                .any(|event| matches!(event, EndpointEvent::HandshakeComplete)),
            Ok(_) => false,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                check.send(socket, identity)?;
                if dtls.poll_timeout(&peer).is_some_and(|at| at <= now) {
                    dtls.handle_timeout(peer, now)?;
                }
                false
            }
            Err(e) => return Err(e.into()),
        };
        while let Some(out) = dtls.poll_transmit() {
            socket.send_to(&out.message, check.remote)?;
        }
        if complete {
            return context(identity, &dtls, peer, role);
        }
    }
    bail!("not up within {SETUP_LIMIT:?}")
}

/// The one direction that a peer of the load uses: a publisher seals, a player opens.
fn context(identity: &Identity, dtls: &Endpoint, peer: SocketAddr, role: Role) -> Result<Context> {
    let state = dtls.get_connection_state(peer).context("the handshake left no state")?;
    if state.srtp_protection_profile() != SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm {
        bail!("the relay chose {:?}", state.srtp_protection_profile());
    }
    let profile = ProtectionProfile::AeadAes128Gcm;
    let mut config = SrtpConfig { profile, ..Default::default() };
    let material = state
        .export_keying_material("EXTRACTOR-dtls_srtp", &[], config.keying_material_len())
        .map_err(|e| anyhow!("no keying material: {e}"))?;
    config.set_session_keys_from_keying_material(material.as_ref(), false)?;
    let keys = &config.keys;
    let (key, salt) = match role {
        Role::Publish { .. } => (&keys.local_master_key, &keys.local_master_salt),
        Role::Play => (&keys.remote_master_key, &keys.remote_master_salt),
    };
    Ok(Context::new(key, salt, profile, None, None, identity.provider.crypto())?)
}
