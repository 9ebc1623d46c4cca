//! Pages alone: without a durable member they are a store in mode `one`.

use std::collections::BTreeMap;

use roundelay_core::kvs::{Key, List, Mode, Reply, RequestId};
use roundelay_core::status::{Class, LinkKind};
use roundelay_core::{Event, Node, Now};

use crate::checker::Checker;
use crate::world::{MS, SECOND, Weather, World};

/// So many that every page is a mirror of some, and is none of others.
const KEYS: usize = 48;
const PAGES: usize = 4;

/// A relay and pages, all linked directly.
fn ring(seed: u64) -> World {
    let weather = Weather::calm((200, 5 * MS));
    let mut world = World::new(seed, weather);
    world.add(Class::Durable, 0);
    for _ in 0..PAGES {
        world.add(Class::Transient, 0);
    }
    wait(&mut world, 60 * SECOND, "a ring", &mut |world| {
        let all_direct = world.alive().all(|(_, node)| {
            let links = node.status().links;
            links.len() == PAGES && links.iter().all(|link| link.kind == LinkKind::Direct)
        });
        all_direct && Checker::default().settled(world, &[]).is_ok()
    });
    world
}

fn wait(world: &mut World, time: u64, what: &str, holds: &mut dyn FnMut(&mut World) -> bool) {
    let deadline = world.now + time;
    while !holds(world) {
        assert!(world.now < deadline, "waited in vain for {what}");
        let until = world.now + 20 * MS;
        world.run_until(until, &mut |_, _, _| {});
    }
}

fn key(number: usize) -> Key {
    Key::new(format!("k{number}/one")).unwrap()
}

/// Puts or gets all keys in mode `one` by one member; the answers.
fn all(world: &mut World, index: usize, value: Option<&str>) -> Vec<Reply> {
    let call = |node: &mut Node, number, now| match value {
        Some(value) => node.put(key(number), value.into(), Mode::One, now),
        None => node.get(key(number), Mode::One, now),
    };
    call_all(world, index, &call)
}

/// Lists all buckets in mode `one` by one member; the answers.
fn list_all(world: &mut World, index: usize) -> Vec<Reply> {
    let call = |node: &mut Node, number, now| {
        let list = List::new(key(number).bucket()).and_then(|list| list.with_mode(Mode::One));
        node.list(list.unwrap(), now)
    };
    call_all(world, index, &call)
}

/// A call for each key by one member; the answers.
fn call_all(
    world: &mut World,
    index: usize,
    call: &dyn Fn(&mut Node, usize, Now) -> RequestId,
) -> Vec<Reply> {
    let mut open = BTreeMap::new();
    for number in 0..KEYS {
        let now = world.now_of(index);
        let node = world.processes[index].node.as_mut().expect("it runs");
        open.insert(call(node, number, now), None);
    }
    let mut events = world.drain(index);
    loop {
        for (_, event) in events.drain(..).filter(|(own, _)| *own == index) {
            if let Event::Reply { request, reply } = event {
                open.insert(request, Some(reply));
            }
        }
        if open.values().all(Option::is_some) {
            return open.into_values().flatten().collect();
        }
        let until = world.now + MS;
        world.run_until(until, &mut |_, index, event| events.push((index, event)));
    }
}

/// Asserts that every living member soon reads that value of all keys.
fn assert_read(world: &mut World, value: &str, when: &str) {
    let alive: Vec<usize> = world.alive().map(|(index, _)| index).collect();
    for index in alive {
        let what = format!("p{index} to read {value} {when}");
        wait(world, 5 * SECOND, &what, &mut |world| {
            let read = all(world, index, None);
            // A page that became a mirror just now knows whom to ask.
            assert!(index == 0 || !read.contains(&Reply::Missing), "{what}");
            let same = |reply: &Reply| matches!(reply, Reply::Found { value: own, .. } if own == value.as_bytes());
            read.iter().all(same)
        });
        for (number, reply) in list_all(world, index).into_iter().enumerate() {
            let Reply::Listed(page) = reply else {
                panic!("p{index} {when}: {reply:?}");
            };
            let keys: Vec<Key> = page.keys.into_iter().map(|(key, _)| key).collect();
            assert_eq!(
                (keys, page.next),
                (vec![key(number)], None),
                "p{index} {when}"
            );
        }
    }
}

#[test]
fn pages_alone_keep_what_any_of_them_takes() {
    for seed in 0..20 {
        let (writer, closed) = (1 + seed as usize % PAGES, 1 + seed as usize / 4 % PAGES);
        let mut world = ring(seed);
        all(&mut world, 0, Some("before"));
        let settled = world.now + 5 * SECOND;
        world.run_until(settled, &mut |_, _, _| {});
        world.crash(0, true);
        assert_read(&mut world, "before", "without the relay");
        wait(&mut world, 10 * SECOND, "all to be put", &mut |world| {
            let put = all(world, writer, Some("alone"));
            put.iter()
                .all(|reply| matches!(reply, Reply::Written { .. }))
        });
        assert_read(&mut world, "alone", "without the relay");
        world.leave(closed);
        assert_read(&mut world, "alone", "with a page less");
        world.start(0);
        let settled = world.now + 5 * SECOND;
        world.run_until(settled, &mut |_, _, _| {});
        assert_read(&mut world, "alone", "when the relay is back");
        for index in 1..=PAGES {
            if index != closed {
                world.crash(index, true);
            }
        }
        assert_read(&mut world, "alone", "in the relay alone");
    }
}
