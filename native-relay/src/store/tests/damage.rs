//! Of a file that is damaged either everything is right, or it is refused and
//! left as it is.

use std::path::Path;

use fastrand::Rng;
use redb::{Database, ReadableDatabase};
use roundelay_core::NodeId;
use roundelay_core::store::{Read, StoreError, StoreOp};

use super::super::disk::RECORDS;
use super::super::medium::MARK_NAME;
use super::super::open::Opened;
use super::super::{DataDir, FILE_NAME, OpenError, Storage};
use super::crash::{NO_CUT, Run, records, seeds};
use super::power::{Image, PowerDisk};
use super::{OWNER, open, put};

/// Files that are damaged, and how often each.
const FILES: u64 = 24;
const TRIALS: usize = 10;

/// Changes some bytes, or cuts off the end.
fn damage(image: &mut Image, rng: &mut Rng) {
    let len = image.file.len();
    let at = rng.usize(0..len);
    match rng.u8(0..8) {
        0 => image.file.truncate(at),
        1 => image.file[at..]
            .iter_mut()
            .take(4096)
            .for_each(|byte| *byte = 0),
        // Where the last commits are named.
        2 => image.file[rng.usize(0..320)] ^= rng.u8(1..),
        3 => {
            let at = rng.usize(0..image.mark.len());
            image.mark[at] ^= rng.u8(1..);
        }
        4 => image.file[at..]
            .iter_mut()
            .take(64)
            .for_each(|byte| *byte ^= 0xa5),
        _ => image.file[at] ^= rng.u8(1..),
    }
}

/// Opens an image; tells whether it is refused, or else whether anything in it
/// is wrong.
fn try_open(image: Image, run: &Run) -> Result<bool, String> {
    let disk = PowerDisk::new(image.clone(), NO_CUT);
    match Opened::open(Box::new(disk.clone()), Path::new("dir"), &OWNER, 1) {
        Ok(opened) => {
            run.check(&records(&opened.snapshot)?)?;
            Ok(false)
        }
        Err(OpenError::Damaged { .. } | OpenError::Lost { .. }) => {
            assert!(disk.image() == image, "it was written to");
            Ok(true)
        }
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn damage_anywhere_is_noticed_or_does_no_harm() {
    let mut refused = 0;
    for seed in seeds(FILES) {
        let mut run = Run::new(seed, PowerDisk::new);
        // Closed well, or not at all.
        run.is_killed = seed % 2 == 0;
        run.live(NO_CUT, 12).unwrap();
        let mut rng = Rng::with_seed(seed);
        for trial in 0..TRIALS {
            let mut image = run.image.clone();
            damage(&mut image, &mut rng);
            match try_open(image, &run) {
                Ok(was_refused) => refused += usize::from(was_refused),
                Err(error) => panic!("seed {seed}, trial {trial}: {error}"),
            }
        }
    }
    let all = seeds(FILES).count() * TRIALS;
    assert!(refused > all / 5 && refused < all, "{refused} of {all}");
}

/// Or else the mark would be of no use.
#[test]
fn without_its_mark_a_file_may_lose_its_last_commits() {
    let loses = |seed| {
        let mut run = Run::new(seed, PowerDisk::new);
        run.is_killed = true;
        run.live(NO_CUT, 5).unwrap();
        let mut rng = Rng::with_seed(seed);
        (0..20).any(|_| {
            let mut image = run.image.clone();
            image.file[rng.usize(64..320)] ^= 1;
            let refused = try_open(image.clone(), &run);
            assert!(refused.is_ok(), "seed {seed}: {refused:?}");
            image.mark.clear();
            try_open(image, &run).is_err()
        })
    };
    assert!((0..5).any(loses));
}

#[tokio::test]
async fn an_older_copy_is_refused_while_its_mark_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (file, copy) = (dir.path().join(FILE_NAME), dir.path().join("copy"));
    let mut storage = open(dir.path(), 1).unwrap();
    storage.commit(vec![put("a", "1")]).await.unwrap();
    drop(storage);
    std::fs::copy(&file, &copy).unwrap();
    let mut storage = open(dir.path(), 1).unwrap();
    storage.commit(vec![put("a", "2")]).await.unwrap();
    drop(storage);
    std::fs::rename(&copy, &file).unwrap();
    let error = open(dir.path(), 1).unwrap_err();
    assert!(matches!(error, OpenError::Lost { .. }), "{error}");
    assert!(error.to_string().contains(MARK_NAME), "{error}");
    std::fs::remove_file(dir.path().join(MARK_NAME)).unwrap();
    assert_eq!(open(dir.path(), 1).unwrap().get("a").as_deref(), Some("1"));

    // The mark of another file says nothing.
    let mut storage = open(dir.path(), 1).unwrap();
    storage.commit(vec![put("a", "3")]).await.unwrap();
    drop(storage);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(open(dir.path(), 1).unwrap().get("a"), None);
}

#[test]
fn what_is_no_file_of_this_node_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE_NAME);
    for bytes in [
        &b"no database at all"[..],
        &[0x5a; 100_000],
        &[0; 5000],
        b"",
    ] {
        std::fs::write(&file, bytes).unwrap();
        let error = open(dir.path(), 1).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
        std::fs::remove_file(&file).unwrap();
    }
    // Another program's database.
    drop(Database::create(&file).unwrap());
    let error = open(dir.path(), 1).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    std::fs::remove_file(&file).unwrap();

    drop(open(dir.path(), 1).unwrap());
    let stranger = NodeId::from_bytes([8; 32]);
    let error = Storage::open(DataDir::open(dir.path()).unwrap(), &stranger, 1).unwrap_err();
    assert!(
        matches!(error, OpenError::Foreign { owner: OWNER, .. }),
        "{error}"
    );
}

/// As if it had rotted since the file was opened.
#[tokio::test]
async fn a_record_that_is_not_what_was_written_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = open(dir.path(), 1).unwrap();
    let writes = vec![put("a", "good"), put("b", "bad!"), put("c", "good")];
    storage.commit(writes).await.unwrap();
    drop(storage);
    let database = Database::open(dir.path().join(FILE_NAME)).unwrap();
    let read = database.begin_read().unwrap();
    let table = read.open_table(RECORDS).unwrap();
    let mut sealed = table.get(&b"b"[..]).unwrap().unwrap().value().to_vec();
    drop(table);
    drop(read);
    sealed[0] ^= 1;
    let write = database.begin_write().unwrap();
    let mut table = write.open_table(RECORDS).unwrap();
    table.insert(&b"b"[..], sealed.as_slice()).unwrap();
    drop(table);
    write.commit().unwrap();
    drop(database);

    let mut storage = open(dir.path(), 1).unwrap();
    assert_eq!(storage.get("a").as_deref(), Some("good"));
    let (from, to, limit) = (b"a".to_vec(), b"z".to_vec(), 100);
    for read in [
        Read::Get { key: b"b".to_vec() },
        Read::Scan { from, to, limit },
    ] {
        let answer = storage.submit(0, StoreOp::Read(read));
        assert_eq!(answer, Some(Err(StoreError::Failed)));
    }
    // It can be written over.
    storage.commit(vec![put("b", "anew")]).await.unwrap();
    assert_eq!(storage.scan("a", "z", 100), "a=good b=anew c=good ");
}
