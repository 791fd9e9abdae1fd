//! Planted violations of the shape of files, functions, types and facades.

use super::{assert_found, clean, found, planted};
use crate::architecture::rules::Check;

fn function(head: &str, lines: usize) -> String {
    format!("{head} {{\n{}}}", "    x();\n".repeat(lines - 2))
}

#[test]
fn long_functions_of_every_form_are_found() {
    for (before, head, after) in [
        ("", "fn long()", ""),
        ("", "pub(in crate::domain) async fn long()", ""),
        ("", "pub const unsafe extern \"C\" fn long()", ""),
        ("impl Peer {\n", "pub(super) async fn long(&self)", "\n}"),
        ("impl Clone for Peer {\n", "fn long(&self)", "\n}"),
        ("trait Asked {\n", "fn long(&self)", "\n}"),
        ("fn short() { fn other() {}\n", "fn long()", "\n}"),
        ("mod inner {\n", "fn long()", "\n}"),
    ] {
        let code = |lines| format!("{before}{}{after}", function(head, lines));
        let tree = planted(&clean(), "src/domain/peer.rs", &code(200));
        assert_found(Check::FunctionLength, &tree, "`long` has 200 lines");
        let tree = planted(&clean(), "src/domain/peer.rs", &code(70));
        let found = found(Check::FunctionLength, &tree);
        assert!(!found.iter().any(|line| line.contains("`long`")), "{found:?}");
    }
    let test = format!("#[cfg(test)]\nmod tests {{\n#[test]\n{}\n}}", function("fn long()", 200));
    assert_eq!(found(Check::FunctionLength, &planted(&clean(), "src/net.rs", &test)), Vec::<String>::new());
}

#[test]
fn file_without_a_first_sentence_is_found() {
    for text in ["pub fn accept() {}\n", "// Sockets and limits.\n", "//!\n//! Sockets and limits.\n"] {
        assert_found(Check::Opening, &clean().with("src/net.rs", text), "src/net.rs:1: opens with");
    }
    let folder = "//! The API: guarantees much.\n//!\n//! Knows nothing.\npub mod error;\nmod call;\nmod convert;\n";
    assert_found(Check::Opening, &clean().with("src/api/mod.rs", folder), "src/api/mod.rs:1: says too little");
}

#[test]
fn long_files_are_found_and_their_tests_not_counted() {
    let long = |code: &str| {
        let files: Vec<_> = super::CLEAN.iter().map(|(file, _)| *file).filter(|file| *file != "src/lib.rs").collect();
        files.into_iter().fold(clean(), |tree, file| planted(&tree, file, code))
    };
    let lines = "fn f() {}\n".repeat(200);
    assert_found(Check::FileLength, &long(&lines), "the median of");
    assert_eq!(
        found(Check::FileLength, &long(&format!("#[cfg(test)]\nmod tests {{\n{lines}\n}}"))),
        Vec::<String>::new()
    );
}

#[test]
fn folders_with_few_or_many_files_are_found() {
    let many = (0..9).fold(clean(), |tree, number| tree.with(&format!("src/api/a{number}.rs"), "//! One more.\n"));
    assert_found(Check::FolderSize, &many, "src/api/: has 13 entries");
    assert_found(Check::FolderSize, &clean().with("src/net/mod.rs", "//! Sockets.\n"), "src/net/: has 1 entries");
}

#[test]
fn file_that_no_module_declares_is_found() {
    let tree = clean().with("src/api/lost.rs", "//! Lost.\n");
    assert_found(Check::Read, &tree, "src/api/lost.rs: no `mod` declares it");
    assert_found(Check::Read, &planted(&clean(), "src/net.rs", "mod gone;"), "src/net.rs:2: mod gone has no file");
    assert_found(Check::Read, &planted(&clean(), "src/net.rs", "fn f( {}"), "src/net.rs:2: does not parse");
}

#[test]
fn second_type_of_a_name_is_found() {
    for code in [
        "struct Attempt;",
        "enum Attempt {}",
        "trait Attempt {}",
        "type Attempt = u8;",
        "mod x { union Attempt { a: u8 } }",
    ] {
        assert_found(Check::TypeNames, &planted(&clean(), "src/net.rs", code), "`Attempt` is 2 types");
    }
    for code in
        ["fn f() { struct Attempt; }", "#[cfg(test)]\nstruct Attempt;", "impl Iterator for X { type Span = u8; }"]
    {
        assert_eq!(found(Check::TypeNames, &planted(&clean(), "src/net.rs", code)), Vec::<String>::new(), "{code}");
    }
}

#[test]
fn facade_with_many_or_long_methods_is_found() {
    let methods: String = (0..30).map(|number| format!("fn m{number}(&self) {{}}\n")).collect();
    let tree =
        planted(&clean(), "src/domain/peer.rs", &format!("use super::Auth as Rules;\nimpl Rules {{\n{methods}}}"));
    assert_found(Check::Facade, &tree, "`domain::Auth` has 31 methods");
    assert_found(Check::Facade, &tree, "src/domain/peer.rs:4: `domain::Auth::m0` is not in src/domain/mod.rs");
    for (lines, expected) in [(15, 1), (14, 0)] {
        let code = format!("impl Auth {{\n{}\n}}", function("pub async fn delete(&self)", lines));
        let tree = clean().with("src/domain/mod.rs", &format!("{}{code}", clean().text("src/domain/mod.rs").unwrap()));
        assert_eq!(found(Check::Facade, &tree).len(), expected, "{lines} lines");
    }
}

#[test]
fn stage_of_an_attempt_in_a_second_file_is_found() {
    let tree = planted(&clean(), "src/domain/authn/factor.rs", "pub struct Admitted;");
    assert_found(Check::Pipeline, &tree, "the stage `Admitted` is defined in");
}

#[test]
fn stage_of_an_attempt_that_any_code_can_build_is_found() {
    let file = "src/domain/authn/attempt.rs";
    for open in ["struct Admitted;", "struct Admitted(pub ());", "struct Admitted { pub permit: () }"] {
        let text = clean().text(file).unwrap().replace("struct Admitted(());", open);
        assert_found(Check::Pipeline, &clean().with(file, &text), "code elsewhere can build the stage `Admitted`");
    }
}
