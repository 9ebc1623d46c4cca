//! Tests of storage as a whole, on both kinds.

mod crash;
mod damage;
mod full;
mod power;

use std::path::Path;

use redb::Database;
use roundelay_core::store::{Read, Write};

use super::*;

const OWNER: NodeId = NodeId::from_bytes([7; 32]);

fn open(dir: &Path, unix_ms: u64) -> Result<Storage, OpenError> {
    Storage::open(DataDir::open(dir)?, &OWNER, unix_ms)
}

fn put(key: &str, value: &str) -> Write {
    Write {
        key: key.into(),
        value: Some(value.into()),
    }
}

fn remove(key: &str) -> Write {
    Write {
        key: key.into(),
        value: None,
    }
}

impl Storage {
    fn get(&mut self, key: &str) -> Option<String> {
        let op = StoreOp::Read(Read::Get { key: key.into() });
        match self.submit(0, op).unwrap().unwrap() {
            Stored::Value(value) => value.map(|value| String::from_utf8(value).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn scan(&mut self, from: &str, to: &str, limit: usize) -> String {
        let (from, to) = (from.into(), to.into());
        let op = StoreOp::Read(Read::Scan { from, to, limit });
        match self.submit(0, op).unwrap().unwrap() {
            Stored::Entries(entries) => entries
                .iter()
                .map(|(key, value)| {
                    let text = |bytes| std::str::from_utf8(bytes).unwrap();
                    format!("{}={} ", text(key), text(value))
                })
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    async fn commit(&mut self, writes: Vec<Write>) -> Result<Stored, StoreError> {
        match self.submit(7, StoreOp::Commit(writes)) {
            Some(result) => result,
            None => {
                let completed = self.completed().await;
                assert_eq!(completed.token, 7);
                completed.result
            }
        }
    }
}

#[tokio::test]
async fn a_read_sees_every_commit_before_it() {
    let dir = tempfile::tempdir().unwrap();
    for mut storage in [Storage::memory(1), open(dir.path(), 1).unwrap()] {
        let mut due = 0;
        for round in 0..200 {
            let (key, value) = (format!("k{:02}", round % 20), round.to_string());
            let writes = vec![put(&key, &value), remove("gone"), put("last", &value)];
            due += u64::from(storage.submit(round, StoreOp::Commit(writes)).is_none());
            assert_eq!(storage.get(&key), Some(value.clone()));
            let scan = storage.scan("k", "m", usize::MAX);
            assert!(scan.ends_with(&format!("last={value} ")), "{scan}");
            assert!(scan.contains(&format!("{key}={value} ")), "{scan}");
            assert_eq!(scan.matches('=').count() as u64, 21.min(round + 2));
        }
        let first = 200 - due;
        for token in first..200 {
            let completed = storage.completed().await;
            assert_eq!(
                (completed.token, completed.result),
                (token, Ok(Stored::Done))
            );
        }
        assert_eq!(storage.try_completed(), None);
        assert_eq!(storage.get("last").as_deref(), Some("199"));
    }
}

#[tokio::test]
async fn scans_are_ordered_half_open_and_limited() {
    let dir = tempfile::tempdir().unwrap();
    for mut storage in [Storage::memory(1), open(dir.path(), 1).unwrap()] {
        let writes = vec![put("a", "1"), put("b", "2"), put("c", "3"), put("d", "4")];
        storage.commit(writes).await.unwrap();
        storage.submit(8, StoreOp::Commit(vec![remove("b"), put("c", "5")]));
        assert_eq!(storage.scan("a", "d", 100), "a=1 c=5 ");
        assert_eq!(storage.scan("a", "e", 4), "a=1 c=5 ");
        assert_eq!(storage.scan("a", "e", 0), "a=1 ");
        assert_eq!(storage.scan("d", "a", 100), "");
        assert_eq!(storage.scan("x", "y", 100), "");
    }
}

#[tokio::test]
async fn reopening_keeps_everything_and_counts_the_epoch_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = open(dir.path(), 1000).unwrap();
    assert_eq!(storage.epoch(), 1000);
    storage.commit(vec![put("kept", "yes")]).await.unwrap();
    // What is in flight when a node stops is written all the same.
    storage.submit(8, StoreOp::Commit(vec![put("late", "too")]));
    drop(storage);

    let mut storage = open(dir.path(), 500).unwrap();
    assert_eq!(storage.epoch(), 1001, "the clock went back");
    assert_eq!(storage.scan("a", "z", 100), "kept=yes late=too ");
    drop(storage);
    assert_eq!(open(dir.path(), 5000).unwrap().epoch(), 5000);
}

#[test]
fn what_a_power_loss_left_of_a_new_file_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("roundelay.redb.new"), [0; 73_728]).unwrap();
    drop(open(dir.path(), 1).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn one_directory_is_for_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), 1).unwrap();
    let error = open(dir.path(), 1).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    drop(first);
    open(dir.path(), 1).unwrap();
}

#[test]
fn an_unusable_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = open(&path, 1).unwrap_err();
        assert!(matches!(error, OpenError::NoDirectory { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()));
    }
}

#[test]
fn another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 1).unwrap());
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    let database = Database::open(dir.path().join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(meta)
        .unwrap()
        .insert("format", 9)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = open(dir.path(), 1).unwrap_err();
    assert!(
        matches!(error, OpenError::Format { found: 9, .. }),
        "{error}"
    );
}

#[test]
fn there_is_no_room_beyond_the_cap() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = open(dir.path(), 1).unwrap();
    assert!(storage.has_room());
    let big = "x".repeat(COMMIT_BYTES_MAX);
    storage.submit(1, StoreOp::Commit(vec![put("big", &big)]));
    assert!(!storage.has_room());
    assert_eq!(storage.get("big").map(|value| value.len()), Some(big.len()));
    while storage.try_completed().is_none() {
        std::thread::yield_now();
    }
    assert!(storage.has_room());
}
