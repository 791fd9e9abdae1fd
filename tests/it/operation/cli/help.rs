//! `--help`: headings, and exactly the flags that each command reads.

use std::collections::BTreeSet;

use watchword::config;

use super::SETTINGS;
use crate::support::run;

/// Each command and the flags that it reads, without `serve` and `check-config`, which read all settings.
pub(super) const READS: [(&[&str], &[&str]); 14] = [
    (&["healthcheck"], &["ops-addr"]),
    (&["user"], &["admin-addr", "data-dir"]),
    (&["user", "show"], &["admin-addr", "data-dir", "id", "json"]),
    (&["user", "disable"], &["admin-addr", "data-dir"]),
    (&["user", "enable"], &["admin-addr", "data-dir"]),
    (&["user", "unlock"], &["admin-addr", "data-dir"]),
    (&["user", "revoke"], &["admin-addr", "all-users", "data-dir"]),
    (&["user", "reset-code"], &["admin-addr", "data-dir", "require-reset"]),
    (&["rotate-signing-key"], &["admin-addr", "data-dir", "drop-old-keys"]),
    (
        &["copy"],
        &[
            "from",
            "to",
            "data-dir",
            "store-password-file",
            "store-ca-file",
            "redis-prefix",
            "redis-durability",
            "log-format",
            "log-level",
        ],
    ),
    (
        &["selftest"],
        &[
            "timing",
            "samples",
            "store",
            "store-password-file",
            "store-ca-file",
            "redis-prefix",
            "redis-durability",
            "password-min-length",
            "password-blocklist-file",
            "password-context-words",
            "argon2-memory-kib",
            "argon2-passes",
            "argon2-lanes",
            "pepper-key-file",
            "data-max-bytes",
            "hash-workers",
            "connections-max",
        ],
    ),
    (&["examples"], &["grpc-addr", "reflection", "http-addr", "legacy-routes"]),
    (&["descriptor"], &[]),
    (&["help"], &[]),
];

/// The flags in the help of a command, each with its heading.
fn listed_flags(command: &[&str]) -> Vec<(String, String)> {
    let (code, out, err) = run(&[command, &["--help"]].concat());
    assert_eq!(code, 0, "{command:?}: {err}");
    let (mut heading, mut flags) = (String::new(), Vec::new());
    for line in out.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|line| !line.starts_with(' ')) {
            heading = name.to_owned();
        }
        // `  -h, --help` or `      --flag <VALUE>`; lines with more indentation are explanations.
        if let Some(flag) = line.get(6..).and_then(|line| line.strip_prefix("--")) {
            flags.push((heading.clone(), flag.split(' ').next().unwrap().to_owned()));
        }
    }
    flags
}

/// The settings with their headings, from the help of the program without a command.
fn settings_by_heading() -> Vec<(String, String)> {
    listed_flags(&[]).into_iter().filter(|(heading, _)| heading != "Options").collect()
}

#[test]
fn help_groups_settings_by_heading_in_one_order_for_every_command() {
    let settings = settings_by_heading();
    assert_eq!(settings.len(), SETTINGS, "{settings:?}");
    let mut headings: Vec<_> = settings.iter().map(|(heading, _)| heading.as_str()).collect();
    headings.dedup();
    let abuse = "Abuse protection (rate limits, lockout, proof of work)";
    assert_eq!(
        headings,
        [
            "Listeners",
            "Store",
            "Users and passwords",
            "Tokens and sessions",
            abuse,
            "Logging and audit",
            "Resource limits",
            "Shutdown"
        ]
    );
    for (command, _) in READS.iter().copied().chain([(&["serve"][..], &[][..]), (&["check-config"], &[])]) {
        let (own, of_service): (Vec<_>, Vec<_>) =
            listed_flags(command).into_iter().partition(|(heading, _)| heading == "Options");
        let mut rest = settings.iter();
        assert!(of_service.iter().all(|flag| rest.any(|other| other == flag)), "{command:?}: {of_service:?}");
        assert!(own.iter().all(|(_, flag)| settings.iter().all(|(_, other)| other != flag)), "{command:?}: {own:?}");
    }
}

#[test]
fn help_command_and_help_flag_print_equal_text() {
    for (command, _) in READS {
        let (as_flag, as_command) = (run(&[command, &["--help"]].concat()), run(&[&["help"], command].concat()));
        assert_eq!(as_flag, as_command, "{command:?}");
    }
    assert_eq!(run(&["--help"]), run(&["help"]));
}

#[test]
fn help_of_a_command_lists_exactly_the_flags_that_it_reads() {
    let names = |flags: Vec<(String, String)>| {
        flags.into_iter().map(|(_, flag)| flag).filter(|flag| flag != "help" && flag != "version").collect()
    };
    let all: BTreeSet<String> = names(settings_by_heading());
    assert_eq!(names(listed_flags(&["serve"])), all);
    assert_eq!(names(listed_flags(&["check-config"])), &all | &["json".to_owned()].into());
    for (command, reads) in READS.iter().filter(|(command, _)| *command != ["help"]) {
        let reads: BTreeSet<String> = reads.iter().map(|flag| (*flag).to_owned()).collect();
        assert_eq!(names(listed_flags(command)), reads, "{command:?}");
    }
}

#[test]
fn every_variable_is_named_after_its_flag() {
    let variables: Vec<_> = config::settings_table()
        .lines()
        .filter_map(|line| line.strip_prefix("| `--")?.split_once("`<br>`"))
        .map(|(flag, rest)| (flag.to_owned(), rest.split('`').next().unwrap().to_owned()))
        .collect();
    assert_eq!(variables.len(), SETTINGS);
    for (flag, variable) in variables {
        assert_eq!(variable, format!("WATCHWORD_{}", flag.replace('-', "_").to_uppercase()));
    }
}
