//! The GCRA states of any number of rate-limit keys in a fixed amount of memory.
//!
//! A count-min sketch with conservative update (Estan and Varghese 2002): each key has one cell in each of four rows,
//! selected by a keyed hash, and its state is the minimum of the four. Cells are never evicted or lowered, so a flood of
//! keys removes no key's state. Keys that share cells can only have a higher state than their own: with a million busy
//! keys, one in some thousands by one or two increments.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    time::{Duration, Instant},
};

const ROWS: usize = 4;

/// Cells per row. Eight bytes each: 8 MiB in total, which the system allocates when they are used.
const CELLS: usize = 1 << 18;

/// GCRA states by key.
pub(super) struct Sketch {
    start: Instant,
    /// When the state of each cell is empty, in nanoseconds since the start.
    cells: Box<[u64]>,
    seed: RandomState,
}

impl Sketch {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, cells: vec![0; ROWS * CELLS].into(), seed: RandomState::new() }
    }

    /// The state of a key.
    pub(super) fn get(&self, key: &impl Hash, now: Instant) -> Duration {
        let empty_at = self.cells_of(key).map(|cell| self.cells[cell]).into_iter().min().unwrap_or(0);
        Duration::from_nanos(empty_at.saturating_sub(self.nanos(now)))
    }

    /// Raises the state of a key to at least `state`.
    pub(super) fn raise(&mut self, key: &impl Hash, now: Instant, state: Duration) {
        let empty_at = self.nanos(now).saturating_add(u64::try_from(state.as_nanos()).unwrap_or(u64::MAX));
        for cell in self.cells_of(key) {
            self.cells[cell] = self.cells[cell].max(empty_at);
        }
    }

    fn cells_of(&self, key: &impl Hash) -> [usize; ROWS] {
        std::array::from_fn(|row| {
            let cell = self.seed.hash_one((row, key)) % CELLS as u64;
            row * CELLS + usize::try_from(cell).expect("it is less than CELLS")
        })
    }

    fn nanos(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ports::{Clock, System};

    const INCREMENT: Duration = Duration::from_secs(60);

    #[test]
    fn state_drains_and_belongs_to_one_key() {
        let start = System.monotonic();
        let mut sketch = Sketch::new(start);
        sketch.raise(&"ada", start, 2 * INCREMENT);
        assert_eq!(sketch.get(&"ada", start + INCREMENT / 2), INCREMENT + INCREMENT / 2);
        assert_eq!(sketch.get(&"ada", start + 3 * INCREMENT), Duration::ZERO);
        assert_eq!(sketch.get(&"bob", start), Duration::ZERO);
    }

    /// T46: an attacker with made-up keys removes no state of other keys, and raises few of them.
    #[test]
    fn million_keys_remove_no_state_and_raise_few_others() {
        let start = System.monotonic();
        let mut sketch = Sketch::new(start);
        sketch.raise(&"honest", start, 3 * INCREMENT);
        for key in 0..1_000_000_u32 {
            let state = sketch.get(&key, start) + INCREMENT;
            sketch.raise(&key, start, state);
        }
        assert!(sketch.get(&"honest", start) >= 3 * INCREMENT, "kept");
        let other_keys = 1_000_000..1_100_000_u32;
        let refused = other_keys.filter(|key| sketch.get(key, start) > 4 * INCREMENT).count();
        assert!(refused < 100, "{refused} of 100 000 unused keys would be refused");
    }
}
