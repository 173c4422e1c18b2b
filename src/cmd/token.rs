//! `waystation token`: signs a user token, as an app's server would.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
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
  openssl genpkey -algorithm ed25519 -out shop.pem
  openssl pkey -in shop.pem -pubout -outform DER | tail -c 32 | xxd -p -c 32
                                        an app's key, and the ed25519_public_key that the coordinator is given
  waystation token --room demo --user ops --admin --app shop --app-key shop.pem
                                        signed with it, to kick users out of that room

The token is a JWT (HS256, or EdDSA with --app-key). Your app's server makes the same one with any JWT library: claims
app, user, rooms, publish, play, observe, admin, streams, exp.";

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
    /// File that holds the app's Ed25519 key (PKCS#8, PEM), to sign with EdDSA.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret", "secret_file"])]
    app_key: Option<PathBuf>,
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
    let key = key(token)?;
    let streams = (!token.streams.is_empty()).then(|| token.streams.clone());
    let who = Who { app: &token.app, user: &token.user, rooms: token.rooms.clone(), streams };
    println!("{}", sign(who, token.rights, token.ttl, &key.signer())?);
    Ok(ExitCode::SUCCESS)
}

/// What the app signs with.
enum Key {
    Secret(String),
    Ed25519(PrivatePkcs8KeyDer<'static>),
}

impl Key {
    fn signer(&self) -> AppSigner<'_> {
        match self {
            Self::Secret(secret) => AppSigner::Secret(secret.as_bytes()),
            Self::Ed25519(key) => AppSigner::Ed25519Pkcs8(key.secret_pkcs8_der()),
        }
    }
}

fn key(token: &Token) -> anyhow::Result<Key> {
    if let Some(path) = &token.app_key {
        let key = PrivatePkcs8KeyDer::from_pem_file(path).map_err(|error| {
            let hint = "an Ed25519 key in PKCS#8 is needed, such as: openssl genpkey -algorithm ed25519";
            anyhow::anyhow!("cannot read --app-key {}: {error}; {hint}", path.display())
        });
        return key.map(Key::Ed25519);
    }
    Ok(Key::Secret(match (&token.secret_file, &token.secret) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path);
            text.with_context(|| format!("cannot read --secret-file {}", path.display()))?.trim().to_owned()
        }
        (None, Some(secret)) => secret.clone(),
        (None, None) => DEV_SECRET.to_owned(),
    }))
}

/// A token for the development cluster.
///
/// # Errors
/// When the user's id cannot be used.
pub fn dev_token(room: &str, user: &str, rights: Rights) -> anyhow::Result<String> {
    let who = Who { app: DEV_APP, user, rooms: vec![room.to_owned()], streams: None };
    sign(who, rights, DEV_TTL, &AppSigner::Secret(DEV_SECRET.as_bytes()))
}

struct Who<'a> {
    app: &'a str,
    user: &'a str,
    rooms: Vec<String>,
    streams: Option<Vec<String>>,
}

fn sign(who: Who<'_>, rights: Rights, ttl: Duration, signer: &AppSigner<'_>) -> anyhow::Result<String> {
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
    Ok(sign_user_token(signer, &token)?)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    /// The example of RFC 8410, section 10.3.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";

    fn token(arguments: &[&str]) -> anyhow::Result<Token> {
        let all = ["token", "--room", "demo", "--user", "ann"].iter().chain(arguments);
        let matches = Token::augment_args(Command::new("token")).try_get_matches_from(all)?;
        Ok(Token::from_arg_matches(&matches)?)
    }

    #[test]
    fn a_token_is_signed_with_the_key_of_a_file_as_openssl_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.pem");
        std::fs::write(&file, PEM).unwrap();
        let path = file.to_str().unwrap();
        let key = key(&token(&["--app-key", path]).unwrap()).unwrap();
        let who = Who { app: "shop", user: "ann", rooms: vec!["demo".into()], streams: None };
        let rights = Rights { admin: true, ..Rights::default() };
        let signed = sign(who, rights, Duration::from_secs(60), &key.signer()).unwrap();
        assert_eq!(signed.split('.').count(), 3);
        assert!(token(&["--app-key", path, "--secret", "x"]).is_err(), "one key, not two");
        std::fs::write(&file, "no key").unwrap();
        let error = super::key(&token(&["--app-key", path]).unwrap()).err().unwrap().to_string();
        assert!(error.contains("--app-key") && error.contains("openssl genpkey"), "{error}");
    }
}
