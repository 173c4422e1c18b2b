//! Writes the outputs.

use serde_json::Value;
use waystation_client::machine::{Event, Login, Output};
use waystation_proto::{NodeRef, token::Action};

fn action(action: Action) -> &'static str {
    match action {
        Action::Publish => "publish",
        Action::Play => "play",
    }
}

fn named(node: &NodeRef) -> String {
    if node.incarnation == 1 { node.id.to_string() } else { node.to_string() }
}

fn joined<T>(items: &[T], word: impl Fn(&T) -> String) -> String {
    items.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn login(login: &Login) -> String {
    let mut text = format!("{}({}", login.room, login.user_token);
    for (set, word) in [(login.resume, " resume"), (login.notify_users, " notify")] {
        text += if set { word } else { "" };
    }
    if let Some(seen) = &login.seen {
        text += &format!(" seen={}:{}", seen.store_id, seen.number);
    }
    for held in &login.claims {
        text += &format!(" holds={}@{}", held.stream, held.claim);
    }
    text + ")"
}

/// An output in words.
pub fn show(output: &Output) -> String {
    match output {
        Output::Connect { connection, url, logins } => {
            format!("connect {} {url} {}", connection.0, joined(logins, login))
        }
        Output::Disconnect(connection) => format!("disconnect {}", connection.0),
        Output::Login { connection, url, login: what } => {
            format!("login {} {url} {}", connection.0, login(what))
        }
        Output::Beat { connection, url, sessions } => {
            let rooms = joined(sessions, |session| session.room.to_string());
            format!("beat {} {url} {rooms}", connection.0)
        }
        Output::Logout { url, session } => format!("logout {url} {}", session.room),
        Output::RenewToken { url, session, user_token } => {
            format!("renew {url} {} {user_token}", session.room)
        }
        Output::Plan { request, url, action: what, session, stream, failed } => {
            let (what, room, failed) = (action(*what), &session.room, joined(failed, named));
            format!("plan {} {url} {what} {room}/{stream} failed=[{failed}]", request.0)
        }
        Output::EndStream { url, session, stream, epoch } => {
            format!("endstream {url} {}/{stream} epoch={epoch}", session.room)
        }
        Output::Report { url, session, stream, trials } => {
            let trials = joined(trials, |trial| format!("{}:{}", named(&trial.node), trial.outcome.word()));
            format!("report {url} {}/{stream} [{trials}]", session.room)
        }
        Output::Dial { attempt, key, action: what, node, moved, .. } => {
            let standing = match (what, moved) {
                (Action::Publish, Some(moved)) => format!(" move={moved}"),
                (Action::Publish, None) => " standby".into(),
                (Action::Play, _) => String::new(),
            };
            format!("dial {attempt} {} {key} {}{standing}", action(*what), named(&node.node))
        }
        Output::Activate { attempt, claim } => format!("activate {attempt} {claim}"),
        Output::Use { attempt, key, action: what } => format!("use {attempt} {} {key}", action(*what)),
        Output::Hang(attempt) => format!("hang {attempt}"),
        Output::OpenEvents(node) => format!("openevents {}", named(&node.node)),
        Output::CloseEvents(node) => format!("closeevents {}", named(node)),
        Output::Emit(event) => format!("emit {}", show_event(event)),
    }
}

fn extended(node: Option<&NodeRef>, value: &Value) -> String {
    let mut text = node.map_or(String::new(), |node| format!(" node={}", named(node)));
    text += if value["idle"] == true { " idle" } else { "" };
    if let Some(trace) = value["trace"].as_array().filter(|trace| !trace.is_empty()) {
        let word = |trial: &Value, key: &str| trial[key].as_str().unwrap().to_owned();
        let trial = |trial: &Value| format!("{}:{}", word(trial, "node"), word(trial, "outcome"));
        text += &format!(" trace=[{}]", joined(trace, trial));
    }
    if let Some(wait) = value["retry_after_ms"].as_u64() {
        text += &format!(" retry_after_ms={wait}");
    }
    text
}

fn show_event(event: &Event) -> String {
    match event {
        Event::Room(update) => {
            let session = update.extended["session"].as_str();
            let session = session.map_or(String::new(), |session| format!(" session={session}"));
            format!("room {} {} {}{session}", update.room, update.state, update.code)
        }
        Event::Publisher(update) => {
            let more = extended(update.node.as_ref(), &update.extended);
            format!("publisher {} {} {}{more}", update.key, update.state, update.code)
        }
        Event::Player(update) => {
            let more = extended(update.node.as_ref(), &update.extended);
            format!("player {} {} {}{more}", update.key, update.state, update.code)
        }
        Event::Attempt(attempt) => {
            let (node, took) = (named(&attempt.node), attempt.took.as_millis());
            format!("attempt {} {node} {} {took}ms", attempt.key, attempt.outcome.word())
        }
        Event::Gap(gap) => format!("gap {} {}ms", gap.key, gap.lasted.as_millis()),
        Event::Users(update) => {
            let users = joined(&update.users, |entry| format!("{}:{}", entry.user, entry.session));
            format!("users {} {} {users}", update.room, update.change)
        }
        Event::Streams(update) => {
            let streams = joined(&update.streams, |entry| {
                format!("{}:{}:{}:{}", entry.stream, entry.user, entry.session, entry.epoch)
            });
            format!("streams {} {} {streams}", update.room, update.change)
        }
        Event::TokenExpiring { room, in_ } => format!("expiring {room} {}s", in_.as_secs()),
    }
}
