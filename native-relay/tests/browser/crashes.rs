//! Five durable members and two pages under load, while one member after another
//! is killed or frozen; then all at once. Nothing acknowledged is lost, and all
//! linearizable calls of a key have one order.
//!
//! ```sh
//! ROUNDELAY_SOAK_S=300 ROUNDELAY_SEED=17 cargo test -p roundelay --test browser crashes -- --nocapture
//! ```

#[path = "crashes/called.rs"]
mod called;
#[path = "crashes/callers.rs"]
mod callers;
#[path = "../../../core/tests/sim/history.rs"]
#[allow(unreachable_pub, reason = "a test binary has no outside")]
mod history;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use called::{Called, End, Op};
use callers::{HttpCaller, in_page, stop_page};

use crate::common::dice::{Dice, number};
use crate::common::{DEADLINE, Fault, Member, Ring, alone, http, wait_until};
use crate::webdriver::{Browser, Kind};
use crate::{Page, start_ring_of};

/// Durable members: a relay, and nodes.
const NODES: usize = 4;
/// How long there are faults, in seconds, without `ROUNDELAY_SOAK_S`.
const SOAK_S: u64 = 30;
/// From one fault to the next, if all copies are there again by then.
const EVERY: Duration = Duration::from_secs(5);
/// A member is away until so many writes were acknowledged, or up to so many times
/// as many.
const AWAY: usize = 20;
const AWAY_STEPS: usize = 6;

#[test]
fn crashes_lose_nothing_and_no_linearizable_read_is_wrong() {
    let _alone = alone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("ROUNDELAY_SEED").unwrap_or(now.as_millis() as u64 % 1_000_000);
    let soak = number("ROUNDELAY_SOAK_S").unwrap_or(SOAK_S);
    println!("ROUNDELAY_SOAK_S={soak} ROUNDELAY_SEED={seed}");
    let mut ring = start_ring_of(NODES);
    let ports: Vec<u16> = ring.members.iter().map(|member| member.http).collect();
    let (chromium, firefox) = (
        Browser::start(Kind::Chromium, ring.dir.path()),
        Browser::start(Kind::Firefox, ring.dir.path()),
    );
    let pages = [
        Page::join("chromium", &chromium, &ring),
        Page::join("firefox", &firefox, &ring),
    ];
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut calls: Vec<Called> = Vec::new();
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for (number, page) in pages.iter().enumerate() {
            in_page(page, seed, ports.len() + number);
        }
        let callers = ports.iter().enumerate().map(|(number, port)| {
            let caller = HttpCaller::new(*port, seed, number);
            let (stop, written) = (&stop, &written);
            scope.spawn(move || caller.go_on(stop, written))
        });
        let callers: Vec<_> = callers.collect();
        break_members(&mut ring, seed, Duration::from_secs(soak), &written);
        wait_copies(&ring);
        stop.store(true, Ordering::Relaxed);
        calls.extend(pages.iter().flat_map(stop_page));
        let told = callers.into_iter().map(|caller| caller.join().unwrap());
        calls.extend(told.flatten());
    });
    tell(&calls);
    kill_all(&mut ring);
    check(calls, &ports);
}

/// Tells the callers to stop, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills or freezes one member after another, each when no copy is missing.
fn break_members(ring: &mut Ring, seed: u64, length: Duration, written: &AtomicUsize) {
    let mut dice = Dice::new(seed);
    let begun = Instant::now();
    let mut due = begun + EVERY;
    while due < begun + length {
        // There is load for so long: nothing is waited for.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        due = Instant::now() + EVERY;
        wait_copies(ring);
        let victim = dice.below(ring.members.len());
        let what = match dice.below(2) {
            0 => Fault::Kill,
            _ => Fault::Stop,
        };
        let count = AWAY * (1 + dice.below(AWAY_STEPS));
        let at = begun.elapsed();
        println!("{at:.1?}: {what} of member {victim} for {count} writes");
        ring.members[victim].while_away(what, || {
            let before = written.load(Ordering::Relaxed);
            let took = wait_until("others to be able to write", DEADLINE, || {
                written.load(Ordering::Relaxed) >= before + count
            });
            println!("{:.1?}: after {took:.1?}", begun.elapsed());
        });
        for member in &mut ring.members {
            let port = member.http;
            assert!(member.process().is_alive(), "port {port} exited");
        }
    }
}

fn wait_copies(ring: &Ring) {
    wait_until("all copies", DEADLINE, || {
        ring.members.iter().all(Member::is_whole)
    });
}

/// Kills all members at once, and starts them again.
fn kill_all(ring: &mut Ring) {
    for member in &mut ring.members {
        member.kill_9();
    }
    for member in &mut ring.members {
        member.start();
    }
    let begun = Instant::now();
    wait_copies(ring);
    println!("whole {:?} after all were killed", begun.elapsed());
}

/// Prints how many calls there were of each kind, and how they ended.
fn tell(calls: &[Called]) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for call in calls {
        *counts.entry(call.kind()).or_default() += 1;
    }
    for (kind, count) in counts {
        println!("{count:>6} {kind}");
    }
}

/// All that was acknowledged is read back, and all calls have one order.
fn check(mut calls: Vec<Called>, ports: &[u16]) {
    let mut keys: Vec<String> = calls.iter().map(|call| call.key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert!(keys.len() > 8, "hardly anything was called: {keys:?}");
    for (key, port) in keys.iter().zip(ports.iter().cycle()) {
        let mut read = None;
        wait_until(&format!("{key} to be read"), DEADLINE, || {
            let call = called::read(*port, key);
            let is_read = matches!(call.end, End::Found(_));
            read = Some(call);
            is_read
        });
        calls.extend(read);
    }
    let lost = called::lost(&calls);
    assert!(lost.is_empty(), "lost: {lost:#?}");
    let history = called::history(&calls);
    println!(
        "{} calls are in one order, of {}",
        history.count(),
        calls.len()
    );
    let ordered = history.check();
    assert!(ordered.is_ok(), "{}", ordered.unwrap_err());
    let acknowledged = calls.iter().filter(|call| {
        matches!(call.op, Op::Put(_) | Op::Swap(..) | Op::Keep(_))
            && matches!(call.end, End::Written(_))
    });
    assert!(acknowledged.count() > 100, "hardly anything was written");
    let (method, path) = ("GET", "/healthz");
    assert!(
        ports
            .iter()
            .all(|port| http(method, *port, path, b"").status == 200)
    );
}
