//! One HTML file that needs nothing else: numbers, plots, and under what circumstances.

use std::fmt::Write as _;

use super::{Report, Row, table::number};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 220.0;
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.15em 1.2em .15em 0;text-align:right}\
td:first-child,th:first-child{text-align:left}code{background:#f3f3f3;padding:.1em .3em}svg{width:100%;height:auto}\
text{font:11px system-ui,sans-serif;fill:#555}.fault{color:#b00020}";

/// One line of a plot: its name, its colour, a value a second.
struct Line<'a> {
    name: &'a str,
    colour: &'a str,
    values: Vec<f64>,
}

pub(super) fn html(report: &Report) -> String {
    let mut page = String::new();
    write(report, &mut page).expect("a String takes all");
    page
}

fn write(report: &Report, page: &mut String) -> std::fmt::Result {
    let machine = &report.machine;
    writeln!(
        page,
        "<!doctype html><meta charset=utf-8><title>{0}</title><style>{STYLE}</style>",
        escape(&machine.command)
    )?;
    writeln!(page, "<h1><code>{}</code></h1>", escape(&machine.command))?;
    writeln!(
        page,
        "<p>Commit {}. {}, {} cores, {:.1} GiB, Linux {}.</p>",
        escape(&machine.commit),
        escape(&machine.processor),
        machine.cores,
        machine.memory_bytes as f64 / f64::from(1 << 30),
        escape(&machine.kernel)
    )?;
    let (class, verdict) = match report.tally.is_exactly_once() {
        true => ("", "Exactly once"),
        false => ("fault", "Not exactly once"),
    };
    writeln!(
        page,
        "<p class='{class}'><b>{verdict}</b>: {}.</p><table>",
        report.tally
    )?;
    for Row { name, value, unit } in &report.rows {
        writeln!(
            page,
            "<tr><td>{}<td>{}<td>{unit}",
            escape(name),
            number(*value)
        )?;
    }
    writeln!(
        page,
        "</table><table><tr><th>ms<th>p50<th>p99<th>p99.9<th>max"
    )?;
    let sync = machine
        .sync
        .map(|sync| ("the disk's sync of 4 KiB".to_owned(), sync));
    for (name, q) in report.latencies.iter().cloned().chain(sync) {
        write!(page, "<tr><td>{}", escape(&name))?;
        for us in [q.p50_us, q.p99_us, q.p999_us, q.max_us] {
            write!(page, "<td>{:.2}", us as f64 / 1000.0)?;
        }
    }
    writeln!(page, "</table>")?;
    let values = |of: &dyn Fn(&crate::meter::Second) -> u64| {
        report
            .course
            .iter()
            .map(|second| of(second) as f64)
            .collect()
    };
    let throughput = [
        Line {
            name: "landed",
            colour: "#1b6ca8",
            values: values(&|second| second.landed),
        },
        Line {
            name: "accepted",
            colour: "#d9822b",
            values: values(&|second| second.accepted),
        },
    ];
    let milliseconds = |of: &dyn Fn(&crate::meter::Second) -> u64| {
        report
            .course
            .iter()
            .map(|second| of(second) as f64 / 1000.0)
            .collect()
    };
    let latency = [
        Line {
            name: "p99",
            colour: "#b00020",
            values: milliseconds(&|second| second.landed_p99_us),
        },
        Line {
            name: "p50",
            colour: "#1b6ca8",
            values: milliseconds(&|second| second.landed_p50_us),
        },
    ];
    if report.course.len() > 1 {
        plot(page, "Messages a second", &throughput)?;
        plot(page, "Send to landed, ms", &latency)?;
    }
    if !report.incidents.is_empty() {
        writeln!(page, "<h2>Incidents</h2><ul>")?;
        for (what, times) in &report.incidents {
            writeln!(page, "<li>{times} × {}", escape(what))?;
        }
        writeln!(page, "</ul>")?;
    }
    Ok(())
}

fn plot(page: &mut String, title: &str, lines: &[Line<'_>]) -> std::fmt::Result {
    let highest = lines
        .iter()
        .flat_map(|line| &line.values)
        .fold(1.0, |a: f64, b| a.max(*b));
    let seconds = lines[0].values.len();
    writeln!(
        page,
        "<h2>{title}</h2><svg viewBox='0 0 {} {}'>",
        WIDTH + 70.0,
        HEIGHT + 40.0
    )?;
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let y = 10.0 + HEIGHT * (1.0 - share);
        writeln!(
            page,
            "<path d='M60 {y:.0}h{WIDTH}' stroke='#ddd'/><text x='55' y='{:.0}' text-anchor='end'>{}</text>",
            y + 4.0,
            number(highest * share)
        )?;
    }
    writeln!(
        page,
        "<text x='60' y='{0}'>0 s</text><text x='{1}' y='{0}' text-anchor='end'>{seconds} s</text>",
        HEIGHT + 28.0,
        60.0 + WIDTH
    )?;
    for (
        at,
        Line {
            name,
            colour,
            values,
        },
    ) in lines.iter().enumerate()
    {
        write!(
            page,
            "<polyline fill='none' stroke='{colour}' stroke-width='1.5' points='"
        )?;
        for (second, value) in values.iter().enumerate() {
            let x = 60.0 + WIDTH * second as f64 / (seconds - 1) as f64;
            write!(
                page,
                "{x:.1},{:.1} ",
                10.0 + HEIGHT * (1.0 - value / highest)
            )?;
        }
        writeln!(
            page,
            "'/><text x='{}' y='{}' style='fill:{colour}'>{name}</text>",
            120 + at * 80,
            HEIGHT + 28.0
        )?;
    }
    writeln!(page, "</svg>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&#39;")
}
