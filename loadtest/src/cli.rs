//! The command line: which scenario at which size, against which gateway, told in which form.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::{
    gateway,
    machine::Machine,
    protocol,
    report::Report,
    scenario::{connect, send, storm},
    target::{Program, Target},
};

/// Loads a Towncrier gateway and checks that every message lands exactly once. Exit code 0: it did; 1: a fault; 2: the
/// run could not be done.
#[derive(Debug, Parser)]
#[command(name = "loadtest")]
pub struct Cli {
    #[command(flatten)]
    server: Server,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Also write an HTML page into this directory.
    #[arg(long, global = true, value_name = "DIR")]
    report: Option<PathBuf>,
    /// How long the rig waits for what should come at once, seconds.
    #[arg(long, global = true, default_value_t = 60, value_name = "SECONDS")]
    patience: u64,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Args)]
struct Server {
    /// The gateway's client port, e.g. ws://10.0.0.1:10001/ws; without it the rig starts a gateway of its own.
    #[arg(long, global = true, requires_all = ["admin", "secret"])]
    ws: Option<String>,
    /// Its admin port as HOST:PORT, plain HTTP.
    #[arg(long, global = true)]
    admin: Option<String>,
    /// Its `auth.secret`.
    #[arg(long, global = true, env = "LOADTEST_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// Where the rig's own gateway keeps its data for the run; default: beside the program. It should be a real disk.
    #[arg(long, global = true)]
    data: Option<PathBuf>,
    /// A setting of the rig's own gateway, e.g. log.cache_bytes=1000000.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Ramps to so many sessions, holds them, and reaches each once.
    Connect(connect::Plan),
    /// Sends at a constant rate, or searches for the highest one.
    Send(send::Plan),
    /// Kills the gateway (-9) under all sessions, each with a backlog, and waits until they are back.
    Storm(storm::Plan),
}

/// Runs what the command line says. `false`: the ledger found a fault.
pub async fn run(cli: Cli) -> anyhow::Result<bool> {
    let Server {
        ws,
        admin,
        secret,
        data,
        settings,
    } = cli.server;
    let mut target = match (ws, admin, secret) {
        (Some(ws), Some(admin), Some(secret)) => {
            Target::Remote(protocol::Place::Gateway(gateway::Place {
                ws,
                admin,
                secret,
            }))
        }
        _ => Target::start(Program::Gateway(gateway::Program::find(settings)?), data)?,
    };
    let machine = Machine::look(&target).context("looking at this machine")?;
    let patience = Duration::from_secs(cli.patience);
    let mut report = Report::new(machine);
    match cli.scenario {
        Scenario::Connect(plan) => connect::run(plan, &target, patience, &mut report).await?,
        Scenario::Send(plan) => send::run(plan, &target, patience, &mut report).await?,
        Scenario::Storm(plan) => storm::run(plan, &mut target, patience, &mut report).await?,
    }
    if cli.json {
        println!("{}", report.json());
    } else {
        print!("{}", report.table());
    }
    if let Some(dir) = cli.report {
        let page = report.write_page(&dir)?;
        eprintln!("report: {}", page.display());
    }
    Ok(report.tally.is_exactly_once())
}
