//! A table in two generations, for caches that forget in bulk: entries are added to the young one, and a whole generation
//! is dropped at once when the next one begins.
//!
//! Memory is bounded by the limit that the owner puts on one generation. Decides nothing about time.

use std::mem;

/// Two generations of `T`, which is a map or a few of them.
#[derive(Default)]
pub(crate) struct Generations<T> {
    pub(crate) young: T,
    pub(crate) old: T,
}

impl<T: Default> Generations<T> {
    /// Looks in the young generation, then in the old one.
    pub(crate) fn find<'a, V: ?Sized>(&'a self, look: impl Fn(&'a T) -> Option<&'a V>) -> Option<&'a V> {
        look(&self.young).or_else(|| look(&self.old))
    }

    /// Begins a new young generation: the old one is dropped, the young one becomes old.
    pub(crate) fn begin(&mut self) {
        self.old = mem::take(&mut self.young);
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn entry_survives_one_new_generation_and_not_two() {
        let mut table = Generations::<HashMap<u8, u8>>::default();
        table.young.insert(1, 10);
        table.begin();
        assert_eq!(table.find(|map| map.get(&1)), Some(&10));
        table.young.insert(1, 11);
        assert_eq!(table.find(|map| map.get(&1)), Some(&11), "the young one hides the old one");
        table.begin();
        table.begin();
        assert_eq!(table.find(|map| map.get(&1)), None);
    }
}
