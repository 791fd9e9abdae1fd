//! Which parts of the syntax tree the collector looks at, and which it leaves out.

use syn::{
    Attribute, Block, ExprMatch, ImplItem, Item, Macro, Pat, Path as SynPath, Stmt, TraitItem,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::{
    collect::{Collector, written},
    model::{self, Role},
    tokens,
};

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if tokens::is_test_only(attributes(item)) {
            return self.skip_test(item.span());
        }
        self.item(item);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if let ImplItem::Fn(method) = item {
            if tokens::is_test_only(&method.attrs) {
                return self.skip_test(item.span());
            }
            self.function(&method.sig, &method.block);
        }
        visit::visit_impl_item(self, item);
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if let TraitItem::Fn(method) = item
            && let Some(block) = &method.default
        {
            self.function(&method.sig, block);
        }
        visit::visit_trait_item(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_block(&mut self, block: &'ast Block) {
        self.statements(&block.stmts);
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let attributes = match statement {
            Stmt::Local(local) => &local.attrs[..],
            Stmt::Macro(call) => &call.attrs,
            _ => &[],
        };
        if !tokens::is_test_only(attributes) {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_expr_match(&mut self, expression: &'ast ExprMatch) {
        let mut patterns = Patterns::default();
        for arm in &expression.arms {
            patterns.visit_pat(&arm.pat);
        }
        self.matched(patterns.paths);
        visit::visit_expr_match(self, expression);
    }

    fn visit_path(&mut self, path: &'ast SynPath) {
        self.refer(written(path), path.span().start().line, Role::Code);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.refer(written(&call.path), call.path.span().start().line, Role::Macro);
        self.unparsed(&call.tokens);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if ["doc", "cfg", "path", "expect", "allow"].iter().any(|name| attribute.path().is_ident(name)) {
            return;
        }
        self.refer(written(attribute.path()), attribute.span().start().line, Role::Code);
        let input = match &attribute.meta {
            syn::Meta::List(list) => list.tokens.clone(),
            syn::Meta::NameValue(pair) => {
                syn::parse_str(&pair.value.span().source_text().unwrap_or_default()).unwrap_or_default()
            }
            syn::Meta::Path(_) => return,
        };
        let paths = tokens::paths(input.clone()).into_iter().filter(|(path, _)| path.len() > 1);
        for (path, line) in paths.chain(tokens::paths_in_strings(input)) {
            self.refer(path, line, Role::Code);
        }
    }
}

/// The paths in patterns, however deep.
#[derive(Default)]
struct Patterns {
    paths: Vec<model::Path>,
}

impl<'ast> Visit<'ast> for Patterns {
    fn visit_pat(&mut self, pattern: &'ast Pat) {
        // A variant that was imported by name looks like a variable.
        if let Pat::Ident(name) = pattern {
            self.paths.push(vec![name.ident.to_string()]);
        }
        visit::visit_pat(self, pattern);
    }

    fn visit_path(&mut self, path: &'ast SynPath) {
        self.paths.push(written(path));
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
