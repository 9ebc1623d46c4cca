//! Known bugs, switched on one at a time to show that the simulator catches
//! them. Compiled under `--cfg planted_bugs` only.

use core::sync::atomic::{AtomicUsize, Ordering};

/// The bugs that can be planted.
pub const BUGS: [&str; 22] = [
    "no_rectify",
    "vote_from_other_view",
    "fill_from_one",
    "reply_before_sync",
    "drop_before_taken",
    "two_change_a_view",
    "no_wrap_around",
    "dead_imported",
    "stale_ballot",
    "retry_applied_twice",
    "wrong_join",
    "alone_without_agreement",
    "list_from_one",
    "expires_by_local_clock",
    "watch_goes_on",
    "tombstone_early",
    "reply_before_majority",
    "vote_before_refill",
    "hint_dropped",
    "answer_resends_nothing",
    "repeat_is_taken",
    "old_session_goes_on",
];

static PLANTED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Plants one bug in all nodes of this process, or none.
pub fn plant(bug: Option<&str>) {
    let index = bug.and_then(|bug| BUGS.iter().position(|known| *known == bug));
    PLANTED.store(index.unwrap_or(usize::MAX), Ordering::SeqCst);
}

pub(crate) fn is(bug: &str) -> bool {
    BUGS.get(PLANTED.load(Ordering::SeqCst)) == Some(&bug)
}
