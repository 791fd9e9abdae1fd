//! The binary: hands over to the command line and turns its word into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    watchword::cli::run()
}
