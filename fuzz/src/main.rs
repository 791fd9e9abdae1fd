//! Runs one target of `watchword::fuzz` with libFuzzer. `fuzz/run` builds and starts it.
//!
//! `FUZZ_TARGET` names the target and `FUZZ_SEEDS` a folder for its seeds. An input crashes if it violates an
//! assertion or if the memory of the process has grown by more than `GROWTH_KIB_MAX`.

#![no_main]

use std::{
    env, fs,
    sync::{
        LazyLock, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use watchword::fuzz::{TARGETS, Target};

/// The limit of memory growth for any number of inputs (T22), including the fuzzer's own memory.
const GROWTH_KIB_MAX: u64 = 32 * 1024;

/// Inputs until all one-time allocations have been made.
const WARM_UP_INPUTS: u64 = 20_000;

/// Inputs between two checks of the memory.
const CHECK_EVERY_INPUTS: u64 = 1_000;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    TARGETS.into_iter().find(|target| target.name == name).unwrap_or_else(|| {
        panic!("FUZZ_TARGET must be one of {}", TARGETS.map(|target| target.name).join(", "));
    })
});

libfuzzer_sys::fuzz_target!(
    init: {
        if let Some(folder) = env::var_os("FUZZ_SEEDS").map(std::path::PathBuf::from) {
            for (number, seed) in (TARGET.seeds)().into_iter().enumerate() {
                fs::write(folder.join(number.to_string()), seed).expect("the folder for seeds is writable");
            }
        }
    },
    |input: &[u8]| {
        (TARGET.try_input)(input);
        check_memory();
    }
);

fn check_memory() {
    static INPUTS: AtomicU64 = AtomicU64::new(0);
    static BASELINE_KIB: OnceLock<u64> = OnceLock::new();
    let inputs = INPUTS.fetch_add(1, Ordering::Relaxed);
    if inputs >= WARM_UP_INPUTS && inputs.is_multiple_of(CHECK_EVERY_INPUTS) {
        let now = resident_kib_max();
        let grown = now.saturating_sub(*BASELINE_KIB.get_or_init(|| now));
        assert!(grown < GROWTH_KIB_MAX, "memory has grown by {grown} KiB since the warm-up");
    }
}

/// The peak memory of this process, in KiB.
fn resident_kib_max() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has /proc/self/status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("every process has VmHWM");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("VmHWM is a number of KiB")
}
