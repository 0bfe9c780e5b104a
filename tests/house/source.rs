//! The Rust files of the repository as text: their types, their imports, their lines for tests.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each Rust file of the gateway, with its room, and of the crate below it.
pub(super) fn sources() -> Vec<(String, PathBuf, String)> {
    [sources_in("src"), sources_in("websocket/src")].concat()
}

pub(super) fn sources_in(folder: &str) -> Vec<(String, PathBuf, String)> {
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

/// The types that a file defines, outside its tests. An indented `type` belongs to a trait, which names it.
pub(super) fn types_of(text: &str) -> Vec<String> {
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
pub(super) fn program(text: &str) -> String {
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
pub(super) fn paths(text: &str) -> Vec<Vec<String>> {
    let code = program(text);
    let stems = ["crate::", "super::", "self::"];
    stems.map(|stem| paths_from(&code, stem)).concat()
}

/// Every path that begins with `stem`.
pub(super) fn paths_from(code: &str, stem: &str) -> Vec<Vec<String>> {
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
pub(super) fn read_paths<'a>(
    text: &'a str,
    stem: &[String],
    found: &mut Vec<Vec<String>>,
) -> &'a str {
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
pub(super) fn imports(text: &str) -> BTreeSet<String> {
    let paths = paths(text).into_iter();
    let rooms = paths.filter_map(|path| match &path[..] {
        [stem, room, ..] if stem == "crate" => Some(room.clone()),
        _ => None,
    });
    rooms.filter(|room| !room.is_empty()).collect()
}

/// Where a file stands in its crate: `["log", "state"]` for `log/state.rs` and `log/state/mod.rs`.
pub(super) fn module_of(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let names = path.iter().map(|name| name.to_string_lossy().into_owned());
    names
        .filter(|name| name != "mod" && name != "lib")
        .collect()
}

pub(super) fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.iter().any(|part| part == "tests")
}

/// The lines of a file that make an item depend on a test, but for a module `tests`.
pub(super) fn test_only(text: &str) -> Vec<&str> {
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

/// The public async functions of a file whose doc does not say if they are cancel safe.
pub(super) fn without_cancel_safety(text: &str) -> Vec<&str> {
    let mut doc = String::new();
    let mut wrong = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if let Some(more) = line.strip_prefix("///") {
            doc.push_str(more);
        } else if !line.starts_with("#[") {
            if line.starts_with("pub async fn ") && !doc.contains("ancel safe") {
                wrong.push(line);
            }
            doc.clear();
        }
    }
    wrong
}
