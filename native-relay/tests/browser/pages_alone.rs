//! Pages whose relay is killed are a store in mode `one`, and bring what they
//! took to the relay when it is back.

use std::time::Duration;

use crate::Page;
use crate::common::{DEADLINE, alone, http, wait_until};
use crate::start_ring_of;
use crate::webdriver::{Browser, Kind};

/// Keys that each page puts: in so many slots that every page is a mirror of
/// some, and is none of others.
const KEYS: usize = 16;

/// A page that became a mirror has to pull first.
const READ_WITHIN: Duration = Duration::from_secs(5);

const PAGES: [&str; 4] = ["alone-a", "alone-b", "alone-c", "alone-d"];

fn keys(when: &str, page: &str) -> Vec<String> {
    let key = |number| format!("{when}-{page}-{number}/n");
    (0..KEYS).map(key).collect()
}

impl Page<'_> {
    /// Puts keys in mode `one`, each with itself as its value.
    fn put_alone(&self, keys: &[String]) {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.run(
            "await Promise.all(args.map(
                (key) => window.roundelay.peer.put(key, key, { mode: 'one' })));",
            &keys,
        );
    }

    /// The keys that it does not read in mode `one`, and what it reads.
    fn lacks(&self, keys: &[String]) -> String {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let lacks = self.run(
            "const read = async (key) => {
                const got = await window.roundelay.peer.get(key, { mode: 'one' })
                    .catch((error) => ({ value: new TextEncoder().encode(error.code) }));
                if (!got) throw new Error(`${key} was not found`);
                const value = new TextDecoder().decode(got.value);
                return value === key ? '' : `${key}: ${value} `;
            };
            return (await Promise.all(args.map(read))).join('');",
            &keys,
        );
        lacks.as_str().unwrap().to_owned()
    }
}

/// Waits until every page reads all keys.
fn wait_read(when: &str, pages: &[Page<'_>], keys: &[String]) {
    for page in pages {
        let mut lacks = String::new();
        let what = format!("{} to read all keys {when}", page.name);
        let took = wait_until(&what, READ_WITHIN, || {
            let before = std::mem::replace(&mut lacks, page.lacks(keys));
            if !lacks.is_empty() && lacks != before {
                println!("{}, {when}: {lacks}", page.name);
            }
            lacks.is_empty()
        });
        println!("{} read all keys {when} after {took:?}", page.name);
    }
}

#[test]
fn pages_go_on_without_their_relay_and_bring_it_what_they_took() {
    let _alone = alone();
    let mut ring = start_ring_of(0);
    let chromium = Browser::start(Kind::Chromium, ring.dir.path());
    let mut pages: Vec<Page<'_>> = Vec::new();
    for name in PAGES {
        pages.push(Page::join(name, &chromium, &ring));
    }
    for page in &pages {
        page.wait_all_direct(PAGES.len());
    }
    let mut all: Vec<String> = Vec::new();
    for page in &pages {
        let keys = keys("before", page.name);
        page.put_alone(&keys);
        all.extend(keys);
    }
    wait_read("with the relay", &pages, &all);

    ring.members[0].kill_9();
    for page in &pages {
        page.wait_relay(false);
        page.wait_all_direct(PAGES.len() - 1);
    }
    wait_read("without the relay", &pages, &all);
    for page in &pages {
        let keys = keys("alone", page.name);
        page.put_alone(&keys);
        all.extend(keys);
    }
    wait_read("put without the relay", &pages, &all);
    pages.remove(1).close();
    wait_read("with a page less", &pages, &all);

    ring.members[0].start();
    for page in &pages {
        page.wait_relay(true);
    }
    let relay = &ring.members[0];
    for key in &all {
        wait_until(key, DEADLINE, || {
            let path = format!("/v1/kv/{key}?mode=one");
            http("GET", relay.http, &path, b"").text() == *key
        });
    }
    ring.wait_whole();
    for page in pages.drain(..) {
        page.close();
    }
    for key in &all {
        let get = ring.members[0].get(key);
        assert_eq!(get.text(), *key, "in the relay alone");
    }
}
