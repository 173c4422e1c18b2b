//! Publishes a stream: Opus silence, and the VP8 frames of an IVF file if one is named, over and over.
//!
//! ```text
//! make run      # prints the coordinator's address; `waystation token --room demo --user ann --publish` prints a token
//! cargo run -p waystation-client --example publish -- http://127.0.0.1:7400 TOKEN demo camera clip.ivf
//! ```

use std::{error::Error, pin::pin, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use waystation_client::{
    AudioTrack, Engine, EngineConfig, Event, Kind, PublishConfig, RoomId, RoomLogin, Sample, StreamId,
    StreamKey, VideoCodec, VideoTrack,
};

/// One Opus packet of 20 ms with nothing in it (RFC 6716 §3.1).
const SILENCE: &[u8] = &[0xf8, 0xff, 0xfe];
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
const VIDEO_INTERVAL: Duration = Duration::from_millis(33);

/// The frames of an IVF file: a header of 32 bytes, then frames with headers of 12.
fn ivf_frames(file: &[u8]) -> Option<Vec<Bytes>> {
    let mut rest = file.strip_prefix(b"DKIF")?.get(28..)?;
    let mut frames = Vec::new();
    while let Some((header, after)) = rest.split_at_checked(12) {
        let bytes = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
        let (frame, next) = after.split_at_checked(bytes)?;
        frames.push(Bytes::copy_from_slice(frame));
        rest = next;
    }
    Some(frames)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(coordinator), Some(token), Some(room), Some(stream)) =
        (args.next(), args.next(), args.next(), args.next())
    else {
        return Err("usage: publish COORDINATOR TOKEN ROOM STREAM [FILE.ivf]".into());
    };
    let frames = match args.next() {
        Some(path) => ivf_frames(&std::fs::read(&path)?).ok_or(format!("{path} is no IVF file"))?,
        None => Vec::new(),
    };
    let key = StreamKey { room: RoomId::new(&room)?, stream: StreamId::new(&stream)? };

    let (engine, mut events) = Engine::start(EngineConfig::new(vec![coordinator]))?;
    engine.login_room(RoomLogin { room: key.room.clone(), token, notify_users: true }).await?;
    let video = (!frames.is_empty()).then_some(VideoTrack { codec: VideoCodec::Vp8 });
    let publisher = engine.start_publishing(key, PublishConfig { audio: Some(AudioTrack), video }).await?;

    let started = Instant::now();
    let (mut audio_at, mut video_at) = (Duration::ZERO, Duration::ZERO);
    let mut frame = 0;
    // One listener for the whole loop: one made anew in each turn would miss what comes in between.
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Publisher(update)) if update.is_final() => return Err(update.to_string().into()),
                Some(event) => println!("{event}"),
                None => return Ok(()),
            },
            () = sleep_until(started + audio_at) => {
                let data = Bytes::from_static(SILENCE);
                publisher.write_sample(Kind::Audio, Sample { data, timestamp: audio_at })?;
                audio_at += AUDIO_INTERVAL;
            }
            () = sleep_until(started + video_at), if !frames.is_empty() => {
                let data = frames[frame % frames.len()].clone();
                publisher.write_sample(Kind::Video, Sample { data, timestamp: video_at })?;
                frame += 1;
                video_at += VIDEO_INTERVAL;
            }
            // A camera's encoder would make a keyframe now; a file starts again at its first frame, which is one.
            () = publisher.keyframe_wanted() => frame = 0,
            _ = &mut interrupted => break,
        }
    }
    publisher.stop().await;
    engine.close().await;
    Ok(())
}
