//! Which files the front page of their folder names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::source::sources_in;

/// The files that the front page of their folder does not name. A front page is the folder's `mod.rs`, or the file of the
/// folder's name beside it. Tests of a folder need not be named there.
pub(super) fn missing_on_front_pages(folder: &str) -> Vec<String> {
    let sources = sources_in(folder).into_iter();
    let docs: BTreeMap<_, _> = sources
        .map(|(_, path, text)| {
            let doc = text.lines().take_while(|line| line.starts_with("//!"));
            (path, doc.collect::<String>())
        })
        .collect();
    let front_page = |holder: &Path| {
        let pages = ["mod.rs", "lib.rs", "main.rs"].map(|name| holder.join(name));
        let mut pages = pages.into_iter().chain([holder.with_extension("rs")]);
        pages.find(|page| docs.contains_key(page))
    };
    let is_missing = |path: &&PathBuf| {
        // A folder stands on the page of the folder around it.
        let is_folder = path.ends_with("mod.rs");
        let item = path.ancestors().nth(usize::from(is_folder)).unwrap();
        let page = item.parent().and_then(front_page);
        // `docs/architecture.md` has the rooms, and another test compares its table with `MAP`.
        let is_held =
            |page: &PathBuf| page != *path && !(folder == "src" && page.ends_with("lib.rs"));
        let Some(page) = page.filter(is_held) else {
            return false;
        };
        let name = item.file_stem().unwrap().to_string_lossy();
        let mut names = ["", ".rs", "/"]
            .map(|end| format!("`{name}{end}`"))
            .into_iter();
        !["main", "tests"].contains(&&*name) && !names.any(|name| docs[&page].contains(&name))
    };
    let missing = docs.keys().filter(is_missing);
    missing
        .map(|path| format!("{folder}/{}", path.display()))
        .collect()
}
