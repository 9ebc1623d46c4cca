//! Zave's invariant of a correct Chord ring (*Reasoning about identifier spaces:
//! how to make Chord correct*, 2017, section 5): from every member the first
//! live successors lead into one ring, in order; successor lists are in order.

use roundelay_core::NodeId;

use crate::world::{SECOND, World};

/// One member's successor list: in order, none twice, never itself.
pub fn check_list(world: &mut World, index: usize) -> Result<(), String> {
    let now = world.now;
    let process = &mut world.processes[index];
    let Some(node) = &process.node else {
        return Ok(());
    };
    if !node.successors().is_empty() {
        process.placed_at.get_or_insert(now);
    }
    let own = node.id();
    let list = node.successors();
    let ways: Vec<[u8; 32]> = list.iter().map(|id| own.distance_to(id)).collect();
    if ways.windows(2).any(|two| two[0] >= two[1]) || list.contains(&own) {
        return Err(format!("p{index}: successors out of order: {list:?}"));
    }
    Ok(())
}

/// One that joined a moment ago: nobody who has a place in the ring already lies
/// between it and its first successor.
pub fn check_joined(world: &World, index: usize) -> Result<(), String> {
    if !has_relays(world) {
        return Ok(());
    }
    let Some(node) = &world.processes[index].node else {
        return Ok(());
    };
    let way = |id: &NodeId| node.id().distance_to(id);
    let others = world.alive().filter(|(other, _)| *other != index);
    let placed = others.filter(|(other, _)| is_settled(world, *other));
    let next = placed.map(|(_, node)| node.id()).min_by_key(way);
    match (node.successors().first(), next) {
        (Some(head), Some(next)) if way(&next) < way(head) => {
            Err(format!("p{index} joined in the wrong place, before {head}"))
        }
        _ => Ok(()),
    }
}

/// Whether all relays have their place. Without one, those at home there that have
/// no direct links are parted, and who joins there is taken in by it alone.
fn has_relays(world: &World) -> bool {
    (0..world.relay_count).all(|relay| is_settled(world, relay))
}

/// How long one that started, was frozen or was parted from all others may take
/// to find its place, since it met the first other member.
const PLACE: u64 = 10 * SECOND;

/// The whole ring, but for those who look for their place in it.
pub fn check(world: &World) -> Result<(), String> {
    if !has_relays(world) {
        return Ok(());
    }
    let settled: Vec<bool> = (0..world.processes.len())
        .map(|index| is_settled(world, index))
        .collect();
    let next_of = |index: usize| -> Result<Option<usize>, String> {
        let node = world.processes[index].node.as_ref();
        let list = node.map_or(&[][..], |node| node.successors());
        let places = || list.iter().filter_map(|id| world.index(id));
        if !places().any(|place| world.processes[place].node.is_some()) {
            return Err(format!("p{index} has no live successor: {list:?}"));
        }
        // Perhaps all of them look for their places.
        Ok(places().find(|place| settled[*place]))
    };
    // From each member on: either into what is known to lead to the ring, or
    // round it for the first time.
    let mut done: Vec<Option<usize>> = vec![None; settled.len()];
    let mut rings = Vec::new();
    for start in (0..settled.len()).filter(|index| settled[*index]) {
        let mut path = Vec::new();
        let mut at = start;
        let mut ends = false;
        while !ends && done[at].is_none() {
            done[at] = Some(start);
            path.push(at);
            match next_of(at)? {
                Some(next) => at = next,
                None => ends = true,
            }
        }
        if !ends && done[at] == Some(start) {
            let from = path.iter().position(|place| *place == at).unwrap_or(0);
            rings.push(path.split_off(from));
        }
    }
    if rings.len() > 1 {
        let sizes: Vec<usize> = rings.iter().map(Vec::len).collect();
        return Err(format!("{} rings of {sizes:?}", rings.len()));
    }
    // Once round, and no more: one step alone passes zero.
    let ring = rings.pop().unwrap_or_default();
    let ids = ring.iter().map(|place| world.id(*place));
    let pairs = ids.clone().zip(ids.cycle().skip(1));
    let wraps = pairs.filter(|(id, next)| next <= id).count();
    if wraps > 1 {
        return Err(format!("the ring of {} is out of order", ring.len()));
    }
    Ok(())
}

fn is_settled(world: &World, index: usize) -> bool {
    let process = &world.processes[index];
    let placed = process.placed_at.is_some_and(|at| at + PLACE <= world.now);
    process.node.is_some() && !world.is_frozen(index) && placed
}
