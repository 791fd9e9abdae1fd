//! One target of `watchword::fuzz` under libFuzzer. `fuzz/run` builds and starts it.
//!
//! `FUZZ_TARGET` names the target and `FUZZ_SEEDS` a folder for its seeds. An input that breaks a promise is a crash, and so
//! is one with which the memory of the process has grown by more than `GROWTH_KIB_MAX`.

#![no_main]

use std::{
    env, fs,
    sync::{
        LazyLock, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use watchword::fuzz::{TARGETS, Target};

/// What any number of inputs may add to the memory of the process (T22), the fuzzer's own with it.
const GROWTH_KIB_MAX: u64 = 32 * 1024;

/// Inputs after which everything has been set up that is set up once.
const WARM_AFTER_INPUTS: u64 = 20_000;

/// Inputs between two looks at the memory.
const LOOK_EVERY_INPUTS: u64 = 1_000;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    TARGETS.into_iter().find(|target| target.name == name).unwrap_or_else(|| {
        panic!("FUZZ_TARGET is none of {}", TARGETS.map(|target| target.name).join(", "));
    })
});

libfuzzer_sys::fuzz_target!(
    init: {
        if let Some(folder) = env::var_os("FUZZ_SEEDS").map(std::path::PathBuf::from) {
            for (number, seed) in (TARGET.seeds)().into_iter().enumerate() {
                fs::write(folder.join(number.to_string()), seed).expect("the folder for seeds takes files");
            }
        }
    },
    |input: &[u8]| {
        (TARGET.try_input)(input);
        look_at_memory();
    }
);

fn look_at_memory() {
    static INPUTS: AtomicU64 = AtomicU64::new(0);
    static WARM_KIB: OnceLock<u64> = OnceLock::new();
    let inputs = INPUTS.fetch_add(1, Ordering::Relaxed);
    if inputs >= WARM_AFTER_INPUTS && inputs.is_multiple_of(LOOK_EVERY_INPUTS) {
        let now = resident_kib_max();
        let grown = now.saturating_sub(*WARM_KIB.get_or_init(|| now));
        assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more than when everything was set up");
    }
}

/// The most memory that this process has had at once.
fn resident_kib_max() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("every process has it");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number of KiB")
}
