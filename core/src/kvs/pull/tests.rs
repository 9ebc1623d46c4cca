//! Answers that come twice, and entries that a promise keeps off.

use super::*;
use crate::config::TOMBSTONE_GRACE;
use crate::kvs::KvsAction;
use crate::kvs::fixture::{at, facts, id, voter};
use crate::kvs::key::SLOT_COUNT;
use crate::kvs::peers::Living;
use crate::kvs::view::{SlotView, View};
use crate::rng::Rng;
use crate::status::Class;

const NOW: Now = Now {
    mono: Instant::from_micros(0),
    unix_ms: 0,
};

/// Two voters on everything that have just met.
fn puller() -> Kvs {
    let mut kvs = Kvs::new(
        id(1),
        Class::Durable,
        TOMBSTONE_GRACE,
        Rng::from_seed([5; 32]),
    );
    let view = View {
        number: 2,
        voters: [id(1), id(2)].into(),
        previous: [id(1)].into(),
    };
    let all = SlotView {
        first: 0,
        last: SLOT_COUNT - 1,
        view,
    };
    kvs.learn_views(&[all], NOW);
    kvs.set_members([(id(2), Living::of(&facts()))].into(), NOW);
    kvs
}

/// The questions about slots that were asked since the last call.
fn lists(kvs: &mut Kvs) -> Vec<(u64, u32, usize)> {
    let sent = kvs.actions.drain(..).filter_map(|action| match action {
        KvsAction::Send {
            message:
                Message::Pull(Pull::List {
                    id,
                    question,
                    branches,
                    ..
                }),
            ..
        } => Some((id, question, branches.len())),
        _ => None,
    });
    sent.collect()
}

#[test]
fn an_answer_that_comes_twice_is_no_answer_to_the_next_question() {
    let mut kvs = puller();
    let compares = kvs.actions.drain(..).find_map(|action| match action {
        KvsAction::Send {
            message: Message::Pull(Pull::Compare { id, .. }),
            ..
        } => Some(id),
        _ => None,
    });
    let pull = compares.unwrap();
    let differ = Pull::Differ {
        id: pull,
        slots: (0..300).map(|slot| (slot, 1)).collect(),
        sealed: true,
        collected: Vec::new(),
    };
    kvs.on_pull(id(2), differ, NOW);
    let asked = lists(&mut kvs);
    let [(_, question, 256)] = asked[..] else {
        panic!("{asked:?}");
    };
    let listing = Pull::Listing {
        id: pull,
        question,
        entries: Vec::new(),
        done: 256,
    };
    kvs.on_pull(id(2), listing.clone(), NOW);
    assert_eq!(lists(&mut kvs), [(pull, question + 1, 44)]);
    kvs.on_pull(id(2), listing, NOW);
    let step = &kvs.pulls.active.get(&pull).unwrap().step;
    assert!(matches!(step, Step::Listing { .. }), "{step:?}");
}

/// A value, or a tombstone, of time 500.
fn hold(kvs: &mut Kvs, key: &Key, value: Option<Vec<u8>>) {
    let entry = Entry {
        version: Version::end_of(500),
        value,
        expires: None,
    };
    kvs.index.set(key, Some(Meta::of(key, &entry)));
}

/// A pull of one slot, from someone who has collected it up to a time.
fn pulling(source: u8, slot: Slot, at: u64) -> Pulling {
    let slots = SlotSet::from_slots([slot].into_iter());
    let mut collected = SlotMap::new(Horizon::default());
    collected.update(&slots, |own| *own = Horizon::raised_to(at));
    Pulling {
        source: id(source),
        slots,
        purpose: Purpose::CatchUp,
        step: Step::Comparing,
        lacks: false,
        collected,
        is_levelled: false,
        narrowing: VecDeque::new(),
        differing: VecDeque::new(),
        wanted: VecDeque::new(),
        question: 0,
        resend_at: NOW.mono,
        tries: 0,
    }
}

/// The second is a fellow voter of the first, the fourth is none.
#[test]
fn what_was_left_behind_is_not_taken_from_others() {
    let mut kvs = voter();
    let key = Key::new("a/0").unwrap();
    let slot = key.slot();
    let slots = SlotSet::from_slots([slot].into_iter());
    kvs.horizons.adopt(&slots, Horizon::raised_to(1000));
    for (source, theirs, is_dead) in [
        (2, 0, true),
        (2, 999, true),
        // Both have left it behind: who still names it holds it.
        (2, 1000, false),
        (2, 2000, false),
        (4, 0, true),
        (4, 2000, true),
    ] {
        let pulling = pulling(source, slot, theirs);
        let dead = |unix_ms| kvs.is_dead(&pulling, &key, Version::end_of(unix_ms));
        assert_eq!(dead(1000), is_dead, "{source} {theirs}");
        assert!(!dead(1001), "{source} {theirs}");
    }
}

#[test]
fn what_is_held_may_expire_behind_the_horizon() {
    let mut kvs = voter();
    let key = Key::new("a/0").unwrap();
    let slots = SlotSet::from_slots([key.slot()].into_iter());
    let version = Version::end_of(500);
    hold(&mut kvs, &key, Some(b"value".to_vec()));
    kvs.horizons.adopt(&slots, Horizon::raised_to(1000));
    let pulling = pulling(2, key.slot(), 0);
    assert!(kvs.is_dead(&pulling, &key, Version::end_of(600)));
    assert!(!kvs.is_dead(&pulling, &key, version.expired()));
}

/// What a voter has left behind that has no vote is no reason to drop anything.
#[test]
fn nobody_goes_by_the_horizon_of_one_who_does_not_vote() {
    let mut kvs = voter();
    let key = Key::new("a/0").unwrap();
    hold(&mut kvs, &key, None);
    for (source, weeded) in [(2, true), (4, false)] {
        let pulling = pulling(source, key.slot(), 1000);
        let branches = [Branch::whole(key.slot().number())];
        let weeds = kvs.weeds(&pulling, (&branches, None), &[], 1);
        assert_eq!(weeds.contains(&key), weeded, "{source}");
    }
}

/// Whatever it said before, a fellow whose copies differ when it compares lacks
/// something; one whose copies are the same does not.
#[test]
fn who_compares_and_differs_has_not_caught_up() {
    let mut kvs = voter();
    let slots = kvs.views.shared_with(&id(2));
    let compare = |kvs: &Kvs| Pull::Compare {
        id: 1,
        slots: slots.clone(),
        view: 0,
        sums: kvs.index.sums(&slots).into_iter().collect(),
    };
    let before = compare(&kvs);
    let key = Key::new("a/0").unwrap();
    hold(&mut kvs, &key, None);
    kvs.on_pull(id(2), compare(&kvs), at(0));
    assert!(kvs.peers.has_caught_up(&id(2)));
    kvs.on_pull(id(2), before, at(0));
    assert!(!kvs.peers.has_caught_up(&id(2)));
    let caught = Pull::Caught { slots };
    kvs.on_pull(id(2), caught, at(0));
    assert!(kvs.peers.has_caught_up(&id(2)));
}
