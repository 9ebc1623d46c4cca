//! Answers that come twice, and entries that a promise keeps off.

use super::*;
use crate::config::TOMBSTONE_GRACE;
use crate::identity::Facts;
use crate::kvs::KvsAction;
use crate::kvs::fixture::id;
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
    let facts = Facts {
        epoch: 1,
        class: Class::Durable,
        name: alloc::string::String::new(),
    };
    kvs.set_members([(id(2), Living::of(&facts))].into(), NOW);
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
    let step = &kvs.pulls.active[&pull].step;
    assert!(matches!(step, Step::Listing { .. }), "{step:?}");
}
