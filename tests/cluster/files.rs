//! Clips in, files out, over two nodes.

use std::time::Duration;

use crate::support::{
    clips::{self, Clip, Video},
    cluster::Cluster,
};

const CLIP_SECONDS: u32 = 8;

/// Publishes a clip at one node, plays it from a file's start to its end at another, and compares what was written.
fn every_frame_arrives(video: Video, extension: &str) {
    let cluster = Cluster::start(3);
    let clip = clips::clip(video, CLIP_SECONDS);
    let Clip { video: source, audio, frames } = &clip;
    let media = ["--video", source.to_str().unwrap(), "--audio", audio.to_str().unwrap(), "--delay", "2s"];
    let mut publisher = cluster.publish("cinema", "alice", "film", &media);
    let published = publisher.state("publisher", 2, 0);
    let (video_out, audio_out) = (cluster.file(&format!("out.{extension}")), cluster.file("out.ogg"));
    let options = ["--video-out", video_out.to_str().unwrap(), "--audio-out", audio_out.to_str().unwrap()];
    let mut player = cluster.play("cinema", "bob", "film", &options);
    // The publisher waits two seconds with its first frame: a player that is up by then misses none.
    let playing = player.state("player", 2, 0);
    assert_ne!(playing["node"], published["node"], "the test is about two nodes");

    assert!(publisher.end(Duration::from_secs(30)).success(), "{}", publisher.story());
    assert!(player.end(Duration::from_secs(30)).success(), "{}", player.story());
    let (written, _) = clips::probe(&video_out);
    assert_eq!(written, *frames, "{}", player.story());
    let (_, seconds) = clips::probe(&audio_out);
    assert!((seconds - f64::from(CLIP_SECONDS)).abs() < 0.2, "{seconds} s of sound were written");
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
