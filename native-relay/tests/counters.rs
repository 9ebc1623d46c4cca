//! Counters that many raise at once by compare-and-set, while nodes are
//! killed: no raise is lost, and none counts twice.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Ring, alone, http, http_with, wait_until};

/// Callers of each member.
const CALLERS: usize = 3;
/// How many raises there are at least before, between and after the deaths.
const RAISES: u64 = 60;

const PATH: &str = "/v1/kv/counters/one";

/// What became of the raises.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    unknown: AtomicU64,
    /// Reads that showed less than was known before they began.
    stale: AtomicU64,
    /// The largest count that anybody was told of.
    known: AtomicU64,
    over: AtomicBool,
}

impl Tally {
    /// Reads, and writes one more if nobody else did.
    fn raise(&self, port: u16) {
        let floor = self.known.load(Ordering::SeqCst);
        let read = http("GET", port, &format!("{PATH}?mode=linearizable"), b"");
        if read.status != 200 {
            return;
        }
        let count: u64 = read.text().parse().unwrap();
        if count < floor {
            self.stale.fetch_add(1, Ordering::SeqCst);
        }
        let condition = [("if-match", read.header("etag"))];
        let more = (count + 1).to_string();
        let write = http_with("PUT", port, PATH, &condition, more.as_bytes());
        match write.status {
            204 => {
                self.known.fetch_max(count + 1, Ordering::SeqCst);
                self.done.fetch_add(1, Ordering::SeqCst);
            }
            412 | 503 => {}
            // Without an answer the process was killed.
            504 | 0 => {
                self.unknown.fetch_add(1, Ordering::SeqCst);
            }
            other => panic!("{other}: {}", write.text()),
        }
    }

    fn wait_for(&self, more: u64) {
        let done = self.done.load(Ordering::SeqCst) + more;
        wait_until("more raises", Duration::from_secs(30), || {
            self.done.load(Ordering::SeqCst) >= done
        });
    }
}

/// Ends the callers, whatever happens.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn no_raise_of_a_counter_is_lost_or_counted_twice() {
    let _alone = alone();
    let mut ring = Ring::start(2);
    ring.wait_whole();
    let ports: Vec<u16> = ring.members.iter().map(|member| member.http).collect();
    let absent = [("if-none-match", "*")];
    let first = http_with("PUT", ports[0], PATH, &absent, b"0");
    assert_eq!(first.status, 204, "{}", first.text());
    let one = http("PUT", ports[1], &format!("{PATH}?mode=one"), b"7");
    assert_eq!(one.status, 409, "a marked key takes no write of mode one");

    let tally = Tally::default();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let _end = End(&tally.over);
        for port in ports.iter().copied().cycle().take(ports.len() * CALLERS) {
            let tally = &tally;
            scope.spawn(move || {
                while !tally.over.load(Ordering::SeqCst) {
                    tally.raise(port);
                }
            });
        }
        tally.wait_for(RAISES);
        for victim in [2, 1] {
            ring.members[victim].kill_9();
            tally.wait_for(RAISES);
            ring.members[victim].start();
            ring.wait_whole();
            tally.wait_for(RAISES);
        }
    });

    let read = http("GET", ports[0], &format!("{PATH}?mode=linearizable"), b"");
    assert_eq!(read.status, 200, "{}", read.text());
    let count: u64 = read.text().parse().unwrap();
    let done = tally.done.load(Ordering::SeqCst);
    let unknown = tally.unknown.load(Ordering::SeqCst);
    println!(
        "{done} raises, {unknown} that nobody knows of, count {count}, {:.1?}",
        started.elapsed()
    );
    assert!((done..=done + unknown).contains(&count), "{count}");
    assert_eq!(tally.stale.load(Ordering::SeqCst), 0, "stale reads");
}
