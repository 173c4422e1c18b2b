//! Plays a stream and prints what arrives, once a second.
//!
//! ```text
//! cargo run -p waystation-client --example play -- http://127.0.0.1:7400 TOKEN demo camera
//! ```

use std::{error::Error, pin::pin, time::Duration};

use tokio::time::interval;
use waystation_client::{Engine, EngineConfig, Event, PlayConfig, RoomId, RoomLogin, StreamId, StreamKey};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(coordinator), Some(token), Some(room), Some(stream)) =
        (args.next(), args.next(), args.next(), args.next())
    else {
        return Err("usage: play COORDINATOR TOKEN ROOM STREAM".into());
    };
    let key = StreamKey { room: RoomId::new(&room)?, stream: StreamId::new(&stream)? };

    let (engine, mut events) = Engine::start(EngineConfig::new(vec![coordinator]))?;
    engine.login_room(RoomLogin { room: key.room.clone(), token, notify_users: false }).await?;
    let mut player = engine.start_playing(key, PlayConfig::default()).await?;

    let mut second = interval(Duration::from_secs(1));
    let mut keyframes = 0;
    // One listener for the whole loop: one made anew in each turn would miss what comes in between.
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Player(update)) if update.is_final() => return Err(update.to_string().into()),
                Some(event) => println!("{event}"),
                None => return Ok(()),
            },
            sample = player.recv_sample() => match sample {
                Some(sample) => keyframes += u32::from(sample.keyframe),
                None => return Ok(()),
            },
            _ = second.tick() => {
                let stats = player.stats();
                println!("{} frames ({keyframes} to start from), {} bytes, {} lost", stats.frames, stats.bytes, stats.lost);
            }
            _ = &mut interrupted => break,
        }
    }
    player.stop().await;
    engine.close().await;
    Ok(())
}
