//! How soon a death is noticed, and how soon copies are back.

mod common;

use std::time::{Duration, Instant};

use common::{Member, Ring, alone, http, keys, wait_until};

// Each is twice what is promised, for CI, whose machines are slow and busy; what
// it took is printed.

/// One whose transports close is routed around within this time: 1 s.
const CLOSED: Duration = Duration::from_secs(2);
/// One that says nothing more, and closes nothing: 5 s.
const SILENT: Duration = Duration::from_secs(10);
/// All copies are back, and another votes in its place: 10 s.
const RESTORED: Duration = Duration::from_secs(20);
const KEYS: usize = 10_000;

/// A ring of five durable members with many keys, all whole.
fn ring() -> Ring {
    let ring = Ring::start(4);
    keys::put_all(&ring, KEYS);
    for member in &ring.members {
        wait_until("all copies", Duration::from_secs(60), || member.is_whole());
    }
    // Direct links, too: else all that is known of a death is what relays say.
    for member in &ring.members {
        wait_until("direct links", Duration::from_secs(20), || {
            member.has_direct_links(4)
        });
    }
    ring
}

fn id(member: &Member) -> String {
    let status = member.status().expect("it answers");
    status["id"].as_str().expect("an id").to_owned()
}

/// Whether a member routes around another.
fn avoids(member: &Member, id: &str) -> bool {
    member.status().is_some_and(|status| {
        let successors = status["successors"].as_array();
        let mut successors = successors.expect("a list").iter();
        !successors.any(|successor| successor == id)
    })
}

/// Whether somebody still counts a member among the voters of a key.
fn votes(member: &Member, id: &str) -> bool {
    (0..KEYS).step_by(50).any(|number| {
        let key = keys::key(number);
        let located = http("GET", member.http, &format!("/v1/locate/{key}"), b"").json();
        let voters = located["voters"].as_array().expect("a list").clone();
        voters.iter().any(|voter| voter == id)
    })
}

/// Waits until all others route around one; says how long that took.
fn wait_avoided(ring: &Ring, victim: usize, id: &str, limit: Duration, what: &str) {
    let start = Instant::now();
    for member in others(ring, victim) {
        wait_until("to be routed around", limit, || avoids(member, id));
    }
    println!("{what}: routed around after {:.2?}", start.elapsed());
}

fn others(ring: &Ring, victim: usize) -> Vec<&Member> {
    let others = ring.members.iter().enumerate();
    let others = others.filter(|(index, _)| *index != victim);
    others.map(|(_, member)| member).collect()
}

#[test]
fn copies_of_one_that_is_killed_are_back_soon() {
    let _alone = alone();
    let mut ring = ring();
    let victim = 2;
    let id = id(&ring.members[victim]);
    let died = Instant::now();
    ring.members[victim].kill_9();
    wait_avoided(&ring, victim, &id, CLOSED, "killed");
    for member in others(&ring, victim) {
        let left = RESTORED.saturating_sub(died.elapsed());
        wait_until("all copies", left, || {
            member.is_whole() && !votes(member, &id)
        });
    }
    println!("killed: {KEYS} keys whole after {:.2?}", died.elapsed());
    let lost = keys::lost(&ring.members[0], KEYS);
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn one_that_is_frozen_is_routed_around_and_comes_back() {
    let _alone = alone();
    let mut ring = ring();
    let victim = 3;
    let id = id(&ring.members[victim]);
    ring.members[victim].process().signal("STOP");
    wait_avoided(&ring, victim, &id, SILENT, "frozen");
    ring.members[victim].process().signal("CONT");
    for member in &ring.members {
        wait_until("the ring to be whole", Duration::from_secs(20), || {
            member.is_whole()
        });
    }
    for member in others(&ring, victim) {
        wait_until("it to be back", Duration::from_secs(20), || {
            !avoids(member, &id)
        });
    }
}

#[test]
fn one_that_is_told_to_stop_leaves_nothing_behind() {
    let _alone = alone();
    let mut ring = ring();
    let victim = 1;
    let id = id(&ring.members[victim]);
    let told = Instant::now();
    let process = ring.members[victim].process();
    process.terminate();
    let status = process.ended(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0));
    println!("told: ended after {:.2?}", told.elapsed());
    wait_avoided(&ring, victim, &id, CLOSED, "ended");
    for member in others(&ring, victim) {
        assert!(!votes(member, &id));
    }
    let lost = keys::lost(&ring.members[0], KEYS);
    assert!(lost.is_empty(), "{lost:?}");
}
