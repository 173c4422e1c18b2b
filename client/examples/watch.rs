//! Plays a stream with settings of its own, and tells which nodes were tried and what each answered.
//!
//! ```text
//! RUST_LOG=waystation_client=debug cargo run -p waystation-client --example watch -- http://127.0.0.1:7400 TOKEN demo camera
//! ```

use std::{error::Error, pin::pin, time::Duration};

use tracing_subscriber::EnvFilter;
use waystation_client::{
    AttemptEvent, Engine, EngineConfig, Event, GapEvent, Hedging, NodeRef, PlayConfig, PlayerState,
    PlayerStateUpdate, RoomId, RoomLogin, StreamId, StreamKey, VideoCodec,
};

fn settings(coordinators: Vec<String>) -> EngineConfig {
    EngineConfig {
        // Nodes of this region come first.
        region: "eu".to_owned(),
        // A lost room is tried again for five minutes, a lost stream for one; zero is never.
        room_retry_time: Duration::from_secs(5 * 60),
        av_retry_time: Duration::from_secs(60),
        // Off: a silent node is left only once its session has failed, which takes 2 s.
        hedging: Hedging::On,
        ..EngineConfig::new(coordinators)
    }
}

fn name(node: Option<&NodeRef>) -> &str {
    node.map_or("no node", |node| node.id.as_str())
}

fn tell(event: &Event) {
    match event {
        Event::Attempt(AttemptEvent { node, outcome, took, .. }) => {
            println!("{}: {outcome} after {} ms", node.id, took.as_millis());
        }
        Event::Gap(GapEvent { lasted, before, after, .. }) => {
            println!(
                "no media for {} ms, {} to {}",
                lasted.as_millis(),
                name(before.as_ref()),
                name(after.as_ref())
            );
        }
        Event::Player(update @ PlayerStateUpdate { state: PlayerState::Playing, .. }) => {
            println!("playing from {}", name(update.node.as_ref()));
        }
        Event::Player(update) if update.is_final() => {
            println!("{update}");
            // Each node that was tried, what came of it, when, and how long it took.
            for trial in update.extended["trace"].as_array().into_iter().flatten() {
                println!("  {} {} at {} ms", trial["node"], trial["detail"], trial["at_ms"]);
            }
            if let Some(wait) = update.extended["retry_after_ms"].as_u64() {
                println!("  worth another try in {wait} ms");
            }
        }
        Event::Room(_) | Event::Publisher(_) | Event::Player(_) | Event::Users(_) | Event::Streams(_) => {
            println!("{event}");
        }
        Event::TokenExpiring { .. } => println!("{event}: see the example `room`"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // What the client logs goes through `tracing`; where to is the app's choice.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();

    let mut args = std::env::args().skip(1);
    let (Some(coordinators), Some(token), Some(room), Some(stream)) =
        (args.next(), args.next(), args.next(), args.next())
    else {
        return Err("usage: watch COORDINATOR,COORDINATOR... TOKEN ROOM STREAM".into());
    };
    let coordinators = coordinators.split(',').map(str::to_owned).collect();
    let key = StreamKey { room: RoomId::new(&room)?, stream: StreamId::new(&stream)? };

    let (engine, mut events) = Engine::start(settings(coordinators))?;
    engine.login_room(RoomLogin { room: key.room.clone(), token, notify_users: false }).await?;
    // Video only, VP8 or else H.264; a packet that is missing is waited for 100 ms at most.
    let video = vec![VideoCodec::Vp8, VideoCodec::H264];
    let config = PlayConfig { audio: false, video, patience: Duration::from_millis(100) };
    let mut player = engine.start_playing(key, config).await?;

    // One listener for the whole loop: one made anew in each turn would miss what comes in between.
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            event = events.recv() => {
                let event = event.ok_or("the engine was closed")?;
                tell(&event);
                if matches!(&event, Event::Player(update) if update.is_final()) {
                    break;
                }
            }
            // An app would decode it. Of a player that is not read, media is dropped once its queue is full.
            Some(_) = player.recv_sample() => {}
            _ = &mut interrupted => break,
        }
    }
    engine.close().await;
    Ok(())
}
