//! `towncrier doctor`: the load that this host can carry, as a table or as one JSON object.

use std::{
    io::{self, BufWriter, Write, stdout},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::{check::could_start, scratch::Scratch, signals::Signals};
use crate::{
    config::Config,
    doctor::{Ceiling, Facts, Forecast, Limit, MessageRates, examine, forecast},
    door::raise_limit,
};

/// Limits of each kind that the table shows; `--json` shows all.
const SHOWN: usize = 3;

/// Says how many sessions and messages to expect of this host, and what limits them.
#[derive(Debug, Args)]
pub(super) struct DoctorCommand {
    /// Print one JSON object with everything that was found.
    #[arg(long)]
    json: bool,
}

/// The output of `--json`.
#[derive(Serialize)]
struct DoctorReport<'a> {
    #[serde(flatten)]
    forecast: &'a Forecast,
    found: &'a Facts,
    /// A gateway runs on the data directory. It used a part of the measured capacity.
    is_in_use: bool,
}

impl DoctorCommand {
    /// Fails if the gateway would not start. Leaves no trace on the disk, even when a signal ends it.
    pub(super) async fn run(&self, mut config: Config) -> anyhow::Result<ExitCode> {
        let is_in_use = could_start(&mut config)?.is_in_use;
        raise_limit();
        let mut signals = Signals::that_end_a_command()?;
        let dir = &config.log.dir;
        let scratch = Scratch::make(dir, "doctor")
            .with_context(|| format!("nothing can be tried out in {}", dir.display()))?;
        let found = examine(&config, scratch.path(), signals.next()).await?;
        drop(scratch);
        let report = DoctorReport {
            forecast: &forecast(&config, &found)?,
            found: &found,
            is_in_use,
        };
        let mut out = BufWriter::new(stdout().lock());
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string(&report)?)?,
            false => report.print(&mut out)?,
        }
        Ok(out.flush().map(|()| ExitCode::SUCCESS)?)
    }
}

impl DoctorReport<'_> {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Forecast {
            sessions,
            single,
            batches,
            notes,
        } = self.forecast;
        let sync = self.found.sync;
        writeln!(
            out,
            "{} cores; a sync of 4 KiB takes {:.2} ms, one in a hundred {:.2} ms and more\n",
            self.found.host.cores,
            sync.p50_us as f64 / 1000.0,
            sync.p99_us as f64 / 1000.0
        )?;
        print_ceiling(out, "sessions", sessions)?;
        print_messages(out, "messages/s, one request each", single)?;
        print_messages(out, "messages/s in batches of 100", batches)?;
        for note in notes {
            writeln!(out, "note: {note}")?;
        }
        if self.is_in_use {
            writeln!(
                out,
                "note: a gateway runs with this data directory, and had its share of what was measured"
            )?;
        }
        Ok(())
    }
}

fn print_messages(out: &mut impl Write, what: &str, messages: &MessageRates) -> io::Result<()> {
    let beside = format!("{what}, the load rig on the same cores");
    print_ceiling(out, &beside, &messages.beside_rig)?;
    let alone = format!("{what}, the cores for the gateway alone");
    print_ceiling(out, &alone, &messages.alone)
}

/// Prints a ceiling, and below it the first limits, each with the way to raise it.
fn print_ceiling(out: &mut impl Write, what: &str, ceiling: &Ceiling) -> io::Result<()> {
    writeln!(out, "{} {what}", grouped(ceiling.expected))?;
    let limits: Vec<_> = ceiling.limits.iter().take(SHOWN).collect();
    let widest = |texts: &dyn Fn(&Limit) -> usize| limits.iter().map(|limit| texts(limit)).max();
    let allows = widest(&|limit| grouped(limit.allows).len()).unwrap_or(0);
    let names = widest(&|limit| limit.what.len()).unwrap_or(0);
    for limit in limits {
        writeln!(
            out,
            "  {:>allows$}  {:<names$}  {}",
            grouped(limit.allows),
            limit.what,
            limit.lift
        )?;
    }
    writeln!(out)
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        let numbers = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn each_limit_stands_under_what_it_limits_with_its_line() {
        let limit = |what: &str, allows, lift: &str| Limit {
            what: what.into(),
            allows,
            lift: lift.into(),
        };
        let ceiling = Ceiling {
            expected: 18_000,
            limits: vec![
                limit("file descriptors", 18_000, "LimitNOFILE=105000"),
                limit("memory", 1_200_000, "more of it"),
            ],
        };
        let mut out = Vec::new();
        print_ceiling(&mut out, "sessions", &ceiling).unwrap();
        let expected = "18,000 sessions\n\
            \x20    18,000  file descriptors  LimitNOFILE=105000\n\
            \x20 1,200,000  memory            more of it\n\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
