//! `waystation dev`: a coordinator and relays as processes of this same executable, on loopback, and the page.
//!
//! Everything runs on one thread on purpose: the kernel kills the children when the *thread* that made them ends.

mod api;
mod guard;
mod process;

use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use futures_util::future::{join_all, try_join_all};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use waystation_proto::v1;

use self::{
    api::Cluster,
    process::{Process, Spec},
};
use crate::{
    cluster::{observe_dev, refused},
    cmd::token::{DEV_APP, DEV_SECRET},
    ready::{self, Ready},
    shutdown::Shutdown,
    table::table,
};

/// Where the page is when nothing else is said: as `make web` leaves it.
const PAGE: &str = "web/dist";

/// How long a coordinator that is started again gathers what the cluster holds.
const GATHER_MS: u32 = 5_000;

/// How long the relays may take to attach to the coordinator.
const ATTACH_LIMIT: Duration = Duration::from_secs(15);

/// How often the coordinator is asked which relays it names.
const LIST_POLL: Duration = Duration::from_millis(20);

/// More processes than this do not help on one machine.
const MAX_RELAYS: u16 = 64;

const EXAMPLES: &str = "\
Examples:
  waystation dev                          a coordinator, three relays, the page on http://127.0.0.1:7070
  waystation dev --relays 5 --port 8080   five relays, the page on another port
  waystation token --room demo --user me --publish --play
                                          a user token for this cluster

Its coordinator takes a free port: the line `export WAYSTATION_COORDINATORS=...` that is printed below the table tells the
other commands which. Everything listens on 127.0.0.1 only, and Ctrl-C stops it all. The page can kill, freeze and start each node.";

/// Flags of `waystation dev`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Dev {
    /// How many relays.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_RELAYS)))]
    relays: u16,
    /// Port of the page; 0 takes a free one. All other ports are free ones, chosen by the system.
    #[arg(long, value_name = "P", default_value_t = 7070)]
    port: u16,
    /// Folder of the page's files [default: web/dist, if it is there].
    #[arg(long, value_name = "DIR")]
    page: Option<PathBuf>,
    /// Write this JSON file once everything is up: page, coordinators, and of each relay id, http, pid, media_port.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// What the cluster's processes log: a level, or a filter as for --log.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    node_log: String,
}

/// Runs the cluster until Ctrl-C or SIGTERM.
///
/// # Errors
/// When the page's port is taken, or a process does not come up.
pub async fn run(dev: Dev) -> anyhow::Result<ExitCode> {
    let mut shutdown = Shutdown::new()?;
    let (listener, address) = bind_page(dev.port).await?;
    let page_files = page_directory(&dev)?;
    let directory = tempfile::Builder::new().prefix("waystation-dev-").tempdir()?;

    let plan = Plan { dev: &dev, page_files: page_files.as_deref(), directory: directory.path() };
    let mut processes = Processes::default();
    let started = tokio::select! {
        started = plan.bring_up(&mut processes) => started.map(Some),
        () = shutdown.wanted() => Ok(None),
    };
    let outcome = match started {
        Ok(Some(())) => {
            let page = format!("http://{address}/");
            let Processes { coordinators, relays } = processes.clone();
            let cluster = Arc::new(Cluster { page, coordinators, relays });
            serve(&dev, listener, cluster, page_files.as_deref(), &mut shutdown).await
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    processes.stop().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn bind_page(port: u16) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(address).await {
        Ok(listener) => {
            let address = listener.local_addr()?;
            Ok((listener, address))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(anyhow!(
            "port {port} of 127.0.0.1, where the page would be, is taken by another program; choose another with \
             --port, such as: waystation dev --port {}",
            port.checked_add(1).unwrap_or(7071)
        )),
        Err(error) => Err(error).with_context(|| {
            format!("cannot listen on {address}, where the page would be; choose another port with --port")
        }),
    }
}

fn page_directory(dev: &Dev) -> anyhow::Result<Option<PathBuf>> {
    match &dev.page {
        Some(directory) if directory.join("index.html").is_file() => Ok(Some(directory.clone())),
        Some(directory) => {
            Err(anyhow!("--page {}: there is no index.html; `make web` builds the page", directory.display()))
        }
        None => Ok(Some(PathBuf::from(PAGE)).filter(|directory| directory.join("index.html").is_file())),
    }
}

/// How the cluster's processes are started.
struct Plan<'a> {
    dev: &'a Dev,
    page_files: Option<&'a Path>,
    directory: &'a Path,
}

/// What was started.
#[derive(Clone, Default)]
struct Processes {
    coordinators: Vec<Process>,
    relays: Vec<Process>,
}

impl Processes {
    /// Stops the relays, then the coordinators, so that no relay misses its coordinator.
    async fn stop(&self) {
        for processes in [&self.relays, &self.coordinators] {
            join_all(processes.iter().map(Process::stop)).await;
        }
    }
}

impl Plan<'_> {
    /// Starts everything. What was started is in `all` at any time, so that it can be stopped.
    async fn bring_up(&self, all: &mut Processes) -> anyhow::Result<()> {
        let secret = format!("{:032x}", rand::random::<u128>());
        let coordinator =
            Process::start(self.coordinator(0, &secret)).context("cannot start the coordinator")?;
        all.coordinators.push(coordinator.clone());
        let Ready::Coordinator { url, .. } = coordinator.up().await? else {
            return Err(anyhow!("the coordinator's ready file is that of another process"));
        };
        for number in 1..=self.dev.relays {
            let relay = Process::start(self.relay(number, &url, &secret)).context("cannot start a relay")?;
            all.relays.push(relay);
        }
        try_join_all(all.relays.iter().map(Process::up)).await?;
        timeout(ATTACH_LIMIT, self.named(&url)).await.map_err(|_| {
            anyhow!("not every relay is attached after {ATTACH_LIMIT:?}; their messages above tell why")
        })?
    }

    /// Waits until the coordinator names every relay: a client that came before would be given a shorter list, or none.
    async fn named(&self, coordinator: &str) -> anyhow::Result<()> {
        let mut client = observe_dev(coordinator).await?;
        loop {
            let listed = client.list_nodes(v1::ListNodesRequest {}).await;
            let listed = listed.map_err(|status| refused(&status))?.into_inner().nodes;
            if listed.len() >= usize::from(self.dev.relays) {
                return Ok(());
            }
            sleep(LIST_POLL).await;
        }
    }

    fn coordinator(&self, number: usize, secret: &str) -> Spec {
        // Nothing can have been before the cluster's first start.
        let first = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--gather-ms", "0"];
        let mut args = self.args("coordinator", &first);
        if let Some(page) = self.page_files {
            args.extend(["--page".into(), page.into()]);
        }
        let apps = format!("{{{DEV_APP}={{secret=\"{DEV_SECRET}\"}}}}");
        self.spec(
            format!("coordinator-{number}"),
            args,
            fixed_ports,
            vec![
                ("WAYSTATION_COORDINATOR_CLUSTER_SECRET".into(), secret.into()),
                ("WAYSTATION_COORDINATOR_APPS".into(), apps),
            ],
        )
    }

    fn relay(&self, number: u16, coordinator: &str, secret: &str) -> Spec {
        let id = format!("relay-{number}");
        let args = self.args(
            "relay",
            &[
                "--id",
                &id,
                "--coordinators",
                coordinator,
                "--http-listen",
                "127.0.0.1:0",
                "--link-listen",
                "127.0.0.1:0",
                "--media-listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ],
        );
        self.spec(id, args, fixed_ports, vec![("WAYSTATION_RELAY_CLUSTER_SECRET".into(), secret.into())])
    }

    fn args(&self, command: &str, more: &[&str]) -> Vec<OsString> {
        [command, "--log", &self.dev.node_log].iter().chain(more).map(OsString::from).collect()
    }

    fn spec(
        &self,
        name: String,
        args: Vec<OsString>,
        fixed: fn(&Ready) -> Vec<String>,
        env: Vec<(String, String)>,
    ) -> Spec {
        let ready_file = self.directory.join(format!("{name}.json"));
        Spec { name, args, env, ready_file, fixed }
    }
}

/// A process that is started again listens where it did: others know its addresses. Of a flag that is given twice,
/// the last counts.
fn fixed_ports(ready: &Ready) -> Vec<String> {
    let listen = |flag: &str, url: &str| [flag.to_owned(), url.trim_start_matches("http://").to_owned()];
    match ready {
        Ready::Coordinator { url, admin, .. } => {
            let gather = ["--gather-ms".to_owned(), GATHER_MS.to_string()];
            [listen("--listen", url), listen("--admin-listen", admin), gather].concat()
        }
        Ready::Relay { http, link, media_port, admin, .. } => [
            listen("--http-listen", http),
            listen("--link-listen", link),
            listen("--media-listen", &format!("127.0.0.1:{media_port}")),
            listen("--admin-listen", admin),
        ]
        .concat(),
    }
}

async fn serve(
    dev: &Dev,
    listener: TcpListener,
    cluster: Arc<Cluster>,
    page_files: Option<&Path>,
    shutdown: &mut Shutdown,
) -> anyhow::Result<()> {
    let router = api::router(Arc::clone(&cluster), page_files);
    print_table(&cluster);
    if let Some(path) = &dev.ready_file {
        ready::write(path, &cluster.info())
            .with_context(|| format!("cannot write --ready-file {}", path.display()))?;
    }
    tokio::select! {
        served = axum::serve(listener, router) => served.context("the page is served no more"),
        () = shutdown.wanted() => {
            println!("Stopping.");
            Ok(())
        }
    }
}

fn print_table(cluster: &Cluster) {
    let rows: Vec<[String; 5]> = cluster
        .processes()
        .map(|process| {
            let seen = process.seen();
            let (address, media, admin) = match seen.ready {
                Some(Ready::Coordinator { url, admin, .. }) => (url, "-".to_owned(), admin),
                Some(Ready::Relay { http, media_port, admin, .. }) => {
                    (http, format!("udp {media_port}"), admin)
                }
                None => ("-".into(), "-".into(), "-".into()),
            };
            let pid = seen.pid.map_or("-".into(), |pid| pid.to_string());
            [process.name().to_owned(), address, media, admin, pid]
        })
        .collect();
    println!("Page: {}\n", cluster.page);
    println!("{}", table(["NODE", "ADDRESS", "MEDIA", "ADMIN", "PID"], &rows));
    println!("For publish, play, nodes and the others, in another terminal:\n");
    println!("export WAYSTATION_COORDINATORS={}\n", cluster.coordinator_urls().join(","));
    println!("Ctrl-C stops everything.");
}
