//! A kept run: a command's circumstances, its raw data and a summary, so that a reader can follow a published number.
//!
//! `--keep HOST/NAME` runs the command again as a child, `--repeat` times, and writes `run.json` and `summary.md` into
//! `loadtest/runs/DATE-HOST/NAME`. So every scenario is kept in the same way, and `loadtest command` keeps another program,
//! such as a bench. A kept run names neither this machine nor a path of it, and is small enough for a repository.
//!
//! - `summary.rs`: the summary
//! - `neutral.rs`: texts without this machine's names

mod neutral;
mod summary;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use self::{
    neutral::{neutral, neutralise},
    summary::summary,
};
use crate::machine::MachineFacts;

/// The folder of all kept runs, in the repository.
const RUNS: &str = "loadtest/runs";
/// A longer course is thinned out: a reader sees no more points.
const SECONDS_MAX: usize = 120;
/// Faults of connections and sends differ in their numbers, so there may be very many texts. The most frequent are kept.
const INCIDENTS_MAX: usize = 20;
/// The end of another program's output, which has its results.
const OUTPUT_BYTES_MAX: usize = 16 << 10;
/// The two files together. A repository keeps them for ever.
const RUN_BYTES_MAX: usize = 128 << 10;

/// The options of a kept run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Keep {
    /// Keep the run in loadtest/runs/DATE-HOST/NAME. HOST is a neutral name of this machine, e.g. two-core-vm/send.
    #[arg(long, global = true, value_name = "HOST/NAME")]
    keep: Option<RunName>,
    /// With --keep: run it this many times, one after the other. The summary has medians.
    #[arg(long, global = true, default_value_t = 1, requires = "keep", value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
}

/// The names of a machine and of a run.
#[derive(Debug, Clone)]
struct RunName {
    host: String,
    run: String,
}

impl FromStr for RunName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        };
        match text.split_once('/') {
            Some((host, run)) if is_name(host) && is_name(run) => Ok(Self {
                host: host.to_owned(),
                run: run.to_owned(),
            }),
            _ => Err("expected HOST/NAME in small letters, digits and dashes".to_owned()),
        }
    }
}

/// One round of a kept run.
#[derive(Debug)]
struct Round {
    /// False if the rig found a fault.
    is_good: bool,
    /// The rig's report, or the lines of another program.
    report: Value,
}

impl Keep {
    /// True if the run is to be kept.
    pub(crate) fn is_wanted(&self) -> bool {
        self.keep.is_some()
    }

    /// Runs `program`, or this command line without the options of this module, and keeps the result. `false`: the ledger
    /// found a fault.
    pub(crate) fn run(&self, program: Option<&[String]>) -> anyhow::Result<bool> {
        let name = self.keep.as_ref().expect("it is wanted");
        ensure!(
            Path::new(RUNS).is_dir(),
            "there is no {RUNS} here: start the rig at the top of the repository"
        );
        let own = own_words(std::env::args().skip(1));
        let mut rounds = Vec::new();
        for round in 1..=self.repeat {
            eprintln!("round {round} of {}", self.repeat);
            rounds.push(match program {
                Some(words) => other_program(words)?,
                None => this_program(&own)?,
            });
        }
        let command = match program {
            Some(words) => words.join(" "),
            None => masked(&format!("loadtest {}", own.join(" "))),
        };
        let date = Command::new("date").args(["-u", "+%F"]).output()?;
        let date = String::from_utf8(date.stdout)?.trim().to_owned();
        let dir = Path::new(RUNS)
            .join(format!("{date}-{}", name.host))
            .join(&name.run);
        write(&dir, &neutral(&command), &rounds)?;
        eprintln!("kept: {}", dir.display());
        Ok(rounds.iter().all(|round| round.is_good))
    }
}

/// The words without the options of this module and of the form of the report.
fn own_words(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--keep" | "--repeat" => drop(words.next()),
            "--json" => {}
            _ if word.starts_with("--keep=") || word.starts_with("--repeat=") => {}
            _ => kept.push(word),
        }
    }
    kept
}

/// A command line without a secret.
fn masked(command: &str) -> String {
    let Some(at) = command.find("--secret") else {
        return command.to_owned();
    };
    let (before, from) = command.split_at(at + "--secret".len() + 1);
    let secret = from.find(' ').unwrap_or(from.len());
    format!("{before}***{}", &from[secret..])
}

/// Runs this program once, for its report.
fn this_program(words: &[String]) -> anyhow::Result<Round> {
    let output = Command::new(std::env::current_exe()?)
        .args(words)
        .arg("--json")
        .stderr(Stdio::inherit())
        .output()?;
    let is_good = match output.status.code() {
        Some(0) => true,
        Some(1) => false,
        _ => bail!("this run could not be done"),
    };
    let mut report: Value = serde_json::from_slice(&output.stdout)?;
    bound(&mut report);
    neutralise(&mut report);
    Ok(Round { is_good, report })
}

/// Runs another program once. Its output, line by line, is the report.
fn other_program(words: &[String]) -> anyhow::Result<Round> {
    let (program, words) = words.split_first().context("a command has a program")?;
    let dir = std::env::current_exe()?;
    let machine =
        MachineFacts::look(String::new(), dir.parent()).context("looking at this machine")?;
    let output = Command::new(program)
        .args(words)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| program.clone())?;
    if !output.status.success() {
        bail!("{program} failed: {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut from = text.len().saturating_sub(OUTPUT_BYTES_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let mut report =
        json!({"machine": machine, "output": text[from..].lines().collect::<Vec<_>>()});
    neutralise(&mut report);
    Ok(Round {
        is_good: true,
        report,
    })
}

/// Thins the course out and leaves out rare incidents.
fn bound(report: &mut Value) {
    if let Some(course) = report.get_mut("course").and_then(Value::as_array_mut) {
        let each = course.len().div_ceil(SECONDS_MAX).max(1);
        // A point stands for the worst of its seconds.
        let p99 = |second: &Value| second["landed_p99_us"].as_u64();
        let worst = course.chunks(each).filter_map(|chunk| {
            let worst = chunk.iter().max_by_key(|second| p99(second))?;
            Some(worst.clone())
        });
        *course = worst.collect();
        report["course_seconds_each"] = each.into();
    }
    if let Some(incidents) = report.get_mut("incidents").and_then(Value::as_object_mut) {
        let mut all: Vec<_> = std::mem::take(incidents).into_iter().collect();
        all.sort_by_key(|(_, times)| std::cmp::Reverse(times.as_u64()));
        let rest = all.split_off(all.len().min(INCIDENTS_MAX));
        incidents.extend(all);
        let rest: u64 = rest.iter().filter_map(|(_, times)| times.as_u64()).sum();
        if rest > 0 {
            incidents.insert("others".to_owned(), rest.into());
        }
    }
}

/// Writes both files, over those of an earlier run of the day.
fn write(dir: &Path, command: &str, rounds: &[Round]) -> anyhow::Result<()> {
    let machine = &rounds[0].report["machine"];
    let reports = rounds.iter().map(|round| {
        let mut report = round.report.clone();
        if let Some(machine) = report["machine"].as_object_mut() {
            // These are the same in every round, and stand above.
            machine.retain(|name, _| ["sync", "load"].contains(&name.as_str()));
        }
        json!({"is_good": round.is_good, "report": report})
    });
    let mut circumstances = machine.clone();
    circumstances["command"] = command.into();
    let raw = json!({"machine": circumstances, "rounds": reports.collect::<Vec<_>>()});
    let raw = format!("{raw:#}\n");
    let summary = summary(&circumstances, rounds);
    let bytes = raw.len() + summary.len();
    ensure!(
        bytes <= RUN_BYTES_MAX,
        "a kept run has at most {RUN_BYTES_MAX} bytes, and this one has {bytes}: use a smaller --repeat"
    );
    let files: [(PathBuf, String); 2] = [
        (dir.join("run.json"), raw),
        (dir.join("summary.md"), summary),
    ];
    fs::create_dir_all(dir)?;
    let written: io::Result<Vec<()>> = files
        .into_iter()
        .map(|(path, text)| fs::write(path, text))
        .collect();
    written.map(drop).with_context(|| dir.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_two_parts_that_fit_a_folder() {
        assert!("two-core-vm/send-1".parse::<RunName>().is_ok());
        for text in ["send", "/send", "vm/", "vm/../x", "Vm/send", "a/b/c"] {
            assert!(text.parse::<RunName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_long_run_is_kept_small_and_shows_its_worst_seconds() {
        let second = |at: u64| json!({"landed_p99_us": if at == 4321 { 9 } else { 1 }});
        let incidents = (1..1000).map(|at| (format!("fault {at}"), Value::from(at)));
        let mut report = json!({
            "course": (0..5000).map(second).collect::<Vec<_>>(),
            "incidents": incidents.collect::<serde_json::Map<_, _>>(),
        });
        bound(&mut report);
        let course = report["course"].as_array().unwrap();
        assert!(course.len() <= SECONDS_MAX);
        assert!(course.iter().any(|second| second["landed_p99_us"] == 9));
        let incidents = report["incidents"].as_object().unwrap();
        assert_eq!(incidents.len(), INCIDENTS_MAX + 1);
        let all: u64 = incidents.values().filter_map(Value::as_u64).sum();
        assert_eq!(all, 999 * 500);
        // A comparison has neither.
        let mut comparison = json!({"table": ""});
        bound(&mut comparison);
        assert_eq!(comparison, json!({"table": ""}));
    }

    #[test]
    fn a_kept_command_repeats_the_run_and_tells_no_secret() {
        let words = "--keep vm/x send --repeat=3 --secret s3cret --json --users 1";
        let own = own_words(words.split(' ').map(str::to_owned));
        assert_eq!(masked(&own.join(" ")), "send --secret *** --users 1");
    }
}
