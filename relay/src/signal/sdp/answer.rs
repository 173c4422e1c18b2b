//! The answer, written by hand (RFC 8829 §5.3, RFC 8839, RFC 9143): ICE-lite, one bundle, one candidate.

use std::{fmt, fmt::Write as _, net::SocketAddr};

use super::{
    extension::extension_uri,
    format::Format,
    offer::{Content, Section},
};
use crate::plane::{DtlsRole, Extension, IceCredentials};

/// What is known of our side once the transport is open.
#[derive(Clone, Debug)]
pub struct LocalTransport<'a> {
    /// Our credentials.
    pub ice: &'a IceCredentials,
    /// Our one candidate.
    pub candidate: SocketAddr,
    /// SHA-256 of our certificate, `AB:CD:…`.
    pub fingerprint: &'a str,
}

/// Direction as we see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// From the client to us.
    RecvOnly,
    /// From us to the client.
    SendOnly,
    /// Nothing flows.
    Inactive,
}

/// A payload type of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerFormat {
    /// The offer's.
    pub payload_type: u8,
    /// `name/rate[/channels]`
    pub rtpmap: String,
    /// Without the payload type; empty for none.
    pub fmtp: String,
    /// Values of `a=rtcp-fb`.
    pub feedback: Vec<&'static str>,
}

/// The formats of a section: the codec and, where it was offered, its retransmissions.
pub fn formats(
    codec: &Format,
    rtx_payload_type: Option<u8>,
    fmtp: String,
    feedback: Vec<&'static str>,
) -> Vec<AnswerFormat> {
    let channels = if codec.channels > 1 { format!("/{}", codec.channels) } else { String::new() };
    let codec = AnswerFormat {
        payload_type: codec.payload_type,
        rtpmap: format!("{}/{}{channels}", codec.name, codec.clock_rate),
        fmtp,
        feedback,
    };
    let rtx = rtx_payload_type.map(|payload_type| AnswerFormat {
        payload_type,
        rtpmap: codec.rtpmap.split_once('/').map_or_else(String::new, |(_, rate)| format!("rtx/{rate}")),
        fmtp: format!("apt={}", codec.payload_type),
        feedback: Vec::new(),
    });
    std::iter::once(codec).chain(rtx).collect()
}

/// What we name our media in a play (RFC 5576, RFC 8830).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Our SSRC.
    pub ssrc: u32,
    /// Our SSRC of retransmissions, if negotiated.
    pub rtx_ssrc: Option<u32>,
    /// `audio` or `video`.
    pub track: &'static str,
}

/// A section that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerMedia {
    /// As we see it.
    pub flow: Flow,
    /// At least one.
    pub formats: Vec<AnswerFormat>,
    /// What both sides know.
    pub extensions: Vec<Extension>,
    /// For a play.
    pub source: Option<Source>,
}

#[derive(Clone, Debug)]
struct AnswerSection {
    media: String,
    protocol: String,
    formats: String,
    /// Empty where the offer has none.
    mid: String,
    rtcp_rsize: bool,
    taken: Option<AnswerMedia>,
}

/// An answer that lacks only our transport.
#[derive(Clone, Debug)]
pub struct Draft {
    sections: Vec<AnswerSection>,
    role: DtlsRole,
    bundle: bool,
    extmap_allow_mixed: bool,
}

/// Name of our media stream and canonical name: one per session, and sessions are told apart by their SSRCs.
const STREAM_NAME: &str = "waystation";

impl Draft {
    /// An answer with nothing in it yet.
    pub fn new(role: DtlsRole, bundle: bool, extmap_allow_mixed: bool) -> Self {
        Self { sections: Vec::new(), role, bundle, extmap_allow_mixed }
    }

    /// Answers the next section; `None` refuses it (port 0).
    pub fn push(&mut self, section: &Section, taken: Option<AnswerMedia>) {
        self.sections.push(AnswerSection {
            media: section.media.clone(),
            protocol: section.protocol.clone(),
            formats: section.formats.clone(),
            mid: section.mid.clone(),
            rtcp_rsize: matches!(&section.content, Content::Rtp(rtp) if rtp.rtcp_rsize),
            taken,
        });
    }

    /// The answer's text. `id` is any number; it names the session in the `o=` line.
    pub fn write(&self, local: &LocalTransport<'_>, id: u64) -> String {
        let mut out = String::with_capacity(2048);
        // Writing to a String does not fail.
        let _ = self.write_to(&mut out, local, id);
        out
    }

    fn write_to(&self, out: &mut String, local: &LocalTransport<'_>, id: u64) -> fmt::Result {
        // RFC 8829 §5.2.1: 63 bits.
        write!(out, "v=0\r\no=- {} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n", id >> 1)?;
        if self.bundle {
            out.push_str("a=group:BUNDLE");
            for section in self.sections.iter().filter(|section| section.taken.is_some()) {
                write!(out, " {}", section.mid)?;
            }
            out.push_str("\r\n");
        }
        if self.extmap_allow_mixed {
            out.push_str("a=extmap-allow-mixed\r\n");
        }
        out.push_str("a=msid-semantic: WMS *\r\n");
        for section in &self.sections {
            match &section.taken {
                Some(media) => self.write_media(out, section, media, local)?,
                None => write!(
                    out,
                    "m={} 0 {} {}\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\n{}",
                    section.media,
                    section.protocol,
                    section.formats,
                    mid_line(&section.mid)
                )?,
            }
        }
        Ok(())
    }

    fn write_media(
        &self,
        out: &mut String,
        section: &AnswerSection,
        media: &AnswerMedia,
        local: &LocalTransport<'_>,
    ) -> fmt::Result {
        let (address, port) = (local.candidate.ip(), local.candidate.port());
        let family = if address.is_ipv4() { "IP4" } else { "IP6" };
        write!(out, "m={} {port} {}", section.media, section.protocol)?;
        for format in &media.formats {
            write!(out, " {}", format.payload_type)?;
        }
        write!(out, "\r\nc=IN {family} {address}\r\n")?;
        out.push_str(&candidate_lines(local.candidate));
        write!(out, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", local.ice.local_ufrag, local.ice.local_pwd)?;
        write!(out, "a=fingerprint:sha-256 {}\r\n", local.fingerprint)?;
        let setup = match self.role {
            DtlsRole::Client => "active",
            DtlsRole::Server => "passive",
        };
        write!(out, "a=setup:{setup}\r\n{}", mid_line(&section.mid))?;
        for extension in &media.extensions {
            write!(out, "a=extmap:{} {}\r\n", extension.id, extension_uri(extension.kind))?;
        }
        out.push_str(match media.flow {
            Flow::RecvOnly => "a=recvonly\r\n",
            Flow::SendOnly => "a=sendonly\r\n",
            Flow::Inactive => "a=inactive\r\n",
        });
        out.push_str("a=rtcp-mux\r\n");
        if section.rtcp_rsize {
            out.push_str("a=rtcp-rsize\r\n");
        }
        for format in &media.formats {
            write!(out, "a=rtpmap:{} {}\r\n", format.payload_type, format.rtpmap)?;
            for feedback in &format.feedback {
                write!(out, "a=rtcp-fb:{} {feedback}\r\n", format.payload_type)?;
            }
            if !format.fmtp.is_empty() {
                write!(out, "a=fmtp:{} {}\r\n", format.payload_type, format.fmtp)?;
            }
        }
        media.source.as_ref().map_or(Ok(()), |source| write_source(out, source))
    }
}

fn mid_line(mid: &str) -> String {
    if mid.is_empty() { String::new() } else { format!("a=mid:{mid}\r\n") }
}

/// Our one candidate (RFC 8839 §5.1), and that there are no more (RFC 8838 §8.2).
pub fn candidate_lines(candidate: SocketAddr) -> String {
    let (address, port) = (candidate.ip(), candidate.port());
    format!("a=candidate:1 1 udp 2130706431 {address} {port} typ host\r\na=end-of-candidates\r\n")
}

fn write_source(out: &mut String, source: &Source) -> fmt::Result {
    let Source { ssrc, rtx_ssrc, track } = source;
    write!(out, "a=msid:{STREAM_NAME} {track}\r\n")?;
    if let Some(rtx) = rtx_ssrc {
        write!(out, "a=ssrc-group:FID {ssrc} {rtx}\r\n")?;
    }
    for ssrc in std::iter::once(ssrc).chain(rtx_ssrc) {
        write!(out, "a=ssrc:{ssrc} cname:{STREAM_NAME}\r\na=ssrc:{ssrc} msid:{STREAM_NAME} {track}\r\n")?;
    }
    Ok(())
}
