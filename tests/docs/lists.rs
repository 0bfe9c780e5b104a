//! Lists that stand in several places are everywhere the same: platforms, content types, metrics, kinds of records, promises.

use std::collections::{BTreeMap, BTreeSet};

use towncrier::ids::Platform;

use super::page::{files_below, metrics, names_with, numbers_behind, quoted, read, rows, section};

/// The platforms in a list such as `1 iOS, 4 OSX (macOS)`.
fn platforms(list: &str) -> Vec<Platform> {
    let platforms = list.split(", ").map(|entry| {
        let (number, name) = entry.split_once(' ').expect("a number and a name");
        let name = name.split(" (").next().unwrap();
        let platform: Platform = name.parse().unwrap_or_else(|_| panic!("{entry}"));
        assert_eq!(number, platform.number().to_string(), "{entry}");
        platform
    });
    platforms.collect()
}

#[test]
fn the_platforms_are_the_same_in_the_code_the_pages_and_the_console() {
    let identifiers = section("docs/architecture.md", "## Identifiers");
    let rows_of = rows(&identifiers);
    let row = rows_of.iter().find(|row| row[0] == "platform").unwrap();
    assert_eq!(platforms(row[1]), Platform::ALL);

    let policy = section("docs/protocol.md", "## Login policy");
    let classes = rows(&policy)
        .into_iter()
        .skip_while(|row| row[1] != "Platforms");
    let listed = classes.skip(2).flat_map(|row| platforms(row[1]));
    let mut listed: Vec<_> = listed.collect();
    listed.sort();
    assert_eq!(listed, Platform::ALL);

    let console = read("web/console/src/online.tsx");
    let (_, names) = console.split_once("const PLATFORMS = [").unwrap();
    let (names, _) = names.split_once("];").unwrap();
    let names: Vec<_> = names.split('"').skip(1).step_by(2).collect();
    assert_eq!(names, Platform::ALL.map(Platform::name));
}

/// The content types in a list such as `101–112, 114, 1400`.
fn content_types(list: &str) -> BTreeSet<u16> {
    let parts = list.split([' ', ',']).filter(|part| !part.is_empty());
    let numbers = parts.filter(|part| *part != "or").flat_map(|part| {
        let (first, last) = part.split_once('–').unwrap_or((part, part));
        first.parse::<u16>().unwrap()..=last.parse().unwrap()
    });
    numbers.collect()
}

#[test]
fn the_comments_that_list_the_content_types_have_each_of_them() {
    let source = read("src/admin/content.rs");
    let typing = numbers_behind(&source, "TYPING: i32 = ");
    let notification = numbers_behind(&source, "NOTIFICATION: i32 = ");
    let coded = &(&numbers_behind(&source, "number: ") | &typing) | &notification;
    assert!(coded.len() > 10, "{coded:?}");
    for file in [
        "client/src/admin.rs",
        "proto/towncrier/store/v1/message.proto",
        "proto/towncrier/v1/gateway.proto",
        "src/admin/bodies/send.rs",
        "src/cli/send.rs",
    ] {
        let text = read(file);
        let (_, list) = text.split_once(" 101–").unwrap_or_else(|| panic!("{file}"));
        let (list, _) = list.split_once("1400").unwrap_or_else(|| panic!("{file}"));
        // A list may tell apart the type that is never stored.
        let listed = &content_types(&format!("101–{list}1400")) | &typing;
        assert_eq!(listed, coded, "{file}");
    }
}

#[test]
fn the_metrics_that_console_alerts_and_dashboard_show_exist() {
    let metrics = metrics();
    let exist = names_with(&metrics, "towncrier_");
    for (file, suffix) in [
        ("web/console/src/health.tsx", ""),
        ("packaging/prometheus/alerts.yaml", "_bucket"),
        ("packaging/grafana/towncrier.json", "_bucket"),
    ] {
        let text = read(file);
        let shown = names_with(&text, "towncrier_");
        assert!(shown.len() > 5, "{file}: {shown:?}");
        let is_unknown = |name: &&str| !exist.contains(name.trim_end_matches(suffix));
        let missing: Vec<_> = shown.into_iter().filter(is_unknown).collect();
        assert!(missing.is_empty(), "{file}: {missing:?}");
    }
}

#[test]
fn the_table_of_records_has_every_kind() {
    let source = read("src/log/embedded/record.rs");
    let (_, body) = source.split_once("fn encode_body").unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let constant = |name: &str| -> u8 {
        let number = source.split_once(&format!("const {name}: u8 = "));
        let number = number.unwrap().1.split(';').next();
        number.unwrap().parse().unwrap()
    };
    let highest = constant("KIND_ERASE");
    // Each arm names its kind of record, and ends in the number of the kind.
    let coded = body.split("        Record::").skip(1).map(|arm| {
        let name = arm.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        let mut lines = arm.lines().map(str::trim).rev();
        let number = lines.find_map(|line| match line {
            "KIND_ROW" | "KIND_ERASE" => Some(constant(line)),
            line => line.parse().ok(),
        });
        (number.expect("an arm ends in a number"), name.to_owned())
    });
    let coded: BTreeMap<u8, String> = coded.collect();
    assert_eq!(coded.len(), highest as usize, "{coded:?}");
    let format = section("docs/architecture.md", "## The stored format");
    let told = rows(&format).into_iter().filter_map(|row| {
        let number = row[0].split(' ').next()?.parse().ok()?;
        Some((number, quoted(row[0]).first()?.to_string()))
    });
    assert_eq!(told.collect::<BTreeMap<_, _>>(), coded);
}

/// The numbers of the promises (`P1`) in a text.
fn promises(text: &str) -> BTreeSet<u8> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let numbers = words.filter_map(|word| word.strip_prefix('P')?.parse().ok());
    numbers.collect()
}

#[test]
fn each_promise_of_the_readme_has_a_module_of_scenarios_that_names_it() {
    let readme = read("README.md");
    let told = promises(&readme);
    assert!(told.len() >= 8, "{told:?}");
    let list = read("tests/scenarios/main.rs");
    let mut held = BTreeSet::new();
    for module in files_below("tests/scenarios") {
        let is_module = module.components().count() == 3 && !module.ends_with("main.rs");
        if !is_module || module.extension().is_none_or(|ending| ending != "rs") {
            continue;
        }
        let text = read(&module);
        let head = text.lines().take_while(|line| line.starts_with("//!"));
        let head = promises(&head.collect::<Vec<_>>().join("\n"));
        let name = module.file_stem().unwrap().to_string_lossy();
        let quoted = format!("`{name}`");
        let line = list.lines().find(|line| line.contains(&quoted));
        let line = line.unwrap_or_else(|| panic!("main.rs does not list {name}"));
        assert_eq!(promises(line), head, "{name}");
        held.extend(head);
    }
    assert_eq!(held, told);
}

#[test]
fn the_runbooks_of_the_alerts_are_sections_of_the_pages() {
    let alerts = read("packaging/prometheus/alerts.yaml");
    let runbooks: Vec<_> = alerts.split("runbook: \"").skip(1).collect();
    assert!(runbooks.len() > 5);
    for runbook in runbooks {
        let runbook = runbook.split('"').next().unwrap();
        let (page, anchor) = runbook.split_once('#').unwrap();
        let page = read(format!("docs/{page}"));
        let headings = page
            .lines()
            .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
        let mut anchors =
            headings.map(|heading| heading.to_lowercase().replace('\'', "").replace(' ', "-"));
        assert!(anchors.any(|found| found == anchor), "{runbook}");
    }
}
