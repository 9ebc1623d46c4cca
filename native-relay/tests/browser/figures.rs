//! A page joins again and again; how long that takes is told.

use crate::common::alone;
use crate::webdriver::{Browser, Kind};
use crate::{Page, start_ring};

/// Peers that join and leave in one page.
const JOINS: usize = 10;

/// Joins with further peers, one after the other: milliseconds from the call
/// to the first value read, and from each peer connection's birth to the
/// opening of its first channel.
const SCRIPT: &str = "
    const { Peer, peer } = window.roundelay;
    await peer.put('figures', 'there');
    // Else all others would be peers of a moment, who open no database.
    await peer.leave();
    const reads = [], opens = [];
    const Native = window.RTCPeerConnection;
    window.RTCPeerConnection = class extends Native {
        constructor(...args) {
            super(...args);
            this.born = performance.now();
        }
        createDataChannel(...args) {
            const channel = super.createDataChannel(...args);
            const open = () => opens.push(performance.now() - this.born);
            if (args[0] === 'control') channel.addEventListener('open', open);
            return channel;
        }
    };
    for (let number = 0; number < Number(args[0]); number++) {
        const start = performance.now();
        const joined = await Peer.join();
        const got = await joined.get('figures');
        reads.push(performance.now() - start);
        if (joined.status().store.medium !== 'indexeddb') throw new Error('in memory');
        if (new TextDecoder().decode(got.value) !== 'there') throw new Error('another value');
        const isDirect = () =>
            joined.status().links.filter(link => link.kind === 'direct').length >= 3;
        await new Promise(done => {
            const look = () => isDirect() && done();
            joined.on('link', look);
            look();
        });
        await joined.leave();
    }
    window.RTCPeerConnection = Native;
    return [reads, opens];";

#[test]
fn a_page_joins_again_and_again() {
    let _alone = alone();
    let ring = start_ring();
    for kind in [Kind::Chromium, Kind::Firefox] {
        let browser = Browser::start(kind, ring.dir.path());
        let page = Page::join("figures", &browser, &ring);
        let told = page.run(SCRIPT, &[&JOINS.to_string()]);
        let mut times = [0, 1].map(|index| {
            let times = told[index].as_array().unwrap().iter();
            times.map(|time| time.as_f64().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(times[0].len(), JOINS);
        assert!(times[1].len() >= 3 * JOINS, "{told}");
        for (what, times) in ["join to first get", "direct link open"]
            .iter()
            .zip(&mut times)
        {
            times.sort_by(f64::total_cmp);
            let at = |part: usize| times[(times.len() - 1) * part / 100];
            println!(
                "{kind:?}, {what}: p50 {:.1} ms, max {:.1} ms of {}",
                at(50),
                at(100),
                times.len()
            );
        }
    }
}
