//! What a relay does wrong, and what is told of it.

use super::*;

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
