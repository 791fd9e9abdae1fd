//! Planted violations of the import rule, and code that only looks like one.

use super::{assert_found, clean, found, planted};
use crate::architecture::rules::Check;

const LOG: &str = "crate::telemetry::log";

/// In `domain`, which may use `common` alone.
#[test]
fn forbidden_imports_of_every_form_are_found() {
    for (code, target) in [
        ("use crate::telemetry::log;", LOG),
        ("use super::super::api::error::row;", "crate::api::error::row"),
        ("use crate::{common::Span, telemetry::{self, log}};", LOG),
        ("use crate as whole;\nfn f() { whole::telemetry::log(); }", LOG),
        ("fn f() { use crate as whole; whole::telemetry::log(); }", LOG),
        ("use crate as whole;\nfn f() { use whole::common::Span; whole::telemetry::log(); }", LOG),
        ("use crate::telemetry::{self};\nfn f() { telemetry::log(); }", LOG),
        ("use crate::{telemetry::{self as quiet}};\nfn f() { quiet::log(); }", LOG),
        ("use crate::*;\nfn f() { telemetry::log(); }", LOG),
        ("fn f() { crate::telemetry::log(); }", LOG),
        ("fn f() { super::super::telemetry::log(); }", LOG),
        ("fn f(_: &crate::telemetry::Line) {}", "crate::telemetry::Line"),
        ("impl crate::telemetry::Sink for Peer {}", "crate::telemetry::Sink"),
        ("fn f() { let _ = Vec::<crate::telemetry::Line>::new(); }", "crate::telemetry::Line"),
        ("fn f(x: u8) { if let crate::telemetry::ONE = x {} }", "crate::telemetry::ONE"),
        ("fn f() { assert!(true, \"{}\", crate::telemetry::log()); }", LOG),
        ("fn f() { pick! { a = crate::telemetry::log() => a } }", LOG),
        ("macro_rules! m { () => { $crate::telemetry::log() } }", LOG),
        ("macro_rules! m { () => { use crate::{common::Span, telemetry::log}; } }", LOG),
        ("mod inner { use super::super::super::telemetry::log; }", LOG),
        ("#[path = \"../telemetry.rs\"]\nmod other;\nfn f() { other::log(); }", "crate::domain::peer::other::log"),
        (
            "mod inner { #[path = \"../../../telemetry.rs\"] mod other; fn f() { other::log(); } }",
            "crate::domain::peer::inner::other::log",
        ),
        ("#[serde(with = \"crate::telemetry::log\")]\nstruct Timed;", LOG),
        ("#[derive(crate::telemetry::Derived)]\nstruct Derived;", "crate::telemetry::Derived"),
        ("use ::watchword::telemetry::log;", LOG),
        ("pub(in crate::domain) use crate::telemetry::log as quiet;", LOG),
    ] {
        let used = if target.starts_with("crate::api") { "api" } else { "telemetry" };
        let tree = planted(&clean(), "src/domain/peer.rs", code);
        assert_found(Check::Imports, &tree, &format!("`domain` may not use `{used}`: {target}"));
    }
}

#[test]
fn whole_crate_under_another_name_is_found_in_net() {
    let tree = planted(&clean(), "src/net.rs", "use crate as whole;\nfn f() { whole::telemetry::log(); }");
    assert_found(
        Check::Imports,
        &tree,
        "src/net.rs:3 `whole::telemetry::log`: `net` may not use `telemetry`: crate::telemetry::log",
    );
}

#[test]
fn import_through_an_alias_module_is_found_where_it_is_used() {
    let tree = planted(&clean(), "src/common.rs", "pub mod quiet { pub use crate::telemetry::log as note; }");
    let tree = planted(&tree, "src/domain/peer.rs", "use crate::common::quiet;\nfn f() { quiet::note(); }");
    assert_found(Check::Imports, &tree, "src/common.rs:2 `crate::telemetry::log`: `common` may not use `telemetry`");
    assert_found(Check::Imports, &tree, "src/domain/peer.rs:3 `quiet::note`: `domain` may not use `telemetry`");
}

#[test]
fn own_item_through_a_forbidden_folder_is_found() {
    let tree = planted(&clean(), "src/telemetry.rs", "pub use crate::domain::Error as Fault;");
    let tree = planted(&tree, "src/domain/peer.rs", "use crate::telemetry::Fault;");
    assert_found(
        Check::Imports,
        &tree,
        "src/domain/peer.rs:2 `crate::telemetry::Fault`: `domain` may not use `telemetry`",
    );
}

#[test]
fn crate_that_names_itself_is_found() {
    let tree = planted(&clean(), "src/lib.rs", "extern crate self as me;");
    let tree = planted(&tree, "src/domain/peer.rs", "use me::telemetry::log;");
    assert_found(Check::Imports, &tree, "src/domain/peer.rs:2 `me::telemetry::log`: `domain` may not use `telemetry`");
}

#[test]
fn macro_of_a_forbidden_folder_is_found() {
    let tree = planted(&clean(), "src/telemetry.rs", "macro_rules! note { () => {} }");
    for code in ["fn f() { note!(); }", "fn f() { crate::note!(); }", "use crate::note;"] {
        let tree = planted(&tree, "src/domain/peer.rs", code);
        assert_found(Check::Imports, &tree, "`domain` may not use `telemetry`: crate::telemetry::note");
    }
}

#[test]
fn type_outside_the_brackets_of_the_map_is_found() {
    let tree = planted(&clean(), "src/net.rs", "use crate::domain::Auth;");
    assert_found(Check::Imports, &tree, "`net` may not use `domain`: crate::domain::Auth");
}

#[test]
fn code_that_only_looks_like_an_import_is_allowed() {
    for code in [
        "// use crate::telemetry::log;",
        "const TEXT: &str = \"crate::telemetry\";",
        "fn f(telemetry: u8) -> u8 { telemetry }",
        "#[cfg(test)]\nmod tests { use crate::telemetry::log; }",
        "#[cfg(all(test, unix))]\nuse crate::telemetry::log;",
        "impl Peer { #[cfg(test)] fn f() { crate::telemetry::log(); } }",
        "fn f() { other::telemetry::log(); }",
        "mod telemetry { pub fn log() {} }\nuse telemetry::log;",
        "pub(in crate::domain) fn f() {}",
        "#[doc = \"crate::telemetry::log\"]\nfn f() {}",
    ] {
        let tree = planted(&clean(), "src/domain/peer.rs", code);
        assert_eq!(found(Check::Imports, &tree), Vec::<String>::new(), "{code}");
    }
    // Not for tests alone.
    let code = "#[cfg(any(test, unix))]\nuse crate::telemetry::log;";
    assert_found(Check::Imports, &planted(&clean(), "src/domain/peer.rs", code), LOG);
}

#[test]
fn clock_of_tokio_is_found_in_domain_only() {
    for code in [
        "async fn f() { tokio::time::sleep(X).await; }",
        "use tokio::time::{Instant, timeout};",
        "use tokio as t;\nasync fn f() { t::time::interval(X); }",
        "use tokio::{sync::watch, time as clock};\nasync fn f() { clock::sleep_until(X).await; }",
        "use tokio::*;\nasync fn f() { time::sleep(X).await; }",
        "async fn f() { tokio::select! { _ = tokio::time::sleep(X) => {} } }",
        "extern crate tokio as runtime;\nasync fn f() { runtime::time::sleep(X).await; }",
    ] {
        let tree = planted(&clean(), "src/domain/peer.rs", code);
        assert_found(Check::Outside, &tree, "`domain` may not use `tokio::time`");
        let tree = planted(&clean(), "src/app.rs", code);
        assert_eq!(found(Check::Outside, &tree), Vec::<String>::new(), "{code}");
    }
}

#[test]
fn crates_that_a_folder_must_not_know_are_found() {
    for (file, code, outside) in [
        ("src/domain/peer.rs", "use redb::Database;", "`domain` may not use `redb`"),
        ("src/domain/peer.rs", "use http::HeaderMap;", "`domain` may not use `http`"),
        ("src/domain/peer.rs", "fn f() { std::fs::read(\"x\"); }", "`domain` may not use `std::fs`"),
        ("src/net.rs", "use tonic as t;", "`net` may not use `tonic`"),
        ("src/api/call.rs", "fn f() -> ::axum::Router { x() }", "`api` may not use `axum`"),
    ] {
        assert_found(Check::Outside, &planted(&clean(), file, code), outside);
    }
    let tree = planted(&clean(), "src/domain/peer.rs", "fn f(http: u8) -> u8 { http }");
    assert_eq!(found(Check::Outside, &tree), Vec::<String>::new());
}
