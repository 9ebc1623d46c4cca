//! Counters by name.

use crate::flat::FlatMap;

/// Counts by name. The names are the program's own, so that there are few.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(FlatMap<&'static str, u64>);

impl Counters {
    pub(crate) fn add(&mut self, name: &'static str) {
        self.add_many(name, 1);
    }

    pub(crate) fn add_many(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(name, count)| (*name, *count))
    }
}
