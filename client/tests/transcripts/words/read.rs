//! Reads the inputs.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use waystation_client::machine::{
    AttemptId, CallFailure, ConnectionId, Delta, EventsLoss, Failure, Input, Phase, Plan, RequestId,
    Revision, Snapshot, StreamEntry, Told, UserEntry,
};
use waystation_proto::{
    Claim, ErrorCode, Health, Load, LoginId, Node, NodeId, NodeRef, RoomId, SessionId, StreamId, StreamKey,
    UserId,
};

fn key(text: &str) -> StreamKey {
    let (room, stream) = text.split_once('/').unwrap();
    StreamKey { room: RoomId::new(room).unwrap(), stream: StreamId::new(stream).unwrap() }
}

fn room(text: &str) -> RoomId {
    RoomId::new(text).unwrap()
}

fn node_ref(text: &str) -> NodeRef {
    let (id, incarnation) = text.split_once('#').unwrap_or((text, "1"));
    NodeRef { id: NodeId::new(id).unwrap(), incarnation: incarnation.parse().unwrap() }
}

fn node(text: &str) -> Node {
    let node = node_ref(text.trim_end_matches('!'));
    Node {
        http_url: format!("http://{}", node.id),
        node,
        link_url: String::new(),
        media_addr: "127.0.0.1:7000".parse().unwrap(),
        region: String::new(),
        health: if text.ends_with('!') { Health::Suspect } else { Health::Healthy },
        load: Load::default(),
    }
}

fn revision(text: &str) -> Revision {
    let (store_id, number) = text.split_once(':').unwrap();
    Revision { store_id: store_id.into(), number: number.parse().unwrap() }
}

fn user(text: &str) -> UserEntry {
    let (user, session) = text.split_once(':').unwrap();
    UserEntry { user: UserId::new(user).unwrap(), session: SessionId::new(session).unwrap() }
}

fn stream(text: &str) -> StreamEntry {
    let [stream, user, session, epoch] = text.split(':').collect::<Vec<_>>()[..] else {
        panic!("no stream: {text}")
    };
    StreamEntry {
        stream: StreamId::new(stream).unwrap(),
        user: UserId::new(user).unwrap(),
        session: SessionId::new(session).unwrap(),
        epoch: epoch.parse().unwrap(),
    }
}

fn claim(text: &str) -> Claim {
    let (epoch, moved) = text.split_once('.').unwrap();
    Claim { epoch: epoch.parse().unwrap(), moved: moved.parse().unwrap() }
}

fn connection(text: &str) -> ConnectionId {
    ConnectionId(text.parse().unwrap())
}

fn attempt(text: &str) -> AttemptId {
    AttemptId(text.parse().unwrap())
}

fn call_failure(text: &str) -> CallFailure {
    match text {
        "notconnected" => CallFailure::NotConnected,
        "failed" => CallFailure::Failed,
        code => CallFailure::Refused(ErrorCode::from_number(code.parse().unwrap()).unwrap()),
    }
}

fn list<T: Ord>(words: &[&str], prefix: &str, entry: fn(&str) -> T) -> BTreeSet<T> {
    let all = words.iter().find_map(|word| word.strip_prefix(prefix)).unwrap_or_default();
    all.split(',').filter(|text| !text.is_empty()).map(entry).collect()
}

fn delta(pair: &[&str]) -> Delta {
    match pair {
        ["+user", entry] => Delta::UserAdded(user(entry)),
        ["-user", entry] => Delta::UserDeleted(user(entry)),
        ["+stream", entry] => Delta::StreamAdded(stream(entry)),
        ["-stream", entry] => Delta::StreamDeleted(stream(entry)),
        other => panic!("unknown delta {other:?}"),
    }
}

fn failure(text: &str) -> Failure {
    match text {
        "unreachable" => Failure::Unreachable("connection refused".into()),
        "timedout" => Failure::TimedOut,
        "nothere" => Failure::NotHere,
        "loginended" => Failure::LoginEnded("kicked".into()),
        "higherclaim" => Failure::HigherClaim,
        "tokenrefused" => Failure::TokenRefused("expired".into()),
        "refused" => Failure::Refused("full".into()),
        "down" => Failure::Down,
        "closed" => Failure::Closed("by the node".into()),
        other => panic!("unknown failure {other}"),
    }
}

fn phase(text: &str) -> Phase {
    match text {
        "connecting" => Phase::Connecting,
        "idle" => Phase::Idle,
        "flowing" => Phase::Flowing,
        "originlost" => Phase::OriginLost,
        "standby" => Phase::Standby,
        other => panic!("unknown phase {other}"),
    }
}

fn plan(words: &[&str]) -> Plan {
    let value = |prefix: &str| words.iter().find_map(|word| word.strip_prefix(prefix));
    Plan {
        claim: value("claim=").map(claim),
        node_token: "node-token".into(),
        token_valid: Duration::from_millis(value("valid=").map_or(3_600_000, |ms| ms.parse().unwrap())),
        nodes: words.iter().filter(|word| !word.contains('=')).map(|text| node(text)).collect(),
    }
}

/// An input, or nothing if the words are unknown.
pub fn parse(words: &[&str], now: Instant) -> Option<Input> {
    app(words).or_else(|| session(words, now)).or_else(|| match words {
        ["lost", c] => Some(Input::ConnectionLost(connection(c))),
        ["loginfailed", c, id, why] => Some(Input::LoginFailed(connection(c), room(id), call_failure(why))),
        ["beat", c, "ok", rooms @ ..] => {
            Some(Input::BeatAnswered(connection(c), Ok(rooms.iter().map(|id| room(id)).collect())))
        }
        ["beat", c, why] => Some(Input::BeatAnswered(connection(c), Err(call_failure(why)))),
        ["plan", r, "ok", more @ ..] => Some(Input::Planned(RequestId(r.parse().unwrap()), Ok(plan(more)))),
        ["plan", r, why] => Some(Input::Planned(RequestId(r.parse().unwrap()), Err(call_failure(why)))),
        [what, c, more @ ..] => Some(Input::Told(connection(c), told(what, more)?)),
        _ => None,
    })
}

fn app(words: &[&str]) -> Option<Input> {
    Some(match words {
        ["login", id, token, more @ ..] => Input::Login {
            room: room(id),
            user_token: (*token).into(),
            login_id: LoginId::new(&format!("login-{id}")).unwrap(),
            notify_users: more.contains(&"notify"),
        },
        ["logout", id] => Input::Logout(room(id)),
        ["renew", id, token] => Input::RenewToken { room: room(id), user_token: (*token).into() },
        ["publish", of] => Input::Publish(key(of)),
        ["unpublish", of] => Input::StopPublishing(key(of)),
        ["play", of] => Input::Play(key(of)),
        ["unplay", of] => Input::StopPlaying(key(of)),
        ["close"] => Input::Close,
        _ => return None,
    })
}

fn session(words: &[&str], now: Instant) -> Option<Input> {
    Some(match words {
        ["answered", a] => Input::Answered(attempt(a)),
        ["up", a] => Input::Up(attempt(a)),
        ["media", a] => Input::Media(attempt(a)),
        ["heard", a] => Input::Heard(attempt(a), now),
        ["phase", a, which] => Input::Phase(attempt(a), phase(which), None),
        ["phase", a, which, under] => Input::Phase(attempt(a), phase(which), Some(claim(under))),
        ["fail", a, why] => Input::Failed(attempt(a), failure(why)),
        ["eventsup", at] => Input::EventsUp { node: node_ref(at), life: node_ref(at) },
        ["eventsup", at, life] => Input::EventsUp { node: node_ref(at), life: node_ref(life) },
        ["eventslost", at, "refused"] => Input::EventsLost(node_ref(at), EventsLoss::Refused),
        ["eventslost", at, "noanswer"] => Input::EventsLost(node_ref(at), EventsLoss::NoAnswer),
        ["eventslost", at, "broken"] => Input::EventsLost(node_ref(at), EventsLoss::Broken),
        _ => return None,
    })
}

fn told(what: &str, words: &[&str]) -> Option<Told> {
    Some(match (what, words) {
        ("welcome", urls) => Told::Welcome {
            coordinators: urls.iter().map(|url| (*url).to_owned()).collect(),
            beat_interval: Duration::from_secs(5),
        },
        ("roomup", [id, session, at, more @ ..]) => Told::RoomUp {
            room: room(id),
            snapshot: Snapshot {
                session: SessionId::new(session).unwrap(),
                revision: revision(at),
                users: list(more, "users=", user),
                streams: list(more, "streams=", stream),
            },
        },
        ("change", [id, at, more @ ..]) => Told::RoomChange {
            room: room(id),
            revision: revision(at),
            deltas: more.chunks(2).map(delta).collect(),
        },
        ("roomdown", [id, code]) => {
            Told::RoomDown { room: room(id), code: ErrorCode::from_number(code.parse().unwrap()) }
        }
        ("nodes", nodes) => Told::Nodes(nodes.iter().map(|text| node(text)).collect()),
        ("suspect", [at]) => Told::Suspect(node_ref(at)),
        ("expiring", [id, seconds]) => {
            Told::TokenExpiring { room: room(id), in_: Duration::from_secs(seconds.parse().unwrap()) }
        }
        ("tryother", []) => Told::TryOther { within: Duration::from_secs(1) },
        _ => return None,
    })
}
