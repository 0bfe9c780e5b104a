//! The documents are true: their tables of codes, metrics and rooms match the code, and everything that they name exists.
//!
//! - `docs/page.rs`: a page as text: its headings, tables and names
//! - `docs/codes.rs`: the tables of error codes, close codes and refused handshakes are the code's
//! - `docs/bounds.rs`: each bound names metrics and tests that exist
//! - `docs/lists.rs`: platforms, content types, metrics, kinds of records and promises are everywhere the same
//! - `docs/kept_runs.rs`: every measured number cites a kept run
//! - `docs/numbers.rs`: every other number is the code's; `docs/told.tsv` lists those without a name

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its sources has failed"
)]

#[path = "docs/bounds.rs"]
mod bounds;
#[path = "docs/codes.rs"]
mod codes;
#[path = "docs/kept_runs.rs"]
mod kept_runs;
#[path = "docs/lists.rs"]
mod lists;
#[path = "docs/numbers.rs"]
mod numbers;
#[path = "docs/page.rs"]
mod page;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use towncrier::config::{Config, EventKind};

use self::page::{
    anchor, files_below, metrics, names_with, pages, prose, quoted, read, root, rows, section,
};

/// The most lines of the README, because an overview is read at one go.
const README_LINES_MAX: usize = 150;
/// Words that begin a relative clause in place of a subject. A reader has to keep the clause in mind until the verb comes.
const OPENINGS: [&str; 6] = ["What", "Who", "How", "Whether", "Of", "Those"];

#[test]
fn the_table_of_metrics_has_every_metric() {
    let coded = metrics();
    let section = section("docs/operation.md", "## Metrics");
    assert_eq!(
        names_with(&section, "towncrier_"),
        names_with(&coded, "towncrier_")
    );
}

#[test]
fn the_table_of_admission_limits_has_every_reason_of_a_refusal() {
    let metrics = read("src/metrics/refusal_reason.rs");
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
            let Some(section) = defaults.get(section).filter(|section| section.is_table()) else {
                continue;
            };
            let is_file = ["rs", "toml", "md"].contains(&key) || key.contains(['/', ' ', '(']);
            // A section may have sections below it.
            let mut names = key.split('.');
            let is_key = names
                .try_fold(section, |section, name| section.get(name))
                .is_some();
            // Two kinds of events begin with the name of a section.
            let is_event = serde_json::from_value::<EventKind>(name.into()).is_ok();
            if !is_file && !is_key && !is_event {
                wrong.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_readme_names_the_version_of_rust_that_is_needed() {
    let manifest = read("Cargo.toml");
    let (_, version) = manifest.split_once("rust-version = \"").unwrap();
    let version = version.split('"').next().unwrap();
    let readme = read("README.md");
    assert!(readme.contains(&format!("Rust {version},")), "{version}");
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
        let count = format!("{} steps through these {} files", steps.len(), files.len());
        assert!(section.contains(&count), "{heading}: {count}: {files:?}");
    }
}

/// The text of a file of the repository or of `src/`, or of all files below a folder.
fn text_of(name: &str) -> String {
    let name = name.split('#').next().unwrap();
    let mut places = ["", "src"]
        .into_iter()
        .map(|folder| Path::new(folder).join(name));
    let place = places.find(|place| root().join(place).exists());
    let place = place.unwrap_or_else(|| panic!("{name} does not exist"));
    if root().join(&place).is_file() {
        return read(place);
    }
    let files = files_below(&place.to_string_lossy()).into_iter();
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    files.map(read).collect()
}

#[test]
fn the_identifiers_that_a_recipe_names_stand_in_the_file_beside_them() {
    let section = section("docs/architecture.md", "## How to add");
    // A sentence goes on over the end of its line.
    let text = section.split_whitespace().collect::<Vec<_>>().join(" ");
    let sentences = [". ", ": ", "; "]
        .into_iter()
        .fold(vec![&*text], |parts, mark| {
            parts
                .into_iter()
                .flat_map(|part| part.split(mark))
                .collect()
        });
    let (mut files, mut checked, mut wrong) = (Vec::new(), 0, Vec::new());
    for sentence in sentences {
        let is_file = |name: &&str| {
            let is_path = name.contains(['.', '/']) && !name.contains(' ');
            is_path && !name.starts_with('/')
        };
        let (named, others): (Vec<_>, Vec<_>) = quoted(sentence).into_iter().partition(is_file);
        // A sentence without a file goes on about the file of the one before.
        if !named.is_empty() {
            files = named;
        }
        let is_identifier = |name: &&str| {
            let mut chars = name.chars();
            chars.all(|c| c.is_alphanumeric() || "_:".contains(c))
        };
        for identifier in others.into_iter().filter(is_identifier) {
            let last = identifier.rsplit("::").next().unwrap();
            let is_there = files.iter().any(|file| {
                let text = text_of(file);
                let mut words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
                words.any(|word| word == last)
            });
            checked += 1;
            if !is_there {
                wrong.push(format!("{identifier}: not in {files:?}"));
            }
        }
    }
    assert!(checked > 20, "{checked}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
