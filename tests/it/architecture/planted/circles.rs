//! Planted circles between files and components.

use super::{assert_found, clean, found, planted};
use crate::architecture::rules::Check;

#[test]
fn circle_of_two_components_is_found_with_a_line_for_each_edge() {
    let tree = planted(&clean(), "src/domain/error.rs", "use super::peer::Peer;");
    let tree = planted(&tree, "src/domain/peer.rs", "use crate::domain::Error;");
    assert_found(Check::DomainComponents, &tree, "2 in a circle: error.rs, peer.rs");
    for edge in [
        "error.rs -> peer.rs  src/domain/error.rs:2 `super::peer::Peer` uses crate::domain::peer::Peer",
        "peer.rs -> error.rs  src/domain/peer.rs:2 `crate::domain::Error` uses crate::domain::error::Error",
    ] {
        assert_found(Check::DomainComponents, &tree, edge);
    }
}

#[test]
fn circle_through_a_folder_is_found() {
    let tree = planted(&clean(), "src/domain/error.rs", "use super::authn::Attempt;");
    assert_found(Check::DomainComponents, &tree, "authn -> error.rs  src/domain/authn/attempt.rs");
    assert_found(Check::DomainFiles, &tree, "domain/error.rs -> domain/authn/attempt.rs  src/domain/error.rs:2");
}

#[test]
fn circle_through_the_facade_is_found() {
    for code in ["use super::Auth;", "impl super::Auth { fn more(&self) {} }", "fn f(_: &crate::domain::Auth) {}"] {
        let tree = planted(&clean(), "src/domain/authn/attempt.rs", &code.replace("super::", "super::super::"));
        assert_found(Check::DomainComponents, &tree, "2 in a circle: authn, mod.rs");
    }
}

/// `mod.rs` re-exports both: the circle is between the files that define them.
#[test]
fn circle_of_files_through_a_re_exporting_mod_is_found() {
    let tree = planted(&clean(), "src/domain/authn/attempt.rs", "use super::outcome::Proof;\nstruct Held(Proof);");
    assert_eq!(found(Check::DomainFiles, &tree), Vec::<String>::new());
    let tree = planted(&tree, "src/domain/authn/outcome.rs", "fn f() -> super::Attempt { x() }");
    assert_found(Check::DomainFiles, &tree, "domain/authn/outcome.rs -> domain/authn/attempt.rs");
    assert_eq!(found(Check::DomainComponents, &tree), Vec::<String>::new());
}

#[test]
fn circle_by_a_path_in_a_macro_is_found() {
    let tree = planted(&clean(), "src/domain/error.rs", "fn f() { debug!(\"{}\", super::peer::Peer::new()); }");
    let tree = planted(&tree, "src/domain/peer.rs", "fn f() { trace!(of = ?crate::domain::Error::A); }");
    assert_found(Check::DomainFiles, &tree, "2 in a circle: domain/error.rs, domain/peer.rs");
}

#[test]
fn circle_of_three_is_shown_as_a_chain() {
    let tree = planted(&clean(), "src/domain/error.rs", "use super::peer::Peer;");
    let tree = planted(&tree, "src/domain/peer.rs", "use super::authn::Attempt;");
    let found = found(Check::DomainFiles, &tree).join("\n");
    let lines: Vec<&str> = found.lines().skip(1).map(|line| line.trim().split("  ").next().unwrap()).collect();
    assert_eq!(
        lines,
        [
            "domain/authn/attempt.rs -> domain/error.rs",
            "domain/error.rs -> domain/peer.rs",
            "domain/peer.rs -> domain/authn/attempt.rs"
        ]
    );
}

#[test]
fn circle_in_another_folder_is_found() {
    let tree = planted(&clean(), "src/api/call.rs", "use super::convert::convert;");
    let tree = planted(&tree, "src/api/convert.rs", "use super::call::Call;");
    assert_found(Check::OtherComponents, &tree, "api: 2 in a circle: call.rs, convert.rs");
}

/// `mod.rs` offers a name of a file below it, and that file uses what `mod.rs` defines.
#[test]
fn re_export_of_a_folders_own_file_is_no_edge() {
    let tree = planted(&clean(), "src/domain/authn/mod.rs", "pub struct Limits;");
    let tree = planted(&tree, "src/domain/authn/attempt.rs", "use super::Limits;");
    assert_eq!(found(Check::DomainFiles, &tree), Vec::<String>::new());
    let tree = planted(&tree, "src/domain/authn/mod.rs", "fn f() -> Attempt { x() }");
    assert_found(Check::DomainFiles, &tree, "2 in a circle: domain/authn/attempt.rs, domain/authn/mod.rs");
}

#[test]
fn import_of_a_module_is_no_edge_to_its_mod_file() {
    let tree = planted(&clean(), "src/domain/authn/mod.rs", "fn f() -> factor::Factor { x() }");
    let tree = planted(&tree, "src/domain/authn/factor.rs", "use crate::domain::authn;\nfn f(_: authn::Attempt) {}");
    assert_eq!(found(Check::DomainFiles, &tree), Vec::<String>::new());
}
