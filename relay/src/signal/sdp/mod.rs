//! SDP offer and answer (RFC 8829, RFC 8866) as far as WHIP and WHEP need it: pure.
//!
//! [`Offer::parse`] is the one way in: whatever passed it is bounded and checked. [`negotiate_publish`] and
//! [`negotiate_play`] decide; [`Draft::write`] puts the decision into words once the transport is known.

mod answer;
mod codec;
mod extension;
mod format;
mod fragment;
mod offer;
mod play;
mod publish;
#[cfg(test)]
mod tests;

pub use answer::{Draft, LocalTransport};
pub use fragment::{Fragment, FragmentError, MAX_FRAGMENT_BYTES};
pub use offer::{MAX_SDP_BYTES, Offer, OfferError, Setup};
pub use play::negotiate_play;
pub use publish::{PublishPolicy, negotiate_publish};

use thiserror::Error;

use self::{
    answer::AnswerMedia,
    offer::{Content, Rtp, Section},
};
use crate::plane::{DtlsRole, Fingerprint, Kind};

/// What both sides will do, once the transport is open.
#[derive(Debug)]
pub struct Negotiated<Track> {
    /// What flows.
    pub tracks: Vec<Track>,
    /// The peer's ICE ufrag, of the media section that carries the bundle.
    pub remote_ufrag: String,
    /// Of the peer's certificate.
    pub fingerprint: Fingerprint,
    /// Our side of DTLS.
    pub role: DtlsRole,
    /// The answer, but for our transport.
    pub draft: Draft,
}

/// Why an offer that can be read is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NegotiateError {
    /// RFC 9725 §4.2: not to be answered by rejecting single media sections.
    #[error(
        "the offer sends {count} {kind:?} tracks; a stream has at most one, send the others as further streams"
    )]
    TooManyTracks {
        /// Of which kind.
        kind: Kind,
        /// How many were offered.
        count: usize,
    },
    /// A WHIP offer that sends nothing, or a WHEP offer that receives nothing.
    #[error("the offer {0} neither audio nor video; add a track")]
    NoTracks(&'static str),
    /// No codec in common.
    #[error("no codec in common for {kind:?}: {wanted} is needed")]
    NoCodec {
        /// For which track.
        kind: Kind,
        /// What would do.
        wanted: String,
    },
    /// RFC 9725 §4.4.1: all media share one transport.
    #[error(
        "media section {mid:?} is not in the offer's BUNDLE group; all media share one transport here, so bundle it"
    )]
    NotBundled {
        /// The section.
        mid: String,
    },
    /// RFC 9725 §4.4.1 again.
    #[error("media section {mid:?} does not offer rtcp-mux, which is needed")]
    NoRtcpMux {
        /// The section.
        mid: String,
    },
    /// The bundle's section has no ICE ufrag or no fingerprint that we know.
    #[error("media section {mid:?} lacks {what}, which is needed to reach the peer")]
    NoTransport {
        /// The section.
        mid: String,
        /// What is missing.
        what: &'static str,
    },
}

/// Picks our side of DTLS (RFC 8842 §5): the offer's word, or `preferred` where it leaves the choice.
fn dtls_role(setup: Setup, preferred: DtlsRole) -> DtlsRole {
    match setup {
        Setup::Active => DtlsRole::Server,
        Setup::Passive => DtlsRole::Client,
        Setup::ActPass => preferred,
    }
}

/// Puts the answer together: `taken` holds, section by section, what we take. All of it shares the transport of the
/// first section taken (RFC 9143 §7.3.1), whose ICE and DTLS lines count.
fn conclude<Track>(
    offer: &Offer,
    taken: Vec<Option<AnswerMedia>>,
    tracks: Vec<Track>,
    preferred: DtlsRole,
) -> Result<Negotiated<Track>, NegotiateError> {
    let sections = || offer.sections.iter().zip(&taken).filter(|(_, taken)| taken.is_some()).map(|(s, _)| s);
    let count = sections().count();
    for section in sections() {
        if count > 1 && !section.bundled {
            return Err(NegotiateError::NotBundled { mid: section.mid.clone() });
        }
        if let Content::Rtp(Rtp { rtcp_mux: false, .. }) = section.content {
            return Err(NegotiateError::NoRtcpMux { mid: section.mid.clone() });
        }
    }
    let carrier = sections().next().ok_or(NegotiateError::NoTracks("has"))?;
    let lacks = |what| NegotiateError::NoTransport { mid: carrier.mid.clone(), what };
    let remote_ufrag = carrier.ufrag.clone().ok_or_else(|| lacks("a=ice-ufrag"))?;
    let fingerprint =
        carrier.fingerprint.ok_or_else(|| lacks("a=fingerprint with sha-256, sha-384 or sha-512"))?;
    let role = dtls_role(carrier.setup, preferred);
    let mut draft = Draft::new(role, carrier.bundled, offer.extmap_allow_mixed);
    for (section, taken) in offer.sections.iter().zip(taken) {
        draft.push(section, taken);
    }
    Ok(Negotiated { tracks, remote_ufrag, fingerprint, role, draft })
}

/// What an unused section is answered with: inactive where it can share the transport, so that the client keeps it,
/// or nothing, which refuses it.
fn idle(section: &Section, rtp: &Rtp) -> Option<AnswerMedia> {
    let format = codec::preferred_format(&rtp.formats)?;
    (section.bundled && rtp.rtcp_mux).then(|| AnswerMedia {
        flow: answer::Flow::Inactive,
        formats: answer::formats(format, None, format.fmtp.clone(), Vec::new()),
        extensions: Vec::new(),
        source: None,
    })
}
