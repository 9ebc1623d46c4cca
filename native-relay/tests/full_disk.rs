//! A node whose disk is full refuses writes in words, goes on reading, and
//! takes writes again when there is room.
#![cfg(target_os = "linux")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Answer, DEADLINE, Member, Ring, alone, http, wait_until};
use rustix::fs::StatVfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

const SOON: Duration = Duration::from_secs(15);

/// A put that adds to the file.
fn put(member: &Member, number: usize) -> Answer {
    member.put(&format!("b/{number}"), &value(number))
}

fn value(number: usize) -> Vec<u8> {
    vec![number as u8; 100_000]
}

/// Puts until one is refused; tells how many were not.
fn put_until_full(member: &Member) -> usize {
    for number in 0..1_000 {
        let answer = put(member, number);
        if answer.status != 204 {
            assert_eq!(answer.status, 507, "{}", answer.text());
            assert_eq!(answer.json()["error"], "full");
            let words = answer.json()["message"].to_string();
            assert!(words.contains("not applied"), "{words}");
            assert!(words.contains("make room"), "{words}");
            return number;
        }
    }
    panic!("it never was full");
}

fn reads_all(member: &Member, count: usize) {
    for number in 0..count {
        let get = member.get(&format!("b/{number}"));
        assert!(get.body == value(number), "{number}: {}", get.status);
    }
    assert_eq!(member.get(&format!("b/{count}")).status, 404);
}

fn state(member: &Member) -> String {
    let status = member.status().unwrap();
    status["store"]["state"].as_str().unwrap().to_owned()
}

fn metric(member: &Member, name: &str) -> u64 {
    let metrics = http("GET", member.http, "/metrics", b"").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.trim().parse().ok());
    number.unwrap_or_else(|| panic!("{name} is not in {metrics}"))
}

/// That it says everywhere that it is full.
fn says_full(member: &mut Member) {
    assert_eq!(state(member), "full");
    assert_eq!(metric(member, "roundelay_store_takes_writes "), 0);
    assert!(metric(member, "roundelay_commits_refused_total ") >= 1);
    let refused = "roundelay_http_refused_total{code=\"full\"} ";
    assert!(metric(member, refused) >= 1);
    let said = member.process().said();
    assert!(
        said.contains("writes are refused: the disk is full"),
        "{said}"
    );
}

fn limit(member: &mut Member, bytes: Option<u64>) {
    let id = Pid::from_raw(member.process().id().cast_signed());
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(id, Resource::Fsize, limit).unwrap();
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    let _alone = alone();
    let mut ring = Ring::start(0);
    let file = ring.dir.path().join("relay/default/roundelay.redb");
    let relay = &mut ring.members[0];
    assert_eq!(state(relay), "ok");
    limit(relay, Some(file.metadata().unwrap().len()));
    let count = put_until_full(relay);
    for _ in 0..3 {
        assert_eq!(put(relay, count).status, 507);
        reads_all(relay, count);
    }
    says_full(relay);
    assert!(relay.process().is_alive());

    limit(relay, None);
    assert_eq!(put(relay, count).status, 204);
    assert_eq!(state(relay), "ok");
    relay.kill_9();
    relay.start();
    wait_until("the relay", DEADLINE, || relay.is_whole());
    reads_all(relay, count + 1);
}

/// A file system of so many bytes, until the end of the test.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: &Path, bytes: u64) -> rustix::io::Result<Self> {
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        let flags = MountFlags::empty();
        mount("tmpfs", path, "tmpfs", flags, options.as_c_str())?;
        Ok(Self(path.to_owned()))
    }

    /// Takes what is free, but for so many bytes.
    fn fill(&self, left: u64) {
        self.empty();
        let stat: StatVfs = rustix::fs::statvfs(&self.0).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        let ballast = vec![0; free.saturating_sub(left) as usize];
        std::fs::write(self.0.join("ballast"), ballast).unwrap();
    }

    fn empty(&self) {
        let _ = std::fs::remove_file(self.0.join("ballast"));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_disk_that_others_fill_is_full_until_they_leave_room() {
    let _alone = alone();
    let mut ring = Ring {
        dir: tempfile::tempdir().unwrap(),
        listen: common::free_port(),
        members: Vec::new(),
    };
    let dir = ring.dir.path().join("relay");
    std::fs::create_dir(&dir).unwrap();
    let tmpfs = match Tmpfs::mount(&dir, 32 << 20) {
        Ok(tmpfs) => tmpfs,
        Err(error) => return eprintln!("skipped: cannot mount a tmpfs: {error}"),
    };
    let listen = format!("127.0.0.1:{}", ring.listen);
    ring.add("relay", &["relay", "--listen", &listen]);
    wait_until("the relay", DEADLINE, || ring.members[0].is_whole());
    let relay = &mut ring.members[0];
    tmpfs.fill(12 << 20);
    let count = put_until_full(relay);
    assert!(count > 5, "{count} puts found room");
    says_full(relay);

    // What makes room is taken.
    let delete = |number| http("DELETE", relay.http, &format!("/v1/kv/b/{number}"), b"");
    assert_eq!(delete(count - 1).status, 204);
    tmpfs.fill(0);
    assert_eq!(put(relay, count).status, 507);
    reads_all(relay, count - 1);

    // A disk that is full at the start is no reason not to start.
    relay.kill_9();
    relay.start();
    wait_until("the relay", DEADLINE, || relay.is_whole());
    wait_until("it to say so", SOON, || state(relay) == "full");
    reads_all(relay, count - 1);
    assert_eq!(put(relay, count).status, 507);

    tmpfs.empty();
    wait_until("it to take writes", SOON, || state(relay) == "ok");
    assert_eq!(put(relay, count - 1).status, 204);
    reads_all(relay, count);
    drop(ring);
}
