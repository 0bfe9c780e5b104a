//! The table of bounds names metrics and tests that exist.

use super::page::{files_below, quoted, read, rows, section};

#[test]
fn the_table_of_bounds_names_metrics_and_tests_that_exist() {
    let folders = ["src", "tests", "websocket"];
    let files = folders.into_iter().flat_map(files_below);
    let sources = files.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    let sources: String = sources.map(read).collect();
    let metrics = read("src/metrics.rs");
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
