//! What it costs a member to be brought level again: after it missed a little,
//! and with an empty disk.

mod common;

use std::time::{Duration, Instant};

use common::load::Records;
use common::{Member, Ring, alone, wait_until};

const RECORDS: Records = Records {
    bucket: "refill",
    buckets: 64,
    value_len: 1024,
};
/// Whoever was away for this many records of a hundred.
const MISSED_PERCENT: usize = 1;
/// The most that may be exchanged, in encoded records that were missed.
const EXCHANGED_MAX: f64 = 3.0;
/// In CI, whose machines are slow; what it took is printed.
const LIMIT: Duration = Duration::from_secs(120);

/// Of the release binary; one that is not optimised takes ten times as long.
fn count() -> usize {
    let is_given = std::env::var_os("ROUNDELAY_BIN").is_some();
    if is_given { 100_000 } else { 5_000 }
}

/// Bytes that crossed core's border since the member started, to and fro.
fn exchanged(member: &Member) -> u64 {
    let status = member.status().expect("it answers");
    let counters = &status["counters"];
    ["frame_bytes_in", "frame_bytes_out"]
        .map(|name| counters[name].as_u64().expect(name))
        .iter()
        .sum()
}

/// Starts a member, and waits until the ring is whole.
fn start_and_wait(ring: &mut Ring, index: usize) -> Duration {
    let started = Instant::now();
    ring.members[index].start();
    for member in &ring.members {
        let left = LIMIT.saturating_sub(started.elapsed());
        wait_until("all copies", left, || member.is_whole());
    }
    started.elapsed()
}

#[test]
fn who_missed_a_little_exchanges_little_and_who_lost_all_is_filled() {
    let _alone = alone();
    let mut ring = Ring::start(2);
    let all: Vec<usize> = (0..count()).collect();
    let put = Instant::now();
    let members: Vec<&Member> = ring.members.iter().collect();
    RECORDS.put(&members, &all, 0);
    println!("{} records put in {:.2?}", all.len(), put.elapsed());
    ring.wait_whole();

    let victim = 2;
    ring.members[victim].kill_9();
    let step = 100 / MISSED_PERCENT;
    let missed: Vec<usize> = all.iter().copied().step_by(step).collect();
    let others: Vec<&Member> = ring.members[..victim].iter().collect();
    RECORDS.put(&others, &missed, 1);
    let took = start_and_wait(&mut ring, victim);
    let bytes = exchanged(&ring.members[victim]);
    // A record on the wire: its value, its key, a version and lengths.
    let record = RECORDS.value_len + RECORDS.key(all.len()).len() + 40;
    let ratio = bytes as f64 / (missed.len() * record) as f64;
    println!(
        "back after {} of {} records: level after {took:.2?}, {bytes} bytes, {ratio:.2} of what was missed",
        missed.len(),
        all.len(),
    );
    assert!(ratio <= EXCHANGED_MAX, "{ratio}");

    ring.members[victim].kill_9();
    let data = ring.dir.path().join("node-2");
    for name in ["roundelay.redb", "roundelay.mark"] {
        std::fs::remove_file(data.join(name)).unwrap();
    }
    let took = start_and_wait(&mut ring, victim);
    let bytes = exchanged(&ring.members[victim]);
    println!("an empty disk: filled after {took:.2?}, {bytes} bytes");

    // It votes with what it was given: without another, it is half of a majority.
    ring.members[1].kill_9();
    let found = |numbers: &[usize], round| RECORDS.found(&ring.members[victim], numbers, round);
    assert_eq!(found(&missed, 1), missed.len());
    let rest: Vec<usize> = all.iter().copied().filter(|n| n % step != 0).collect();
    assert_eq!(found(&rest, 0), rest.len());
}
