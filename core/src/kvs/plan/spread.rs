//! How evenly votes are spread, as they are, and as they might be.

extern crate std;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::id::NodeId;
use crate::identity::{Facts, Identity};
use crate::kvs::key::{SLOT_COUNT, Slot};
use crate::kvs::peers::{Living, Peers};
use crate::kvs::view::VOTER_COUNT_MAX;
use crate::rng::Rng;
use crate::status::Class;
use crate::time::Instant;

/// The voters of each slot, in order.
type Placement = Vec<Vec<NodeId>>;

fn slots() -> impl Iterator<Item = Slot> {
    (0..SLOT_COUNT).filter_map(Slot::new)
}

/// As plans have it: one durable member after another, clockwise.
fn planned(members: &[NodeId]) -> Placement {
    let facts = Facts {
        epoch: 1,
        class: Class::Durable,
        name: alloc::string::String::new(),
    };
    let mut peers = Peers::default();
    let alive = members.iter().map(|id| (*id, Living::of(&facts)));
    peers.set(alive.collect(), Instant::default());
    let voters = |slot: Slot| {
        let mut voters = Vec::new();
        for _ in 0..VOTER_COUNT_MAX {
            voters.extend(peers.next_durable(&slot.start(), &voters));
        }
        voters
    };
    slots().map(voters).collect()
}

/// The same, were each member at so many positions.
fn with_points(members: &[NodeId], count: u64) -> Placement {
    let mut points: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    for member in members {
        let mut rng = Rng::from_seed(*member.as_bytes());
        points.insert(*member, *member);
        for _ in 1..count {
            let position = core::array::from_fn(|_| rng.next_u64().to_be_bytes());
            let position: [[u8; 8]; 4] = position;
            let position = NodeId::from_bytes(*position.as_flattened().first_chunk().unwrap());
            points.insert(position, *member);
        }
    }
    let voters = |slot: Slot| {
        let start = slot.start();
        let mut voters: Vec<NodeId> = Vec::new();
        for (_, member) in points.range(start..).chain(points.range(..start)) {
            if !voters.contains(member) && voters.len() < VOTER_COUNT_MAX {
                voters.push(*member);
            }
        }
        voters
    };
    slots().map(voters).collect()
}

/// Votes of who has most, of the mean; runs of slots with the same voters; and with
/// how many others each member votes, on average.
fn measure(placement: &Placement, members: usize) -> (f64, usize, f64) {
    let mut votes: BTreeMap<NodeId, (u32, BTreeSet<NodeId>)> = BTreeMap::new();
    for voters in placement {
        for voter in voters {
            let (count, fellows) = votes.entry(*voter).or_default();
            *count += 1;
            fellows.extend(voters.iter().filter(|other| *other != voter));
        }
    }
    let most = votes.values().map(|(count, _)| *count).max().unwrap_or(0);
    let mean = (VOTER_COUNT_MAX * usize::from(SLOT_COUNT)) as f64 / members as f64;
    let changes = placement.windows(2).filter(|two| two[0] != two[1]);
    let fellows: usize = votes.values().map(|(_, fellows)| fellows.len()).sum();
    let fellows = fellows as f64 / members as f64;
    (f64::from(most) / mean, 1 + changes.count(), fellows)
}

#[test]
fn votes_are_spread_as_arcs_are() {
    for count in [10_u32, 100, 1000] {
        let id = |number: u32| {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&number.to_be_bytes());
            Identity::from_seed(&seed).id()
        };
        let members: Vec<NodeId> = (0..count).map(id).collect();
        let planned = planned(&members);
        assert_eq!(planned, with_points(&members, 1));
        let (most, ..) = measure(&planned, members.len());
        assert!(most < 6.0, "{count} members: {most}");
        for points in [1, 4, 16] {
            let placement = with_points(&members, points);
            let (most, runs, fellows) = measure(&placement, members.len());
            std::println!(
                "{count} durable members at {points} positions each: {most:.2} of the mean, \
                 {runs} runs, {fellows:.1} fellows"
            );
        }
    }
}
