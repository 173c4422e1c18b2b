//! `waystation coordinator`: rooms, streams and placement.

mod store;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::ArgMatches;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use waystation_coordinator::{App, AppKey, Config};

use self::store::StoreKind;
use crate::{
    admin,
    config::{self, ConfigFlags, Secret},
    ready::{self, Ready},
    shutdown::Shutdown,
};

const PREFIX: &str = "WAYSTATION_COORDINATOR_";

/// HS256 needs a key as long as its hash (RFC 7518 §3.2).
const MIN_APP_SECRET_BYTES: usize = 32;

const EXAMPLES: &str = "\
Examples:
  waystation coordinator --config coordinator.toml
  waystation coordinator --config coordinator.toml --print-config
  waystation coordinator --config coordinator.toml --store etcd --etcd http://10.0.0.1:2379,http://10.0.0.2:2379

coordinator.toml:
  listen = \"10.0.0.5:7400\"
  cluster_secret_file = \"/run/secrets/cluster\"      # the same for every coordinator and relay
  [apps.shop]                                       # user tokens signed by the app \"shop\" are taken
  secret = \"at least 32 bytes, known to the app's server alone\"

Each flag is also a key of the file (with underscores) and a variable, such as WAYSTATION_COORDINATOR_LISTEN. A flag wins
over a variable, a variable over the file.";

/// Flags of `waystation coordinator`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    #[command(flatten)]
    config: ConfigFlags,
    #[command(flatten)]
    settings: Settings,
    /// Write this JSON file once the coordinator is up: its addresses and process id.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Settings of a coordinator.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// gRPC, gRPC-Web and the page.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7400")]
    listen: SocketAddr,
    /// Base address that clients and relays use, if it is another.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Base addresses of the other coordinators, with commas between them.
    #[arg(long, value_name = "URL,...", value_delimiter = ',')]
    #[serde(default, deserialize_with = "config::list")]
    peers: Vec<String>,
    /// Where rooms, streams and nodes are kept: several coordinators share one etcd.
    #[arg(long, value_name = "STORE", value_enum, default_value_t = StoreKind::Memory)]
    store: StoreKind,
    /// Addresses of etcd's members, with commas between them.
    #[arg(long, value_name = "URL,...", value_delimiter = ',')]
    #[serde(default, deserialize_with = "config::list")]
    etcd: Vec<String>,
    /// What every key in etcd begins with; the same for every coordinator of a cluster.
    #[arg(long, value_name = "PREFIX", default_value = "waystation/v1")]
    etcd_prefix: String,
    /// User of etcd.
    #[arg(long, value_name = "USER")]
    etcd_user: Option<String>,
    /// Its password; only from the file or the environment.
    #[arg(skip)]
    etcd_password: Option<Secret>,
    /// File that holds its password.
    #[arg(long, value_name = "FILE")]
    etcd_password_file: Option<PathBuf>,
    /// Certificates (PEM) of those who sign etcd's; without it, the public authorities.
    #[arg(long, value_name = "FILE")]
    etcd_ca: Option<PathBuf>,
    /// Our certificate (PEM) for etcd, if it asks for one.
    #[arg(long, value_name = "FILE")]
    etcd_cert: Option<PathBuf>,
    /// The key (PEM) to that certificate.
    #[arg(long, value_name = "FILE")]
    etcd_key: Option<PathBuf>,
    /// Folder of the page's files, served at /.
    #[arg(long, value_name = "DIR")]
    page: Option<PathBuf>,
    /// Health, readiness and metrics.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7401")]
    admin_listen: SocketAddr,
    /// How long a coordinator that comes up with an empty store gathers what relays and clients hold, before it grants
    /// anything new; 0 only for the first start of a new cluster.
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    gather_ms: u64,
    /// A user that is not heard for this long has left its rooms.
    #[arg(long, value_name = "MS", default_value_t = 90_000)]
    heard_within_ms: u64,
    /// A key signs node tokens for this long; then another does.
    #[arg(long, value_name = "MS", default_value_t = 86_400_000)]
    key_max_age_ms: u64,
    /// Every relay has a new key for this long before it signs; longer than the coordinators' clocks differ.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    key_lead_ms: u64,
    /// Rooms that one client may be in.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rooms_per_client: usize,
    /// Users that one room takes.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    users_per_room: usize,
    /// The cluster's secret; only from the file or the environment.
    #[arg(skip)]
    cluster_secret: Option<Secret>,
    /// File that holds the cluster's secret.
    #[arg(long, value_name = "FILE")]
    cluster_secret_file: Option<PathBuf>,
    /// Apps whose user tokens are taken; only from the file or the environment.
    #[arg(skip)]
    #[serde(default)]
    apps: BTreeMap<String, AppSettings>,
}

/// How an app signs its user tokens: with one of these.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppSettings {
    /// HS256.
    secret: Option<Secret>,
    /// File that holds the HS256 secret.
    secret_file: Option<PathBuf>,
    /// EdDSA: the public key, 64 hexadecimal digits.
    ed25519_public_key: Option<String>,
}

impl AppSettings {
    fn key(&self, app: &str) -> anyhow::Result<AppKey> {
        if let Some(hex) = &self.ed25519_public_key {
            let bytes: Option<Vec<u8>> =
                (0..32).map(|i| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok()).collect();
            let bytes = bytes.filter(|_| hex.len() == 64);
            return bytes.map(AppKey::Ed25519).with_context(|| {
                format!(
                    "app {app:?}: ed25519_public_key has {} characters; 64 hexadecimal digits are needed",
                    hex.len()
                )
            });
        }
        let file = self.secret_file.as_deref();
        ensure!(
            self.secret.is_some() || file.is_some(),
            "app {app:?} has no key: give [apps.{app}] a secret, secret_file or ed25519_public_key"
        );
        let secret = config::secret("secret_file", PREFIX, self.secret.as_ref(), file)
            .with_context(|| format!("app {app:?}"))?;
        let bytes = secret.expose().len();
        ensure!(
            bytes >= MIN_APP_SECRET_BYTES,
            "app {app:?}: its secret has {bytes} bytes, at least {MIN_APP_SECRET_BYTES} are needed; such as: \
             head -c 32 /dev/urandom | base64"
        );
        Ok(AppKey::Secret(secret.expose().as_bytes().to_vec()))
    }
}

impl Settings {
    fn into_config(self) -> anyhow::Result<Config> {
        let file = self.cluster_secret_file.as_deref();
        let secret = config::secret("cluster_secret", PREFIX, self.cluster_secret.as_ref(), file)?;
        ensure!(
            !self.apps.is_empty(),
            "no app is configured, so no user token could be taken: add one to the configuration file, \
             [apps.ID] secret = \"...\" (at least {MIN_APP_SECRET_BYTES} bytes)"
        );
        let app =
            |(id, settings): (&String, &AppSettings)| Ok(App { id: id.clone(), key: settings.key(id)? });
        let apps: Vec<App> = self.apps.iter().map(app).collect::<anyhow::Result<_>>()?;
        let mut config = Config::new(self.listen, secret.expose().to_owned(), apps);
        config.url = self.url;
        config.peers = self.peers;
        config.page = self.page;
        config.store_prefix = self.etcd_prefix;
        config.timings.gather = Duration::from_millis(self.gather_ms);
        config.timings.heard_within = Duration::from_millis(self.heard_within_ms);
        config.timings.key_max_age = Duration::from_millis(self.key_max_age_ms);
        config.timings.key_lead = Duration::from_millis(self.key_lead_ms);
        config.limits.rooms_per_client = self.rooms_per_client;
        config.limits.users_per_room = self.users_per_room;
        Ok(config)
    }
}

/// Runs the coordinator until Ctrl-C or SIGTERM.
///
/// # Errors
/// When the configuration cannot be used, or a port is taken.
pub async fn run(flags: Flags, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let settings = config::load(&flags.settings, matches, flags.config.config.as_deref(), PREFIX)?;
    if flags.config.print_config {
        print!("{}", config::to_toml(&settings)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut shutdown = Shutdown::new()?;
    let metrics = admin::start_metrics("coordinator")?;
    waystation_coordinator::metrics::describe();
    let admin_listener = admin::bind(settings.admin_listen).await?;
    let admin_address = admin_listener.local_addr()?;
    let store = settings.store()?;
    let config = settings.into_config()?;
    let ready: Arc<OnceLock<watch::Receiver<bool>>> = Arc::default();
    let is_ready = Arc::clone(&ready);
    admin::serve(admin_listener, metrics, move || is_ready.get().is_some_and(|ready| *ready.borrow()));
    let Some(coordinator) = store::bind(config, store, shutdown.wanted()).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    ready.get_or_init(|| coordinator.ready());
    if let Some(path) = &flags.ready_file {
        let (url, admin) = (coordinator.url().to_owned(), format!("http://{admin_address}"));
        let content = Ready::Coordinator { pid: std::process::id(), url, admin };
        ready::write(path, &content)
            .with_context(|| format!("cannot write --ready-file {}", path.display()))?;
    }
    coordinator.run(async move { shutdown.wanted().await }).await?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::{AppSettings, MIN_APP_SECRET_BYTES, Secret, Settings};

    fn app(secret: Option<&str>) -> AppSettings {
        AppSettings { secret: secret.map(Secret::from), secret_file: None, ed25519_public_key: None }
    }

    #[test]
    fn a_short_or_missing_app_secret_is_an_error_that_names_the_app() {
        let long = "x".repeat(MIN_APP_SECRET_BYTES);
        assert!(app(Some(&long)).key("shop").is_ok());
        let error = app(Some(&long[1..])).key("shop").err().unwrap().to_string();
        assert!(error.contains("\"shop\"") && error.contains("31 bytes"), "{error}");
        let error = format!("{:#}", app(None).key("shop").err().unwrap());
        assert!(error.contains("[apps.shop]") && !error.contains("WAYSTATION"), "{error}");
    }

    #[test]
    fn a_coordinator_without_apps_is_told_how_to_add_one() {
        let matches = Settings::augment_args(Command::new("coordinator")).get_matches_from(["coordinator"]);
        let mut settings = Settings::from_arg_matches(&matches).unwrap();
        settings.cluster_secret = Some(Secret::from("of the whole cluster"));
        let error = settings.into_config().err().unwrap().to_string();
        assert!(error.contains("[apps.ID] secret = "), "{error}");
    }
}
