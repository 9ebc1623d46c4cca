//! Counters by name.

use alloc::collections::BTreeMap;

/// Counts by name. The names are the program's own, so that there are few.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(BTreeMap<&'static str, u64>);

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

/// Frames that crossed core's border.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    frames_in: u64,
    frame_bytes_in: u64,
    frames_out: u64,
    frame_bytes_out: u64,
}

impl Traffic {
    pub(crate) fn add_in(&mut self, bytes: usize) {
        self.frames_in += 1;
        self.frame_bytes_in += bytes as u64;
    }

    pub(crate) fn add_out(&mut self, bytes: usize) {
        self.frames_out += 1;
        self.frame_bytes_out += bytes as u64;
    }

    pub(crate) const fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("frames_in", self.frames_in),
            ("frame_bytes_in", self.frame_bytes_in),
            ("frames_out", self.frames_out),
            ("frame_bytes_out", self.frame_bytes_out),
        ]
    }
}
