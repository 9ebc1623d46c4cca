//! Descriptions that are not to be believed are refused and counted, and the
//! right ones are still taken.

use super::super::signal::{LIFETIME_MS, SKEW_MS_MAX, Signal, SignedSignal};
use super::*;
use crate::event::{Description, DescriptionKind, Role};
use crate::wire;

const TEXT: &str =
    "v=0\r\na=ice-ufrag:abcd\r\na=fingerprint:sha-256 00:11:22:33\r\na=candidate:1 1 udp\r\n";

/// Two ends that know each other; the first is the one that offers.
fn pair() -> (End, End) {
    let ends = [End::attached(1, 10), End::attached(2, 20)];
    let [mut a, mut b] = ends;
    if b.id() < a.id() {
        core::mem::swap(&mut a, &mut b);
    }
    a.links.learn(&b.links.me.record, a.now.mono);
    b.links.learn(&a.links.me.record, b.now.mono);
    (a, b)
}

/// The first end's offer to the second, and its link.
fn offer(a: &mut End, b: &End) -> (LinkId, Vec<u8>) {
    a.links.want([b.id()].into());
    a.links.start_direct(a.now.mono);
    a.collect();
    let link = a.take_dialled(Role::Offerer).expect("it dials");
    (link, describe(a, link, DescriptionKind::Offer))
}

fn describe(end: &mut End, link: LinkId, kind: DescriptionKind) -> Vec<u8> {
    let text = TEXT.to_string();
    end.links
        .on_local(Description { link, kind, text }, end.now);
    end.collect();
    end.signals.remove(0)
}

impl End {
    fn take_dialled(&mut self, as_role: Role) -> Option<LinkId> {
        let at = self.outputs.iter().position(|output| {
            matches!(output, Output::Dial { to: Dial::Direct { role, .. }, .. } if *role == as_role)
        })?;
        match self.outputs.remove(at) {
            Output::Dial { link, .. } => Some(link),
            _ => None,
        }
    }

    /// The kinds of the descriptions that were found good.
    fn take_remote(&mut self) -> Vec<DescriptionKind> {
        let mut kinds = vec![];
        self.outputs.retain(|output| {
            if let Output::Remote(description) = output {
                kinds.push(description.kind);
                return false;
            }
            true
        });
        kinds
    }

    fn signal(&mut self, bytes: &[u8]) {
        self.links.on_signal(bytes, self.now);
        self.collect();
    }

    /// A description is refused, and that alone counted.
    fn refuses(&mut self, bytes: &[u8], counter: &str) {
        let all = |end: &Self| -> u64 {
            let counters = end.links.counters.iter();
            let counters = counters.filter(|(name, _)| name.starts_with("signal_"));
            counters.map(|(_, count)| count).sum()
        };
        let (one, sum) = (self.count(counter), all(self));
        let outputs = self.outputs.len();
        self.signal(bytes);
        assert_eq!(self.count(counter), one + 1, "{counter}");
        assert_eq!(all(self), sum + 1, "more than {counter}");
        assert_eq!(self.outputs.len(), outputs, "{counter}: it did something");
    }

    /// A good offer is taken.
    fn takes(&mut self, bytes: &[u8]) -> LinkId {
        self.signal(bytes);
        assert_eq!(self.take_remote(), [DescriptionKind::Offer]);
        self.take_dialled(Role::Answerer).expect("it answers")
    }
}

/// What a good offer of the first end's to the second says.
fn good(a: &End, b: &End) -> Signal {
    Signal {
        from: a.id(),
        to: b.id(),
        from_epoch: a.links.me.record.facts().epoch,
        to_epoch: b.links.me.record.facts().epoch,
        attempt: 1,
        kind: DescriptionKind::Offer,
        text: TEXT.into(),
        expiry_ms: START_MS + LIFETIME_MS,
    }
}

#[test]
fn what_was_changed_on_the_way_is_refused() {
    let (mut a, mut b) = pair();
    let (_, bytes) = offer(&mut a, &b);
    let changes: [fn(&mut Signal); 6] = [
        |signal| signal.text = signal.text.replace("sha-256 00", "sha-256 ff"),
        |signal| signal.text = signal.text.replace("ufrag:abcd", "ufrag:efgh"),
        |signal| signal.text.push_str("a=candidate:2 1 udp\r\n"),
        |signal| signal.attempt ^= 1,
        |signal| signal.kind = DescriptionKind::Answer,
        |signal| signal.expiry_ms += 1,
    ];
    for change in changes {
        let mut signed: SignedSignal = wire::decode(&bytes).unwrap();
        change(&mut signed.signal);
        b.refuses(&wire::encode(&signed), "signal_bad_signature");
    }
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    b.refuses(&damaged, "signal_bad_signature");
    for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        b.refuses(&bytes[..cut], "signal_malformed");
    }
    b.refuses(&[&bytes[..], &[0]].concat(), "signal_malformed");
    b.takes(&bytes);
}

#[test]
fn another_network_or_signer_is_refused() {
    let (mut a, mut b) = pair();
    for name in ["other", "test"] {
        let secret: &[u8] = if name == "test" { b"secret" } else { b"" };
        let network = Network::new(name, secret).unwrap();
        let me = Me {
            identity: Identity::from_seed(&a.seed),
            network,
            record: a.links.me.record.clone(),
            rng: Rng::from_seed([0; 32]),
        };
        b.refuses(&good(&a, &b).sign(&me), "signal_bad_signature");
    }
    // A third one signs in the first one's name.
    let mut c = End::attached(3, 30);
    b.links.learn(&c.links.me.record, b.now.mono);
    b.refuses(&good(&a, &b).sign(&c.links.me), "signal_bad_signature");
    // Or gives its own name to what the first one signed.
    let (_, bytes) = offer(&mut a, &b);
    let mut stolen: SignedSignal = wire::decode(&bytes).unwrap();
    stolen.signal.from = c.id();
    stolen.signal.from_epoch = 30;
    b.refuses(&wire::encode(&stolen), "signal_bad_signature");
    // A stranger whose record is not known is not believed at all.
    let mut unknown = good(&a, &b);
    unknown.from = End::attached(4, 40).id();
    b.refuses(&unknown.sign(&c.links.me), "signal_misaddressed");
    c.refuses(&bytes, "signal_misaddressed");
    b.takes(&bytes);
}

#[test]
fn another_addressee_or_start_is_refused() {
    let (a, mut b) = pair();
    let third = End::attached(3, 30).id();
    let changes: [fn(&mut Signal, NodeId); 5] = [
        |signal, third| signal.to = third,
        |signal, _| signal.to_epoch -= 1,
        |signal, _| signal.to_epoch += 1,
        |signal, _| signal.from_epoch -= 1,
        |signal, _| signal.from_epoch += 1,
    ];
    for change in changes {
        let mut signal = good(&a, &b);
        change(&mut signal, third);
        b.refuses(&signal.sign(&a.links.me), "signal_misaddressed");
    }
    // The offer is not the second's to make: that would be glare.
    let (mut a, b) = (a, b);
    let mut signal = good(&b, &a);
    signal.kind = DescriptionKind::Offer;
    a.refuses(&signal.sign(&b.links.me), "signal_misaddressed");
    let mut b = b;
    b.takes(&good(&a, &b).sign(&a.links.me));
}

#[test]
fn a_description_has_its_time() {
    let (a, mut b) = pair();
    let template = good(&a, &b);
    let at = |expiry_ms| {
        let mut signal = template.clone();
        signal.expiry_ms = expiry_ms;
        signal.attempt = expiry_ms;
        signal.sign(&a.links.me)
    };
    let latest = START_MS + LIFETIME_MS + SKEW_MS_MAX;
    let earliest = START_MS - SKEW_MS_MAX;
    for expiry_ms in [0, earliest - 1, latest + 1, u64::MAX] {
        b.refuses(&at(expiry_ms), "signal_expired");
    }
    for expiry_ms in [earliest, START_MS, latest] {
        b.takes(&at(expiry_ms));
    }
}

#[test]
fn a_text_without_fingerprint_or_out_of_size_is_refused() {
    let (a, mut b) = pair();
    let texts = [
        String::new(),
        "v=0".into(),
        TEXT.replace("a=fingerprint:sha-256", "a=fingerprint:sha-1"),
        TEXT.replace("a=ice-ufrag", "a=ice-pwd"),
        TEXT.repeat(300),
    ];
    for text in texts {
        let mut signal = good(&a, &b);
        signal.text = text;
        b.refuses(&signal.sign(&a.links.me), "signal_malformed");
    }
    b.takes(&good(&a, &b).sign(&a.links.me));
}

#[test]
fn an_offer_is_taken_once() {
    let (mut a, mut b) = pair();
    let (first, bytes) = offer(&mut a, &b);
    b.takes(&bytes);
    b.refuses(&bytes, "signal_replayed");
    // The first attempt fails at the offerer, and many more after it.
    let mut link = first;
    for _ in 0..20 {
        a.links.on_down(link, "no path", a.now.mono);
        a.wait(Duration::from_secs(1));
        b.now = a.now;
        let signal = Signal {
            attempt: b.now.unix_ms,
            expiry_ms: b.now.unix_ms + LIFETIME_MS,
            ..good(&a, &b)
        };
        link = b.takes(&signal.sign(&a.links.me));
    }
    b.refuses(&bytes, "signal_replayed");
    // Not even when all else about the peer is forgotten.
    b.links.directs.forget(&a.id(), &mut b.links.outputs);
    b.collect();
    b.refuses(&bytes, "signal_replayed");
    // When it is forgotten, it is too old.
    b.wait(Duration::from_millis(LIFETIME_MS + SKEW_MS_MAX));
    b.refuses(&bytes, "signal_expired");
}

#[test]
fn an_answer_is_taken_once_and_for_its_attempt_alone() {
    let (mut a, mut b) = pair();
    let (link, bytes) = offer(&mut a, &b);
    let answering = b.takes(&bytes);
    let answer = describe(&mut b, answering, DescriptionKind::Answer);
    let mut other: SignedSignal = wire::decode(&answer).unwrap();
    other.signal.attempt ^= 1;
    a.refuses(&other.signal.sign(&b.links.me), "signal_late");
    a.signal(&answer);
    assert_eq!(a.take_remote(), [DescriptionKind::Answer]);
    // A transport would end the link over a second one.
    a.refuses(&answer, "signal_replayed");
    a.links.on_up(link, a.now);
    a.collect();
    a.refuses(&answer, "signal_late");
}
