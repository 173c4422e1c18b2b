//! Logs, on standard error: text for a person or JSON for a machine.

use std::{fmt, io::IsTerminal as _};

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Flags of every command.
#[derive(Clone, Debug, clap::Args)]
pub struct LogFlags {
    /// What is logged: a level (error, warn, info, debug, trace), or per part, such as "info,waystation_relay=debug".
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "WAYSTATION_LOG",
        default_value = "info",
        help_heading = "Logging"
    )]
    pub log: String,
    /// How it is written.
    #[arg(long, global = true, value_enum, env = "WAYSTATION_LOG_FORMAT", default_value_t = Format::Text, help_heading = "Logging")]
    pub log_format: Format,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Starts logging. Libraries are heard from `warn` on unless the filter names them.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(flags: &LogFlags) -> anyhow::Result<()> {
    let named = flags.log.contains(['=', ',']);
    let directives = if named { flags.log.clone() } else { ours(&flags.log) };
    let filter = EnvFilter::try_new(&directives).with_context(|| {
        format!("--log {:?} is neither a level (error, warn, info, debug, trace) nor a filter", flags.log)
    })?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match flags.log_format {
        Format::Text => logs.with_ansi(std::io::stderr().is_terminal()).compact().init(),
        Format::Json => logs.json().init(),
    }
    Ok(())
}

/// A level for our own crates.
fn ours(level: &str) -> String {
    let crates = ["waystation", "waystation_client", "waystation_coordinator", "waystation_relay"];
    let ours: Vec<_> = crates.iter().map(|name| format!("{name}={level}")).collect();
    format!("warn,{}", ours.join(","))
}
