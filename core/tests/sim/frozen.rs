//! A page that did nothing for a while, as browsers freeze tabs and computers
//! sleep. It does no harm when it is back, and is soon a member again.

use roundelay_core::kvs::{Key, Mode, Reply};
use roundelay_core::status::MemberState;
use roundelay_core::{Event, Node, NodeId};

use crate::checker::Checker;
use crate::stall::ring;
use crate::world::{MS, SECOND, World};

/// The page that freezes: a neighbour of some, and not of others.
const PAGE: usize = 3;
/// How soon it is in the ring again.
const BACK: u64 = 5 * SECOND;

fn page(world: &World) -> &Node {
    world.processes[PAGE].node.as_ref().expect("it lives")
}

fn counted(node: &Node, name: &str) -> u64 {
    node.status().counters.get(name).copied().unwrap_or(0)
}

/// How often others had to deny their deaths.
fn denials(world: &World) -> u64 {
    let others = world.alive().filter(|(index, _)| *index != PAGE);
    others
        .map(|(_, node)| counted(node, "own_death_denied"))
        .sum()
}

/// Those whom somebody does not take for alive.
fn missed(world: &World) -> Vec<NodeId> {
    let members = world.alive().map(|(index, _)| world.id(index));
    let members: Vec<NodeId> = members.collect();
    let mut missed = Vec::new();
    for (_, node) in world.alive() {
        let ring = node.ring_status().members;
        let known = ring
            .iter()
            .filter(|member| member.state == MemberState::Alive);
        let known: Vec<NodeId> = known.map(|member| member.id).collect();
        missed.extend(members.iter().filter(|id| !known.contains(id)));
    }
    missed
}

fn pass(world: &mut World, by: u64) {
    let until = world.now + by;
    world.run_until(until, &mut |_, _, _| {});
}

/// The page puts a key. Returns whether that is answered already.
fn put(world: &mut World) -> bool {
    let now = world.now_of(PAGE);
    let key = Key::new(format!("k{}", now.unix_ms)).unwrap();
    if let Some(node) = &mut world.processes[PAGE].node {
        node.put(key, b"value".to_vec(), Mode::Quorum, now);
    }
    let events = world.drain(PAGE);
    events.iter().any(|(_, event)| is_answer(event))
}

fn is_answer(event: &Event) -> bool {
    let Event::Reply { reply, .. } = event else {
        return false;
    };
    assert!(matches!(reply, Reply::Written { .. }), "{reply:?}");
    true
}

/// The page freezes for so long, and goes on, perhaps with all its links
/// broken.
fn freeze(world: &mut World, length: u64, breaks: bool) -> Result<(), String> {
    let (denied, suspected) = (denials(world), counted(page(world), "member_suspected"));
    world.freeze(PAGE);
    pass(world, length);
    if breaks {
        world.break_links(PAGE);
    }
    world.thaw(PAGE);
    let mut answered = put(world);
    let until = world.now + BACK;
    world.run_until(until, &mut |_, index, event| {
        answered |= index == PAGE && is_answer(&event);
    });
    let accused = counted(page(world), "member_suspected") - suspected;
    let denied = denials(world) - denied;
    let missed = missed(world);
    if !answered || !missed.is_empty() || accused + denied > 0 {
        return Err(format!(
            "answered: {answered}, missed: {missed:?}, suspected: {accused}, denied: {denied}"
        ));
    }
    Checker::default().settled(world, &[])
}

/// Freezes the page of many rings, from one length to another.
fn freeze_all(lengths: (u64, u64), breaks: bool, prepare: fn(&mut World)) {
    const SEEDS: u64 = 100;
    for seed in 0..SEEDS {
        let mut world = ring(seed);
        prepare(&mut world);
        pass(&mut world, seed % 7 * 700 * MS);
        let length = lengths.0 + (lengths.1 - lengths.0) * seed / SEEDS;
        let frozen = freeze(&mut world, length, breaks);
        assert_eq!(frozen, Ok(()), "seed {seed}: after {} ms", length / MS);
    }
}

/// Those who gave it up have closed their links to it, which says nothing of
/// them.
#[test]
fn a_page_that_thaws_takes_nobody_for_dead() {
    freeze_all((500 * MS, 15 * SECOND), false, |_| {});
}

/// Its links are all broken, rather than closed by the others.
#[test]
fn a_page_whose_computer_slept_takes_nobody_for_dead() {
    freeze_all((6 * SECOND, 40 * SECOND), true, |_| {});
}

/// It was frozen for so short a time that it did not notice, and yet was given
/// up. A relay that was started again has no circuits, by which it would be told.
#[test]
fn a_page_that_does_not_know_that_it_was_given_up_is_taken_back() {
    freeze_all((2300 * MS, 4600 * MS), false, |world| {
        world.crash(0, true);
        world.start(0);
        pass(world, 40 * SECOND);
    });
}
