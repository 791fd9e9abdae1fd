//! What `Cargo.toml` and files outside `src/` must say of themselves.

use std::fs;

use super::{
    shape::is_sentence,
    tree::{root, text_files},
};

#[test]
fn every_file_of_tests_benches_and_examples_opens_with_a_sentence() {
    for folder in ["tests", "benches", "examples"] {
        for (name, text) in text_files(&root().join(folder), "rs") {
            let first = text.lines().next().unwrap_or_default();
            assert!(is_sentence(first), "{name} opens with {first:?}");
        }
    }
}

#[test]
fn every_dependency_has_its_reason_above_it() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut in_dependencies = false;
    let mut explained = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
            continue;
        }
        if !in_dependencies {
            continue;
        }
        if line.starts_with("# ") {
            explained = true;
        } else if line.is_empty() {
            explained = false;
        } else if line.contains(" = ") {
            assert!(explained, "no reason above: {line}");
        }
    }
}
