//! What forwarding costs: the relay's CPU time per forwarded packet beside a floor that only seals and sends.
//!
//! Relay, load and floor are separate processes; the relay and the floor run on one CPU, the load on another.
//! `cargo bench --bench forward -- [--seconds S] [--players N] [--burst B]`; exit status 1 when a row is over its limit.

#[path = "../../relay/tests/plane/peer.rs"]
#[expect(dead_code, reason = "the load has no use for what the plane's tests ask of a peer")]
mod bare;
mod floor;
mod load;
mod pace;
mod peer;
mod process;
mod receive;
mod report;
mod row;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

/// Players of the rows.
const PLAYERS: [usize; 3] = [10, 50, 200];
/// Packets per burst of the rows.
const BURSTS: [usize; 2] = [1, 10];
const DEFAULT_SECONDS: u64 = 8;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| *word != "--bench").collect();
    match words.as_slice() {
        ["load", config] => load::run(&serde_json::from_str(config)?).map(|()| ExitCode::SUCCESS),
        ["sink", ports] => load::sink(ports.parse()?).map(|()| ExitCode::SUCCESS),
        ["floor", ports, burst, seconds] => {
            row::floor_role(ports, burst, seconds).map(|()| ExitCode::SUCCESS)
        }
        options => measure(&Options::parse(options)?),
    }
}

struct Options {
    seconds: u64,
    players: Vec<usize>,
    bursts: Vec<usize>,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options =
            Self { seconds: DEFAULT_SECONDS, players: PLAYERS.to_vec(), bursts: BURSTS.to_vec() };
        for pair in words.chunks(2) {
            let [name, value] = pair else { bail!("{} needs a value", pair.concat()) };
            let number = value.parse().with_context(|| format!("{name} {value:?} is not a number"))?;
            match *name {
                "--seconds" => options.seconds = number as u64,
                "--players" => options.players = vec![number],
                "--burst" => options.bursts = vec![number],
                _ => bail!("unknown option {name}; there are --seconds, --players and --burst"),
            }
        }
        if options.seconds == 0 || options.players.contains(&0) || options.bursts.contains(&0) {
            bail!("--seconds, --players and --burst are at least 1");
        }
        Ok(options)
    }
}

fn measure(options: &Options) -> Result<ExitCode> {
    report::head(options.seconds);
    let mut within = true;
    for &burst in &options.bursts {
        for &players in &options.players {
            let row = row::measure(players, burst, options.seconds)
                .with_context(|| format!("{players} players, bursts of {burst}"))?;
            within &= report::line(&row);
        }
    }
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
