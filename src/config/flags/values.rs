//! Values that flags of several headings take.

use std::time::Duration;

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

/// Parses a duration such as `5m`, and names the range when it is outside.
pub(super) fn duration_between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|fault| fault.to_string())?;
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    Err(format!("expected {} to {}", humantime::format_duration(least), humantime::format_duration(most)))
}
