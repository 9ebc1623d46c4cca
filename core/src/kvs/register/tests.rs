//! What a register leaves behind that ends without a majority.

use super::*;
use crate::kvs::fixture::{Said, at, drain, hours_later, id, voter};
use crate::kvs::request::RequestId;
use crate::kvs::three::{HOUR, MINUTE, Three, key};
use crate::kvs::{Mode, Reply};
use crate::store::{StoreError, Stored};

const DONE: Result<Stored, StoreError> = Ok(Stored::Done);

/// Another voter has nothing, and says so.
fn promise(kvs: &mut Kvs, said: &Said) -> Said {
    let mut prepared = said
        .messages
        .iter()
        .filter_map(|(_, message)| match message {
            Message::Vote(Vote::Prepare(asked)) => Some(asked.id),
            _ => None,
        });
    let promised = Vote::Promised {
        id: prepared.next().expect("nobody was asked"),
        view: 3,
        version: Version::ZERO,
        newer: None,
    };
    kvs.on_message(id(2), Message::Vote(promised), at(10));
    drain(kvs, at(10), DONE)
}

/// Nobody answers any more.
fn assert_leaves_others_behind(kvs: &mut Kvs) {
    assert!(kvs.peers.has_caught_up(&id(2)));
    kvs.on_timeout(at(20_000));
    assert!(!kvs.peers.has_caught_up(&id(2)));
}

#[test]
fn voters_are_behind_after_a_write_that_too_few_took() {
    let mut kvs = voter();
    let (key, value) = (Key::new("a/0").unwrap(), Some(b"value".to_vec()));
    kvs.put(RequestId(1), key, value, Mode::Linearizable.into(), at(0));
    let said = drain(&mut kvs, at(0), DONE);
    promise(&mut kvs, &said).write();
    assert_leaves_others_behind(&mut kvs);
}

#[test]
fn voters_are_behind_after_a_read_that_could_not_bring_them_level() {
    let mut kvs = voter();
    let (key, value) = (Key::new("a/0").unwrap(), Some(b"value".to_vec()));
    kvs.put(
        RequestId(1),
        key.clone(),
        value.clone(),
        Mode::Quorum.into(),
        at(0),
    );
    let write = drain(&mut kvs, at(0), DONE).write();
    let wrote = Vote::Wrote { id: write, view: 3 };
    kvs.on_message(id(2), Message::Vote(wrote), at(5));
    let version = kvs.index.version(&key);
    kvs.get(RequestId(2), key, Mode::Linearizable, at(10));
    let expires = None;
    let entry = Entry {
        version,
        value,
        expires,
    };
    let stored = Ok(Stored::Value(Some(crate::wire::encode(&entry))));
    let said = drain(&mut kvs, at(10), stored);
    promise(&mut kvs, &said).write();
    assert_leaves_others_behind(&mut kvs);
}

/// A ballot that all others refuse for this node's clock leaves no promise here: it
/// would keep everything off that they write.
#[test]
fn of_a_clock_that_is_wrong_no_promise_is_left() {
    let mut kvs = voter();
    let hours_later = hours_later();
    let (key, value) = (key(), Some(b"value".to_vec()));
    let terms = Mode::Linearizable.into();
    kvs.put(RequestId(1), key.clone(), value, terms, hours_later);
    let said = drain(&mut kvs, hours_later, DONE);
    let asked = said
        .messages
        .iter()
        .filter_map(|(to, message)| match message {
            Message::Vote(Vote::Prepare(asked)) => Some((*to, asked.id)),
            _ => None,
        });
    let asked: Vec<(NodeId, u64)> = asked.collect();
    assert_eq!(asked.len(), 2);
    for (voter, vote) in asked {
        assert_eq!(kvs.promised(&key), Version::ZERO);
        let why = VoteError::Ahead { unix_ms: 5 };
        let refused = Message::Vote(Vote::Refused { id: vote, why });
        kvs.on_message(voter, refused, hours_later);
        drain(&mut kvs, hours_later, DONE);
    }
    assert_eq!(kvs.promised(&key), Version::ZERO);
    assert_eq!(kvs.index.get(&key), None);
}

#[test]
fn a_coordinator_whose_clock_is_wrong_follows_the_others() {
    let mut three = Three::new([2 * HOUR, 0, 0]);
    let reply = three.put(0, "value", Mode::Linearizable.into());
    let Reply::Written { version, .. } = reply else {
        panic!("{reply:?}");
    };
    assert!(version.unix_ms() < HOUR + MINUTE);
    three.pass(1000);
    assert!((0..3).all(|index| three.held(index) == (version, false)));
}

/// A voter whose clock is wrong, too, would promise it, and take nothing else.
#[test]
fn nobody_is_asked_to_promise_what_this_clock_does_not_believe() {
    let mut kvs = voter();
    for (ahead, is_believed) in [(MINUTE, true), (10 * HOUR, false)] {
        let op = Op::Put {
            key: key(),
            value: Some(b"value".to_vec()),
            mode: Mode::Linearizable,
            version: Version::end_of(ahead),
            ttl: None,
            condition: None,
        };
        let ask = Message::Ask { id: ahead, op };
        kvs.on_message(id(4), ask, at(0));
        let said = drain(&mut kvs, at(0), DONE);
        let is_asked = said
            .messages
            .iter()
            .any(|(_, message)| matches!(message, Message::Vote(Vote::Prepare(_))));
        let is_ahead = said.messages.iter().any(|(to, message)| {
            let answer = Message::Answer {
                id: ahead,
                outcome: Outcome::Ahead { unix_ms: 0 },
            };
            (*to, message) == (id(4), &answer)
        });
        assert_eq!((is_asked, is_ahead), (is_believed, !is_believed));
        kvs.registers = Registers::default();
    }
}

/// A write that is tried again is known by its version, or by a later one. An earlier
/// name, by a clock that is behind, would hide that it was applied.
#[test]
fn what_is_completed_gets_no_earlier_name() {
    for (stamp, is_named) in [(5, true), (10 * MINUTE, false)] {
        let mut kvs = voter();
        kvs.complete(key(), at(10));
        let said = drain(&mut kvs, at(10), DONE);
        let mut asked = said
            .messages
            .iter()
            .filter_map(|(_, message)| match message {
                Message::Vote(Vote::Prepare(asked)) => Some(asked.id),
                _ => None,
            });
        let version = Version::end_of(stamp).marked(2);
        let entry = Entry {
            version,
            value: Some(b"value".to_vec()),
            expires: None,
        };
        let promised = Vote::Promised {
            id: asked.next().expect("nobody was asked"),
            view: 3,
            version,
            newer: Some(entry),
        };
        kvs.on_message(id(2), Message::Vote(promised), at(10));
        let said = drain(&mut kvs, at(10), DONE);
        let writes = said.messages.iter();
        let writes =
            writes.filter(|(_, message)| matches!(message, Message::Vote(Vote::Write { .. })));
        assert_eq!(writes.count() > 0, is_named, "{stamp}");
    }
}

/// Two writes were under way when the view ended: the one that a read finds first is
/// not chosen by being copied, since whoever promised the other knows that no more.
#[test]
fn what_an_earlier_view_left_is_written_under_a_ballot_of_this_one() {
    let mut kvs = voter();
    let key = Key::new("a/0").unwrap();
    kvs.get(RequestId(1), key, Mode::Linearizable, at(0));
    let said = drain(&mut kvs, at(0), DONE);
    let asked = prepare(&said);
    assert_eq!(asked.ballot, None);
    let version = Version::end_of(1).marked(2);
    let left = Entry {
        version,
        value: Some(b"left".to_vec()),
        expires: None,
    };
    let told = |id: u64| {
        let newer = Some(left.clone());
        let view = 3;
        Message::Vote(Vote::Promised {
            id,
            view,
            version,
            newer,
        })
    };
    kvs.on_message(id(2), told(asked.id), at(10));
    let said = drain(&mut kvs, at(10), DONE);
    let again = prepare(&said);
    let ballot = again.ballot.expect("a ballot");
    assert!(ballot > version && ballot.is_settled_in(3));
    kvs.on_message(id(2), told(again.id), at(20));
    let said = drain(&mut kvs, at(20), DONE);
    let mut written = said
        .messages
        .iter()
        .filter_map(|(_, message)| match message {
            Message::Vote(Vote::Write { entry, .. }) => Some(entry.clone()),
            _ => None,
        });
    let entry = written.next().expect("it is written");
    assert_eq!((entry.version, entry.value), (ballot, left.value));
}

fn prepare(said: &Said) -> Prepare {
    let mut prepares = said
        .messages
        .iter()
        .filter_map(|(_, message)| match message {
            Message::Vote(Vote::Prepare(asked)) => Some(asked.clone()),
            _ => None,
        });
    prepares.next().expect("nobody was asked")
}
