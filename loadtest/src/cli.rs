//! The command line: a scenario, its size, the gateway, and the form of the report.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};

use crate::{
    compare,
    crew::{self, Crew, PROCESSES_MAX},
    gateway::{self, Speech},
    keep::Keep,
    machine::MachineFacts,
    mqtt::{self, Broker, Mosquitto, Qos},
    protocol::ServerAddress,
    report::Report,
    scenario::{
        ScenarioStage, churn, connect, failover, outage, push, replay, send, slow, soak, storm,
    },
    signals,
    target::{Program, Target},
};

/// More would share two cores without use.
const GATEWAYS_MAX: u8 = 16;
const STANDBYS_MAX: u8 = 4;

/// Loads a Towncrier gateway, or an MQTT broker for comparison, and checks that every message lands exactly once. Exit
/// code 0: it did; 1: a fault; 2: the run could not be done.
#[derive(Debug, Parser)]
#[command(name = "loadtest")]
pub struct Cli {
    #[command(flatten)]
    server: ServerArgs,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Also write an HTML page into this directory.
    #[arg(long, global = true, value_name = "DIR")]
    report: Option<PathBuf>,
    /// The rig waits at most this long for events that should come at once, seconds.
    #[arg(long, global = true, default_value_t = 60, value_name = "SECONDS")]
    patience: u64,
    /// Processes of the rig, each with its share of the users: one holds 18,000 sessions with 20,000 file descriptors, and
    /// keeps one core busy.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(PROCESSES_MAX)))]
    processes: u8,
    /// The seed of all random choices.
    #[arg(long, global = true)]
    seed: Option<u64>,
    #[command(flatten)]
    keep: Keep,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Args)]
struct ServerArgs {
    /// The gateway's client port, e.g. ws://10.0.0.1:10001/ws; without it the rig starts a gateway of its own.
    #[arg(long, global = true, requires_all = ["admin", "secret"])]
    ws: Option<String>,
    /// The gateway's admin port as HOST:PORT, or as http://… or https://….
    #[arg(long, global = true)]
    admin: Option<String>,
    /// The gateway's `auth.secret`.
    #[arg(long, global = true, env = "LOADTEST_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// PEM file: over wss:// and https://, trust only certificates that these signed.
    #[arg(long, global = true, requires = "ws", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The directory for the data of the rig's own gateway; default: beside the program. It should be on a real disk.
    #[arg(long, global = true)]
    data: Option<PathBuf>,
    /// A setting of the rig's own gateway, e.g. log.cache_bytes=1000000.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// The store of the rig's own gateways: embedded, a data directory, or postgres, servers that the rig starts. PostgreSQL has to be
    /// installed.
    #[arg(long, global = true, value_enum, default_value_t = StoreKind::Embedded, conflicts_with_all = ["ws", "target"])]
    store: StoreKind,
    /// Gateways on the store.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(GATEWAYS_MAX)))]
    gateways: u8,
    /// Standbys of the store, of which a send waits for one.
    #[arg(long, global = true, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=i64::from(STANDBYS_MAX)))]
    standbys: u8,
    /// The protocol of the gateway's sessions: towncrier, or openim as OpenIM v3's SDKs speak it. openim alone is what phones
    /// speak, openim:gob+gzip; other forms are openim:gob, openim:json (the JavaScript SDK) and openim:json+gzip.
    #[arg(
        long,
        global = true,
        value_name = "PROTOCOL",
        default_value = "towncrier",
        conflicts_with = "target"
    )]
    protocol: Speech,
    /// An MQTT broker instead of a gateway: mqtt://HOST[:PORT] or mqtt+ws://HOST[:PORT][/PATH], open to anonymous
    /// clients; or one of the rig's own: mosquitto, which writes every change to disk, or mosquitto-memory, which writes
    /// nothing.
    #[arg(long, global = true, value_name = "BROKER", conflicts_with_all = ["ws", "settings"])]
    target: Option<Broker>,
    /// The URL at which the broker's senders connect; default: the same as its sessions.
    #[arg(long, global = true, value_name = "URL", requires = "target")]
    senders: Option<mqtt::Url>,
    /// The MQTT quality of service: 1, at least once, or 2, exactly once.
    #[arg(long, global = true, default_value = "1", value_parser = qos)]
    qos: Qos,
}

/// The kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum StoreKind {
    Embedded,
    Postgres,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Ramps to this many sessions, holds them, and reaches each once.
    Connect(connect::ConnectPlan),
    /// Sends while another program takes the gateway down and up again: see `loadtest/vm/power-cut`.
    Outage(outage::OutagePlan),
    /// Sends at a constant rate, or searches for the highest one.
    Send(send::SendPlan),
    /// Kills the gateway (-9) under all sessions, each with a backlog, and waits until they are back.
    Storm(storm::StormPlan),
    /// Strikes servers of the store and gateways of a fleet while messages flow: see --store, --gateways and --standbys.
    Failover(failover::FailoverPlan),
    /// Ends connections at a rate while messages flow.
    Churn(churn::ChurnPlan),
    /// Lets some sessions read slowly or not at all, and measures the others.
    Slow(slow::SlowPlan),
    /// Lets a session that was away for long reconnect.
    Replay(replay::ReplayPlan),
    /// Sends to users of whom most are away, with a vendor of push and a receiver of webhooks of the rig's own.
    Push(push::PushPlan),
    /// Mixes all of them for a given time, with clients and the server killed at random.
    Soak(soak::SoakPlan),
    /// Compares the gateway with Mosquitto, which must be installed: the same loads in turn, and the ratios.
    Compare(compare::ComparePlan),
    /// Runs another program, such as a bench, for --keep.
    Command {
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// The command with which the rig starts its other processes.
    #[command(hide = true)]
    Worker { ordinal: u8, seed: u64 },
}

impl ServerArgs {
    /// The named target, or a new one.
    fn target(self) -> anyhow::Result<Target> {
        let Self {
            ws,
            admin,
            secret,
            ca,
            data,
            settings,
            protocol,
            target,
            senders,
            qos,
            store,
            gateways,
            standbys,
        } = self;
        if store == StoreKind::Embedded && (gateways > 1 || standbys > 0) {
            bail!("a data directory has one gateway and no standby: add --store postgres");
        }
        match (target, ws, admin, secret) {
            (Some(Broker::At(sessions)), ..) => {
                Ok(Target::Remote(ServerAddress::Mqtt(mqtt::BrokerAddress {
                    senders: senders.unwrap_or_else(|| sessions.clone()),
                    sessions,
                    qos,
                })))
            }
            (Some(Broker::Own(keeps)), ..) => {
                let mosquitto = Mosquitto::find(keeps, qos)?;
                Target::start(Program::Mosquitto(mosquitto), data)
            }
            (None, Some(ws), Some(admin), Some(secret)) => {
                let admin = match admin.contains("://") {
                    true => admin,
                    false => format!("http://{admin}"),
                };
                let address = gateway::GatewayAddress {
                    gateways: vec![gateway::GatewayPorts { ws, admin }],
                    secret,
                    ca,
                    token_key: None,
                    speech: protocol,
                };
                Ok(Target::Remote(ServerAddress::Gateway(address)))
            }
            _ => {
                let gateway = gateway::GatewayProgram::find(settings, protocol)?;
                match store {
                    StoreKind::Embedded => Target::start(Program::Gateway(gateway), data),
                    StoreKind::Postgres => {
                        Target::start_fleet(gateway, gateways.into(), standbys.into(), data)
                    }
                }
            }
        }
    }
}

fn qos(text: &str) -> Result<Qos, String> {
    match text {
        "1" => Ok(Qos::AtLeastOnce),
        "2" => Ok(Qos::ExactlyOnce),
        _ => Err("expected 1 or 2".to_owned()),
    }
}

/// Runs the command line. `false`: the ledger found a fault.
pub async fn run(cli: Cli) -> anyhow::Result<bool> {
    if let Scenario::Worker { ordinal, seed } = cli.scenario {
        return crew::work(ordinal, seed).await.map(|()| true);
    }
    if let Scenario::Command { words } = &cli.scenario {
        if !cli.keep.is_wanted() {
            bail!("another program is run only to keep its result: add --keep HOST/NAME");
        }
        return cli.keep.run(Some(words));
    }
    if cli.keep.is_wanted() {
        return cli.keep.run(None);
    }
    if let Scenario::Compare(plan) = cli.scenario {
        let ServerArgs {
            ws,
            data,
            settings,
            protocol,
            target,
            qos,
            ..
        } = cli.server;
        if protocol != Speech::Towncrier {
            bail!("a comparison loads the gateway by towncrier.v1: leave out --protocol");
        }
        if ws.is_some() || target.is_some() {
            bail!("both sides of a comparison are started by the rig: leave out --ws and --target");
        }
        let setting = compare::Setting {
            data,
            settings,
            report: cli.report,
            patience: cli.patience,
            processes: cli.processes,
            qos,
            is_json: cli.json,
        };
        return compare::run(&plan, &setting);
    }
    // Signals are caught before anything is started that has to be taken down.
    let signal = signals::caught()?;
    tokio::select! {
        result = load(cli) => result,
        () = signal => bail!("ended by a signal"),
    }
}

/// Runs one scenario. Dropping it takes down the server and removes its data.
async fn load(mut cli: Cli) -> anyhow::Result<bool> {
    let mut callees = None;
    if let Scenario::Push(plan) = &cli.scenario {
        let server = &mut cli.server;
        if server.ws.is_some() || server.target.is_some() {
            bail!("only a gateway of the rig's own calls its vendor: leave out --ws and --target");
        }
        let opened = plan.open(Duration::from_secs(cli.patience)).await?;
        // Settings of the command line come last, and win.
        server.settings.splice(..0, opened.settings());
        callees = Some(opened);
    }
    let target = cli.server.target()?;
    let words = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    // A report must not show a secret.
    let command = target.address().mask(format!("loadtest {words}"));
    let machine = MachineFacts::look(command, target.dir()).context("looking at this machine")?;
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut stage = ScenarioStage {
        crew: Crew::muster(cli.processes, seed, target.address())?,
        target,
        patience: Duration::from_secs(cli.patience),
        report: Report::new(machine),
    };
    match cli.scenario {
        Scenario::Connect(plan) => connect::run(plan, &mut stage).await?,
        Scenario::Send(plan) => send::run(plan, &mut stage).await?,
        Scenario::Storm(plan) => storm::run(plan, &mut stage).await?,
        Scenario::Failover(plan) => failover::run(plan, &mut stage).await?,
        Scenario::Churn(plan) => churn::run(plan, &mut stage).await?,
        Scenario::Slow(plan) => slow::run(plan, &mut stage).await?,
        Scenario::Outage(plan) => outage::run(plan, &mut stage).await?,
        Scenario::Push(plan) => {
            let callees = callees.context("they were opened above")?;
            push::run(plan, &callees, &mut stage).await?;
        }
        Scenario::Replay(plan) => replay::run(plan, &mut stage).await?,
        Scenario::Soak(plan) => soak::run(plan, &mut stage).await?,
        Scenario::Compare(_) | Scenario::Command { .. } | Scenario::Worker { .. } => {
            unreachable!("it has no server")
        }
    }
    let report = stage.report;
    if cli.json {
        println!("{}", report.json());
    } else {
        print!("{}", report.table());
    }
    if let Some(dir) = cli.report {
        let page = report.write_page(&dir)?;
        eprintln!("report: {}", page.display());
    }
    Ok(report.is_good())
}
