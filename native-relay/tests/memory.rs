//! What a member needs of memory at the limits that README names.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::load::Records;
use common::{Member, Ring, alone};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const SMALL: Records = Records {
    bucket: "small",
    buckets: 64,
    value_len: 100,
};
const LARGE: Records = Records {
    bucket: "large",
    buckets: 8,
    value_len: 1 << 20,
};
const LARGE_COUNT: usize = 64;
const WATCHERS: usize = 1000;
/// The most that any member may have needed, ever, in KiB: as README has it.
const PEAK_MAX: u64 = 192 * 1024;

/// Of the release binary; one that is not optimised takes ten times as long.
fn count() -> usize {
    let is_given = std::env::var_os("ROUNDELAY_BIN").is_some();
    if is_given { 100_000 } else { 5_000 }
}

/// A number of a process's `/proc/…/status`, in KiB.
fn kib(member: &mut Member, name: &str) -> u64 {
    let path = format!("/proc/{}/status", member.process().id());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.expect(name).parse().unwrap()
}

/// Has this process open a file for each watcher.
fn open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(4096, |most| most.min(4096));
    let current = Some(limit.current.map_or(wanted, |now| now.max(wanted)));
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
}

/// A client that watches a bucket.
struct Watcher(BufReader<TcpStream>);

impl Watcher {
    fn start(port: u16, bucket: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let limit = Some(Duration::from_secs(60));
        stream.set_read_timeout(limit).unwrap();
        let head = format!("GET /v1/watch/{bucket}/ HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        Self(BufReader::with_capacity(512, stream))
    }

    /// Reads on until a line has these words.
    fn wait_for(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let read = self.0.read_line(&mut line).expect(words);
            assert!(read > 0, "the end of events before {words:?}");
        }
    }
}

#[test]
fn a_member_at_its_limits_stays_within_what_is_said() {
    let _alone = alone();
    open_files();
    let mut ring = Ring::start(2);
    let numbers: Vec<usize> = (0..count()).collect();
    let members: Vec<&Member> = ring.members.iter().collect();
    SMALL.put(&members, &numbers, 0);
    LARGE.put(&members, &numbers[..LARGE_COUNT], 0);
    assert_eq!(
        LARGE.found(members[1], &numbers[..LARGE_COUNT], 0),
        LARGE_COUNT
    );
    let port = members[1].http;
    let mut watchers: Vec<Watcher> = (0..WATCHERS)
        .map(|number| Watcher::start(port, &format!("told-{}", number % 8)))
        .collect();
    for watcher in &mut watchers {
        watcher.wait_for("event: reset");
    }
    for bucket in 0..8 {
        let put = members[2].put(&format!("told-{bucket}/key"), b"x");
        assert_eq!(put.status, 204, "{}", put.text());
    }
    for watcher in &mut watchers {
        watcher.wait_for("event: change");
    }
    for (index, member) in ring.members.iter_mut().enumerate() {
        let (peak, now) = (kib(member, "VmHWM:"), kib(member, "VmRSS:"));
        println!(
            "member {index}: {now} KiB, {peak} KiB at most, with {} records, {LARGE_COUNT} of 1 MiB{}",
            numbers.len() + LARGE_COUNT,
            if index == 1 { ", 1,000 watchers" } else { "" },
        );
        assert!(peak <= PEAK_MAX, "member {index} needed {peak} KiB");
    }
}
