//! Reference pages agree with the code: settings, errors, RPCs, events of the audit log, and the Rust program to paste.
//!
//! Metrics are compared in `metrics.rs`, with what a node shows; the rights of the Redis user in `redis_start.rs`.

use std::{collections::BTreeSet, ffi::OsString, fs};

use prost_reflect::{DescriptorPool, ExtensionDescriptor, MessageDescriptor};
use watchword::{api::FILE_DESCRIPTOR_SET, config};

use super::Page;
use crate::support::program::root;

/// What reason names begin with in the contract.
const REASON_PREFIX: &str = "ERROR_REASON_";

#[test]
fn settings_page_lists_every_setting() {
    let table = config::settings_table();
    let page = Page::read("docs/reference/settings.md");
    assert!(page.text.contains(&table), "{} should have this table:\n\n{table}", page.name());
}

#[test]
fn errors_page_lists_every_reason_once() {
    let reasons = pool().get_enum_by_name("watchword.auth.v1.ErrorReason").unwrap();
    let reasons = reasons.values().map(|value| value.name().strip_prefix(REASON_PREFIX).unwrap().to_owned());
    let expected: Vec<_> = reasons.filter(|reason| reason != "UNSPECIFIED").collect();
    let rows = Page::read("docs/reference/errors.md").rows();
    // The second table has fewer columns.
    let listed = rows.iter().filter(|row| row.len() == 4).flat_map(|row| row[0].split(", "));
    let mut listed: Vec<_> = listed.filter(|name| *name != "reason").map(str::to_owned).collect();
    let mut expected = expected;
    expected.sort();
    listed.sort();
    assert_eq!(listed, expected);
}

#[test]
fn rpcs_page_lists_every_method_with_its_fields() {
    let rows: BTreeSet<_> = Page::read("docs/reference/rpcs.md").rows().into_iter().collect();
    for service in ["watchword.auth.v1.Auth", "watchword.auth.v1.AuthAdmin"] {
        for method in pool().get_service_by_name(service).unwrap().methods() {
            let (request, response) = (fields(&method.input(), true), fields(&method.output(), false));
            let cells = [method.name(), &request, &response];
            let is_listed = rows.iter().any(|row| {
                let has_token_column = row.len() == 5;
                row[0] == cells[0]
                    && row[1 + usize::from(has_token_column)..].starts_with(&[request.clone(), response.clone()])
            });
            assert!(is_listed, "docs/reference/rpcs.md should have a row of {service} with {cells:?}");
        }
    }
    let methods: usize = pool()
        .services()
        .filter(|service| service.full_name().starts_with("watchword."))
        .map(|service| service.methods().count())
        .sum();
    let listed = rows.iter().filter(|row| row.len() >= 4 && row[0] != "RPC" && !row[0].starts_with('-')).count();
    assert_eq!(listed, methods, "a row of a method that does not exist");
}

#[test]
fn audit_page_lists_every_event() {
    let text = fs::read_to_string(root().join("src/telemetry/audit_record.rs")).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    // Every second piece is a literal.
    let literals = code.split('"').skip(1).step_by(2).filter(|literal| is_event(literal));
    let written: BTreeSet<_> = literals.map(str::to_owned).collect();
    assert!(written.len() > 20, "{written:?}");
    let rows = Page::read("docs/reference/audit.md").rows();
    let cells = rows.iter().flat_map(|row| row[0].split(", ")).map(|name| name.trim_matches('`'));
    let listed: BTreeSet<_> = cells.filter(|name| is_event(name)).map(str::to_owned).collect();
    assert_eq!(listed, written);
}

#[test]
fn variables_in_the_pages_are_settings() {
    // Of the example programs and of tests/run.
    const NOT_OURS: [&str; 3] = ["WATCHWORD_ADDR", "WATCHWORD_ISSUER", "WATCHWORD_TEST_FULL"];
    for page in Page::all() {
        let words =
            page.text.split(|letter: char| !letter.is_ascii_uppercase() && !letter.is_ascii_digit() && letter != '_');
        let names = words.filter(|word| word.len() > "WATCHWORD_".len() && word.starts_with("WATCHWORD_"));
        let names = names.filter(|name| !NOT_OURS.contains(name)).map(OsString::from);
        assert_eq!(config::unknown_variables(names), [""; 0], "{}", page.name());
    }
}

/// The example is built by `cargo test`, so what a reader pastes compiles.
#[test]
fn rust_program_to_paste_is_the_example_that_is_built() {
    let example = fs::read_to_string(root().join("examples/rust/protected.rs")).unwrap();
    let code: Vec<_> = example.lines().skip_while(|line| line.starts_with("//!") || line.starts_with("#![")).collect();
    assert_eq!(Page::read("docs/guides/rust.md").block("rust").trim(), code.join("\n").trim());
}

#[test]
fn rust_dependencies_to_paste_have_the_versions_of_this_crate() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let block = Page::read("docs/guides/rust.md").block("toml");
    for (name, version) in [("axum", "0.8"), ("tokio", "1")] {
        for text in [&manifest, &block] {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(&format!("{name} = ")));
            assert!(lines.any(|line| line.contains(&format!("\"{version}\""))), "{name} {version}");
        }
    }
    assert!(block.contains(r#"default-features = false, features = ["client"]"#) && manifest.contains("\nclient = ["));
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap()
}

/// The names of a message's fields, in the order of the contract; required ones are bold.
fn fields(message: &MessageDescriptor, is_request: bool) -> String {
    let behaviour = pool().get_extension_by_name("google.api.field_behavior").unwrap();
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(|field| field.number());
    let names = fields.iter().map(|field| {
        let is_required = is_request && is_required(field, &behaviour);
        if is_required { format!("**{}**", field.name()) } else { field.name().to_owned() }
    });
    names.collect::<Vec<_>>().join(", ")
}

fn is_required(field: &prost_reflect::FieldDescriptor, behaviour: &ExtensionDescriptor) -> bool {
    const REQUIRED: i32 = 2;
    let options = field.options();
    let value = options.get_extension(behaviour);
    value.as_list().is_some_and(|values| values.iter().any(|value| value.as_enum_number() == Some(REQUIRED)))
}

fn is_event(name: &str) -> bool {
    let is_word = name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    let kinds = ["authn_", "user_", "admin_", "sys_", "excess_", "challenge_"];
    // `user_agent` is a field, and its name a literal of serde's.
    is_word && name != "user_agent" && kinds.iter().any(|kind| name.starts_with(kind))
}
