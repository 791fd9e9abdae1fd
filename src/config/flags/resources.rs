//! Flags of resource limits and of shutdown.

use std::{str::FromStr, time::Duration};

use clap::Args;

use super::values::number_between;

/// Resource limits.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Resource limits")]
pub struct ResourceArgs {
    /// Passwords hashed in parallel, --argon2-memory-kib of memory each (1 to 1024). auto: one per core, fewer if the machine
    /// or the container has little memory
    #[arg(long, env = "WATCHWORD_HASH_WORKERS", value_name = "COUNT", default_value = "auto")]
    pub hash_workers: Workers,

    /// Open connections per listener (1 to 1000000). The limit on open files of the process applies too
    #[arg(long, env = "WATCHWORD_CONNECTIONS_MAX", value_name = "COUNT", default_value_t = 10_000,
          value_parser = |text: &str| number_between::<u32>(text, 1, 1_000_000))]
    pub connections_max: u32,
}

/// Shutdown.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Shutdown")]
pub struct ShutdownArgs {
    /// Time after SIGTERM during which the node reports not ready and still accepts calls, so that load balancers notice
    #[arg(long, env = "WATCHWORD_DRAIN_DELAY", value_name = "TIME", default_value = "0s",
          value_parser = humantime::parse_duration)]
    pub drain_delay: Duration,

    /// Time for running calls to finish after --drain-delay
    #[arg(long, env = "WATCHWORD_DRAIN_TIMEOUT", value_name = "TIME", default_value = "10s",
          value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,
}

/// A number of hash workers, or as many as the machine allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers(pub Option<usize>);

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Workers(None)),
            Ok(count @ 1..=1_024) => Ok(Workers(Some(count))),
            Ok(_) | Err(_) => Err("expected auto, or a number from 1 to 1024".into()),
        }
    }
}
