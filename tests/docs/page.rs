//! The pages of the documents as text, with their headings, tables and names.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The code of the room `metrics`, without its tests.
pub(super) fn metrics() -> String {
    let files = files_below("src/metrics").into_iter();
    let files = std::iter::once("src/metrics.rs".into()).chain(files);
    let code = files.map(|file| {
        let text = read(file);
        text.split("#[cfg(test)]")
            .next()
            .unwrap_or_default()
            .to_owned()
    });
    code.collect::<Vec<_>>().concat()
}

/// All files below a folder of the repository, as paths within the repository, and their folders.
pub(super) fn files_below(folder: &str) -> BTreeSet<PathBuf> {
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
pub(super) fn pages() -> Vec<PathBuf> {
    let docs = files_below("docs");
    let docs = docs
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    std::iter::once("README.md".into()).chain(docs).collect()
}

/// A page without its blocks of code.
pub(super) fn prose(page: &Path) -> String {
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
pub(super) fn section(page: &str, heading: &str) -> String {
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
pub(super) fn rows(section: &str) -> Vec<Vec<&str>> {
    let rows = section.lines().filter_map(|line| {
        let row = line.strip_prefix('|')?.strip_suffix('|')?;
        Some(row.split('|').map(str::trim).collect())
    });
    rows.collect()
}

/// The numbers in the first cells of a section's tables.
pub(super) fn codes(page: &str, heading: &str) -> BTreeSet<u16> {
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
pub(super) fn numbers_behind(source: &str, mark: &str) -> BTreeSet<u16> {
    let numbers = source.split(mark).skip(1).filter_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    numbers.collect()
}

/// The parts of a page between backticks.
pub(super) fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The names that begin with `prefix` and hold lower-case letters and underscores, wherever they stand in a text.
pub(super) fn names_with<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let names = text.match_indices(prefix).map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    });
    names.collect()
}

/// The name by which a link reaches a heading, as GitHub makes it.
pub(super) fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
