//! What a relay does wrong, and what is told of it.

use super::*;
use crate::identity::Record;

#[test]
fn every_trouble_with_a_relay_has_its_kind() {
    let mut end = End::dialling(1, 10, &network("test"));
    end.links.on_down(end.relay, "refused", end.now.mono);
    end.collect();
    assert_eq!(end.troubles, [TroubleKind::RelayUnreachable]);
    end.wait(Duration::from_secs(10));
    end.dial();
    end.links.on_down(end.relay, "refused", end.now.mono);
    end.collect();
    assert_eq!(end.troubles.len(), 1, "said once in a row of failures");

    let mut end = End::attached(1, 10);
    end.links.on_down(end.relay, "closed", end.now.mono);
    end.collect();
    assert_eq!(end.troubles, [TroubleKind::RelayLost]);
    assert_eq!(end.count("relay_lost"), 1);

    for (refusal, kind) in [
        (Refusal::Network, TroubleKind::WrongNetwork),
        (Refusal::Version, TroubleKind::RelayRefused),
        (Refusal::Proof, TroubleKind::RelayRefused),
        (Refusal::Full, TroubleKind::RelayRefused),
    ] {
        let mut end = End::dialling(1, 10, &network("test"));
        end.links.on_up(end.relay, end.now);
        end.hear(&FromRelay::Refused(refusal));
        assert_eq!(end.troubles, [kind], "{refusal:?}");
    }
}

#[test]
fn a_relay_that_gave_a_frozen_node_up_is_dialled_at_once() {
    let mut end = End::attached(1, 10);
    end.links.on_late(end.now.mono);
    let lost = end.relay;
    end.links.on_down(lost, "closed", end.now.mono);
    end.dial();
    assert_ne!(end.relay, lost);
    // One that is not there is not.
    let failed = end.relay;
    end.links.on_down(failed, "refused", end.now.mono);
    end.dial();
    assert_eq!(end.relay, failed);
}

#[test]
fn a_relay_of_another_network_is_not_believed() {
    let mut end = End::dialling(1, 10, &network("test"));
    end.links.on_up(end.relay, end.now);
    let member = End::dialling(200, 1, &network("other")).links.me.record;
    end.hear(&FromRelay::Welcome { member });
    assert_eq!(end.troubles, [TroubleKind::RelayRefused]);
    assert!(!end.links.relays.is_attached(end.relay));
}

#[test]
fn a_relay_that_babbles_is_counted_and_borne() {
    let (mut a, mut b) = pair();
    let gone = FromRelay::Gone { peer: a.id() }.encode();
    let bad: [&[u8]; 5] = [
        &[],
        &[0xff; 100],
        &[3, 1, 2],
        &[0xff; 1 << 20],
        &[&gone[..], b"more"].concat(),
    ];
    for (number, bytes) in (1..).zip(bad) {
        b.hear_bytes(bytes);
        assert_eq!(b.count("relay_malformed"), number);
    }
    a.say(&b.id(), b"hello");
    exchange(&mut [&mut a, &mut b]);
    assert_eq!(b.heard(), [b"hello"]);
    // What a relay delivers before it took the node in is not believed.
    let mut early = End::dialling(3, 30, &network("test"));
    early.links.on_up(early.relay, early.now);
    early.deliver(a.id(), b"whatever");
    assert_eq!(early.count("relay_malformed"), 1);
}

/// The member of a relay.
fn member(seed: u8) -> Record {
    End::dialling(seed, 1, &network("test")).links.me.record
}

/// A peer that is at home at these relays.
fn peer_at(seed: u8, homes: &[NodeId]) -> Record {
    let me = End::dialling(seed, 1, &network("test")).links.me;
    let facts = me.record.facts().clone();
    me.identity.record_at(facts, homes.to_vec(), &me.network)
}

/// An end that is attached to two relays, and the links to them.
fn attached_to_two() -> (End, [LinkId; 2]) {
    let urls = ["ws://one/ws", "ws://two/ws"].map(ToString::to_string);
    let mut end = End::dialling_all(1, 10, &network("test"), &urls);
    let relays = [LinkId(1), LinkId(2)];
    for (relay, seed) in relays.into_iter().zip(200..) {
        end.relay = relay;
        end.links.on_up(relay, end.now);
        end.hear(&FromRelay::Challenge {
            version: PROTOCOL_VERSION,
            nonce: [1; 32],
        });
        end.hear(&FromRelay::Welcome {
            member: member(seed),
        });
        assert!(end.links.relays.is_attached(relay));
    }
    end.outputs.clear();
    (end, relays)
}

/// By which link a message to a peer goes, if by any.
fn way(end: &mut End, to: &NodeId) -> Option<LinkId> {
    let sent = end.links.send(to, Lane::Kv, b"m", end.now);
    end.collect();
    let link = end.outputs.drain(..).find_map(|output| match output {
        Output::Send { link, .. } => Some(link),
        _ => None,
    });
    assert_eq!(sent.is_ok(), link.is_some());
    link
}

fn gone(end: &mut End, relay: LinkId, peer: NodeId) {
    end.relay = relay;
    end.hear(&FromRelay::Gone { peer });
}

#[test]
fn a_node_is_at_home_where_it_attached() {
    let (end, _) = attached_to_two();
    let record = &end.links.me.record;
    assert_eq!(record.homes(), [member(200).id(), member(201).id()]);
    assert_eq!(record.verify(&network("test")), Ok(()));
    // Of one start, the record with more homes is the newer.
    let mut other = End::attached(2, 10);
    let early = End::dialling(1, 10, &network("test")).links.me.record;
    for known in [&early, record, &early] {
        other.links.learn(known, other.now.mono);
    }
    assert_eq!(other.links.record(&record.id()), Some(record));
}

#[test]
fn a_peer_is_looked_for_where_it_is_at_home() {
    let (mut end, [_, two]) = attached_to_two();
    let there = peer_at(3, &[member(201).id()]);
    let elsewhere = peer_at(4, &[member(202).id()]);
    for record in [&there, &elsewhere] {
        end.links.learn(record, end.now.mono);
    }
    assert_eq!(way(&mut end, &there.id()), Some(two));
    assert_eq!(way(&mut end, &elsewhere.id()), None);
    // Its own relay knows whether it lives.
    gone(&mut end, two, there.id());
    assert_eq!(end.downs, [(there.id(), DownCause::Closed)]);
    assert_eq!(way(&mut end, &there.id()), None);
    end.wait(Duration::from_secs(1));
    assert_eq!(way(&mut end, &there.id()), Some(two));
}

#[test]
fn a_peer_of_an_unknown_home_is_looked_for_everywhere_and_not_held_for_dead() {
    let (mut end, [one, two]) = attached_to_two();
    let peer = peer_at(3, &[]);
    end.links.learn(&peer, end.now.mono);
    for relay in [one, two] {
        assert_eq!(way(&mut end, &peer.id()), Some(relay));
        gone(&mut end, relay, peer.id());
    }
    assert_eq!(way(&mut end, &peer.id()), None);
    assert_eq!(end.downs, []);
}
