//! One HTML file that needs nothing else: verdict, plots, numbers, and their circumstances.

use std::fmt::Write as _;

use super::{
    Report, ReportRow,
    plot::{Line, plot},
    table::number,
};
use crate::{ledger::LedgerTally, meter::Second};

const STYLE: &str = include_str!("page.css");

pub(super) fn html(report: &Report) -> String {
    let mut page = String::new();
    write(report, &mut page).expect("a String takes all");
    page
}

fn write(report: &Report, page: &mut String) -> std::fmt::Result {
    let command = escape(&report.machine.command);
    writeln!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>{command}</title><style>{STYLE}</style><main><h1><code>{command}</code></h1>"
    )?;
    verdict(report.tally, page)?;
    if report.other_faults > 0 {
        let faults = report.other_faults;
        writeln!(
            page,
            "<section class='fault'><b>Other faults: {faults}</b></section>"
        )?;
    }
    if report.course.len() > 1 {
        plots(&report.course, page)?;
    }
    numbers(report, page)?;
    if !report.incidents.is_empty() {
        writeln!(
            page,
            "<h2>What went wrong with connections and sends</h2><table>"
        )?;
        for (what, times) in &report.incidents {
            writeln!(page, "<tr><td>{}<td>{times}", escape(what))?;
        }
        writeln!(page, "</table>")?;
    }
    circumstances(report, page)?;
    writeln!(page, "</main></html>")
}

fn verdict(tally: LedgerTally, page: &mut String) -> std::fmt::Result {
    let (class, verdict) = match tally.is_exactly_once() {
        true => ("whole", "Every message landed exactly once"),
        false => ("fault", "Not every message landed exactly once"),
    };
    writeln!(page, "<section class='{class}'><b>{verdict}</b><dl>")?;
    let sends = [("refused", tally.refused), ("unknown", tally.unknown)];
    for (name, count) in tally.counts().into_iter().chain(sends) {
        writeln!(page, "<div><dt>{name}<dd>{count}</div>")?;
    }
    writeln!(page, "</dl></section>")
}

fn plots(course: &[Second], page: &mut String) -> std::fmt::Result {
    let line = |name, class, of: &dyn Fn(&Second) -> f64| Line {
        name,
        class,
        values: course.iter().map(of).collect(),
    };
    let throughput = [
        line("accepted sends", "two", &|second| second.accepted as f64),
        line("landed messages", "one", &|second| second.landed as f64),
    ];
    let latency = [
        line("p99", "two", &|second| second.landed_p99_us as f64 / 1000.0),
        line("p50", "one", &|second| second.landed_p50_us as f64 / 1000.0),
    ];
    let sessions = [line("connected", "one", &|second| second.connected.into())];
    plot(page, "A second", &throughput)?;
    plot(page, "Send to landed, ms", &latency)?;
    plot(page, "Sessions", &sessions)
}

fn numbers(report: &Report, page: &mut String) -> std::fmt::Result {
    writeln!(page, "<h2>Numbers</h2><table>")?;
    for ReportRow { name, value, unit } in &report.rows {
        let (name, value) = (escape(name), number(*value));
        writeln!(page, "<tr><td>{name}<td>{value}<td class=unit>{unit}")?;
    }
    writeln!(page, "</table>")?;
    let sync = report.machine.sync;
    let sync = sync.map(|sync| ("the disk's own sync of 4 KiB".to_owned(), sync));
    let latencies: Vec<_> = report.latencies.iter().cloned().chain(sync).collect();
    if latencies.is_empty() {
        return Ok(());
    }
    writeln!(
        page,
        "<table><tr><th>ms, from the moment a message was due<th>p50<th>p99<th>p99.9<th>max<th>of"
    )?;
    for (name, q) in latencies {
        write!(page, "<tr><td>{}", escape(&name))?;
        for us in [q.p50_us, q.p99_us, q.p999_us, q.max_us] {
            write!(page, "<td>{:.2}", us as f64 / 1000.0)?;
        }
        writeln!(page, "<td>{}", q.count)?;
    }
    writeln!(page, "</table>")
}

fn circumstances(report: &Report, page: &mut String) -> std::fmt::Result {
    let machine = &report.machine;
    let gib = machine.memory_bytes as f64 / f64::from(1 << 30);
    let facts = [
        ("command", machine.command.clone()),
        ("commit", machine.commit.clone()),
        (
            "processor",
            format!("{}, {} cores", machine.processor, machine.cores),
        ),
        ("memory", format!("{gib:.1} GiB")),
        ("kernel", format!("Linux {}", machine.kernel)),
    ];
    writeln!(page, "<h2>Circumstances</h2><table class=facts>")?;
    for (name, fact) in facts {
        writeln!(page, "<tr><td>{name}<td>{}", escape(&fact))?;
    }
    writeln!(page, "</table>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&#39;")
}
