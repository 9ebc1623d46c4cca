//! Who comes back, who is held for dead, and who is asked again.

use alloc::string::String;
use alloc::vec;

use super::*;
use crate::identity::{Facts, Identity};
use crate::status::Class;
use crate::trouble::TroubleKind;

/// Tables that a ring sends to a peer within ten seconds.
fn tables_sent(ring: &mut Ring, to: NodeId, now: &mut Instant) -> usize {
    ring.actions.clear();
    for _ in 0..100 {
        *now += Duration::from_millis(100);
        ring.on_timeout(*now);
    }
    let sent = ring.actions.drain(..).filter(|action| {
        matches!(action, RingAction::Send { to: own, message: Message::Table { .. } } if *own == to)
    });
    sent.count()
}

const RING: [u8; 16] = [7; 16];

fn network() -> Network {
    Network::new("n", b"").unwrap()
}

fn record(seed: u8) -> Record {
    let facts = Facts {
        epoch: 1,
        class: Class::Durable,
        name: String::new(),
    };
    Identity::from_seed(&[seed; 32]).record(facts, &network())
}

fn ring() -> Ring {
    let rng = Rng::from_seed([3; 32]);
    let id = RingId::from_bytes(RING);
    Ring::new(record(1), network(), Some(id), rng, Instant::default())
}

#[test]
fn who_returns_joins_its_own_ring_or_none() {
    let (peer, now) = (record(2), Instant::default());
    let found = |ring| {
        Message::Found(Neighbours {
            ring: RingId::from_bytes(ring),
            predecessor: None,
            successors: vec![],
            members: 0,
            views: 0,
            records: vec![],
        })
    };
    let rng = Rng::from_seed([3; 32]);
    let mut ring = Ring::new(record(1), network(), None, rng, now);
    ring.return_to(RingId::from_bytes(RING));
    ring.on_contact(peer.id(), now);
    let asks = ring.actions.pop_back();
    assert!(
        matches!(&asks, Some(RingAction::Send { message, .. }) if message.ring() == Some(RingId::from_bytes(RING))),
        "{asks:?}"
    );
    let foreign = Message::Foreign {
        ring: RingId::from_bytes([8; 16]),
    };
    for answer in [found([8; 16]), foreign] {
        ring.on_message(&peer, answer, now);
        let told = ring.actions.pop_back();
        assert!(
            matches!(&told, Some(RingAction::Trouble(trouble)) if trouble.kind == TroubleKind::OtherRing),
            "{told:?}"
        );
        assert_eq!(ring.id(), None);
    }
    ring.on_message(&peer, found(RING), now);
    assert_eq!(ring.id(), Some(RingId::from_bytes(RING)));
}

#[test]
fn a_late_answer_makes_no_successor_of_the_dead() {
    let (mut ring, peer) = (ring(), record(2));
    let mut now = Instant::default();
    let answer = Message::Stabilized(Neighbours {
        ring: RingId::from_bytes(RING),
        predecessor: None,
        successors: vec![],
        members: 0,
        views: 0,
        records: vec![],
    });
    ring.on_message(&peer, answer.clone(), now);
    assert_eq!(ring.successors(), [peer.id()]);
    ring.on_gone(&peer.id(), 1, now);
    assert!(ring.successors().is_empty());
    ring.on_message(&peer, answer, now);
    for _ in 0..100 {
        now += Duration::from_millis(100);
        ring.on_timeout(now);
    }
    assert!(ring.successors().is_empty());
}

#[test]
fn a_contact_is_asked_again_while_it_is_held_for_dead() {
    let contact = record(2);
    let peer = contact.id();
    let mut now = Instant::default();
    let id = RingId::from_bytes(RING);
    let mut ring = ring();
    ring.on_contact(peer, now);
    assert!(tables_sent(&mut ring, peer, &mut now) > 3, "no answer came");
    let answer = Message::Members {
        ring: id,
        updates: vec![],
    };
    ring.on_message(&contact, answer, now);
    assert_eq!(tables_sent(&mut ring, peer, &mut now), 0, "it answered");
    ring.on_gone(&peer, 0, now);
    assert!(
        ring.members.is_alive(&peer),
        "an earlier start of it is gone"
    );
    ring.on_gone(&peer, 1, now);
    assert!(tables_sent(&mut ring, peer, &mut now) > 3, "held for dead");
    ring.on_contact_lost(&peer);
    assert_eq!(tables_sent(&mut ring, peer, &mut now), 0, "out of reach");
}

#[test]
fn one_that_speaks_is_told_that_it_is_held_for_dead() {
    let (mut ring, peer) = (ring(), record(2));
    let id = peer.id();
    let ring_id = RingId::from_bytes(RING);
    ring.on_message(&peer, Message::Notify { ring: ring_id }, Instant::default());
    ring.on_gone(&id, 1, Instant::default());
    ring.on_timeout(Instant::default() + Duration::from_secs(5));
    ring.actions.clear();
    ring.on_heard(&id, Instant::default() + Duration::from_secs(6));
    let told = |action: &RingAction| matches!(action, RingAction::Send { to, .. } if *to == id);
    assert!(ring.actions.iter().any(told));
}
