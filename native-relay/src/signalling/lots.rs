//! Reports of drained bytes, in lots.

use roundelay_core::Lane;

/// Bytes that are gathered before they are reported: a fraction of what core
/// lets be outstanding in its smallest lane, so that it never waits for a
/// report, and is not woken for every small message either.
const LOT: usize = 16 << 10;

/// Sums of bytes by lane.
#[derive(Debug, Default)]
pub(crate) struct Lots([usize; Lane::ALL.len()]);

impl Lots {
    /// Adds bytes; tells the sum once it is worth a report, and starts anew.
    pub(crate) fn add(&mut self, lane: Lane, bytes: usize) -> Option<usize> {
        let sum = self.0.get_mut(lane as usize)?;
        *sum += bytes;
        (*sum >= LOT).then(|| std::mem::take(sum))
    }
}
