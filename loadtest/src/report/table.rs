//! The report as a table for a terminal.

use std::fmt::Write as _;

use super::{Report, ReportRow};

/// Space for names.
const NAMES: usize = 44;

impl Report {
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        self.write_table(&mut text).expect("a String takes all");
        text
    }

    fn write_table(&self, text: &mut String) -> std::fmt::Result {
        for ReportRow { name, value, unit } in &self.rows {
            writeln!(text, "{name:<NAMES$} {:>12} {unit}", number(*value))?;
        }
        let sync = self
            .machine
            .sync
            .map(|sync| ("the disk's sync of 4 KiB".to_owned(), sync));
        let latencies = self.latencies.iter().cloned().chain(sync);
        writeln!(
            text,
            "{:<NAMES$} {:>12} {:>12} {:>12} {:>12}",
            "ms", "p50", "p99", "p99.9", "max"
        )?;
        for (name, quantiles) in latencies {
            let [p50, p99, p999, max] = [
                quantiles.p50_us,
                quantiles.p99_us,
                quantiles.p999_us,
                quantiles.max_us,
            ]
            .map(|us| us as f64 / 1000.0);
            writeln!(
                text,
                "{name:<NAMES$} {p50:>12.2} {p99:>12.2} {p999:>12.2} {max:>12.2}"
            )?;
        }
        for (what, times) in &self.incidents {
            writeln!(text, "{times} × {what}")?;
        }
        let verdict = match self.tally.is_exactly_once() {
            true => "exactly once",
            false => "NOT EXACTLY ONCE",
        };
        writeln!(text, "ledger: {}\n{verdict}", self.tally)?;
        match self.other_faults {
            0 => Ok(()),
            faults => writeln!(text, "OTHER FAULTS: {faults}"),
        }
    }
}

/// The middle of some values, at least one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Large numbers without decimals, small ones with them.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
