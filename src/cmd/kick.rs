//! `waystation kick`: ends what a user does in a room.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use serde_json::json;
use waystation_proto::v1;

use crate::cluster::{Access, refused};

const EXAMPLES: &str = "\
Examples:
  waystation kick --room demo --user ann            out, and refused for ten minutes
  waystation kick --room demo --user ann --for 7d
  waystation kick --room demo --user ann --for 0    may come again at once

The user's login ends with 1002055, its streams leave the room, and every relay ends its sessions, those of WHIP and WHEP
clients too. The token needs the right to administer that room: waystation token --admin --room demo ...";

/// Flags of `waystation kick`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Kick {
    #[command(flatten)]
    access: Access,
    /// Room that it is thrown out of.
    #[arg(long, value_name = "ROOM")]
    room: String,
    /// User that is meant.
    #[arg(long, value_name = "USER")]
    user: String,
    /// How long it is refused, such as 90s, 10m or 7d; 0 takes it again before its time.
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = duration)]
    refused: Duration,
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) }
}

/// Kicks, and says what came of it.
///
/// # Errors
/// When no coordinator answers, or it refuses.
pub async fn run(kick: Kick) -> anyhow::Result<ExitCode> {
    let mut client = kick.access.administer().await?;
    let Kick { room, user, refused: for_, access } = kick;
    if for_.is_zero() {
        let request = v1::UnkickUserRequest { room: room.clone(), user: user.clone() };
        let done = client.unkick_user(request).await.map_err(|status| refused(&status))?.into_inner();
        match (access.json, done.was_kicked) {
            (true, was_kicked) => {
                println!("{}", json!({ "room": room, "user": user, "was_kicked": was_kicked }))
            }
            (false, true) => println!("User {user} may come into room {room} again."),
            (false, false) => println!("User {user} was not refused in room {room}."),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let for_s = whole_seconds(for_)?;
    let request = v1::KickUserRequest { room: room.clone(), user: user.clone(), for_s };
    let done = client.kick_user(request).await.map_err(|status| refused(&status))?.into_inner();
    if access.json {
        let v1::KickUserResponse { was_here, until_unix_ms } = done;
        let json =
            json!({ "room": room, "user": user, "was_here": was_here, "until_unix_ms": until_unix_ms });
        println!("{json}");
        return Ok(ExitCode::SUCCESS);
    }
    let left = humantime::format_duration(Duration::from_secs(for_s.into()));
    if done.was_here {
        println!("User {user} is out of room {room}, and refused for {left}.");
    } else {
        println!("User {user} was not in room {room}, and is refused for {left}.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Part of a second is a whole one.
fn whole_seconds(time: Duration) -> anyhow::Result<u32> {
    u32::try_from(time.as_millis().div_ceil(1000)).with_context(|| {
        let most = humantime::format_duration(Duration::from_secs(u32::MAX.into()));
        format!("--for {} is too long; {most} is the most", humantime::format_duration(time))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_with_its_unit_and_zero_without() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert!(duration("10").is_err() && duration("").is_err() && duration("-1s").is_err());
    }

    #[test]
    fn a_time_is_rounded_up_and_bounded() {
        assert_eq!(whole_seconds(Duration::from_millis(1)).unwrap(), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)).unwrap(), 2);
        let error = whole_seconds(Duration::from_secs(1 << 33)).unwrap_err().to_string();
        assert!(error.contains("--for") && error.contains("the most"), "{error}");
    }
}
