//! Partitions of the network.

use std::collections::BTreeSet;

use crate::world::World;

impl World {
    /// Parts the living processes in two; the second part is not heard by the
    /// first, or neither hears the other.
    pub fn part(&mut self, second: &BTreeSet<usize>, both_ways: bool) {
        self.log(|| format!("part {second:?} both_ways={both_ways}"));
        self.broken_at = self.now;
        for one in 0..self.processes.len() {
            for other in 0..self.processes.len() {
                if second.contains(&one) && !second.contains(&other) {
                    self.cut.insert((one, other));
                    if both_ways {
                        self.cut.insert((other, one));
                    }
                }
            }
        }
    }

    /// Everyone hears everyone again.
    pub fn heal(&mut self) {
        self.log(|| "heal".into());
        self.broken_at = self.now;
        self.cut.clear();
    }
}
