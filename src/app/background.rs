//! Tasks that run for the life of a node: store failed attempts, write merged audit lines, read the key ring, and release
//! memory.

use std::{convert::Infallible, time::Duration};

use tokio::time;

use crate::{common::host, domain::Auth, telemetry::Audit};

/// How often a node without calls reads the key ring.
const READ_KEYS_INTERVAL: Duration = Duration::from_secs(60);

/// How often failed attempts are stored. Those of the last interval are lost by `kill -9`, and unknown to other nodes.
const STORE_FAILURES_INTERVAL: Duration = Duration::from_secs(1);

/// How often merged audit lines are written.
const MERGED_LINES_INTERVAL: Duration = Duration::from_secs(1);

/// How often the memory of the process is measured, and the growth from which on it is released.
const MEMORY_INTERVAL: Duration = Duration::from_secs(5);
const MEMORY_GROWTH_BYTES: u64 = 4 * 1024 * 1024;

/// How many times memory is released after a growth: for five minutes, as long as a connection may be idle.
const MEMORY_RELEASES: u32 = 60;

/// Returns memory that the allocator keeps after a burst of calls to the operating system, when no hash is running.
pub(super) async fn release_memory(auth: &Auth) -> Infallible {
    let (mut lowest, mut releases_left) = (host::resident_bytes().unwrap_or(u64::MAX), 0);
    loop {
        time::sleep(MEMORY_INTERVAL).await;
        let resident = host::resident_bytes().unwrap_or_default();
        if resident > lowest.saturating_add(MEMORY_GROWTH_BYTES) {
            // Open connections keep their memory, so it is released again after they may have closed.
            (lowest, releases_left) = (resident, MEMORY_RELEASES);
        }
        lowest = lowest.min(resident);
        if releases_left > 0 && auth.hash_pool().is_idle() {
            host::release_memory();
            releases_left -= 1;
        }
    }
}

/// Stores the failed attempts that were counted since the last time.
pub(super) async fn store_failures(auth: &Auth) -> Infallible {
    loop {
        time::sleep(STORE_FAILURES_INTERVAL).await;
        auth.store_failed_attempts().await;
    }
}

/// Writes the lines of audit events that were merged.
pub(super) async fn write_merged_audit_lines(audit: &Audit) -> Infallible {
    loop {
        time::sleep(MERGED_LINES_INTERVAL).await;
        audit.write_merged();
    }
}

/// Reads the key ring at an interval, so that the readiness of a node without calls is correct.
pub(super) async fn read_keys(auth: &Auth) -> Infallible {
    loop {
        time::sleep(READ_KEYS_INTERVAL).await;
        // An error shows in the readiness.
        drop(auth.public_keys().await);
    }
}
