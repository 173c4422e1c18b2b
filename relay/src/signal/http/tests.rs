//! The router against a double of the control core: what a client sends, what it gets, what the core hears.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, Response, StatusCode},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use tokio::sync::watch;
use tower::ServiceExt;
use waystation_proto::{
    Claim, ErrorCode, NodeId, NodeRef, Refusal, RoomId, SessionId, StreamId, StreamKey, UserId,
    token::{Action, NODE_TOKEN_AUDIENCE, NodeToken},
    v1,
};

use super::router;
use crate::{
    control::{OpenError, StreamTracks, TrackInfo},
    plane::{Codec, CodecSpec, Kind},
    signal::{
        Keys, QueryTokens, SignalConfig, SignalState,
        double::{DOUBLE_SESSION as SESSION, Double},
    },
};

const PUBLISH: &str = include_str!("../sdp/offers/chromium_publish.sdp");
const PLAY: &str = include_str!("../sdp/offers/chromium_play.sdp");
/// What a coordinator would have to judge.
const USER_TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.e30.x";
const FAR_FUTURE_S: u64 = 4_000_000_000;

struct Rig {
    double: Double,
    router: Router,
    key: EncodingKey,
}

fn rig() -> Rig {
    rig_with(SignalConfig::default())
}

fn rig_with(config: SignalConfig) -> Rig {
    let document = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    let public_key = pair.public_key().as_ref().to_vec();
    let mut keys = Keys::default();
    keys.set_signing(&v1::SigningKeys {
        keys: vec![v1::SigningKey { id: "k1".into(), public_key, until_unix_ms: 0 }],
    });
    let double = Double::default();
    let node = NodeRef { id: NodeId::new("relay-1").unwrap(), incarnation: 1 };
    let state = SignalState::new(config, node, double.clone(), watch::channel(keys).1);
    Rig { double, router: router(state), key: EncodingKey::from_ed_der(document.as_ref()) }
}

fn token(action: Action) -> NodeToken {
    NodeToken {
        aud: NODE_TOKEN_AUDIENCE.into(),
        app: "app".into(),
        room: RoomId::new("r").unwrap(),
        user: UserId::new("u").unwrap(),
        session: SessionId::new("login").unwrap(),
        stream: StreamId::new("s").unwrap(),
        action,
        claim: (action == Action::Publish).then_some(Claim { epoch: 3, moved: 2 }),
        plain: false,
        iat: 0,
        exp: FAR_FUTURE_S,
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: impl AsRef<str>) -> &str {
        self.headers.get(name.as_ref()).map_or("", |value| value.to_str().unwrap())
    }

    /// The problem document; every refusal must have one.
    fn problem(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.body);
        let document: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(document["status"], self.status.as_u16());
        for member in ["type", "title", "detail"] {
            assert!(document[member].as_str().is_some_and(|text| !text.is_empty()), "{document}");
        }
        document
    }
}

impl Rig {
    fn sign(&self, token: &NodeToken) -> String {
        encode(&Header { kid: Some("k1".into()), ..Header::new(Algorithm::EdDSA) }, token, &self.key).unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response: Response<Body> = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.into()).unwrap() }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn post(&self, path: &str, bearer: &str, more: &[(&str, &str)], body: &str) -> Answer {
        let authorization = format!("Bearer {bearer}");
        let mut headers =
            vec![("authorization", authorization.as_str()), ("content-type", "application/sdp")];
        headers.extend_from_slice(more);
        self.call(Method::POST, path, &headers, body.to_owned()).await
    }

    async fn publish(&self) -> Answer {
        let token = self.sign(&token(Action::Publish));
        self.post("/whip/r/s", &token, &[], PUBLISH).await
    }

    /// What the session's client sends along.
    fn authorization(&self) -> String {
        format!("Bearer {}", self.sign(&token(Action::Publish)))
    }

    async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[("authorization", &self.authorization())], "").await
    }

    async fn patch(&self, if_match: Option<&str>, body: &str) -> Answer {
        let authorization = self.authorization();
        let mut headers = vec![
            ("authorization", authorization.as_str()),
            ("content-type", "application/trickle-ice-sdpfrag"),
        ];
        headers.extend(if_match.map(|value| ("if-match", value)));
        self.call(Method::PATCH, &format!("/session/{SESSION}"), &headers, body.to_owned()).await
    }
}

#[tokio::test]
async fn a_publish_is_answered_with_201_a_location_an_etag_and_an_answer() {
    // PUB-1
    let rig = rig();
    let answer = rig.publish().await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert_eq!(answer.header("location"), "../../session/abcdefgh");
    assert_eq!(answer.header("content-type"), "application/sdp");
    assert!(answer.header("etag").starts_with('"'));
    assert!(answer.body.contains("a=ice-ufrag:w0ab\r\n") && answer.body.contains("a=recvonly\r\n"));
    let script = rig.double.script();
    let open = &script.published[0];
    assert_eq!((open.activate, open.peer.beat, open.tracks.len()), (None, None, 2));
    assert_eq!(open.peer.remote_ufrag, "Yj7c");
}

#[tokio::test]
async fn an_sdks_headers_reach_the_core_and_bad_ones_are_refused() {
    let rig = rig();
    let token = rig.sign(&token(Action::Publish));
    let headers = [("waystation-move", "7"), ("waystation-beat", "50")];
    assert_eq!(rig.post("/whip/r/s", &token, &headers, PUBLISH).await.status, StatusCode::CREATED);
    {
        let script = rig.double.script();
        let open = &script.published[0];
        assert_eq!((open.activate, open.peer.beat), (Some(7), Some(Duration::from_millis(50))));
    }
    for bad in [("waystation-move", "-1"), ("waystation-move", "4294967296"), ("waystation-beat", "1")] {
        let answer = rig.post("/whip/r/s", &token, &[bad], PUBLISH).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad:?}");
        answer.problem();
    }
}

#[tokio::test]
async fn a_plain_client_is_active_at_once_under_the_claim_of_its_exchanged_token() {
    let rig = rig();
    let plain = NodeToken { plain: true, ..token(Action::Publish) };
    rig.double.script().exchange = Some(Ok(rig.sign(&plain)));
    let user = encode(&Header::default(), &serde_json::json!({"app": "a"}), &EncodingKey::from_secret(b"x"))
        .unwrap();
    let answer = rig.post("/whip/r/s", &user, &[], PUBLISH).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert_eq!(rig.double.script().published[0].activate, Some(2));
}

#[tokio::test]
async fn a_user_token_meets_the_coordinators_word_or_503_when_there_is_none() {
    let rig = rig();
    let user = encode(&Header::default(), &serde_json::json!({"app": "a"}), &EncodingKey::from_secret(b"x"))
        .unwrap();
    let answer = rig.post("/whip/r/s", &user, &[], PUBLISH).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!answer.header("retry-after").is_empty());
    for (code, status) in [
        (ErrorCode::TokenRefused, StatusCode::UNAUTHORIZED),
        (ErrorCode::TokenExpired, StatusCode::UNAUTHORIZED),
        (ErrorCode::PublishForbidden, StatusCode::FORBIDDEN),
        (ErrorCode::Kicked, StatusCode::FORBIDDEN),
        (ErrorCode::StreamTaken, StatusCode::CONFLICT),
    ] {
        rig.double.script().exchange = Some(Err(Refusal::new(code, "because").into()));
        let answer = rig.post("/whip/r/s", &user, &[], PUBLISH).await;
        assert_eq!(answer.status, status, "{code}");
        assert_eq!(answer.problem()["code"], code.number());
    }
    // What comes back is checked as well: here it is for another stream.
    let other = NodeToken { stream: StreamId::new("t").unwrap(), ..token(Action::Publish) };
    rig.double.script().exchange = Some(Ok(rig.sign(&other)));
    assert_eq!(rig.post("/whip/r/s", &user, &[], PUBLISH).await.status, StatusCode::FORBIDDEN);
    assert!(rig.double.script().published.is_empty());
}

#[tokio::test]
async fn a_bad_token_is_401_with_a_challenge_and_one_for_something_else_403() {
    // PUB-5
    let (rig, stranger) = (rig(), rig());
    let expired = NodeToken { exp: 1_000_000_000, ..token(Action::Publish) };
    let forged = stranger.sign(&token(Action::Publish));
    for bad in [rig.sign(&expired), forged, "x".into(), "a.b.c".into(), String::new(), "y".repeat(9000)] {
        let answer = rig.post("/whip/r/s", &bad, &[], PUBLISH).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{bad}");
        assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
        answer.problem();
    }
    let none = rig.call(Method::POST, "/whip/r/s", &[("content-type", "application/sdp")], PUBLISH).await;
    assert_eq!((none.status, none.header("www-authenticate")), (StatusCode::UNAUTHORIZED, "Bearer"));
    let publish = rig.sign(&token(Action::Publish));
    for path in ["/whip/r/t", "/whip/q/s", "/whep/r/s"] {
        let answer = rig.post(path, &publish, &[], PUBLISH).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(answer.problem()["code"], 1_002_033);
    }
    assert!(rig.double.script().published.is_empty());
}

#[tokio::test]
async fn a_play_gets_the_streams_tracks_or_409_to_try_again() {
    // PLAY-3
    let rig = rig();
    let bearer = rig.sign(&token(Action::Play));
    let answer = rig.post("/whep/r/s", &bearer, &[], PLAY).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(answer.problem().get("code"), None);
    let video = |codec, fmtp: &str| StreamTracks {
        claim: Claim::of_epoch(1),
        tracks: vec![TrackInfo {
            kind: Kind::Video,
            codec: CodecSpec { codec, clock_rate: 90_000, channels: 0, fmtp: fmtp.into() },
            extensions: Vec::new(),
        }],
    };
    rig.double.script().stream = Some(video(Codec::Vp8, ""));
    let answer = rig.post("/whep/r/s", &bearer, &[], PLAY).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert!(answer.body.contains("a=sendonly\r\n"));
    assert_eq!(rig.double.script().played[0].tracks.len(), 1);
    rig.double.script().stream = Some(video(Codec::Vp9, "profile-id=3"));
    let answer = rig.post("/whep/r/s", &bearer, &[], PLAY).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    answer.problem();
}

#[tokio::test]
async fn the_cores_refusals_have_their_status_code_and_claim() {
    let rig = rig();
    let stream = StreamKey { room: RoomId::new("r").unwrap(), stream: StreamId::new("s").unwrap() };
    let offered = Claim { epoch: 3, moved: 2 };
    let fenced = |held| OpenError::Fenced { stream: stream.clone(), held, offered };
    rig.double.script().open = Some(fenced(Claim { epoch: 4, moved: 1 }));
    let answer = rig.publish().await;
    assert_eq!((answer.status, &answer.problem()["code"]), (StatusCode::CONFLICT, &1_003_028.into()));
    assert_eq!(answer.problem()["claim"], serde_json::json!({"epoch": 4, "move": 1}));
    rig.double.script().open = Some(fenced(Claim { epoch: 3, moved: 9 }));
    let answer = rig.publish().await;
    assert_eq!((answer.status, answer.problem().get("code")), (StatusCode::CONFLICT, None));
    for error in [OpenError::Full, OpenError::Stopping] {
        rig.double.script().open = Some(error);
        let answer = rig.publish().await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!answer.header("retry-after").is_empty());
        answer.problem();
    }
    rig.double.script().open = Some(OpenError::Revoked(Refusal::new(ErrorCode::Replaced, "elsewhere")));
    let answer = rig.publish().await;
    assert_eq!((answer.status, &answer.problem()["code"]), (StatusCode::FORBIDDEN, &1_002_050.into()));
}

#[tokio::test]
async fn bad_bodies_types_paths_and_methods_are_refused_each_in_its_way() {
    let rig = rig();
    let bearer = rig.sign(&token(Action::Publish));
    let wrong = rig.post("/whip/r/s", &bearer, &[], "v=0\r\n").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    wrong.problem();
    let large = rig.post("/whip/r/s", &bearer, &[], &"a".repeat(70_000)).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    large.problem();
    let two =
        format!("{PUBLISH}m=video{}", PUBLISH.split_once("m=video").unwrap().1.replace("mid:1", "mid:2"));
    assert_eq!(rig.post("/whip/r/s", &bearer, &[], &two).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let authorization = format!("Bearer {bearer}");
    let json = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let answer = rig.call(Method::POST, "/whip/r/s", &json, PUBLISH).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    answer.problem();
    for path in ["/whip/a%20b/s", "/whip/%ff/s", "/whip/r/..%2f", "/whip/r/%00"] {
        let answer = rig.post(path, &bearer, &[], PUBLISH).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        answer.problem();
    }
    let answer = rig.call(Method::GET, "/nowhere", &[], "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    answer.problem();
    assert_eq!(rig.call(Method::GET, "/events", &[], "").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn get_and_head_on_endpoints_are_no_errors() {
    let rig = rig();
    for path in ["/whip/r/s", "/whep/r/s"] {
        assert_eq!(rig.call(Method::GET, path, &[], "").await.status, StatusCode::NO_CONTENT);
    }
    let head = rig.call(Method::HEAD, "/whep/r/s", &[], "").await;
    assert_eq!((head.status, head.header("content-type")), (StatusCode::OK, "application/sdp"));
    assert_eq!(rig.call(Method::HEAD, "/whip/r/s", &[], "").await.status, StatusCode::NO_CONTENT);
    rig.publish().await;
    let authorization = rig.authorization();
    let headers = [("authorization", authorization.as_str())];
    for (path, status) in [("nobody", StatusCode::NOT_FOUND), ("abcdefgh", StatusCode::NO_CONTENT)] {
        let path = format!("/session/{path}");
        assert_eq!(rig.call(Method::GET, &path, &headers, "").await.status, status);
        let anybody = rig.call(Method::GET, &path, &[], "").await;
        assert_eq!(anybody.status, StatusCode::NO_CONTENT, "nobody is told which sessions there are");
    }
}

#[tokio::test]
async fn a_browser_of_any_origin_may_ask_and_read_the_answers_headers() {
    let rig = rig();
    let preflight = [
        ("origin", "https://example.org"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,waystation-beat"),
    ];
    let answer = rig.call(Method::OPTIONS, "/whip/r/s", &preflight, "").await;
    assert!(answer.status.is_success());
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("accept-post"), "application/sdp");
    assert_eq!(answer.header("link"), "");
    for allowed in ["authorization", "content-type", "if-match", "waystation-move", "waystation-beat"] {
        assert!(answer.header("access-control-allow-headers").contains(allowed), "{allowed}");
    }
    for method in ["POST", "PATCH", "DELETE"] {
        assert!(answer.header("access-control-allow-methods").contains(method), "{method}");
    }
    let session = rig.call(Method::OPTIONS, "/session/abcdefgh", &preflight, "").await;
    assert_eq!(session.header("accept-patch"), "application/trickle-ice-sdpfrag");
    // A refusal as well: a page must be able to read its problem and when to come back.
    let bearer = rig.sign(&token(Action::Play));
    let refused = rig.post("/whep/r/s", &bearer, &[("origin", "https://example.org")], PLAY).await;
    assert_eq!(refused.header("access-control-allow-origin"), "*");
    for exposed in ["location", "etag", "link", "retry-after", "www-authenticate"] {
        assert!(refused.header("access-control-expose-headers").contains(exposed), "{exposed}");
    }
}

#[tokio::test]
async fn delete_ends_a_session_once_and_ignores_its_etag() {
    let rig = rig();
    rig.publish().await;
    let authorization = rig.authorization();
    let headers = [("authorization", authorization.as_str()), ("if-match", "\"other\"")];
    assert_eq!(rig.call(Method::DELETE, "/session/abcdefgh", &headers, "").await.status, StatusCode::OK);
    let again = rig.delete("/session/abcdefgh").await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    again.problem();
    let hostile = format!("/session/{}", "x".repeat(5000));
    assert_eq!(rig.delete(&hostile).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn trickle_is_taken_and_an_ice_restart_gives_new_credentials_and_a_new_etag() {
    // GO-8
    let rig = rig();
    let first = rig.publish().await.header("etag").to_owned();
    let candidate = "a=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n";
    let trickled = rig.patch(Some(&first), candidate).await;
    assert_eq!((trickled.status, trickled.header("etag")), (StatusCode::NO_CONTENT, ""));
    let unconditional = rig.patch(None, candidate).await;
    assert_eq!(unconditional.status, StatusCode::PRECONDITION_REQUIRED);
    unconditional.problem();
    let fragment =
        "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n";
    let restarted = rig.patch(Some("*"), fragment).await;
    assert_eq!(restarted.status, StatusCode::OK);
    assert_eq!(restarted.header("content-type"), "application/trickle-ice-sdpfrag");
    let expected = "a=ice-lite\r\na=ice-ufrag:w0cd\r\na=ice-pwd:0123456789abcdef01234567\r\n\
                    m=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
                    a=candidate:1 1 udp 2130706431 127.0.0.1 7000 typ host\r\na=end-of-candidates\r\n";
    assert_eq!(restarted.body, expected);
    assert_ne!(restarted.header("etag"), first);
    assert_eq!(rig.double.script().restarts, ["ysXw"]);
    let stale = rig.patch(Some(&first), candidate).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    stale.problem();
    let current = restarted.header("etag").to_owned();
    assert_eq!(rig.patch(Some(&current), candidate).await.status, StatusCode::NO_CONTENT);
    assert_eq!(rig.patch(Some("*"), candidate).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(rig.patch(Some("*"), "nonsense").await.status, StatusCode::BAD_REQUEST);
    let authorization = rig.authorization();
    let fragment =
        [("authorization", authorization.as_str()), ("content-type", "application/trickle-ice-sdpfrag")];
    let unknown = rig.call(Method::PATCH, "/session/nobody", &fragment, candidate).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let sdp =
        [("authorization", authorization.as_str()), ("content-type", "application/sdp"), ("if-match", "*")];
    let typed = rig.call(Method::PATCH, "/session/abcdefgh", &sdp, candidate).await;
    assert_eq!(typed.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_session_is_changed_and_ended_by_its_holder_alone() {
    let rig = rig();
    rig.publish().await;
    let other_user = NodeToken { user: UserId::new("mallory").unwrap(), ..token(Action::Publish) };
    let other_app = NodeToken { app: "another".into(), ..token(Action::Publish) };
    let shown: [(Option<String>, StatusCode, &str); 5] = [
        (None, StatusCode::UNAUTHORIZED, "Bearer"),
        (Some("Basic dXNlcjpwYXNz".into()), StatusCode::UNAUTHORIZED, "Bearer"),
        (Some("Bearer garbage".into()), StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\""),
        (
            Some(format!("Bearer {}", rig.sign(&other_user))),
            StatusCode::FORBIDDEN,
            "Bearer error=\"insufficient_scope\"",
        ),
        (
            Some(format!("Bearer {}", rig.sign(&other_app))),
            StatusCode::FORBIDDEN,
            "Bearer error=\"insufficient_scope\"",
        ),
    ];
    for (authorization, status, challenge) in &shown {
        for method in [Method::PATCH, Method::DELETE] {
            let headers: Vec<(&str, &str)> =
                authorization.as_deref().map(|text| ("authorization", text)).into_iter().collect();
            let answer = rig.call(method.clone(), "/session/abcdefgh", &headers, "").await;
            assert_eq!(answer.status, *status, "{method} with {authorization:?}");
            assert_eq!(answer.header("www-authenticate"), *challenge);
            answer.problem();
            if *status == StatusCode::UNAUTHORIZED {
                let unknown = rig.call(method, "/session/nobody", &headers, "").await;
                assert_eq!((unknown.status, unknown.body), (answer.status, answer.body));
            }
        }
    }
    assert_eq!(rig.double.script().sessions.len(), 1, "nothing changed");
    // A newer token, of a later login of the same user.
    let newer = NodeToken { session: SessionId::new("later").unwrap(), iat: 7, ..token(Action::Play) };
    let authorization = format!("Bearer {}", rig.sign(&newer));
    let headers = [("authorization", authorization.as_str())];
    assert_eq!(rig.call(Method::DELETE, "/session/abcdefgh", &headers, "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_opened_a_session_ends_it_also_when_it_expired_since_and_no_coordinator_is_there() {
    let rig = rig();
    let expired = rig.sign(&NodeToken { exp: 1, ..token(Action::Publish) });
    for text in [expired.as_str(), USER_TOKEN] {
        rig.publish().await;
        let bearer = crate::control::BearerHash::of(text);
        rig.double.script().sessions.values_mut().for_each(|holder| holder.bearer = bearer);
        let authorization = format!("Bearer {text}");
        let headers = [("authorization", authorization.as_str())];
        assert_eq!(rig.call(Method::DELETE, "/session/abcdefgh", &headers, "").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn who_asks_is_judged_before_what_is_asked() {
    let rig = rig();
    let json = [("content-type", "application/json")];
    for path in ["/whip/r/s", "/whep/r/s"] {
        assert_eq!(rig.call(Method::POST, path, &json, "{}").await.status, StatusCode::UNAUTHORIZED);
        let bad = [("authorization", "Bearer bad"), ("content-type", "application/json")];
        let answer = rig.call(Method::POST, path, &bad, "x".repeat(100_000)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
    }
}

#[tokio::test]
async fn a_refusal_of_the_coordinator_says_which_kind_it_is() {
    let rig = rig();
    for (code, status, challenge) in [
        (ErrorCode::TokenRefused, StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\""),
        (ErrorCode::PublishForbidden, StatusCode::FORBIDDEN, "Bearer error=\"insufficient_scope\""),
    ] {
        rig.double.script().exchange = Some(Err(Refusal::new(code, "because").into()));
        let answer = rig.post("/whip/r/s", USER_TOKEN, &[], PUBLISH).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (status, challenge));
    }
}

#[tokio::test]
async fn a_refused_method_names_those_that_there_are() {
    let rig = rig();
    for (path, allowed) in [
        ("/whip/r/s", "GET, HEAD, POST, OPTIONS"),
        ("/whep/r/s/", "GET, HEAD, POST, OPTIONS"),
        ("/session/abcdefgh", "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("/events", "GET, HEAD, OPTIONS"),
    ] {
        let answer = rig.call(Method::PUT, path, &[], "").await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, allowed));
        answer.problem();
        assert_eq!(rig.call(Method::OPTIONS, path, &[], "").await.header("allow"), allowed);
    }
}

#[tokio::test]
async fn a_slash_at_the_end_changes_nothing_and_a_proxys_prefix_survives() {
    let rig = rig();
    let bearer = rig.sign(&token(Action::Publish));
    for (path, location) in
        [("/whip/r/s", "../../session/abcdefgh"), ("/whip/r/s/", "../../../session/abcdefgh")]
    {
        let answer = rig.post(path, &bearer, &[], PUBLISH).await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::CREATED, location));
    }
    assert_eq!(rig.delete("/session/abcdefgh/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_in_the_address_is_taken_only_where_the_operator_says_so() {
    let cautious = rig();
    let bearer = cautious.sign(&token(Action::Publish));
    let path = format!("/whip/r/s?x=1&access_token={bearer}");
    let sdp = [("content-type", "application/sdp")];
    assert_eq!(cautious.call(Method::POST, &path, &sdp, PUBLISH).await.status, StatusCode::UNAUTHORIZED);
    let rig = rig_with(SignalConfig { query_tokens: QueryTokens::Taken, ..SignalConfig::default() });
    let path = format!("/whip/r/s?x=1&access_token={}", rig.sign(&token(Action::Publish)));
    let answer = rig.call(Method::POST, &path, &sdp, PUBLISH).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert_eq!(answer.header("cache-control"), "no-store");
    let both = [("content-type", "application/sdp"), ("authorization", "Bearer x")];
    assert_eq!(rig.call(Method::POST, &path, &both, PUBLISH).await.status, StatusCode::BAD_REQUEST);
    let bad = rig.call(Method::POST, "/whip/r/s?access_token=%0a", &sdp, PUBLISH).await;
    assert_eq!((bad.status, bad.header("cache-control")), (StatusCode::UNAUTHORIZED, "no-store"));
}

#[tokio::test]
async fn a_player_that_waits_for_an_offer_is_told_to_make_it() {
    let rig = rig();
    let bearer = rig.sign(&token(Action::Play));
    let answer = rig.post("/whep/r/s", &bearer, &[], "").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.problem()["detail"].as_str().unwrap().contains("the player makes the offer"));
    let authorization = format!("Bearer {bearer}");
    let bare = rig.call(Method::POST, "/whep/r/s", &[("authorization", &authorization)], "").await;
    assert_eq!(bare.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_malformed_fragment_is_refused_and_the_session_lives() {
    let rig = rig();
    let etag = rig.publish().await.header("etag").to_owned();
    for fragment in [
        "",
        "a=mid:0\r\n",
        "a=candidate:garbage\r\n",
        "a=candidate:1 1 udp x 192.0.2.1 1 typ host\r\n",
        "a=candidate:1 1 udp 1 192.0.2.1 99999 typ host\r\n",
        "\u{0}\u{1}",
    ] {
        let answer = rig.patch(Some(&etag), fragment).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{fragment:?}");
        answer.problem();
    }
    let mdns = "a=candidate:1 1 udp 1 x.local 9 typ host generation 0\r\na=end-of-candidates\r\n";
    assert_eq!(rig.patch(Some(&etag), mdns).await.status, StatusCode::NO_CONTENT);
}
