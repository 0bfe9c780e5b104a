//! The summary of a kept run, in Markdown: its circumstances, and medians over its rounds.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;

use super::Round;
use crate::report::{median, number};

pub(super) fn summary(machine: &Value, rounds: &[Round]) -> String {
    let mut text = String::new();
    write_summary(machine, rounds, &mut text).expect("a String takes all");
    text
}

fn write_summary(machine: &Value, rounds: &[Round], text: &mut String) -> std::fmt::Result {
    let word = |name: &str| machine[name].as_str().unwrap_or("unknown");
    let gib = machine["memory_bytes"].as_f64().unwrap_or(0.0) / f64::from(1 << 30);
    let each = |of: &dyn Fn(&Value) -> Option<f64>| {
        let values: Vec<f64> = rounds
            .iter()
            .filter_map(|round| of(&round.report))
            .collect();
        values
    };
    let shown = |values: &[f64]| {
        let values: Vec<_> = values.iter().map(|value| number(*value)).collect();
        values.join(", ")
    };
    writeln!(text, "# `{}`\n", word("command"))?;
    writeln!(text, "| Circumstance | |\n|---|---|")?;
    writeln!(text, "| commit | {} |", word("commit"))?;
    writeln!(
        text,
        "| machine | {}, {} cores, {gib:.1} GiB |",
        word("processor"),
        machine["cores"]
    )?;
    writeln!(text, "| kernel | Linux {} |", word("kernel"))?;
    for (name, quantile) in [("p50", "p50_us"), ("p99", "p99_us")] {
        let sync = each(&|report| Some(report["machine"]["sync"][quantile].as_f64()? / 1000.0));
        if !sync.is_empty() {
            let sync = shown(&sync);
            writeln!(
                text,
                "| sync of 4 KiB where the data is, {name}, ms | {sync} |"
            )?;
        }
    }
    let load = shown(&each(&|report| report["machine"]["load"].as_f64()));
    writeln!(
        text,
        "| other programs: runnable threads before each round, mean of a minute | {load} |"
    )?;
    writeln!(text, "| rounds | {} |\n", rounds.len())?;
    write_rows(rounds, text)?;
    write_latencies(rounds, text)?;
    for round in rounds {
        if let Some(ledger) = round.report["ledger"].as_object() {
            let counts = ledger.iter().map(|(name, count)| format!("{name} {count}"));
            let verdict = match round.is_good {
                true => "exactly once",
                false => "NOT exactly once",
            };
            let counts = counts.collect::<Vec<_>>().join(", ");
            writeln!(text, "- ledger: {verdict} ({counts})")?;
        }
        if let Some(table) = round.report["table"].as_str() {
            writeln!(text, "{table}")?;
        }
        if let Some(lines) = round.report["output"].as_array() {
            writeln!(text, "```")?;
            for line in lines {
                writeln!(text, "{}", line.as_str().unwrap_or_default())?;
            }
            writeln!(text, "```")?;
        }
    }
    Ok(())
}

/// The median, the least and the most of every row.
fn write_rows(rounds: &[Round], text: &mut String) -> std::fmt::Result {
    let mut names = Vec::new();
    let mut values: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for round in rounds {
        for row in round.report["rows"].as_array().into_iter().flatten() {
            let [name, unit] = ["name", "unit"].map(|field| row[field].as_str().unwrap_or(""));
            if !values.contains_key(&(name, unit)) {
                names.push((name, unit));
            }
            let value = row["value"].as_f64().unwrap_or(f64::NAN);
            values.entry((name, unit)).or_default().push(value);
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "| Value | median | least | most | unit |\n|---|---|---|---|---|"
    )?;
    for name in names {
        let values = &values[&name];
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let [median, least, most] = [median(values), least, most].map(number);
        let (name, unit) = name;
        writeln!(text, "| {name} | {median} | {least} | {most} | {unit} |")?;
    }
    writeln!(text)
}

/// The medians of every distribution's quantiles.
fn write_latencies(rounds: &[Round], text: &mut String) -> std::fmt::Result {
    const QUANTILES: [&str; 4] = ["p50_us", "p99_us", "p999_us", "max_us"];
    let mut all: BTreeMap<&str, [Vec<f64>; 4]> = BTreeMap::new();
    for round in rounds {
        for (name, quantiles) in round.report["latencies"].as_object().into_iter().flatten() {
            let values = all.entry(name).or_default();
            for (values, quantile) in values.iter_mut().zip(QUANTILES) {
                values.push(quantiles[quantile].as_f64().unwrap_or(f64::NAN) / 1000.0);
            }
        }
    }
    if all.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "| Time, ms, medians | p50 | p99 | p99.9 | most |\n|---|---|---|---|---|"
    )?;
    for (name, values) in all {
        let [p50, p99, p999, most] = values.map(|values| number(median(&values)));
        writeln!(text, "| {name} | {p50} | {p99} | {p999} | {most} |")?;
    }
    writeln!(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_summary_has_medians_of_all_rounds() {
        let round = |cpu: f64| Round {
            is_good: true,
            report: json!({"rows": [{"name": "server CPU", "value": cpu, "unit": "µs/message"}]}),
        };
        let text = summary(
            &json!({"command": "x"}),
            &[round(1.5), round(9.0), round(2.5)],
        );
        assert!(
            text.contains("| server CPU | 2.50 | 1.50 | 9 | µs/message |"),
            "{text}"
        );
    }
}
