//! What core's functions cost: `cargo bench -p roundelay-core`.
//!
//! `ring` is three nodes and a hub in one thread, with links that take no
//! time: what is left is core's own work, sealing included, since every link
//! there is a relayed one.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "functions/ring.rs"]
mod ring;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use roundelay_core::kvs::{Key, Mode, Reply};
use roundelay_core::{Identity, Network};

use ring::Ring;

fn identity(criterion: &mut Criterion) {
    let network = Network::new("default", b"").unwrap();
    let mut ring = Ring::new(1);
    ring.settle();
    let record = ring.node(0).record().clone();
    criterion.bench_function("identity/from_seed", |bencher| {
        bencher.iter(|| Identity::from_seed(black_box(&[7; 32])));
    });
    criterion.bench_function("identity/verify_record", |bencher| {
        bencher.iter(|| record.verify(black_box(&network)).unwrap());
    });
    criterion.bench_function("kvs/slot_of_key", |bencher| {
        bencher.iter(|| Key::new(black_box("bucket/name")).unwrap().slot());
    });
}

fn keys(criterion: &mut Criterion) {
    for members in [1, 3] {
        let mut ring = Ring::new(members);
        ring.settle();
        let mut number = 0_u32;
        let mut next = || {
            number = (number + 1) % 1000;
            Key::new(format!("key-{number}")).unwrap()
        };
        for _ in 0..1000 {
            written(&mut ring, next());
        }
        criterion.bench_function(&format!("ring/put_of_{members}"), |bencher| {
            bencher.iter(|| written(&mut ring, next()));
        });
        criterion.bench_function(&format!("ring/get_of_{members}"), |bencher| {
            bencher.iter(|| match ring.get(next(), Mode::Quorum) {
                Reply::Found { value, .. } => value,
                other => panic!("{other:?}"),
            });
        });
        criterion.bench_function(&format!("ring/get_one_of_{members}"), |bencher| {
            bencher.iter(|| match ring.get(next(), Mode::One) {
                Reply::Found { value, .. } => value,
                other => panic!("{other:?}"),
            });
        });
    }
}

fn written(ring: &mut Ring, key: Key) {
    match ring.put(key, vec![7; 100], Mode::Quorum) {
        Reply::Written { .. } => {}
        other => panic!("{other:?}"),
    }
}

criterion_group!(functions, identity, keys);
criterion_main!(functions);
