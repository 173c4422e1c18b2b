//! `waystation keys`: the keys that sign node tokens.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use waystation_proto::v1;

use crate::{
    cluster::{Access, refused},
    table::table_or,
};

const EXAMPLES: &str = "\
Examples:
  waystation keys list
  waystation keys rotate        when somebody may have seen a key

A new key is given to every relay before it signs; a retired one is taken until the last token that it signed has
expired. Keys are replaced by age without this (coordinator's key_max_age_ms). The token needs the right to administer
every room: waystation token --admin --room '*' ...";

/// Flags of `waystation keys`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// List them.
    List(#[command(flatten)] Access),
    /// Make a key that replaces the one that signs.
    Rotate(#[command(flatten)] Access),
}

/// Lists or rotates.
///
/// # Errors
/// When no coordinator answers, or it refuses.
pub async fn run(keys: Keys) -> anyhow::Result<ExitCode> {
    match keys.action {
        Action::List(access) => list(access).await,
        Action::Rotate(access) => rotate(access).await,
    }
}

async fn list(access: Access) -> anyhow::Result<ExitCode> {
    let mut client = access.administer().await?;
    let listed = client.list_keys(v1::ListKeysRequest {}).await.map_err(|status| refused(&status))?;
    let keys = listed.into_inner().keys;
    if access.json {
        println!("{}", serde_json::to_string_pretty(&keys.iter().map(json_of).collect::<Vec<_>>())?);
        return Ok(ExitCode::SUCCESS);
    }
    let now_ms = unix_ms();
    let rows: Vec<[String; 4]> = keys.iter().map(|key| row(key, now_ms)).collect();
    print!("{}", table_or("There is no key.", ["KEY", "STATE", "SIGNS", "DELETED"], &rows));
    Ok(ExitCode::SUCCESS)
}

async fn rotate(access: Access) -> anyhow::Result<ExitCode> {
    let mut client = access.administer().await?;
    let made = client.rotate_keys(v1::RotateKeysRequest {}).await.map_err(|status| refused(&status))?;
    let key = made.into_inner().key.unwrap_or_default();
    if access.json {
        println!("{}", json_of(&key));
    } else {
        println!("Key {} signs {}.", key.id, when(key.signs_from_unix_ms, unix_ms()));
    }
    Ok(ExitCode::SUCCESS)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn state(key: &v1::KeyStatus) -> &'static str {
    match key.state() {
        v1::KeyState::Upcoming => "upcoming",
        v1::KeyState::Signing => "signing",
        v1::KeyState::Retired => "retired",
        v1::KeyState::Unspecified => "?",
    }
}

fn json_of(key: &v1::KeyStatus) -> serde_json::Value {
    json!({
        "id": key.id,
        "state": state(key),
        "created_unix_ms": key.created_unix_ms,
        "signs_from_unix_ms": key.signs_from_unix_ms,
        "until_unix_ms": (key.until_unix_ms > 0).then_some(key.until_unix_ms),
    })
}

/// As a person says it, to the second.
fn when(at_ms: u64, now_ms: u64) -> String {
    let time = humantime::format_duration(Duration::from_secs(at_ms.abs_diff(now_ms).div_ceil(1000)));
    if at_ms > now_ms { format!("in {time}") } else { format!("since {time}") }
}

fn row(key: &v1::KeyStatus, now_ms: u64) -> [String; 4] {
    let signs = match key.state() {
        v1::KeyState::Retired | v1::KeyState::Unspecified => "no more".to_owned(),
        v1::KeyState::Upcoming | v1::KeyState::Signing => when(key.signs_from_unix_ms, now_ms),
    };
    let deleted = if key.until_unix_ms == 0 { "-".to_owned() } else { when(key.until_unix_ms, now_ms) };
    [key.id.clone(), state(key).to_owned(), signs, deleted]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_row_that_says_how_it_stands() {
        let key = v1::KeyStatus {
            id: "k1".into(),
            state: v1::KeyState::Signing.into(),
            signs_from_unix_ms: 1_000_000,
            ..v1::KeyStatus::default()
        };
        assert_eq!(row(&key, 1_060_000), ["k1", "signing", "since 1m", "-"]);
        let upcoming = v1::KeyStatus { state: v1::KeyState::Upcoming.into(), ..key.clone() };
        assert_eq!(row(&upcoming, 990_500), ["k1", "upcoming", "in 10s", "-"]);
        let retired = v1::KeyStatus { state: v1::KeyState::Retired.into(), until_unix_ms: 8_200_000, ..key };
        assert_eq!(row(&retired, 1_000_000), ["k1", "retired", "no more", "in 2h"]);
    }
}
