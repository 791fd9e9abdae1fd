//! A map and recipes that do not say what is there.

use super::{LIB, assert_found, clean, found, planted};
use crate::architecture::rules::Check;

fn lib(from: &str, to: &str) -> super::Tree {
    assert!(LIB.contains(from), "{from}");
    clean().with("src/lib.rs", &LIB.replace(from, to))
}

#[test]
fn map_that_differs_from_the_tree_is_found() {
    let tree = lib("//! | `net` | sockets | `domain` (the type `Peer`) |\n", "");
    assert_found(Check::Map, &tree, "no row of the map for `net`");
    assert_found(Check::Imports, &tree, "`net` may not use `domain`");
    let tree = lib("| `common` | text | nothing |", "| `common` | text | `kernel` |");
    assert_found(Check::Map, &tree, "the map names `kernel`, which is gone");
}

#[test]
fn path_in_a_recipe_that_leads_nowhere_is_found() {
    assert_found(Check::RecipePaths, &lib("`api/error.rs`", "`api/row.rs`"), "`api/row.rs` is gone");
    assert_found(Check::RecipePaths, &lib("authn::Attempt`", "authn::Trial`"), "`domain::authn::Trial` is gone");
    assert_found(Check::RecipePaths, &lib("# How to add", "# How"), "no recipe");
}

#[test]
fn recipe_that_leaves_out_a_matching_file_is_found() {
    let tree = lib(" and\n//!   `telemetry.rs`.", ".");
    assert_found(Check::RecipeMatches, &tree, "src/lib.rs:14: `domain::Error`: the recipe leaves out src/telemetry.rs");
    let arms =
        "match of { Error::A | Error::B => {} Error::C => {} Error::D => {} Error::E => {} Error::F => {} _ => {} }";
    let code = format!("use crate::domain as rules;\nuse rules::Error;\nfn f(of: Error) {{ {arms} }}");
    let tree = planted(&clean(), "src/app.rs", &code);
    assert_found(Check::RecipeMatches, &tree, "the recipe leaves out src/app.rs");
    // Five of seven variants are no list of all.
    let tree = planted(&clean(), "src/app.rs", &code.replace("Error::F => {}", ""));
    assert_eq!(found(Check::RecipeMatches, &tree), Vec::<String>::new());
}

#[test]
fn enum_without_a_recipe_is_found() {
    let tree = lib("`domain::Event`, matched by name in `telemetry.rs`", "`domain::Event`");
    assert_found(
        Check::RecipeMatches,
        &tree,
        "no recipe lists the files that match on `domain::Event`: {\"src/telemetry.rs\"}",
    );
}

#[test]
fn recipe_that_lists_a_file_in_vain_is_found() {
    let tree = lib("`telemetry.rs`", "`telemetry.rs`, `net.rs`");
    assert_found(Check::RecipeMatches, &tree, "the recipe lists src/net.rs in vain");
}

#[test]
fn file_that_names_a_variant_is_found() {
    let tree = planted(&clean(), "src/api/call.rs", "use crate::domain::Kind;\nfn f() -> Kind { Kind::Session }");
    assert_found(Check::RecipeMatches, &tree, "`domain::Kind`: the recipe leaves out src/api/call.rs");
    assert_found(Check::RecipeMatches, &lib("`domain::Kind`", "`domain::Sort`"), "`domain::Sort` is no enum");
}
