//! Whether a login is taken, and what it writes: pure.
//!
//! Invariant (ROOM-7): the same login, repeated however often and through whomever, has one session and kicks nobody;
//! a login that was replaced never comes back.

use aws_lc_rs::digest;
use waystation_proto::{ErrorCode, LoginId, Refusal, SessionId, token::UserToken};

use crate::keys::{Rights, UserEntry};

/// Logins that an entry remembers to have replaced.
pub const REPLACED_KEPT: usize = 8;
/// Characters of a session id: 130 of the hash's 256 bits.
const SESSION_CHARACTERS: usize = 26;

/// The public name of a login: the first 26 characters of base32 (RFC 4648, lower case) of its SHA-256.
#[must_use]
pub fn session_of(login: &LoginId) -> SessionId {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let hash = digest::digest(&digest::SHA256, login.as_str().as_bytes());
    let bit = |n: usize| (hash.as_ref()[n / 8] >> (7 - n % 8)) & 1;
    let character = |n: usize| {
        let index = (0..5).fold(0, |index, k| index << 1 | bit(n * 5 + k));
        char::from(ALPHABET[usize::from(index)])
    };
    let text: String = (0..SESSION_CHARACTERS).map(character).collect();
    SessionId::new(&text).expect("26 letters and digits are an id")
}

/// What a newer version wrote into an entry.
type Other = serde_json::Map<String, serde_json::Value>;

/// A login that is asked for. Its token was checked.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Derived from the login's secret.
    pub session: &'a SessionId,
    /// The client says that it was answered before.
    pub resume: bool,
    /// Number of the connection over which it comes.
    pub connection: u64,
    /// What its token says.
    pub token: &'a UserToken,
    /// The coordinator that takes it.
    pub owner: &'a str,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write this: the user was not in the room, or this is its login again.
    Enter(UserEntry),
    /// Write this; another login ends.
    Replace {
        /// The entry.
        entry: UserEntry,
        /// The login that ends.
        ended: SessionId,
        /// A login replaced so long ago that it is forgotten.
        forgotten: Option<SessionId>,
    },
    /// Nothing changes: a newer connection of the same login was here already.
    Late,
    /// Nothing changes, and it is over.
    Refuse(Refusal),
}

fn entry(attempt: &Attempt<'_>, shown: SessionId, replaced: Vec<SessionId>, other: Other) -> UserEntry {
    let token = attempt.token;
    UserEntry {
        app: token.app.clone(),
        session: attempt.session.clone(),
        shown,
        rights: Rights { publish: token.publish, play: token.play, streams: token.streams.clone() },
        expires_s: Some(token.exp),
        connection: attempt.connection,
        owner: attempt.owner.to_owned(),
        replaced,
        doubted: false,
        other,
    }
}

/// Decides on a login, given what is held of its user.
#[must_use]
pub fn decide(held: Option<&UserEntry>, attempt: &Attempt<'_>) -> Decision {
    let replaced = || Decision::Refuse(Refusal::new(ErrorCode::Replaced, "this user logged in elsewhere"));
    let Some(held) = held else {
        return Decision::Enter(entry(attempt, attempt.session.clone(), Vec::new(), Other::new()));
    };
    if !held.app.is_empty() && held.app != attempt.token.app {
        let message = format!("user {} is in the room by another app's token", attempt.token.user);
        return Decision::Refuse(Refusal::new(ErrorCode::TokenRefused, message));
    }
    if held.session == *attempt.session {
        if attempt.connection < held.connection {
            return Decision::Late;
        }
        return Decision::Enter(entry(
            attempt,
            held.shown.clone(),
            held.replaced.clone(),
            held.other.clone(),
        ));
    }
    // One that was answered before is the older one, whatever became of what we remember.
    if attempt.resume || held.replaced.contains(attempt.session) {
        return replaced();
    }
    let mut history = held.replaced.clone();
    history.push(held.session.clone());
    let forgotten = (history.len() > REPLACED_KEPT).then(|| history.remove(0));
    Decision::Replace {
        entry: entry(attempt, held.shown.clone(), history, Other::new()),
        ended: held.session.clone(),
        forgotten,
    }
}

#[cfg(test)]
mod tests {
    use waystation_proto::UserId;

    use super::*;

    fn token() -> UserToken {
        UserToken {
            app: "app".into(),
            user: UserId::new("ann").unwrap(),
            rooms: vec!["*".into()],
            publish: true,
            play: false,
            streams: None,
            observe: false,
            admin: false,
            exp: 100,
        }
    }

    fn login(held: Option<&UserEntry>, session: &str, resume: bool, connection: u64) -> Decision {
        let (session, token) = (SessionId::new(session).unwrap(), token());
        decide(held, &Attempt { session: &session, resume, connection, token: &token, owner: "c1" })
    }

    fn entered(decision: Decision) -> UserEntry {
        match decision {
            Decision::Enter(entry) | Decision::Replace { entry, .. } => entry,
            Decision::Late | Decision::Refuse(_) => panic!("{decision:?}"),
        }
    }

    fn code(decision: Decision) -> Option<ErrorCode> {
        match decision {
            Decision::Refuse(refusal) => Some(refusal.code),
            Decision::Enter(_) | Decision::Replace { .. } | Decision::Late => None,
        }
    }

    #[test]
    fn a_session_id_is_that_of_every_implementation() {
        // SHA-256 of "abc" is FIPS 180-4's example.
        let session = session_of(&LoginId::new("abc").unwrap());
        assert_eq!(session.as_str(), "xj4bnp4pahh6uqkbidpf3lrceo");
        assert_eq!(session.as_str().len(), SESSION_CHARACTERS);
        assert_ne!(session, session_of(&LoginId::new("abd").unwrap()));
    }

    #[test]
    fn the_same_login_again_kicks_nobody_and_a_newer_login_replaces() {
        // ROOM-7
        let first = entered(login(None, "one", false, 1));
        let again = entered(login(Some(&first), "one", false, 2));
        assert_eq!((again.session.as_str(), again.connection), ("one", 2));
        assert_eq!(
            login(Some(&again), "one", true, 1),
            Decision::Late,
            "the older connection's write comes late"
        );
        let Decision::Replace { entry: second, ended, forgotten } = login(Some(&again), "two", false, 1)
        else {
            panic!()
        };
        assert_eq!((ended.as_str(), forgotten), ("one", None));
        assert_eq!(code(login(Some(&second), "one", false, 3)), Some(ErrorCode::Replaced), "a late repeat");
        assert_eq!(code(login(Some(&second), "one", true, 3)), Some(ErrorCode::Replaced));
        assert_eq!(
            code(login(Some(&second), "unheard-of", true, 1)),
            Some(ErrorCode::Replaced),
            "never a new login"
        );
    }

    #[test]
    fn others_know_a_user_under_the_login_with_which_it_came() {
        // PUB-8
        let first = entered(login(None, "one", false, 1));
        let second = entered(login(Some(&first), "two", false, 1));
        assert_eq!((first.shown.as_str(), second.shown.as_str()), ("one", "one"));
        assert_eq!(entered(login(None, "two", true, 1)).shown.as_str(), "two", "it went and came back");
    }

    #[test]
    fn the_history_of_replaced_logins_is_bounded() {
        // ROOM-7
        let mut held = entered(login(None, "s0", false, 1));
        for n in 1..20 {
            let decision = login(Some(&held), &format!("s{n}"), false, 1);
            let Decision::Replace { entry, forgotten, .. } = decision else { panic!() };
            assert_eq!(forgotten.is_some(), n > REPLACED_KEPT);
            held = entry;
        }
        assert_eq!(held.replaced.len(), REPLACED_KEPT);
        assert_eq!(held.replaced.last().unwrap().as_str(), "s18");
    }

    #[test]
    fn another_app_cannot_take_a_user_over_but_a_relays_word_is_no_app() {
        // ROOM-2
        let mut held = entered(login(None, "one", false, 1));
        held.app = "other".into();
        assert_eq!(code(login(Some(&held), "two", false, 1)), Some(ErrorCode::TokenRefused));
        held.app = String::new();
        assert_eq!(entered(login(Some(&held), "one", true, 1)).app, "app");
    }
}
