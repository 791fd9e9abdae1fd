//! The backlogs of any number of keys in a fixed amount of memory.
//!
//! A count-min sketch with conservative update (Estan and Varghese 2002): each key has a cell in each of four rows, chosen
//! by a hash that nobody outside knows, and its backlog is the least of the four. Nothing is ever evicted or lowered, so a
//! flood of keys takes no key's backlog away; keys that share cells can only be held to be busier than they are. With a million
//! busy keys one in some thousands is, by a share or two.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    time::{Duration, Instant},
};

const ROWS: usize = 4;

/// Cells of a row. Eight bytes each: 8 MiB in all, which the system gives when they are used.
const CELLS: usize = 1 << 18;

/// Backlogs by key.
pub(super) struct Sketch {
    start: Instant,
    /// When each cell's backlog is over, in nanoseconds since the start.
    cells: Box<[u64]>,
    seed: RandomState,
}

impl Sketch {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, cells: vec![0; ROWS * CELLS].into(), seed: RandomState::new() }
    }

    /// How much time a key's backlog takes.
    pub(super) fn get(&self, key: &impl Hash, now: Instant) -> Duration {
        let over = self.cells_of(key).map(|cell| self.cells[cell]).into_iter().min().unwrap_or(0);
        Duration::from_nanos(over.saturating_sub(self.nanos(now)))
    }

    /// Makes a key's backlog at least so long.
    pub(super) fn raise(&mut self, key: &impl Hash, now: Instant, state: Duration) {
        let over = self.nanos(now).saturating_add(u64::try_from(state.as_nanos()).unwrap_or(u64::MAX));
        for cell in self.cells_of(key) {
            self.cells[cell] = self.cells[cell].max(over);
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

    const SHARE: Duration = Duration::from_secs(60);

    #[test]
    fn a_backlog_drains_and_is_nobody_elses() {
        let start = System.monotonic();
        let mut sketch = Sketch::new(start);
        sketch.raise(&"ada", start, 2 * SHARE);
        assert_eq!(sketch.get(&"ada", start + SHARE / 2), SHARE + SHARE / 2);
        assert_eq!(sketch.get(&"ada", start + 3 * SHARE), Duration::ZERO);
        assert_eq!(sketch.get(&"bob", start), Duration::ZERO);
    }

    /// T46: an attacker who makes up keys takes nobody's backlog away, and gives hardly anybody one.
    #[test]
    fn a_million_keys_take_no_backlog_away_and_give_hardly_anybody_one() {
        let start = System.monotonic();
        let mut sketch = Sketch::new(start);
        sketch.raise(&"honest", start, 3 * SHARE);
        for key in 0..1_000_000_u32 {
            let backlog = sketch.get(&key, start) + SHARE;
            sketch.raise(&key, start, backlog);
        }
        assert!(sketch.get(&"honest", start) >= 3 * SHARE, "kept");
        let strangers = 1_000_000..1_100_000_u32;
        let refused = strangers.filter(|key| sketch.get(key, start) > 4 * SHARE).count();
        assert!(refused < 100, "{refused} of 100 000 who did nothing would be refused");
    }
}
