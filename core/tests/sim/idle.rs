//! A ring where nothing happens says next to nothing, and notices a death all
//! the same.

use roundelay_core::status::Class;

use crate::world::{MS, SECOND, Weather, World};

/// What a node may send each second while nothing happens.
const FRAMES: f64 = 1.0;
const BYTES: f64 = 100.0;
/// Within this time everybody routes around one that died.
const NOTICED: u64 = 5 * SECOND;

/// A ring of so many, half of them pages, that has come to rest.
fn ring(members: usize) -> World {
    let mut world = World::new(7, Weather::calm((500, 2 * MS)));
    for place in 0..members {
        let class = if place % 2 == 0 {
            Class::Durable
        } else {
            Class::Transient
        };
        world.add(class, 0);
        pass(&mut world, 100 * MS);
    }
    pass(&mut world, 90 * SECOND);
    world
}

fn pass(world: &mut World, by: u64) {
    let until = world.now + by;
    world.run_until(until, &mut |_, _, _| {});
}

#[test]
fn a_ring_at_rest_is_nearly_silent() {
    for members in [2, 10, 50] {
        let mut world = ring(members);
        let (frames, bytes) = (world.frames, world.bytes);
        pass(&mut world, 60 * SECOND);
        let each = |count: u64| count as f64 / 60.0 / members as f64;
        let (frames, bytes) = (each(world.frames - frames), each(world.bytes - bytes));
        println!("{members} members: {frames:.2} frames/s, {bytes:.1} B/s each");
        assert!(frames <= FRAMES && bytes <= BYTES, "{members} members");
        for (index, node) in world.alive() {
            let late = node.status().counters.get("late").copied();
            assert_eq!(late, None, "p{index} was called in time, and never froze");
        }
    }
}

#[test]
fn a_death_that_closes_nothing_is_noticed() {
    for members in [2, 10, 50] {
        for victim in [1, members - 1] {
            let mut world = ring(members);
            let (died_at, dead) = (world.now, world.id(victim));
            // Its computer lost its power: nothing closes.
            world.freeze(victim);
            let knows = |world: &World| {
                let mut others = world.alive().filter(|(index, _)| *index != victim);
                others.all(|(_, node)| !node.successors().contains(&dead))
            };
            while !knows(&world) {
                assert!(
                    world.now < died_at + NOTICED,
                    "{members} members: p{victim}"
                );
                pass(&mut world, 10 * MS);
            }
            let took = (world.now - died_at) / MS;
            println!("{members} members: routed around p{victim} after {took} ms");
        }
    }
}
