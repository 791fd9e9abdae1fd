//! Holds the code to what `lib.rs` and the style say of it: imports, circles, shape, names and recipes.
//!
//! A library over a source tree: `collect.rs` parses it with `syn`, `resolve.rs` follows each path to the module that defines
//! what it names, and a file for each group of rules reports violations as `file:line`. `planted.rs` shows on trees in
//! memory that each rule finds its violation. `rules.rs` has all figures, exceptions and switches.
//!
//! It knows paths, not types: a method call needs no import and makes no edge. Test code is left out.

mod circles;
mod collect;
mod items;
mod manifest;
mod map;
mod model;
mod planted;
mod recipes;
mod resolve;
pub mod rules;
mod shape;
mod tokens;
pub mod tree;
mod visit;

use std::{collections::BTreeSet, sync::LazyLock};

use self::{
    map::Map,
    model::Model,
    rules::Check,
    tree::{Tree, place_of},
};

/// The tree on the disk, read once.
static SOURCE: LazyLock<(Tree, Model)> = LazyLock::new(|| {
    let tree = Tree::on_disk();
    let model = collect::collect(&tree);
    (tree, model)
});

/// The violations of one rule.
fn violations(check: Check, tree: &Tree, model: &Model) -> Vec<String> {
    match check {
        Check::Read => model.unread.clone(),
        Check::Map => Map::of(tree).violations(tree),
        Check::Imports => Map::of(tree).imports(model),
        Check::Outside => map::outside(model, rules::OUTSIDE),
        Check::DomainComponents => circles::of_components(model, "domain"),
        Check::DomainFiles => circles::of_files(model, "domain"),
        Check::OtherComponents => {
            let folders: BTreeSet<&str> = tree.sources().filter_map(|(file, _)| place_of(file)).collect();
            let others = folders.into_iter().filter(|folder| *folder != "domain");
            let named =
                |folder| circles::of_components(model, folder).into_iter().map(move |of| format!("{folder}: {of}"));
            others.flat_map(named).collect()
        }
        Check::Opening => shape::opening(tree),
        Check::FunctionLength => shape::function_length(model),
        Check::FileLength => shape::file_length(tree, model),
        Check::FolderSize => shape::folder_size(tree, of_disk(tree, rules::FOLDER_SIZE_EXCEPTIONS)),
        Check::TypeNames => shape::type_names(model, of_disk(tree, rules::TYPE_NAME_EXCEPTIONS)),
        Check::Facade => rules::FACADES.iter().flat_map(|facade| shape::facade(model, facade)).collect(),
        Check::Pipeline => shape::pipeline(model, rules::STAGES),
        Check::RecipePaths => recipes::paths(tree, model),
        Check::RecipeMatches => recipes::lists(tree, model, rules::RECIPE_ENUMS),
        Check::RetiredWords => Vec::new(),
    }
}

/// The exceptions are those of the tree on disk; a tree in memory has other folders and types.
fn of_disk<'a>(tree: &Tree, exceptions: &'a [(&'a str, &'a str)]) -> &'a [(&'a str, &'a str)] {
    if tree.is_on_disk() { exceptions } else { &[] }
}

/// Fails where an enforced check has found something; prints what another has found.
#[expect(clippy::print_stdout, reason = "what is not enforced is read with --nocapture")]
pub fn report(check: Check, found: &[String]) {
    let text = found.join("\n  ");
    assert!(found.is_empty() || rules::PRINTED.contains(&check), "{check:?}: {} violations\n  {text}", found.len());
    if !found.is_empty() {
        println!("{check:?} is not enforced: {} violations\n  {text}", found.len());
    }
}

fn enforce(check: Check) {
    let (tree, model) = &*SOURCE;
    report(check, &violations(check, tree, model));
}

#[test]
fn every_source_file_is_a_module_that_parses() {
    enforce(Check::Read);
}

#[test]
fn map_in_lib_rs_names_every_folder_and_no_other() {
    enforce(Check::Map);
}

#[test]
fn folders_use_only_what_the_map_allows() {
    enforce(Check::Imports);
}

#[test]
fn folders_use_no_crate_that_they_must_not_know() {
    enforce(Check::Outside);
    let places: BTreeSet<&str> = SOURCE.0.sources().filter_map(|(file, _)| place_of(file)).collect();
    let gone = rules::OUTSIDE.iter().filter(|(place, _)| !places.contains(place));
    let gone: Vec<String> = gone.map(|(place, _)| format!("rules.rs: no folder `{place}`")).collect();
    report(Check::Outside, &gone);
}

#[test]
fn domain_has_no_import_circle() {
    enforce(Check::DomainComponents);
    enforce(Check::DomainFiles);
}

#[test]
fn other_folders_have_no_import_circle() {
    enforce(Check::OtherComponents);
}

#[test]
fn every_file_and_folder_says_what_it_does() {
    enforce(Check::Opening);
}

#[test]
#[expect(clippy::print_stdout, reason = "the figure is read with --nocapture")]
fn functions_files_and_folders_are_small() {
    let (tree, model) = &*SOURCE;
    println!("median of the files: {} lines", shape::median(tree, model));
    enforce(Check::FunctionLength);
    enforce(Check::FileLength);
    enforce(Check::FolderSize);
}

#[test]
fn one_name_is_one_type() {
    enforce(Check::TypeNames);
}

#[test]
fn facades_are_thin() {
    enforce(Check::Facade);
}

#[test]
fn one_file_has_the_stages_of_an_attempt() {
    enforce(Check::Pipeline);
}

#[test]
fn recipes_in_lib_rs_name_every_file_of_a_change() {
    enforce(Check::RecipePaths);
    enforce(Check::RecipeMatches);
}
