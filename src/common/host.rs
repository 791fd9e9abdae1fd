//! What this machine allows, cores, memory, open files; and memory given back to it.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are not connections: the store, the log, the runtime.
const FILES_RESERVED: u64 = 64;

/// Cores that this process may use; a container's CPU limit counts.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Hashes at once that fit: one a core, and no more arenas than half of a container's memory holds.
pub fn hash_workers(arena_bytes: u64) -> usize {
    let fit = memory_limit_bytes().map_or(u64::MAX, |limit| limit / 2 / arena_bytes.max(1));
    cores().min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
}

/// The smallest memory limit of the control groups that this process is in (cgroup v2), if there is one.
pub fn memory_limit_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let group = PathBuf::from("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    group.ancestors().take_while(|path| path.starts_with("/sys/fs/cgroup")).filter_map(limit_of).min()
}

/// Memory of this process that is in use, in bytes; shared files included.
pub fn resident_bytes() -> Option<u64> {
    let sizes = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = sizes.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

/// Gives memory back that was freed and that the allocator keeps. Takes milliseconds, in which others wait for memory.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "no library offers it without")]
    // SAFETY: it takes a number, and may be called at any time by any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

fn limit_of(group: &Path) -> Option<u64> {
    // "max" is no number, and no limit.
    fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok()
}

/// Asks for as many open files as are allowed, and says how many connections fit on each of `listeners`.
pub fn connections_possible(listeners: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Refused where a policy forbids it; then the present limit counts.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let files = if raised { maximum } else { current };
    let connections = files.map_or(u64::MAX, |files| files.saturating_sub(FILES_RESERVED));
    (usize::try_from(connections).unwrap_or(usize::MAX) / listeners).max(1)
}
