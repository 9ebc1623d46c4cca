//! Direct links are few: one that nobody wants makes room for one that is
//! wanted, and its peer is not held for dead.

use super::super::direct::Directs;
use super::super::frame::Frame;
use super::*;
use crate::event::Role;

/// Two ends with a direct link between them.
fn linked() -> (End, End, LinkId, LinkId) {
    let (mut a, mut b) = (End::attached(1, 10), End::attached(2, 20));
    if b.id() < a.id() {
        core::mem::swap(&mut a, &mut b);
    }
    a.links.directs = Directs::new(1);
    a.links.directs.set_may_release(true);
    a.links.learn(&b.links.me.record, a.now.mono);
    b.links.learn(&a.links.me.record, b.now.mono);
    a.links.want([b.id()].into());
    a.links.start_direct(a.now.mono);
    a.collect();
    let ours = dialled(&mut a, Role::Offerer).expect("it dials");
    let text = "v=0\r\na=ice-ufrag:abcd\r\na=fingerprint:sha-256 00:11\r\n";
    let offer = crate::event::Description {
        link: ours,
        kind: crate::event::DescriptionKind::Offer,
        text: text.to_string(),
    };
    a.links.on_local(offer, a.now);
    a.collect();
    let signal = a.signals.remove(0);
    b.links.on_signal(&signal, b.now);
    b.collect();
    let theirs = dialled(&mut b, Role::Answerer).expect("it answers");
    a.links.on_up(ours, a.now);
    b.links.on_up(theirs, b.now);
    a.collect();
    b.collect();
    (a, b, ours, theirs)
}

fn dialled(end: &mut End, as_role: Role) -> Option<LinkId> {
    end.outputs.iter().find_map(|output| match output {
        Output::Dial {
            link,
            to: Dial::Direct { role, .. },
        } if *role == as_role => Some(*link),
        _ => None,
    })
}

/// What an end sent last by a link.
fn sent_by(end: &mut End, by: LinkId) -> Option<Vec<u8>> {
    let sent = end.outputs.iter().rev().find_map(|output| match output {
        Output::Send { link, bytes, .. } if *link == by => Some(bytes.clone()),
        _ => None,
    });
    end.outputs.clear();
    sent
}

/// A peer to which an end makes the offer.
fn later(end: &End) -> crate::identity::Record {
    let others = (3..100).map(|seed| End::dialling(seed, 1, &network("test")).links.me.record);
    let mut after = others.filter(|record| end.id() < record.id());
    after.next().expect("some id is greater")
}

/// However long it waits, an end keeps its link, and makes no other.
fn assert_keeps(end: &mut End, link: LinkId) {
    end.wait(Duration::from_secs(60));
    end.outputs.clear();
    end.links.on_timeout(end.now);
    end.collect();
    assert_eq!(dialled(end, Role::Offerer), None);
    let released = Frame::Release.encode(&[]);
    assert_ne!(sent_by(end, link), Some(released));
}

#[test]
fn a_link_that_nobody_wants_makes_room() {
    let (mut a, mut b, ours, theirs) = linked();
    let other = later(&a);
    a.links.learn(&other, a.now.mono);
    a.links.want([other.id()].into());
    a.outputs.clear();
    // Not at once: members come and go.
    a.links.on_timeout(a.now);
    a.collect();
    assert_eq!(dialled(&mut a, Role::Offerer), None);
    a.wait(Duration::from_secs(10));
    a.links.on_timeout(a.now);
    a.collect();
    assert!(
        dialled(&mut a, Role::Offerer).is_some(),
        "there is room now"
    );
    let release = sent_by(&mut a, ours).expect("the peer is told");
    assert_eq!(release, Frame::Release.encode(&[]));
    // Whatever is said from now on goes by the relay.
    a.say(&b.id(), b"hello");
    assert_eq!(sent_by(&mut a, ours), None);
    b.links.on_frame(theirs, &release, b.now);
    b.collect();
    let closed = |output: &Output| matches!(output, Output::Hangup { link } if *link == theirs);
    assert!(b.outputs.iter().any(closed), "the receiver closes it");
    assert!(b.downs.iter().all(|(_, cause)| *cause == DownCause::Lost));
    a.links.on_down(ours, "closed", a.now.mono);
    a.collect();
    let lost = (b.id(), DownCause::Lost);
    assert_eq!(a.downs, [lost], "nobody is held for dead");
}

#[test]
fn a_link_that_is_wanted_stays() {
    let (mut a, b, ours, _) = linked();
    let other = later(&a);
    a.links.learn(&other, a.now.mono);
    a.links.want([b.id(), other.id()].into());
    assert_keeps(&mut a, ours);
}

#[test]
fn the_only_way_to_a_peer_stays() {
    let (mut a, _, ours, _) = linked();
    let other = later(&a);
    a.links.learn(&other, a.now.mono);
    a.links.want([other.id()].into());
    a.links.on_down(a.relay, "closed", a.now.mono);
    assert_keeps(&mut a, ours);
}
