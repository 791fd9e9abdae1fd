//! The binary on the command line: settings, help, commands, and what a start prints.

mod check_config;
mod commands;
mod files;
mod help;
mod start;

/// Listeners on any free ports of loopback.
const FREE_PORTS: [&str; 6] = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0"];

/// The number of settings of the service.
const SETTINGS: usize = 58;

/// The cells of one row of the `check-config` table.
fn cells(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
