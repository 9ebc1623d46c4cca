//! What a hostile peer sends to a page is refused and counted there, and the
//! page goes on.

use roundelay_core::NodeId;

use crate::common::{alone, free_port};
use crate::hostile::{Forgery, Hostile};
use crate::webdriver::{Browser, Kind};
use crate::{Page, start_ring};

impl Page<'_> {
    fn id(&self) -> NodeId {
        let id = self.run("return window.roundelay.peer.id", &[]);
        id.as_str().unwrap().parse().unwrap()
    }

    fn count(&self, counter: &str) -> u64 {
        let body = "return window.roundelay.peer.status().counters[args[0]] ?? 0";
        self.run(body, &[counter]).as_u64().unwrap()
    }

    fn epoch(&self) -> u64 {
        let epoch = self.run("return window.roundelay.peer.status().epoch", &[]);
        epoch.as_u64().unwrap()
    }
}

#[test]
fn a_page_bears_a_hostile_peer() {
    let _alone = alone();
    let ring = start_ring();
    let chromium = Browser::start(Kind::Chromium, ring.dir.path());
    let page = Page::join("chromium", &chromium, &ring);
    page.put("kept/by-page", "before");
    let victim = page.id();

    // One whose only part is to send what another said.
    let mut other = Hostile::attach(ring.listen, 2, Forgery::Expired);
    other.until("a circuit to the page", |other| {
        !other.first(&victim).is_empty()
    });
    // Offers that were signed an hour ago, and all that a circuit refuses.
    let mut hostile = Hostile::attach(ring.listen, 1, Forgery::Expired);
    hostile.until("a circuit to the page", |hostile| {
        !hostile.first(&victim).is_empty() && !hostile.sealed(&victim).is_empty()
    });
    hostile.until("the stale offer to be refused", |_| {
        page.count("signal_expired") > 0
    });
    for (counter, body) in hostile.bad_bodies(&victim, page.epoch()) {
        let before = page.count(counter);
        hostile.throw_often_at(&victim, &body);
        hostile.until(counter, |_| {
            other.turn();
            page.count(counter) > before
        });
    }
    // In the name of another, whose words they are.
    for (counter, body) in [
        ("circuit_forged", &hostile.last_sealed(&victim)),
        ("circuit_replayed", &hostile.first(&victim)[0]),
    ] {
        let before = page.count(counter);
        other.throw_often_at(&victim, body);
        hostile.until(counter, |_| {
            other.turn();
            page.count(counter) > before
        });
    }
    drop(other);

    // A true offer makes a link, one with a wrong fingerprint does not.
    let linked = |hostile: &Hostile| hostile.linked.values().any(|peer| *peer == victim);
    hostile.forgery = Forgery::None;
    hostile.until("an honest link to the page", linked);
    hostile.forgery = Forgery::Fingerprint;
    let before = page.count("direct_failed");
    hostile.break_links();
    hostile.until("the refusal", |hostile| {
        assert!(!linked(hostile), "a link in spite of the fingerprint");
        page.count("direct_failed") > before
    });

    assert_eq!(page.get("kept/by-page"), "before");
    page.put("kept/by-page", "after");
    assert_eq!(page.get("kept/by-page"), "after");
    for member in &ring.members {
        assert_eq!(member.get("kept/by-page").text(), "after");
    }
}

#[test]
fn a_page_says_what_is_wrong_by_code() {
    let _alone = alone();
    let ring = start_ring();
    let chromium = Browser::start(Kind::Chromium, ring.dir.path());
    let page = Page::join("chromium", &chromium, &ring);
    let nobody = free_port();
    let long = "k".repeat(1025);
    let cases = [
        (
            "wrong_network",
            "Peer.join({ network: 'other' })".to_owned(),
        ),
        (
            "wrong_secret",
            "Peer.join({ secret: 'not this' })".to_owned(),
        ),
        (
            "relay_unreachable",
            format!("Peer.join({{ relays: ['ws://127.0.0.1:{nobody}'] }})"),
        ),
        (
            "bad_options",
            "Peer.join({ relays: ['no url'] })".to_owned(),
        ),
        ("bad_key", format!("peer.put('{long}', 'x')")),
        ("bad_key", "peer.get('')".to_owned()),
        (
            "bad_mode",
            "peer.put('a/b', 'x', { mode: 'all' })".to_owned(),
        ),
        ("bad_ttl", "peer.put('a/b', 'x', { ttl: 0 })".to_owned()),
        ("bad_ttl", "peer.put('a/b', 'x', { ttl: 1.5 })".to_owned()),
        ("bad_ttl", "peer.put('a/b', 'x', { ttl: '9' })".to_owned()),
        (
            "too_large",
            "peer.put('a/b', new Uint8Array((1 << 20) + 1))".to_owned(),
        ),
    ];
    for (code, call) in cases {
        let body = format!("const {{ Peer, peer }} = window.roundelay; await {call};");
        let told = page.tab.run(&body, &[]);
        let told = told.expect_err(&call);
        assert!(told.starts_with(&format!("{code}: ")), "{call}: {told}");
    }
    page.put("a/b", "still");
    assert_eq!(page.get("a/b"), "still");
}
