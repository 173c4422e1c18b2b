//! The subcommands, one file each.

use std::process::ExitCode;

use clap::{ArgMatches, Subcommand};

pub mod coordinator;
pub mod dev;
pub mod keys;
pub mod kick;
pub mod nodes;
pub mod play;
pub mod publish;
pub mod relay;
mod report;
pub mod rooms;
mod session;
pub mod streams;
pub mod token;

/// What `waystation` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster on this machine, with its page: to try things out and to develop.
    Dev(dev::Dev),
    /// Run a coordinator: rooms, streams and placement. It carries no media.
    Coordinator(coordinator::Flags),
    /// Run a relay: a node that takes media by WHIP and gives it by WHEP.
    Relay(relay::Flags),
    /// Print a user token.
    Token(token::Token),
    /// Publish a clip, or RTP from a local port, as a stream.
    Publish(publish::Publish),
    /// Play a stream to files, or watch how it does.
    Play(play::Play),
    /// List the relays and what they carry.
    Nodes(nodes::Nodes),
    /// List the rooms.
    Rooms(rooms::Rooms),
    /// List the streams and which node each comes from.
    Streams(streams::Streams),
    /// End a user's login and sessions in a room, and refuse the user for a while.
    Kick(kick::Kick),
    /// List the keys that sign node tokens, or replace the one that signs.
    Keys(keys::Keys),
}

impl Command {
    /// Runs it. `matches` are those of the subcommand.
    ///
    /// # Errors
    /// Whatever keeps it from doing its job, in words for the person who called it.
    pub fn run(self, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
        match self {
            Self::Dev(dev) => on_one_thread(dev::run(dev)),
            Self::Coordinator(flags) => on_all_cores(coordinator::run(flags, matches)),
            Self::Relay(flags) => on_all_cores(relay::run(flags, matches)),
            Self::Token(token) => token::run(&token),
            Self::Publish(publish) => on_all_cores(publish::run(publish)),
            Self::Play(play) => on_all_cores(play::run(play)),
            Self::Nodes(nodes) => on_one_thread(nodes::run(nodes)),
            Self::Rooms(rooms) => on_one_thread(rooms::run(rooms)),
            Self::Streams(streams) => on_one_thread(streams::run(streams)),
            Self::Kick(kick) => on_one_thread(kick::run(kick)),
            Self::Keys(keys) => on_one_thread(keys::run(keys)),
        }
    }
}

fn on_one_thread<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn on_all_cores<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
