//! The result of a run, shown as a table, as JSON, or as a page.
//!
//! - `table.rs`: for a terminal
//! - `page.rs`, `page.css`, `plot.rs`: one HTML file that needs nothing else, and its plots

mod page;
mod plot;
mod table;

pub(crate) use self::table::{median, number};

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    ledger::LedgerTally,
    machine::MachineFacts,
    meter::{Quantiles, Second},
};

/// One measured number.
#[derive(Debug)]
pub(crate) struct ReportRow {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

/// The whole result of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: MachineFacts,
    pub(crate) rows: Vec<ReportRow>,
    pub(crate) latencies: Vec<(String, Quantiles)>,
    pub(crate) course: Vec<Second>,
    /// Faults of connections and sends, with their counts.
    pub(crate) incidents: BTreeMap<String, u64>,
    pub(crate) tally: LedgerTally,
    /// Faults that are not in the ledger. Each has its text among the incidents.
    pub(crate) other_faults: u64,
}

impl Report {
    pub(crate) fn new(machine: MachineFacts) -> Self {
        Self {
            machine,
            rows: Vec::new(),
            latencies: Vec::new(),
            course: Vec::new(),
            incidents: BTreeMap::new(),
            tally: LedgerTally::default(),
            other_faults: 0,
        }
    }

    pub(crate) fn row(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.rows.push(ReportRow {
            name: name.into(),
            value,
            unit,
        });
    }

    pub(crate) fn latency(&mut self, name: impl Into<String>, quantiles: Quantiles) {
        self.latencies.push((name.into(), quantiles));
    }

    /// Enters a fault, if there were any.
    pub(crate) fn fault(&mut self, what: &str, times: u64) {
        if times > 0 {
            self.incidents.insert(format!("a fault: {what}"), times);
            self.other_faults += times;
        }
    }

    /// True if there was no fault.
    pub(crate) fn is_good(&self) -> bool {
        self.tally.is_exactly_once() && self.other_faults == 0
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self
            .rows
            .iter()
            .map(|row| json!({"name": row.name, "value": row.value, "unit": row.unit}));
        let latencies: BTreeMap<_, _> = self
            .latencies
            .iter()
            .map(|(name, quantiles)| (name, quantiles))
            .collect();
        json!({
            "machine": self.machine,
            "rows": rows.collect::<Vec<_>>(),
            "latencies": latencies,
            "course": self.course,
            "incidents": self.incidents,
            "ledger": self.tally,
            "other_faults": self.other_faults,
        })
    }

    /// Writes `index.html` and `run.json`.
    pub(crate) fn write_page(&self, dir: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("run.json"), format!("{:#}\n", self.json()))?;
        let page = dir.join("index.html");
        fs::write(&page, page::html(self))?;
        Ok(page)
    }
}
