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
const MAP: [(&str, &[&str]); 18] = [
    (
        "admin",
        &["door", "delivery", "registry", "token", "message", "ids"],
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
    ("delivery", &["log", "registry", "message", "ids"]),
    ("registry", &["message", "ids"]),
    ("protocol", &["session", "message", "ids"]),
    ("session", &["message", "ids"]),
    ("log", &["ids"]),
    ("message", &["ids"]),
    ("config", &["ids", "message"]),
    ("metrics", &["ids"]),
    ("clock", &[]),
    ("pages", &[]),
    ("process", &[]),
    ("token", &["ids"]),
    ("lines", &[]),
    ("watch", &[]),
];
const OPEN: [&str; 7] = [
    "config", "metrics", "clock", "token", "pages", "process", "watch",
];
const PURE: [&str; 3] = ["protocol", "session", "message"];
/// The pure rooms use none of these: runtime, log lines, randomness, clocks, files, sockets. They get time and random numbers as
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
const SHARED_NAMES: [(&str, &str); 9] = [
    ("Error", "the one error of its room"),
    ("Visitor", "serde's word for the half of a `Deserialize`"),
    ("Delivery", "its section of config.rs has the room's name"),
    ("Log", "its section of config.rs has the room's name"),
    ("Limits", "until the log's are renamed"),
    ("MemoryStore", "until the log's is renamed"),
    ("Message", "until the log's record is renamed"),
    ("Store", "until the log's is renamed"),
    ("Tokens", "until the log's table is renamed"),
];
/// A longer file holds two nouns.
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

/// The types that a file defines, outside its tests. An indented `type` belongs to a trait, which names it.
fn types_of(text: &str) -> Vec<String> {
    let code = program(text);
    let defined = code.lines().filter_map(|line| {
        let mut words = line.split_whitespace().peekable();
        words.next_if(|word| word.starts_with("pub"));
        // The path of `pub(in path)` is a word of its own.
        words.next_if(|word| word.ends_with(')'));
        let kind = words.next()?;
        let is_type = match kind {
            "type" => !line.starts_with(' '),
            _ => ["struct", "enum", "trait", "union"].contains(&kind),
        };
        let name = words.next().filter(|_| is_type)?;
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
        Some(name[..end.unwrap_or(name.len())].to_owned())
    });
    defined.collect()
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
        if code != "#[cfg(test)]" {
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

/// Every path of a file that begins with `crate`, `super` or `self`, outside its tests: a list of imports is one path for each
/// name.
fn paths(text: &str) -> Vec<Vec<String>> {
    let code = program(text);
    let stems = ["crate::", "super::", "self::"];
    stems.map(|stem| paths_from(&code, stem)).concat()
}

/// Every path that begins with `stem`.
fn paths_from(code: &str, stem: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(stem) {
        // `super::super::` is read from its first word.
        let is_inside = code[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
        if !is_inside {
            read_paths(&code[at..], &[], &mut found);
        }
    }
    found
}

/// Reads one path, or a list in braces, behind `stem`. Returns the rest of the text.
fn read_paths<'a>(text: &'a str, stem: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = read_paths(rest, stem, found);
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            match rest[end..].strip_prefix(',') {
                Some(more) => rest = more,
                None => return rest[end..].strip_prefix('}').unwrap_or_default(),
            }
        }
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let path = [stem, &[text[..end].to_owned()]].concat();
    match text[end..].strip_prefix("::") {
        Some(rest) if rest.starts_with(|c| is_word(c) || c == '{') => {
            read_paths(rest, &path, found)
        }
        _ => {
            found.push(path);
            &text[end..]
        }
    }
}

/// The rooms that a file names, outside its tests.
fn imports(text: &str) -> BTreeSet<String> {
    let paths = paths(text).into_iter();
    let rooms = paths.filter_map(|path| match &path[..] {
        [stem, room, ..] if stem == "crate" => Some(room.clone()),
        _ => None,
    });
    rooms.filter(|room| !room.is_empty()).collect()
}

/// Where a file stands in its crate: `["log", "state"]` for `log/state.rs` and `log/state/mod.rs`.
fn module_of(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let names = path.iter().map(|name| name.to_string_lossy().into_owned());
    names
        .filter(|name| name != "mod" && name != "lib")
        .collect()
}

/// The files that each file imports from. A front page lists the files of its folder, which is no import, and a name that it
/// passes on comes from the file that has it.
fn imports_by_file(folder: &str) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let sources = sources_in(folder).into_iter();
    let sources = sources.filter(|(_, path, _)| !is_test(path));
    let sources: BTreeMap<_, _> = sources
        .map(|(_, path, text)| (module_of(&path), text))
        .collect();
    let passed_on = |front: &[String], name: &String| {
        let code = program(&sources[front]);
        let lists = code.split("pub").filter_map(|part| part.split_once("use "));
        let mut found = Vec::new();
        for (_, list) in lists {
            read_paths(list, &[], &mut found);
        }
        found.into_iter().find_map(|path| {
            let path = path.strip_prefix(&["self".to_owned()]).unwrap_or(&path);
            let (last, file) = path.split_last()?;
            let file = [front, file].concat();
            (last == name && sources.contains_key(&file)).then_some(file)
        })
    };
    let file_of = |module: &[String], path: &[String]| {
        let mut from = match path[0].as_str() {
            "crate" => &[],
            _ => module,
        };
        let mut names = &path[1..];
        if path[0] == "super" {
            let supers = path.iter().take_while(|name| *name == "super").count();
            from = &module[..module.len().saturating_sub(supers)];
            names = &path[supers..];
        }
        let whole = [from, names].concat();
        let known = (0..=whole.len()).rev();
        let known = known.map(|end| whole.split_at(end));
        let mut known = known.filter(|(file, _)| sources.contains_key(*file));
        let (file, rest) = known.next()?;
        let origin = rest.first().and_then(|name| passed_on(file, name));
        Some(origin.unwrap_or_else(|| file.to_vec()))
    };
    let imports = sources.iter().map(|(module, text)| {
        let files = paths(text).into_iter();
        let files = files.filter_map(|path| file_of(module, &path));
        (
            module.clone(),
            files.filter(|file| !file.starts_with(module)).collect(),
        )
    });
    imports.collect()
}

/// The files that are left when each one that imports nothing, and each one that nothing imports, has gone.
fn circles(mut imports: BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> BTreeSet<String> {
    loop {
        let before = imports.len();
        let imported: BTreeSet<_> = imports.values().flatten().cloned().collect();
        imports.retain(|file, others| !others.is_empty() && imported.contains(file));
        let left: BTreeSet<_> = imports.keys().cloned().collect();
        for others in imports.values_mut() {
            others.retain(|file| left.contains(file));
        }
        if imports.len() == before && imports.values().all(|others| !others.is_empty()) {
            return left.into_iter().map(|file| file.join("/")).collect();
        }
    }
}

fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.iter().any(|part| part == "tests")
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

/// The lines of a file that make an item depend on a test, but for a module `tests`.
fn test_only(text: &str) -> Vec<&str> {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let is_test_module = |after: &[&str]| {
        let item = after.iter().find(|line| !line.starts_with("#["));
        item.is_some_and(|item| {
            let item = item.trim_start_matches("pub(crate) ");
            item.starts_with("mod tests ") || item == "mod tests;"
        })
    };
    let conditions = lines.iter().enumerate().filter(|(_, line)| {
        let is_condition = ["cfg(", "cfg!(", "cfg_attr("]
            .iter()
            .any(|cfg| line.contains(cfg));
        let is_of_tests = line.contains("test") || line.contains("fuzzing");
        is_condition && is_of_tests && !line.starts_with("//")
    });
    let wrong = conditions.filter(|(at, _)| !is_test_module(&lines[at + 1..]));
    wrong.map(|(_, line)| *line).collect()
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
        (
            "web/client/src/session.ts",
            "const SILENCE_HEARTBEATS_MAX = 2.5;",
        ),
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
    let others = ["client/src", "loadtest/src", "simulation/src"].map(sources_in);
    for (_, path, text) in sources().into_iter().chain(others.concat()) {
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
