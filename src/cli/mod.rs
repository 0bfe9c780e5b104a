//! The command line: one file a command.
//!
//! Every command reads the same configuration (file < environment < flags). So `listen`, `send` and `token` find the ports
//! and the secret of the gateway on their own machine. Results go to stdout, everything else to stderr. Exit codes: 0 done,
//! 1 refused or failed, 2 wrong usage, 70 a thread of the gateway ended by itself or its drain hung, 130 ended early by a
//! second signal. Logs, errors and panics go to stderr through a queue ([`Lines`]), so a stderr that nobody reads delays
//! nothing.
//!
//! - `serve.rs`: the gateway; also without a command
//! - `listen.rs`, `print.rs`: a client that lands pushed messages, and their form on the terminal
//! - `send.rs`, `token.rs`: the admin side
//! - `health.rs`: the running gateway's health; `check.rs`: the configuration; `doctor.rs`: the load that this host can carry
//! - `log.rs`: a stopped data directory; `store.rs`: the store of a fleet
//! - `filter.rs`: the log filter; `supervisor.rs`: what systemd is told; `manual.rs`: shell completions and manual pages
//! - `admin.rs`, `scratch.rs`, `signals.rs`: shared by several commands

mod admin;
mod check;
mod doctor;
mod filter;
mod health;
mod listen;
mod log;
mod manual;
mod print;
mod scratch;
mod send;
mod serve;
mod signals;
mod store;
mod supervisor;
mod token;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    ffi::OsString,
    io::{IsTerminal, stderr},
    panic::{self, PanicHookInfo},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use self::filter::Filter;
use crate::{
    config::{Config, Sources},
    lines::Lines,
};

/// The longest wait for the last lines at the end of the process. A reader that works takes milliseconds.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The version, with the commit that a release build was made from.
const VERSION: &str = env!("TOWNCRIER_VERSION");

/// A WebSocket push gateway: every notice lands exactly once on every device.
#[derive(Debug, Parser)]
#[command(version = VERSION)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The flags of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
struct Common {
    /// The configuration file.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// One setting, e.g. `listener.listen=127.0.0.1:0`; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", global = true)]
    set: Vec<String>,
    /// The data directory: short for `--set log.dir=DIR`.
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// The level of the stderr log, e.g. `debug` or `towncrier::log=debug`; default: info, for doctor warn.
    #[arg(long, value_name = "FILTER", global = true, env = "TOWNCRIER_LOG")]
    log: Option<Filter>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway; also without a command.
    Serve,
    /// Receives a user's messages: lands them in a local store, prints each once.
    Listen(listen::ListenCommand),
    /// Sends a message through the admin API.
    Send(send::SendCommand),
    /// Prints a token for a user on a platform.
    Token(token::TokenCommand),
    /// Checks the configuration and the data directory.
    Check,
    /// Says how many sessions and messages to expect of this host, and what limits them.
    Doctor(doctor::DoctorCommand),
    /// Asks the running gateway how it is: exit code 0 if it is well.
    Health(health::HealthCommand),
    /// Prints every setting with its default and meaning.
    Config(check::ConfigCommand),
    /// Looks into the log of a stopped gateway.
    Log(log::LogCommand),
    /// Prepares and checks the PostgreSQL servers of `log.store`.
    Store(store::StoreCommand),
    /// Prints a script that completes command lines, for a shell.
    Completions(manual::CompletionsCommand),
    /// Writes manual pages into a directory.
    Man(manual::ManCommand),
}

/// Runs the command that the command line names.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let say_dropped = |lines| {
        tracing::warn!(
            lines,
            "lines of the stderr log were dropped: its reader was behind, or they could not be written"
        );
    };
    let lines = match Lines::start("stderr", stderr(), say_dropped) {
        Ok(lines) => lines,
        // Without the queue, stderr itself is the only way to tell the reason.
        Err(error) => {
            eprintln!("towncrier: no thread can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = run_command(arguments, &lines).unwrap_or_else(|error| {
        lines.push(format!("towncrier: {error:#}\n").as_bytes());
        ExitCode::FAILURE
    });
    lines.flush(LAST_LINES);
    ended
}

fn run_command(arguments: Arguments, lines: &Lines) -> anyhow::Result<ExitCode> {
    let Arguments { common, command } = arguments;
    let config = common.load()?;
    let command = command.unwrap_or(Command::Serve);
    let filter = common.log.unwrap_or_default();
    start_logging(filter.over(command.log_level()), lines.clone());
    match command {
        Command::Serve => serve::run(config, lines),
        Command::Listen(listen) => block_on(listen.run(config)),
        Command::Send(send) => block_on(send.run(config)),
        Command::Token(token) => block_on(token.run(config)),
        Command::Check => check::run(config),
        Command::Doctor(doctor) => block_on(doctor.run(config)),
        Command::Health(health) => block_on(health.run(&config)),
        Command::Config(print) => print.run(&config),
        Command::Log(log) => log.run(&config.log.dir),
        Command::Store(store) => block_on(store.run(config)),
        Command::Completions(completions) => Ok(completions.run()),
        Command::Man(man) => man.run(),
    }
}

impl Command {
    /// The log level that counts unless the caller sets one.
    fn log_level(&self) -> &'static str {
        match self {
            // The reader of the doctor's report does not need the stderr log of the gateway that it tries out.
            Self::Doctor(_) => "warn",
            _ => "info",
        }
    }
}

impl Common {
    fn load(&self) -> anyhow::Result<Config> {
        let mut flags = self.set.clone();
        flags.extend(
            self.data
                .iter()
                .map(|dir| format!("log.dir={}", dir.display())),
        );
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        // A variable that is not UTF-8 cannot be one of ours.
        let environment = std::env::vars_os().filter_map(text).collect();
        Ok(Sources {
            file: self.config.clone(),
            environment,
            flags,
        }
        .load()?)
    }
}

/// Logs text for people, or JSON for a log collector. A panic becomes such a line as well: the default hook writes to stderr
/// on the thread that panics, and would wait there for a reader.
fn start_logging(filter: EnvFilter, lines: Lines) {
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // The subscriber's own errors would go to stderr directly.
        .log_internal_errors(false)
        .with_writer(lines);
    if stderr().is_terminal() {
        logs.with_ansi(true).init()
    } else {
        logs.json().flatten_event(true).init()
    }
    panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(ToString::to_string);
    let text = panic.payload_as_str().unwrap_or("no text");
    // Empty unless RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(thread, place, backtrace, "a panic: {text}");
}

/// Runs a command that waits for the network, on this thread.
fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .context("no runtime can be started")?
        .block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(arguments: &[&str]) -> String {
        let arguments = std::iter::once(&"towncrier").chain(arguments);
        Arguments::try_parse_from(arguments)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_is_missing_is_asked_for_with_every_way_to_say_it() {
        let (whom, what) = ("--to <USER>|--to-all", "--text <TEXT>|--content <JSON>");
        for (arguments, asked) in [
            (&["send"][..], &[whom, what][..]),
            (&["send", "--to", "alice"], &[what]),
            (&["send", "--content", "{}"], &[whom]),
        ] {
            let said = said(arguments);
            let missing = said.split("Usage").next().unwrap();
            assert!(asked.iter().all(|asked| missing.contains(asked)), "{said}");
        }
    }

    #[test]
    fn the_help_of_a_command_has_its_own_options_apart() {
        for command in ["listen", "send", "token"] {
            let help = said(&[command, "--help"]);
            let (own, common) = help.split_once("Options of every command:").unwrap();
            for (option, is_common) in [("--config", true), ("--set", true), ("--admin", false)] {
                assert_eq!(own.contains(option), !is_common, "{help}");
                assert_eq!(common.contains(option), is_common, "{help}");
            }
        }
    }
}
