//! What the collector takes from items: the names that they declare, imports, and `impl` blocks.

use syn::{Item as SynItem, ItemImpl, ItemUse, UseTree, spanned::Spanned, visit};

use super::{
    collect::{Collector, function, written},
    model::{Entry, Impl, Item, ItemKind, Path, Role, ScopeKind},
    tokens,
};

impl Collector<'_> {
    pub(super) fn item(&mut self, item: &SynItem) {
        match item {
            SynItem::Mod(module) => return self.module(module),
            SynItem::Use(imports) => return self.imports(imports),
            SynItem::ExternCrate(of) => return self.extern_crate(of),
            SynItem::Impl(of) => return self.implementation(of),
            _ => {}
        }
        if let Some((name, item)) = declared(item) {
            self.declare(&name.to_string(), Entry::Item(item));
        }
        if let SynItem::Macro(of) = item
            && let Some(name) = &of.ident
        {
            self.model.macros.insert(name.to_string(), self.scope);
        }
        visit::visit_item(self, item);
    }

    fn imports(&mut self, item: &ItemUse) {
        let role = if matches!(item.vis, syn::Visibility::Inherited) { Role::Import } else { Role::Reexport };
        let prefix = if item.leading_colon.is_some() { vec!["::".to_owned()] } else { Vec::new() };
        self.import_tree(&item.tree, prefix, role);
    }

    fn import_tree(&mut self, tree: &UseTree, mut path: Path, role: Role) {
        let line = tree.span().start().line;
        match tree {
            UseTree::Path(part) => {
                path.push(tokens::plain(&part.ident.to_string()));
                self.import_tree(&part.tree, path, role);
            }
            UseTree::Group(group) => {
                for part in &group.items {
                    self.import_tree(part, path.clone(), role);
                }
            }
            UseTree::Name(leaf) => self.import(path, &leaf.ident, &leaf.ident, line, role),
            UseTree::Rename(leaf) => self.import(path, &leaf.ident, &leaf.rename, line, role),
            UseTree::Glob(_) => {
                self.model.scopes[self.scope].globs.push(path.clone());
                self.refer(path, line, role);
            }
        }
    }

    fn import(&mut self, mut path: Path, name: &syn::Ident, alias: &syn::Ident, line: usize, role: Role) {
        let alias_is_name = name == alias;
        if name != "self" || path.is_empty() {
            path.push(tokens::plain(&name.to_string()));
        }
        // `use a::b::{self}` declares `b`.
        let alias = if alias_is_name { path.last().cloned().unwrap_or_default() } else { alias.to_string() };
        if alias != "_" {
            self.declare(&alias, Entry::Alias(path.clone()));
        }
        self.refer(path, line, role);
    }

    fn extern_crate(&mut self, item: &syn::ItemExternCrate) {
        let name = item.ident.to_string();
        let path = if name == "self" { vec!["crate".to_owned()] } else { vec!["::".to_owned(), name.clone()] };
        let alias = item.rename.as_ref().map_or(name, |(_, alias)| alias.to_string());
        self.refer(path.clone(), item.span().start().line, Role::Import);
        if self.model.scopes[self.scope].kind == ScopeKind::Root {
            self.model.externs.insert(alias.clone(), path.clone());
        }
        self.declare(&alias, Entry::Alias(path));
    }

    fn implementation(&mut self, item: &ItemImpl) {
        let of = match &*item.self_ty {
            syn::Type::Path(of) if of.qself.is_none() => Some(written(&of.path)),
            _ => None,
        };
        if let (Some(of), None) = (&of, &item.trait_) {
            let methods = item.items.iter().filter_map(|part| match part {
                syn::ImplItem::Fn(method) if !tokens::is_test_only(&method.attrs) => {
                    Some(function(&self.file, &method.sig, &method.block))
                }
                _ => None,
            });
            let (scope, file, methods) = (self.scope, self.file.clone(), methods.collect());
            self.model.impls.push(Impl { scope, file, of: of.clone(), methods });
        }
        let outer = std::mem::replace(&mut self.self_type, of);
        visit::visit_item_impl(self, item);
        self.self_type = outer;
    }
}

/// The name that an item declares in its module.
fn declared(item: &SynItem) -> Option<(&syn::Ident, Item)> {
    let (name, kind) = match item {
        SynItem::Enum(of) => (&of.ident, ItemKind::Enum),
        SynItem::Struct(of) => (&of.ident, ItemKind::Type),
        SynItem::Union(of) => (&of.ident, ItemKind::Type),
        SynItem::Trait(of) => (&of.ident, ItemKind::Type),
        SynItem::TraitAlias(of) => (&of.ident, ItemKind::Type),
        SynItem::Type(of) => (&of.ident, ItemKind::Type),
        SynItem::Fn(of) => (&of.sig.ident, ItemKind::Value),
        SynItem::Const(of) => (&of.ident, ItemKind::Value),
        SynItem::Static(of) => (&of.ident, ItemKind::Value),
        SynItem::Macro(of) => (of.ident.as_ref()?, ItemKind::Value),
        _ => return None,
    };
    let variants = match item {
        SynItem::Enum(of) => of.variants.iter().map(|variant| variant.ident.to_string()).collect(),
        _ => Vec::new(),
    };
    let is_private = |field: &syn::Field| matches!(field.vis, syn::Visibility::Inherited);
    let sealed = matches!(item, SynItem::Struct(of) if of.fields.iter().any(is_private));
    Some((name, Item { kind, line: name.span().start().line, variants, sealed }))
}
