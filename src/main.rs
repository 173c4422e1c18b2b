//! The `waystation` command: flags in, an exit status out. What it does is in [`cmd`].

mod admin;
mod cause;
mod cluster;
mod cmd;
mod config;
mod log;
mod media;
mod ready;
mod shutdown;
mod table;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

const AFTER_HELP: &str = "\
First steps:
  waystation dev                                     a cluster on this machine, and its page
  export WAYSTATION_COORDINATORS=...                 in every other terminal: the line that dev prints
  ANN=$(waystation token --room demo --user ann --publish)
  waystation publish --token $ANN --room demo --stream cam --video clip.ivf --audio clip.ogg --loop
  BOB=$(waystation token --room demo --user bob --play)
  waystation play --token $BOB --room demo --stream cam --stats

Each command explains itself: waystation play --help";

/// Waystation: a media relay cluster whose clients never see a dead node.
#[derive(Parser)]
#[command(name = "waystation", version, about, after_help = AFTER_HELP, args_override_self = true)]
struct Cli {
    #[command(flatten)]
    log: log::LogFlags,
    #[command(subcommand)]
    command: cmd::Command,
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let own = matches.subcommand().map_or(&matches, |(_, own)| own);
    match log::start(&cli.log).and_then(|()| cli.command.run(own)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("waystation: {}", cause::with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
