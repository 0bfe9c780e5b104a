//! The house holds: rooms import only what the map in this file allows, no file grows out of hand, no type name stands twice.
//!
//! - `house/source.rs`: the Rust files as text: their items and imports
//! - `house/circle.rs`: which file imports from which
//! - `house/front_page.rs`: which files the front page of their folder names

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its sources has failed"
)]

#[path = "house/circle.rs"]
mod circle;
#[path = "house/front_page.rs"]
mod front_page;
#[path = "house/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};

use self::{
    circle::{circles, imports_by_file},
    front_page::missing_on_front_pages,
    source::{
        imports, is_test, paths_from, program, sources, sources_in, test_only, types_of,
        without_cancel_safety,
    },
};

/// Which rooms a room may use. Rooms not named as keys may use everything; `OPEN` is open to all but the pure rooms.
const MAP: [(&str, &[&str]); 29] = [
    (
        "admin",
        &[
            "door", "erase", "push", "webhooks", "delivery", "registry", "codes", "token",
            "message", "ids",
        ],
    ),
    ("erase", &["push", "webhooks", "delivery", "log", "ids"]),
    (
        "push",
        &[
            "outbound", "webhooks", "log", "delivery", "registry", "message", "ids",
        ],
    ),
    // Below the rooms that send, and beside delivery: it follows the log, and asks before a send.
    (
        "webhooks",
        &["outbound", "registry", "log", "message", "ids"],
    ),
    (
        "openim",
        &[
            "door", "delivery", "protocol", "codes", "token", "message", "ids",
        ],
    ),
    ("devices", &["door", "delivery", "token", "message", "ids"]),
    ("fleet", &["log", "registry", "message", "ids"]),
    ("mesh", &["fleet", "message", "ids"]),
    (
        "hints",
        &["mesh", "fleet", "log", "registry", "message", "ids"],
    ),
    // Beside connections and who holds which place, a reactor names what it hands to its connections.
    (
        "reactor",
        &[
            "door",
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
            "door", "protocol", "session", "delivery", "registry", "message", "ids",
        ],
    ),
    ("door", &["protocol"]),
    ("delivery", &["fleet", "log", "registry", "message", "ids"]),
    ("registry", &["message", "ids"]),
    ("protocol", &["session", "codes", "message", "ids"]),
    ("session", &["message", "ids"]),
    ("log", &["message", "ids"]),
    ("message", &["ids"]),
    ("outbound", &[]),
    ("jwks", &["outbound"]),
    ("config", &["ids", "message", "outbound"]),
    ("metrics", &["ids"]),
    ("clock", &[]),
    ("pages", &[]),
    ("process", &[]),
    ("codes", &["token"]),
    ("token", &["ids"]),
    ("lines", &[]),
    ("threads", &[]),
];
const OPEN: [&str; 7] = [
    "config", "metrics", "clock", "token", "pages", "process", "threads",
];
const PURE: [&str; 3] = ["protocol", "session", "message"];
/// The pure rooms use none of these: runtime, stderr log, randomness, clocks, files, sockets. They get time and random numbers as
/// parameters.
const IMPURE: [&str; 8] = [
    "tokio",
    "tracing",
    "fastrand",
    "Instant",
    "SystemTime",
    "std::fs",
    "std::io",
    "std::net",
];
/// The names that more than one type may have, each with the reason.
const SHARED_NAMES: [(&str, &str); 5] = [
    ("Error", "the one error of its room"),
    ("Visitor", "serde's word for the half of a `Deserialize`"),
    ("Delivery", "its section of config.rs has the room's name"),
    ("Log", "its section of config.rs has the room's name"),
    ("Push", "its section of config.rs has the room's name"),
];
/// Every folder with Rust files in the repository.
const FOLDERS: [&str; 11] = [
    "src",
    "websocket/src",
    "client/src",
    "loadtest/src",
    "loadtest/tests",
    "simulation/src",
    "simulation/tests",
    "tests",
    "benches",
    "fuzz/targets",
    "proto",
];
/// A longer file holds two nouns, and a longer file of tests two promises. The unit tests at the foot of a file do not count.
const LINES_MAX: usize = 500;

/// The file of each type in the program's files of the whole workspace, by the type's name.
fn types() -> BTreeMap<String, Vec<String>> {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for folder in ["src", "websocket/src", "client/src", "loadtest/src"] {
        for (_, path, text) in sources_in(folder) {
            if is_test(&path) {
                continue;
            }
            for name in types_of(&text) {
                let path = format!("{folder}/{}", path.display());
                files.entry(name).or_default().push(path);
            }
        }
    }
    files
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
            let is_open = OPEN.contains(&&*import) && !PURE.contains(&&**room);
            if import != *room && !is_open && !allowed.contains(&&*import) {
                violations.push(format!("{} uses {import}", path.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

/// The impure things that a file names, outside its tests.
fn impurities(text: &str) -> Vec<&'static str> {
    let code = program(text);
    let named = IMPURE.into_iter().filter(|name| {
        // A list of imports names the parts apart.
        let (first, last) = name.split_once("::").unwrap_or(("", name));
        code.contains(name)
            || first == "std"
                && paths_from(&code, "std::")
                    .iter()
                    .any(|path| path[1] == last)
    });
    named.collect()
}

#[test]
fn the_pure_rooms_own_no_runtime_clock_chance_or_socket() {
    for (room, path, text) in sources() {
        if PURE.contains(&&*room) && !is_test(&path) {
            let found = impurities(&text);
            assert!(found.is_empty(), "{}: {found:?}", path.display());
        }
    }
}

#[test]
fn an_impure_line_is_found_in_a_list_of_imports_and_not_in_tests() {
    let text = "\
use std::{\n    io,\n    time::{Duration, Instant},\n};
// tokio
fn delay() -> f64 { fastrand::f64() }
#[cfg(test)]
mod tests {
    use tracing::warn;
}";
    assert_eq!(impurities(text), ["fastrand", "Instant", "std::io"]);
}

#[test]
fn a_program_has_no_lines_for_tests_outside_its_unit_tests() {
    for (_, path, text) in sources().iter().filter(|(_, path, _)| !is_test(path)) {
        let wrong = test_only(text);
        assert!(wrong.is_empty(), "{}: {wrong:#?}", path.display());
    }
}

#[test]
fn a_line_for_tests_is_found_wherever_it_stands() {
    let text = "\
#[cfg(test)]
mod fixture;
#[cfg(test)]
#[expect(dead_code)]
pub(crate) mod tests;
const ROWS: usize = if cfg!(test) { 1 } else { 1024 };
impl Log {
    #[cfg(any(test, fuzzing))]
    fn rows(&self) {}
}
#[cfg(test)]
mod tests {}";
    let expected = [
        "#[cfg(test)]",
        "const ROWS: usize = if cfg!(test) { 1 } else { 1024 };",
        "#[cfg(any(test, fuzzing))]",
    ];
    assert_eq!(test_only(text), expected);
}

#[test]
fn each_public_async_function_says_if_it_is_cancel_safe() {
    let mut wrong = Vec::new();
    for folder in ["src", "client/src"] {
        for (_, path, text) in sources_in(folder) {
            if !is_test(&path) {
                let found = without_cancel_safety(&text);
                wrong.extend(
                    found
                        .iter()
                        .map(|line| format!("{}: {line}", path.display())),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_function_without_a_word_on_cancel_safety_is_found() {
    let text = "\
/// Waits. Cancel safe.
#[must_use]
pub async fn waits() {}

/// Cancel safe, as all here.
struct Between;

/// Sends.
    pub async fn sends() {}
async fn private() {}";
    assert_eq!(without_cancel_safety(text), ["pub async fn sends() {}"]);
}

#[test]
fn a_type_name_names_one_type() {
    let types = types();
    let shared: BTreeMap<_, _> = types.iter().filter(|(_, files)| files.len() > 1).collect();
    let is_allowed = |name: &str| SHARED_NAMES.iter().any(|(allowed, _)| *allowed == name);
    let wrong: Vec<_> = shared
        .iter()
        .filter(|(name, _)| !is_allowed(name))
        .collect();
    assert!(wrong.is_empty(), "rename all but one of each: {wrong:#?}");
    for (name, reason) in SHARED_NAMES {
        let is_needed = shared.contains_key(&name.to_owned());
        assert!(
            is_needed,
            "{name} ({reason}) names one type: delete it from the list"
        );
    }
}

#[test]
fn a_type_is_found_by_its_name_alone() {
    let text = "\
pub struct Seat<T>(T);
pub(in crate::log) trait Row: Sized {
    type Key;
}
fn f() {
    struct Inner;
}
type Pending = u8;
pub(crate) enum Side {
    Left,
}
impl Row for Side {
    type Key = u8;
}
// struct Nothing;
#[cfg(test)]
mod tests {
    struct World;
}";
    assert_eq!(types_of(text), ["Seat", "Row", "Inner", "Pending", "Side"]);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for folder in ["src", "websocket/src", "client/src", "loadtest/src"] {
        let left = circles(imports_by_file(folder));
        assert!(left.is_empty(), "{folder}: {left:#?}");
    }
}

#[test]
fn a_circle_is_found_without_the_files_around_it() {
    let file = |name: &str| vec![name.to_owned()];
    let imports = [
        ("caller", "a"),
        ("a", "b"),
        ("b", "c"),
        ("c", "a"),
        ("c", "ground"),
        ("ground", "deeper"),
    ];
    let mut by_file = BTreeMap::from([(file("deeper"), BTreeSet::new())]);
    for (from, to) in imports {
        by_file
            .entry(file(from))
            .or_insert_with(BTreeSet::new)
            .insert(file(to));
    }
    let expected: BTreeSet<_> = ["a", "b", "c"].map(str::to_owned).into();
    assert_eq!(circles(by_file), expected);
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
    use crate::admin::World;
}
fn last() -> crate::registry::Registry {}";
    let expected: BTreeSet<_> = ["ids", "log", "registry"].map(str::to_owned).into();
    assert_eq!(imports(text), expected);
}

#[test]
fn every_file_opens_with_what_it_holds_and_stays_one_noun_or_one_promise() {
    let files = FOLDERS.into_iter().flat_map(|folder| {
        let sources = sources_in(folder).into_iter();
        sources.map(move |(_, path, text)| (format!("{folder}/{}", path.display()), text))
    });
    for (path, text) in files {
        let mut lines = text.lines().filter(|line| !line.starts_with("#!["));
        let opens = lines.next().is_some_and(|line| line.starts_with("//! "));
        assert!(opens, "{path} opens without a module doc");
        let code = text.split("#[cfg(test)]\nmod ").next();
        let code = code.unwrap_or_default().lines().count();
        assert!(code <= LINES_MAX, "{path} has {code} lines");
    }
}

#[test]
fn a_front_page_names_each_file_of_its_folder() {
    let missing = [
        "src",
        "websocket/src",
        "client/src",
        "loadtest/src",
        "simulation/src",
        "tests/scenarios",
        "tests/support",
    ];
    let missing = missing.map(missing_on_front_pages).concat();
    assert!(missing.is_empty(), "{missing:#?}");
}
