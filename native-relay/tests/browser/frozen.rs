//! A page that is frozen for a while: the others go on without it, and it comes
//! back without doing harm.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::callers::{CALLS, Call, Caller, WRONG, after, calls_of, tell, unix_ms};
use crate::common::{Member, Ring, alone, http, wait_until};
use crate::freezing::{Freeze, Frozen};
use crate::webdriver::{Browser, Kind};
use crate::{Link, Page, start_ring};

/// How long the page is frozen.
const FROZEN: Duration = Duration::from_secs(10);
/// Calls that begin so soon after the freeze may fail.
const UNNOTICED: Duration = Duration::from_secs(5);
/// By then nobody takes the frozen page for a member that lives.
const LEFT_WITHIN: Duration = Duration::from_secs(10);
/// By then it is in the ring again.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// The slowest call, but for those that may fail.
const CALL_MAX: Duration = Duration::from_secs(2);

/// Keys of the page that nobody writes again, and as many that others write
/// while it is frozen: it mirrors some of them, and not others.
const KEYS: usize = 48;
/// Calls before anything happens.
const WARM_UP: u64 = 20;
/// Between two looks at the members.
const LOOK: Duration = Duration::from_millis(50);

/// What the page that stays does.
const GO_ON: &str = "
    window.ringLog = [];
    peer.on('ring', ({ members }) => window.ringLog.push([Date.now(), members]));
    const work = async () => {
        for (let round = 0; !window.stopped; round++) {
            const key = `page-${round}/n`, value = `value ${round}`;
            if (await put(key, value)) await get(key, value);
            await put(`one-${key}`, value, 'one');
            await get(`one-${key}`, value, 'one');
            await get(args[round % args.length], 'before');
            await pause();
        }
    };
    work();";

/// What the page does that is frozen: it notes when it runs, and reads what the
/// others wrote as soon as it says that it is ready.
const THAW: &str = "
    const ran = window.ran = { turns: 0, gap: 0, rounds: 0 };
    const now = performance.now.bind(performance);
    let last = now();
    const note = () => {
        const at = now();
        ran.gap = Math.max(ran.gap, at - last);
        last = at;
        return at;
    };
    // Whatever the peer does, by a timer or because something came, it looks
    // at this clock first.
    performance.now = () => {
        ran.turns++;
        return note();
    };
    const work = async () => {
        while (ran.gap < 3000) {
            await pause();
            note();
        }
        for (; !window.stopped; ran.rounds++) {
            while (!peer.status().ready) await pause();
            const kept = args[ran.rounds % args.length], key = `thawed-${ran.rounds}/n`;
            await get(kept.replace('kept', 'changed'), 'during');
            await get(kept, 'before');
            if (await put(key, 'thawed')) await get(key, 'thawed');
            await pause();
        }
    };
    work();";

fn keys(name: &str) -> Vec<String> {
    let key = |number| format!("{name}-{number}/n");
    (0..KEYS).map(key).collect()
}

/// Tells the callers to stop, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The members that somebody knows, with their states.
type States = BTreeMap<String, String>;

fn states(members: &Value) -> States {
    let members = members.as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    members
        .map(|member| (text(&member["id"]), text(&member["state"])))
        .collect()
}

fn states_of(port: u16) -> States {
    states(&http("GET", port, "/v1/ring", b"").json()["members"])
}

/// What one of the others says of the members from a moment on.
struct Change {
    at: u64,
    who: String,
    states: States,
}

/// Watches what the processes say of the members, until it is told to stop.
fn watch(ports: &[u16], stop: &AtomicBool) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for port in ports {
            let (at, who, states) = (unix_ms(), format!("port {port}"), states_of(*port));
            let mut known = changes.iter().rev().filter(|change| change.who == who);
            if known.next().is_none_or(|change| change.states != states) {
                changes.push(Change { at, who, states });
            }
        }
        std::thread::sleep(LOOK);
    }
    changes
}

/// A page that is frozen, and all that goes on without it.
struct Scene<'a> {
    ring: &'a Ring,
    ports: Vec<u16>,
    /// The browser of the page that is frozen, and of no other.
    apart: &'a Browser,
    how: Freeze,
    frozen: &'a Page<'a>,
    id: String,
    awake: &'a Page<'a>,
}

/// When what happened.
struct Times {
    frozen: u64,
    thawed: u64,
    whole: u64,
}

/// All that was seen.
struct Seen {
    times: Times,
    /// Of those that stayed.
    calls: Vec<Call>,
    changes: Vec<Change>,
    /// Of the page that was frozen.
    own: Vec<Call>,
}

impl Scene<'_> {
    fn run(&self) -> Seen {
        self.prepare();
        let stop = AtomicBool::new(false);
        let (ports, kept) = (&self.ports, keys("kept"));
        std::thread::scope(|scope| {
            let told = Stop(&stop);
            let watcher = scope.spawn(|| watch(ports, &stop));
            let callers = (0..ports.len()).map(|own| Caller::new(own, ports));
            let callers = callers.map(|caller| scope.spawn(|| caller.go_on(&kept, &stop)));
            let callers: Vec<_> = callers.collect();
            let (times, mut calls) = self.freeze_and_thaw();
            drop(told);
            for caller in callers {
                calls.extend(caller.join().unwrap());
            }
            let mut changes = watcher.join().unwrap();
            calls.extend(calls_of(self.awake));
            changes.extend(self.ring_log());
            let own = calls_of(self.frozen);
            Seen {
                times,
                calls,
                changes,
                own,
            }
        })
    }

    /// The page puts its keys, and both pages begin to call.
    fn prepare(&self) {
        self.frozen.run(
            "const { peer } = window.roundelay;
            await Promise.all(args.map((key, index) =>
                peer.put(key, 'before', { mode: index % 2 ? 'one' : 'quorum' })));",
            &texts(&[keys("kept"), keys("changed")].concat()),
        );
        for key in keys("kept") {
            for member in &self.ring.members {
                // What one copy took may not be everywhere yet.
                wait_until(&key, BACK_WITHIN, || member.get(&key).text() == "before");
            }
        }
        let kept = keys("kept");
        self.frozen.run(&[CALLS, THAW].concat(), &texts(&kept));
        self.awake.run(&[CALLS, GO_ON].concat(), &texts(&kept));
        wait_until("calls before the freeze", BACK_WITHIN, || {
            let calls = self.awake.run("return window.calls.length", &[]);
            let turns = self.frozen.run("return window.ran.turns", &[]);
            let many = |count: &Value| count.as_u64() > Some(WARM_UP);
            many(&calls) && many(&turns)
        });
    }

    /// Freezes the page, writes its keys meanwhile, and waits until all is as
    /// before. Returns the calls that wrote them, too.
    fn freeze_and_thaw(&self) -> (Times, Vec<Call>) {
        let mut writer = Caller::new(1, &self.ports);
        let changed = keys("changed");
        let mut change = |numbers: Range<usize>| {
            for key in &changed[numbers] {
                writer.put(key, "during");
            }
        };
        let (start, frozen) = (Instant::now(), unix_ms());
        let freeze = Frozen::new(self.apart, &self.frozen.tab, self.how);
        change(0..KEYS / 2);
        for port in &self.ports {
            let left = LEFT_WITHIN.saturating_sub(start.elapsed());
            wait_until("the frozen page to be no member", left, || {
                !states_of(*port).contains_key(&self.id)
            });
        }
        println!("no member any more after {:.1?}", start.elapsed());
        change(KEYS / 2..KEYS);
        // What lasts so long is the fault itself: nothing is waited for.
        std::thread::sleep(FROZEN.saturating_sub(start.elapsed()));
        let thawed = unix_ms();
        drop(freeze);
        let took = wait_until("the page to be back", BACK_WITHIN, || self.is_whole());
        println!("whole again {took:.1?} after the thaw");
        let whole = unix_ms();
        self.wait_rounds();
        let times = Times {
            frozen,
            thawed,
            whole,
        };
        (times, writer.calls)
    }

    /// Waits until the page has read all keys once more; then both stop.
    fn wait_rounds(&self) {
        let rounds = || self.frozen.run("return window.ran.rounds", &[]).as_u64();
        let goal = rounds().map(|rounds| rounds + KEYS as u64);
        wait_until("the page to read all", BACK_WITHIN, || rounds() > goal);
        for page in [self.frozen, self.awake] {
            page.run("window.stopped = true", &[]);
        }
    }

    /// Whether all members are in one ring, with direct links between all.
    fn is_whole(&self) -> bool {
        let others = self.ports.len() + 1;
        let all_live = |states: &States| {
            states.len() == others + 1 && states.values().all(|state| state == "alive")
        };
        let process =
            |member: &Member| all_live(&states_of(member.http)) && member.has_direct_links(others);
        let page = |page: &&Page<'_>| {
            let told = page.run(
                "const { peer } = window.roundelay;
                return [peer.status().ready, peer.ring().members];",
                &[],
            );
            let links = page.links();
            let direct = links.len() == others && links.iter().all(Link::is_direct);
            direct && told[0] == true && all_live(&states(&told[1]))
        };
        [self.frozen, self.awake].iter().all(page) && self.ring.members.iter().all(process)
    }

    /// What the page that stays said of the members.
    fn ring_log(&self) -> Vec<Change> {
        let told = self.awake.run("return window.ringLog", &[]);
        let log = told.as_array().unwrap().iter();
        let change = |entry: &Value| Change {
            at: entry[0].as_u64().unwrap(),
            who: self.awake.name.to_owned(),
            states: states(&entry[1]),
        };
        log.map(change).collect()
    }

    /// Asserts that the page ran before and after, but not while it was frozen.
    fn assert_frozen(&self, times: &Times) {
        let told = self.frozen.run(
            "return [window.ran.gap, window.roundelay.peer.status().counters.late ?? 0]",
            &[],
        );
        let (gap, late) = (told[0].as_f64().unwrap(), told[1].as_u64().unwrap());
        println!("the page did not run for {gap:.0} ms, and noticed {late} times");
        let frozen = after(times.frozen, times.thawed) as f64;
        assert!(gap > frozen - 500.0, "it ran while frozen for {frozen} ms");
        assert!(late > 0, "it did not notice that it was frozen");
    }

    /// How often one of the others had to deny its death.
    fn denials(&self) -> u64 {
        let denied = |counters: &Value| counters["own_death_denied"].as_u64().unwrap_or(0);
        let members = self.ring.members.iter();
        let members = members.map(|member| denied(&member.status().unwrap()["counters"]));
        let page = self
            .awake
            .run("return window.roundelay.peer.status().counters", &[]);
        members.sum::<u64>() + denied(&page)
    }
}

fn texts(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

/// Asserts that nobody saw another member than the frozen one fail.
fn assert_nobody_else_left(seen: &Seen, id: &str) {
    let all = &seen.changes[0].states;
    for Change { at, who, states } in &seen.changes {
        let at = after(seen.times.frozen, *at);
        let state = states.get(id).map_or("none", String::as_str);
        println!("{at} ms: for {who} the frozen page is {state}");
        let lives = |other: &&String| states.get(*other).is_some_and(|state| state == "alive");
        let gone = all.keys().filter(|other| *other != id && !lives(other));
        let gone: Vec<&String> = gone.collect();
        assert!(gone.is_empty(), "at {at} ms {who} misses {gone:?}");
    }
}

/// Asserts that nothing was lost, and that no call failed or stalled beyond
/// what may.
fn judge(seen: &Seen) {
    let Times {
        frozen,
        thawed,
        whole,
    } = seen.times;
    let noticed = frozen + u64::try_from(UNNOTICED.as_millis()).unwrap();
    let before = tell("before", &seen.calls, 0, frozen);
    tell("frozen, unnoticed", &seen.calls, frozen, noticed);
    let meanwhile = tell("frozen, noticed", &seen.calls, noticed, thawed);
    let later = tell("thawed", &seen.calls, thawed, u64::MAX);
    tell("thawed, the page itself", &seen.own, thawed, whole);
    let back = tell("back, the page itself", &seen.own, whole, u64::MAX);
    let failed = [before, meanwhile, later, back].concat();
    assert!(failed.is_empty(), "{failed:#?}");
    let may_fail = frozen..noticed;
    let bad = seen.calls.iter().chain(&seen.own).filter(|call| {
        let slow = call.took > CALL_MAX && !may_fail.contains(&call.begun);
        slow || call.error.starts_with(WRONG)
    });
    let bad: Vec<String> = bad.map(|call| call.told(frozen)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

fn freeze_a_page(kind: Kind, how: Freeze) {
    let _alone = alone();
    let ring = start_ring();
    let apart = Browser::start(kind, ring.dir.path());
    let browser = Browser::start(Kind::Chromium, ring.dir.path());
    let frozen = Page::join("frozen", &apart, &ring);
    let awake = Page::join("awake", &browser, &ring);
    for page in [&frozen, &awake] {
        page.wait_all_direct(4);
    }
    let id = frozen.run("return window.roundelay.peer.id", &[]);
    let scene = Scene {
        ring: &ring,
        ports: ring.members.iter().map(|member| member.http).collect(),
        apart: &apart,
        how,
        frozen: &frozen,
        id: id.as_str().unwrap().to_owned(),
        awake: &awake,
    };
    let denied = scene.denials();
    let seen = scene.run();
    scene.assert_frozen(&seen.times);
    assert_nobody_else_left(&seen, &scene.id);
    judge(&seen);
    assert_eq!(scene.denials(), denied, "somebody had to deny its death");
}

#[test]
fn a_frozen_tab_of_chromium_is_done_without_and_comes_back() {
    freeze_a_page(Kind::Chromium, Freeze::Tab);
}

#[test]
fn a_stopped_page_of_chromium_is_done_without_and_comes_back() {
    freeze_a_page(Kind::Chromium, Freeze::Process);
}

#[test]
fn a_stopped_page_of_firefox_is_done_without_and_comes_back() {
    freeze_a_page(Kind::Firefox, Freeze::Process);
}
