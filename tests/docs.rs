//! The documents are true: their tables of codes, metrics and rooms match the code, and everything that they name exists.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its sources has failed"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use towncrier::config::Config;

/// The most lines of the README, because an overview is read at one go.
const README_LINES_MAX: usize = 150;
/// The most bytes of a kept run, because a repository holds them for ever. The rig has the same bound.
const KEPT_RUN_BYTES_MAX: usize = 128 << 10;
/// Words that begin a relative clause in place of a subject. A reader has to keep the clause in mind until the verb comes.
const OPENINGS: [&str; 6] = ["What", "Who", "How", "Whether", "Of", "Those"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder of the repository, as paths within the repository, and their folders.
fn files_below(folder: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let is_built = ["target", "node_modules", ".git"].contains(&&*name.to_string_lossy());
            if is_built {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            found.insert(entry.path().strip_prefix(root()).unwrap().to_path_buf());
        }
    }
    found
}

/// The README and the pages of `docs/`.
fn pages() -> Vec<PathBuf> {
    let docs = files_below("docs");
    let docs = docs
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    std::iter::once("README.md".into()).chain(docs).collect()
}

/// A page without its blocks of code.
fn prose(page: &Path) -> String {
    let text = read(page);
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The part of a page below a heading, up to the next heading of its level or above.
fn section(page: &str, heading: &str) -> String {
    let text = prose(Path::new(page));
    let level = heading.split(' ').next().unwrap().len();
    let mut lines = text.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "{page} has no heading {heading:?}");
    let is_next = |line: &&str| {
        let hashes = line.chars().take_while(|c| *c == '#').count();
        (1..=level).contains(&hashes)
    };
    let lines = lines.take_while(|line| !is_next(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// The cells of each row of the tables in a section.
fn rows(section: &str) -> Vec<Vec<&str>> {
    let rows = section.lines().filter_map(|line| {
        let row = line.strip_prefix('|')?.strip_suffix('|')?;
        Some(row.split('|').map(str::trim).collect())
    });
    rows.collect()
}

/// The numbers in the first cells of a section's tables.
fn codes(page: &str, heading: &str) -> BTreeSet<u16> {
    let section = section(page, heading);
    let codes = rows(&section)
        .into_iter()
        .filter_map(|row| row[0].parse().ok());
    let codes: Vec<u16> = codes.collect();
    let distinct: BTreeSet<_> = codes.iter().copied().collect();
    assert_eq!(codes.len(), distinct.len(), "{page} has a code twice");
    distinct
}

/// The numbers that stand directly after each `mark` in a source.
fn numbers_behind(source: &str, mark: &str) -> BTreeSet<u16> {
    let numbers = source.split(mark).skip(1).filter_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    numbers.collect()
}

/// The parts of a page between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The names that begin with `prefix` and hold lower-case letters and underscores, wherever they stand in a text.
fn names_with<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let names = text.match_indices(prefix).map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    });
    names.collect()
}

/// The name by which a link reaches a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn the_table_of_error_codes_has_every_code_of_the_admin_api() {
    let source = read("src/admin/error.rs");
    let coded = numbers_behind(&source, ": u16 = ");
    assert!(coded.len() > 20, "{coded:?}");
    assert_eq!(codes("docs/operation.md", "## Error codes"), coded);
}

/// The names of the HTTP statuses that the admin API answers with.
const STATUSES: [(&str, u16); 10] = [
    ("OK", 200),
    ("BAD_REQUEST", 400),
    ("NOT_FOUND", 404),
    ("METHOD_NOT_ALLOWED", 405),
    ("REQUEST_TIMEOUT", 408),
    ("CONFLICT", 409),
    ("PAYLOAD_TOO_LARGE", 413),
    ("TOO_MANY_REQUESTS", 429),
    ("INTERNAL_SERVER_ERROR", 500),
    ("SERVICE_UNAVAILABLE", 503),
];

/// Each refusal of the admin API in its source: errCode, HTTP status, and the seconds in `Retry-After`.
fn verdicts(source: &str) -> BTreeSet<(u16, u16, Option<u16>)> {
    let (codes, rest) = source.split_once("\n}\n").unwrap();
    let number_of = |name: &str| -> u16 {
        let (_, value) = codes.split_once(&format!("const {name}: u16 = ")).unwrap();
        value.split(';').next().unwrap().parse().unwrap()
    };
    let program = rest.split("#[cfg(test)]").next().unwrap();
    let word = |text: &str| -> String {
        let is_word = |c: &char| c.is_ascii_uppercase() || *c == '_';
        text.chars().take_while(is_word).collect()
    };
    let mut found = BTreeSet::new();
    for (at, _) in program.match_indices("code::") {
        let (before, name) = (
            program[..at].trim_end(),
            word(&program[at + "code::".len()..]),
        );
        // A refusal ends where the next one names its code.
        let rest = &program[at..];
        let next = rest[1..].find("code::").map_or(rest.len(), |next| next + 1);
        let call = &rest[..next];
        let (status, retry_after) = if before.ends_with("unavailable(") {
            let arguments = call.split_once('"').unwrap().1.split_once("\",").unwrap().1;
            let digits = arguments.trim_start();
            let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
            (503, digits.parse().ok())
        } else if before.ends_with("bad(") {
            (400, None)
        } else {
            let status = word(before.rsplit_once("::").unwrap().1);
            let status = STATUSES.iter().find(|(name, _)| *name == status);
            let arm = call.split("=>").next().unwrap();
            let retry = numbers_behind(arm, ".retry_after(").pop_first();
            (status.unwrap_or_else(|| panic!("{before}")).1, retry)
        };
        found.insert((number_of(&name), status, retry_after));
    }
    found
}

#[test]
fn the_table_of_error_codes_has_status_and_retry_after_of_each_refusal() {
    let coded = verdicts(&read("src/admin/error.rs"));
    assert!(coded.len() > 20, "{coded:?}");
    let section = section("docs/operation.md", "## Error codes");
    let mut told = BTreeSet::new();
    for row in rows(&section) {
        let Ok(code) = row[0].parse() else { continue };
        for status in row[1].split(", ") {
            told.insert((code, status.parse().unwrap(), row[2].parse().ok()));
        }
    }
    assert_eq!(told, coded);
    for (code, status, retry_after) in coded {
        let may_wait = [429, 503].contains(&status);
        assert_eq!(retry_after.is_some(), may_wait, "{code}");
    }
}

#[test]
fn the_tables_of_close_codes_have_every_code_that_is_sent() {
    let folders = ["src/protocol/towncrier_v1", "websocket/src"];
    let files = folders.into_iter().flat_map(files_below);
    let closes = files.filter(|path| path.ends_with("close.rs"));
    let mut coded = BTreeSet::new();
    for path in closes {
        let text = read(path);
        // Each arm of a match names a variant and ends in its code.
        for line in text.lines().map(str::trim) {
            let arm = ["Reason::", "Self::"]
                .iter()
                .any(|start| line.starts_with(start));
            if arm {
                coded.extend(numbers_behind(line, "=> "));
            }
        }
    }
    assert!(coded.len() > 10, "{coded:?}");
    assert_eq!(codes("docs/operation.md", "## Close codes"), coded);
    assert_eq!(codes("docs/protocol.md", "## Close codes"), coded);
}

#[test]
fn the_table_of_metrics_has_every_metric() {
    let coded = read("src/metrics.rs");
    let coded = coded.split("#[cfg(test)]").next().unwrap();
    let section = section("docs/operation.md", "## Metrics");
    assert_eq!(
        names_with(&section, "towncrier_"),
        names_with(coded, "towncrier_")
    );
}

#[test]
fn the_table_of_admission_limits_has_every_reason_of_a_refusal() {
    let metrics = read("src/metrics.rs");
    let labels = metrics.split_once("fn label(self)").unwrap().1;
    let labels = labels.split_once("\n    }\n").unwrap().0;
    let coded: BTreeSet<_> = labels.split('"').skip(1).step_by(2).collect();
    assert!(coded.len() > 5, "{coded:?}");
    let section = section("docs/operation.md", "## Admission limits");
    let rows = rows(&section);
    let reasons = rows.iter().filter_map(|row| row.get(2));
    let reasons: BTreeSet<_> = reasons.flat_map(|cell| quoted(cell)).collect();
    // The head of the column names the label.
    assert_eq!(reasons, &coded | &BTreeSet::from(["reason"]));
}

#[test]
fn the_settings_that_the_pages_name_exist() {
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    let mut wrong = Vec::new();
    for page in pages() {
        let text = prose(&page);
        for name in quoted(&text) {
            let name = name.split(" = ").next().unwrap();
            let Some((section, key)) = name.split_once('.') else {
                continue;
            };
            let Some(section) = defaults.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            let is_file = ["rs", "toml", "md"].contains(&key) || key.contains(['/', ' ', '(']);
            if !is_file && !section.contains_key(key) {
                wrong.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The number at the begin of a text, in seconds or bytes if it has such a unit: `30 s`, `30d`, `64 KiB`, `1,024`.
fn quantity(text: &str) -> Option<f64> {
    let is_digit = |c: char| c.is_ascii_digit() || ".,".contains(c);
    let end = text.find(|c| !is_digit(c)).unwrap_or(text.len());
    let number: f64 = text[..end].replace(',', "").parse().ok()?;
    let is_letter = |c: char| c.is_ascii_alphabetic();
    let unit = text[end..].trim_start();
    let unit = &unit[..unit.find(|c| !is_letter(c)).unwrap_or(unit.len())];
    let factor = match unit {
        "m" => 60.0,
        "h" => 3600.0,
        "d" | "days" => 86_400.0,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        _ => 1.0,
    };
    Some(number * factor)
}

#[test]
fn the_defaults_in_brackets_behind_settings_are_the_defaults() {
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    let mut told = 0;
    let mut wrong = Vec::new();
    for page in pages().into_iter().chain(["SECURITY.md".into()]) {
        let text = prose(&page);
        let parts: Vec<_> = text.split('`').collect();
        for (at, name) in parts.iter().enumerate().skip(1).step_by(2) {
            let Some((section, key)) = name.split_once('.') else {
                continue;
            };
            let section = defaults.get(section).and_then(toml::Value::as_table);
            let Some(default) = section.and_then(|section| section.get(key)) else {
                continue;
            };
            let Some(behind) = parts.get(at + 1).and_then(|text| text.strip_prefix(" (")) else {
                continue;
            };
            let factor = parts[at - 1].strip_suffix(" × ").map_or(1.0, |before| {
                before.rsplit(' ').next().unwrap().parse().unwrap()
            });
            let default = match default {
                toml::Value::Integer(number) => Some(*number as f64),
                toml::Value::String(text) => quantity(text),
                _ => None,
            };
            let (Some(value), Some(default)) = (quantity(behind), default) else {
                continue;
            };
            told += 1;
            if value != factor * default {
                wrong.push(format!("{}: {name} ({behind}", page.display()));
            }
        }
    }
    assert!(told > 12, "{told}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// True if a page has a heading with this anchor. Every page has the empty anchor.
fn has_heading(page: &Path, heading: &str) -> bool {
    root().join(page).exists()
        && (heading.is_empty()
            || prose(page)
                .lines()
                .any(|line| line.starts_with('#') && anchor(line) == heading))
}

#[test]
fn the_sources_cite_headings_that_exist() {
    let folders = [
        "benches",
        "client",
        "config",
        "fuzz",
        "loadtest",
        "proto",
        "simulation",
        "src",
        "tests",
        "web",
        "websocket",
    ];
    let files = folders.into_iter().flat_map(files_below);
    let sources = files.filter(|path| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let is_source = ["rs", "ts", "tsx", "proto", "toml"].contains(&ending.unwrap_or_default());
        is_source && !path.starts_with("web/dist") && !path.ends_with("tests/docs.rs")
    });
    let mut wrong = Vec::new();
    for source in sources {
        let text = read(&source).to_lowercase();
        // This page is not in the repository.
        if text.contains("design section") {
            wrong.push(format!("{}: design section", source.display()));
        }
        for citation in text.split("docs/").skip(1) {
            let end = citation.find(|c: char| !(c.is_alphanumeric() || ".#-_".contains(c)));
            let citation = citation[..end.unwrap_or(citation.len())].trim_end_matches('.');
            let (page, heading) = citation.split_once('#').unwrap_or((citation, ""));
            let is_page = page.ends_with(".md");
            if is_page && !has_heading(&Path::new("docs").join(page), heading) {
                wrong.push(format!("{}: docs/{citation}", source.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_links_of_the_pages_lead_somewhere() {
    let mut wrong = Vec::new();
    let others = ["SECURITY.md", "web/README.md", "benches/README.md"].map(PathBuf::from);
    for page in pages().into_iter().chain(others) {
        let text = prose(&page);
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            if !has_heading(&target, heading) {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_files_that_the_pages_name_exist() {
    let all = files_below("");
    // The files of a room are named from `src/` on, or from the room on.
    let exists = |name: &str| all.iter().any(|path| path.ends_with(name));
    let mut wrong = Vec::new();
    for page in pages() {
        let text = prose(&page);
        for name in quoted(&text) {
            let is_path = name
                .chars()
                .all(|c| c.is_alphanumeric() || "/._-".contains(c));
            let is_source = [".rs", ".proto"].iter().any(|end| name.ends_with(end));
            let first = name.split('/').next().unwrap();
            let is_ours = name.contains('/')
                && ["", "src"]
                    .iter()
                    .any(|folder| root().join(folder).join(first).exists());
            // The repository does not hold a folder that the gateway or a build makes.
            let is_made = ["data", "target", "."].contains(&first);
            if is_path && !name.starts_with('/') && !is_made && (is_source || is_ours) {
                let name = name.trim_end_matches('/');
                if !exists(name) {
                    wrong.push(format!("{}: {name}", page.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The files of a path's table, each with the functions behind it.
fn steps(path: &str) -> Vec<(&str, Vec<&str>)> {
    let cells = rows(path).into_iter().filter_map(|row| {
        let number = row[0].parse::<usize>();
        number.is_ok().then(|| quoted(row[1]))
    });
    let steps = cells.map(|names| {
        let (file, functions) = names.split_first().expect("a step names its file");
        (*file, functions.to_vec())
    });
    steps.collect()
}

#[test]
fn the_steps_of_the_paths_are_functions_of_the_files_that_they_name() {
    for (heading, least) in [
        ("## The path of a message", 10),
        ("## The path of an ack", 8),
    ] {
        let section = section("docs/architecture.md", heading);
        let steps = steps(&section);
        assert!(steps.len() >= least, "{heading}: {steps:?}");
        for (file, functions) in &steps {
            let source = read(Path::new("src").join(file));
            assert!(!functions.is_empty(), "{file}: no function");
            for function in functions {
                let name = function.rsplit("::").next().unwrap();
                let is_there = [format!("fn {name}("), format!("fn {name}<")]
                    .iter()
                    .any(|definition| source.contains(definition));
                assert!(is_there, "{file} has no function {function}");
            }
        }
        let files: BTreeSet<_> = steps.iter().map(|(file, _)| file).collect();
        let count = format!("passes these {} files", files.len());
        assert!(section.contains(&count), "{heading}: {count}: {files:?}");
    }
}

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

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "{lines} lines");
}

#[test]
fn no_sentence_of_the_pages_opens_with_a_relative_clause() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = prose(&page);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            // Marks that may stand before the first word of a sentence.
            let line = line.replace("**", "");
            let parts = line.split(['.', '!', '?', ':', '|', '—', '–']);
            let openings = parts.map(|part| part.trim_start_matches([' ', '-', '*', '(', '"']));
            for opening in openings {
                let word = opening.split([' ', ',']).next().unwrap();
                if OPENINGS.contains(&word) {
                    wrong.push(format!("{}: {opening}", page.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_of_rooms_is_the_map_that_imports_are_held_to() {
    let house = read("tests/house.rs");
    let map = house.split_once("const MAP").unwrap().1;
    let map = map.split_once("];\n").unwrap().0;
    let map = map.split_once('=').unwrap().1;
    let names = |text: &str| -> BTreeSet<String> {
        let quoted = text.split('"').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    };
    let coded: BTreeMap<String, BTreeSet<String>> = map
        .split(']')
        .filter_map(|entry| {
            let (room, may_use) = entry.split_once('[')?;
            // The first entry follows the bracket of the whole list.
            let (room, may_use) = may_use
                .split_once("&[")
                .map_or((room, may_use), |(room, may_use)| (room, may_use));
            Some((names(room).into_iter().next()?, names(may_use)))
        })
        .collect();
    assert!(coded.len() > 15, "{coded:?}");
    let section = section("docs/architecture.md", "## Rooms");
    let rooms = rows(&section).into_iter().filter_map(|row| {
        let [room, _, may_use] = row[..] else {
            return None;
        };
        let may_use = may_use
            .split(", ")
            .filter(|name| *name != "—")
            .map(str::to_owned);
        let room = room.strip_prefix('`')?.strip_suffix('`')?;
        Some((room.to_owned(), may_use.collect::<BTreeSet<_>>()))
    });
    assert_eq!(rooms.collect::<BTreeMap<_, _>>(), coded);
}
