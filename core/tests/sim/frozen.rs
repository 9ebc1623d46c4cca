//! A page that did nothing for a while, as browsers freeze tabs and computers
//! sleep. It does no harm when it is back, and is soon a member again.

use std::collections::BTreeMap;

use roundelay_core::kvs::{Key, Mode, News, Reply, Version, Watch};
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

/// What others do to a few keys meanwhile.
fn write(world: &mut World, round: u64) {
    let now = world.now_of(1);
    let Some(node) = &mut world.processes[1].node else {
        return;
    };
    let key = Key::new(format!("a/{}", round % 7)).unwrap();
    match round % 5 {
        0 => node.delete(key, Mode::Quorum, now),
        _ => node.put(key, b"value".to_vec(), Mode::Quorum, now),
    };
    world.drain(1);
}

/// What the page watches, and knows.
struct Watcher {
    watch: Watch,
    known: BTreeMap<Key, (Version, bool)>,
    resets: u32,
}

impl Watcher {
    /// Asks for the next piece. Returns whether there was something in it.
    fn ask(&mut self, world: &mut World, meanwhile: &mut dyn FnMut(&mut World)) -> bool {
        let now = world.now_of(PAGE);
        let node = world.processes[PAGE].node.as_mut().expect("it lives");
        let asked = node.watch(self.watch.clone(), now);
        let mut events = world.drain(PAGE);
        meanwhile(world);
        let deadline = world.now + 20 * SECOND;
        loop {
            let replies = events.drain(..).filter_map(|(_, event)| match event {
                Event::Reply { request, reply } if request == asked => Some(reply),
                _ => None,
            });
            match { replies }.next() {
                Some(Reply::Watched(news)) => return self.take(news),
                // It was frozen for so long: it asks again.
                Some(_) => return true,
                None => {}
            }
            assert!(world.now < deadline, "no piece of the watch");
            let until = world.now + MS;
            world.run_until(until, &mut |_, index, event| {
                if index == PAGE {
                    events.push((index, event));
                }
            });
        }
    }

    fn take(&mut self, news: News) -> bool {
        if news.reset {
            self.known.clear();
            self.resets += 1;
        }
        let is_some = news.reset || !news.changes.is_empty();
        let changes = news.changes.into_iter();
        self.known
            .extend(changes.map(|change| (change.key, (change.version, change.deleted))));
        self.watch = self.watch.clone().with_token(news.token);
        is_some
    }
}

#[test]
fn a_page_that_froze_with_a_watch_misses_nothing() {
    let times = [SECOND / 2, 3 * SECOND, 12 * SECOND, 45 * SECOND];
    for (seed, time) in (0..20).flat_map(|seed| times.map(|time| (seed, time))) {
        let mut world = ring(seed);
        let mut watcher = Watcher {
            watch: Watch::new("a/").unwrap(),
            known: BTreeMap::new(),
            resets: 0,
        };
        for round in 0..20 {
            watcher.ask(&mut world, &mut |world| {
                write(world, round);
                if round == 10 {
                    world.freeze(PAGE);
                    for round in 0..10 {
                        write(world, round * 3 + seed);
                        pass(world, time / 10);
                    }
                    world.thaw(PAGE);
                }
            });
        }
        while !is_known(&world, &watcher.known) {
            let more = watcher.ask(&mut world, &mut |_| {});
            assert!(more, "seed {seed}, {time}: {:?}", watcher.known);
        }
        let was_away = time > 30 * SECOND;
        assert_eq!(
            watcher.resets,
            1 + u32::from(was_away),
            "seed {seed}, {time}"
        );
    }
}

/// Whether of each key the newest version is known.
fn is_known(world: &World, known: &BTreeMap<Key, (Version, bool)>) -> bool {
    (0..7).all(|number| {
        let key = Key::new(format!("a/{number}")).unwrap();
        let known = known.get(&key).map(|(version, _)| *version);
        known == world.processes[1].disk.synced_version(&key)
    })
}
