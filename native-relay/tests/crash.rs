//! What storage acknowledged is there after kill -9.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use roundelay::store::{DataDir, Storage};
use roundelay_core::NodeId;
use roundelay_core::store::{Read, StoreOp, Stored, Write};

/// Names the directory, in the process that is to be killed.
const DIR: &str = "ROUNDELAY_TEST_CRASH_DIR";

#[test]
fn acknowledged_commits_survive_kill_9() {
    if let Some(dir) = std::env::var_os(DIR) {
        write_for_ever(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut last = None;
    for round in 0..5 {
        let acknowledged = kill_a_writer(dir.path(), 50 + 37 * round);
        last = acknowledged.max(last);
        let mut storage = open(dir.path());
        for number in 0..=last.expect("something was acknowledged") {
            let key = number.to_be_bytes().to_vec();
            let found = storage.submit(0, StoreOp::Read(Read::Get { key }));
            let value = Some(number.to_string().into_bytes());
            assert_eq!(found, Some(Ok(Stored::Value(value))), "round {round}");
        }
    }
}

fn open(dir: &Path) -> Storage {
    let dir = DataDir::open(dir).unwrap();
    Storage::open(dir, &NodeId::from_bytes([7; 32]), 0).unwrap()
}

/// Lets a process write until it has said so many lines, kills it, and tells
/// the last commit that it said was done.
fn kill_a_writer(dir: &Path, lines: usize) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "acknowledged_commits_survive_kill_9",
            "--exact",
            "--nocapture",
        ])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let said = stdout.lines().map_while(Result::ok);
    let numbers = said.filter_map(|line| line.strip_prefix("done ")?.parse().ok());
    let mut killed = false;
    let mut last = None;
    for (line, number) in numbers.enumerate() {
        last = Some(number);
        if line >= lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    last
}

/// Commits numbers from where the storage ends, a few in flight at a time.
fn write_for_ever(dir: &Path) -> ! {
    let mut storage = open(dir);
    let mut next: u64 = 0;
    let is_there = |storage: &mut Storage, number: u64| {
        let key = number.to_be_bytes().to_vec();
        let found = storage.submit(0, StoreOp::Read(Read::Get { key }));
        found != Some(Ok(Stored::Value(None)))
    };
    while is_there(&mut storage, next) {
        next += 1;
    }
    let mut due = 0;
    loop {
        while due < 8 {
            let write = Write {
                key: next.to_be_bytes().to_vec(),
                value: Some(next.to_string().into_bytes()),
            };
            assert!(storage.submit(next, StoreOp::Commit(vec![write])).is_none());
            next += 1;
            due += 1;
        }
        while let Some(completed) = storage.try_completed() {
            assert_eq!(completed.result, Ok(Stored::Done));
            println!("done {}", completed.token);
            due -= 1;
        }
        std::thread::yield_now();
    }
}
