//! Twelve nodes, three relays and some pages under load, while durable members
//! are killed or frozen, one at a time, and pages come and go.
//!
//! ```sh
//! ROUNDELAY_FAULTS=20 ROUNDELAY_SEED=17 cargo test -p roundelay --test browser soak -- --nocapture
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use roundelay_core::kvs::Version;

use crate::common::dice::{Dice, number};
use crate::common::{Answer, DEADLINE, Fault, Member, Ring, alone, free_port, http, wait_until};
use crate::webdriver::{Browser, Kind, Tab};

const RELAYS: usize = 3;
const NODES: usize = 12;
const PAGES: usize = 5;
/// How many faults, without `ROUNDELAY_FAULTS`.
const FAULTS: usize = 5;

const CALLERS: usize = 4;
/// Fewer keys than calls, so that each is written often.
const KEYS: usize = 64;
/// Between two calls of one caller, which sets the load: fifteen processes and a
/// browser share the machine with them.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two changes of the pages.
const PAGE_PAUSE: Duration = Duration::from_secs(3);
/// What is promised after the last fault.
const WHOLE_WITHIN: Duration = Duration::from_secs(10);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all callers know.
struct Load {
    /// The HTTP port of each member.
    ports: Vec<u16>,
    /// The member that is down or frozen. It gets no new calls, or all callers
    /// would soon wait for it.
    victim: Mutex<Option<usize>>,
    /// Held while a page is loaded: meanwhile no member is taken.
    loading: Mutex<()>,
    stop: AtomicBool,
    /// How many pages are open at first, and whether they are to stay.
    pages: AtomicUsize,
    pages_stay: Mutex<bool>,
    /// Told when they are.
    stay_told: Condvar,
    page_changes: AtomicUsize,
    /// The newest write of each key that was acknowledged.
    acknowledged: Mutex<BTreeMap<usize, (Version, String)>>,
    writes: AtomicUsize,
    reads: AtomicUsize,
    /// How often a call ended in which error.
    errors: Mutex<BTreeMap<String, usize>>,
    lost: Mutex<Vec<String>>,
}

impl Load {
    fn new(ring: &Ring) -> Self {
        Self {
            ports: ring.members.iter().map(|member| member.http).collect(),
            victim: Mutex::default(),
            loading: Mutex::default(),
            stop: AtomicBool::new(false),
            pages: AtomicUsize::new(0),
            pages_stay: Mutex::default(),
            stay_told: Condvar::new(),
            page_changes: AtomicUsize::new(0),
            acknowledged: Mutex::default(),
            writes: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            errors: Mutex::default(),
            lost: Mutex::default(),
        }
    }

    /// Lets no more pages come or go.
    fn let_pages_stay(&self) {
        *lock(&self.pages_stay) = true;
        self.stay_told.notify_all();
    }

    /// Waits until pages are to stay, or that time is over; says whether they
    /// are.
    fn wait_stay(&self, limit: Duration) -> bool {
        let stay = lock(&self.pages_stay);
        let waited = self
            .stay_told
            .wait_timeout_while(stay, limit, |stay| !*stay);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn count_error(&self, call: &str, port: u16, answer: &Answer) {
        let kind = match answer.status {
            0 => "no answer".to_owned(),
            status => {
                let told = serde_json::from_slice::<serde_json::Value>(&answer.body);
                let code = told.unwrap_or_default()["error"].clone();
                format!("{status} {}", code.as_str().unwrap_or("?"))
            }
        };
        println!("{call} by port {port}: {kind}: {}", answer.text());
        *lock(&self.errors)
            .entry(format!("{call}: {kind}"))
            .or_default() += 1;
    }

    /// Puts and gets keys until it is told to stop.
    fn call(&self, caller: usize, seed: u64) {
        let mut dice = Dice::new(seed + caller as u64 + 1);
        let mut value = 0;
        while !self.stopped() {
            let member = dice.below(self.ports.len());
            if *lock(&self.victim) != Some(member) {
                let key = dice.below(KEYS);
                if dice.below(2) == 0 {
                    value += 1;
                    self.put(self.ports[member], key, format!("{caller}/{value}"));
                } else {
                    self.get(self.ports[member], key);
                }
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Prints what happened.
    fn tell(&self) {
        println!(
            "{} writes acknowledged, {} reads, pages closed or opened {} times",
            self.writes.load(Ordering::Relaxed),
            self.reads.load(Ordering::Relaxed),
            self.page_changes.load(Ordering::Relaxed)
        );
        for (kind, count) in lock(&self.errors).iter() {
            println!("errors: {count:>5} {kind}");
        }
    }

    fn put(&self, port: u16, key: usize, value: String) {
        let put = http("PUT", port, &path(key), value.as_bytes());
        if put.status != 204 {
            return self.count_error("put", port, &put);
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        let version = version(&put);
        let mut acknowledged = lock(&self.acknowledged);
        let newest = acknowledged
            .entry(key)
            .or_insert_with(|| (version, value.clone()));
        if version > newest.0 {
            *newest = (version, value);
        }
    }

    /// Whether the read is as good as what was acknowledged before it began; an
    /// error is counted, and says nothing.
    fn get(&self, port: u16, key: usize) -> bool {
        let before = lock(&self.acknowledged).get(&key).cloned();
        let get = http("GET", port, &path(key), b"");
        if ![200, 404].contains(&get.status) {
            self.count_error("get", port, &get);
            return false;
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        let Some((newest, value)) = before else {
            return true;
        };
        let read = if get.status == 200 {
            version(&get)
        } else {
            Version::ZERO
        };
        let good = read > newest || (read == newest && get.text() == value);
        if !good {
            let words = format!(
                "key {key} by port {port}: {newest} ({value}) was acknowledged, read {} ({})",
                read,
                get.text()
            );
            println!("LOST: {words}");
            lock(&self.lost).push(words);
        }
        good
    }
}

fn path(key: usize) -> String {
    format!("/v1/kv/soak-{key}/n")
}

fn version(answer: &Answer) -> Version {
    answer.header("etag").trim_matches('"').parse().unwrap()
}

/// Tells the callers to stop, also when the test fails.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
        self.0.let_pages_stay();
    }
}

/// A ring with three relays, the nodes at home in one after the other.
struct Soak {
    ring: Ring,
    /// The ports of the relays.
    relays: Vec<u16>,
}

impl Soak {
    fn start() -> Self {
        let mut ring = Ring::start(0);
        let mut relays = vec![ring.listen];
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        for number in 2..=RELAYS {
            let port = free_port();
            let (listen, first) = (format!("127.0.0.1:{port}"), url(relays[0]));
            let args = ["relay", "--listen", &listen, "--relay", &first];
            ring.add(&format!("relay-{number}"), &args);
            relays.push(port);
        }
        for relay in 1..RELAYS {
            let port = ring.members[relay].http;
            wait_until("a relay", DEADLINE, || {
                http("GET", port, "/healthz", b"").status == 200
            });
        }
        for number in 0..NODES {
            let relay = url(relays[number % RELAYS]);
            ring.add(&format!("node-{number}"), &["node", "--relay", &relay]);
        }
        let soak = Self { ring, relays };
        soak.wait_whole("the start", DEADLINE, 0);
        soak
    }

    /// Waits until every member is ready, lacks no copy, and has all members
    /// and so many pages in its ring.
    fn wait_whole(&self, when: &str, deadline: Duration, pages: usize) {
        let start = Instant::now();
        for member in &self.ring.members {
            let left = deadline.saturating_sub(start.elapsed());
            let what = format!("port {} to be whole after {when}", member.http);
            wait_until(&what, left, || {
                member.is_whole() && alive(member) == self.ring.members.len() + pages
            });
        }
        println!("whole {:?} after {when}", start.elapsed());
    }

    /// Waits until no copy is missing anywhere.
    fn wait_copies(&self) {
        wait_until("all copies", DEADLINE, || {
            self.ring.members.iter().all(Member::is_whole)
        });
    }

    fn assert_all_run(&mut self) {
        for member in &mut self.ring.members {
            let port = member.http;
            assert!(member.process().is_alive(), "port {port} exited");
        }
    }

    /// Kills or freezes one member for a while.
    fn fault(&mut self, number: usize, dice: &mut Dice, load: &Load) {
        // Relays are few: every third fault is one's.
        let victim = match number % 3 {
            0 => dice.below(RELAYS),
            _ => RELAYS + dice.below(NODES),
        };
        let what = match dice.below(2) {
            0 => Fault::Kill,
            _ => Fault::Stop,
        };
        let length = Duration::from_millis(1000 + 500 * dice.below(11) as u64);
        let port = self.ring.members[victim].http;
        println!("fault {number}: {what} of member {victim} (port {port}) for {length:?}");
        let before = load.writes.load(Ordering::Relaxed);
        let loading = lock(&load.loading);
        *lock(&load.victim) = Some(victim);
        drop(loading);
        // What lasts so long is the fault itself: nothing is waited for.
        self.ring.members[victim].while_away(what, || std::thread::sleep(length));
        let written = load.writes.load(Ordering::Relaxed) - before;
        println!("fault {number}: {written} writes were acknowledged meanwhile");
        *lock(&load.victim) = None;
        assert!(written > 0, "nobody could write after {what} of {victim}");
    }
}

fn alive(member: &Member) -> usize {
    let ring = http("GET", member.http, "/v1/ring", b"");
    if ring.status != 200 {
        return 0;
    }
    let ring = ring.json();
    let members = ring["members"].as_array().unwrap().iter();
    members.filter(|member| member["state"] == "alive").count()
}

/// Pages that come and go.
struct Pages<'a> {
    browser: &'a Browser,
    /// The ports of the relays.
    relays: &'a [u16],
    dice: Dice,
    tabs: Vec<Tab<'a>>,
}

impl<'a> Pages<'a> {
    /// Opens all, then closes or opens one at a time until they shall stay.
    fn come_and_go(mut self, load: &Load) -> Vec<Tab<'a>> {
        while self.tabs.len() < PAGES && !load.wait_stay(Duration::ZERO) {
            self.open(load);
            load.pages.store(self.tabs.len(), Ordering::Relaxed);
        }
        let mut due = Instant::now() + PAGE_PAUSE;
        while !load.wait_stay(due.saturating_duration_since(Instant::now())) {
            due += PAGE_PAUSE;
            if self.tabs.len() < PAGES {
                self.open(load);
            } else {
                let tab = self.dice.below(PAGES);
                self.tabs.swap_remove(tab).close();
            }
            load.page_changes.fetch_add(1, Ordering::Relaxed);
        }
        self.tabs
    }

    /// Opens a page of a relay that runs for as long as that takes.
    fn open(&mut self, load: &Load) {
        let loading = lock(&load.loading);
        let victim = *lock(&load.victim);
        let relays = (0..RELAYS).filter(|relay| Some(*relay) != victim);
        let relays: Vec<usize> = relays.collect();
        let port = self.relays[relays[self.dice.below(relays.len())]];
        let tab = self.browser.open(&format!("http://127.0.0.1:{port}/"));
        drop(loading);
        wait_until("a page to join", DEADLINE, || {
            let joined = tab.run("return Boolean(window.roundelay?.peer)", &[]);
            joined == Ok(true.into())
        });
        self.tabs.push(tab);
    }
}

/// Reads all that was acknowledged in a page.
fn read_in_page(tab: &Tab<'_>, load: &Load) {
    for (key, (newest, value)) in lock(&load.acknowledged).iter() {
        let body = "const got = await window.roundelay.peer.get(args[0]);
            return [got?.version, got && new TextDecoder().decode(got.value)];";
        let got = tab.run(body, &[&format!("soak-{key}/n")]).unwrap();
        let version: Version = got[0].as_str().unwrap().parse().unwrap();
        let same = version == *newest && got[1] == value.as_str();
        assert!(same || version > *newest, "key {key}: {newest}, {got}");
    }
}

#[test]
fn no_acknowledged_write_is_lost_while_members_are_killed_and_frozen() {
    let _alone = alone();
    let faults = number("ROUNDELAY_FAULTS").map_or(FAULTS, |faults| faults as usize);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("ROUNDELAY_SEED").unwrap_or(now.as_millis() as u64 % 1_000_000);
    println!("ROUNDELAY_FAULTS={faults} ROUNDELAY_SEED={seed}");
    let mut soak = Soak::start();
    let browser = Browser::start(Kind::Chromium, soak.ring.dir.path());
    let load = Load::new(&soak.ring);
    let relays = soak.relays.clone();
    let pages = Pages {
        browser: &browser,
        relays: &relays,
        dice: Dice::new(!seed),
        tabs: Vec::new(),
    };
    let tabs = std::thread::scope(|scope| {
        let load = &load;
        let _stop = Stop(load);
        let pages = scope.spawn(|| pages.come_and_go(load));
        for caller in 0..CALLERS {
            scope.spawn(move || load.call(caller, seed));
        }
        wait_until("the first pages", 2 * DEADLINE, || {
            load.pages.load(Ordering::Relaxed) == PAGES
        });
        let mut dice = Dice::new(seed);
        let mut ended = Instant::now();
        for number in 0..faults {
            soak.wait_copies();
            soak.fault(number, &mut dice, load);
            ended = Instant::now();
            soak.assert_all_run();
        }
        load.let_pages_stay();
        let tabs = pages.join().unwrap();
        let left = WHOLE_WITHIN.saturating_sub(ended.elapsed());
        soak.wait_whole("the last fault", left, tabs.len());
        tabs
    });
    soak.assert_all_run();
    load.tell();
    assert!(lock(&load.lost).is_empty(), "lost: {:#?}", lock(&load.lost));
    for port in &load.ports {
        assert!((0..KEYS).all(|key| load.get(*port, key)), "port {port}");
    }
    for tab in &tabs {
        read_in_page(tab, &load);
    }
}
