//! The bound on repeating a compare-and-set that another writer was faster with.
//!
//! `for () in cas_attempts() { read; change; write, and return if nothing changed meanwhile }`. A closure would read better,
//! but the futures of asynchronous closures are not known to be `Send` in spawned tasks (Rust 1.95).

/// Attempts before a compare-and-set gives up. The writers that were faster made progress.
const ATTEMPTS_MAX: usize = 16;

/// One item for each attempt.
pub(in crate::domain) fn cas_attempts() -> impl Iterator<Item = ()> + Send {
    std::iter::repeat_n((), ATTEMPTS_MAX)
}
