//! `watchword check-config`: what a node with these settings would use and find, without starting it.

use std::{env, process::ExitCode};

use clap::ArgMatches;
use serde_json::{Value, json};

use super::{environment, fail_with, print, runtime, settings_report};
use crate::{
    config::{self, Config, Settings},
    store::{self, StoreReport, UsersByPepperKey},
};

/// What NIST requires where the password is the only factor (SP 800-63B-4 section 3.1.1.2).
const PASSWORD_CHARS_NIST: u16 = 15;

/// What was found beyond the settings.
struct Found {
    seal: String,
    pepper: String,
    store: StoreReport,
    hash_workers: usize,
}

pub(super) fn run(settings: &Settings, matches: &ArgMatches, json: bool) -> Result<ExitCode, String> {
    let list_entry = config::settings_with_sources(matches);
    let unknown = config::unknown_variables(env::vars_os().map(|(name, _)| name));
    let mut warnings: Vec<String> = unknown.iter().map(|name| format!("{name} is no setting")).collect();
    let notes = notes(settings);
    let config = Config::from_settings(settings).map_err(|error| error.to_string());
    warnings.extend(config.iter().flat_map(|config| config.warnings.clone()));
    if json {
        let found = config.and_then(|config| find(&config));
        print(&format!("{:#}\n", as_json(settings_report::as_json(&list_entry), &warnings, &notes, &found)))?;
        return finish(found.map(drop));
    }
    let warnings: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
    print(&format!("{}\n{warnings}{notes}", settings_report::table(&list_entry)))?;
    // After the table, which helps to understand a fault.
    let found = config.and_then(|config| find(&config)).map(|found| found.to_text());
    finish(found.and_then(|text| print(&text).map(drop)))
}

/// Decisions of the defaults that an operator may want to change.
fn notes(settings: &Settings) -> Vec<String> {
    let chars_min = settings.users.password_min_length;
    let is_short = chars_min < PASSWORD_CHARS_NIST;
    let note = format!(
        "passwords may have {chars_min} characters; NIST SP 800-63B-4 requires {PASSWORD_CHARS_NIST} where the password is the \
         only factor: --password-min-length {PASSWORD_CHARS_NIST}"
    );
    Vec::from_iter(is_short.then_some(note))
}

fn find(config: &Config) -> Result<Found, String> {
    let environment = environment();
    let inspected = store::inspect(&config.store, &config.seal, &config.pepper, &environment);
    let store = runtime()?.block_on(inspected).map_err(|error| error.to_string())?;
    let (seal, pepper) = (format!("{:?}", config.seal), format!("{:?}", config.pepper));
    Ok(Found { seal, pepper, store, hash_workers: config.hashing.workers })
}

fn finish(checked: Result<(), String>) -> Result<ExitCode, String> {
    Ok(checked.map_or_else(|fault| fail_with(&fault, 1), |()| ExitCode::SUCCESS))
}

fn as_json(settings: Value, warnings: &[String], notes: &[String], found: &Result<Found, String>) -> Value {
    let errors: Vec<&str> = found.as_ref().err().map_or_else(Vec::new, |fault| fault.lines().collect());
    json!({
        "ok": found.is_ok(),
        "settings": settings,
        "findings": found.as_ref().ok().map(|found| json!({
            "seal": found.seal,
            "pepper": found.pepper,
            "store": found.store.text,
            "users_by_pepper_key": found.store.users_by_pepper_key.as_ref().map(counted_as_json),
            "hash_workers": found.hash_workers,
        })),
        "warnings": warnings,
        "notes": notes,
        "errors": errors,
    })
}

fn counted_as_json(counted: &UsersByPepperKey) -> Value {
    let UsersByPepperKey { users, without_password, unreadable } = counted;
    let keys: Vec<_> =
        users.iter().map(|(key, users)| json!({ "key": key.map(|key| key.to_string()), "users": users })).collect();
    json!({ "keys": keys, "without_password": without_password, "unreadable": unreadable })
}

impl Found {
    fn to_text(&self) -> String {
        let Self { seal, pepper, store: StoreReport { text, users_by_pepper_key }, hash_workers } = self;
        let counted = users_by_pepper_key.as_ref().map(|counted| format!("{counted}\n")).unwrap_or_default();
        format!("seal: {seal}\npepper: {pepper}\nstore: {text}\n{counted}hash workers: {hash_workers}\n")
    }
}
