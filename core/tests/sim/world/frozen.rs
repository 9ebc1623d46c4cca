//! Processes that do nothing for a while.

use super::{End, Happening, World};

impl World {
    /// A process does nothing from now on, and is not dead.
    pub fn freeze(&mut self, index: usize) {
        self.log(|| format!("freeze p{index}"));
        self.frozen.entry(index).or_default();
    }

    /// All transports of a process break, as those of a computer that slept.
    pub fn break_links(&mut self, index: usize) {
        self.log(|| format!("break the links of p{index}"));
        let ends = self.wires.keys().copied();
        let own = ends.filter(|end| matches!(end, End::Node(own, _) if *own == index));
        for end in own.collect::<Vec<_>>() {
            for end in [Some(end), self.cut(end)].into_iter().flatten() {
                let latency = self.latency();
                self.queue(latency, Happening::Closed(end));
            }
        }
    }

    pub fn is_frozen(&self, index: usize) -> bool {
        self.frozen.contains_key(&index)
    }

    /// It goes on, and finds all that has happened.
    pub fn thaw(&mut self, index: usize) {
        self.processes[index].placed_at = None;
        for what in self.frozen.remove(&index).into_iter().flatten() {
            self.queue(0, what);
        }
    }
}
