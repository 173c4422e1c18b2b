//! `waystation publish`: a clip, or RTP from a local port, as a stream.

mod source;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, anyhow};
use serde_json::json;
use tokio::time::{Instant, interval, sleep};
use waystation_client::{
    AudioTrack, Event, Events, Kind, PublishConfig, Publisher, PublisherState, VideoTrack, WriteError,
    Written,
};

use self::source::{Fed, RtpPort, Source};
use super::{
    report::{End, Form, Report, STATS_EVERY},
    session::Session,
};
use crate::shutdown::Shutdown;

/// After the last frame, players may still ask for what they lack.
const LINGER: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  export WAYSTATION_COORDINATORS=http://127.0.0.1:PORT      the line that `waystation dev` prints
  waystation publish --token $T --room demo --stream cam --video clip.ivf --audio clip.ogg --loop
  ffmpeg -re -i film.mkv -an -c:v libvpx -deadline realtime -g 30 -f rtp 'rtp://127.0.0.1:5004?pkt_size=1200' &
  waystation publish ... --rtp-video 5004/vp8               packets of at most 1400 bytes are taken

Clips: IVF (VP8, VP9, AV1), Annex B H.264 (.h264), Ogg Opus. `ffmpeg -i film.mp4 -c:v libvpx clip.ivf -c:a libopus clip.ogg`
makes them; for H.264 use -bf 0, since players show frames in the order in which they come.

Exit status: 0 after a clean end, 3 after a final failure.";

/// Flags of `waystation publish`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Publish {
    #[command(flatten)]
    session: Session,
    /// Clip with the video.
    #[arg(long, value_name = "FILE")]
    video: Option<PathBuf>,
    /// Clip with the audio.
    #[arg(long, value_name = "FILE")]
    audio: Option<PathBuf>,
    /// Frame rate of an H.264 clip that does not tell it.
    #[arg(long, value_name = "FPS")]
    h264_fps: Option<f64>,
    /// Take video as RTP on this UDP port of 127.0.0.1; CODEC is vp8, vp9, av1 or h264.
    #[arg(long, value_name = "PORT/CODEC", conflicts_with = "video")]
    rtp_video: Option<RtpPort>,
    /// Take Opus as RTP on this UDP port of 127.0.0.1.
    #[arg(long, value_name = "PORT", conflicts_with = "audio")]
    rtp_audio: Option<u16>,
    /// Begin again at the end of the clip.
    #[arg(long = "loop")]
    repeat: bool,
    /// Be published, but silent, for this long before the first frame.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    delay: Duration,
}

/// Publishes until the clip ends, somebody stops it, or it fails for good.
///
/// # Errors
/// When a clip or a port cannot be used.
pub async fn run(publish: Publish) -> anyhow::Result<ExitCode> {
    let key = publish.session.key()?;
    let mut source = open(&publish).await?;
    let report = Report::new(if publish.session.json { Form::Json } else { Form::Sentences });
    let mut shutdown = Shutdown::new()?;
    let logged_in = tokio::select! {
        logged_in = publish.session.log_in(&report) => logged_in?,
        () = shutdown.wanted() => Err(End::Clean { code: 0 }),
    };
    let (engine, mut events) = match logged_in {
        Ok(logged_in) => logged_in,
        Err(end) => return Ok(report.end(&end)),
    };
    let config = PublishConfig {
        audio: source.has_audio().then_some(AudioTrack),
        video: source.video_codec().map(|codec| VideoTrack { codec }),
    };
    let publisher = engine.start_publishing(key, config).await?;
    let end = tokio::select! {
        end = feed(&mut source, &publisher, &mut events, &report, publish.delay) => end?,
        () = shutdown.wanted() => End::Clean { code: 0 },
    };
    let stopped = async {
        publisher.stop().await;
        engine.close().await;
    };
    // Events of the end are told, too.
    tokio::join!(stopped, async {
        while let Some(event) = events.recv().await {
            report.event(&event);
        }
    });
    Ok(report.end(&end))
}

async fn open(publish: &Publish) -> anyhow::Result<Source> {
    let source = match (&publish.video, &publish.audio, &publish.rtp_video, publish.rtp_audio) {
        (None, None, None, None) => {
            return Err(anyhow!(
                "nothing to publish: name --video or --audio, or --rtp-video or --rtp-audio"
            ));
        }
        (video, audio, None, None) => {
            Source::clips(video.as_deref(), audio.as_deref(), publish.h264_fps, publish.repeat)?
        }
        (None, None, video, audio) => Source::ports(*video, audio).await?,
        _ => return Err(anyhow!("clips and RTP ports cannot be mixed: name either files or ports")),
    };
    Ok(source)
}

/// Hands media to the publisher once it publishes, and tells what happens.
async fn feed(
    source: &mut Source,
    publisher: &Publisher,
    events: &mut Events,
    report: &Report,
    delay: Duration,
) -> anyhow::Result<End> {
    let mut stats = interval(STATS_EVERY);
    let (mut frames, mut dropped, mut refused) = (0_u64, 0_u64, 0_u64);
    let mut begins_at: Option<Instant> = None;
    loop {
        tokio::select! {
            event = events.recv() => {
                let event = event.context("the engine ended")?;
                report.event(&event);
                if let Some(end) = End::of(&event) {
                    return Ok(end);
                }
                if matches!(&event, Event::Publisher(update) if update.state == PublisherState::Publishing) {
                    begins_at.get_or_insert_with(|| Instant::now() + delay);
                }
            }
            fed = source.next(begins_at) => match fed? {
                Fed::Sample(kind, sample) => match publisher.write_sample(kind, sample) {
                    Ok(written) => count(written, kind, &mut frames, &mut dropped),
                    // The event that tells why is on its way.
                    Err(WriteError::Ended) => dropped += 1,
                    Err(error) => return Err(error.into()),
                },
                Fed::Rtp(kind, packet) => match publisher.write_rtp(kind, &packet) {
                    Ok(written) => count(written, kind, &mut frames, &mut dropped),
                    Err(error) => {
                        refused = refused.saturating_add(1);
                        tell_refused(kind, &error, refused);
                    }
                },
                Fed::End => {
                    sleep(LINGER).await;
                    return Ok(End::Clean { code: 0 });
                }
            },
            _ = stats.tick() => report.stats(json!({ "frames": frames, "dropped": dropped }), String::new),
        }
    }
}

/// One refused datagram tells a person what is wrong; the same of each that follows would bury it.
fn tell_refused(kind: Kind, error: &WriteError, refused: u64) {
    match refused {
        1 => {
            tracing::warn!(%error, "a datagram on --rtp-{kind} is not taken; more of them are told with --log debug")
        }
        _ => tracing::debug!(%error, refused, "a datagram on --rtp-{kind} is not taken"),
    }
}

fn count(written: Written, kind: Kind, frames: &mut u64, dropped: &mut u64) {
    match written {
        Written::Sent => *frames += u64::from(kind == Kind::Video),
        Written::Dropped => *dropped += 1,
    }
}
