//! How soon a node that joins can read.

use std::time::{Duration, Instant};

use roundelay_core::kvs::{Key, Mode, Reply};

use super::local::Local;
use super::report::{Figure, Report, percentile};
use super::ring::Ring;
use super::{BenchError, JoinArgs};

/// One get takes at most this long, then there is an error.
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn measure(args: &JoinArgs, report: &Report) -> Result<(), BenchError> {
    report.say(&format!(
        "{} nodes join a ring of {} processes, one after the other, and get a key",
        args.joins, args.members
    ));
    let ring = Ring::start(args.members, None)?;
    let runtime = super::runtime()?;
    let key = Key::new("bench").map_err(|error| BenchError::Answer(error.to_string()))?;
    let (_writer, handle) = Local::node(ring.relay(), None)?;
    runtime.block_on(async {
        let put = handle.put(key.clone(), b"there".to_vec(), Mode::Quorum);
        match put.await {
            Ok(Reply::Written { .. }) => Ok(()),
            other => Err(BenchError::Answer(format!("put: {other:?}"))),
        }
    })?;
    let mut times = Vec::new();
    for _ in 0..args.joins {
        let start = Instant::now();
        let (_joined, handle) = Local::node(ring.relay(), None)?;
        let got = runtime.block_on(async {
            let get = handle.get(key.clone(), Mode::Quorum);
            tokio::time::timeout(DEADLINE, get).await
        });
        match got {
            Ok(Ok(Reply::Found { .. })) => times.push(start.elapsed()),
            other => return Err(BenchError::Answer(format!("the first get: {other:?}"))),
        }
    }
    let mut part = |part| Figure::Time(percentile(&mut times, part).unwrap_or_default());
    let parts = [("p50", part(0.5)), ("p99", part(0.99)), ("max", part(1.0))];
    report.figure("join to first get", &parts);
    Ok(())
}
