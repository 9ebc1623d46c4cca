//! Voters and storage that refuse.

use super::*;
use crate::kvs::fixture::{Said, at, drain, hours_later, id, voter};
use crate::kvs::horizon::Horizon;
use crate::kvs::key::SLOT_COUNT;
use crate::kvs::version::Version;
use crate::kvs::view::SlotView;
use crate::kvs::{Key, Reply};
use crate::store::{StoreError, Stored};

const FULL: Result<Stored, StoreError> = Err(StoreError::Full);

/// A write by this node's own caller, whose own storage answers so.
fn put(kvs: &mut Kvs, stored: Result<Stored, StoreError>) -> Said {
    let key = Key::new("a/0").unwrap();
    let value = Some(b"value".to_vec());
    kvs.put(RequestId(1), key, value, Mode::Quorum.into(), at(0));
    drain(kvs, at(0), stored)
}

fn answer(kvs: &mut Kvs, from: u8, write: u64, wrote: bool) -> Vec<Reply> {
    let refused = (!wrote).then_some(VoteError::Full);
    answer_with(kvs, from, write, refused)
}

fn answer_with(kvs: &mut Kvs, from: u8, write: u64, refused: Option<VoteError>) -> Vec<Reply> {
    let vote = match refused {
        None => Vote::Wrote { id: write, view: 3 },
        Some(why) => Vote::Refused { id: write, why },
    };
    kvs.on_message(id(from), Message::Vote(vote), at(10));
    drain(kvs, at(10), Ok(Stored::Done)).replies
}

#[test]
fn a_full_coordinator_acknowledges_what_the_others_hold() {
    let mut kvs = voter();
    let said = put(&mut kvs, FULL);
    assert_eq!(said.replies, []);
    let write = said.write();
    assert_eq!(answer(&mut kvs, 2, write, true), []);
    let replies = answer(&mut kvs, 3, write, true);
    let [Reply::Written { copies, .. }] = replies[..] else {
        panic!("{replies:?}");
    };
    assert_eq!((copies.have, copies.of), (2, 3));
}

#[test]
fn only_what_nobody_took_was_surely_not_applied() {
    for (second, third, expected) in [
        (false, false, RequestError::Full),
        (true, false, RequestError::OutcomeUnknown),
        (false, true, RequestError::OutcomeUnknown),
    ] {
        let mut kvs = voter();
        let write = put(&mut kvs, FULL).write();
        assert_eq!(answer(&mut kvs, 2, write, second), []);
        let replies = answer(&mut kvs, 3, write, third);
        assert_eq!(replies, [Reply::Failed(expected)], "{second} {third}");
        for (fellow, wrote, others) in [(2, second, third), (3, third, second)] {
            let level = kvs.peers.has_caught_up(&id(fellow));
            assert_eq!(level, wrote || !others, "{second} {third}: {fellow}");
        }
    }
}

#[test]
fn what_a_failing_disk_may_have_kept_is_not_surely_lost() {
    let failed = Err(StoreError::Failed);
    for (own, second, third) in [
        (failed.clone(), VoteError::Full, VoteError::Full),
        (FULL, VoteError::Failed, VoteError::Full),
        (FULL, VoteError::Full, VoteError::Failed),
    ] {
        let mut kvs = voter();
        let write = put(&mut kvs, own).write();
        assert_eq!(answer_with(&mut kvs, 2, write, Some(second)), []);
        let replies = answer_with(&mut kvs, 3, write, Some(third));
        assert_eq!(replies, [Reply::Failed(RequestError::OutcomeUnknown)]);
    }
}

#[test]
fn an_earlier_try_may_be_kept_though_all_refuse_the_next() {
    let mut kvs = voter();
    let write = put(&mut kvs, FULL).write();
    let (first, last) = (0, SLOT_COUNT - 1);
    let view = View {
        number: 4,
        voters: [id(1), id(2), id(4)].into(),
        previous: [id(1), id(2), id(3)].into(),
    };
    let why = VoteError::View(SlotView { first, last, view });
    let refused = Message::Vote(Vote::Refused { id: write, why });
    kvs.on_message(id(3), refused, at(10));
    let again = drain(&mut kvs, at(10), FULL).write();
    assert_ne!(again, write);
    let full = || {
        Message::Vote(Vote::Refused {
            id: again,
            why: VoteError::Full,
        })
    };
    kvs.on_message(id(2), full(), at(20));
    kvs.on_message(id(4), full(), at(20));
    let replies = drain(&mut kvs, at(20), FULL).replies;
    assert_eq!(replies, [Reply::Failed(RequestError::OutcomeUnknown)]);
}

#[test]
fn a_voter_that_cannot_read_does_not_vote() {
    let mut kvs = voter();
    let said = put(&mut kvs, Ok(Stored::Done));
    let version = said.messages.iter().find_map(|(_, message)| match message {
        Message::Vote(Vote::Write { entry, .. }) => Some(entry.version),
        _ => None,
    });
    let key = Key::new("a/0").unwrap();
    assert_eq!(kvs.index.version(&key), version.unwrap());
    for stored in [Err(StoreError::Failed), Ok(Stored::Value(None))] {
        let read = Vote::Read {
            id: 7,
            view: 3,
            key: key.clone(),
            have: Version::ZERO,
        };
        kvs.on_message(id(2), Message::Vote(read), at(20));
        let said = drain(&mut kvs, at(20), stored);
        let refused = Vote::Refused {
            id: 7,
            why: VoteError::NotReady,
        };
        assert_eq!(said.messages, [(id(2), Message::Vote(refused))]);
    }
}

#[test]
fn a_promise_is_no_vote_for_what_was_acknowledged() {
    for (refused, is_behind) in [
        (VoteError::Newer(Version::ZERO), false),
        (VoteError::Promised(Version::ZERO), true),
    ] {
        let mut kvs = voter();
        let write = put(&mut kvs, Ok(Stored::Done)).write();
        let replies = answer(&mut kvs, 2, write, true);
        assert!(matches!(replies[..], [Reply::Written { .. }]));
        assert_eq!(answer_with(&mut kvs, 3, write, Some(refused)), []);
        assert!(kvs.peers.has_caught_up(&id(3)));
        kvs.on_timeout(at(20_000));
        assert_eq!(!kvs.peers.has_caught_up(&id(3)), is_behind);
    }
}

#[test]
fn voters_are_behind_after_a_write_that_a_promise_ended() {
    let mut kvs = voter();
    let write = put(&mut kvs, Ok(Stored::Done)).write();
    answer_with(&mut kvs, 2, write, Some(VoteError::Promised(Version::ZERO)));
    assert!(!kvs.peers.has_caught_up(&id(2)));
}

/// A clock that nobody has confirmed may be wrong: what the others refuse for it is
/// not kept here.
#[test]
fn what_others_refuse_for_this_clock_is_not_left_here() {
    let hours_later = hours_later();
    let key = || Key::new("a/0").unwrap();
    for believed in [false, true] {
        let mut kvs = voter();
        let value = Some(b"value".to_vec());
        let terms = Mode::Quorum.into();
        kvs.put(RequestId(1), key(), value, terms, hours_later);
        let write = drain(&mut kvs, hours_later, Ok(Stored::Done)).write();
        assert_eq!(kvs.index.get(&key()), None, "the others come first");
        let vote = match believed {
            true => Vote::Wrote { id: write, view: 3 },
            false => Vote::Refused {
                id: write,
                why: VoteError::Ahead { unix_ms: 5 },
            },
        };
        kvs.on_message(id(2), Message::Vote(vote), hours_later);
        let said = drain(&mut kvs, hours_later, Ok(Stored::Done));
        assert_eq!(kvs.index.get(&key()).is_some(), believed);
        let written = matches!(said.replies[..], [Reply::Written { .. }]);
        assert_eq!(written, believed);
    }
}

/// All voters took it and collected it before this node's turn came: it is not kept
/// after that.
#[test]
fn what_was_collected_meanwhile_is_not_kept_last() {
    let hours_later = hours_later();
    let key = || Key::new("a/0").unwrap();
    for is_collected in [false, true] {
        let mut kvs = voter();
        let terms = Mode::Quorum.into();
        kvs.put(RequestId(1), key(), None, terms, hours_later);
        let write = drain(&mut kvs, hours_later, Ok(Stored::Done)).write();
        if is_collected {
            let slots = kvs.views.slots_where(|_| true);
            let later = Horizon::raised_to(hours_later.unix_ms + 1);
            kvs.horizons.adopt(&slots, later);
        }
        let vote = Vote::Wrote { id: write, view: 3 };
        kvs.on_message(id(2), Message::Vote(vote), hours_later);
        drain(&mut kvs, hours_later, Ok(Stored::Done));
        assert_eq!(kvs.index.get(&key()).is_none(), is_collected);
    }
}
