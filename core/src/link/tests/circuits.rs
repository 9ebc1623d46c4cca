//! What does not belong into a circuit is refused and counted, and the circuit
//! goes on.

use super::super::circuit::SKEW_MS_MAX;
use super::*;
use crate::wire::FRAME_LEN_MAX;

/// A circuit with one message each way, and all bodies that made it.
fn circuit() -> (End, End, Vec<(NodeId, Vec<u8>)>) {
    let (mut a, mut b) = pair();
    a.say(&b.id(), b"first");
    let mut carried = exchange(&mut [&mut a, &mut b]);
    b.say(&a.id(), b"back");
    carried.extend(exchange(&mut [&mut a, &mut b]));
    assert_eq!(
        (b.heard(), a.heard()),
        (vec![b"first".to_vec()], vec![b"back".to_vec()])
    );
    (a, b, carried)
}

/// The circuit carries messages both ways, and no new one was opened.
fn goes_on(a: &mut End, b: &mut End) {
    let session = |end: &End, peer: &End| end.links.circuits.current(&peer.id());
    let before = (session(a, b), session(b, a));
    a.say(&b.id(), b"there");
    exchange(&mut [a, b]);
    b.say(&a.id(), b"here");
    exchange(&mut [a, b]);
    assert_eq!(
        (b.heard(), a.heard()),
        (vec![b"there".to_vec()], vec![b"here".to_vec()])
    );
    assert_eq!((session(a, b), session(b, a)), before);
}

/// A new circuit carries a message.
fn goes_on_anew(a: &mut End, b: &mut End) {
    a.say(&b.id(), b"anew");
    exchange(&mut [a, b]);
    assert_eq!(b.heard(), [b"anew"]);
}

#[test]
fn everything_replayed_is_refused() {
    let (mut a, mut b, carried) = circuit();
    let from_a: Vec<_> = carried.iter().filter(|(from, _)| *from == a.id()).collect();
    assert!(from_a.len() >= 2, "a first message and a sealed one");
    for round in 1..=3 {
        for (from, body) in &from_a {
            b.deliver(*from, body);
        }
        assert_eq!(b.count("circuit_replayed"), round * from_a.len() as u64);
        assert_eq!(b.heard(), [[0; 0]; 0], "nothing is heard twice");
    }
    goes_on(&mut a, &mut b);

    // What b said is not believed twice, either.
    let from_b: Vec<_> = carried.iter().filter(|(from, _)| *from == b.id()).collect();
    for (from, body) in &from_b {
        a.deliver(*from, body);
    }
    assert_eq!(a.heard(), [[0; 0]; 0]);
    assert!(a.count("circuit_replayed") > 0);
    goes_on(&mut a, &mut b);
}

#[test]
fn a_first_message_is_answered_again_until_the_answer_is_known_to_be_there() {
    let (mut a, mut b) = pair();
    a.say(&b.id(), b"first");
    let [(_, first)] = &a.forwards()[..] else {
        panic!("one first message");
    };
    b.deliver(a.id(), first);
    let [(_, answer)] = &b.forwards()[..] else {
        panic!("one answer");
    };
    for _ in 0..4 {
        b.deliver(a.id(), first);
        assert_eq!(b.forwards(), [(a.id(), answer.clone())]);
    }
    assert_eq!(b.heard(), [b"first"]);
    assert_eq!(b.count("circuit_replayed"), 0);
    // More often than anyone asks who means it.
    b.deliver(a.id(), first);
    assert_eq!((b.forwards(), b.count("circuit_replayed")), (vec![], 1));
    b.deliver(a.id(), first);
    assert_eq!((b.forwards(), b.count("circuit_replayed")), (vec![], 2));
    a.deliver(b.id(), answer);
    goes_on(&mut a, &mut b);
}

#[test]
fn an_old_first_message_is_refused_by_its_time() {
    for skew_ms in [-(SKEW_MS_MAX as i64) - 1, SKEW_MS_MAX as i64 + 1] {
        let (mut a, mut b) = pair();
        a.now.unix_ms = START_MS.saturating_add_signed(skew_ms);
        a.say(&b.id(), b"first");
        exchange(&mut [&mut a, &mut b]);
        assert_eq!((b.count("circuit_replayed"), b.heard().len()), (1, 0));
        // With its clock put right, the same node gets through.
        a.now.unix_ms = START_MS;
        a.links.circuits.close(&b.id());
        a.say(&b.id(), b"again");
        exchange(&mut [&mut a, &mut b]);
        assert_eq!(b.heard(), [b"again"]);
    }
    // Remembered for as long as it would be believed.
    let (mut a, mut b, carried) = circuit();
    b.wait(Duration::from_millis(SKEW_MS_MAX));
    b.deliver(a.id(), &carried[0].1);
    assert_eq!(b.count("circuit_replayed"), 1);
    b.wait(Duration::from_millis(2 * SKEW_MS_MAX));
    b.deliver(a.id(), &carried[0].1);
    assert_eq!((b.count("circuit_replayed"), b.heard().len()), (2, 0));
    goes_on(&mut a, &mut b);
}

#[test]
fn nobody_speaks_for_another() {
    let (mut a, mut b, carried) = circuit();
    let stranger = Identity::from_seed(&[9; 32]).id();
    for (number, (_, body)) in (1..).zip(carried.iter().filter(|(from, _)| *from == a.id())) {
        b.deliver(stranger, body);
        let refused = b.count("circuit_forged") + b.count("circuit_replayed");
        assert_eq!(refused, number);
    }
    assert!(
        b.count("circuit_forged") > 0,
        "a sealed message was taken from a stranger"
    );
    assert_eq!(b.heard(), [[0; 0]; 0]);
    goes_on(&mut a, &mut b);

    // A first message with another's name on it, seen for the first time.
    let mut c = End::attached(3, 30);
    c.links.learn(&b.links.me.record, c.now.mono);
    c.say(&b.id(), b"I am a");
    let forged = b.count("circuit_forged");
    b.deliver(a.id(), &c.forwards()[0].1);
    assert_eq!(
        (b.count("circuit_forged"), b.heard().len()),
        (forged + 1, 0)
    );
    // One with another's record in it, by one that is who it says it is.
    c.links.circuits.close(&b.id());
    c.links.me.record = a.links.me.record.clone();
    c.say(&b.id(), b"I am a, too");
    b.deliver(c.id(), &c.forwards()[0].1);
    assert_eq!(
        (b.count("circuit_forged"), b.heard().len()),
        (forged + 2, 0)
    );
    goes_on(&mut a, &mut b);
}

#[test]
fn a_message_for_another_is_refused() {
    let (mut a, mut b, carried) = circuit();
    let mut c = End::attached(3, 20);
    for (from, body) in &carried {
        c.deliver(*from, body);
    }
    assert_eq!(c.heard(), [[0; 0]; 0]);
    assert_eq!(c.count("circuit_forged"), 1, "the first message");
    // A sealed message of a session that it does not have: it says so, which
    // harms no session of those two.
    assert!(c.count("circuit_unknown") > 0);
    for (to, body) in c.forwards() {
        let end = if to == a.id() { &mut a } else { &mut b };
        end.deliver(c.id(), &body);
        assert!(end.count("circuit_unknown") > 0);
    }
    goes_on(&mut a, &mut b);
}

#[test]
fn another_network_or_secret_does_not_open_a_circuit() {
    for other in [network("other"), Network::new("test", b"secret").unwrap()] {
        let mut a = End::attached_in(1, 10, &other);
        let mut b = End::attached(2, 20);
        a.links.learn(&b.links.me.record, a.now.mono);
        a.say(&b.id(), b"hello");
        b.deliver(a.id(), &a.forwards()[0].1);
        assert_eq!((b.count("circuit_forged"), b.heard().len()), (1, 0));
    }
}

#[test]
fn a_handshake_with_an_earlier_start_is_told_of_the_new_one() {
    let (mut a, old, _) = circuit();
    let mut b = End::attached(2, 21);
    assert_eq!(b.id(), old.id());
    a.links.circuits.close(&b.id());
    a.say(&b.id(), b"lost");
    exchange(&mut [&mut a, &mut b]);
    assert_eq!((b.count("circuit_outdated"), b.heard().len()), (1, 0));
    // Now it knows better.
    a.say(&b.id(), b"found");
    exchange(&mut [&mut a, &mut b]);
    assert_eq!(b.heard(), [b"found"]);
    goes_on(&mut a, &mut b);
}

#[test]
fn a_record_of_another_or_none_asked_for_does_not_end_a_circuit() {
    let (mut a, mut b, carried) = circuit();
    // The answer to an outdated first message carries a record.
    let mut newer = End::attached(2, 21);
    newer.deliver(a.id(), &carried[0].1);
    let stale = newer.forwards().remove(0).1;
    a.deliver(b.id(), &stale);
    assert_eq!(a.count("circuit_unknown"), 1);
    goes_on(&mut a, &mut b);

    // While a first message waits for its answer: by another, or cut off.
    a.links.circuits.close(&b.id());
    a.say(&b.id(), b"waits");
    let first = a.forwards().remove(0).1;
    let mut stranger = End::attached(3, 30);
    stranger.deliver(a.id(), &first);
    let stale = stranger.forwards().remove(0).1;
    assert_eq!(stranger.count("circuit_outdated"), 1);
    a.deliver(stranger.id(), &stale);
    a.deliver(b.id(), &stale);
    a.deliver(b.id(), &stale[..stale.len() - 1]);
    assert_eq!(a.count("circuit_unknown"), 2);
    assert_eq!(a.count("circuit_forged"), 1);
    assert_eq!(a.count("circuit_malformed"), 1);
    b.deliver(a.id(), &first);
    exchange(&mut [&mut a, &mut b]);
    assert_eq!(b.heard(), [b"waits"]);
}

#[test]
fn what_is_cut_off_damaged_or_too_long_is_refused() {
    let (mut a, mut b, _) = circuit();
    let refused = |end: &End| end.count("circuit_malformed") + end.count("circuit_forged");
    a.say(&b.id(), b"whole");
    let sealed = a.forwards().remove(0).1;
    let mut c = End::attached(3, 30);
    c.links.learn(&b.links.me.record, c.now.mono);
    c.say(&b.id(), b"whole");
    let first = c.forwards().remove(0).1;
    for (from, body) in [(a.id(), &sealed), (c.id(), &first)] {
        // Cut within its own head a body may name another session or start.
        let head = body.len() - if from == a.id() { 7 + 16 } else { 100 };
        for cut in head..body.len() {
            let before = refused(&b);
            b.wait(Duration::from_millis(300));
            b.deliver(from, &body[..cut]);
            assert_eq!(refused(&b), before + 1, "cut at {cut} of {}", body.len());
        }
        let mut damaged = body.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let before = refused(&b);
        b.deliver(from, &damaged);
        b.deliver(from, &[&body[..], &[0]].concat());
        b.deliver(from, &[&body[..], &[0; FRAME_LEN_MAX]].concat());
        assert_eq!(refused(&b), before + 3);
    }
    let before = b.count("circuit_malformed");
    b.deliver(a.id(), &[]);
    b.deliver(a.id(), &[0xff; FRAME_LEN_MAX]);
    assert_eq!(b.count("circuit_malformed"), before + 2);
    assert_eq!(b.heard(), [[0; 0]; 0]);
    // Unharmed, both are taken after all.
    b.deliver(a.id(), &sealed);
    b.deliver(c.id(), &first);
    assert_eq!(b.heard(), [b"whole", b"whole"]);
    goes_on(&mut a, &mut b);
}

#[test]
fn who_opens_too_often_is_refused_and_nobody_else() {
    let (mut a, mut b, _) = circuit();
    let mut c = End::attached(3, 30);
    c.links.learn(&b.links.me.record, c.now.mono);
    for _ in 0..1_000 {
        c.links.circuits.close(&b.id());
        c.say(&b.id(), b"again");
        b.deliver(c.id(), &c.forwards()[0].1);
    }
    let heard = b.heard().len();
    assert!((10..30).contains(&heard), "{heard}");
    assert_eq!(b.count("circuit_crowded"), 1_000 - heard as u64);
    goes_on(&mut a, &mut b);
    a.links.circuits.close(&b.id());
    b.links.circuits.close(&a.id());
    goes_on_anew(&mut a, &mut b);
    // After a while it may open one again.
    b.wait(Duration::from_secs(1));
    c.links.circuits.close(&b.id());
    goes_on_anew(&mut c, &mut b);
}

#[test]
fn an_answer_that_does_not_hold_is_counted_and_the_peer_tried_again() {
    let (mut a, mut b) = pair();
    a.say(&b.id(), b"first");
    let first = a.forwards().remove(0).1;
    b.deliver(a.id(), &first);
    let mut answer = b.forwards().remove(0).1;
    *answer.last_mut().unwrap() ^= 1;
    a.deliver(b.id(), &answer);
    assert_eq!(a.count("circuit_forged"), 1);
    a.say(&b.id(), b"second");
    exchange(&mut [&mut a, &mut b]);
    assert_eq!(b.heard(), [&b"first"[..], b"second"]);
    goes_on(&mut a, &mut b);
}

#[test]
fn no_frame_is_within_a_seal_that_breaks_its_reader() {
    let (mut a, mut b, _) = circuit();
    let to = b.id();
    let fragment = |index, count, body: &[u8]| {
        let message = 77;
        let head = super::super::frame::Frame::Fragment {
            message,
            index,
            count,
        };
        head.encode(body)
    };
    let bad = [
        vec![],
        vec![0xff; 100],
        fragment(0, 0, b"x"),
        fragment(5, 2, b"x"),
        fragment(0, u16::MAX, b"x"),
        fragment(0, 1, b"x"),
    ];
    for (number, frame) in (1..).zip(bad) {
        a.links.send_frame(&to, Lane::Kv, frame, a.now).unwrap();
        a.collect();
        exchange(&mut [&mut a, &mut b]);
        assert_eq!(b.count("frame_malformed"), number);
    }
    // Parts of messages that never become whole are bounded.
    for message in 0..1000 {
        let head = super::super::frame::Frame::Fragment {
            message,
            index: 0,
            count: 2,
        };
        let frame = head.encode(&[0; 1000]);
        a.links.send_frame(&to, Lane::Kv, frame, a.now).unwrap();
        a.collect();
        exchange(&mut [&mut a, &mut b]);
    }
    assert_eq!(b.heard(), [[0; 0]; 0]);
    goes_on(&mut a, &mut b);
}
