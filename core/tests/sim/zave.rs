//! Zave's invariant of a correct Chord ring (*Reasoning about identifier spaces:
//! how to make Chord correct*, 2017, section 5): from every member the first
//! live successors lead into one ring, in order; successor lists are in order.

use std::collections::BTreeMap;

use roundelay_core::NodeId;

use crate::world::World;

/// One member's successor list: in order, none twice, never itself.
pub fn check_list(world: &World, index: usize) -> Result<(), String> {
    let Some(node) = &world.processes[index].node else {
        return Ok(());
    };
    let own = node.id();
    let list = node.successors();
    let ways: Vec<[u8; 32]> = list.iter().map(|id| own.distance_to(id)).collect();
    if ways.windows(2).any(|two| two[0] >= two[1]) || list.contains(&own) {
        return Err(format!("p{index}: successors out of order: {list:?}"));
    }
    Ok(())
}

/// The whole ring.
pub fn check(world: &World) -> Result<(), String> {
    let members: BTreeMap<NodeId, usize> = world
        .alive()
        .filter(|(_, node)| !node.successors().is_empty())
        .map(|(index, node)| (node.id(), index))
        .collect();
    let next_of = |id: &NodeId| -> Result<NodeId, String> {
        let index = members[id];
        let node = world.processes[index].node.as_ref();
        let list = node.map_or(&[][..], |node| node.successors());
        let live = list.iter().find(|id| members.contains_key(id));
        live.copied()
            .ok_or_else(|| format!("p{index} has no live successor: {list:?}"))
    };
    // From each member on: either into what is known to lead to the ring, or
    // round it for the first time.
    let mut done: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut rings = Vec::new();
    for (walk, start) in members.keys().enumerate() {
        let mut path = Vec::new();
        let mut at = *start;
        while !done.contains_key(&at) {
            done.insert(at, walk);
            path.push(at);
            at = next_of(&at)?;
        }
        if done[&at] == walk && path.contains(&at) {
            let from = path.iter().position(|id| *id == at).unwrap_or(0);
            rings.push(path.split_off(from));
        }
    }
    if rings.len() > 1 {
        let sizes: Vec<usize> = rings.iter().map(Vec::len).collect();
        return Err(format!("{} rings of {sizes:?}", rings.len()));
    }
    // Once round, and no more: one step alone passes zero.
    let ring = rings.pop().unwrap_or_default();
    let pairs = ring.iter().zip(ring.iter().cycle().skip(1));
    let wraps = pairs.filter(|(id, next)| next <= id).count();
    if wraps > 1 {
        return Err(format!("the ring of {} is out of order", ring.len()));
    }
    Ok(())
}
