//! The table of bounds names metrics and tests that exist, and each bound stands in the file of a test that is named for it.

use super::page::{files_below, metrics, quoted, read, rows, section};

/// The files of the program and its tests, as text.
fn sources() -> Vec<String> {
    let folders = ["src", "tests", "websocket"];
    let files = folders.into_iter().flat_map(files_below);
    let sources = files.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    sources.map(read).collect()
}

#[test]
fn the_table_of_bounds_names_metrics_and_tests_that_exist() {
    let sources = sources().concat();
    let metrics = metrics();
    let section = section("docs/architecture.md", "## Bounds");
    let (mut told, mut wrong) = (0, Vec::new());
    for row in rows(&section) {
        let [_, _, metric, test] = row[..] else {
            panic!("{row:?}");
        };
        for name in quoted(metric) {
            told += 1;
            if name.starts_with("towncrier_") && !metrics.contains(&format!("\"{name}\"")) {
                wrong.push(name);
            }
        }
        for name in quoted(test) {
            told += 1;
            if !sources.contains(&format!("fn {name}(")) {
                wrong.push(name);
            }
        }
    }
    assert!(told > 80, "{told}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_test_of_the_table_of_bounds_stands_in_a_file_that_names_the_bound() {
    let sources = sources().into_iter().map(|text| text.to_lowercase());
    let sources: Vec<_> = sources.collect();
    let is_no_letter = |c: char| !(c.is_alphanumeric() || c == '_');
    let section = section("docs/architecture.md", "## Bounds");
    let mut wrong = Vec::new();
    for row in rows(&section) {
        // A constant's or setting's own name, without its module or section.
        let bounds = quoted(row[1]).into_iter().map(|name| {
            let name = name.rsplit([':', '.']).next().unwrap_or(name);
            name.to_lowercase()
        });
        let bounds: Vec<_> = bounds.collect();
        let tests: Vec<_> = quoted(row[3]);
        if bounds.is_empty() || tests.is_empty() {
            continue;
        }
        let is_named = tests.iter().any(|test| {
            let of_test = |text: &&String| text.contains(&format!("fn {test}("));
            let files = sources.iter().filter(of_test);
            let mut words = files.flat_map(|text| text.split(is_no_letter));
            words.any(|word| bounds.iter().any(|bound| bound == word))
        });
        if !is_named {
            wrong.push(format!("{}: {bounds:?}, {tests:?}", row[0]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
