//! The gateway compared with Mosquitto: the same loads from the same rig, in turn.
//!
//! Each run is this program again, in a process of its own, with a server of its own. Its command is printed, so that a
//! reader can repeat any single figure. A figure is the median of its rounds; losses are the sum of all rounds.
//!
//! The sides do not promise the same, and the table says so: the gateway answers a send once it is synced to disk,
//! Mosquitto acks in every mode before it writes.

use std::{
    fmt::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::{
    mqtt::{Keeps, Mosquitto, Qos},
    report::{median, number},
};

#[derive(Debug, clap::Args)]
pub(crate) struct ComparePlan {
    /// Sessions, each of a user of its own.
    #[arg(long, default_value_t = 10_000)]
    sessions: u32,
    /// The time for which they are held idle, seconds.
    #[arg(long, default_value_t = 20)]
    hold: u32,
    /// The time for which messages flow, seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Connections that send, each waiting for its answer. Mosquitto is at its best with about this many.
    #[arg(long, default_value_t = 1024)]
    lanes: u32,
    /// The number of rounds of every load on every side.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these of the loads: idle, one, batch, kill.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// The options that count for all runs.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) data: Option<PathBuf>,
    /// The gateway's settings.
    pub(crate) settings: Vec<String>,
    pub(crate) report: Option<PathBuf>,
    pub(crate) patience: u64,
    pub(crate) processes: u8,
    pub(crate) qos: Qos,
    pub(crate) is_json: bool,
}

struct ComparedSide {
    name: &'static str,
    /// The meaning of an accepted send.
    promise: &'static str,
    words: &'static [&'static str],
}

/// The others are compared with the first.
const SIDES: [ComparedSide; 3] = [
    ComparedSide {
        name: "Towncrier",
        promise: "synced to disk",
        words: &[],
    },
    ComparedSide {
        name: "Mosquitto, strictest",
        promise: "in memory, written soon",
        words: &["--target", "mosquitto"],
    },
    ComparedSide {
        name: "Mosquitto, memory",
        promise: "in memory",
        words: &["--target", "mosquitto-memory"],
    },
];

/// A load, and the figures taken from its report.
struct ComparedLoad {
    name: &'static str,
    words: String,
    figures: &'static [Figure],
}

struct Figure {
    name: &'static str,
    /// Name and unit of the report's row.
    row: (&'static str, &'static str),
}

const IDLE: [Figure; 2] = [
    Figure {
        name: "memory of an idle session",
        row: ("server RSS", "bytes/session"),
    },
    Figure {
        name: "CPU of an idle session",
        row: ("server CPU, idle", "µs/s/session"),
    },
];
const ONE: [Figure; 2] = [
    Figure {
        name: "messages landed, one a send",
        row: ("messages landed", "messages/s"),
    },
    Figure {
        name: "CPU of such a message",
        row: ("server CPU, sending and landing", "µs/message"),
    },
];
const BATCH: [Figure; 2] = [
    Figure {
        name: "messages landed, 100 a send",
        row: ("messages landed", "messages/s"),
    },
    Figure {
        name: "CPU of such a message",
        row: ("server CPU, sending and landing", "µs/message"),
    },
];
const KILL: [Figure; 1] = [Figure {
    name: "kill -9 to all back with their backlog",
    row: ("kill to everyone back and caught up", "s"),
}];

impl ComparePlan {
    fn loads(&self) -> anyhow::Result<Vec<ComparedLoad>> {
        let Self {
            sessions,
            hold,
            seconds,
            lanes,
            ..
        } = self;
        let load = |name, words, figures| ComparedLoad {
            name,
            words,
            figures,
        };
        let all = [
            load(
                "idle",
                format!("connect --sessions {sessions} --hold {hold}"),
                &IDLE[..],
            ),
            load(
                "one",
                format!("send --users {sessions} --closed --lanes {lanes} --seconds {seconds}"),
                &ONE,
            ),
            load(
                "batch",
                format!(
                    "send --users {sessions} --closed --lanes {lanes} --batch 100 --seconds {seconds}"
                ),
                &BATCH,
            ),
            load("kill", format!("storm --sessions {sessions} --away"), &KILL),
        ];
        let names = all.each_ref().map(|load| load.name);
        if let Some(name) = self.only.iter().find(|name| !names.contains(&&***name)) {
            bail!(
                "there is no load {name}: expected some of {}",
                names.join(", ")
            );
        }
        let is_wanted = |load: &ComparedLoad| {
            self.only.is_empty() || self.only.iter().any(|name| name == load.name)
        };
        Ok(all.into_iter().filter(is_wanted).collect())
    }
}

/// The result of one side in one load.
#[derive(Debug, Clone, Default)]
struct Score {
    /// The values of each figure, round by round.
    values: Vec<Vec<f64>>,
    accepted: u64,
    lost: u64,
}

/// Runs everything and prints the table. `false`: the gateway did not deliver every message exactly once.
pub(crate) fn run(plan: &ComparePlan, setting: &Setting) -> anyhow::Result<bool> {
    // A missing Mosquitto is found before an hour of runs.
    Mosquitto::find(Keeps::All, setting.qos)?;
    let loads = plan.loads()?;
    let mut scores = vec![vec![Score::default(); SIDES.len()]; loads.len()];
    let (mut machine, mut is_good) = (Value::Null, true);
    for round in 1..=plan.rounds {
        for (load, scores) in loads.iter().zip(&mut scores) {
            for (at, (side, score)) in SIDES.iter().zip(scores).enumerate() {
                let (report, is_exactly_once) = run_one(load, side, round, setting)?;
                score.enter(load, &report)?;
                if at == 0 {
                    is_good &= is_exactly_once;
                    machine = report["machine"].clone();
                }
            }
        }
    }
    if setting.is_json {
        println!("{}", json(&loads, &scores, &machine));
    } else {
        print!("{}", table(&loads, &scores));
    }
    Ok(is_good)
}

/// The report of a run, and true if every message landed exactly once.
fn run_one(
    load: &ComparedLoad,
    side: &ComparedSide,
    round: u32,
    setting: &Setting,
) -> anyhow::Result<(Value, bool)> {
    let mut words = load.words.clone();
    for word in side.words {
        write!(words, " {word}")?;
    }
    let Setting {
        patience,
        processes,
        qos,
        ..
    } = setting;
    write!(
        words,
        " --patience {patience} --processes {processes} --qos {}",
        *qos as u8
    )?;
    let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    if side.words.is_empty() {
        for value in &setting.settings {
            add("--set", value.clone());
        }
    }
    if let Some(data) = &setting.data {
        add("--data", data.display().to_string());
    }
    if let Some(report) = &setting.report {
        let side = side.words.last().unwrap_or(&"towncrier");
        let dir = report.join(format!("{}-{side}-{round}", load.name));
        add("--report", dir.display().to_string());
    }
    eprintln!("loadtest {}", words.join(" "));
    let output = Command::new(std::env::current_exe()?)
        .args(words)
        .arg("--json")
        .stderr(Stdio::inherit())
        .output()?;
    match output.status.code() {
        Some(code @ (0 | 1)) => Ok((serde_json::from_slice(&output.stdout)?, code == 0)),
        _ => bail!("this run could not be done"),
    }
}

impl Score {
    fn enter(&mut self, load: &ComparedLoad, report: &Value) -> anyhow::Result<()> {
        self.values.resize(load.figures.len(), Vec::new());
        let rows = report["rows"].as_array().context("a report without rows")?;
        for (figure, values) in load.figures.iter().zip(&mut self.values) {
            let (name, unit) = figure.row;
            let row = rows
                .iter()
                .find(|row| row["name"] == name && row["unit"] == unit);
            // A report lacks this row if the run did not reach it in time.
            let value = row.and_then(|row| row["value"].as_f64());
            values.push(value.unwrap_or(f64::INFINITY));
            eprintln!("    {name}: {} {unit}", show(values[values.len() - 1]));
        }
        let count = |name: &str| report["ledger"][name].as_u64().unwrap_or_default();
        self.accepted += count("accepted");
        self.lost += count("lost");
        Ok(())
    }

    fn median(&self, figure: usize) -> f64 {
        median(&self.values[figure])
    }
}

fn show(value: f64) -> String {
    match value.is_finite() {
        true => number(value),
        false => "too many".to_owned(),
    }
}

/// The table in Markdown. After each figure of another side stands its ratio to the gateway's.
fn table(loads: &[ComparedLoad], scores: &[Vec<Score>]) -> String {
    let row = |name: &str, cells: Vec<String>| format!("| {name} | {} |\n", cells.join(" | "));
    let mut text = row("", SIDES.iter().map(|side| side.name.to_owned()).collect());
    text += &row("---", vec!["---".to_owned(); SIDES.len()]).replace(' ', "");
    text += &row(
        "an accepted message is",
        SIDES.iter().map(|side| side.promise.to_owned()).collect(),
    );
    for (load, scores) in loads.iter().zip(scores) {
        for (at, figure) in load.figures.iter().enumerate() {
            let unit = figure
                .row
                .1
                .trim_end_matches("/session")
                .trim_end_matches("/message");
            let ours = scores[0].median(at);
            let cells = scores.iter().enumerate().map(|(side, score)| {
                let value = score.median(at);
                match side {
                    0 => format!("{} {unit}", show(value)),
                    _ => format!("{} {unit}, {:.2}×", show(value), value / ours),
                }
            });
            text += &row(figure.name, cells.collect());
        }
    }
    if let Some((_, scores)) = loads
        .iter()
        .zip(scores)
        .find(|(load, _)| load.name == "kill")
    {
        let cells = scores
            .iter()
            .map(|score| format!("{} of {}", score.lost, score.accepted));
        text += &row("accepted messages lost by that", cells.collect());
    }
    text
}

fn json(loads_of: &[ComparedLoad], scores: &[Vec<Score>], machine: &Value) -> Value {
    let loads = loads_of.iter().zip(scores).map(|(load, scores)| {
        let sides = SIDES.iter().zip(scores).map(|(side, score)| {
            let rows = load.figures.iter().zip(&score.values);
            let rows = rows.map(|(figure, values)| {
                json!({"name": figure.name, "unit": figure.row.1, "rounds": values})
            });
            json!({
                "side": side.name, "rows": rows.collect::<Vec<_>>(),
                "accepted": score.accepted, "lost": score.lost,
            })
        });
        json!({"load": load.name, "command": load.words, "sides": sides.collect::<Vec<_>>()})
    });
    let table = table(loads_of, scores);
    json!({"machine": machine, "loads": loads.collect::<Vec<_>>(), "table": table})
}
