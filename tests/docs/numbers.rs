//! Each number that a page tells is the code's: behind the name of a setting or a constant, or as `told.tsv` says.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use towncrier::config::Config;

use super::page::{files_below, pages, prose, read};

/// The number at the begin of a text, in seconds or bytes if it has such a unit: `30 s`, `30d`, `64 KiB`, `1,024`, `five`.
fn quantity(text: &str) -> Option<f64> {
    const WORDS: [&str; 10] = [
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ];
    let word = text.split(' ').next().unwrap().to_lowercase();
    if let Some(at) = WORDS.iter().position(|known| *known == word) {
        return Some(at as f64 + 1.0);
    }
    let is_digit = |c: char| c.is_ascii_digit() || ".,".contains(c);
    let end = text.find(|c| !is_digit(c)).unwrap_or(text.len());
    let number: f64 = text[..end]
        .trim_end_matches(['.', ','])
        .replace(',', "")
        .parse()
        .ok()?;
    let is_letter = |c: char| c.is_ascii_alphabetic();
    let unit = text[end..].trim_start();
    let unit = &unit[..unit.find(|c| !is_letter(c)).unwrap_or(unit.len())];
    let factor = match unit {
        "m" | "minutes" => 60.0,
        "h" => 3600.0,
        "d" | "days" => 86_400.0,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        _ => 1.0,
    };
    Some(number * factor)
}

/// The value of an expression of the sources: a number, a size in bytes or a time in seconds.
fn value(expression: &str) -> Option<f64> {
    let expression = expression.trim();
    if let Some(time) = expression.strip_prefix("Duration::from_") {
        let (unit, number) = time.strip_suffix(')')?.split_once('(')?;
        let parts = match unit {
            "secs" => 1.0,
            "millis" => 1000.0,
            _ => return None,
        };
        return Some(value(number)? / parts);
    }
    if let Some((number, bits)) = expression.split_once("<<") {
        return Some(value(number)? * value(bits)?.exp2());
    }
    if expression.contains('*') {
        return expression.split('*').map(value).product();
    }
    expression.replace('_', "").parse().ok()
}

/// The constants of a source, in Rust or TypeScript, whose value is a number. A comment that ends in `, ms.` makes a number
/// without a type a time.
fn constants_in(text: &str) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    let mut above = "";
    for line in text.lines().map(str::trim_start) {
        let (_, constant) = line.split_once("const ").unwrap_or_default();
        let whole = constant
            .split_once(" = ")
            .and_then(|(name, rest)| Some((name, rest.split_once(';')?.0)));
        if let Some((name, expression)) = whole
            && let Some(value) = value(expression)
        {
            let name = name.split(':').next().unwrap();
            let is_ms = above.ends_with(", ms. */");
            found.push((name.to_owned(), if is_ms { value / 1000.0 } else { value }));
        }
        above = line;
    }
    found
}

/// All constants of the program, by file and name.
fn constants() -> BTreeMap<(PathBuf, String), f64> {
    let folders = ["src", "websocket/src", "client/src", "web/client/src"];
    let files = folders.into_iter().flat_map(files_below);
    let sources = files.filter(|path| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        ["rs", "ts"].contains(&ending.unwrap_or_default())
    });
    let constants = sources.flat_map(|path| {
        let text = read(&path);
        let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let found = constants_in(program).into_iter();
        let of_file: Vec<_> = found
            .map(|(name, value)| ((path.clone(), name), value))
            .collect();
        of_file
    });
    constants.collect()
}

/// The value of the constant that a page names: `NAME`, or `module::NAME` where several have the name. `None` if the name is
/// no constant's.
fn constant(constants: &BTreeMap<(PathBuf, String), f64>, name: &str) -> Option<f64> {
    let (module, name) = name.rsplit_once("::").unwrap_or(("", name));
    let is_named = name.len() > 2 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    if !is_named {
        return None;
    }
    let is_in = |path: &Path| {
        let path = path.with_extension("");
        let path = path.to_string_lossy();
        module.is_empty() || path.trim_end_matches("/mod").ends_with(module)
    };
    let mut values = constants
        .iter()
        .filter(|((path, known), _)| known == name && path.starts_with("src") && is_in(path))
        .map(|(_, value)| *value);
    let value = values.next()?;
    assert!(
        values.all(|other| other == value),
        "several constants are {name}: write module::{name}"
    );
    Some(value)
}

#[test]
fn the_constants_of_a_source_are_read() {
    let text = "\
const BYTES: usize = 4 * 1024 * 1024;
pub(super) const TIME: Duration = Duration::from_millis(500);
pub const SHIFTED: u64 = 128 << 20;
const OTHER: usize = BYTES / 4;
/** The longest wait, ms. */
const LONGEST = 30_000;
/** The heartbeats of silence. */
export const FACTOR = 2.5;";
    let expected = [
        ("BYTES", 4_194_304.0),
        ("TIME", 0.5),
        ("SHIFTED", 134_217_728.0),
        ("LONGEST", 30.0),
        ("FACTOR", 2.5),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(constants_in(text), expected);
}

#[test]
fn the_values_in_brackets_behind_settings_and_constants_are_the_present_ones() {
    let constants = constants();
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    let mut told = 0;
    let mut wrong = Vec::new();
    for page in pages().into_iter().chain(["SECURITY.md".into()]) {
        let text = prose(&page);
        let parts: Vec<_> = text.split('`').collect();
        for (at, name) in parts.iter().enumerate().skip(1).step_by(2) {
            let (section, key) = name.split_once('.').unwrap_or_default();
            let section = defaults.get(section).and_then(toml::Value::as_table);
            let default = match section.and_then(|section| section.get(key)) {
                Some(toml::Value::Integer(number)) => Some(*number as f64),
                Some(toml::Value::String(text)) => quantity(text),
                Some(_) => None,
                None => constant(&constants, name),
            };
            let Some(behind) = parts.get(at + 1).and_then(|text| text.strip_prefix(" (")) else {
                continue;
            };
            let factor = parts[at - 1].strip_suffix(" × ").map_or(1.0, |before| {
                before.rsplit(' ').next().unwrap().parse().unwrap()
            });
            let (Some(value), Some(default)) = (quantity(behind), default) else {
                continue;
            };
            told += 1;
            if value != factor * default {
                wrong.push(format!("{}: {name} ({behind}", page.display()));
            }
        }
    }
    assert!(told > 60, "{told}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_number_that_a_page_tells_without_its_name_is_the_codes() {
    let constants = constants();
    let mut wrong = Vec::new();
    let told = include_str!("told.tsv").lines();
    for line in told.filter(|line| !line.starts_with('#')) {
        let parts: Vec<_> = line.split('\t').collect();
        let [page, before, source, name] = parts[..] else {
            panic!("{line:?}");
        };
        let text = read(page);
        // A sentence goes on over the ends of its lines, and over the marks of a comment.
        let marks = |line: &str| {
            line.trim_start()
                .trim_start_matches(['#', '/', '!', ' '])
                .to_owned()
        };
        let text = text.lines().map(marks).collect::<Vec<_>>().join(" ");
        let coded = constants.get(&(source.into(), name.to_owned()));
        let told: Vec<_> = text.split(before).skip(1).map(quantity).collect();
        let is_right = !told.is_empty() && told.iter().all(|told| coded == told.as_ref());
        if !is_right || coded.is_none() {
            wrong.push(format!("{page}: {before}{told:?}, {name} is {coded:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
