//! Follows a path to the module that defines what it names: through `crate`, `self`, `super`, renames, globs and
//! re-exports.
//!
//! A name that no scope declares (generated code, the output of a macro) counts as defined where the path looks for it.

use super::model::{Entry, Found, ItemKind, Model, Path, Reference, Role, ScopeKind, Target};

/// What this crate is called by its binary and by itself.
const CRATE: &str = "watchword";

/// One search: the modules passed, and the names that are being followed, so that circles of aliases end.
#[derive(Clone, Default)]
struct Search {
    via: Vec<usize>,
    busy: Vec<(usize, String)>,
}

impl Model {
    /// Fills in the targets of all references.
    pub fn resolve_references(&mut self) {
        let resolved = |of: &Reference| match self.macro_of(of) {
            Some(found) => vec![Target::Ours(found)],
            None => self.resolve(of.scope, &of.path),
        };
        let targets: Vec<_> = self.references.iter().map(resolved).collect();
        for (reference, targets) in self.references.iter_mut().zip(targets) {
            reference.targets = targets;
        }
    }

    /// A `macro_rules!` of this crate that is called by its name alone, or from the root, where `#[macro_export]` puts it.
    fn macro_of(&self, reference: &Reference) -> Option<Found> {
        let name = match &reference.path[..] {
            [name] if reference.role == Role::Macro => name,
            [root, name] if matches!(root.as_str(), "crate" | CRATE) => name,
            _ => return None,
        };
        let scope = *self.macros.get(name)?;
        Some(Found { scope, name: Some(name.clone()), rest: Vec::new(), via: Vec::new() })
    }

    /// What a path means that is written in the scope `from`. Several targets where a name is a type and a function.
    pub fn resolve(&self, from: usize, path: &[String]) -> Vec<Target> {
        self.path(from, path, Search::default())
    }

    /// The item of this path, such as `domain::Error`, seen from the root of the library.
    pub fn item(&self, path: &str) -> Option<Found> {
        let path: Path = path.split("::").map(str::to_owned).collect();
        let path = if path[0] == "crate" { path } else { [vec!["crate".to_owned()], path].concat() };
        self.resolve(0, &path).into_iter().find_map(|target| match target {
            Target::Ours(found) if self.is_declared(&found) => Some(found),
            _ => None,
        })
    }

    /// Whether code declares this item, or it is a module.
    pub fn is_declared(&self, found: &Found) -> bool {
        found.name.as_ref().is_none_or(|name| self.scopes[found.scope].entries.contains_key(name))
    }

    /// The variants of an enum.
    pub fn variants(&self, found: &Found) -> &[String] {
        let entries = found.name.as_ref().and_then(|name| self.scopes[found.scope].entries.get(name));
        let variants = entries.into_iter().flatten().find_map(|entry| match entry {
            Entry::Item(item) if item.kind == ItemKind::Enum => Some(&item.variants[..]),
            _ => None,
        });
        variants.unwrap_or_default()
    }

    fn path(&self, from: usize, path: &[String], search: Search) -> Vec<Target> {
        let Some((first, rest)) = path.split_first() else { return Vec::new() };
        match first.as_str() {
            "::" => self.outside(rest, search),
            "crate" => self.inside(self.root_of(from), rest, search),
            "self" => self.inside(self.module_of(from), rest, search),
            "super" => self.inside(self.parent_of(from), rest, search),
            _ => self.lexical(from, first, rest, search),
        }
    }

    /// A name that may be declared in any block around, in the module, or be a crate.
    fn lexical(&self, from: usize, first: &str, rest: &[String], search: Search) -> Vec<Target> {
        let mut scope = from;
        let mut outside = Vec::new();
        loop {
            let found = self.member(scope, first, rest, search.clone());
            if found.iter().any(|target| matches!(target, Target::Ours(_))) {
                return found;
            }
            // By a glob of another crate, any name may come; a name of ours comes first.
            outside.extend(found);
            match self.scopes[scope].parent {
                Some(parent) if self.scopes[scope].kind == ScopeKind::Block => scope = parent,
                _ => break,
            }
        }
        if outside.is_empty() { self.outside(&[&[first.to_owned()], rest].concat(), search) } else { outside }
    }

    /// A path that starts with the name of a crate, which may be this one.
    fn outside(&self, path: &[String], search: Search) -> Vec<Target> {
        match path.split_first() {
            Some((first, rest)) if first == CRATE => self.inside(0, rest, search),
            Some((first, rest)) => match self.externs.get(first) {
                Some(alias) if alias[0] == "crate" => self.inside(0, rest, search),
                Some(alias) => vec![Target::Outside([&alias[1..], rest].concat())],
                None => vec![Target::Outside(path.to_vec())],
            },
            None => Vec::new(),
        }
    }

    /// A path whose first names have led to the module `at`.
    fn inside(&self, at: usize, rest: &[String], mut search: Search) -> Vec<Target> {
        search.via.push(at);
        match rest.split_first() {
            None => vec![Target::Ours(Found { scope: at, name: None, rest: Vec::new(), via: search.via })],
            Some((first, rest)) if first == "self" => self.inside(at, rest, search),
            Some((first, rest)) if first == "super" => self.inside(self.parent_of(at), rest, search),
            Some((first, rest)) => {
                let found = self.member(at, first, rest, search.clone());
                if !found.is_empty() {
                    return found;
                }
                vec![item(at, first, rest, search)]
            }
        }
    }

    /// A name that the scope `at` declares, imports or gets by a glob.
    fn member(&self, at: usize, name: &str, rest: &[String], mut search: Search) -> Vec<Target> {
        let key = (at, name.to_owned());
        if search.busy.contains(&key) {
            return Vec::new();
        }
        search.busy.push(key);
        let mut found = Vec::new();
        for entry in self.scopes[at].entries.get(name).into_iter().flatten() {
            match entry {
                Entry::Scope(scope) => found.extend(self.inside(*scope, rest, search.clone())),
                Entry::Item(_) => found.push(item(at, name, rest, search.clone())),
                Entry::Alias(path) => found.extend(self.path(at, &[path, rest].concat(), search.clone())),
            }
        }
        if found.is_empty() { self.by_glob(at, name, rest, search) } else { found }
    }

    fn by_glob(&self, at: usize, name: &str, rest: &[String], search: Search) -> Vec<Target> {
        let mut found = Vec::new();
        let mut outside = Vec::new();
        let sources = self.scopes[at].globs.iter().flat_map(|glob| self.glob(at, glob, search.clone()));
        for source in sources {
            match source {
                Target::Ours(of) if of.name.is_none() => {
                    let search = Search { via: of.via, busy: search.busy.clone() };
                    found.extend(self.member(of.scope, name, rest, search));
                }
                Target::Ours(mut of) if self.variants(&of).iter().any(|variant| variant == name) => {
                    of.rest = [&[name.to_owned()], rest].concat();
                    found.push(Target::Ours(of));
                }
                Target::Ours(_) => {}
                Target::Outside(path) => outside.push(Target::Outside([&path[..], &[name.to_owned()], rest].concat())),
            }
        }
        if found.is_empty() { outside } else { found }
    }

    /// The source of a glob. One that begins with a name that comes from the same glob is no source.
    fn glob(&self, at: usize, path: &[String], mut search: Search) -> Vec<Target> {
        let key = (at, format!("{}::*", path.join("::")));
        if search.busy.contains(&key) {
            return Vec::new();
        }
        search.busy.push(key);
        self.path(at, path, search)
    }

    fn module_of(&self, mut scope: usize) -> usize {
        while self.scopes[scope].kind == ScopeKind::Block {
            scope = self.scopes[scope].parent.expect("a block is inside a module");
        }
        scope
    }

    fn parent_of(&self, scope: usize) -> usize {
        let module = self.module_of(scope);
        self.scopes[module].parent.map_or(module, |parent| self.module_of(parent))
    }

    fn root_of(&self, mut scope: usize) -> usize {
        while let Some(parent) = self.scopes[scope].parent {
            scope = parent;
        }
        scope
    }
}

fn item(scope: usize, name: &str, rest: &[String], search: Search) -> Target {
    Target::Ours(Found { scope, name: Some(name.to_owned()), rest: rest.to_vec(), via: search.via })
}
