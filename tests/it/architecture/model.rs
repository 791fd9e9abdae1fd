//! What the parser found in a source tree: scopes with their names, paths that code mentions, functions and types.
//!
//! `collect.rs` fills it and `resolve.rs` follows its paths. Everything under `#[cfg(test)]` is left out.

use std::collections::BTreeMap;

/// A path as it is written. A first segment `::` stands for a leading `::`.
pub type Path = Vec<String>;

#[derive(Default)]
pub struct Model {
    pub scopes: Vec<Scope>,
    pub references: Vec<Reference>,
    pub functions: Vec<Function>,
    pub impls: Vec<Impl>,
    pub matches: Vec<Match>,
    /// Lines of test code in each file.
    pub test_lines: BTreeMap<String, usize>,
    /// Names that `extern crate … as …` adds for the whole crate.
    pub externs: BTreeMap<String, Path>,
    /// `macro_rules!` and the scope of each: they are called by name alone, too.
    pub macros: BTreeMap<String, usize>,
    /// Files that do not parse, modules without a file, files without a module.
    pub unread: Vec<String>,
}

/// A crate root, a module, or a block that declares names.
pub struct Scope {
    pub kind: ScopeKind,
    /// `crate::domain::token`; of a block, the path of its module.
    pub path: String,
    pub file: String,
    pub parent: Option<usize>,
    pub entries: BTreeMap<String, Vec<Entry>>,
    /// Paths of `use …::*`.
    pub globs: Vec<Path>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScopeKind {
    Root,
    Module,
    Block,
}

pub enum Entry {
    Scope(usize),
    Item(Item),
    /// `use path as name`.
    Alias(Path),
}

#[derive(Clone)]
pub struct Item {
    pub kind: ItemKind,
    pub line: usize,
    /// Of an enum.
    pub variants: Vec<String>,
    /// Of a struct: code outside its module cannot build one.
    pub sealed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItemKind {
    Type,
    Enum,
    Value,
}

/// A path that code mentions.
pub struct Reference {
    pub scope: usize,
    pub file: String,
    pub line: usize,
    pub path: Path,
    pub role: Role,
    /// What the path leads to; `resolve.rs` fills it in.
    pub targets: Vec<Target>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Code,
    /// The name of a macro.
    Macro,
    /// `use`.
    Import,
    /// `pub use`, in whatever visibility: it offers a name and does not use it.
    Reexport,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    Ours(Found),
    /// A path into another crate, with all renames undone.
    Outside(Path),
}

/// A module, or an item in the scope that defines it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub scope: usize,
    /// None: the module itself.
    pub name: Option<String>,
    /// What follows the item: a variant, an associated function.
    pub rest: Path,
    /// Every module that the path leads through.
    pub via: Vec<usize>,
}

pub struct Function {
    pub file: String,
    pub line: usize,
    pub lines: usize,
    pub name: String,
}

/// An `impl` block without a trait.
pub struct Impl {
    pub scope: usize,
    pub file: String,
    pub of: Path,
    pub methods: Vec<Function>,
}

/// A `match`, with every path in its patterns.
pub struct Match {
    pub scope: usize,
    pub file: String,
    pub paths: Vec<Path>,
}

impl Model {
    /// `file:line` of a reference.
    pub fn place(reference: &Reference) -> String {
        format!("{}:{} `{}`", reference.file, reference.line, shown(&reference.path))
    }

    /// The file that defines what was found.
    pub fn file_of(&self, found: &Found) -> &str {
        &self.scopes[found.scope].file
    }

    /// The full path of what was found: `crate::domain::Error`.
    pub fn path_of(&self, found: &Found) -> String {
        let module = &self.scopes[found.scope].path;
        found.name.as_ref().map_or_else(|| module.clone(), |name| format!("{module}::{name}"))
    }
}

/// A path as code writes it.
pub fn shown(path: &[String]) -> String {
    path.join("::").replacen("::::", "::", 1)
}
