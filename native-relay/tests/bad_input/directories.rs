//! Data directories that cannot be used are refused in words, and left alone.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;
use redb::{Database, TableDefinition};

use super::SOON;
use super::common::{DEADLINE, Process, Ring, alone, binary, free_port, keys, wait_until};

const KEYS: usize = 60;

/// The files of a directory and what they hold.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

fn put_back(dir: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    std::fs::remove_dir_all(dir).unwrap();
    std::fs::create_dir_all(dir).unwrap();
    for (path, bytes) in files {
        std::fs::write(path, bytes).unwrap();
    }
}

/// The directory of a relay's member that was told to stop, or killed.
fn stopped(ring: &mut Ring, killed: bool) -> PathBuf {
    keys::put_all(ring, KEYS);
    let relay = &mut ring.members[0];
    if killed {
        relay.kill_9();
    } else {
        relay.process().terminate();
        assert!(relay.process().ended(SOON).success());
    }
    ring.dir.path().join("relay/default")
}

fn set_format(file: &Path, format: u64) {
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let database = Database::open(file).unwrap();
    let write = database.begin_write().unwrap();
    let mut table = write.open_table(meta).unwrap();
    table.insert("format", format).unwrap();
    drop(table);
    write.commit().unwrap();
}

/// Starts the relay, which is to end at once; what it says.
fn refusal(ring: &mut Ring) -> String {
    let log = ring.dir.path().join("refusal.log");
    let _ = std::fs::remove_file(&log);
    let dir = ring.dir.path().join("relay").display().to_string();
    let listen = format!("127.0.0.1:{}", free_port());
    let args = ["relay", "--listen", &listen, "--data-dir", &dir];
    let mut process = Process::start(&args, &log);
    assert_eq!(process.ended(SOON).code(), Some(1), "{}", process.said());
    process.said()
}

/// What is wrong, how it comes about, and words that are said of it.
type Case<'a> = (&'a str, &'a dyn Fn(), &'a [&'a str]);

#[test]
fn a_directory_that_is_damaged_is_refused_and_left_alone() {
    let _alone = alone();
    let mut ring = Ring::start(0);
    let dir = stopped(&mut ring, false);
    let (file, identity) = (dir.join("roundelay.redb"), dir.join("identity"));
    let good = files(&dir);
    let changes: [Case<'_>; 7] = [
        (
            "another format",
            &|| set_format(&file, 9),
            &[
                "roundelay.redb has format 9",
                "run the version that wrote it",
            ],
        ),
        (
            "cut short",
            &|| std::fs::write(&file, &good[&file][..good[&file].len() / 2]).unwrap(),
            &["roundelay.redb is damaged", "move it away"],
        ),
        (
            "empty",
            &|| std::fs::write(&file, b"").unwrap(),
            &["roundelay.redb is damaged", "move it away"],
        ),
        (
            "another program's",
            &|| std::fs::write(&file, "SQLite format 3").unwrap(),
            &["not a Roundelay file", "move it away"],
        ),
        (
            "no identity to speak of",
            &|| std::fs::write(&identity, "short").unwrap(),
            &["identity does not hold exactly 32 bytes", "restore it"],
        ),
        (
            "another's identity",
            &|| std::fs::write(&identity, [7; 32]).unwrap(),
            &[
                "put that node's identity file back",
                "choose another --data-dir",
            ],
        ),
        (
            "a directory in place of the file",
            &|| {
                std::fs::remove_file(&file).unwrap();
                std::fs::create_dir(&file).unwrap();
            },
            &["cannot use the data directory", "choose another --data-dir"],
        ),
    ];
    for (name, change, words) in changes {
        put_back(&dir, &good);
        change();
        let before = file.is_file().then(|| files(&dir));
        let said = refusal(&mut ring);
        for word in words {
            assert!(said.contains(word), "{name}: {said}");
        }
        assert!(!said.contains("panicked"), "{name}: {said}");
        let after = file.is_file().then(|| files(&dir));
        assert!(before == after, "{name}: the directory was changed");
    }
    put_back(&dir, &good);
    ring.members[0].start();
    wait_until("the relay", DEADLINE, || ring.members[0].is_whole());
    assert_eq!(keys::lost(&ring.members[0], KEYS), [""; 0]);
}

#[test]
fn flipped_bytes_are_noticed_or_do_no_harm() {
    let _alone = alone();
    let mut refused = 0;
    for killed in [false, true] {
        let mut ring = Ring::start(0);
        let dir = stopped(&mut ring, killed);
        let file = dir.join("roundelay.redb");
        let good = files(&dir);
        for seed in 0..12 {
            let mut rng = Rng::with_seed(seed);
            put_back(&dir, &good);
            let mut bytes = good[&file].clone();
            let at = rng.usize(0..bytes.len());
            bytes[at] ^= rng.u8(1..);
            // Where the last commits are named.
            bytes[rng.usize(0..320)] ^= u8::from(seed % 3 == 0);
            std::fs::write(&file, bytes).unwrap();
            let relay = &mut ring.members[0];
            relay.start();
            wait_until("the relay, or its refusal", DEADLINE, || {
                !relay.process().is_alive() || relay.is_whole()
            });
            if relay.process().is_alive() {
                let lost = keys::lost(relay, KEYS);
                assert_eq!(lost, [""; 0], "killed {killed}, seed {seed}");
                relay.kill_9();
            } else {
                let said = relay.process().said();
                assert!(said.contains("move it away"), "{said}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_directory_without_permission_is_named() {
    // Root may do everything: then the process is to be nobody's.
    let dir = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open.clone()).unwrap();
    let program = dir.path().join("roundelay");
    std::fs::copy(binary(), &program).unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o555)).unwrap();
    let is_root = std::fs::metadata(&data).unwrap().uid() == 0;
    for path in [data.join("below"), data.clone()] {
        let mut command = Command::new(&program);
        command.args(["node", "--data-dir"]).arg(&path).env_clear();
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let words = path.display().to_string();
        assert!(said.contains(&words), "{said}");
        assert!(said.contains("ermission denied"), "{said}");
        assert!(said.contains("--data-dir"), "{said}");
    }
    std::fs::set_permissions(&data, open).unwrap();
}
