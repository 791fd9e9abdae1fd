//! The binary: runs the command line and returns its exit code.

use std::{alloc::System, process::ExitCode};

use zeroizing_alloc::ZeroAlloc;

/// Overwrites each block before it is freed: passwords and tokens are also in buffers of libraries, which do not wipe them.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    watchword::cli::run()
}
