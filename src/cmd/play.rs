//! `waystation play`: a stream to files, or how it does in one live line.

mod sink;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::{interval, sleep};
use waystation_client::{ErrorCode, Event, Events, PlayConfig, Player, PlayerState, PlayerStats, VideoCodec};

use self::sink::Sinks;
use super::{
    report::{End, Form, Report, STATS_EVERY},
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

impl Play {
    fn form(&self) -> Form {
        match (self.session.json, self.stats) {
            (true, _) => Form::Json,
            (false, true) => Form::LiveLine,
            (false, false) => Form::Sentences,
        }
    }
}

/// Plays until the stream ends, somebody stops it, or it fails for good.
///
/// # Errors
/// When a file cannot be written.
pub async fn run(play: Play) -> anyhow::Result<ExitCode> {
    let key = play.session.key()?;
    let mut sinks = Sinks::create(play.video_out.as_deref(), play.audio_out.as_deref())?;
    let report = Report::new(play.form());
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
        end = take(&mut player, &mut events, &mut sinks, &report) => end,
        () = over => Ok(End::Clean { code: 0 }),
        () = shutdown.wanted() => Ok(End::Clean { code: 0 }),
    };
    let last = player.stats();
    report.last_stats(figures(&last), || summary(&last));
    let end = end?;
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
                report.stats(figures(&now), || live_line(&now, &before));
                before = now;
            }
        }
    }
}

fn node(now: &PlayerStats) -> Option<String> {
    now.node.as_ref().map(|node| node.id.to_string())
}

/// Figures for a machine.
fn figures(now: &PlayerStats) -> Value {
    let gap_ms = now.last_gap.map(|gap| gap.as_millis() as u64);
    json!({
        "packets": now.packets, "bytes": now.bytes, "frames": now.frames, "lost": now.lost, "nacks": now.nacks,
        "dropped": now.dropped, "gap_ms": gap_ms, "node": node(now),
    })
}

/// The same for a person.
fn summary(now: &PlayerStats) -> String {
    let gap = now.last_gap.map_or("none".to_owned(), |gap| format!("{} ms", gap.as_millis()));
    let node = node(now).unwrap_or_else(|| "-".to_owned());
    format!("{} frames  {} lost  last gap {gap}  node {node}", now.frames, now.lost)
}

fn live_line(now: &PlayerStats, before: &PlayerStats) -> String {
    let bits = now.bytes.saturating_sub(before.bytes) as f64 * 8.0 / STATS_EVERY.as_secs_f64();
    format!("{:>7.0} kbit/s  {}", bits / 1_000.0, summary(now))
}

/// The end that an event is, if it is one. A stream that left the room after it was played has ended, not failed.
fn ended(event: &Event, has_played: bool) -> Option<End> {
    End::of(event).map(|end| match end {
        End::Failed { code, .. } if has_played && code == ErrorCode::NoSuchStream.number() => {
            End::Clean { code }
        }
        other @ (End::Clean { .. } | End::Failed { .. }) => other,
    })
}
