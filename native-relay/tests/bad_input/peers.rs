//! Peers that are attached by right and then send what they should not.

use roundelay_core::NodeId;
use tokio_tungstenite::tungstenite::Message;

use crate::common::{Member, Ring, alone, http, wait_until};
use crate::hostile::{Forgery, Hostile, init, socket};
use crate::{SOON, hub_count};

/// Keys that were acknowledged before, and a value of some length in one.
fn put_some(ring: &Ring) {
    for number in 0..20 {
        let put = ring.members[0].put(&format!("kept/{number}"), &[number; 3_000]);
        assert_eq!(put.status, 204, "{}", put.text());
    }
}

/// All live, answer, and have what was acknowledged.
fn assert_unharmed(ring: &mut Ring) {
    for index in 0..ring.members.len() {
        assert!(ring.members[index].process().is_alive(), "member {index}");
        let member = &ring.members[index];
        for number in 0..20 {
            let get = member.get(&format!("kept/{number}"));
            assert_eq!(get.status, 200, "{}", get.text());
            assert!(get.body == [number; 3_000], "kept/{number}");
        }
        let put = member.put(&format!("after/{index}"), b"put");
        assert_eq!(put.status, 204, "{}", put.text());
    }
    for index in 0..ring.members.len() {
        for member in &ring.members {
            assert_eq!(member.get(&format!("after/{index}")).body, b"put");
        }
    }
    ring.wait_whole();
}

fn count(member: &Member, counter: &str) -> u64 {
    let status = member.status().expect("a status");
    status["counters"][counter].as_u64().unwrap_or(0)
}

fn id(member: &Member) -> NodeId {
    let status = member.status().expect("a status");
    status["id"].as_str().unwrap().parse().unwrap()
}

/// Joins, and has opened a circuit to each of these that carried something. It
/// stays relayed.
fn joined(ring: &Ring, number: u8, victims: &[NodeId]) -> Hostile {
    let mut hostile = Hostile::attach(ring.listen, number, Forgery::Expired);
    hostile.until("circuits", |hostile| {
        let mut victims = victims.iter();
        victims.all(|id| !hostile.first(id).is_empty() && !hostile.sealed(id).is_empty())
    });
    hostile
}

#[test]
fn what_does_not_belong_into_a_circuit_is_refused_and_counted() {
    let _alone = alone();
    let mut ring = Ring::start(1);
    put_some(&ring);
    let victims = [id(&ring.members[0]), id(&ring.members[1])];
    let mut other = joined(&ring, 2, &victims);
    let mut hostile = joined(&ring, 1, &victims);
    for (member, victim) in ring.members.iter().zip(&victims) {
        let epoch = member.status().unwrap()["epoch"].as_u64().unwrap();
        for (counter, body) in hostile.bad_bodies(victim, epoch) {
            let before = count(member, counter);
            hostile.throw_often_at(victim, &body);
            let what = format!("{counter} of {} bytes", body.len());
            hostile.until(&what, |_| {
                other.turn();
                count(member, counter) > before
            });
        }
        // In the name of another, whose words they are.
        for (counter, body) in [
            ("circuit_forged", hostile.last_sealed(victim)),
            ("circuit_replayed", hostile.first(victim)[0].clone()),
        ] {
            let before = count(member, counter);
            other.throw_often_at(victim, &body);
            hostile.until(counter, |_| {
                other.turn();
                count(member, counter) > before
            });
        }
    }
    // What is right for one is not for another.
    for (counter, body) in [
        ("circuit_outdated", hostile.first(&victims[0])[0].clone()),
        ("circuit_unknown", hostile.last_sealed(&victims[0])),
    ] {
        let before = count(&ring.members[1], counter);
        hostile.throw_at(&victims[1], &body);
        hostile.until(counter, |_| count(&ring.members[1], counter) > before);
    }
    // Their own circuits go on.
    for peer in [&mut hostile, &mut other] {
        let before = victims.map(|victim| peer.sealed(&victim).len());
        peer.until("more to be said", |peer| {
            victims
                .iter()
                .zip(before)
                .all(|(victim, before)| peer.sealed(victim).len() > before)
        });
    }
    assert_unharmed(&mut ring);
}

#[test]
fn who_sends_the_relay_what_it_should_not_is_put_out() {
    let _alone = alone();
    let mut ring = Ring::start(1);
    put_some(&ring);
    let listen = ring.listen;
    let victims = [id(&ring.members[0]), id(&ring.members[1])];
    // To one that is not attached: the sender is told, and stays.
    let mut hostile = joined(&ring, 1, &victims);
    let before = hub_count(listen, "forwards_unreachable");
    for number in 0..10 {
        hostile.throw_at(&NodeId::from_bytes([number; 32]), b"anyone?");
    }
    wait_until("the count", SOON, || {
        hub_count(listen, "forwards_unreachable") >= before + 10
    });
    let attach = hostile.sent[0].clone();
    drop(hostile);
    // What proved who it is once proves nothing again; nor does half of it.
    let mut signed_by_another = attach.clone();
    *signed_by_another.last_mut().unwrap() ^= 1;
    for attach in [attach.clone(), signed_by_another] {
        let before = hub_count(listen, "refused_network");
        let mut socket = socket(listen);
        let _ = socket.send(Message::binary(attach));
        wait_until("the refusal", SOON, || {
            hub_count(listen, "refused_network") > before
        });
    }
    // Attached, and then no message of the protocol.
    let bad = [vec![], vec![0xff; 50], vec![1; 20], vec![0; 65_536], attach];
    for (number, frame) in (2..).zip(bad) {
        let mut hostile = joined(&ring, number, &victims);
        let before = hub_count(listen, "refused_malformed");
        hostile.throw(frame);
        wait_until("the refusal", SOON, || {
            hub_count(listen, "refused_malformed") > before
        });
    }
    assert_unharmed(&mut ring);
}

#[test]
fn a_description_that_does_not_hold_makes_no_link() {
    let _alone = alone();
    let mut ring = Ring::start(1);
    put_some(&ring);
    let mut hostile = Hostile::attach(ring.listen, 1, Forgery::None);
    // It can, if it wants to.
    hostile.until("honest links", |hostile| hostile.linked.len() == 2);
    for (forgery, counter) in [
        (Forgery::Expired, "signal_expired"),
        (Forgery::Fingerprint, "direct_failed"),
    ] {
        hostile.forgery = forgery;
        let before = [0, 1].map(|index| count(&ring.members[index], counter));
        hostile.break_links();
        hostile.until("the refusals", |hostile| {
            assert!(hostile.linked.is_empty(), "{forgery:?} made a link");
            let counts = [0, 1].map(|index| count(&ring.members[index], counter));
            counts
                .iter()
                .zip(before)
                .all(|(count, before)| *count > before)
        });
    }
    assert_unharmed(&mut ring);
}

#[test]
fn a_flood_of_nonsense_fills_no_memory() {
    const FRAMES: u64 = 30_000;
    let _alone = alone();
    let mut ring = Ring::start(1);
    put_some(&ring);
    let victims = [id(&ring.members[0]), id(&ring.members[1])];
    let mut hostile = joined(&ring, 1, &victims);
    let resident = |member: &Member| {
        let metrics = http("GET", member.http, "/metrics", b"").text();
        let name = "process_resident_memory_bytes ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |bytes| bytes.parse::<u64>().unwrap())
    };
    let epoch = ring.members[1].status().unwrap()["epoch"].as_u64().unwrap();
    let mut flood = |from: u64| {
        let refused = || {
            let counters = ["circuit_forged", "circuit_crowded"];
            let counts = counters.map(|counter| count(&ring.members[1], counter));
            counts.iter().sum::<u64>()
        };
        let before = refused();
        for number in from..from + FRAMES {
            let mut noise = vec![0; 1_000];
            noise[..8].copy_from_slice(&number.to_be_bytes());
            hostile.throw_at(&victims[1], &init(number, epoch, &noise));
        }
        hostile.until("all of it to be refused", |_| refused() >= before + FRAMES);
        [0, 1].map(|index| resident(&ring.members[index]))
    };
    // The first one fills what may be filled: the queue for a slow reader.
    let before = flood(0);
    let after = flood(FRAMES);
    for (before, after) in before.into_iter().zip(after) {
        let grown = after.saturating_sub(before);
        assert!(grown < FRAMES * 1_000 / 2, "{before} bytes, then {after}");
    }
    assert_unharmed(&mut ring);
}
