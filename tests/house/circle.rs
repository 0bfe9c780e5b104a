//! Which file imports from which, and the files that import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{is_test, module_of, paths, program, read_paths, sources_in};

/// The files that each file imports from. A front page lists the files of its folder, which is no import, and a name that it
/// passes on comes from the file that has it.
pub(super) fn imports_by_file(folder: &str) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
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
pub(super) fn circles(
    mut imports: BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
) -> BTreeSet<String> {
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
