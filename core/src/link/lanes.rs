//! The lanes of one link: what waits, what is on its way, and who goes first.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::event::Lane;

/// Bytes that may be outstanding at the driver, by lane.
const OUTSTANDING_MAX: [usize; 4] = [64 << 10, 1 << 20, 256 << 10, 256 << 10];

/// Bytes that may wait in core, by lane. A message that does not fit is
/// refused to its sender, which asks again later or reports that it is busy.
const WAITING_MAX: [usize; 4] = [256 << 10, 16 << 20, 4 << 20, 1 << 20];

/// A lane has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneFull;

/// The four lanes of one link.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: [LaneState; 4],
}

#[derive(Debug, Default)]
struct LaneState {
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    outstanding: usize,
}

impl Lanes {
    /// Puts a message at the end of its lane.
    pub(super) fn push(&mut self, lane: Lane, bytes: Vec<u8>) -> Result<(), LaneFull> {
        let limit = limit(&WAITING_MAX, lane);
        let state = self.state(lane);
        if state.waiting_bytes + bytes.len() > limit {
            return Err(LaneFull);
        }
        state.waiting_bytes += bytes.len();
        state.waiting.push_back(bytes);
        Ok(())
    }

    /// How many bytes wait in a lane.
    pub(super) fn waiting(&self, lane: Lane) -> usize {
        let [control, kv, repair, bulk] = &self.lanes;
        let state = match lane {
            Lane::Control => control,
            Lane::Kv => kv,
            Lane::Repair => repair,
            Lane::Bulk => bulk,
        };
        state.waiting_bytes
    }

    /// The next message that may be sent, most urgent lane first.
    pub(super) fn pop(&mut self) -> Option<(Lane, Vec<u8>)> {
        Lane::ALL.into_iter().find_map(|lane| {
            let limit = limit(&OUTSTANDING_MAX, lane);
            let state = self.state(lane);
            if state.outstanding >= limit {
                return None;
            }
            let bytes = state.waiting.pop_front()?;
            state.waiting_bytes -= bytes.len();
            state.outstanding += bytes.len();
            Some((lane, bytes))
        })
    }

    /// Bytes left the driver.
    pub(super) fn drained(&mut self, lane: Lane, bytes: usize) {
        let state = self.state(lane);
        state.outstanding = state.outstanding.saturating_sub(bytes);
    }

    fn state(&mut self, lane: Lane) -> &mut LaneState {
        let [control, kv, repair, bulk] = &mut self.lanes;
        match lane {
            Lane::Control => control,
            Lane::Kv => kv,
            Lane::Repair => repair,
            Lane::Bulk => bulk,
        }
    }
}

fn limit(limits: &[usize; 4], lane: Lane) -> usize {
    let [control, kv, repair, bulk] = *limits;
    match lane {
        Lane::Control => control,
        Lane::Kv => kv,
        Lane::Repair => repair,
        Lane::Bulk => bulk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgent_lanes_go_first_and_every_lane_is_bounded() {
        let mut lanes = Lanes::default();
        lanes.push(Lane::Bulk, vec![1]).unwrap();
        lanes.push(Lane::Control, vec![2]).unwrap();
        assert_eq!(lanes.pop(), Some((Lane::Control, vec![2])));
        assert_eq!(lanes.pop(), Some((Lane::Bulk, vec![1])));
        assert_eq!(lanes.pop(), None);

        while lanes.push(Lane::Control, vec![0; 1 << 10]).is_ok() {}
        let mut sent = 0;
        while lanes.pop().is_some() {
            sent += 1;
        }
        assert_eq!(sent, 64, "one byte was outstanding already");
        lanes.drained(Lane::Control, 2 << 10);
        assert!(lanes.pop().is_some());
    }

    use alloc::vec;
}
