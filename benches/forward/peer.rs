//! Peers of the load: set up by WHIP and WHEP, then as bare as they come.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Result, anyhow, bail};

use crate::bare::{Check, Identity, Peer, Side};

/// Receive buffer asked of the system, in bytes.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// ICE password of every peer of the load.
const PASSWORD: &str = "a-password-of-the-load-alone";
/// Payload type of the VP8 video that the load sends.
pub const PAYLOAD_TYPE: u8 = 96;

/// What a peer does.
#[derive(Clone, Copy)]
pub enum Role {
    Publish { ssrc: u32 },
    Play,
}

/// Sets a session up by WHIP or WHEP and waits for its keys.
pub fn open(
    identity: &Arc<Identity>,
    http: &reqwest::blocking::Client,
    url: &str,
    token: &str,
    role: Role,
) -> Result<Peer> {
    let request = http.post(url).header("content-type", "application/sdp");
    let request = request.header("authorization", format!("Bearer {token}"));
    let response = request.body(offer(identity, role)).send()?;
    let status = response.status();
    let answer = response.text()?;
    if !status.is_success() {
        bail!("{url}: {status}: {answer}");
    }
    let side = if answer.contains("a=setup:active") { Side::Server } else { Side::Client };
    let peer = Peer::connect(identity, check(&answer)?, side).map_err(|e| anyhow!(e))?;
    socket2::SockRef::from(&peer.socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    peer.socket.set_read_timeout(None)?;
    peer.socket.set_nonblocking(true)?;
    Ok(peer)
}

fn offer(identity: &Identity, role: Role) -> String {
    let (direction, ssrc) = match role {
        Role::Publish { ssrc } => ("sendonly", format!("a=msid:load video\r\na=ssrc:{ssrc} cname:load\r\n")),
        Role::Play => ("recvonly", String::new()),
    };
    let fingerprint: Vec<String> = identity.fingerprint().iter().map(|byte| format!("{byte:02X}")).collect();
    let pt = PAYLOAD_TYPE;
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=msid-semantic: WMS *\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF {pt}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:load\r\n\
         a=ice-pwd:{PASSWORD}\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:0\r\na={direction}\r\n\
         a=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:{pt} VP8/90000\r\na=rtcp-fb:{pt} nack\r\na=rtcp-fb:{pt} nack pli\r\n{ssrc}",
        fingerprint.join(":")
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
