//! Offers as real clients write them, negotiated; and offers that nobody should write.

use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

use super::{
    Draft, Fragment, FragmentError, LocalTransport, MAX_SDP_BYTES, NegotiateError, Negotiated, Offer,
    OfferError, PublishPolicy, negotiate_play, negotiate_publish,
};
use crate::{
    control::TrackInfo,
    plane::{
        Codec, CodecSpec, CongestionFeedback, DtlsRole, EgressTrack, Extension, ExtensionKind, Fingerprint,
        IceCredentials, IngressTrack, Kind,
    },
};

const AIORTC_PLAY: &str = include_str!("offers/aiortc_play.sdp");
const AIORTC_PUBLISH: &str = include_str!("offers/aiortc_publish.sdp");
const CHROMIUM_PLAY: &str = include_str!("offers/chromium_play.sdp");
const CHROMIUM_PUBLISH: &str = include_str!("offers/chromium_publish.sdp");
const CHROMIUM_SIMULCAST: &str = include_str!("offers/chromium_simulcast.sdp");
const FFMPEG_PUBLISH: &str = include_str!("offers/ffmpeg_publish.sdp");
const FIREFOX_PLAY: &str = include_str!("offers/firefox_play.sdp");
const FIREFOX_PUBLISH: &str = include_str!("offers/firefox_publish.sdp");
const GSTREAMER_PUBLISH: &str = include_str!("offers/gstreamer_publish.sdp");
const OBS_PUBLISH: &str = include_str!("offers/obs_publish.sdp");
const WEBRTC_RS_PLAY: &str = include_str!("offers/webrtc_rs_play.sdp");
const WEBRTC_RS_PUBLISH: &str = include_str!("offers/webrtc_rs_publish.sdp");
const PUBLISHES: [&str; 7] = [
    AIORTC_PUBLISH,
    CHROMIUM_PUBLISH,
    FFMPEG_PUBLISH,
    FIREFOX_PUBLISH,
    GSTREAMER_PUBLISH,
    OBS_PUBLISH,
    WEBRTC_RS_PUBLISH,
];
const PLAYS: [&str; 4] = [AIORTC_PLAY, CHROMIUM_PLAY, FIREFOX_PLAY, WEBRTC_RS_PLAY];
const POLICY: PublishPolicy = PublishPolicy { role: DtlsRole::Client, start_kbit_per_second: 1000 };

fn parse(text: &str) -> Offer {
    Offer::parse(text.replace('\n', "\r\n").as_bytes()).unwrap()
}

fn publish(text: &str) -> Negotiated<IngressTrack> {
    negotiate_publish(&parse(text), POLICY).unwrap()
}

fn play(text: &str, stream: &[TrackInfo]) -> Result<Negotiated<EgressTrack>, NegotiateError> {
    negotiate_play(&parse(text), stream, DtlsRole::Client, &mut SmallRng::seed_from_u64(1))
}

fn track(kind: Kind, codec: Codec, fmtp: &str) -> TrackInfo {
    let (clock_rate, channels) = match kind {
        Kind::Audio => (48_000, 2),
        Kind::Video => (90_000, 0),
    };
    TrackInfo {
        kind,
        codec: CodecSpec { codec, clock_rate, channels, fmtp: fmtp.into() },
        extensions: Vec::new(),
    }
}

fn vp8_and_opus() -> [TrackInfo; 2] {
    [track(Kind::Audio, Codec::Opus, ""), track(Kind::Video, Codec::Vp8, "")]
}

fn write(draft: &Draft) -> String {
    let ice = IceCredentials {
        local_ufrag: "w0abcd".into(),
        local_pwd: "0123456789abcdef01234567".into(),
        remote_ufrag: "x".into(),
    };
    let local =
        LocalTransport { ice: &ice, candidate: "127.0.0.1:7000".parse().unwrap(), fingerprint: "AB:CD" };
    draft.write(&local, 7)
}

fn kinds(extensions: &[Extension]) -> Vec<ExtensionKind> {
    extensions.iter().map(|extension| extension.kind).collect()
}

#[test]
fn chromium_publishes_vp8_and_opus_with_rtx_and_transport_wide_feedback() {
    let negotiated = publish(CHROMIUM_PUBLISH);
    assert_eq!(negotiated.remote_ufrag, "Yj7c");
    assert!(matches!(negotiated.fingerprint, Fingerprint::Sha256([0x5a, 0x1b, 0x2c, ..])));
    assert_eq!(negotiated.role, DtlsRole::Client);
    let [audio, video] = &negotiated.tracks[..] else { panic!("{:?}", negotiated.tracks) };
    assert_eq!((audio.codec.codec, audio.codec.channels, audio.payload_type), (Codec::Opus, 2, 111));
    assert_eq!((audio.ssrc, audio.rtx_ssrc, audio.nack), (Some(1001), None, false));
    assert_eq!((video.codec.codec, video.codec.channels, video.payload_type), (Codec::Vp8, 0, 96));
    assert_eq!((video.rtx_payload_type, video.ssrc, video.rtx_ssrc), (Some(97), Some(2001), Some(2002)));
    assert_eq!((video.nack, video.pli, video.feedback), (true, true, CongestionFeedback::TransportCc));
    let expected = [
        ExtensionKind::VideoOrientation,
        ExtensionKind::TransportCc,
        ExtensionKind::PlayoutDelay,
        ExtensionKind::Mid,
    ];
    assert_eq!(kinds(&video.extensions), expected);
}

#[test]
fn the_answer_to_a_chromium_publish_is_the_one_reviewed_here() {
    let expected = "\
v=0
o=- 3 1 IN IP4 127.0.0.1
s=-
t=0 0
a=ice-lite
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS *
m=audio 7000 UDP/TLS/RTP/SAVPF 111
c=IN IP4 127.0.0.1
a=candidate:1 1 udp 2130706431 127.0.0.1 7000 typ host
a=end-of-candidates
a=ice-ufrag:w0abcd
a=ice-pwd:0123456789abcdef01234567
a=fingerprint:sha-256 AB:CD
a=setup:active
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=recvonly
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
m=video 7000 UDP/TLS/RTP/SAVPF 96 97
c=IN IP4 127.0.0.1
a=candidate:1 1 udp 2130706431 127.0.0.1 7000 typ host
a=end-of-candidates
a=ice-ufrag:w0abcd
a=ice-pwd:0123456789abcdef01234567
a=fingerprint:sha-256 AB:CD
a=setup:active
a=mid:1
a=extmap:13 urn:3gpp:video-orientation
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=recvonly
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtcp-fb:96 transport-cc
a=fmtp:96 x-google-start-bitrate=1000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
";
    assert_eq!(write(&publish(CHROMIUM_PUBLISH).draft).replace("\r\n", "\n"), expected);
}

#[test]
fn an_offer_with_simulcast_is_answered_with_one_layer() {
    let negotiated = publish(CHROMIUM_SIMULCAST);
    let video = &negotiated.tracks[1];
    assert_eq!((video.ssrc, video.mid.as_str()), (None, "1"));
    assert!(!kinds(&video.extensions).contains(&ExtensionKind::Rid));
    let answer = write(&negotiated.draft);
    assert!(!answer.contains("simulcast") && !answer.contains("a=rid"), "{answer}");
}

#[test]
fn firefox_publishes_with_its_session_level_fingerprint() {
    let negotiated = publish(FIREFOX_PUBLISH);
    assert!(matches!(negotiated.fingerprint, Fingerprint::Sha256([0x5a, ..])));
    let video = &negotiated.tracks[1];
    assert_eq!((video.codec.codec, video.payload_type, video.rtx_payload_type), (Codec::Vp8, 120, Some(124)));
    assert_eq!((video.ssrc, video.rtx_ssrc), (Some(4001), Some(4002)));
    assert_eq!(&*video.codec.fmtp, "max-fs=12288;max-fr=60");
    // Its playout-delay is recvonly.
    let expected = [ExtensionKind::Mid, ExtensionKind::TransportCc];
    assert_eq!(kinds(&video.extensions), expected);
    assert!(!write(&negotiated.draft).contains("x-google"));
}

#[test]
fn aiortc_publishes_over_its_first_transport_with_remb() {
    let negotiated = publish(AIORTC_PUBLISH);
    assert_eq!(negotiated.remote_ufrag, "aUdi");
    let [audio, video] = &negotiated.tracks[..] else { panic!("{:?}", negotiated.tracks) };
    assert_eq!((audio.payload_type, audio.feedback), (96, CongestionFeedback::None));
    assert_eq!((video.payload_type, video.feedback), (97, CongestionFeedback::Remb));
    assert_eq!(kinds(&video.extensions), [ExtensionKind::Mid, ExtensionKind::AbsSendTime]);
    assert!(write(&negotiated.draft).contains("a=recvonly"));
}

#[test]
fn gstreamer_publishes_h264_with_a_bundle_only_section() {
    let negotiated = publish(GSTREAMER_PUBLISH);
    let [video, audio] = &negotiated.tracks[..] else { panic!("{:?}", negotiated.tracks) };
    assert_eq!((video.mid.as_str(), video.codec.codec), ("video0", Codec::H264));
    assert!(video.codec.fmtp.contains("sprop-parameter-sets=Z2QAH6zZ"));
    assert_eq!((audio.mid.as_str(), audio.payload_type, audio.codec.codec), ("audio1", 98, Codec::Opus));
    assert!(write(&negotiated.draft).contains("a=group:BUNDLE video0 audio1\r\n"));
}

#[test]
fn obs_publishes_h264_and_its_stereo_reaches_players() {
    let negotiated = publish(OBS_PUBLISH);
    let [audio, video] = &negotiated.tracks[..] else { panic!("{:?}", negotiated.tracks) };
    assert_eq!((video.codec.codec, video.rtx_payload_type), (Codec::H264, Some(97)));
    assert_eq!(video.feedback, CongestionFeedback::Remb);
    let info = |track: &IngressTrack| TrackInfo {
        kind: track.kind,
        codec: track.codec.clone(),
        extensions: track.extensions.clone(),
    };
    let player = play(CHROMIUM_PLAY, &[info(audio), info(video)]).unwrap();
    assert!(write(&player.draft).contains("a=fmtp:111 minptime=10;useinbandfec=1;sprop-stereo=1\r\n"));
    assert_eq!(player.tracks[1].payload_type, 106, "constrained baseline with packetization mode 1");
}

#[test]
fn the_rust_sdk_publishes_and_plays() {
    let publisher = publish(WEBRTC_RS_PUBLISH);
    let video = &publisher.tracks[1];
    assert_eq!((video.ssrc, video.rtx_ssrc, video.nack), (Some(9101), Some(9102), true));
    assert_eq!(video.feedback, CongestionFeedback::TransportCc);
    let player = play(WEBRTC_RS_PLAY, &vp8_and_opus()).unwrap();
    let [audio, video] = &player.tracks[..] else { panic!("{:?}", player.tracks) };
    assert_eq!((audio.payload_type, audio.mid.as_str()), (111, "0"));
    assert_eq!((video.payload_type, video.rtx_payload_type, video.nack), (96, Some(97), true));
    let answer = write(&player.draft);
    assert!(answer.contains(&format!("a=ssrc-group:FID {} {}\r\n", video.ssrc, video.rtx_ssrc)), "{answer}");
    assert!(answer.contains(&format!("a=ssrc:{} msid:waystation audio\r\n", audio.ssrc)), "{answer}");
    assert!(answer.contains("a=sendonly") && !answer.contains("transport-cc"), "{answer}");
}

#[test]
fn every_player_gets_every_track_with_ssrcs_of_its_own() {
    for offer in PLAYS {
        let player = play(offer, &vp8_and_opus()).unwrap();
        let mut ssrcs: Vec<u32> = player.tracks.iter().flat_map(|t| [t.ssrc, t.rtx_ssrc]).collect();
        ssrcs.sort_unstable();
        ssrcs.dedup();
        assert_eq!((player.tracks.len(), ssrcs.len()), (2, 4));
        assert!(kinds(&player.tracks[1].extensions).contains(&ExtensionKind::Mid));
    }
}

#[test]
fn a_player_gets_only_the_extensions_that_arrive_and_describe_media() {
    let mut stream = vp8_and_opus();
    stream[1].extensions =
        [ExtensionKind::PlayoutDelay, ExtensionKind::TransportCc, ExtensionKind::AbsCaptureTime]
            .map(|kind| Extension { id: 9, kind })
            .into();
    let player = play(CHROMIUM_PLAY, &stream).unwrap();
    let expected = [
        Extension { id: 5, kind: ExtensionKind::PlayoutDelay },
        Extension { id: 4, kind: ExtensionKind::Mid },
    ];
    assert_eq!(player.tracks[1].extensions, expected);
}

#[test]
fn h264_is_matched_by_profile_and_packetization_mode() {
    let pick = |offer: &str, fmtp: &str| {
        play(offer, &[track(Kind::Video, Codec::H264, fmtp)]).map(|player| player.tracks[0].payload_type)
    };
    assert_eq!(pick(CHROMIUM_PLAY, "profile-level-id=42e028;packetization-mode=1"), Ok(106));
    assert_eq!(pick(CHROMIUM_PLAY, "profile-level-id=42e01f"), Ok(108));
    assert_eq!(pick(CHROMIUM_PLAY, "profile-level-id=42001f;packetization-mode=1"), Ok(102));
    assert_eq!(pick(CHROMIUM_PLAY, "profile-level-id=640032;packetization-mode=1"), Ok(112));
    assert_eq!(pick(CHROMIUM_PLAY, "profile-level-id=640c1f;packetization-mode=1"), Ok(112));
    // Firefox offers Constrained Baseline alone and decodes High.
    assert_eq!(pick(FIREFOX_PLAY, "profile-level-id=64001f;packetization-mode=1"), Ok(126));
    let only_mode_0 = FIREFOX_PLAY.replace("packetization-mode=1", "packetization-mode=0");
    let refused = pick(&only_mode_0, "profile-level-id=42e01f;packetization-mode=1");
    assert!(matches!(refused, Err(NegotiateError::NoCodec { .. })), "{refused:?}");
}

#[test]
fn vp9_is_matched_by_profile() {
    let pick = |fmtp: &str| {
        play(CHROMIUM_PLAY, &[track(Kind::Video, Codec::Vp9, fmtp)])
            .map(|player| player.tracks[0].payload_type)
    };
    assert_eq!((pick(""), pick("profile-id=0"), pick("profile-id=2")), (Ok(98), Ok(98), Ok(100)));
    assert!(pick("profile-id=1").is_err());
}

#[test]
fn a_track_that_the_offer_cannot_take_is_inactive_and_nothing_in_common_is_refused() {
    let av1 = [track(Kind::Audio, Codec::Opus, ""), track(Kind::Video, Codec::Av1, "")];
    let player = play(FIREFOX_PLAY, &av1).unwrap();
    assert_eq!(player.tracks.len(), 1);
    assert!(write(&player.draft).contains("a=mid:1\r\na=inactive\r\n"));
    let error = play(FIREFOX_PLAY, &av1[1..]).err();
    assert_eq!(error, Some(NegotiateError::NoCodec { kind: Kind::Video, wanted: "AV1".into() }));
    assert!(matches!(play(CHROMIUM_PUBLISH, &av1).err(), Some(NegotiateError::NoTracks("receives"))));
}

#[test]
fn a_stream_of_audio_alone_leaves_the_video_section_inactive() {
    let player = play(CHROMIUM_PLAY, &vp8_and_opus()[..1]).unwrap();
    let answer = write(&player.draft);
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n") && answer.contains("a=inactive\r\n"), "{answer}");
}

#[test]
fn the_offers_word_on_dtls_is_honoured() {
    let role =
        |text: &str, role| negotiate_publish(&parse(text), PublishPolicy { role, ..POLICY }).unwrap().role;
    let active = CHROMIUM_PUBLISH.replace("a=setup:actpass", "a=setup:active");
    let passive = CHROMIUM_PUBLISH.replace("a=setup:actpass", "a=setup:passive");
    assert_eq!(role(CHROMIUM_PUBLISH, DtlsRole::Server), DtlsRole::Server);
    assert_eq!(role(&active, DtlsRole::Client), DtlsRole::Server);
    assert_eq!(role(&passive, DtlsRole::Server), DtlsRole::Client);
    let negotiated = negotiate_publish(&parse(&active), POLICY).unwrap();
    assert!(write(&negotiated.draft).contains("a=setup:passive\r\n"));
}

#[test]
fn h264_with_packetization_mode_1_is_preferred_and_vp9_profile_2_passed_over() {
    let order = |list: &str| {
        let text = CHROMIUM_PUBLISH.replace("SAVPF 96 97 102", &format!("SAVPF {list} 96 97 102"));
        publish(&text).tracks[1].payload_type
    };
    assert_eq!((order("104"), order("100"), order("98"), order("45")), (102, 96, 98, 45));
}

#[test]
fn what_cannot_be_published_is_refused_whole() {
    let refused = |text: &str| negotiate_publish(&parse(text), POLICY).err();
    let (_, video) = CHROMIUM_PUBLISH.split_once("m=video").unwrap();
    let second = format!("{CHROMIUM_PUBLISH}m=video{}", video.replace("a=mid:1", "a=mid:2"));
    assert_eq!(refused(&second), Some(NegotiateError::TooManyTracks { kind: Kind::Video, count: 2 }));
    assert_eq!(refused(CHROMIUM_PLAY), Some(NegotiateError::NoTracks("sends")));
    let unbundled = CHROMIUM_PUBLISH.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0");
    assert_eq!(refused(&unbundled), Some(NegotiateError::NotBundled { mid: "1".into() }));
    let unmuxed = CHROMIUM_PUBLISH.replace("a=rtcp-mux\n", "");
    assert_eq!(refused(&unmuxed), Some(NegotiateError::NoRtcpMux { mid: "0".into() }));
    let no_ufrag = CHROMIUM_PUBLISH.replace("a=ice-ufrag:Yj7c\n", "");
    assert!(matches!(refused(&no_ufrag), Some(NegotiateError::NoTransport { .. })));
    let sha1 = CHROMIUM_PUBLISH.replace("sha-256", "sha-1");
    assert!(matches!(refused(&sha1), Some(NegotiateError::NoTransport { .. })));
    let pcmu = CHROMIUM_PUBLISH.replace("opus/48000", "speex/16000");
    assert!(matches!(refused(&pcmu), Some(NegotiateError::NoCodec { kind: Kind::Audio, .. })));
}

#[test]
fn a_data_channel_is_refused_in_its_section_alone() {
    let text = format!(
        "{}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\nc=IN IP4 0.0.0.0\na=mid:2\na=sctp-port:5000\n",
        CHROMIUM_PUBLISH.replace("BUNDLE 0 1", "BUNDLE 0 1 2")
    );
    let answer = write(&publish(&text).draft);
    assert!(answer.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"), "{answer}");
    assert!(answer.contains("a=group:BUNDLE 0 1\r\n"), "{answer}");
}

#[test]
fn what_is_not_an_offer_is_refused_with_its_reason() {
    let refused = |text: &str| Offer::parse(text.as_bytes()).err();
    assert!(matches!(refused(""), Some(OfferError::Syntax)));
    assert!(matches!(refused("{\"type\":\"offer\"}"), Some(OfferError::Line(1))));
    assert_eq!(Offer::parse(&[b'v', b'=', 0xff, 0xfe]).err(), Some(OfferError::NotUtf8));
    let large = "a".repeat(MAX_SDP_BYTES + 1);
    assert_eq!(refused(&large), Some(OfferError::TooLarge(MAX_SDP_BYTES + 1)));
    let head = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
    assert!(matches!(refused(head), Some(OfferError::Count { count: 0, .. })));
    let many = format!("{head}{}", "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(17));
    assert!(matches!(refused(&many), Some(OfferError::Count { count: 17, .. })));
    let no_mid = CHROMIUM_PUBLISH.replace("a=mid:1\n", "");
    assert!(matches!(refused(&no_mid), Some(OfferError::Mid { index: 1, .. })));
    let twice = CHROMIUM_PUBLISH.replace("a=mid:1\n", "a=mid:0\n");
    assert!(matches!(refused(&twice), Some(OfferError::Mid { index: 1, .. })));
    let plain = CHROMIUM_PUBLISH.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP");
    assert!(matches!(refused(&plain), Some(OfferError::Protocol { .. })));
    let hold = CHROMIUM_PUBLISH.replace("actpass", "holdconn");
    assert_eq!(refused(&hold), Some(OfferError::Setup("holdconn".into())));
    let ufrag = CHROMIUM_PUBLISH.replace("Yj7c", "a b");
    assert_eq!(refused(&ufrag), Some(OfferError::Ufrag));
}

#[test]
fn a_fragment_tells_its_ufrag_or_what_is_wrong_with_it() {
    let restart = b"a=ice-options:trickle\r\na=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";
    assert_eq!(Fragment::parse(restart), Ok(Fragment { ufrag: Some("ysXw".into()), section: None }));
    let trickle =
        b"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n";
    let section = Some("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n".to_owned());
    assert_eq!(Fragment::parse(trickle), Ok(Fragment { ufrag: None, section }));
    assert_eq!(Fragment::parse(b"a=mid:0\nnonsense\n"), Err(FragmentError::Syntax(2)));
    assert_eq!(Fragment::parse(b"a=ice-ufrag:x"), Err(FragmentError::Ufrag));
    assert_eq!(Fragment::parse(&[0xff]), Err(FragmentError::NotUtf8));
}

/// Negotiates both ways; whatever is accepted must give an answer that parses and has every section.
fn exercise(body: &[u8]) {
    let Ok(offer) = Offer::parse(body) else { return };
    let drafts = [
        negotiate_publish(&offer, POLICY).ok().map(|n| n.draft),
        negotiate_play(&offer, &vp8_and_opus(), DtlsRole::Client, &mut SmallRng::seed_from_u64(1))
            .ok()
            .map(|n| n.draft),
    ];
    for draft in drafts.into_iter().flatten() {
        let answer = Offer::parse(write(&draft).as_bytes()).unwrap();
        assert_eq!(answer.sections.len(), offer.sections.len());
    }
}

#[test]
fn every_answer_parses_and_answers_every_section() {
    for offer in PUBLISHES.iter().chain(&PLAYS).chain([&CHROMIUM_SIMULCAST]) {
        exercise(offer.as_bytes());
        exercise(offer.replace('\n', "\r\n").as_bytes());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_offer_or_not_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        exercise(&bytes);
        let _ = Fragment::parse(&bytes);
    }

    #[test]
    fn an_offer_cut_short_or_with_a_line_changed_never_panics(
        which in 0usize..6,
        cut in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        line in "[a-z]=[ -~]{0,60}|a=(rtpmap|fmtp|rtcp-fb|extmap|ssrc|ssrc-group|group|mid|setup|fingerprint):[ -~]{0,40}",
    ) {
        let text = PUBLISHES[which];
        exercise(&text.as_bytes()[..cut.index(text.len())]);
        let mut lines: Vec<&str> = text.lines().collect();
        let at = at.index(lines.len());
        lines[at] = &line;
        exercise(lines.join("\r\n").as_bytes());
        lines.remove(at);
        exercise(lines.join("\r\n").as_bytes());
    }
}

#[test]
fn ffmpeg_publishes_with_rtx_that_it_names_in_its_group_alone_and_is_asked_for_no_pli() {
    let negotiated = publish(FFMPEG_PUBLISH);
    // It takes the server's side of DTLS for itself.
    assert_eq!(negotiated.role, DtlsRole::Client);
    let video = &negotiated.tracks[1];
    assert_eq!(
        (video.codec.codec, video.payload_type, video.rtx_payload_type),
        (Codec::H264, 106, Some(105))
    );
    assert_eq!((video.ssrc, video.rtx_ssrc), (Some(2_266_326_928), Some(2_266_326_929)));
    assert!(video.nack && !video.pli);
    let stream = [track(Kind::Video, Codec::H264, &video.codec.fmtp)];
    for player in [CHROMIUM_PLAY, FIREFOX_PLAY] {
        assert_eq!(play(player, &stream).unwrap().tracks[0].codec, Codec::H264);
    }
}

#[test]
fn of_several_fingerprints_the_strongest_known_counts_and_each_hash_alone_will_do() {
    let (old, _) = FIREFOX_PLAY.split_once("a=fingerprint:").unwrap();
    let (_, rest) = FIREFOX_PLAY[old.len()..].split_once('\n').unwrap();
    let lines = |lines: &[(&str, &str, usize)]| {
        let line = |(name, byte, n): &(&str, &str, usize)| {
            format!("a=fingerprint:{name} {}\n", vec![*byte; *n].join(":"))
        };
        format!("{old}{}{rest}", lines.iter().map(line).collect::<String>())
    };
    let fingerprint = |text: &str| play(text, &vp8_and_opus()).map(|negotiated| negotiated.fingerprint);
    assert_eq!(fingerprint(&lines(&[("sha-384", "0A", 48)])), Ok(Fingerprint::Sha384([10; 48])));
    assert_eq!(fingerprint(&lines(&[("SHA-512", "0a", 64)])), Ok(Fingerprint::Sha512([10; 64])));
    let several = [("sha-512", "01", 64), ("sha-256", "02", 32), ("sha-3", "03", 9), ("sha-384", "04", 48)];
    assert_eq!(fingerprint(&lines(&several)), Ok(Fingerprint::Sha512([1; 64])));
    for bad in [("sha-1", "01", 20), ("sha-512", "01", 63), ("sha-384", "zz", 48)] {
        assert!(matches!(fingerprint(&lines(&[bad])), Err(NegotiateError::NoTransport { .. })), "{bad:?}");
    }
}

#[test]
fn one_section_needs_neither_a_bundle_nor_a_name() {
    let alone = "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nt=0 0\nm=video 9 UDP/TLS/RTP/SAVPF 96\n\
        c=IN IP4 0.0.0.0\na=ice-ufrag:abcd\na=ice-pwd:0123456789abcdef012345\n\
        a=fingerprint:sha-256 5A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9:0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9\n\
        a=setup:actpass\na=recvonly\na=rtcp-mux\na=rtpmap:96 VP8/90000\n";
    let negotiated = play(alone, &vp8_and_opus()).unwrap();
    let answer = write(&negotiated.draft);
    assert!(!answer.contains("BUNDLE") && !answer.contains("a=mid"), "{answer}");
    assert!(!answer.contains("rsize") && !answer.contains("allow-mixed"), "neither was offered: {answer}");
    let (_, section) = alone.split_once("m=video").unwrap();
    let two =
        format!("{alone}a=mid:0\nm=audio{}a=mid:1\n", section.replace("96 VP8/90000", "96 opus/48000/2"));
    let refused = play(&two, &vp8_and_opus()).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("all media share one transport here, so bundle it"), "{refused}");
}

#[test]
fn header_extensions_of_both_forms_are_mixed_only_with_a_client_that_says_so() {
    let arriving = |kind| Extension { id: 9, kind };
    let mut video = track(Kind::Video, Codec::Vp8, "");
    video.extensions = vec![arriving(ExtensionKind::DependencyDescriptor)];
    let offer = CHROMIUM_PLAY.replace(
        "a=rtpmap:96 VP8/90000",
        "a=extmap:12 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension\n\
         a=rtpmap:96 VP8/90000",
    );
    let mixed = play(&offer, &[video.clone()]).unwrap();
    assert!(write(&mixed.draft).contains("a=extmap-allow-mixed\r\n"));
    assert!(kinds(&mixed.tracks[0].extensions).contains(&ExtensionKind::DependencyDescriptor));
    let plain = play(&offer.replace("a=extmap-allow-mixed\n", ""), &[video]).unwrap();
    assert!(!write(&plain.draft).contains("a=extmap-allow-mixed"));
    assert!(!kinds(&plain.tracks[0].extensions).contains(&ExtensionKind::DependencyDescriptor));
}

#[test]
fn what_a_player_would_send_itself_is_not_said_of_the_stream() {
    let offer = CHROMIUM_PLAY.replace("useinbandfec=1", "useinbandfec=1;stereo=1;sprop-stereo=1");
    let line = |fmtp: &str| {
        let answer = write(&play(&offer, &[track(Kind::Audio, Codec::Opus, fmtp)]).unwrap().draft);
        answer.lines().find(|line| line.starts_with("a=fmtp:111 ")).unwrap_or_default().to_owned()
    };
    assert!(!line("minptime=10").contains("sprop-stereo"));
    assert!(line("sprop-stereo=1").contains("sprop-stereo=1"));
}
