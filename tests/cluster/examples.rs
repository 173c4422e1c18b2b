//! The examples of both SDKs, which the documents show: each runs as it is, against a cluster.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::{
    browsers::{result, root},
    support::{
        SOON,
        client::Client,
        clips::{Video, clip},
        cluster::{Cluster, Rights},
        namespace::Namespace,
        process::waystation,
        ready::is_in_its_room,
    },
};

/// An example of the Rust client, as cargo built it beside the tests.
fn example(name: &str) -> Command {
    let path = Path::new(env!("CARGO_BIN_EXE_waystation")).with_file_name("examples").join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build -p waystation-client --examples`",
        path.display()
    );
    Command::new(path)
}

/// The next line that begins like this, without its beginning.
#[track_caller]
fn line(client: &mut Client, start: &str) -> String {
    let found =
        client.next(&format!("a line that begins with {start:?}"), |line| text(line).starts_with(start));
    text(&found)[start.len()..].to_owned()
}

fn text(line: &Value) -> &str {
    line.as_str().unwrap_or_default()
}

/// The example that publishes a clip, once a node has its stream.
fn published(cluster: &Cluster, user: &str, stream: &str) -> Client {
    let video = clip(Video::Vp8, 8).video;
    let token = cluster.token("room", user, Rights::Publish);
    let words = [cluster.coordinators[0].as_str(), &token, "room", stream, video.to_str().unwrap()];
    let mut publisher = Client::start(example("publish").args(words));
    line(&mut publisher, &format!("room/{stream}: Publishing (0)"));
    is_in_its_room(&cluster.coordinators[0], "room", stream);
    publisher
}

#[test]
fn the_examples_publish_and_play_a_stream() {
    // PUB-1, PLAY-1
    let cluster = Cluster::start(2);
    let mut publisher = published(&cluster, "alice", "cam");
    let token = cluster.token("room", "bob", Rights::Play);
    let mut player = Client::start(example("play").args([&cluster.coordinators[0], &token, "room", "cam"]));
    player.next("frames with a keyframe among them", |line| {
        let (frames, rest) = text(line).split_once(" frames (").unwrap_or_default();
        let keyframes = rest.split_once(" to start from)").map_or("0", |(keyframes, _)| keyframes);
        frames.parse().unwrap_or(0) >= 25 && keyframes.parse().unwrap_or(0) >= 1
    });
    assert!(player.stop().success(), "{}", player.story());
    assert!(publisher.stop().success(), "{}", publisher.story());
}

#[test]
fn the_room_example_hears_of_others_and_renews_its_token() {
    // ROOM-8, ROOM-10
    let cluster = Cluster::start(1);
    let command = waystation();
    let mut room = example("room");
    room.args([&cluster.coordinators[0], "room"]).arg(command.get_program());
    room.args(["token", "--room", "room", "--user", "bob", "--play", "--ttl", "33s"]);
    let mut room = Client::start(&mut room);
    line(&mut room, "connected, as session");

    let mut publisher = published(&cluster, "alice", "cam");
    line(&mut room, "Add: user alice");
    line(&mut room, "Add: stream cam of alice");
    // The second warning is of the token that came with the first.
    line(&mut room, "the token expires in");
    line(&mut room, "the token expires in");
    assert!(publisher.stop().success(), "{}", publisher.story());
    line(&mut room, "Delete: stream cam of alice");
    assert!(room.stop().success(), "{}", room.story());
}

#[test]
fn the_room_example_ends_when_its_user_logs_in_elsewhere() {
    // ROOM-7
    let cluster = Cluster::start(1);
    let token = ["token", "--room", "room", "--user", "bob", "--play"];
    let command = waystation();
    let login = || {
        let mut room = example("room");
        room.args([&cluster.coordinators[0], "room"]).arg(command.get_program()).args(token);
        let mut room = Client::start(&mut room);
        line(&mut room, "connected, as session");
        room
    };
    let mut first = login();
    let mut second = login();
    line(&mut first, "logged in elsewhere");
    assert!(!first.end(SOON).success(), "{}", first.story());
    assert!(second.stop().success(), "{}", second.story());
}

#[test]
fn the_watch_example_tells_of_each_node_when_one_dies_and_of_the_end() {
    // GO-5, PLAY-7
    let cluster = Cluster::start(3);
    let mut publisher = published(&cluster, "alice", "cam");
    let token = cluster.token("room", "bob", Rights::Play);
    let coordinators = cluster.coordinators.join(",");
    let mut player = Client::start(example("watch").args([&coordinators, &token, "room", "cam"]));
    let first = line(&mut player, "playing from ");
    cluster.kill_relay(cluster.relay(&first));
    // The walk tells how the attempt at the dead node ended, then plays from another one.
    line(&mut player, &format!("{first}: "));
    player.next("another node", |line| {
        text(line).strip_prefix("playing from ").is_some_and(|node| node != first)
    });

    assert!(publisher.stop().success(), "{}", publisher.story());
    line(&mut player, "room/cam: NoPlay (1004002)");
    assert!(player.end(SOON).success(), "{}", player.story());
}

/// Pages that `web/e2e/examples.mjs` opens, and what each must have told.
const PAGES: [(&str, &[&str]); 3] = [
    ("publish.html", &["Publishing relay-", "quality ", "sharing the screen", "NoPublish", "closed"]),
    (
        "play.html",
        &["Playing relay-", "attempt at relay-", "gap of ", "NoPlay: no such stream in the room (1004002)"],
    ),
    (
        "room.html",
        &["add user ann", "add stream camera of ann", "delete stream camera of ann", "Disconnected"],
    ),
];

#[test]
fn the_browser_examples_publish_play_through_the_death_of_a_node_and_renew_their_token() {
    // PUB-1, PLAY-1, PLAY-7, ROOM-8, ROOM-10, GO-5
    let namespace = Namespace::new("examples", None);
    let cluster = Cluster::start_with(3, |command| *command = namespace.within(command));
    let mut driver = Command::new("node");
    driver.arg(root().join("web/e2e/examples.mjs")).args([&cluster.page, &cluster.coordinators[0]]);
    driver.env("WAYSTATION", waystation().get_program());
    let told = result(&mut namespace.within(&driver));
    assert_ne!(told["first"], told["second"], "{told}");
    for (page, lines) in PAGES {
        let log = told["log"][page].as_array().unwrap_or_else(|| panic!("{page} told nothing: {told}"));
        for start in lines {
            assert!(log.iter().any(|line| text(line).starts_with(start)), "{page} told no {start:?}: {told}");
        }
    }
}
