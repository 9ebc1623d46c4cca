//! One voter of three, and what it says to the others about tombstones.

use super::*;
use crate::config::TOMBSTONE_GRACE;
use crate::identity::Facts;
use crate::kvs::entry::Entry;
use crate::kvs::fixture::{Said, at, drain, id, voter, voter_of};
use crate::kvs::message::{Message, Prepare, Vote, VoteError};
use crate::kvs::peers::Living;
use crate::kvs::three::{HOUR, MINUTE, Three};
use crate::kvs::{Mode, Reply, RequestId};
use crate::status::Class;
use crate::store::Stored;
use crate::time::Now;

/// When what was written in the first seconds is older than the grace.
fn late() -> Now {
    at(TOMBSTONE_GRACE.as_millis() as u64 + 60_000)
}

fn key() -> Key {
    Key::new("a/0").unwrap()
}

fn tombstone(unix_ms: u64) -> Entry {
    Entry {
        version: Version::end_of(unix_ms),
        value: None,
        expires: None,
    }
}

/// What was said about horizons, and to whom.
fn horizons(said: Said) -> Vec<(NodeId, HorizonMessage)> {
    let said = said.messages.into_iter();
    let horizons = said.filter_map(|(to, message)| match message {
        Message::Horizon(message) => Some((to, message)),
        _ => None,
    });
    horizons.collect()
}

fn done(kvs: &mut Kvs, now: Now) -> Said {
    drain(kvs, now, Ok(Stored::Done))
}

/// The first voter, which holds an old tombstone, and has asked the others.
fn asking() -> (Kvs, u64) {
    let mut kvs = voter();
    kvs.take_copy(key(), &tombstone(1000), at(2000));
    for fellow in [id(2), id(3)] {
        let shared = kvs.views.shared_with(&fellow);
        kvs.pulls.pulled.insert(fellow, shared);
    }
    done(&mut kvs, at(2000));
    kvs.on_timeout(at(62_000));
    assert_eq!(horizons(done(&mut kvs, at(62_000))), [], "too early");
    kvs.on_timeout(late());
    let asked = horizons(done(&mut kvs, late()));
    let (to, asks): (Vec<NodeId>, Vec<HorizonMessage>) = asked.into_iter().unzip();
    assert_eq!(to, [id(2), id(3)]);
    let HorizonMessage::Ask { id, .. } = asks[0] else {
        panic!("{asks:?}");
    };
    (kvs, id)
}

fn agree(kvs: &mut Kvs, from: u8, round: u64, slots: Vec<u16>) -> Vec<(NodeId, HorizonMessage)> {
    let agree = HorizonMessage::Agree { id: round, slots };
    kvs.on_message(id(from), Message::Horizon(agree), late());
    horizons(done(kvs, late()))
}

#[test]
fn a_tombstone_goes_when_all_voters_agree() {
    let slot = key().slot().number();
    for third in [[slot].to_vec(), Vec::new()] {
        let (mut kvs, round) = asking();
        assert_eq!(agree(&mut kvs, 2, round, [slot].into()), []);
        assert!(kvs.index.get(&key()).is_some(), "one is not enough");
        let all = !third.is_empty();
        let said = agree(&mut kvs, 3, round, third);
        assert_eq!(kvs.index.get(&key()).is_none(), all);
        let raised = |(_, message): &(NodeId, HorizonMessage)| {
            matches!(message, HorizonMessage::Raise { .. })
        };
        assert_eq!(
            said.iter().filter(|said| raised(said)).count(),
            2 * usize::from(all)
        );
    }
}

#[test]
fn who_agreed_takes_nothing_so_old() {
    let mut kvs = voter_of(2);
    let slot = key().slot();
    let ask = |time, sum| HorizonMessage::Ask {
        id: 7,
        view: 3,
        at: time,
        slots: [(slot.number(), sum)].into(),
    };
    let mut asked = |time, sum| {
        kvs.on_message(id(1), Message::Horizon(ask(time, sum)), late());
        horizons(done(&mut kvs, late()))
    };
    let agreed = |slots| [(id(1), HorizonMessage::Agree { id: 7, slots })];
    assert_eq!(asked(late().unix_ms, 0), [], "nothing is so old");
    assert_eq!(asked(1000, 1), agreed(Vec::new()), "something else is held");
    assert_eq!(asked(1000, 0), agreed([slot.number()].into()));
    let mut write = |unix_ms| {
        let vote = Vote::Write {
            id: 8,
            view: 3,
            key: key(),
            entry: tombstone(unix_ms),
        };
        kvs.on_message(id(1), Message::Vote(vote), late());
        done(&mut kvs, late()).messages
    };
    let why = VoteError::Newer(Version::end_of(1000));
    let refused = Message::Vote(Vote::Refused { id: 8, why });
    assert_eq!(write(999), [(id(1), refused)]);
    let wrote = Message::Vote(Vote::Wrote { id: 8, view: 3 });
    assert_eq!(write(1001), [(id(1), wrote)]);
}

#[test]
fn a_voter_that_started_again_is_told_and_marks_wait_for_it() {
    let mut kvs = voter();
    let slots = SlotSet::from_slots([key().slot()].into_iter());
    let horizon = Horizon {
        fence: 1000,
        at: 1000,
        marks: 1000,
    };
    kvs.horizons.adopt(&slots, horizon);
    for fellow in [id(2), id(3)] {
        kvs.horizons.note_known(fellow, &slots, 1000);
    }
    assert!(!kvs.may_be_marked(&key()));
    let living = |seed: u8| {
        let facts = Facts {
            epoch: 1 + u64::from(seed == 2),
            class: Class::Durable,
            name: alloc::string::String::new(),
        };
        (id(seed), Living::of(&facts))
    };
    kvs.set_members((2..=4).map(living).collect(), at(3000));
    done(&mut kvs, at(3000));
    assert!(kvs.may_be_marked(&key()));
    let due = kvs.horizons.poll_timeout().unwrap();
    let now = at(due.as_micros() / 1000);
    kvs.on_timeout(now);
    let told = horizons(done(&mut kvs, now));
    let [(to, HorizonMessage::Raise { at: 1000, .. })] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(*to, id(2));
    let slots = [key().slot().number()].into();
    let raised = HorizonMessage::Raised { at: 1000, slots };
    kvs.on_message(id(2), Message::Horizon(raised), now);
    assert!(!kvs.may_be_marked(&key()));
}

/// One key's slot was collected up to a second after the epoch.
fn collected(own: u8) -> Kvs {
    let mut kvs = voter_of(own);
    let slots = SlotSet::from_slots([key().slot()].into_iter());
    kvs.horizons.adopt(&slots, Horizon::raised_to(1000));
    kvs
}

#[test]
fn what_came_while_others_were_asked_ends_the_round() {
    let slot = key().slot().number();
    let (mut kvs, round) = asking();
    let other = Key::new("a/1").unwrap();
    kvs.take_copy(other.clone(), &tombstone(900), late());
    done(&mut kvs, late());
    agree(&mut kvs, 2, round, [slot].into());
    let said = agree(&mut kvs, 3, round, [slot].into());
    assert_eq!(said, []);
    assert!(kvs.index.get(&key()).is_some() && kvs.index.get(&other).is_some());
    assert_eq!(kvs.horizons.get(key().slot()), Horizon::default());
}

#[test]
fn a_round_goes_no_further_than_its_last_tombstone() {
    let slot = key().slot().number();
    let (mut kvs, round) = asking();
    agree(&mut kvs, 2, round, [slot].into());
    agree(&mut kvs, 3, round, [slot].into());
    assert_eq!(kvs.horizons.get(key().slot()), Horizon::raised_to(1000));
}

#[test]
fn a_caller_whose_clock_is_behind_a_fence_follows_it() {
    let mut kvs = collected(1);
    let value = Some(b"value".to_vec());
    kvs.put(RequestId(1), key(), value, Mode::Quorum.into(), at(500));
    assert_eq!(done(&mut kvs, at(500)).messages, [], "too old");
    kvs.on_timeout(at(510));
    let written = done(&mut kvs, at(510)).messages.into_iter();
    let version = written.filter_map(|(_, message)| match message {
        Message::Vote(Vote::Write { entry, .. }) => Some(entry.version),
        _ => None,
    });
    let versions: Vec<Version> = version.collect();
    assert_eq!(versions.len(), 2);
    assert!(versions.iter().all(|version| version.unix_ms() > 1000));
}

#[test]
fn nothing_is_promised_behind_a_fence() {
    let mut kvs = collected(2);
    for (unix_ms, promised) in [(999, false), (1001, true)] {
        let asked = Prepare {
            id: 7,
            view: 3,
            key: key(),
            ballot: Some(Version::end_of(unix_ms).marked(3)),
            have: Version::ZERO,
        };
        kvs.on_message(id(1), Message::Vote(Vote::Prepare(asked)), late());
        let said = done(&mut kvs, late()).messages;
        let [(_, Message::Vote(vote))] = &said[..] else {
            panic!("{said:?}");
        };
        assert_eq!(matches!(vote, Vote::Promised { .. }), promised, "{vote:?}");
    }
}

/// The first voter's clock is a month ahead, for a while.
#[test]
fn a_clock_that_is_far_ahead_closes_no_slot() {
    let mut three = Three::new([0; 3]);
    three.put(1, "value", Mode::Quorum.into());
    three.delete(1, Mode::Quorum);
    three.ahead[0] = 30 * 24 * HOUR;
    three.pass(3 * MINUTE);
    assert!(three.held(0).1 && three.held(0).0 > Version::ZERO, "kept");
    three.ahead[0] = 0;
    let reply = three.put(0, "again", Mode::Quorum.into());
    assert!(matches!(reply, Reply::Written { .. }), "{reply:?}");
    three.pass(1000);
    assert!((0..3).all(|index| three.held(index) == three.held(0)));
}
