//! The house holds: rooms import only what the map in this file allows, no file grows out of hand, no default stands twice.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its sources has failed"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Which rooms a room may use. Rooms not named as keys may use everything; `OPEN` is open to all but the pure rooms.
const MAP: [(&str, &[&str]); 20] = [
    (
        "admin",
        &["delivery", "registry", "token", "message", "ids"],
    ),
    // Beside connections and who holds which place, a reactor names what it hands to its connections.
    (
        "reactor",
        &[
            "admission",
            "connection",
            "registry",
            "delivery",
            "protocol",
            "session",
            "ids",
        ],
    ),
    (
        "connection",
        &[
            "admission",
            "protocol",
            "session",
            "delivery",
            "registry",
            "message",
            "ids",
        ],
    ),
    ("admission", &[]),
    ("delivery", &["log", "registry", "message", "ids"]),
    ("registry", &["message", "ids"]),
    ("protocol", &["session", "message", "ids"]),
    ("session", &["message", "ids"]),
    ("log", &["ids"]),
    ("message", &["ids"]),
    ("config", &["ids", "message"]),
    ("metrics", &["ids"]),
    ("clock", &[]),
    ("tls", &[]),
    ("pages", &[]),
    ("process", &[]),
    ("sabotage", &[]),
    ("token", &["ids"]),
    ("lines", &[]),
    ("watch", &[]),
];
const OPEN: [&str; 8] = [
    "config", "metrics", "clock", "tls", "token", "pages", "process", "watch",
];
const PURE: [&str; 3] = ["protocol", "session", "message"];
/// Above this a file is two nouns.
const LINES_MAX: usize = 500;

/// Each Rust file of the gateway, with its room, and of the crate below it.
fn sources() -> Vec<(String, PathBuf, String)> {
    [sources_in("src"), sources_in("websocket/src")].concat()
}

fn sources_in(folder: &str) -> Vec<(String, PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found)
            } else {
                found.push(path)
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    walk(&src, &mut found);
    let rust = found
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    let read = rust.map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let inside = path.strip_prefix(&src).unwrap().to_path_buf();
        let first = inside.iter().next().unwrap().to_string_lossy();
        (first.trim_end_matches(".rs").to_owned(), inside, text)
    });
    read.collect()
}

/// A file without its comments and without each item that only tests have.
fn program(text: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        if !["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"].contains(&code) {
            kept.push(line);
            continue;
        }
        // rustfmt ends an item at the depth at which the item begins.
        let indent = &line[..line.len() - code.len()];
        let is_last = |line: &str| {
            line.strip_prefix(indent)
                .is_some_and(|code| !code.starts_with([' ', '#', '/']))
                && line.ends_with([';', '}', ','])
        };
        lines.by_ref().find(|line| is_last(line));
    }
    kept.join("\n")
}

/// The first names behind every `crate::` of a file, outside its tests.
fn imports(text: &str) -> BTreeSet<String> {
    let code = program(text);
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let mut found = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        match part.strip_prefix('{') {
            None => {
                found.insert(word(part));
            }
            Some(list) => {
                let (mut depth, mut item) = (0, String::new());
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            found.insert(word(std::mem::take(&mut item).trim()));
                        }
                        _ => {}
                    }
                    if c != ',' || depth > 0 {
                        item.push(c);
                    }
                }
                found.insert(word(item.trim()));
            }
        }
    }
    found.remove("");
    found
}

fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        [
            "tests.rs",
            "schedule.rs",
            "interleavings.rs",
            "fixture.rs",
            "fuzzing.rs",
        ]
        .contains(&&*name.to_string_lossy())
    }) || path.iter().any(|part| part == "tests")
}

#[test]
fn rooms_import_only_what_the_map_allows() {
    let map: BTreeMap<_, _> = MAP.into_iter().collect();
    let mut violations = Vec::new();
    for (room, path, text) in sources().iter().filter(|(_, path, _)| !is_test(path)) {
        let Some(allowed) = map.get(&**room) else {
            continue;
        };
        for import in imports(text) {
            // Bugs are planted in every room; in the program the question for them is a constant.
            let is_open = OPEN.contains(&&*import) && !PURE.contains(&&**room);
            let is_open = is_open || import == "sabotage";
            if import != *room && !is_open && !allowed.contains(&&*import) {
                violations.push(format!("{} uses {import}", path.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn the_import_test_reads_nested_lists() {
    let text = "use crate::{\n    ids::{Seq, UserId},\n    log::Log,\n};\nfn f() { crate::tls::accept(); }";
    let expected: BTreeSet<_> = ["ids", "log", "tls"].map(str::to_owned).into();
    assert_eq!(imports(text), expected);
}

#[test]
fn the_import_test_reads_on_behind_an_item_of_the_tests() {
    let text = "\
#[cfg(test)]
mod fixture;
#[cfg(test)]
pub(crate) use crate::{
    admin::fixture,
    cli::{scratch, send},
};
use crate::ids::Seq;
impl Gateway {
    #[cfg(test)]
    fn with(
        self,
    ) -> Self {
        crate::gateway::with(self)
    }

    fn log(&self) -> crate::log::Log {}
}
#[cfg(test)]
#[expect(clippy::unwrap_used)]
mod tests {
    use crate::simulation::World;
}
fn last() -> crate::registry::Registry {}";
    let expected: BTreeSet<_> = ["ids", "log", "registry"].map(str::to_owned).into();
    assert_eq!(imports(text), expected);
}

#[test]
fn server_and_clients_give_silence_the_same_time() {
    for (path, text) in [
        (
            "src/session/mod.rs",
            "const SILENCE_HEARTBEATS_MAX: f64 = 2.5;",
        ),
        (
            "client/src/client.rs",
            "const SILENCE_HEARTBEATS_MAX: f64 = 2.5;",
        ),
        ("web/client/src/session.ts", "> interval * 2.5)"),
        (
            "proto/towncrier/v1/gateway.proto",
            "silence of 2.5 heartbeats",
        ),
        ("config/towncrier.toml", "silence of 2.5 of these"),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let read = fs::read_to_string(&path).unwrap();
        assert!(read.contains(text), "{}: {text}", path.display());
    }
}

#[test]
fn every_file_opens_with_what_it_holds_and_stays_one_noun() {
    for (_, path, text) in sources() {
        assert!(
            text.starts_with("//! "),
            "{} opens without a module doc",
            path.display()
        );
        let code = text
            .split("#[cfg(test)]\nmod ")
            .next()
            .unwrap_or_default()
            .lines()
            .count();
        assert!(
            is_test(&path) || code <= LINES_MAX,
            "{} has {code} lines",
            path.display()
        );
    }
}
