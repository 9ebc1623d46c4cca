//! Few durable nodes: either of two goes on without the other, one that is lost
//! is evicted, and those that stop together wait for nobody.

use roundelay_core::kvs::{Copies, Key, Mode, Reply, RequestError, RequestId};
use roundelay_core::status::Class;
use roundelay_core::{Event, NodeId};

use crate::checker::Checker;
use crate::world::{MS, SECOND, Weather, World};

fn ring(seed: u64) -> World {
    let weather = Weather::calm((200, 5 * MS));
    let mut world = World::new(seed, weather);
    world.add(Class::Durable, 0);
    world.add(Class::Durable, 0);
    settle(&mut world);
    world
}

fn settle(world: &mut World) {
    let deadline = world.now + 60 * SECOND;
    let keys = [key()];
    loop {
        let voters = world.alive().count().min(3);
        let grown = world
            .alive()
            .all(|(_, node)| node.locate(&key()).voters.len() == voters);
        match Checker::default().settled(world, &keys) {
            Ok(()) if grown => return,
            other => assert!(world.now < deadline, "{other:?}, grown: {grown}"),
        }
        pass(world, 50 * MS);
    }
}

fn pass(world: &mut World, time: u64) {
    let until = world.now + time;
    world.run_until(until, &mut |_, _, _| {});
}

fn key() -> Key {
    Key::new("pair/key").unwrap()
}

/// Puts, or gets without a value, in mode `quorum`.
fn call(world: &mut World, index: usize, value: Option<&str>) -> Reply {
    let now = world.now_of(index);
    let node = world.processes[index].node.as_mut().expect("it runs");
    let request = match value {
        Some(value) => node.put(key(), value.into(), Mode::Quorum, now),
        None => node.get(key(), Mode::Quorum, now),
    };
    answer(world, index, request)
}

fn answer(world: &mut World, index: usize, request: RequestId) -> Reply {
    let mut events: Vec<(usize, Event)> = world.drain(index);
    loop {
        for event in events.drain(..) {
            if let (
                at,
                Event::Reply {
                    request: own,
                    reply,
                },
            ) = event
                && (at, own) == (index, request)
            {
                return reply;
            }
        }
        let until = world.now + MS;
        world.run_until(until, &mut |_, index, event| events.push((index, event)));
    }
}

/// Puts a value until that is acknowledged. Returns how many copies it has.
fn put(world: &mut World, index: usize, value: &str) -> Copies {
    let deadline = world.now + 10 * SECOND;
    loop {
        match call(world, index, Some(value)) {
            Reply::Written { copies, .. } => return copies,
            other => assert!(world.now < deadline, "{other:?}"),
        }
        pass(world, 100 * MS);
    }
}

fn read(world: &mut World, index: usize) -> String {
    match call(world, index, None) {
        Reply::Found { value, .. } => String::from_utf8(value).unwrap(),
        other => panic!("p{index}: {other:?}"),
    }
}

fn degraded(world: &World, index: usize) -> u64 {
    let node = world.processes[index].node.as_ref().expect("it runs");
    node.status().store.degraded
}

#[test]
fn either_of_two_goes_on_alone_and_both_are_whole_again() {
    for seed in 0..40 {
        let (victim, other) = (seed as usize % 2, 1 - seed as usize % 2);
        let mut world = ring(seed);
        put(&mut world, victim, "both");
        pass(&mut world, seed * 50 * MS);
        world.crash(victim, seed % 4 < 2);
        let alone = put(&mut world, other, "alone");
        assert_eq!(alone, Copies { have: 1, of: 2 }, "seed {seed}");
        assert_eq!(degraded(&world, other), 4096, "seed {seed}");
        assert_eq!(read(&mut world, other), "alone");
        // A third can join where the relay is left; it gets no vote.
        if other == 0 {
            let third = world.add(Class::Durable, 0);
            pass(&mut world, 10 * SECOND);
            assert_eq!(read(&mut world, third), "alone");
            let node = world.processes[third].node.as_ref().expect("it runs");
            assert_eq!(node.locate(&key()).voters.len(), 2);
            assert_eq!(node.ring_status().members.len(), 2);
        }
        world.start(victim);
        settle(&mut world);
        assert_eq!(degraded(&world, other), 0);
        assert_eq!(read(&mut world, victim), "alone", "seed {seed}");
        // What one took alone outlives it now.
        world.crash(other, true);
        put(&mut world, victim, "again");
        assert_eq!(read(&mut world, victim), "again");
    }
}

/// Evicts a member; says how that ended.
fn evict(world: &mut World, index: usize, id: NodeId) -> Reply {
    let now = world.now_of(index);
    let node = world.processes[index].node.as_mut().expect("it runs");
    let request = node.evict(id, now);
    answer(world, index, request)
}

#[test]
fn one_that_is_lost_is_evicted() {
    for seed in 0..30 {
        let mut world = ring(seed);
        let (lost, nobody) = (world.id(1), NodeId::from_bytes([7; 32]));
        assert_eq!(
            evict(&mut world, 0, lost),
            Reply::Failed(RequestError::Answers)
        );
        assert_eq!(evict(&mut world, 0, nobody), Reply::Missing);
        put(&mut world, 0, "both");
        world.crash(1, seed % 2 == 0);
        let third = world.add(Class::Durable, 0);
        put(&mut world, 0, "alone");
        // The one that is left may have started again meanwhile: it does
        // nothing by itself, but it may be told.
        if seed % 3 == 0 {
            world.crash(0, true);
            world.start(0);
            pass(&mut world, 8 * SECOND);
        }
        assert_eq!(
            evict(&mut world, third, lost),
            Reply::Evicted,
            "seed {seed}"
        );
        settle(&mut world);
        assert_eq!(read(&mut world, third), "alone");
        let copies = put(&mut world, third, "new");
        assert_eq!(copies, Copies { have: 2, of: 2 }, "seed {seed}");
        assert_eq!(evict(&mut world, 0, lost), Reply::Evicted);
        // It joins as new.
        world.start(1);
        settle(&mut world);
        assert_eq!(read(&mut world, 1), "new", "seed {seed}");
    }
}

#[test]
fn one_that_started_again_does_not_go_on_alone() {
    for seed in 0..10 {
        let mut world = ring(seed);
        put(&mut world, 0, "both");
        world.crash(1, true);
        put(&mut world, 0, "alone");
        world.crash(0, true);
        world.start(1);
        pass(&mut world, 8 * SECOND);
        let reply = call(&mut world, 1, None);
        assert!(matches!(reply, Reply::Failed(_)), "seed {seed}: {reply:?}");
        world.start(0);
        settle(&mut world);
        assert_eq!(read(&mut world, 1), "alone", "seed {seed}");
    }
}

/// As many members as are left have no heirs: they stay voters, and go at once.
#[test]
fn members_that_stop_together_wait_for_nobody() {
    for seed in 0..10 {
        let mut world = ring(seed);
        for _ in 2..6 {
            world.add(Class::Durable, 0);
        }
        settle(&mut world);
        // Until votes moved to all of them.
        pass(&mut world, 30 * SECOND);
        for index in 0..6 {
            assert!(world.retire(index), "seed {seed}: p{index}");
        }
        pass(&mut world, SECOND);
        let waits = world.alive().find(|(_, node)| !node.is_retired());
        assert!(
            waits.is_none(),
            "seed {seed}: p{:?}",
            waits.map(|(index, _)| index)
        );
    }
}
