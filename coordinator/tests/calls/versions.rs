//! A rolling upgrade: two versions share the wire and the store. The values here are those that a version before this one
//! wrote, kept as they were, and those of one after it, which knows more.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;
use waystation_coordinator::store::{Compare, MemoryStore, Store, Transaction, Write};
use waystation_proto::v1;

use crate::{
    support::{Client, ROOM, Relay, Server, config, login, soon},
    wire::{contains, grpc_web, raw},
};

const PREFIX: &str = "waystation/v1/";
/// SHA-256 of "anns-secret", as every version derives it.
const ANNS_LOGIN: &str = "anns-secret";

async fn put(store: &MemoryStore, key: &str, value: &Value) {
    let write = Write::put(format!("{PREFIX}{key}"), value.to_string().into_bytes());
    store.commit(Transaction { compares: Vec::new(), writes: vec![write] }).await.unwrap();
}

async fn get(store: &MemoryStore, key: &str) -> Option<Value> {
    let found = store.get(&format!("{PREFIX}{key}")).await.unwrap().entry?;
    serde_json::from_slice(&found.value).ok()
}

/// A user of the version before.
fn older_user(session: &str) -> Value {
    json!({
        "app": "app", "session": session, "shown": session, "rights": { "publish": true, "play": true },
        "connection": 1, "owner": "an-older-coordinator", "replaced": []
    })
}

#[tokio::test]
async fn what_an_older_version_stored_is_taken_over_and_goes_on() {
    // ROOM-4, PUB-9
    let store = MemoryStore::new();
    // Ann's session id, from a server that never met the others.
    let elsewhere = Server::start().await;
    let session = Client::with(&elsewhere, "ann", 1, login("ann", ANNS_LOGIN)).await.up.session_id;
    put(&store, "epochs", &json!({ "base": 1_000 })).await;
    put(&store, &format!("user/{ROOM}/ann"), &older_user(&session)).await;
    put(
        &store,
        &format!("claim/{ROOM}/cam"),
        &json!({ "user": "ann", "session": session, "epoch": { "above": 1_000 } }),
    )
    .await;
    let held = store.get(&format!("{PREFIX}claim/{ROOM}/cam")).await.unwrap().entry.unwrap();
    let epoch = 1_000 + held.modified;
    let stream = json!({ "user": "ann", "session": session, "epoch": epoch, "moved": 3 });
    put(&store, &format!("stream/{ROOM}/cam"), &stream).await;
    put(
        &store,
        "revoked/some-older-session",
        &json!({ "code": 1_002_050, "until_ms": 9_999_999_999_999_u64 }),
    )
    .await;

    let server = Server::over(config(), Arc::new(store.clone())).await;
    let mut bob = Client::login(&server, "bob").await;
    let names: Vec<_> = bob.up.users.iter().map(|user| user.user.as_str()).collect();
    assert_eq!(names, ["ann", "bob"]);
    assert_eq!(bob.up.streams[0].epoch, epoch);
    let resumed = v1::RoomLogin { resume: true, ..login("ann", ANNS_LOGIN) };
    let mut ann = Client::with(&server, "ann", 2, resumed).await;
    assert_eq!(ann.up.session_id, session);
    assert_eq!(ann.plan_publish("cam").await.unwrap().claim.unwrap().epoch, epoch, "the claim is kept");
    bob.told_only_of(&server, "fence").await;
}

#[tokio::test]
async fn what_a_newer_version_stored_is_read_and_kept_when_it_is_written_again() {
    // ROOM-4, ROOM-5
    let store = MemoryStore::new();
    let server = Server::over(config(), Arc::new(store.clone())).await;
    let mut bob = Client::login(&server, "bob").await;
    let mut newer = older_user("the-session-of-a-newer-user");
    newer["owner"] = json!("a-newer-coordinator");
    newer["mood"] = json!({ "of": ["a", "version"], "to": "come" });
    put(&store, &format!("user/{ROOM}/carol"), &newer).await;
    put(&store, "something-new/altogether", &json!({ "nobody": "knows" })).await;
    assert_eq!(bob.told().await, "+carol");
    // Its owner is no coordinator that lives: ours takes the user over.
    let taken = soon("the user's new owner", async {
        loop {
            let held = get(&store, &format!("user/{ROOM}/carol")).await.unwrap();
            if held["owner"] != newer["owner"] {
                return held;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(taken.await["mood"], newer["mood"]);
    assert!(get(&store, "something-new/altogether").await.is_some());
    bob.told_only_of(&server, "fence").await;
}

/// A client of a newer version: what it says besides is for those that understand it.
#[derive(Clone, PartialEq, prost::Message)]
struct NewerConnect {
    #[prost(string, tag = "1")]
    client_id: String,
    #[prost(uint64, tag = "2")]
    connection: u64,
    #[prost(message, repeated, tag = "3")]
    rooms: Vec<NewerLogin>,
    #[prost(string, repeated, tag = "60")]
    understands: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NewerLogin {
    #[prost(string, tag = "1")]
    room: String,
    #[prost(string, tag = "2")]
    user_token: String,
    #[prost(string, tag = "3")]
    login_id: String,
    #[prost(message, optional, tag = "61")]
    wishes: Option<v1::NodeRef>,
}

/// A client of a version that knew neither resumes nor claims.
#[derive(Clone, PartialEq, prost::Message)]
struct OlderLogin {
    #[prost(string, tag = "1")]
    room: String,
    #[prost(string, tag = "2")]
    user_token: String,
    #[prost(string, tag = "3")]
    login_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OlderConnect {
    #[prost(string, tag = "1")]
    client_id: String,
    #[prost(uint64, tag = "2")]
    connection: u64,
    #[prost(message, repeated, tag = "3")]
    rooms: Vec<OlderLogin>,
}

#[tokio::test]
async fn older_and_newer_clients_and_relays_share_a_room() {
    // ROOM-1
    let server = Server::start().await;
    let mut watcher = Client::login(&server, "watcher").await;
    let (one, two) = (login("newer", "newers-secret"), login("older", "olders-secret"));
    let newer = NewerConnect {
        client_id: "newer".into(),
        connection: 1,
        rooms: vec![NewerLogin {
            room: one.room,
            user_token: one.user_token,
            login_id: one.login_id,
            wishes: Some(v1::NodeRef { id: "x".into(), incarnation: 7 }),
        }],
        understands: vec!["everything".into()],
    };
    let path = "/waystation.v1.RoomService/Connect";
    let answer = raw(server.listen, &grpc_web(path, &newer), |answer| contains(answer, ROOM)).await;
    assert!(contains(&answer, "200 OK"));
    assert_eq!(watcher.told().await, "+newer");
    let older = OlderConnect {
        client_id: "older".into(),
        connection: 1,
        rooms: vec![OlderLogin { room: two.room, user_token: two.user_token, login_id: two.login_id }],
    };
    let answer = raw(server.listen, &grpc_web(path, &older), |answer| contains(answer, ROOM)).await;
    assert!(contains(&answer, "200 OK"));
    assert_eq!(watcher.told().await, "+older");

    // A relay that says what this version has no name for: it reads as nothing at all.
    let relay = Relay::attach(&server, 1).await;
    relay.say_nothing_known().await;
    let mut ann = Client::login(&server, "ann").await;
    assert_eq!(watcher.told().await, "+ann");
    let claim = ann.plan_publish("cam").await.unwrap().claim.unwrap();
    relay.origin_up(&ann, "cam", claim).await;
    assert_eq!(watcher.told().await, "+cam of ann");
}

#[tokio::test]
async fn a_key_is_compared_as_it_was_read_whoever_wrote_it() {
    // PUB-11
    let store = MemoryStore::new();
    put(&store, "epochs", &json!({ "base": 5, "of": "a newer version" })).await;
    let server = Server::over(config(), Arc::new(store.clone())).await;
    let mut ann = Client::login(&server, "ann").await;
    assert!(ann.plan_publish("cam").await.unwrap().claim.unwrap().epoch > 5);
    let unchanged = vec![Compare::Absent(format!("{PREFIX}epochs"))];
    let outcome = store.commit(Transaction { compares: unchanged, writes: Vec::new() }).await.unwrap();
    assert_eq!(
        outcome,
        waystation_coordinator::store::Outcome::Conflict,
        "where epochs begin is still there"
    );
}
