//! `waystation token`: signs a user token, as an app's server would.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use waystation_coordinator::{AppSigner, sign_user_token};
use waystation_proto::{UserId, token::UserToken};

/// The app of `waystation dev`.
pub const DEV_APP: &str = "dev";
/// Its secret. It is no secret: the development cluster listens on loopback only.
pub const DEV_SECRET: &str = "waystation-dev-app-secret-for-loopback-only";

/// How long a token of the development page is valid.
const DEV_TTL: Duration = Duration::from_secs(12 * 60 * 60);

const EXAMPLES: &str = "\
Examples:
  waystation token --room demo --user ann --publish --play
                                        for the cluster of `waystation dev`
  waystation token --room '*' --user ops --observe --ttl 10m --app shop --secret-file shop.key
                                        for an app of yours, to look at the cluster

The token is a JWT (HS256). Your app's server makes the same one with any JWT library: claims app, user, rooms, publish,
play, observe, streams, exp.";

/// Flags of `waystation token`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Token {
    /// Room that it is good for; may be given again; '*' is every room.
    #[arg(long = "room", value_name = "ROOM", required = true)]
    rooms: Vec<String>,
    /// User that it speaks for.
    #[arg(long, value_name = "USER")]
    user: String,
    #[command(flatten)]
    rights: Rights,
    /// Stream that it is restricted to; may be given again.
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// How long it is valid, such as 90s, 1h or 7d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// App that signs it.
    #[arg(long, value_name = "APP", default_value = DEV_APP)]
    app: String,
    /// The app's secret; unless given, that of `waystation dev`.
    #[arg(long, value_name = "SECRET", env = "WAYSTATION_APP_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// File that holds the app's secret.
    #[arg(long, value_name = "FILE", conflicts_with = "secret")]
    secret_file: Option<PathBuf>,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Rights {
    /// May publish.
    #[arg(long)]
    pub publish: bool,
    /// May play.
    #[arg(long)]
    pub play: bool,
    /// May read the cluster's state: nodes, rooms, streams.
    #[arg(long)]
    pub observe: bool,
    /// May kick users of its rooms and, if it is good for '*', rotate the cluster's keys.
    #[arg(long)]
    pub admin: bool,
}

/// Prints the token.
///
/// # Errors
/// When an id or the secret cannot be used.
pub fn run(token: &Token) -> anyhow::Result<ExitCode> {
    let secret = match (&token.secret_file, &token.secret) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path);
            text.with_context(|| format!("cannot read --secret-file {}", path.display()))?.trim().to_owned()
        }
        (None, Some(secret)) => secret.clone(),
        (None, None) => DEV_SECRET.to_owned(),
    };
    let streams = (!token.streams.is_empty()).then(|| token.streams.clone());
    let who = Who { app: &token.app, user: &token.user, rooms: token.rooms.clone(), streams };
    println!("{}", sign(who, token.rights, token.ttl, &secret)?);
    Ok(ExitCode::SUCCESS)
}

/// A token for the development cluster.
///
/// # Errors
/// When the user's id cannot be used.
pub fn dev_token(room: &str, user: &str, rights: Rights) -> anyhow::Result<String> {
    let who = Who { app: DEV_APP, user, rooms: vec![room.to_owned()], streams: None };
    sign(who, rights, DEV_TTL, DEV_SECRET)
}

struct Who<'a> {
    app: &'a str,
    user: &'a str,
    rooms: Vec<String>,
    streams: Option<Vec<String>>,
}

fn sign(who: Who<'_>, rights: Rights, ttl: Duration, secret: &str) -> anyhow::Result<String> {
    for room in who.rooms.iter().filter(|room| *room != "*") {
        room.parse::<waystation_proto::RoomId>()?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let token = UserToken {
        app: who.app.to_owned(),
        user: UserId::new(who.user)?,
        rooms: who.rooms,
        publish: rights.publish,
        play: rights.play,
        streams: who.streams,
        observe: rights.observe,
        admin: rights.admin,
        exp: (now + ttl).as_secs(),
    };
    Ok(sign_user_token(&AppSigner::Secret(secret.as_bytes()), &token)?)
}
