//! Clips in, files out, over two nodes.

use std::time::Duration;

use crate::support::{
    clips::{self, Clip, Video},
    cluster::Cluster,
};

const CLIP_SECONDS: u32 = 8;

/// So often the scene is set; a machine that stands still in between sets another.
const SCENES: usize = 5;

/// Publishes a clip at one node, plays it from a file's start to its end at another, and compares what was written.
#[track_caller]
fn every_frame_arrives(video: Video, extension: &str) {
    let set = (0..SCENES).any(|_| every_frame_arrives_if_the_player_is_early(video, extension));
    assert!(set, "no player was up at another node before the publisher's first frame");
}

/// The publisher waits two seconds with its first frame: a player that is up by then misses none. `false` when it was not.
#[track_caller]
fn every_frame_arrives_if_the_player_is_early(video: Video, extension: &str) -> bool {
    let cluster = Cluster::start(3);
    let clip = clips::clip(video, CLIP_SECONDS);
    let Clip { video: source, audio, frames } = &clip;
    let media = ["--video", source.to_str().unwrap(), "--audio", audio.to_str().unwrap(), "--delay", "2s"];
    let mut publisher = cluster.published("cinema", "alice", "film", &media);
    let published = publisher.events("state").pop().expect("it publishes");
    let (video_out, audio_out) = (cluster.file(&format!("out.{extension}")), cluster.file("out.ogg"));
    let options = ["--video-out", video_out.to_str().unwrap(), "--audio-out", audio_out.to_str().unwrap()];
    let mut player = cluster.play("cinema", "bob", "film", &options);
    let playing = player.state("player", 2, 0);
    // The player's node says that nothing has come yet.
    if playing["extended"]["idle"] != true || playing["node"] == published["node"] {
        eprintln!("once more, since the player came too late or to the same node: {}", player.story());
        return false;
    }

    assert!(publisher.end(Duration::from_secs(30)).success(), "{}", publisher.story());
    assert!(player.end(Duration::from_secs(30)).success(), "{}", player.story());
    let (written, _) = clips::probe(&video_out);
    assert_eq!(written, *frames, "{}", player.story());
    let (_, seconds) = clips::probe(&audio_out);
    assert!((seconds - f64::from(CLIP_SECONDS)).abs() < 0.2, "{seconds} s of sound were written");
    true
}

#[test]
fn every_frame_of_a_vp8_clip_arrives_over_two_nodes() {
    // PUB-1, PLAY-1
    every_frame_arrives(Video::Vp8, "ivf");
}

#[test]
fn every_frame_of_an_h264_clip_arrives_over_two_nodes() {
    // PUB-1, PLAY-1
    every_frame_arrives(Video::H264, "h264");
}
