//! `waystation relay`: a node that takes media by WHIP and gives it by WHEP.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::ArgMatches;
use serde::{Deserialize, Serialize};
use waystation_relay::{Config, DtlsRole, Relay};

use crate::{
    admin,
    config::{self, ConfigFlags, Secret},
    ready::{self, Ready},
    shutdown::Shutdown,
};

const PREFIX: &str = "WAYSTATION_RELAY_";

const EXAMPLES: &str = "\
Examples:
  WAYSTATION_RELAY_CLUSTER_SECRET=... waystation relay --id relay-1 --coordinators http://10.0.0.5:7400 \\
      --http-listen 10.0.0.7:8080 --link-listen 10.0.0.7:8081 --media-listen 10.0.0.7:7000
  waystation relay --config relay.toml --print-config

Each flag is also a key of the configuration file (with underscores) and a variable: --media-listen is media_listen and
WAYSTATION_RELAY_MEDIA_LISTEN. A flag wins over a variable, a variable over the file. Open to clients: the HTTP port (TCP)
and the media port (UDP); to other relays: the link port (TCP) and the media port.";

/// Flags of `waystation relay`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    #[command(flatten)]
    config: ConfigFlags,
    #[command(flatten)]
    settings: Settings,
    /// Write this JSON file once the relay is up: its addresses and process id.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Settings of a relay.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Its name, unique in the cluster; the same after a restart.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Where it stands; clients of the same region come first.
    #[arg(long, value_name = "REGION", default_value = "")]
    region: String,
    /// Coordinators, with commas between them.
    #[arg(long, value_name = "URL,...", value_delimiter = ',', default_value = "http://127.0.0.1:7400")]
    #[serde(deserialize_with = "config::list")]
    coordinators: Vec<String>,
    /// WHIP, WHEP and the event connection.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    http_listen: SocketAddr,
    /// Base address that clients use, if it is another.
    #[arg(long, value_name = "URL")]
    http_url: Option<String>,
    /// Links of other relays.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8081")]
    link_listen: SocketAddr,
    /// Base address that other relays use, if it is another.
    #[arg(long, value_name = "URL")]
    link_url: Option<String>,
    /// The one media port (UDP).
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7000")]
    media_listen: SocketAddr,
    /// IP address that clients and relays send media to, if it is another.
    #[arg(long, value_name = "IP")]
    media_advertise: Option<IpAddr>,
    /// Health, readiness and metrics.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8082")]
    admin_listen: SocketAddr,
    /// Threads that forward media; 0 is one per core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    workers: usize,
    /// Whether the kernel may cut runs of packets (UDP segmentation offload).
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    gso: bool,
    /// A session ends when its client was not heard for this long.
    #[arg(long, value_name = "MS", default_value_t = 15_000)]
    session_timeout_ms: u64,
    /// Most sessions that are taken in a second; above, clients are sent on with 503.
    #[arg(long, value_name = "N", default_value_t = 200)]
    admissions_per_second: u32,
    /// Whether our SDKs start DTLS (passive), or we do (active, which saves a round trip). Other clients always do: the
    /// other side chooses the SRTP profile, and browsers would not choose GCM.
    #[arg(long, value_enum, default_value_t = Setup::Active)]
    dtls_setup: Setup,
    /// Where Chromium's bandwidth estimate starts; 0 leaves it alone.
    #[arg(long, value_name = "KBIT", default_value_t = 1_000)]
    start_kbit_per_second: u32,
    /// Whether a token may stand in the address of a request, as ?access_token=, for clients that can set no header.
    /// Proxies and browsers keep addresses: leave it off if you can.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set)]
    query_tokens: bool,
    /// The cluster's secret; only from the file or the environment.
    #[arg(skip)]
    cluster_secret: Option<Secret>,
    /// File that holds the cluster's secret.
    #[arg(long, value_name = "FILE")]
    cluster_secret_file: Option<PathBuf>,
}

/// `a=setup` of our answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Setup {
    Active,
    Passive,
}

impl Settings {
    fn into_config(self) -> anyhow::Result<Config> {
        let file = self.cluster_secret_file.as_deref();
        let secret = config::secret("cluster_secret", PREFIX, self.cluster_secret.as_ref(), file)?;
        // No default: two relays of one id would take each other's place in the cluster.
        let id = self.id.context(
            "no relay id is set: give --id relay-1, or id = \"relay-1\" in the configuration file, or \
             WAYSTATION_RELAY_ID in the environment; each relay of a cluster has an id of its own",
        )?;
        Ok(Config {
            id,
            region: self.region,
            http_listen: self.http_listen,
            http_url: self.http_url,
            link_listen: self.link_listen,
            link_url: self.link_url,
            media_listen: self.media_listen,
            media_advertise: self.media_advertise,
            coordinators: self.coordinators,
            cluster_secret: secret.expose().to_owned(),
            workers: self.workers,
            gso: self.gso,
            session_timeout: Duration::from_millis(self.session_timeout_ms),
            admissions_per_second: self.admissions_per_second,
            dtls_role: match self.dtls_setup {
                Setup::Active => DtlsRole::Client,
                Setup::Passive => DtlsRole::Server,
            },
            start_kbit_per_second: self.start_kbit_per_second,
            query_tokens: self.query_tokens,
        })
    }
}

/// Runs the relay until Ctrl-C or SIGTERM.
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
    let metrics = admin::start_metrics("relay")?;
    waystation_relay::worker::describe();
    waystation_relay::control::describe();
    waystation_relay::signal::describe();
    let admin_listener = admin::bind(settings.admin_listen).await?;
    let admin_address = admin_listener.local_addr()?;
    let relay = Relay::start(settings.into_config()?).await?;
    let ready = relay.ready();
    admin::serve(admin_listener, metrics, move || *ready.borrow());
    if let Some(path) = &flags.ready_file {
        let content = Ready::Relay {
            id: relay.node().id.to_string(),
            pid: std::process::id(),
            http: relay.http_url().to_owned(),
            link: relay.link_url().to_owned(),
            media_port: relay.media_addr().port(),
            admin: format!("http://{admin_address}"),
        };
        ready::write(path, &content)
            .with_context(|| format!("cannot write --ready-file {}", path.display()))?;
    }
    relay.run(async move { shutdown.wanted().await }).await;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::{Secret, Settings};

    fn config(flags: &[&str]) -> anyhow::Result<waystation_relay::Config> {
        let matches =
            Settings::augment_args(Command::new("relay")).get_matches_from([&["relay"], flags].concat());
        let mut settings = Settings::from_arg_matches(&matches)?;
        settings.cluster_secret = Some(Secret::from("of the whole cluster"));
        settings.into_config()
    }

    #[test]
    fn a_relay_without_an_id_is_told_the_three_places_for_it() {
        let error = config(&[]).err().unwrap().to_string();
        for place in ["--id", "id = ", "WAYSTATION_RELAY_ID"] {
            assert!(error.contains(place), "{error}");
        }
        assert_eq!(config(&["--id", "relay-7"]).unwrap().id, "relay-7");
    }
}
