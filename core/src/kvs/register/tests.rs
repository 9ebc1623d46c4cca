//! What a register leaves behind that ends without a majority.

use super::*;
use crate::kvs::Mode;
use crate::kvs::fixture::{Said, at, drain, id, voter};
use crate::kvs::request::RequestId;
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
