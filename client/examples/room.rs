//! Sits in a room: tells who comes and goes and what is published, and renews its token before it expires.
//!
//! The words after the room are a command that prints a user token. It stands for the app's server, which signs tokens.
//!
//! ```text
//! cargo run -p waystation-client --example room -- http://127.0.0.1:7400 demo waystation token --room demo --user bob --play --ttl 1m
//! ```

use std::{error::Error, pin::pin};

use tokio::process::Command;
use waystation_client::{
    Engine, EngineConfig, ErrorCode, Event, RoomId, RoomLogin, RoomState, RoomStateUpdate, RoomStreamUpdate,
    RoomUserUpdate,
};

/// Asks for a user token. An app would ask its own server.
async fn fresh_token(command: &[String]) -> Result<String, Box<dyn Error>> {
    let (program, words) = command.split_first().ok_or("usage: room COORDINATOR ROOM TOKEN-COMMAND...")?;
    let output = Command::new(program).args(words).output().await?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What an app does about a room's change of state.
fn tell(update: &RoomStateUpdate) {
    match (update.state, ErrorCode::from_number(update.code)) {
        (RoomState::Connecting, None) => println!("connecting"),
        // The engine connects again by itself, for `room_retry_time`.
        (RoomState::Connecting, Some(code)) => println!("away: {code}"),
        (RoomState::Connected, _) => println!("connected, as session {}", update.extended["session"]),
        (RoomState::Disconnected, None) => println!("logged out"),
        // Final failures. Ask for another token, and log in again:
        (RoomState::Disconnected, Some(ErrorCode::TokenRefused | ErrorCode::TokenExpired)) => {
            println!("the token is no good");
        }
        // The same user is here from another device. Do not log in again by itself: the two would kick each other.
        (RoomState::Disconnected, Some(ErrorCode::Replaced)) => println!("logged in elsewhere"),
        // Tell the user. The rest may be tried again, by hand or after a while.
        (RoomState::Disconnected, Some(code)) => println!("the room is lost: {code}"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(coordinator), Some(room)) = (args.next(), args.next()) else {
        return Err("usage: room COORDINATOR ROOM TOKEN-COMMAND...".into());
    };
    let command: Vec<String> = args.collect();
    let room = RoomId::new(&room)?;

    let (engine, mut events) = Engine::start(EngineConfig::new(vec![coordinator]))?;
    let token = fresh_token(&command).await?;
    engine.login_room(RoomLogin { room: room.clone(), token, notify_users: true }).await?;

    // One listener for the whole loop: one made anew in each turn would miss what comes in between.
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        let event = tokio::select! {
            event = events.recv() => event.ok_or("the engine was closed")?,
            _ = &mut interrupted => break,
        };
        match event {
            Event::Room(update) => {
                tell(&update);
                if update.is_final() {
                    return Err(update.to_string().into());
                }
            }
            Event::Users(RoomUserUpdate { change, users, .. }) => {
                for entry in users {
                    println!("{change}: user {}", entry.user);
                }
            }
            Event::Streams(RoomStreamUpdate { change, streams, .. }) => {
                for entry in streams {
                    println!("{change}: stream {} of {}", entry.stream, entry.user);
                }
            }
            Event::TokenExpiring { room, in_ } => {
                println!("the token expires in {} s", in_.as_secs());
                engine.renew_token(&room, fresh_token(&command).await?).await?;
            }
            // Of publishers and players, of which this client has none.
            Event::Publisher(_) | Event::Player(_) | Event::Attempt(_) | Event::Gap(_) => {}
        }
    }
    engine.logout_room(&room).await?;
    engine.close().await;
    Ok(())
}
