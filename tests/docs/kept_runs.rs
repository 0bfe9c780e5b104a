//! Every measured number cites a kept run, and a kept run names no machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::page::{files_below, prose, read};

/// The most bytes of a kept run, because a repository holds them for ever. The rig has the same bound.
const KEPT_RUN_BYTES_MAX: usize = 128 << 10;

/// The runs that `loadtest/keep-all` keeps, by name, and their commands.
fn commands_to_keep() -> BTreeMap<String, String> {
    let script = read("loadtest/keep-all");
    let commands = script.lines().filter_map(|line| {
        let (kind, rest) = line.split_once(' ')?;
        let mut words = rest.splitn(3, ' ');
        let (name, _, words) = (words.next()?, words.next()?, words.next()?);
        let command = match kind {
            "rig" => format!("loadtest {words}"),
            "other" => words.to_owned(),
            _ => return None,
        };
        Some((name.to_owned(), command))
    });
    commands.collect()
}

/// The kept runs that a page cites: the label of each link, and its folder.
fn cited_runs(page: &str) -> BTreeMap<String, PathBuf> {
    let text = read(page);
    let definitions = text.lines().filter_map(|line| {
        let (label, target) = line.strip_prefix('[')?.split_once("]: ../loadtest/runs/")?;
        let folder = Path::new("loadtest/runs").join(target.strip_suffix("/summary.md")?);
        Some((label.to_owned(), folder))
    });
    definitions.collect()
}

#[test]
fn each_measured_number_cites_a_kept_run_or_says_that_there_is_none() {
    let page = "docs/measured.md";
    let runs = cited_runs(page);
    let text = prose(Path::new(page));
    // The options of the rig are no numbers.
    let text = text.split("## The load rig").next().unwrap();
    let (mut told, mut above, mut cited) = (0, String::new(), BTreeSet::new());
    let mut wrong = Vec::new();
    let lines: Vec<_> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if !line.starts_with('|') {
            // The paragraph directly above a table counts for each of its rows.
            let is_new = line.starts_with('#') || (line.is_empty() && !above.ends_with("\n\n"));
            match is_new && lines.get(at + 1).is_none_or(|next| !next.starts_with('|')) {
                true => above.clear(),
                false => above += line,
            }
            above.push('\n');
            continue;
        }
        let is_head = line.starts_with("|---") || lines[at + 1].starts_with("|---");
        if is_head {
            continue;
        }
        told += 1;
        let evidence = format!("{above}{line}").to_lowercase();
        let labels = runs
            .keys()
            .filter(|label| evidence.contains(&format!("[{label}]")));
        let labels: Vec<_> = labels.cloned().collect();
        if labels.is_empty() && !evidence.contains("not kept") {
            wrong.push(line.to_owned());
        }
        cited.extend(labels);
    }
    assert!(told > 30, "{told}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(cited, runs.into_keys().collect());
}

#[test]
fn a_kept_run_has_its_circumstances_and_names_no_machine() {
    let commands = commands_to_keep();
    assert!(commands.len() > 20, "{commands:#?}");
    let cited: BTreeSet<_> = cited_runs("docs/measured.md").into_values().collect();
    let files = files_below("loadtest/runs");
    let summaries = files.iter().filter(|path| path.ends_with("summary.md"));
    let kept: BTreeSet<_> = summaries
        .map(|path| path.parent().unwrap().to_path_buf())
        .collect();
    assert_eq!(kept, cited, "each kept run is cited");
    for run in kept {
        let raw = read(run.join("run.json"));
        let parsed: serde_json::Value = serde_json::from_str(&raw).unwrap();
        let machine = &parsed["machine"];
        let name = run.file_name().unwrap().to_str().unwrap();
        assert_eq!(machine["command"], commands[name], "{name}");
        for fact in ["commit", "processor", "kernel"] {
            assert!(machine[fact].as_str().is_some_and(|fact| fact != "unknown"));
        }
        assert!(machine["cores"].is_u64() && machine["memory_bytes"].is_u64());
        assert!(parsed["rounds"].as_array().is_some_and(|rounds| {
            let sync = |round: &serde_json::Value| round["report"]["machine"]["sync"].is_object();
            // A comparison has one look at the machine for many runs.
            !rounds.is_empty() && rounds.iter().all(sync)
        }));
        let all = raw + &read(run.join("summary.md"));
        assert!(all.len() <= KEPT_RUN_BYTES_MAX, "{name}: {}", all.len());
        for path in ["/home/", "/root/", "/tmp/", "/work/", "/var/", "/Users/"] {
            assert!(!all.contains(path), "{name} names {path}");
        }
    }
}
