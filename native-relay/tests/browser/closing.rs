//! All pages are closed at once, with what they put acknowledged a moment ago.

use std::time::Instant;

use crate::common::{DEADLINE, Member, alone, keys, wait_until};
use crate::webdriver::{Browser, Kind};
use crate::{Page, start_ring};

/// Keys that all pages put together, 100 at once each.
const KEYS: usize = 10_000;

/// Puts every so many-th key; a slow machine is late, and the same write again does
/// no harm.
const PUT: &str = "
    const { peer } = window.roundelay;
    const [first, step, keys] = args.map(Number);
    const late = ['outcome_unknown', 'unavailable', 'busy'];
    let next = first;
    const caller = async () => {
        while (next < keys) {
            const number = next;
            next += step;
            for (let done = false; !done;) {
                done = await peer.put(`k${number}/n`, `value ${number}`, { mode: 'quorum' })
                    .then(() => true, (error) => {
                        if (!late.includes(error.code)) throw error;
                        return false;
                    });
            }
        }
    };
    window.put = Promise.all(Array.from({ length: 100 }, caller));
    window.put.then(() => window.all = true, (error) => window.failed = `${error.code}`);";

#[test]
fn what_pages_put_stays_when_all_of_them_are_closed_at_once() {
    let _alone = alone();
    let ring = start_ring();
    let [chromium, firefox] =
        [Kind::Chromium, Kind::Firefox].map(|kind| Browser::start(kind, ring.dir.path()));
    let pages = [
        Page::join("chromium-a", &chromium, &ring),
        Page::join("chromium-b", &chromium, &ring),
        Page::join("firefox", &firefox, &ring),
    ];
    let begun = Instant::now();
    for (number, page) in pages.iter().enumerate() {
        let args = [number, pages.len(), KEYS].map(|number| number.to_string());
        page.run(PUT, &args.each_ref().map(String::as_str));
    }
    for page in &pages {
        wait_until(&format!("{} to put all", page.name), 4 * DEADLINE, || {
            assert_eq!(page.run("return window.failed ?? ''", &[]), "");
            page.run("return Boolean(window.all)", &[]) == true
        });
    }
    println!("{KEYS} keys were put in {:?}", begun.elapsed());
    std::thread::scope(|scope| {
        scope.spawn(move || drop(chromium));
        scope.spawn(move || drop(firefox));
    });
    let lost = keys::lost(&ring.members[1], KEYS);
    assert!(lost.is_empty(), "{} lost: {lost:?}", lost.len());
    wait_until("all copies", DEADLINE, || {
        ring.members.iter().all(Member::is_whole)
    });
    for member in &ring.members {
        let lost = keys::lost(member, KEYS);
        assert!(lost.is_empty(), "{} lost: {lost:?}", lost.len());
    }
}
