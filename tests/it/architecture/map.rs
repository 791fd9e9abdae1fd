//! The map in the documentation of `lib.rs`: a row for each top-level folder with the folders that it may use. And its
//! recipes, "How to add".

use std::collections::{BTreeMap, BTreeSet};

use super::{
    model::{Model, Role, Target, shown},
    tree::{Tree, place_of},
};

/// Folder -> what its row allows.
pub struct Map(BTreeMap<String, Allowed>);

pub enum Allowed {
    Everything,
    /// Folder -> the only types that may be used, where the cell names them in brackets: "`domain` (the type `Peer`)".
    Places(BTreeMap<String, Vec<String>>),
}

impl Map {
    /// Reads rows of the form "| `place` | what it is | `one`, `other` |".
    pub fn of(tree: &Tree) -> Self {
        let rows = documentation(tree).into_iter().filter_map(|(_, line)| {
            let cells: Vec<_> = line.strip_prefix('|')?.trim_end().trim_end_matches('|').split('|').collect();
            let (first, last) = (cells.first()?.trim(), cells.last()?.trim());
            let place = first.strip_prefix('`')?.strip_suffix('`')?;
            Some((place.to_owned(), allowed(last)))
        });
        Self(rows.collect())
    }

    /// Folders without a row, and rows without a folder.
    pub fn violations(&self, tree: &Tree) -> Vec<String> {
        let places: BTreeSet<&str> = tree.sources().filter_map(|(file, _)| place_of(file)).collect();
        let rows: BTreeSet<&str> = self.0.keys().map(String::as_str).collect();
        let named = self.0.values().flat_map(|allowed| match allowed {
            Allowed::Everything => Vec::new(),
            Allowed::Places(named) => named.keys().map(String::as_str).collect(),
        });
        let named: BTreeSet<&str> = named.collect();
        let missing = places.difference(&rows).map(|place| format!("src/lib.rs: no row of the map for `{place}`"));
        let gone = rows.union(&named).filter(|place| !places.contains(*place));
        missing.chain(gone.map(|place| format!("src/lib.rs: the map names `{place}`, which is gone"))).collect()
    }

    /// Uses of a folder that the row of the using folder does not allow, one line for each file and target.
    pub fn imports(&self, model: &Model) -> Vec<String> {
        let mut found = BTreeMap::new();
        for reference in &model.references {
            let Some(place) = place_of(&reference.file) else { continue };
            for target in &reference.targets {
                let Target::Ours(target) = target else { continue };
                let modules = target.via.iter().chain([&target.scope]);
                let mut used = modules.filter_map(|module| place_of(&model.scopes[*module].file));
                if let Some(used) =
                    used.find(|used| *used != place && !self.allows(place, used, target.name.as_deref()))
                {
                    let text = format!("`{place}` may not use `{used}`: {}", model.path_of(target));
                    found.entry((&reference.file, text)).or_insert_with(|| Model::place(reference));
                }
            }
        }
        found.into_iter().map(|((_, text), place)| format!("{place}: {text}")).collect()
    }

    fn allows(&self, place: &str, used: &str, name: Option<&str>) -> bool {
        match self.0.get(place) {
            Some(Allowed::Everything) => true,
            Some(Allowed::Places(places)) => places.get(used).is_some_and(|types| {
                types.is_empty() || name.is_none_or(|name| types.iter().any(|allowed| allowed == name))
            }),
            None => false,
        }
    }
}

fn allowed(cell: &str) -> Allowed {
    if cell == "everything" {
        return Allowed::Everything;
    }
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = None;
    let mut is_bracket = false;
    for (index, part) in cell.split('`').enumerate() {
        if index % 2 == 0 {
            is_bracket = if is_bracket { !part.contains(')') } else { part.contains('(') };
        } else if let (true, Some(place)) = (is_bracket, &last) {
            places.entry(String::clone(place)).or_default().push(part.to_owned());
        } else {
            places.entry(part.to_owned()).or_default();
            last = Some(part.to_owned());
        }
    }
    Allowed::Places(places)
}

/// The documentation of `lib.rs`, with line numbers.
pub fn documentation(tree: &Tree) -> Vec<(usize, &str)> {
    let lines = tree.text("src/lib.rs").unwrap_or_default().lines().enumerate();
    lines.filter_map(|(index, line)| Some((index + 1, line.strip_prefix("//!")?.trim_start_matches(' ')))).collect()
}

/// Uses of crates that a folder must not know, with all renames undone.
pub fn outside(model: &Model, forbidden: &[(&str, &[&str])]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for reference in &model.references {
        let Some(place) = place_of(&reference.file) else { continue };
        let forbidden = forbidden.iter().filter(|(of, _)| *of == place).flat_map(|(_, paths)| *paths);
        for path in forbidden {
            let known = reference.targets.iter().any(|target| match target {
                Target::Outside(used) => format!("{}::", shown(used)).starts_with(&format!("{path}::")),
                Target::Ours(_) => false,
            });
            // `http` is a crate, and may be the name of a variable.
            let is_variable = reference.path.len() == 1 && reference.role == Role::Code;
            if known && !is_variable {
                found.insert((
                    &reference.file,
                    reference.line,
                    format!("{}: `{place}` may not use `{path}`", Model::place(reference)),
                ));
            }
        }
    }
    found.into_iter().map(|(_, _, text)| text).collect()
}
