//! The account of what a socket was given and has not yet let go, by lane.

use std::collections::VecDeque;

use roundelay_core::Lane;

/// What the browser still buffers, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Account {
    given: VecDeque<(Lane, usize)>,
    bytes: usize,
}

impl Account {
    /// A message was handed to the browser.
    pub(crate) fn give(&mut self, lane: Lane, bytes: usize) {
        self.given.push_back((lane, bytes));
        self.bytes += bytes;
    }

    /// Whether something is outstanding.
    pub(crate) fn is_open(&self) -> bool {
        !self.given.is_empty()
    }

    /// The browser buffers `buffered` bytes now. Reports, message by message,
    /// what may be replaced: all of it when at most `small` bytes wait, else
    /// what has left since.
    pub(crate) fn settle(
        &mut self,
        buffered: usize,
        small: usize,
        mut report: impl FnMut(Lane, usize),
    ) {
        let held = if buffered <= small { 0 } else { buffered };
        while let Some((lane, bytes)) = self.given.front().copied() {
            if self.bytes < held + bytes {
                break;
            }
            self.given.pop_front();
            self.bytes -= bytes;
            report(lane, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    #[wasm_bindgen_test(unsupported = test)]
    fn what_left_is_reported_once_and_in_order() {
        let mut account = Account::default();
        account.give(Lane::Kv, 100);
        account.give(Lane::Control, 10);
        let mut settle = |buffered, small| {
            let mut reports = Vec::new();
            account.settle(buffered, small, |lane, bytes| reports.push((lane, bytes)));
            reports
        };
        assert_eq!(settle(60, 20), []);
        assert_eq!(settle(30, 20), []);
        assert_eq!(settle(10, 5), [(Lane::Kv, 100)]);
        assert_eq!(settle(10, 10), [(Lane::Control, 10)]);
        assert_eq!(settle(0, 10), []);
    }
}
