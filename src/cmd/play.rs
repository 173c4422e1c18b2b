//! `waystation play`: a stream to files, or how it does in one live line.

mod sink;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::{interval, sleep};
use waystation_client::{ErrorCode, Event, Events, PlayConfig, Player, PlayerState, PlayerStats, VideoCodec};

use self::sink::Sinks;
use super::{
    report::{End, Report, STATS_EVERY},
    session::Session,
};
use crate::shutdown::Shutdown;

const EXAMPLES: &str = "\
Examples:
  export WAYSTATION_COORDINATORS=http://127.0.0.1:PORT      the line that `waystation dev` prints
  waystation play --token $T --room demo --stream cam --stats
  waystation play ... --video-out out.ivf --audio-out out.ogg --duration 10s

Files: .ivf for VP8, VP9 and AV1, .h264 for H.264, .ogg for Opus. Writing begins at the first keyframe.
Exit status: 0 after a clean end (the stream's publisher stopped, --duration is over, Ctrl-C), 3 after a final failure.";

/// Flags of `waystation play`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Play {
    #[command(flatten)]
    session: Session,
    /// Write the video to this file.
    #[arg(long, value_name = "FILE")]
    video_out: Option<PathBuf>,
    /// Write the audio to this file.
    #[arg(long, value_name = "FILE")]
    audio_out: Option<PathBuf>,
    /// Show one live line: bit rate, loss, last gap, node.
    #[arg(long)]
    stats: bool,
    /// Stop after this time.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Take only this video codec: vp8, vp9, h264 or av1.
    #[arg(long, value_name = "CODEC")]
    codec: Option<VideoCodec>,
}

/// Plays until the stream ends, somebody stops it, or it fails for good.
///
/// # Errors
/// When a file cannot be written.
pub async fn run(play: Play) -> anyhow::Result<ExitCode> {
    let key = play.session.key()?;
    let mut sinks = Sinks::create(play.video_out.as_deref(), play.audio_out.as_deref())?;
    let report = Report::new(play.session.json);
    let mut shutdown = Shutdown::new()?;
    let logged_in = tokio::select! {
        logged_in = play.session.log_in(&report) => logged_in?,
        () = shutdown.wanted() => Err(End::Clean { code: 0 }),
    };
    let (engine, mut events) = match logged_in {
        Ok(logged_in) => logged_in,
        Err(end) => return Ok(report.end(&end)),
    };
    let mut config = PlayConfig::default();
    if let Some(codec) = play.codec {
        config.video = vec![codec];
    }
    let mut player = engine.start_playing(key, config).await?;
    let over = async {
        match play.duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        end = take(&mut player, &mut events, &mut sinks, &report, play.stats) => end?,
        () = over => End::Clean { code: 0 },
        () = shutdown.wanted() => End::Clean { code: 0 },
    };
    tell(&report, &player.stats(), &PlayerStats::default(), false);
    sinks.finish()?;
    let stopped = async {
        player.stop().await;
        engine.close().await;
    };
    tokio::join!(stopped, async {
        while let Some(event) = events.recv().await {
            report.event(&event);
        }
    });
    Ok(report.end(&end))
}

async fn take(
    player: &mut Player,
    events: &mut Events,
    sinks: &mut Sinks,
    report: &Report,
    live: bool,
) -> anyhow::Result<End> {
    let mut stats = interval(STATS_EVERY);
    let mut before = PlayerStats::default();
    let mut end = None;
    let mut has_played = false;
    loop {
        tokio::select! {
            biased;
            event = events.recv() => {
                let event = event.context("the engine ended")?;
                report.event(&event);
                has_played |= matches!(&event, Event::Player(update) if update.state == PlayerState::Playing);
                end = end.or_else(|| ended(&event, has_played));
                if matches!(event, Event::Room(_)) && end.is_some() {
                    return end.context("it has just been set");
                }
            }
            // What arrived before the end is written, too.
            sample = player.recv_sample() => match (sample, &end) {
                (Some(sample), _) => sinks.write(&sample)?,
                (None, Some(end)) => return Ok(end.clone()),
                // The event that tells why comes next.
                (None, None) => {
                    let event = events.recv().await.context("the engine ended")?;
                    report.event(&event);
                    end = ended(&event, has_played);
                }
            },
            _ = stats.tick() => {
                let now = player.stats();
                tell(report, &now, &before, live);
                before = now;
            }
        }
    }
}

fn tell(report: &Report, now: &PlayerStats, before: &PlayerStats, live: bool) {
    let node = now.node.as_ref().map_or(Value::Null, |node| node.id.to_string().into());
    let gap_ms = now.last_gap.map(|gap| gap.as_millis() as u64);
    let body = json!({
        "packets": now.packets, "bytes": now.bytes, "frames": now.frames, "lost": now.lost, "nacks": now.nacks,
        "dropped": now.dropped, "gap_ms": gap_ms, "node": node,
    });
    let bits = now.bytes.saturating_sub(before.bytes) as f64 * 8.0 / STATS_EVERY.as_secs_f64();
    let line = live.then(|| {
        let gap = gap_ms.map_or("none".to_owned(), |ms| format!("{ms} ms"));
        let node = node.as_str().unwrap_or("-").to_owned();
        format!(
            "{:>7.0} kbit/s  {} frames  {} lost  last gap {gap}  node {node}",
            bits / 1_000.0,
            now.frames,
            now.lost
        )
    });
    report.stats(body, line);
}

/// The end that an event is, if it is one. A stream that left the room after it was played has ended, not failed.
fn ended(event: &Event, has_played: bool) -> Option<End> {
    match event {
        Event::Player(update) if update.is_final() => Some(match update.code {
            code if code == ErrorCode::NoSuchStream.number() && has_played => End::Clean { code },
            code => End::Failed { code, extended: update.extended.clone() },
        }),
        Event::Room(room) if room.is_final() => {
            Some(End::Failed { code: room.code, extended: room.extended.clone() })
        }
        Event::Room(_)
        | Event::Publisher(_)
        | Event::Player(_)
        | Event::Attempt(_)
        | Event::Gap(_)
        | Event::Users(_)
        | Event::Streams(_)
        | Event::TokenExpiring { .. } => None,
    }
}
