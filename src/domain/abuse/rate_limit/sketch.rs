//! The GCRA states of any number of rate-limit keys in a fixed amount of memory.
//!
//! A count-min sketch with conservative update (Cormode and Muthukrishnan 2005; Estan and Varghese 2002): each key has one
//! cell in each of four rows, selected by a keyed hash, and its state is the minimum of the four. Cells are never evicted or
//! lowered, so a flood of keys removes no key's state. Keys that share cells can only have a higher state than their own.
//!
//! The error is bounded: with N events that have not drained yet, a key's state is too high by more than ε·N increments with
//! a probability of at most δ, where ε is e divided by the cells of a row, and δ is e to the power of minus the rows: 1.8 %.
//! Each kind of limit has a sketch of its own, so that N is what this limit admits: no kind disturbs another, and no cell is
//! above the limit itself.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    time::{Duration, Instant},
};

const ROWS: usize = 4;

/// GCRA states by key.
pub(super) struct Sketch {
    start: Instant,
    /// When the state of each cell is empty, in nanoseconds since the start.
    cells: Box<[u64]>,
    cells_in_row: usize,
    seed: RandomState,
}

impl Sketch {
    /// A sketch with so many cells in each row, of 8 bytes, which the system allocates when they are used.
    pub(super) fn new(cells_in_row: usize, start: Instant) -> Self {
        Self { start, cells: vec![0; ROWS * cells_in_row].into(), cells_in_row, seed: RandomState::new() }
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
            let cell = self.seed.hash_one((row, key)) % self.cells_in_row as u64;
            row * self.cells_in_row + usize::try_from(cell).expect("it is less than the cells of a row")
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
    const CELLS: usize = 1 << 18;

    #[test]
    fn state_drains_and_belongs_to_one_key() {
        let start = System.monotonic();
        let mut sketch = Sketch::new(CELLS, start);
        sketch.raise(&"ada", start, 2 * INCREMENT);
        assert_eq!(sketch.get(&"ada", start + INCREMENT / 2), INCREMENT + INCREMENT / 2);
        assert_eq!(sketch.get(&"ada", start + 3 * INCREMENT), Duration::ZERO);
        assert_eq!(sketch.get(&"bob", start), Duration::ZERO);
    }

    /// T46: an attacker with made-up keys removes no state of other keys.
    #[test]
    fn million_keys_remove_no_state() {
        let start = System.monotonic();
        let mut sketch = Sketch::new(CELLS, start);
        sketch.raise(&"honest", start, 3 * INCREMENT);
        for key in 0..1_000_000_u32 {
            let state = sketch.get(&key, start) + INCREMENT;
            sketch.raise(&key, start, state);
        }
        assert!(sketch.get(&"honest", start) >= 3 * INCREMENT, "kept");
    }

    #[test]
    fn state_of_a_key_is_too_high_no_more_often_than_the_error_bound_says() {
        let start = System.monotonic();
        for (cells, events) in [(1 << 18, 1_000_000_u32), (1 << 16, 400_000), (1 << 12, 100_000)] {
            let mut sketch = Sketch::new(cells, start);
            for key in 0..events {
                let state = sketch.get(&key, start) + INCREMENT;
                sketch.raise(&key, start, state);
            }
            let allowed = INCREMENT.mul_f64(std::f64::consts::E * f64::from(events) / cells as f64);
            let others = events..events + 100_000;
            let wrong = others.filter(|key| sketch.get(key, start) > allowed).count();
            let delta = (-(ROWS as f64)).exp();
            assert!(wrong as f64 <= delta * 100_000.0, "{wrong} of 100 000 with {cells} cells");
        }
    }
}
