//! User tokens (RFC 7519; HS256, or EdDSA as in RFC 8037): signed by apps, checked here and nowhere else.
//!
//! Invariant: a token is trusted only after its signature was checked with the key of the app that it names, under the
//! one algorithm that this key is for.

use std::collections::BTreeMap;

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, dangerous, decode, decode_header, encode,
    errors::{Error, ErrorKind},
};
use serde::Deserialize;
use waystation_proto::{ErrorCode, Refusal, RoomId, StreamId, token::UserToken};

use super::{MAX_TOKEN_BYTES, SignError};

/// Clocks of apps may be ahead of ours by this, for a token's "not before".
const NOT_BEFORE_LEEWAY_S: u64 = 60;

/// How an app signs.
#[derive(Clone, PartialEq, Eq)]
pub enum AppKey {
    /// HS256 with this secret.
    Secret(Vec<u8>),
    /// EdDSA; this is its Ed25519 public key, 32 bytes.
    Ed25519(Vec<u8>),
}

impl std::fmt::Debug for AppKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret(..)",
            Self::Ed25519(_) => "Ed25519(..)",
        })
    }
}

/// An app whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its name, as in the token's `app`.
    pub id: String,
    /// How it signs.
    pub key: AppKey,
}

/// With what a user token is signed.
pub enum AppSigner<'a> {
    /// HS256 with the app's secret.
    Secret(&'a [u8]),
    /// EdDSA with the app's Ed25519 key, PKCS#8 in DER.
    Ed25519Pkcs8(&'a [u8]),
}

/// Signs a user token as an app's server would.
///
/// # Errors
/// [`SignError`] when the key is not of its kind.
pub fn sign_user_token(signer: &AppSigner<'_>, token: &UserToken) -> Result<String, SignError> {
    let (algorithm, key) = match signer {
        AppSigner::Secret(secret) => (Algorithm::HS256, EncodingKey::from_secret(secret)),
        AppSigner::Ed25519Pkcs8(der) => (Algorithm::EdDSA, EncodingKey::from_ed_der(der)),
    };
    encode(&Header::new(algorithm), token, &key).map_err(|error| SignError::Key(error.to_string()))
}

/// Checks user tokens.
#[derive(Clone, Debug)]
pub struct UserTokens {
    apps: BTreeMap<String, AppKey>,
}

#[derive(Deserialize)]
struct Signed {
    #[serde(flatten)]
    token: UserToken,
    #[serde(default)]
    nbf: Option<u64>,
}

#[derive(Deserialize)]
struct Unproved {
    app: String,
}

fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::TokenRefused, message)
}

fn why(error: &Error, app: &str) -> Refusal {
    if matches!(error.kind(), ErrorKind::InvalidSignature) {
        return refused(format!("the token was not signed with the key of app {app:?}"));
    }
    if matches!(error.kind(), ErrorKind::InvalidAlgorithm) {
        return refused(format!("the token is signed with another algorithm than app {app:?} uses"));
    }
    refused(format!("the token cannot be read: {error}"))
}

impl UserTokens {
    /// Takes tokens of these apps.
    #[must_use]
    pub fn new(apps: Vec<App>) -> Self {
        Self { apps: apps.into_iter().map(|app| (app.id, app.key)).collect() }
    }

    /// Checks signature and times.
    ///
    /// # Errors
    /// 1002033, or 1002056 for one that expired.
    pub fn check(&self, text: &str, now_s: u64) -> Result<UserToken, Refusal> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(refused(format!("the token has over {MAX_TOKEN_BYTES} bytes")));
        }
        let unreadable = |error: Error| refused(format!("the token is not a JWT: {error}"));
        decode_header(text).map_err(unreadable)?;
        let app = dangerous::insecure_decode_claims::<Unproved>(text).map_err(unreadable)?.app;
        let Some(key) = self.apps.get(&app) else {
            let named: String = app.chars().take(64).collect();
            return Err(refused(format!("no app {named:?} is known here")));
        };
        let (algorithm, key) = match key {
            AppKey::Secret(secret) => (Algorithm::HS256, DecodingKey::from_secret(secret)),
            AppKey::Ed25519(public) => (Algorithm::EdDSA, DecodingKey::from_ed_der(public)),
        };
        let mut validation = Validation::new(algorithm);
        // Times are judged below, by the clock that was handed in; an audience is not ours to ask for.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let signed = decode::<Signed>(text, &key, &validation).map_err(|error| why(&error, &app))?.claims;
        if let Some(from) = signed.nbf.filter(|from| *from > now_s.saturating_add(NOT_BEFORE_LEEWAY_S)) {
            return Err(refused(format!("the token is good only in {} s; is a clock wrong?", from - now_s)));
        }
        if signed.token.exp <= now_s {
            let ago = now_s - signed.token.exp;
            let message = format!("the token expired {ago} s ago; get a new one from the app's server");
            return Err(Refusal::new(ErrorCode::TokenExpired, message));
        }
        Ok(signed.token)
    }

    /// Checks a token that is to let its user into a room.
    ///
    /// # Errors
    /// As [`Self::check`], and 1002033 for a token of another room.
    pub fn check_for_room(&self, text: &str, room: &RoomId, now_s: u64) -> Result<UserToken, Refusal> {
        let token = self.check(text, now_s)?;
        if !token.covers_room(room) {
            return Err(refused(format!("the token is not good for room {room}")));
        }
        Ok(token)
    }
}

/// Whether rights from a token cover a stream.
///
/// # Errors
/// `code` when the right is missing or the token names other streams.
pub(crate) fn check_right(
    allowed: bool,
    streams: Option<&[String]>,
    stream: &StreamId,
    code: ErrorCode,
) -> Result<(), Refusal> {
    if !allowed {
        return Err(Refusal::new(code, "the user's token does not allow it"));
    }
    if streams.is_some_and(|streams| !streams.iter().any(|named| named == stream.as_str())) {
        return Err(Refusal::new(code, format!("the user's token names other streams than {stream}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use proptest::prelude::*;
    use waystation_proto::UserId;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const SECRET: &[u8] = b"the secret of the app, long enough";

    fn token() -> UserToken {
        UserToken {
            app: "app".into(),
            user: UserId::new("ann").unwrap(),
            rooms: vec!["r".into()],
            publish: true,
            play: true,
            streams: None,
            observe: false,
            admin: false,
            exp: NOW + 60,
        }
    }

    fn tokens() -> UserTokens {
        UserTokens::new(vec![App { id: "app".into(), key: AppKey::Secret(SECRET.to_vec()) }])
    }

    fn sign(token: &UserToken) -> String {
        sign_user_token(&AppSigner::Secret(SECRET), token).unwrap()
    }

    fn code(result: Result<UserToken, Refusal>) -> Option<ErrorCode> {
        result.err().map(|refusal| refusal.code)
    }

    #[test]
    fn a_good_token_is_taken_and_a_forged_expired_early_or_foreign_one_is_not() {
        // ROOM-2
        let (tokens, room) = (tokens(), RoomId::new("r").unwrap());
        assert_eq!(tokens.check_for_room(&sign(&token()), &room, NOW), Ok(token()));
        let forged = sign_user_token(&AppSigner::Secret(b"another"), &token()).unwrap();
        assert_eq!(code(tokens.check(&forged, NOW)), Some(ErrorCode::TokenRefused));
        assert_eq!(code(tokens.check(&sign(&token()), NOW + 60)), Some(ErrorCode::TokenExpired));
        let other_app = UserToken { app: "other".into(), ..token() };
        assert_eq!(code(tokens.check(&sign(&other_app), NOW)), Some(ErrorCode::TokenRefused));
        let other_room = RoomId::new("other").unwrap();
        let refused = tokens.check_for_room(&sign(&token()), &other_room, NOW);
        assert_eq!(code(refused), Some(ErrorCode::TokenRefused));
        let everywhere = UserToken { rooms: vec!["*".into()], ..token() };
        assert!(tokens.check_for_room(&sign(&everywhere), &other_room, NOW).is_ok());
        let claims = serde_json::json!({"app": "app", "user": "ann", "rooms": ["r"], "exp": NOW + 900, "nbf": NOW + 600});
        let key = EncodingKey::from_secret(SECRET);
        let early = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        assert_eq!(code(tokens.check(&early, NOW)), Some(ErrorCode::TokenRefused));
        assert!(tokens.check(&early, NOW + 600).is_ok());
    }

    #[test]
    fn an_app_may_sign_with_ed25519_and_nobody_can_pass_its_public_key_off_as_a_secret() {
        // ROOM-2
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let tokens = UserTokens::new(vec![App { id: "app".into(), key: AppKey::Ed25519(public.clone()) }]);
        let der = pair.to_pkcs8v1().unwrap();
        let signed = sign_user_token(&AppSigner::Ed25519Pkcs8(der.as_ref()), &token()).unwrap();
        assert_eq!(tokens.check(&signed, NOW), Ok(token()));
        let confused = sign_user_token(&AppSigner::Secret(&public), &token()).unwrap();
        assert_eq!(code(tokens.check(&confused, NOW)), Some(ErrorCode::TokenRefused));
        assert!(sign_user_token(&AppSigner::Ed25519Pkcs8(b"no key"), &token()).is_err());
    }

    #[test]
    fn a_missing_right_and_another_stream_have_the_code_of_the_action() {
        // PUB-5, PLAY-5
        let stream = StreamId::new("cam").unwrap();
        let check = |allowed, streams: Option<&[String]>| {
            check_right(allowed, streams, &stream, ErrorCode::PublishForbidden)
                .err()
                .map(|refusal| refusal.code)
        };
        assert_eq!(check(true, None), None);
        assert_eq!(check(true, Some(&["cam".into()])), None);
        assert_eq!(check(false, None), Some(ErrorCode::PublishForbidden));
        assert_eq!(check(true, Some(&["other".into()])), Some(ErrorCode::PublishForbidden));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,200}", parts in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){2}") {
            prop_assert!(tokens().check(&text, NOW).is_err());
            prop_assert!(tokens().check(&parts, NOW).is_err());
        }

        #[test]
        fn a_token_changed_in_one_place_is_refused(at in 0usize..200, to in "[A-Za-z0-9_-]") {
            let good = sign(&token());
            let at = at % good.len();
            let mut changed = good.clone();
            changed.replace_range(at..=at, &to);
            // The last character of a base64 text has bits that say nothing.
            prop_assume!(changed != good && at + 1 != good.len());
            prop_assert!(tokens().check(&changed, NOW).is_err());
        }
    }
}
