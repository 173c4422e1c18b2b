//! Clients that are not ours, by plain WHIP and WHEP, each as it is: FFmpeg's WHIP muxer and GStreamer's webrtcbin, with
//! H.264 and Opus.

use std::process::Command;

use crate::{
    browsers::{result, root},
    support::{
        client::Client,
        clips::{Clip, Video, clip},
        veth::{VethCluster, token},
    },
};

const ROOM: &str = "room";
/// How long publishers publish: longer than any player plays.
const SECONDS: &str = "40";

/// FFmpeg's WHIP muxer, which makes itself a certificate on secp224r1 and sends nothing between its packets.
#[track_caller]
fn ffmpeg(cluster: &VethCluster, stream: &str) -> Client {
    let Clip { video, audio, .. } = clip(Video::H264, 8);
    let mut command = Command::new(root().join("target/venv/bin/python"));
    command.arg(root().join("tests/peers/ffmpeg_whip.py"));
    command.arg(format!("{}/whip/{ROOM}/{stream}", cluster.relays[0].http)).arg(token("ffmpeg"));
    command.args([video, audio]).arg(SECONDS);
    published(cluster, &command, stream)
}

/// The driver of GStreamer, which Debian's own Python runs.
fn gstreamer(action: &str, endpoint: &str, seconds: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(root().join("tests/peers/gstreamer.py"));
    command.args([action, endpoint, &token("gstreamer"), seconds]);
    command
}

#[track_caller]
fn published(cluster: &VethCluster, command: &Command, stream: &str) -> Client {
    let mut publisher = Client::start(&mut cluster.namespace.within(command));
    publisher.next("its session", |line| line.as_str() == Some("published"));
    cluster.is_in_its_room(stream);
    publisher
}

/// Our own player and GStreamer's each take the stream from another node than the one it is published at.
#[track_caller]
fn is_played(cluster: &VethCluster, stream: &str) {
    let mut player = Client::start(&mut cluster.client("play", ROOM, stream));
    player.state("player", 2, 0);
    let stats = player.next("a second of frames", |event| {
        event["event"] == "stats" && event["frames"].as_u64() >= Some(75)
    });
    assert_eq!(stats["lost"], 0, "{}", player.story());
    let endpoint = format!("{}/whep/{ROOM}/{stream}", cluster.relays[1].http);
    let played = result(&mut cluster.namespace.within(&gstreamer("play", &endpoint, "20")));
    assert!(played["video"].as_u64() >= Some(25) && played["audio"].as_u64() >= Some(50), "{played}");
}

#[test]
fn ffmpeg_on_gnutls_publishes_as_it_is() {
    let cluster = VethCluster::start("ffmpeg", 2, None);
    let mut publisher = ffmpeg(&cluster, "ffmpeg");
    is_played(&cluster, "ffmpeg");
    assert!(publisher.seen().iter().all(|line| line.as_str() != Some("ended")), "{}", publisher.story());
}

#[test]
fn gstreamer_publishes_and_plays() {
    let cluster = VethCluster::start("gstreamer", 2, None);
    let endpoint = format!("{}/whip/{ROOM}/gstreamer", cluster.relays[0].http);
    let _publisher = published(&cluster, &gstreamer("publish", &endpoint, SECONDS), "gstreamer");
    is_played(&cluster, "gstreamer");
}
