//! Paths in token streams that `syn` does not parse: the input of macros, and attributes. And what `cfg(…)` says of tests.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::model::Path;

/// Every path in the tokens with its line: `a::b::c`, `crate::{a, b::c}`, `$crate::a`, and single names.
/// Fields and methods (`.name`) and names before a single colon are left out.
pub fn paths(tokens: TokenStream) -> Vec<(Path, usize)> {
    let mut found = Vec::new();
    scan(&tokens.into_iter().collect::<Vec<_>>(), &[], &mut found);
    found
}

fn scan(tokens: &[TokenTree], prefix: &[String], found: &mut Vec<(Path, usize)>) {
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) => {
                scan(&group.stream().into_iter().collect::<Vec<_>>(), prefix, found);
                at += 1;
            }
            TokenTree::Ident(first) if !(at > 0 && is_punct(tokens, at - 1, '.')) => {
                let mut path = prefix.to_vec();
                if prefix.is_empty() && at > 1 && is_colons(tokens, at - 2) {
                    path.push("::".into());
                }
                path.push(plain(&first.to_string()));
                at += 1;
                at = follow(tokens, at, &mut path, found);
                let is_key = path.len() == 1 && is_punct(tokens, at, ':');
                if !is_key {
                    found.push((path, first.span().start().line));
                }
            }
            _ => at += 1,
        }
    }
}

/// Reads `::name` as often as it comes, and a group `::{…}` at the end.
fn follow(tokens: &[TokenTree], mut at: usize, path: &mut Path, found: &mut Vec<(Path, usize)>) -> usize {
    while is_colons(tokens, at) {
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(next)) => path.push(plain(&next.to_string())),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                scan(&group.stream().into_iter().collect::<Vec<_>>(), path, found);
            }
            _ => return at + 2,
        }
        at += 3;
    }
    at
}

fn is_punct(tokens: &[TokenTree], at: usize, wanted: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens, at, ':') && is_punct(tokens, at + 1, ':')
}

/// A name without `r#`.
pub fn plain(name: &str) -> String {
    name.trim_start_matches("r#").to_owned()
}

/// Paths in string literals, as serde's `with = "crate::store::codec"` has them.
pub fn paths_in_strings(tokens: TokenStream) -> Vec<(Path, usize)> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => found.extend(paths_in_strings(group.stream())),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let path: Path = text.trim_matches('"').split("::").map(str::to_owned).collect();
                if path.len() > 1 && path.iter().all(|name| syn::parse_str::<syn::Path>(name).is_ok()) {
                    found.push((path, literal.span().start().line));
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether code with these attributes is compiled for tests alone.
pub fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let is_test = path.segments.last().is_some_and(|last| last.ident == "test");
        is_test || (path.is_ident("cfg") && attribute.parse_args().is_ok_and(|cfg| never_outside_tests(&cfg)))
    })
}

/// Whether this condition is false wherever `test` is false, whatever else is set.
fn never_outside_tests(cfg: &syn::Meta) -> bool {
    let syn::Meta::List(list) = cfg else { return cfg.path().is_ident("test") };
    let parts = list.parse_args_with(syn::punctuated::Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated);
    let Ok(parts) = parts else { return false };
    (list.path.is_ident("all") && parts.iter().any(never_outside_tests))
        || (list.path.is_ident("any") && parts.iter().all(never_outside_tests))
}
