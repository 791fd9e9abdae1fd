//! Shows that each rule finds its violation: a clean tree in memory passes, and one planted violation does not.
//!
//! The clean tree is a small crate of the same shape as this one. A plant replaces one of its files.

mod circles;
mod imports;
mod recipes;
mod shape;

use super::{
    collect::collect,
    rules::{self, Check},
    tree::Tree,
    violations,
};

const LIB: &str = "//! A small crate of the same shape.
//!
//! | place | what it is | may use |
//! |---|---|---|
//! | `common` | text | nothing |
//! | `domain` | the rules | `common` |
//! | `api` | the error table | `domain` |
//! | `net` | sockets | `domain` (the type `Peer`) |
//! | `telemetry` | the log | `domain` |
//! | `app` | puts it together | everything |
//!
//! # How to add
//!
//! - **an error**: a variant in `domain/error.rs`; `domain::Error`, matched by name in `api/error.rs` and
//!   `telemetry.rs`.
//! - **an event**: `domain::Event`, matched by name in `telemetry.rs`; its name and fields.
//! - **a kind**: `domain::Kind`, named in `app.rs`; see `domain::authn::Attempt`.
pub mod api;
mod app;
mod common;
pub mod domain;
mod net;
mod telemetry;
";

const CLEAN: &[(&str, &str)] = &[
    ("src/lib.rs", LIB),
    ("src/common.rs", "//! Text that several use.\npub fn trimmed() {}\npub struct Span;\n"),
    (
        "src/domain/mod.rs",
        "//! The rules of a crate.\n//! Guarantees something.\n//! Does not know callers.\npub mod authn;\nmod error;\nmod peer;\n\
         pub use self::{error::{Error, Event, Kind}, peer::Peer};\nuse self::authn::Attempt;\n\
         pub struct Auth;\nimpl Auth { pub fn login(&self) -> Attempt { x() } }\n\
         pub struct Admin;\nimpl Admin { pub fn list(&self) {} }\n",
    ),
    (
        "src/domain/error.rs",
        "//! Errors of the rules.\npub enum Error { A, B, C, D, E, F, G }\npub enum Kind { User, Session }\npub enum Event { In, Out }\n",
    ),
    ("src/domain/peer.rs", "//! The other end.\nuse crate::common::Span;\npub struct Peer { pub span: Span }\n"),
    (
        "src/domain/authn/mod.rs",
        "//! The one pipeline.\n//! Guarantees an order.\n//! Does not know gRPC.\nmod attempt;\nmod factor;\nmod outcome;\n\
         pub use attempt::{Attempt, Begun, Limited, Loaded, Admitted, Verified};\n",
    ),
    (
        "src/domain/authn/attempt.rs",
        "//! The stages of an attempt.\nuse crate::domain::Error;\npub struct Attempt(());\npub struct Begun(());\npub struct Limited(());\n\
         pub struct Loaded(());\npub struct Admitted(());\npub struct Verified(Error);\n",
    ),
    (
        "src/domain/authn/factor.rs",
        "//! The factors.\nuse super::{Attempt, outcome::Proof};\npub struct Factor(Attempt, Proof);\n",
    ),
    ("src/domain/authn/outcome.rs", "//! The outcomes.\nuse super::super::Error;\npub struct Proof(Error);\n"),
    (
        "src/api/mod.rs",
        "//! The API of a crate.\n//! Guarantees a row for each error.\n//! Does not know sockets.\npub mod error;\nmod call;\nmod convert;\n",
    ),
    (
        "src/api/error.rs",
        "//! The error table.\nuse crate::domain::Error;\npub fn row(of: &Error) -> u8 { match of { Error::A => 0, Error::B => 1, \
         Error::C | Error::D => 2, Error::E => 3, Error::F => 4, Error::G => 5 } }\n",
    ),
    ("src/api/call.rs", "//! One call of the API.\npub struct Call;\n"),
    ("src/api/convert.rs", "//! From messages to values.\npub fn convert() {}\n"),
    ("src/net.rs", "//! Sockets and limits.\nuse crate::domain::Peer;\npub fn accept(peer: Peer) {}\n"),
    (
        "src/telemetry.rs",
        "//! The log of events.\nuse crate::domain::Error::*;\npub fn log(of: &crate::domain::Error) { match of { A | B => {}, \
         C => {}, D => {}, E => {}, F | G => {} } }\n\
         pub fn count(of: &crate::domain::Event) { use crate::domain::Event as E; match of { E::In => {}, E::Out => {} } }\n",
    ),
    (
        "src/app.rs",
        "//! Puts it together.\nuse crate::{api, domain::Kind};\npub fn kinds() -> Kind { api::convert(); Kind::User }\n",
    ),
];

fn clean() -> Tree {
    Tree::in_memory(CLEAN)
}

fn found(check: Check, tree: &Tree) -> Vec<String> {
    violations(check, tree, &collect(tree))
}

/// Puts `code` below the documentation at the start of a file.
fn planted(tree: &Tree, file: &str, code: &str) -> Tree {
    let text = tree.text(file).unwrap();
    let opening: usize = text.split_inclusive('\n').take_while(|line| line.starts_with("//!")).map(str::len).sum();
    tree.with(file, &format!("{}{code}\n{}", &text[..opening], &text[opening..]))
}

/// The plant is found, and by its name.
fn assert_found(check: Check, tree: &Tree, expected: &str) {
    let found = found(check, tree);
    assert!(found.iter().any(|line| line.contains(expected)), "not found: {expected}\nbut: {found:#?}");
}

#[test]
fn clean_tree_passes_every_check() {
    for check in rules::ALL {
        assert_eq!(found(*check, &clean()), Vec::<String>::new(), "{check:?}");
    }
}
