//! The host: limits of cores, memory and open files, returning freed memory, and no core dumps.

use std::{fs, io, path::Path, thread};

#[cfg(target_os = "linux")]
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are reserved for the store, the log and the runtime.
const FILES_RESERVED: u64 = 64;

/// Cores that this process may use, within the CPU limit of a container.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The number of hash workers: one per core, and at most as many arenas as half of the memory holds.
pub fn hash_workers(arena_bytes: u64) -> usize {
    let arenas = memory_bytes().map_or(u64::MAX, |limit| limit / 2 / arena_bytes.max(1));
    cores().min(usize::try_from(arenas).unwrap_or(usize::MAX)).max(1)
}

/// The memory of the machine, or the memory limit of this process where that is less.
pub fn memory_bytes() -> Option<u64> {
    let machine = || {
        let sizes = fs::read_to_string("/proc/meminfo").ok()?;
        let total = sizes.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        total.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
    };
    memory_limit_bytes().into_iter().chain(machine()).min()
}

/// The smallest memory limit of the control groups of this process (cgroup v1 and v2), if one is set.
fn memory_limit_bytes() -> Option<u64> {
    fs::read_to_string("/proc/self/cgroup").ok()?.lines().filter_map(memory_limit_of).min()
}

/// The smallest memory limit of a group and those above it, by its line in `/proc/self/cgroup`: a number, the controllers of
/// a v1 hierarchy, and the path of the group (cgroups(7)).
fn memory_limit_of(line: &str) -> Option<u64> {
    let (_, group) = line.split_once(':')?;
    let (controllers, group) = group.split_once(':')?;
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        v1 if v1.split(',').any(|controller| controller == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    // In a container the root is its own group, and the path is that of the host, which may not exist here.
    let group = Path::new(root).join(group.trim_start_matches('/'));
    let groups = group.ancestors().take_while(|path| path.starts_with(root));
    // "max" does not parse: no limit. Without one, v1 has a number that is larger than any memory.
    groups.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()).min()
}

/// Resident memory of this process in bytes, including shared files.
pub fn resident_bytes() -> Option<u64> {
    let sizes = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = sizes.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

/// Returns freed memory that the allocator keeps to the operating system. Takes milliseconds, during which allocations wait.
pub fn release_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "no crate offers a safe wrapper")]
    // SAFETY: takes a number, and any thread may call it at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Keeps the memory of this process from other processes of its user and from core dumps, because it has passwords. Root can
/// still read it.
///
/// # Errors
/// A policy forbids the call.
pub fn forbid_memory_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // The limit does not hold for a program that the kernel pipes dumps to (core(5)).
    #[cfg(target_os = "linux")]
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Raises the limit of open files to the maximum, and returns how many connections each of `listeners` may have.
pub fn connections_max(listeners: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Fails where a policy forbids it. Then the current limit applies.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let files = if raised { maximum } else { current };
    let connections = files.map_or(u64::MAX, |files| files.saturating_sub(FILES_RESERVED));
    (usize::try_from(connections).unwrap_or(usize::MAX) / listeners).max(1)
}
