//! The recipes of `lib.rs`, "How to add": what they name exists, and their lists of files are complete.
//!
//! A recipe is a list item. A clause "`domain::Error`, matched by name in `api/errors.rs` and `telemetry/record.rs`" lists all
//! files with a `match` on that enum by name; a clause "`store::Kind`, named in `store/transfer.rs`" lists all files that
//! mention a variant. The list ends at a semicolon or a full stop. The file that defines the enum need not be listed.

use std::collections::BTreeSet;

use super::{
    map::documentation,
    model::{Found, Model, Path, Target},
    rules,
    shape::same,
    tree::Tree,
};

/// A list item, joined to one line, with the number of its first line.
pub struct Recipe {
    pub line: usize,
    pub text: String,
}

pub fn recipes(tree: &Tree) -> Vec<Recipe> {
    let lines = documentation(tree).into_iter().skip_while(|(_, line)| *line != "# How to add").skip(1);
    let mut recipes: Vec<Recipe> = Vec::new();
    let mut is_open = false;
    for (number, line) in lines.take_while(|(_, line)| !line.starts_with("# ")) {
        if let Some(text) = line.strip_prefix("- ") {
            recipes.push(Recipe { line: number, text: text.to_owned() });
            is_open = true;
        } else if line.is_empty() {
            is_open = false;
        } else if let (true, Some(recipe)) = (is_open, recipes.last_mut()) {
            recipe.text += " ";
            recipe.text += line;
        }
    }
    recipes
}

/// Paths of files and of items in backticks that lead nowhere.
pub fn paths(tree: &Tree, model: &Model) -> Vec<String> {
    let recipes = recipes(tree);
    if recipes.is_empty() {
        return vec!["src/lib.rs: no recipe below \"# How to add\"".into()];
    }
    let mut found = Vec::new();
    for recipe in recipes {
        for quoted in quoted(&recipe.text) {
            let exists = if is_file(quoted) {
                file(tree, quoted).is_some()
            } else if quoted.contains("::") && quoted.chars().all(|c| c.is_alphanumeric() || "_:".contains(c)) {
                exists(model, quoted)
            } else {
                true
            };
            if !exists {
                found.push(format!("src/lib.rs:{}: `{quoted}` is gone", recipe.line));
            }
        }
    }
    found
}

fn exists(model: &Model, path: &str) -> bool {
    let outside = model.item(path.split("::").next().unwrap_or_default()).is_none();
    let variant =
        |found: &Found| found.rest.is_empty() || found.rest.iter().all(|name| model.variants(found).contains(name));
    outside || model.item(path).is_some_and(|found| variant(&found))
}

/// Lists of files that leave a file out, or name one that does not match.
pub fn lists(tree: &Tree, model: &Model, required: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for name in required {
        let phrase = format!("`{name}`, matched by name in ");
        if !recipes(tree).iter().any(|recipe| recipe.text.contains(&phrase)) {
            let files = model.item(name).map(|of| matching(model, &of)).unwrap_or_default();
            found.push(format!("src/lib.rs: no recipe lists the files that match on `{name}`: {files:?}"));
        }
    }
    for recipe in recipes(tree) {
        for (phrase, files_of) in [(" matched by name in ", matching as Finder), (" named in ", naming as Finder)] {
            for (at, _) in recipe.text.match_indices(phrase) {
                let before = &recipe.text[..at];
                let list = recipe.text[at + phrase.len()..].split(['.', ';']);
                // A full stop in `a.rs` is none: the list ends at the first part that does not continue a name.
                let list = sentence(list);
                let name = quoted(before).last().copied().unwrap_or_default();
                match model.item(name).filter(|of| !model.variants(of).is_empty()) {
                    Some(of) => found.extend(difference(tree, model, &of, name, &list, files_of(model, &of))),
                    None => found.push(format!("`{name}` is no enum")),
                }
            }
        }
        for line in &mut found {
            if !line.starts_with("src/") {
                *line = format!("src/lib.rs:{}: {line}", recipe.line);
            }
        }
    }
    found
}

type Finder = fn(&Model, &Found) -> BTreeSet<String>;

fn sentence<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut list = String::new();
    for part in parts {
        // Inside backticks, the number of backticks so far is odd.
        list += part;
        if list.matches('`').count().is_multiple_of(2) {
            break;
        }
        list += ".";
    }
    list
}

fn difference(tree: &Tree, model: &Model, of: &Found, name: &str, list: &str, files: BTreeSet<String>) -> Vec<String> {
    let own = model.file_of(of);
    let listed: BTreeSet<String> = quoted(list).into_iter().filter_map(|path| file(tree, path)).collect();
    let missing = files.difference(&listed).filter(|file| *file != own);
    let extra = listed.difference(&files).filter(|file| *file != own);
    let missing = missing.map(|file| format!("`{name}`: the recipe leaves out {file}"));
    missing.chain(extra.map(|file| format!("`{name}`: the recipe lists {file} in vain"))).collect()
}

/// The files that match on an enum by name.
fn matching(model: &Model, of: &Found) -> BTreeSet<String> {
    let enough = model.variants(of).len().min(rules::VARIANTS_OF_A_MATCH);
    let sites = model.matches.iter().filter(|site| {
        let variants: BTreeSet<String> =
            site.paths.iter().filter_map(|path| variant(model, of, site.scope, path)).collect();
        variants.len() >= enough
    });
    sites.map(|site| site.file.clone()).collect()
}

/// The files that mention a variant of an enum.
fn naming(model: &Model, of: &Found) -> BTreeSet<String> {
    let sites = model.references.iter().filter(|site| variant(model, of, site.scope, &site.path).is_some());
    sites.map(|site| site.file.clone()).collect()
}

/// The variant of this enum that a path names.
fn variant(model: &Model, of: &Found, scope: usize, path: &Path) -> Option<String> {
    model.resolve(scope, path).into_iter().find_map(|target| match target {
        Target::Ours(found) if same(&found, of) => {
            found.rest.first().filter(|name| model.variants(of).contains(name)).cloned()
        }
        _ => None,
    })
}

/// The texts in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn is_file(quoted: &str) -> bool {
    let is_name = quoted.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c));
    is_name && !quoted.starts_with('/') && (quoted.contains('/') || quoted.ends_with(".rs"))
}

/// The path in the repository of a path in a recipe, which starts in `src/` or at the root.
fn file(tree: &Tree, quoted: &str) -> Option<String> {
    let candidates = [format!("src/{quoted}"), quoted.to_owned()];
    candidates.into_iter().find(|path| tree.exists(path))
}
