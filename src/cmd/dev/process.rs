//! One process of the development cluster, and the task that owns it.
//!
//! Invariant: a signal goes only to a child that was not yet waited for, so never to another process that got its
//! number. The kernel kills the child if this process goes away without stopping it.

use std::{ffi::OsString, io, path::PathBuf, process::ExitStatus, time::Duration};

use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::{Pid, getppid},
};
use serde::Serialize;
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::ready::Ready;

/// How long a child may take to stop by itself.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// How long the end of a killed child is waited for.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// How long a child may take to come up.
const START_LIMIT: Duration = Duration::from_secs(15);

/// How often the ready file of a starting child is looked for.
const READY_POLL: Duration = Duration::from_millis(20);

/// Orders that may wait for a process.
const MAX_ORDERS: usize = 16;

/// How a process is started: `args` again and again, with `fixed` added once its ports are known.
pub struct Spec {
    /// Its name in messages.
    pub name: String,
    /// Arguments of this same executable, but for the listen addresses.
    pub args: Vec<OsString>,
    /// Secrets, which must not be seen in a process list.
    pub env: Vec<(String, String)>,
    /// Where it says that it is up.
    pub ready_file: PathBuf,
    /// Arguments that give it the ports that it had before.
    pub fixed: fn(&Ready) -> Vec<String>,
}

/// What may be done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Freeze,
    /// SIGCONT when frozen, a new process when dead.
    Start,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs.
    Running,
    /// It stands still.
    Frozen,
    /// It is gone.
    Dead,
}

/// What others see of a process.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The living child.
    pub pid: Option<u32>,
    /// Whether this child said that it is up.
    pub up: bool,
    /// Where it was reached last.
    pub ready: Option<Ready>,
}

/// An action that makes no sense now.
#[derive(Debug, Error)]
pub enum ActionError {
    /// It is dead.
    #[error("{0} is dead; start it first")]
    Dead(String),
    /// It runs.
    #[error("{0} runs already")]
    Runs(String),
    /// No new process could be made.
    #[error("cannot start {name}: {source}")]
    Spawn {
        /// Which.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// It ended, or took too long.
    #[error("{0} did not come up; its messages above tell why")]
    NotUp(String),
    /// The cluster is being stopped.
    #[error("the cluster is stopping")]
    Stopping,
}

enum Order {
    Act(Action, oneshot::Sender<Result<(), ActionError>>),
    Stop(oneshot::Sender<()>),
}

/// The handle of a process.
#[derive(Clone)]
pub struct Process {
    name: String,
    orders: mpsc::Sender<Order>,
    seen: watch::Receiver<Seen>,
}

impl Process {
    /// Starts the process and the task that owns it.
    ///
    /// # Errors
    /// When no process can be made.
    pub fn start(spec: Spec) -> io::Result<Self> {
        let child = spawn(&spec, None)?;
        let (orders, queue) = mpsc::channel(MAX_ORDERS);
        let (sender, seen) = watch::channel(Seen { pid: child.id(), up: false, ready: None });
        let name = spec.name.clone();
        tokio::spawn(Owner { spec, queue, seen: sender }.run(child));
        Ok(Self { name, orders, seen })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is known of it.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// What it does now, as the kernel tells: others may have stopped it, too.
    pub fn state(&self) -> State {
        match self.seen.borrow().pid {
            None => State::Dead,
            Some(pid) if stands_still(pid) => State::Frozen,
            Some(_) => State::Running,
        }
    }

    /// Waits until it says that it is up.
    ///
    /// # Errors
    /// [`ActionError::NotUp`] when it ends first, or takes too long.
    pub async fn up(&self) -> Result<Ready, ActionError> {
        let mut seen = self.seen.clone();
        let settled = seen.wait_for(|seen| seen.up || seen.pid.is_none());
        match timeout(START_LIMIT, settled).await {
            Ok(Ok(seen)) => match &seen.ready {
                Some(ready) if seen.up => Ok(ready.clone()),
                Some(_) | None => Err(ActionError::NotUp(self.name.clone())),
            },
            Ok(Err(_)) | Err(_) => Err(ActionError::NotUp(self.name.clone())),
        }
    }

    /// Does something to it; a start waits until the process is up, a kill until it is gone.
    ///
    /// # Errors
    /// [`ActionError`]
    pub async fn act(&self, action: Action) -> Result<(), ActionError> {
        let before = self.seen.borrow().pid;
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Act(action, reply)).await.map_err(|_| ActionError::Stopping)?;
        answer.await.map_err(|_| ActionError::Stopping)??;
        match action {
            Action::Start => self.up().await.map(drop),
            Action::Kill => {
                let mut seen = self.seen.clone();
                // Not in time: it is killed all the same, and the answer says what is seen.
                let _ = timeout(KILL_LIMIT, seen.wait_for(|seen| seen.pid != before)).await;
                Ok(())
            }
            Action::Freeze => Ok(()),
        }
    }

    /// Stops it: SIGTERM, then SIGKILL.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.orders.send(Order::Stop(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

/// What the owner has.
enum Life {
    /// Spawned; its ready file is looked for.
    Starting { child: Child, look_at: Instant },
    /// It said that it is up.
    Up { child: Child },
    /// Gone.
    Dead,
}

struct Owner {
    spec: Spec,
    queue: mpsc::Receiver<Order>,
    seen: watch::Sender<Seen>,
}

impl Owner {
    async fn run(mut self, child: Child) {
        let mut life = Life::Starting { child, look_at: Instant::now() + READY_POLL };
        loop {
            let order = match &mut life {
                Life::Starting { child, look_at } => tokio::select! {
                    exit = child.wait() => { life = self.ended(exit); continue }
                    () = sleep_until(*look_at) => { life = self.look(life); continue }
                    order = self.queue.recv() => order,
                },
                Life::Up { child } => tokio::select! {
                    exit = child.wait() => { life = self.ended(exit); continue }
                    order = self.queue.recv() => order,
                },
                Life::Dead => self.queue.recv().await,
            };
            match order {
                Some(Order::Act(action, reply)) => {
                    let result = self.act(&mut life, action);
                    let _ = reply.send(result);
                }
                Some(Order::Stop(done)) => {
                    if let Life::Starting { mut child, .. } | Life::Up { mut child } = life {
                        stop(&mut child).await;
                    }
                    let _ = done.send(());
                    return;
                }
                None => return,
            }
        }
    }

    fn ended(&self, exit: io::Result<ExitStatus>) -> Life {
        let name = &self.spec.name;
        match exit {
            Ok(status) => println!("{name} ended: {status}"),
            Err(error) => println!("{name} is lost: {error}"),
        }
        self.seen.send_modify(|seen| (seen.pid, seen.up) = (None, false));
        Life::Dead
    }

    /// Looks for the ready file of a starting child.
    fn look(&self, life: Life) -> Life {
        let Life::Starting { child, .. } = life else { return life };
        let ready = std::fs::read(&self.spec.ready_file)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Ready>(&bytes).ok());
        match ready {
            Some(ready) => {
                self.seen.send_modify(|seen| (seen.up, seen.ready) = (true, Some(ready)));
                Life::Up { child }
            }
            None => Life::Starting { child, look_at: Instant::now() + READY_POLL },
        }
    }

    fn act(&self, life: &mut Life, action: Action) -> Result<(), ActionError> {
        let name = || self.spec.name.clone();
        match (action, &mut *life) {
            (Action::Kill, Life::Starting { child, .. } | Life::Up { child }) => {
                child.start_kill().map_err(|_| ActionError::Dead(name()))
            }
            (Action::Freeze, Life::Starting { child, .. } | Life::Up { child }) => {
                signal(child, Signal::SIGSTOP);
                Ok(())
            }
            (Action::Start, Life::Starting { child, .. } | Life::Up { child }) => {
                if !child.id().is_some_and(stands_still) {
                    return Err(ActionError::Runs(name()));
                }
                signal(child, Signal::SIGCONT);
                Ok(())
            }
            (Action::Kill | Action::Freeze, Life::Dead) => Err(ActionError::Dead(name())),
            (Action::Start, Life::Dead) => {
                let before = self.seen.borrow().ready.clone();
                let child = spawn(&self.spec, before.as_ref())
                    .map_err(|source| ActionError::Spawn { name: name(), source })?;
                self.seen.send_modify(|seen| seen.pid = child.id());
                *life = Life::Starting { child, look_at: Instant::now() + READY_POLL };
                Ok(())
            }
        }
    }
}

fn spawn(spec: &Spec, before: Option<&Ready>) -> io::Result<Child> {
    match std::fs::remove_file(&spec.ready_file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(&spec.args)
        .args(before.map(spec.fixed).unwrap_or_default())
        .arg("--ready-file")
        .arg(&spec.ready_file)
        .envs(spec.env.iter().cloned())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        // Ctrl-C goes to the terminal's foreground group: the children are stopped by us, in order, not by it.
        .process_group(0)
        .kill_on_drop(true);
    let parent = Pid::this();
    // SAFETY: between fork and exec only prctl and getppid are called, which are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // Died before the line above: nobody would send the signal any more.
            if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        })
    };
    let mut child = command.spawn()?;
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(pass_on(spec.name.clone(), stderr));
    }
    Ok(child)
}

/// Prints a child's messages with its name in front.
async fn pass_on(name: String, stderr: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("{name} | {line}");
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // The child was not waited for, so the number is still its own; a zombie takes the signal and does nothing.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

async fn stop(child: &mut Child) {
    signal(child, Signal::SIGTERM);
    // A frozen process hears SIGTERM only once it goes on.
    signal(child, Signal::SIGCONT);
    if timeout(STOP_LIMIT, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Whether the kernel says that it is stopped (`T`, proc(5)).
fn stands_still(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}
