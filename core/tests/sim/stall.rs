//! How long callers wait for a member that died, or started again, without a
//! word.

use std::collections::BTreeSet;

use roundelay_core::kvs::{Key, Mode, Reply, RequestId};
use roundelay_core::status::{Class, LinkKind, MemberState};
use roundelay_core::{Event, Node, NodeId};

use crate::checker::Checker;
use crate::world::{MS, SECOND, Weather, World};

/// What a caller may wait at most, on links whose round trip is below the
/// shortest time-out.
const STALL_MAX: u64 = 800 * MS;
/// Keys in so many slots that every member is asked as a coordinator.
const KEYS: usize = 16;

/// Who waits for which answer.
type Open = BTreeSet<(usize, RequestId)>;

/// Three durable nodes, the relay among them, and two pages, all linked
/// directly.
pub fn ring(seed: u64) -> World {
    ring_of(seed, 3)
}

/// The same with so many durable nodes.
fn ring_of(seed: u64, durable: usize) -> World {
    let weather = Weather::calm((200, MS));
    let mut world = World::new(seed, weather);
    for _ in 0..durable {
        world.add(Class::Durable, 0);
    }
    for class in [Class::Transient, Class::Transient] {
        world.add(class, 0);
    }
    let is_settled = |world: &World| {
        let all_direct = world.alive().all(|(_, node)| {
            let links = node.status().links;
            links.len() == durable + 1 && links.iter().all(|link| link.kind == LinkKind::Direct)
        });
        let voters = world.alive().all(|(_, node)| {
            let key = Key::new("any").unwrap();
            node.locate(&key).voters.len() == durable
        });
        all_direct && voters && Checker::default().settled(world, &[]).is_ok()
    };
    while !is_settled(&world) {
        assert!(world.now < 60 * SECOND, "seed {seed} does not settle");
        let until = world.now + 10 * MS;
        world.run_until(until, &mut |_, _, _| {});
    }
    world
}

/// Every living node puts or gets every key at once. Returns how long the
/// slowest answer took.
fn all_call(world: &mut World, put: bool) -> u64 {
    let alive: Vec<usize> = world.alive().map(|(index, _)| index).collect();
    call(world, &alive, put)
}

/// Some nodes put or get every key at once. Returns how long the slowest answer
/// took.
fn call(world: &mut World, nodes: &[usize], put: bool) -> u64 {
    let mut open = BTreeSet::new();
    for &index in nodes {
        for number in 0..KEYS {
            let key = Key::new(format!("k{number}/p{index}")).unwrap();
            ask(world, &mut open, index, key, put);
        }
    }
    answered(world, open)
}

/// A durable node puts a key. Asserts that it can.
fn put_one(world: &mut World, index: usize, seed: u64) {
    let mut open = BTreeSet::new();
    let key = Key::new(format!("k{}", world.now_of(index).unix_ms % 100)).unwrap();
    ask(world, &mut open, index, key, true);
    let took = answered(world, open);
    assert!(took < SECOND, "seed {seed}: p{index} waits");
}

fn ask(world: &mut World, open: &mut Open, index: usize, key: Key, put: bool) {
    let now = world.now_of(index);
    let Some(node) = &mut world.processes[index].node else {
        panic!("p{index} runs");
    };
    let request = match put {
        true => node.put(key, b"value".to_vec(), Mode::Quorum, now),
        false => node.get(key, Mode::Quorum, now),
    };
    open.insert((index, request));
    for (index, event) in world.drain(index) {
        on_event(open, index, event);
    }
}

/// Waits for all answers. Returns how long that took.
fn answered(world: &mut World, mut open: Open) -> u64 {
    let begun = world.now;
    while !open.is_empty() {
        let until = world.now + MS;
        world.run_until(until, &mut |_, index, event| {
            on_event(&mut open, index, event);
        });
    }
    world.now - begun
}

fn on_event(open: &mut Open, index: usize, event: Event) {
    if let Event::Reply { request, reply } = event {
        assert!(!matches!(reply, Reply::Failed(_)), "p{index}: {reply:?}");
        open.remove(&(index, request));
    }
}

/// Whoever dies, those who wait for it ask whether it lives, and go to the
/// next.
#[test]
fn a_silent_death_holds_up_callers_for_a_moment_only() {
    let mut slowest = 0;
    for (seed, victim) in (0..30).map(|seed| (seed, seed as usize % 3)) {
        let mut world = ring(seed);
        all_call(&mut world, true);
        let later = world.now + 5 * SECOND;
        world.run_until(later, &mut |_, _, _| {});
        world.crash(victim, false);
        for put in [false, true] {
            let took = all_call(&mut world, put);
            slowest = slowest.max(took);
            assert!(
                took < STALL_MAX,
                "seed {seed}: after p{victim}'s death a call took {} ms",
                took / MS
            );
        }
    }
    println!("stall: {} ms at most", slowest / MS);
}

/// A voter that says nothing, dead or not, costs a read twice the shortest
/// time-out at most: one as a coordinator, one as another's first choice.
#[test]
fn a_read_that_is_not_answered_goes_to_another_voter_too() {
    for (seed, silent) in (0..12).map(|seed| (seed, seed as usize % 3)) {
        let mut world = ring(seed);
        all_call(&mut world, true);
        all_call(&mut world, false);
        world.freeze(silent);
        for page in [3, 4] {
            let took = call(&mut world, &[page], false);
            let ms = took / MS;
            assert!(took < 220 * MS, "seed {seed}: p{page} waited for {ms} ms");
        }
    }
}

fn durable_know_each_other(world: &World) -> bool {
    let durable = [0, 1, 2].map(|index| world.id(index));
    let nodes = (0..3).filter_map(|index| world.processes[index].node.as_ref());
    nodes.map(Node::ring_status).all(|ring| {
        let alive = ring.members.iter();
        let alive = alive.filter(|member| member.state == MemberState::Alive);
        let alive: Vec<NodeId> = alive.map(|member| member.id).collect();
        durable.iter().all(|id| alive.contains(id))
    })
}

/// All durable nodes are killed without a word and start again at once, while
/// the pages stay, with links that lead to nobody. What the pages make of
/// that holds up nobody who is whole again.
#[test]
fn pages_that_stay_take_no_restarted_node_for_dead() {
    for seed in 0..50 {
        let mut world = ring(seed);
        all_call(&mut world, true);
        for index in 0..3 {
            world.crash(index, false);
        }
        let later = world.now + (seed % 3) * 200 * MS;
        world.run_until(later, &mut |_, _, _| {});
        for index in 0..3 {
            world.start(index);
        }
        let begun = world.now;
        let mut whole = false;
        while world.now < begun + 10 * SECOND {
            let until = world.now + 10 * MS;
            world.run_until(until, &mut |world, _, event| {
                let known = event != Event::Ring || durable_know_each_other(world);
                let took = (world.now - begun) / MS;
                assert!(known || !whole, "seed {seed}: a suspicion after {took} ms");
            });
            let ready = world.alive().all(|(_, node)| node.is_ready());
            whole |= ready && durable_know_each_other(&world);
        }
        assert!(whole, "seed {seed}");
    }
}

/// A page that hears nothing takes all others for dead, and tells them so. They
/// know better: with two voters, nothing could go on without either.
#[test]
fn who_hears_nothing_is_not_believed() {
    for seed in 0..20 {
        let mut world = ring_of(seed, 2);
        world.deaf = Some(2);
        let end = world.now + 15 * SECOND;
        let suspected = |world: &World| {
            let members = world.processes[2].node.as_ref().map(Node::ring_status);
            members.is_some_and(|ring| ring.members.len() < 4)
        };
        let mut accused = false;
        while world.now < end {
            let until = world.now + 50 * MS;
            world.run_until(until, &mut |_, _, _| {});
            accused |= suspected(&world);
            for index in [0, 1] {
                put_one(&mut world, index, seed);
            }
        }
        assert!(accused, "seed {seed}: it takes nobody for dead");
    }
}

/// What two nodes have counted.
fn counted(world: &World, name: &str) -> u64 {
    let counters = [1, 2].map(|index| {
        let node = world.processes[index].node.as_ref().expect("it runs");
        node.status().counters.get(name).copied().unwrap_or(0)
    });
    counters.iter().sum()
}

/// A direct link that is silent, as one of SCTP's is for a second when a
/// datagram is lost, makes nobody suspect the other end: it is asked by way of
/// the relay. When it stays silent, the relay carries on.
#[test]
fn a_silent_direct_link_kills_nobody() {
    for (seed, silence) in (0..20).map(|seed| (seed, [SECOND, 15 * SECOND][seed as usize % 2])) {
        let mut world = ring(seed);
        let before = counted(&world, "member_suspected");
        world.cut.extend([(1, 2), (2, 1)]);
        let end = world.now + silence;
        while world.now < end {
            for index in [1, 2] {
                put_one(&mut world, index, seed);
            }
            let until = world.now + 50 * MS;
            world.run_until(until, &mut |_, _, _| {});
        }
        let suspected = counted(&world, "member_suspected") - before;
        assert_eq!(suspected, 0, "seed {seed}");
        // The simulator would dial a new one at once, which is as silent.
        let dropped = counted(&world, "direct_silent") + counted(&world, "direct_closed");
        assert_eq!(dropped > 0, silence > SECOND, "seed {seed}: {dropped}");
    }
}
