//! What a synced commit costs: `cargo bench -p roundelay --bench store [DIR]`.
//!
//! Beside storage itself stand the floor (one small write and one sync of a
//! plain file) and redb alone, with and without its sync.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use redb::{Database, Durability, TableDefinition};
use roundelay::store::{DataDir, Storage};
use roundelay_core::NodeId;
use roundelay_core::store::{Read, StoreOp, Stored, Write};

const SECONDS: u64 = 3;
/// Records of the file that is opened.
const LARGE: usize = 1_000_000;
const VALUE: [u8; 100] = [7; 100];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let dir = dir.map_or_else(tempfile::tempdir, tempfile::tempdir_in);
    let dir = dir.expect("a directory to write to");
    println!("{SECONDS} s each, values of {} bytes", VALUE.len());
    floor(dir.path());
    for (name, durability) in [
        ("redb alone, no sync (not durable)", Durability::None),
        ("redb alone, Immediate", Durability::Immediate),
    ] {
        redb_alone(dir.path(), name, durability);
    }
    let mut storage = open(&dir.path().join("storage"));
    for in_flight in [1, 64, 256] {
        commits(&mut storage, in_flight).await;
    }
    reads(&mut storage);
    drop(storage);
    opening(&dir.path().join("large")).await;
}

/// What a start costs: storage looks through its file, then core reads all.
async fn opening(dir: &Path) {
    let mut storage = open(dir);
    for first in (0..LARGE).step_by(10_000) {
        let writes = (first..first + 10_000).map(|number| Write {
            key: format!("bucket/key-{number:08}").into_bytes(),
            value: Some(VALUE.to_vec()),
        });
        storage.submit(0, StoreOp::Commit(writes.collect()));
        assert!(storage.completed().await.result.is_ok());
    }
    drop(storage);
    let file = std::fs::metadata(dir.join("roundelay.redb")).expect("the file");
    println!("{LARGE} records, {} MB", file.len() / 1_000_000);
    let began = Instant::now();
    let mut storage = open(dir);
    println!("opening, with the look    {:>8.1?}", began.elapsed());
    let began = Instant::now();
    let (mut from, to, limit) = (Vec::new(), vec![0xff], 1 << 20);
    loop {
        let read = Read::Scan {
            from: from.clone(),
            to: to.clone(),
            limit,
        };
        let Some(Ok(Stored::Entries(entries))) = storage.submit(0, StoreOp::Read(read)) else {
            panic!("it cannot be read");
        };
        let Some((last, _)) = entries.last() else {
            break;
        };
        from = [last, &[0][..]].concat();
    }
    println!("reading all               {:>8.1?}", began.elapsed());
}

fn open(dir: &Path) -> Storage {
    let dir = DataDir::open(dir).expect("a directory");
    Storage::open(dir, &NodeId::from_bytes([7; 32]), 0).expect("storage")
}

fn floor(dir: &Path) {
    let mut file = File::create(dir.join("floor")).expect("a file");
    file.write_all(&vec![0; 1 << 20]).expect("a write");
    measure("write + fdatasync of a plain file", || {
        file.write_all(&VALUE).expect("a write");
        file.sync_data().expect("a sync");
    });
}

fn redb_alone(dir: &Path, name: &str, durability: Durability) {
    let table: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("t");
    let path = dir.join("alone.redb");
    let database = Database::create(&path).expect("a database");
    let mut key = 0;
    measure(name, || {
        let mut transaction = database.begin_write().expect("a transaction");
        transaction.set_durability(durability).expect("durability");
        let mut records = transaction.open_table(table).expect("a table");
        records.insert(key, &VALUE[..]).expect("an insert");
        drop(records);
        transaction.commit().expect("a commit");
        key = (key + 7919) % 100_000;
    });
    drop(database);
    std::fs::remove_file(path).expect("the file");
}

async fn commits(storage: &mut Storage, in_flight: usize) {
    let mut began = vec![Instant::now(); in_flight];
    let mut taken = Vec::new();
    let end = Instant::now() + Duration::from_secs(SECONDS);
    for (token, began) in began.iter_mut().enumerate() {
        *began = Instant::now();
        submit(storage, token, taken.len());
    }
    let mut due = in_flight;
    while due > 0 {
        let token = storage.completed().await.token as usize;
        taken.push(began[token].elapsed());
        if Instant::now() < end {
            began[token] = Instant::now();
            submit(storage, token, taken.len());
        } else {
            due -= 1;
        }
    }
    report(&format!("storage, {in_flight} in flight"), taken);
}

fn submit(storage: &mut Storage, token: usize, number: usize) {
    let write = Write {
        key: key(number),
        value: Some(VALUE.to_vec()),
    };
    storage.submit(token as u64, StoreOp::Commit(vec![write]));
}

fn reads(storage: &mut Storage) {
    let mut number = 0;
    measure("storage, reads", || {
        let key = key(number);
        std::hint::black_box(storage.submit(0, StoreOp::Read(Read::Get { key })));
        number += 1;
    });
}

/// Keys in no order, 100,000 of them.
fn key(number: usize) -> Vec<u8> {
    format!("bucket/key-{:06}", number * 7919 % 100_000).into_bytes()
}

fn measure(name: &str, mut step: impl FnMut()) {
    let mut taken = Vec::new();
    let end = Instant::now() + Duration::from_secs(SECONDS);
    while Instant::now() < end {
        let began = Instant::now();
        step();
        taken.push(began.elapsed());
    }
    report(name, taken);
}

fn report(name: &str, mut taken: Vec<Duration>) {
    taken.sort_unstable();
    let micros = |per_mille: usize| taken[(taken.len() - 1) * per_mille / 1000].as_secs_f64() * 1e6;
    println!(
        "{name:36} {:>9.0}/s   p50 {:>8.1} us   p99 {:>8.1} us",
        taken.len() as f64 / SECONDS as f64,
        micros(500),
        micros(990),
    );
}
