//! Reads every file under `src/` with `syn`: modules, names, paths, functions, `impl` blocks and `match` expressions.

use std::collections::BTreeSet;

use proc_macro2::{Span, TokenStream};
use syn::{
    Block, ItemMod,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::{
    model::{Entry, Function, Match, Model, Path, Reference, Role, Scope, ScopeKind},
    tokens,
    tree::{Tree, folder_of},
};

/// Parses the crate from `src/lib.rs` and `src/main.rs` on.
pub fn collect(tree: &Tree) -> Model {
    let mut collector = Collector {
        tree,
        model: Model::default(),
        read: BTreeSet::new(),
        scope: 0,
        file: String::new(),
        dir: String::new(),
        self_type: None,
    };
    for root in ["src/lib.rs", "src/main.rs"] {
        if tree.text(root).is_some() {
            collector.scope = collector.open(ScopeKind::Root, "crate", root, None);
            collector.dir = "src".into();
            collector.read_file(root);
        }
    }
    for (file, _) in tree.sources() {
        if !collector.read.contains(file) {
            collector.model.unread.push(format!("{file}: no `mod` declares it"));
        }
    }
    let mut model = collector.model;
    model.resolve_references();
    model
}

pub(super) struct Collector<'a> {
    tree: &'a Tree,
    pub(super) model: Model,
    read: BTreeSet<String>,
    pub(super) scope: usize,
    pub(super) file: String,
    /// Where the files of this module's child modules are.
    dir: String,
    /// What `Self` stands for.
    pub(super) self_type: Option<Path>,
}

impl Collector<'_> {
    fn open(&mut self, kind: ScopeKind, path: &str, file: &str, parent: Option<usize>) -> usize {
        let (path, file) = (path.to_owned(), file.to_owned());
        let scope = Scope { kind, path, file, parent, entries: Default::default(), globs: Vec::new() };
        self.model.scopes.push(scope);
        self.model.scopes.len() - 1
    }

    pub(super) fn declare(&mut self, name: &str, entry: Entry) {
        self.model.scopes[self.scope].entries.entry(tokens::plain(name)).or_default().push(entry);
    }

    fn read_file(&mut self, file: &str) {
        self.read.insert(file.to_owned());
        let text = self.tree.text(file).expect("the caller looked it up");
        match syn::parse_file(text) {
            Ok(parsed) if tokens::is_test_only(&parsed.attrs) => {
                self.model.test_lines.insert(file.to_owned(), text.lines().count());
            }
            Ok(parsed) => {
                let outer = std::mem::replace(&mut self.file, file.to_owned());
                self.visit_file(&parsed);
                self.file = outer;
            }
            Err(error) => {
                self.model.unread.push(format!("{file}:{}: does not parse: {error}", error.span().start().line));
            }
        }
    }

    /// Notes a path; `Self` becomes the type of the `impl`.
    pub(super) fn refer(&mut self, mut path: Path, line: usize, role: Role) {
        if path.first().is_some_and(|first| first == "Self") {
            let Some(of) = &self.self_type else { return };
            path.splice(..1, of.iter().cloned());
        }
        let (scope, file) = (self.scope, self.file.clone());
        self.model.references.push(Reference { scope, file, line, path, role, targets: Vec::new() });
    }

    pub(super) fn skip_test(&mut self, span: Span) {
        let lines = span.end().line - span.start().line + 1;
        *self.model.test_lines.entry(self.file.clone()).or_default() += lines;
    }

    pub(super) fn module(&mut self, item: &ItemMod) {
        let name = tokens::plain(&item.ident.to_string());
        let path = format!("{}::{name}", self.model.scopes[self.scope].path);
        let (outer, outer_dir) = (self.scope, self.dir.clone());
        let inline = item.content.is_some();
        let file = if inline { Some(self.file.clone()) } else { self.file_of_module(item, &name) };
        let Some(file) = file else {
            let line = item.ident.span().start().line;
            return self.model.unread.push(format!("{}:{line}: mod {name} has no file", self.file));
        };
        let scope = self.open(ScopeKind::Module, &path, &file, Some(outer));
        self.declare(&name, Entry::Scope(scope));
        self.scope = scope;
        if inline {
            self.dir = format!("{outer_dir}/{name}");
            visit::visit_item_mod(self, item);
        } else {
            let is_folder = file.ends_with("/mod.rs");
            self.dir = if is_folder { folder_of(&file).into() } else { file.trim_end_matches(".rs").into() };
            self.read_file(&file);
        }
        (self.scope, self.dir) = (outer, outer_dir);
    }

    fn file_of_module(&self, item: &ItemMod, name: &str) -> Option<String> {
        let given = item.attrs.iter().find(|attribute| attribute.path().is_ident("path"));
        if let Some(syn::Meta::NameValue(pair)) = given.map(|attribute| &attribute.meta) {
            let text = pair.value.span().source_text().unwrap_or_default();
            // In an inline module, the path starts in that module's folder.
            let is_inline = self.dir != folder_of(&self.file) && self.dir != self.file.trim_end_matches(".rs");
            let from = if is_inline { &self.dir } else { folder_of(&self.file) };
            return Some(joined(from, text.trim_matches('"'))).filter(|file| self.tree.text(file).is_some());
        }
        let candidates = [format!("{}/{name}.rs", self.dir), format!("{}/{name}/mod.rs", self.dir)];
        candidates.into_iter().find(|file| self.tree.text(file).is_some())
    }

    pub(super) fn function(&mut self, sig: &syn::Signature, block: &Block) {
        self.model.functions.push(function(&self.file, sig, block));
    }

    /// Code that `syn` does not parse by itself. Statements are parsed; of anything else, the paths are read.
    pub(super) fn unparsed(&mut self, input: &TokenStream) {
        if let Ok(statements) = syn::parse::Parser::parse2(Block::parse_within, input.clone()) {
            return self.statements(&statements);
        }
        for (path, line) in tokens::paths(input.clone()) {
            self.refer(path, line, Role::Code);
        }
    }

    /// A block that declares names is a scope of its own.
    pub(super) fn statements(&mut self, statements: &[syn::Stmt]) {
        let outer = self.scope;
        if statements.iter().any(|statement| matches!(statement, syn::Stmt::Item(_))) {
            let (path, file) = (self.model.scopes[outer].path.clone(), self.file.clone());
            self.scope = self.open(ScopeKind::Block, &path, &file, Some(outer));
        }
        for statement in statements {
            self.visit_stmt(statement);
        }
        self.scope = outer;
    }

    /// A `match` with the paths of its patterns.
    pub(super) fn matched(&mut self, paths: Vec<Path>) {
        let paths = paths.into_iter().map(|path| match (&self.self_type, &path[..]) {
            (Some(of), [first, rest @ ..]) if first == "Self" => [of, rest].concat(),
            _ => path,
        });
        let (scope, file, paths) = (self.scope, self.file.clone(), paths.collect());
        self.model.matches.push(Match { scope, file, paths });
    }
}

/// A path without generic arguments.
pub(super) fn written(path: &syn::Path) -> Path {
    let names = path.segments.iter().map(|segment| tokens::plain(&segment.ident.to_string()));
    path.leading_colon.map(|_| "::".to_owned()).into_iter().chain(names).collect()
}

pub(super) fn function(file: &str, sig: &syn::Signature, block: &Block) -> Function {
    let line = sig.span().start().line;
    let lines = block.brace_token.span.close().end().line - line + 1;
    Function { file: file.to_owned(), line, lines, name: sig.ident.to_string() }
}

/// `from/path` with `..` followed.
fn joined(from: &str, path: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}
