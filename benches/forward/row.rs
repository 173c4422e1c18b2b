//! One row: a fresh cluster of one relay under load, then the floor with the same packets.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{
    floor,
    load::{LoadConfig, LoadResult},
    process::{Cpu, pin, resident_bytes},
};

/// CPU of the relay and of the floor.
const SUBJECT_CPU: usize = 0;
/// CPU of whoever loads them.
const LOAD_CPU: usize = 1;
const START_LIMIT: Duration = Duration::from_secs(20);
const ROOM: &str = "bench";

/// What was measured.
pub struct Row {
    pub players: usize,
    pub burst: usize,
    pub relay_us: f64,
    pub relay_user_us: f64,
    pub floor_us: f64,
    pub packets_per_call: f64,
    pub memory_per_player_bytes: u64,
    /// Forwarded packets that no player opened and no socket of the load counted as dropped.
    pub lost: i64,
    pub load: LoadResult,
}

/// A process of the bench that ends with this value.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        Ok(Self(command.spawn().with_context(|| format!("cannot start {command:?}"))?))
    }

    /// This program in another role, on the load's CPU or the subject's.
    fn role(words: &[&str], cpu: usize) -> Result<(Self, BufReader<ChildStdout>)> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = Self::start(command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        pin(process.0.id(), cpu)?;
        let output = process.0.stdout.take().context("standard output is piped")?;
        Ok((process, BufReader::new(output)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: the process was started by us and not waited for, so its id is still its own.
        unsafe { libc::kill(self.0.id().cast_signed(), libc::SIGTERM) };
        let _ = self.0.wait();
    }
}

#[derive(Deserialize)]
struct Ready {
    relays: Vec<ReadyRelay>,
}

#[derive(Deserialize)]
struct ReadyRelay {
    http: String,
    admin: String,
    pid: u32,
}

fn waystation() -> Command {
    Command::new(env!("CARGO_BIN_EXE_waystation"))
}

/// Measures relay and floor.
pub fn measure(players: usize, burst: usize, seconds: u64) -> Result<Row> {
    let directory = tempfile::tempdir()?;
    let ready_file = directory.path().join("ready.json");
    let mut dev = waystation();
    dev.args(["dev", "--relays", "1", "--port", "0", "--log", "warn", "--ready-file"])
        .arg(&ready_file)
        .stdout(Stdio::null());
    let _cluster = Process::start(&mut dev)?;
    let ready = wait_ready(&ready_file)?;
    let relay = ready.relays.first().context("the ready file names no relay")?;
    pin(relay.pid, SUBJECT_CPU)?;
    let token = token()?;
    let memory_before = resident_bytes(relay.pid)?;

    let config = LoadConfig {
        node_url: relay.http.clone(),
        room: ROOM.to_owned(),
        stream: "stream".to_owned(),
        token,
        players,
        burst,
        seconds,
    };
    let (mut load, mut output) = Process::role(&["load", &serde_json::to_string(&config)?], LOAD_CPU)?;
    expect_line(&mut output).context("the load did not come up")?;
    let (calls_before, sent_before) = send_calls(&relay.admin)?;
    let before = Cpu::of(relay.pid)?;
    writeln!(load.0.stdin.as_mut().context("standard input is piped")?, "go")?;
    let result: LoadResult = serde_json::from_str(&expect_line(&mut output)?)?;
    let cpu = Cpu::of(relay.pid)?.since(before);
    let (calls, sent) = send_calls(&relay.admin)?;
    let memory = resident_bytes(relay.pid)?.saturating_sub(memory_before);
    let forwarded = result.published * players as u64;
    let relay_us = cpu.total.as_secs_f64() * 1e6 / forwarded as f64;
    Ok(Row {
        players,
        burst,
        relay_us,
        relay_user_us: relay_us * cpu.user_ratio,
        floor_us: measure_floor(players, burst, seconds)?,
        packets_per_call: (sent - sent_before) / (calls - calls_before).max(1.0),
        memory_per_player_bytes: memory / players as u64,
        lost: forwarded.cast_signed() - (result.received + result.dropped).cast_signed(),
        load: result,
    })
}

fn measure_floor(players: usize, burst: usize, seconds: u64) -> Result<f64> {
    let (_sink, mut output) = Process::role(&["sink", &players.to_string()], LOAD_CPU)?;
    let ports = expect_line(&mut output).context("the floor's receivers did not come up")?;
    let words = ["floor", ports.trim(), &burst.to_string(), &seconds.to_string()];
    let (_floor, mut output) = Process::role(&words, SUBJECT_CPU)?;
    Ok(expect_line(&mut output)?.trim().parse()?)
}

/// The floor as a process of its own: prints its CPU microseconds per packet.
pub fn floor_role(ports: &str, burst: &str, seconds: &str) -> Result<()> {
    let ports: Vec<u16> = serde_json::from_str(ports)?;
    let pid = std::process::id();
    let before = Cpu::of(pid)?;
    let sent = floor::run(&ports, burst.parse()?, Duration::from_secs(seconds.parse()?))?;
    let cpu = Cpu::of(pid)?.since(before);
    println!("{}", cpu.total.as_secs_f64() * 1e6 / sent as f64);
    Ok(())
}

fn expect_line(output: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut line = String::new();
    if output.read_line(&mut line)? == 0 {
        bail!("the process ended without a word on standard output");
    }
    Ok(line)
}

fn wait_ready(file: &std::path::Path) -> Result<Ready> {
    let started = Instant::now();
    while started.elapsed() < START_LIMIT {
        if let Ok(text) = std::fs::read_to_string(file) {
            return serde_json::from_str(&text).with_context(|| format!("the ready file holds {text}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("the cluster was not ready within {START_LIMIT:?}")
}

fn token() -> Result<String> {
    let output =
        waystation().args(["token", "--room", ROOM, "--user", "load", "--publish", "--play"]).output()?;
    if !output.status.success() {
        bail!("waystation token: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Send calls made and packets sent by a relay so far, from its metrics.
fn send_calls(admin: &str) -> Result<(f64, f64)> {
    let text = reqwest::blocking::get(format!("{admin}/metrics"))?.text()?;
    let sum = |name: &str| -> f64 {
        text.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    Ok((sum("waystation_relay_send_calls_total"), sum("waystation_relay_packets_sent_total")))
}
