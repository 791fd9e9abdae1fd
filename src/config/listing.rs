//! Lists of all settings: with their present values for `check-config`, with their meaning for the documents.

use std::{borrow::Cow, ffi::OsString};

use clap::{Arg, ArgMatches, Args, parser::ValueSource};

use super::Settings;

/// A setting and where its value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The flag, with its dashes.
    pub flag: String,
    /// The value as it was written; nothing when the setting has none. A list has commas. Secrets are in files, so no value
    /// is one.
    pub value: Option<String>,
    /// Who set it.
    pub source: Source,
    /// Whether the value differs from the default.
    pub is_changed: bool,
}

/// Who set a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Source {
    Flag,
    Environment,
    Default,
}

impl Source {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Source::Flag => "flag",
            Source::Environment => "environment",
            Source::Default => "default",
        }
    }
}

/// The settings in the order of `--help`.
fn settings() -> Vec<Arg> {
    Settings::augment_args(clap::Command::new("settings")).get_arguments().cloned().collect()
}

fn flag(arg: &Arg) -> String {
    format!("--{}", arg.get_long().expect("every setting has a flag"))
}

/// What a setting is when neither its flag nor its variable is set.
fn default(arg: &Arg) -> Option<Cow<'_, str>> {
    let value = arg.get_default_values().first().map(|value| value.to_string_lossy());
    value.or_else(|| (!arg.get_action().takes_values()).then_some("false".into()))
}

/// Every setting that a command line and the environment give; `matches` are those of a command that reads all of them.
pub fn settings_with_sources(matches: &ArgMatches) -> Vec<Setting> {
    let setting = |arg: &Arg| {
        let id = arg.get_id().as_str();
        let values = matches.get_raw(id).map(|values| values.map(|value| value.to_string_lossy()).collect::<Vec<_>>());
        let value = values.map(|values| values.join(","));
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => Source::Flag,
            Some(ValueSource::EnvVariable) => Source::Environment,
            _ => Source::Default,
        };
        let is_changed = source != Source::Default && value.as_deref() != default(arg).as_deref();
        Setting { flag: flag(arg), value, source, is_changed }
    };
    settings().iter().map(setting).collect()
}

/// The reference of all settings, in Markdown: a table under each heading of `--help`.
pub fn settings_table() -> String {
    let mut text = String::new();
    let mut heading = None;
    for arg in settings() {
        let of_arg = arg.get_help_heading().expect("every setting has a heading").to_owned();
        if heading.as_ref() != Some(&of_arg) {
            let gap = if heading.is_some() { "\n" } else { "" };
            text.push_str(&format!("{gap}### {of_arg}\n\n| flag, variable | default | meaning |\n|---|---|---|\n"));
            heading = Some(of_arg);
        }
        let variable = arg.get_env().expect("every setting has a variable").to_string_lossy();
        let default = default(&arg).map_or_else(|| "none".into(), |value| format!("`{value}`"));
        text.push_str(&format!("| `{}`<br>`{variable}` | {default} | {} |\n", flag(&arg), meaning(&arg)));
    }
    text
}

/// The help of a setting, and the values where there are few.
fn meaning(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if values.is_empty() || !arg.get_action().takes_values() {
        return help;
    }
    format!("{help}. Values: {}", values.join(", "))
}

/// Variables that look like settings and are none: probably mistyped.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let settings = settings();
    let known: Vec<_> = settings.iter().filter_map(Arg::get_env).collect();
    names
        .filter(|name| !known.contains(&name.as_os_str()))
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with("WATCHWORD_"))
        // Kubernetes sets these in every pod for a Service with the name watchword.
        .filter(|name| !name.starts_with("WATCHWORD_PORT") && !name.starts_with("WATCHWORD_SERVICE_"))
        .collect()
}
