//! The shape of files, folders, functions, types and facades.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    model::{Entry, Found, Item, ItemKind, Model, Scope, ScopeKind, Target},
    rules,
    tree::{Tree, folder_of},
};

/// Files that do not open with a sentence, and folders that open with fewer than three lines.
pub fn opening(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in tree.sources() {
        let opening = text.lines().take_while(|line| line.starts_with("//!"));
        let lines = opening.filter(|line| line.len() > "//! ".len()).count();
        let first = text.lines().next().unwrap_or_default();
        if !is_sentence(first) {
            found.push(format!("{file}:1: opens with {first:?}"));
        } else if file.ends_with("/mod.rs") && lines < rules::FOLDER_OPENING_LINES_MIN {
            found.push(format!("{file}:1: says too little of what the folder does, guarantees and does not know"));
        }
    }
    found
}

/// Whether the first line of a file is documentation that ends where a sentence may.
pub fn is_sentence(line: &str) -> bool {
    line.strip_prefix("//! ").is_some_and(|sentence| sentence.len() > 10 && !sentence.ends_with(','))
}

pub fn function_length(model: &Model) -> Vec<String> {
    let long = model.functions.iter().filter(|function| function.lines > rules::FUNCTION_LINES_MAX);
    long.map(|of| format!("{}:{}: `{}` has {} lines", of.file, of.line, of.name, of.lines)).collect()
}

/// The median of all files, without their tests.
pub fn median(tree: &Tree, model: &Model) -> usize {
    let lines = |(file, text): (&str, &str)| {
        let tests = model.test_lines.get(file).copied().unwrap_or_default();
        text.lines().count().saturating_sub(tests)
    };
    let mut lengths: Vec<usize> = tree.sources().map(lines).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or_default()
}

pub fn file_length(tree: &Tree, model: &Model) -> Vec<String> {
    let median = median(tree, model);
    let too_long = median > rules::FILE_LINES_MEDIAN_MAX;
    Vec::from_iter(too_long.then(|| format!("src/: the median of all files is {median} lines")))
}

/// Folders with too few or too many files and folders in them.
pub fn folder_size(tree: &Tree, exceptions: &[(&str, &str)]) -> Vec<String> {
    let mut folders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, _) in tree.sources() {
        let mut path = file;
        while folder_of(path) != "src" && !folder_of(path).is_empty() {
            folders.entry(folder_of(path)).or_default().insert(path);
            path = folder_of(path);
        }
    }
    let range = rules::FOLDER_ENTRIES_MIN..=rules::FOLDER_ENTRIES_MAX;
    let mut found = Vec::new();
    for (folder, entries) in folders.iter().filter(|(_, entries)| !range.contains(&entries.len())) {
        if !exceptions.iter().any(|(of, _)| of == folder) {
            found.push(format!("{folder}/: has {} entries", entries.len()));
        }
    }
    for (folder, _) in exceptions {
        if folders.get(folder).is_none_or(|entries| range.contains(&entries.len())) {
            found.push(format!("{folder}/: needs no exception"));
        }
    }
    found
}

/// Names of several types.
pub fn type_names(model: &Model, exceptions: &[(&str, &str)]) -> Vec<String> {
    let mut names: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, scope, item) in types(model) {
        names.entry(name).or_default().push(format!("{}:{}", scope.file, item.line));
    }
    let several = names.iter().filter(|(_, places)| places.len() > 1);
    let is_exception = |name: &str| exceptions.iter().any(|(of, _)| *of == name);
    let found = several.clone().filter(|(name, _)| !is_exception(name));
    let stale = exceptions.iter().filter(|(name, _)| !several.clone().any(|(several, _)| several == name));
    let found =
        found.map(|(name, places)| format!("{}: `{name}` is {} types: {}", places[0], places.len(), places.join(", ")));
    found.chain(stale.map(|(name, _)| format!("rules.rs: `{name}` needs no exception"))).collect()
}

/// A facade has few and short methods, wherever its `impl` blocks are.
pub fn facade(model: &Model, facade: &str) -> Vec<String> {
    let Some(of) = model.item(facade) else { return vec![format!("{}: no `{facade}`", rules::FACADE_FILE)] };
    let mut found = Vec::new();
    let mut methods = 0;
    for block in &model.impls {
        let is_it = model
            .resolve(block.scope, &block.of)
            .iter()
            .any(|target| matches!(target, Target::Ours(found) if same(found, &of)));
        for method in block.methods.iter().filter(|_| is_it) {
            methods += 1;
            if method.name == "new" && block.file == rules::ASSEMBLY_FILE {
                continue;
            }
            let (at, name) = (format!("{}:{}", method.file, method.line), &method.name);
            if method.lines >= rules::FACADE_METHOD_LINES {
                found.push(format!("{at}: `{facade}::{name}` has {} lines", method.lines));
            }
            if block.file != rules::FACADE_FILE {
                found.push(format!("{at}: `{facade}::{name}` is not in {}", rules::FACADE_FILE));
            }
        }
    }
    if methods > rules::FACADE_METHODS_MAX {
        found.insert(0, format!("{}: `{facade}` has {methods} methods", rules::FACADE_FILE));
    }
    found
}

/// The stages of an attempt that are not defined in the one file, are also defined elsewhere, or can be built elsewhere.
pub fn pipeline(model: &Model, stages: &[&str]) -> Vec<String> {
    let file = rules::STAGES_FILE;
    let mut found = Vec::new();
    for stage in stages {
        let types: Vec<_> = types(model).filter(|(name, ..)| name == stage).collect();
        let files: Vec<&str> = types.iter().map(|(_, scope, _)| scope.file.as_str()).collect();
        if files != [file] {
            found.push(format!("{file}: the stage `{stage}` is defined in {files:?}"));
        } else if types.iter().any(|(_, _, item)| item.kind == ItemKind::Type && !item.sealed) {
            found.push(format!("{file}:{}: code elsewhere can build the stage `{stage}`", types[0].2.line));
        }
    }
    found
}

/// All types of modules, as name, scope and item.
fn types(model: &Model) -> impl Iterator<Item = (&str, &Scope, &Item)> {
    let scopes = model.scopes.iter().filter(|scope| scope.kind != ScopeKind::Block);
    let entries = scopes.flat_map(|scope| scope.entries.iter().map(move |(name, entries)| (name, scope, entries)));
    entries.flat_map(|(name, scope, entries)| {
        entries.iter().filter_map(move |entry| match entry {
            Entry::Item(item) if item.kind != ItemKind::Value => Some((name.as_str(), scope, item)),
            _ => None,
        })
    })
}

pub fn same(one: &Found, other: &Found) -> bool {
    (one.scope, &one.name) == (other.scope, &other.name)
}
