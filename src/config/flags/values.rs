//! Values that flags of several headings take.

use std::{fmt::Display, str::FromStr, time::Duration};

use clap::ValueEnum;

/// On, off, or where it is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Where only this machine can reach it.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Switch {
    On,
    Off,
}

impl When {
    /// Whether it is on at a listener that only this machine can reach, or that others can.
    pub fn is_on(self, listener_is_local: bool) -> bool {
        match self {
            When::Auto => listener_is_local,
            When::On => true,
            When::Off => false,
        }
    }
}

/// Parses a duration such as `5m`, or names the range.
pub(super) fn duration_between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).ok().filter(|time| (least..=most).contains(time));
    let [least, most] = [least, most].map(humantime::format_duration);
    time.ok_or_else(|| format!("expected {least} to {most}, a number with a unit such as ms, s, m, h or d"))
}

/// Parses a number, or names the range.
pub(super) fn number_between<T: FromStr + PartialOrd + Display>(text: &str, least: T, most: T) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| (&least..=&most).contains(&number));
    number.ok_or_else(|| format!("expected a number from {least} to {most}"))
}
