//! Nothing that was acknowledged is lost, and nobody stops for long, when
//! pages close and processes are killed.

use std::time::{Duration, Instant};

use crate::common::{DEADLINE, Member, Ring, alone, http, keys, wait_until};
use crate::webdriver::{Browser, Kind};
use crate::{Page, start_ring};

const KEYS: usize = 1_000;

/// How long a call may take while the dead are not known to be dead. A
/// request of its own accord gives up after 5 s.
const STALL_MAX: Duration = Duration::from_secs(2);

impl Page<'_> {
    /// Puts the keys of a range, many at once.
    fn put_range(&self, from: usize, to: usize) {
        let range = [from, to].map(|number| number.to_string());
        self.run(
            "let [next, end] = args.map(Number);
            const work = async () => {
                while (next < end) {
                    const number = next++;
                    await window.roundelay.peer.put(
                        `k${number}/n`, `value ${number}`, { mode: 'quorum' });
                }
            };
            await Promise.all(Array.from({ length: 16 }, work));",
            &[&range[0], &range[1]],
        );
    }

    /// The keys that it does not read with their values.
    fn lost(&self) -> Vec<String> {
        let lost = self.run(
            "const end = Number(args[0]), text = new TextDecoder(), lost = [];
            let next = 0;
            const work = async () => {
                while (next < end) {
                    const number = next++;
                    const got = await window.roundelay.peer.get(`k${number}/n`);
                    const value = got && text.decode(got.value);
                    if (value !== `value ${number}`) lost.push(`k${number}/n: ${value}`);
                }
            };
            await Promise.all(Array.from({ length: 16 }, work));
            return lost;",
            &[&KEYS.to_string()],
        );
        let lost = lost.as_array().unwrap().iter();
        lost.map(ToString::to_string).collect()
    }

    /// What it has of its relay.
    fn relay_state(&self) -> String {
        let state = self.run("return window.roundelay.peer.status().relays[0].state", &[]);
        state.as_str().unwrap().to_owned()
    }

    pub(crate) fn wait_relay(&self, attached: bool) {
        let what = format!("{}'s relay to be attached: {attached}", self.name);
        let took = wait_until(&what, DEADLINE, || {
            (self.relay_state() == "attached") == attached
        });
        println!("{}: attached: {attached}, {took:?} later", self.name);
    }
}

/// Whoever reads and writes keys.
enum Caller<'a> {
    Page(&'a Page<'a>),
    Node(&'a Member),
}

impl Caller<'_> {
    fn put(&self, key: &str, value: &str) {
        match self {
            Self::Page(page) => page.put(key, value),
            Self::Node(node) => {
                let put = node.put(key, value.as_bytes());
                assert_eq!(put.status, 204, "{}", put.text());
            }
        }
    }

    fn get(&self, key: &str) -> String {
        match self {
            Self::Page(page) => page.get(key),
            Self::Node(node) => node.get(key).text(),
        }
    }
}

/// Every caller puts keys, which all callers read. Asserts that no call
/// stalled.
fn go_on(when: &str, callers: &[Caller<'_>]) {
    /// So many that every member is asked as a coordinator.
    const ROUNDS: usize = 8;
    let mut slowest = Duration::ZERO;
    let mut timed = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        call();
        slowest = slowest.max(start.elapsed());
    };
    for round in 0..ROUNDS {
        for (number, writer) in callers.iter().enumerate() {
            let key = format!("{when}-{round}-{number}/n");
            timed(&mut || writer.put(&key, when));
            for reader in callers {
                timed(&mut || assert_eq!(reader.get(&key), when, "{key}"));
            }
        }
    }
    println!("{when}: the slowest call took {slowest:?}");
    assert!(slowest < STALL_MAX, "{when}: a call took {slowest:?}");
}

fn assert_none_lost(when: &str, ring: &Ring, pages: &[&Page<'_>]) {
    let start = Instant::now();
    for member in &ring.members {
        let lost = keys::lost(member, KEYS);
        assert!(lost.is_empty(), "{when}, port {}: {lost:?}", member.http);
    }
    for page in pages {
        let lost = page.lost();
        assert!(lost.is_empty(), "{when}, {}: {lost:?}", page.name);
    }
    println!("{when}: read everywhere in {:?}", start.elapsed());
}

/// Pages that put all keys, and close.
fn close_pages(ring: &Ring, browser: &Browser) {
    let first = Page::join("closed-a", browser, ring);
    let second = Page::join("closed-b", browser, ring);
    first.put_range(0, KEYS / 2);
    second.put_range(KEYS / 2, KEYS);
    first.close();
    second.close();
    for member in &ring.members {
        let left = wait_until("the pages to be no members", DEADLINE, || {
            let ring = http("GET", member.http, "/v1/ring", b"").json();
            ring["members"].as_array().unwrap().len() == 3
        });
        println!("port {} saw the pages leave {left:?} later", member.http);
    }
    assert_none_lost("both pages closed", ring, &[]);
    ring.wait_whole();
}

/// The relay's member, two nodes, and the other page.
fn wait_all_direct(pages: &[&Page<'_>; 2]) {
    for page in pages {
        page.wait_all_direct(4);
    }
}

/// One member is killed; the pages and the other members go on, and it comes
/// back.
fn kill_one(when: &str, victim: usize, ring: &mut Ring, pages: &[&Page<'_>; 2]) {
    wait_all_direct(pages);
    ring.members[victim].kill_9();
    let others = ring
        .members
        .iter()
        .filter(|member| member.process.is_some());
    let callers = pages.iter().map(|page| Caller::Page(page));
    let callers: Vec<Caller<'_>> = callers.chain(others.map(Caller::Node)).collect();
    go_on(when, &callers);
    let relay_killed = victim == 0;
    for page in pages.iter().filter(|_| relay_killed) {
        page.wait_relay(false);
    }
    ring.members[victim].start();
    for page in pages {
        page.wait_relay(true);
    }
    ring.wait_whole();
    assert_none_lost(when, ring, pages);
}

/// All processes are killed and started again, while the pages stay.
fn kill_all(ring: &mut Ring, pages: &[&Page<'_>; 2]) {
    wait_all_direct(pages);
    for member in &mut ring.members {
        member.kill_9();
    }
    for page in pages {
        page.wait_relay(false);
    }
    for member in &mut ring.members {
        member.start();
    }
    ring.wait_whole();
    assert_none_lost("all killed", ring, &[]);
    wait_all_direct(pages);
    assert_none_lost("all killed, in pages", ring, pages);
}

#[test]
fn no_key_is_lost_and_nobody_stops_when_pages_close_and_processes_are_killed() {
    let _alone = alone();
    let mut ring = start_ring();
    let chromium = Browser::start(Kind::Chromium, ring.dir.path());
    close_pages(&ring, &chromium);
    let first = Page::join("faults-a", &chromium, &ring);
    let second = Page::join("faults-b", &chromium, &ring);
    let pages = [&first, &second];
    kill_one("node-killed", 1, &mut ring, &pages);
    kill_one("relay-killed", 0, &mut ring, &pages);
    kill_all(&mut ring, &pages);
}
