//! Who may do what: tokens, and one publisher per stream.

use reqwest::blocking::{Client, Response};

use crate::support::{
    SOON,
    clips::{Video, clip},
    cluster::{Cluster, Rights},
    process::{output, waystation},
    ready::answered,
};

fn video() -> String {
    clip(Video::Vp8, 8).video.to_str().unwrap().to_owned()
}

/// An offer with a user token to the first relay, as a client without an SDK makes it.
fn offer(http: &Client, cluster: &Cluster, path: &str, token: &str) -> Response {
    let ask = || {
        let request = http.post(format!("{}{path}", cluster.relays[0].http)).bearer_auth(token);
        request.header("content-type", "application/sdp").body("v=0\r\n").send()
    };
    answered(ask).unwrap()
}

#[test]
fn a_stream_that_another_user_publishes_is_refused_at_once() {
    // PUB-5
    let cluster = Cluster::start(2);
    let clip = video();
    let mut first = cluster.published("room", "alice", "cam", &["--video", &clip, "--loop"]);
    let mut second = cluster.publish("room", "mallory", "cam", &["--video", &clip, "--loop"]);
    second.state("publisher", 0, 1_003_028);
    assert_eq!(second.end(SOON).code(), Some(3));
    assert!(second.events("attempt").is_empty(), "no node was tried: {}", second.story());
    assert!(first.events("state").iter().all(|event| event["code"] == 0), "{}", first.story());
}

#[test]
fn a_token_without_the_right_is_refused_with_the_actions_code() {
    // PUB-5, PLAY-5
    let cluster = Cluster::start(1);
    let clip = video();
    let play_only = cluster.token("room", "alice", Rights::Play);
    let mut publisher = cluster.client_with_token("publish", "room", "cam", &play_only, &["--video", &clip]);
    publisher.state("publisher", 0, 1_003_025);
    let _live = cluster.published("room", "bob", "live", &["--video", &clip, "--loop"]);
    let publish_only = cluster.token("room", "carol", Rights::Publish);
    let mut player = cluster.client_with_token("play", "room", "live", &publish_only, &[]);
    player.state("player", 0, 1_004_025);
}

#[test]
fn a_forged_expired_or_foreign_token_is_refused_by_the_coordinator() {
    // ROOM-2
    let cluster = Cluster::start(1);
    let sign = |options: &[&str]| {
        output(waystation().args(["token", "--user", "eve", "--publish", "--play"]).args(options))
            .trim()
            .to_owned()
    };
    let forged = sign(&["--room", "room", "--app", "dev", "--secret", "not the secret of this app at all"]);
    let foreign = sign(&["--room", "another"]);
    let clip = video();
    for token in [forged.as_str(), foreign.as_str(), "no.token.atall"] {
        let mut client = cluster.client_with_token("publish", "room", "cam", token, &["--video", &clip]);
        client.state("room", 0, 1_002_033);
        assert_eq!(client.end(SOON).code(), Some(3));
    }
}

#[test]
fn a_token_for_another_stream_is_refused_by_coordinator_and_relay() {
    // PUB-5, PLAY-5
    let cluster = Cluster::start(1);
    let clip = video();
    let _live = cluster.published("room", "bob", "live", &["--video", &clip, "--loop"]);
    let words = ["token", "--room", "room", "--user", "eve", "--publish", "--play", "--stream", "mine"];
    let token = output(waystation().args(words)).trim().to_owned();
    let mut publisher = cluster.client_with_token("publish", "room", "yours", &token, &["--video", &clip]);
    publisher.state("publisher", 0, 1_003_025);
    assert_eq!(publisher.end(SOON).code(), Some(3));
    let mut player = cluster.client_with_token("play", "room", "live", &token, &[]);
    player.state("player", 0, 1_004_025);
    let http = Client::new();
    for path in ["/whip/room/yours", "/whep/room/live"] {
        let response = offer(&http, &cluster, path, &token);
        assert_eq!(response.status().as_u16(), 403, "{path}");
    }
}

#[test]
fn an_expired_token_is_refused_by_coordinator_and_relay() {
    // ROOM-2
    let cluster = Cluster::start(1);
    let words = ["token", "--room", "room", "--user", "eve", "--publish", "--play", "--ttl", "0s"];
    let token = output(waystation().args(words)).trim().to_owned();
    let mut client = cluster.client_with_token("publish", "room", "cam", &token, &["--video", &video()]);
    let refused = client.next("the refusal", |event| event["event"] == "state" && event["state"] == 0);
    assert!([1_002_033, 1_002_056].contains(&refused["code"].as_u64().unwrap()), "{refused}");
    assert_eq!(client.end(SOON).code(), Some(3));
    let http = Client::new();
    let response = offer(&http, &cluster, "/whip/room/cam", &token);
    assert_eq!(response.status().as_u16(), 401);
}

#[test]
fn a_relay_refuses_bad_tokens_with_a_problem_document() {
    let cluster = Cluster::start(1);
    let http = Client::new();
    let post = |path: &str, token: &str| {
        let response = offer(&http, &cluster, path, token);
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (response.status().as_u16(), kind)
    };
    let elsewhere = cluster.token("elsewhere", "eve", Rights::Both);
    let play_only = cluster.token("room", "eve", Rights::Play);
    for (path, token, statuses) in [
        ("/whip/room/cam", "garbage", [401, 401]),
        ("/whep/room/cam", "a.b.c", [401, 401]),
        ("/whip/room/cam", &elsewhere, [401, 403]),
        ("/whip/room/cam", &play_only, [403, 403]),
    ] {
        let (status, kind) = post(path, token);
        assert!(statuses.contains(&status), "{path} with {token:.20}: {status}");
        assert_eq!(kind, "application/problem+json", "{path} with {token:.20}");
    }
}

#[test]
fn a_stream_that_is_not_in_the_room_is_the_coordinators_word() {
    // PLAY-3
    let cluster = Cluster::start(1);
    let mut player = cluster.play("room", "bob", "nothing", &[]);
    player.state("player", 0, 1_004_002);
    assert_eq!(player.end(SOON).code(), Some(3));
}

/// What a command prints.
fn run(cluster: &Cluster, words: &[&str]) -> String {
    output(waystation().args(words).args(["--coordinator", &cluster.coordinators.join(",")]))
}

#[test]
fn a_kicked_publisher_is_off_the_air_and_refused_until_it_is_let_in_again() {
    // ROOM-8, PLAY-7
    let cluster = Cluster::start(2);
    let clip = video();
    let publish = || cluster.publish("room", "alice", "cam", &["--video", &clip, "--loop"]);
    let mut alice = cluster.published("room", "alice", "cam", &["--video", &clip, "--loop"]);
    let mut bob = cluster.play("room", "bob", "cam", &[]);
    bob.state("player", 2, 0);
    let kick = ["kick", "--room", "room", "--user", "alice"];
    let told = run(&cluster, &kick);
    assert!(told.contains("alice is out of room room, and refused for 10m"), "{told}");
    alice.state("room", 0, 1_002_055);
    assert_eq!(alice.end(SOON).code(), Some(3), "{}", alice.story());
    bob.state("player", 0, 1_004_002);
    publish().state("room", 0, 1_002_055);
    let told = run(&cluster, &[&kick[..], &["--for", "0"]].concat());
    assert!(told.contains("alice may come into room room again"), "{told}");
    publish().state("publisher", 2, 0);
}

#[test]
fn keys_are_listed_and_rotated_and_only_an_administrator_may() {
    let cluster = Cluster::start(1);
    let listed = run(&cluster, &["keys", "list"]);
    assert!(listed.contains("signing") && listed.lines().count() == 2, "{listed}");
    let rotated = run(&cluster, &["keys", "rotate"]);
    // Less of the ten seconds is left when the machine stands still before they are told.
    let signs_in =
        rotated.trim_end().strip_suffix("s.").and_then(|said| said.rsplit_once(" signs in ")?.1.parse().ok());
    assert!(signs_in.is_some_and(|seconds: u32| (1..=10).contains(&seconds)), "{rotated}");
    assert!(run(&cluster, &["keys", "list"]).contains("upcoming"));
    let user = cluster.token("room", "eve", Rights::Both);
    let refused = waystation()
        .args(["keys", "rotate", "--token", &user, "--coordinator", &cluster.coordinators[0]])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && message.contains("does not allow administration"), "{message}");
}
