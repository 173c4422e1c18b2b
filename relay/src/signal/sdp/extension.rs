//! Header extensions by their URIs (RFC 8285 §5).

use crate::plane::ExtensionKind;

const EXTENSION_URIS: [(&str, ExtensionKind); 10] = [
    ("urn:ietf:params:rtp-hdrext:sdes:mid", ExtensionKind::Mid),
    ("urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", ExtensionKind::Rid),
    ("urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id", ExtensionKind::RepairedRid),
    ("http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", ExtensionKind::TransportCc),
    ("http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", ExtensionKind::AbsSendTime),
    ("http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time", ExtensionKind::AbsCaptureTime),
    ("urn:ietf:params:rtp-hdrext:ssrc-audio-level", ExtensionKind::AudioLevel),
    ("urn:3gpp:video-orientation", ExtensionKind::VideoOrientation),
    (
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
        ExtensionKind::DependencyDescriptor,
    ),
    ("http://www.webrtc.org/experiments/rtp-hdrext/playout-delay", ExtensionKind::PlayoutDelay),
];

/// The extension that a URI names, if we know it.
pub fn extension_kind(uri: &str) -> Option<ExtensionKind> {
    EXTENSION_URIS.iter().find(|(known, _)| *known == uri).map(|&(_, kind)| kind)
}

/// The URI of an extension.
pub fn extension_uri(kind: ExtensionKind) -> &'static str {
    EXTENSION_URIS.iter().find(|(_, known)| *known == kind).map_or("", |&(uri, _)| uri)
}
