//! Many nodes that come at once.

mod common;

use std::time::{Duration, Instant};

use common::{Member, Ring, alone, http, wait_until};
use serde_json::Value;

/// In CI, whose machines are slow; by hand it shall be 5 s.
const LIMIT: Duration = Duration::from_secs(15);

/// Fifty of the release binary. Two processors cannot bring up as many of one
/// that is not optimised: it takes ten times as long for everything.
fn nodes() -> usize {
    let is_given = std::env::var_os("ROUNDELAY_BIN").is_some();
    if is_given { 50 } else { 8 }
}

/// What all agree on once the ring is whole: its id, and the ids of its
/// members, clockwise.
fn ring_of(member: &Member) -> (Value, Vec<Value>) {
    let ring = http("GET", member.http, "/v1/ring", b"").json();
    let members = ring["members"].as_array().into_iter().flatten();
    (
        ring["ring_id"].clone(),
        members.map(|member| member["id"].clone()).collect(),
    )
}

#[test]
fn many_nodes_join_one_relay_at_once() {
    let nodes = nodes();
    let _alone = alone();
    let mut ring = Ring::start(0);
    let relay = format!("http://127.0.0.1:{}", ring.listen);
    let start = Instant::now();
    for number in 1..=nodes {
        ring.add(&format!("node-{number}"), &["node", "--relay", &relay]);
    }
    let started = start.elapsed();
    for member in &ring.members {
        let left = LIMIT.saturating_sub(start.elapsed());
        wait_until("a member that is ready and lists all", left, || {
            http("GET", member.http, "/readyz", b"").status == 200
                && ring_of(member).1.len() == nodes + 1
        });
    }
    let took = start.elapsed();
    println!("{nodes} nodes, started within {started:.2?}, were in the ring after {took:.2?}");

    // One ring, in order: everybody's neighbours are those next in the list.
    let (ring_id, members) = ring_of(&ring.members[0]);
    for member in &ring.members {
        assert_eq!(ring_of(member), (ring_id.clone(), members.clone()));
        let left = LIMIT.saturating_sub(start.elapsed());
        wait_until("neighbours in order", left, || {
            let status = member.status().unwrap();
            let at = members.iter().position(|id| *id == status["id"]).unwrap();
            let (next, before) = ((at + 1) % members.len(), (at + nodes) % members.len());
            status["successors"][0] == members[next] && status["predecessor"] == members[before]
        });
    }
}
