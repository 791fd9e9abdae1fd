//! Holds the code to what `lib.rs` says of it: who may use whom, and that the map is true.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Folder -> folders of ours that it may use.
const MAY_USE: [(&str, &[&str]); 8] = [
    ("domain", &["bearer", "puzzle"]),
    ("store", &["domain"]),
    ("wire", &["domain"]),
    ("grpc", &["domain", "wire"]),
    ("http", &["domain", "wire"]),
    ("server", &["domain"]),
    ("telemetry", &["domain"]),
    ("client", &["bearer", "wire"]),
];

/// Folder -> what it must not know of the world outside.
const NEVER: [(&str, &[&str]); 8] = [
    (
        "domain",
        &[
            "tonic",
            "prost",
            "axum",
            "http::",
            "hyper",
            "tower",
            "redis",
            "redb",
            "clap",
            "serde",
            "std::fs",
            "std::env",
            "std::net::Tcp",
        ],
    ),
    ("store", &["tonic", "axum", "hyper", "clap"]),
    ("wire", &["axum", "redis", "redb", "hyper", "clap"]),
    ("grpc", &["axum", "redis", "redb", "clap"]),
    ("http", &["tonic", "redis", "redb", "clap"]),
    ("server", &["tonic", "axum", "redis", "redb", "clap", "domain::Auth", "domain::User"]),
    ("telemetry", &["tonic", "axum", "redis", "redb"]),
    ("client", &["axum", "argon2", "redis", "redb", "clap", "std::env"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// What compiles into the program: without comments, and without the tests at a file's end.
fn production(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    code.join("\n")
}

/// The violations of both tables in one file.
fn violations(folder: &str, name: &str, code: &str) -> Vec<String> {
    let may_use = MAY_USE.iter().find(|(of, _)| *of == folder).map_or(&[][..], |(_, others)| others);
    let never = NEVER.iter().find(|(of, _)| *of == folder).map_or(&[][..], |(_, words)| words);
    let modules: BTreeSet<String> = modules();
    // `use crate::{a::…, b::…}` names several at once.
    let flat: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let mut used: BTreeSet<String> = BTreeSet::new();
    for part in flat.split("crate::").skip(1) {
        match part.strip_prefix('{') {
            Some(group) => {
                let mut depth = 0;
                let mut word = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        _ if depth > 0 => {}
                        ',' => used.extend(Some(std::mem::take(&mut word))),
                        _ => word.push(c),
                    }
                }
                used.insert(word);
            }
            None => {
                used.insert(part.into());
            }
        }
    }
    let used =
        used.iter().map(|path| path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default());
    let mut found: Vec<String> = used
        .filter(|module| modules.contains(*module) && *module != folder && !may_use.contains(module))
        .map(|module| format!("{name} uses crate::{module}"))
        .collect();
    let mentions = |word: &str| {
        code.match_indices(word).any(|(at, _)| {
            !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                && !code[at + word.len()..]
                    .starts_with(|c: char| (c.is_alphanumeric() || c == '_') && !word.ends_with(':'))
        })
    };
    found.extend(never.iter().filter(|word| mentions(word)).map(|word| format!("{name} knows {word}")));
    found
}

fn modules() -> BTreeSet<String> {
    let entries = fs::read_dir(root().join("src")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| name.trim_end_matches(".rs").to_owned()).filter(|name| name != "lib" && name != "main").collect()
}

#[test]
fn nobody_uses_what_the_import_rule_forbids() {
    let mut found = Vec::new();
    for (folder, _) in MAY_USE {
        for (name, text) in files(&root().join("src").join(folder)) {
            found.extend(violations(folder, &name, &production(&text)));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn planted_violations_are_found() {
    for (folder, code) in [
        ("domain", "use redb::Database;"),
        ("domain", "use crate::store::Memory;"),
        ("domain", "use crate::{\n    domain::Auth,\n    wire::pb,\n};"),
        ("store", "fn f() { crate::wire::error::row(); }"),
        ("http", "fn f() -> tonic::Status {}"),
        ("server", "use crate::domain::Auth;\nfn f(_: domain::Auth) {}"),
        ("grpc", "use crate::{domain::{Auth, Caller}, http};"),
        ("client", "use crate::domain::Auth;"),
    ] {
        assert!(!violations(folder, "planted", code).is_empty(), "{folder}: {code}");
    }
    assert!(violations("grpc", "fine", "use crate::{domain::{Auth, Caller}, wire};").is_empty());
    assert!(violations("domain", "fine", "let https = 1; // not http").is_empty());
}

#[test]
fn every_file_opens_with_a_sentence_about_itself() {
    for folder in ["src", "tests", "benches", "examples"] {
        for (name, text) in files(&root().join(folder)) {
            let first = text.lines().next().unwrap_or_default();
            let says =
                first.strip_prefix("//! ").is_some_and(|sentence| sentence.len() > 10 && !sentence.ends_with(','));
            assert!(says, "{name} opens with {first:?}");
        }
    }
}

#[test]
fn the_map_in_lib_rs_names_every_module_and_no_other() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mapped: BTreeSet<String> =
        lib.lines().filter_map(|line| line.strip_prefix("//! | `")?.split('`').next().map(str::to_owned)).collect();
    assert_eq!(mapped, modules());
    for (folder, may_use) in MAY_USE {
        let row = lib.lines().find(|line| line.starts_with(&format!("//! | `{folder}`"))).unwrap();
        let cell = row.trim_end_matches(" |").rsplit('|').next().unwrap();
        let named: BTreeSet<&str> =
            may_use.iter().copied().filter(|other| cell.contains(&format!("`{other}`"))).collect();
        assert_eq!(named, may_use.iter().copied().collect(), "{row}");
    }
}

#[test]
fn no_function_is_too_long_to_be_seen_at_once() {
    for (name, text) in files(&root().join("src")) {
        let lines: Vec<&str> = production_lines(&text);
        for (start, line) in lines.iter().enumerate().filter(|(_, line)| is_function(line)) {
            let indent = line.len() - line.trim_start().len();
            let end = lines[start..].iter().position(|line| *line == format!("{}}}", " ".repeat(indent)));
            let length = end.map_or(1, |end| end + 1);
            assert!(length <= 70, "{name}:{} has {length} lines", start + 1);
        }
    }
}

fn production_lines(text: &str) -> Vec<&str> {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().collect()
}

fn is_function(line: &str) -> bool {
    let line = line.trim_start();
    // What a trait asks for has no body.
    !line.ends_with(';')
        && [
            "fn ",
            "pub fn ",
            "async fn ",
            "pub async fn ",
            "pub(super) fn ",
            "pub(super) async fn ",
            "pub(crate) fn ",
            "pub(crate) async fn ",
        ]
        .iter()
        .any(|start| line.starts_with(start))
}

#[test]
fn every_dependency_has_its_reason_above_it() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut in_dependencies = false;
    let mut explained = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
            continue;
        }
        if !in_dependencies {
            continue;
        }
        if line.starts_with("# ") {
            explained = true;
        } else if line.is_empty() {
            explained = false;
        } else if line.contains(" = ") {
            assert!(explained, "no reason above: {line}");
        }
    }
}
