//! A disk that is full or fails refuses commits, and its records are read all
//! the same.

use std::io::ErrorKind;
use std::path::Path;

use roundelay_core::store::StoreError;

use super::super::committer::{LAST_BYTES, RESERVE_BYTES};
use super::super::disk::Disk;
use super::super::{Kind, Storage};
use super::power::{Image, PowerDisk};
use super::{OWNER, put, remove};

const MANY: u64 = u64::MAX / 2;

fn storage(disk: &PowerDisk) -> Storage {
    disk.create().unwrap();
    let disk = Disk::open_medium(Box::new(disk.clone()), Path::new("dir"), &OWNER, 1).unwrap();
    let kind = Kind::Disk(Box::new(disk));
    Storage { kind }
}

fn disk() -> PowerDisk {
    PowerDisk::new(Image::default(), u64::MAX)
}

#[tokio::test]
async fn a_full_disk_refuses_what_adds_to_it() {
    let disk = disk();
    let mut storage = storage(&disk);
    storage.commit(vec![put("a", "1")]).await.unwrap();
    disk.set_free_bytes(RESERVE_BYTES - 1);
    for more in [vec![put("a", "22")], vec![put("b", "")]] {
        assert_eq!(storage.commit(more).await, Err(StoreError::Full));
    }
    assert_eq!(storage.get("a").as_deref(), Some("1"));
    // What makes room, or takes none, is carried out.
    storage.commit(vec![put("a", "3")]).await.unwrap();
    storage.commit(vec![remove("a")]).await.unwrap();
    disk.set_free_bytes(LAST_BYTES - 1);
    let refused = storage.commit(vec![remove("a")]).await;
    assert_eq!(refused, Err(StoreError::Full));
    disk.set_free_bytes(u64::MAX);
    storage.commit(vec![put("a", "4")]).await.unwrap();
    assert_eq!(storage.get("a").as_deref(), Some("4"));
}

#[tokio::test]
async fn a_disk_that_refuses_changes_nothing_and_is_read() {
    for why in [
        ErrorKind::StorageFull,
        ErrorKind::FileTooLarge,
        ErrorKind::Other,
    ] {
        // From the first operation of a commit, or from a later one.
        for after in 0..6 {
            let disk = disk();
            let mut storage = storage(&disk);
            let much = "1".repeat(50_000);
            storage
                .commit(vec![put("a", "1"), put("z", &much)])
                .await
                .unwrap();
            disk.refuse(after, MANY, why);
            let expected = match why {
                ErrorKind::Other => StoreError::Failed,
                _ => StoreError::Full,
            };
            for time in 0..3 {
                let refused = vec![put("a", "2"), put("b", &much), remove("z")];
                let refused = storage.commit(refused).await;
                // What the file had in part may be there after a loss of power.
                let perhaps = time == 0 && refused == Err(StoreError::Failed);
                assert!(perhaps || refused == Err(expected), "{why} {after}");
                assert_eq!(storage.get("a").as_deref(), Some("1"));
                assert_eq!(storage.get("b"), None);
                assert_eq!(storage.get("z"), Some(much.clone()));
            }
            disk.refuse(0, 0, why);
            storage.commit(vec![put("c", "3")]).await.unwrap();
            assert_eq!(storage.scan("a", "y", 100), "a=1 c=3 ");
            drop(storage);
            let mut storage = self::storage(&disk);
            assert_eq!(storage.scan("a", "y", 100), "a=1 c=3 ");
            assert_eq!(storage.get("z"), Some(much));
        }
    }
}

#[tokio::test]
async fn a_file_on_a_full_disk_is_opened_and_read() {
    let disk = disk();
    let mut storage = storage(&disk);
    storage.commit(vec![put("a", "1")]).await.unwrap();
    drop(storage);
    disk.refuse(0, MANY, ErrorKind::StorageFull);
    let mut storage = self::storage(&disk);
    assert_eq!(storage.get("a").as_deref(), Some("1"));
    let refused = storage.commit(vec![put("a", "2")]).await;
    assert_eq!(refused, Err(StoreError::Full));
    disk.refuse(0, 0, ErrorKind::StorageFull);
    storage.commit(vec![put("a", "3")]).await.unwrap();
    drop(storage);
    assert_eq!(self::storage(&disk).get("a").as_deref(), Some("3"));
}
