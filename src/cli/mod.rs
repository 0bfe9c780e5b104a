//! The command line.

mod log;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Sources;

/// A WebSocket push gateway: every notice lands exactly once on every device.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<std::path::PathBuf>,
    /// One setting, e.g. `listener.listen=127.0.0.1:0`; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", global = true)]
    set: Vec<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway; also without a command.
    Serve,
    /// Looks into the log of a stopped gateway.
    Log(log::LogCommand),
}

/// Runs what the process was called for.
pub fn run() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    match arguments.command {
        Some(Command::Log(command)) => command.run(),
        None | Some(Command::Serve) => {
            let sources = Sources {
                file: arguments.config,
                environment: std::env::vars().collect(),
                flags: arguments.set,
            };
            serve::run(sources.load()?)
        }
    }
}
