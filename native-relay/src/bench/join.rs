//! How soon a node that joins can read.

use std::time::{Duration, Instant};

use roundelay_core::kvs::{Key, Mode, Reply};

use super::local::Local;
use super::report::{Figure, Report, percentile};
use super::ring::Ring;
use super::{BenchError, JoinArgs};

/// Whoever cannot read by then never will.
const DEADLINE: Duration = Duration::from_secs(10);

/// Between two tries.
const PAUSE: Duration = Duration::from_micros(200);

pub(super) fn measure(args: &JoinArgs, report: &Report) -> Result<(), BenchError> {
    report.say(&format!(
        "{} nodes join a ring of {} processes, one after the other, and get a key",
        args.joins, args.members
    ));
    let ring = Ring::start(args.members, None)?;
    let runtime = super::runtime()?;
    let key = Key::new("bench").map_err(|error| BenchError::Answer(error.to_string()))?;
    let (_writer, handle) = Local::node(ring.relay(), None)?;
    runtime.block_on(until("a first put", async || {
        let put = handle.put(key.clone(), b"there".to_vec(), Mode::Quorum);
        matches!(put.await, Ok(Reply::Written { .. }))
    }))?;
    let mut times = Vec::new();
    for _ in 0..args.joins {
        let start = Instant::now();
        let (_joined, handle) = Local::node(ring.relay(), None)?;
        runtime.block_on(until("a first get", async || {
            let get = handle.get(key.clone(), Mode::Quorum);
            matches!(get.await, Ok(Reply::Found { .. }))
        }))?;
        times.push(start.elapsed());
    }
    let mut part = |part| Figure::Time(percentile(&mut times, part).unwrap_or_default());
    let parts = [("p50", part(0.5)), ("p99", part(0.99)), ("max", part(1.0))];
    report.figure("join to first get", &parts);
    Ok(())
}

/// Tries until it succeeds: a node that has not joined refuses at once.
async fn until(
    what: &'static str,
    mut succeeds: impl AsyncFnMut() -> bool,
) -> Result<(), BenchError> {
    let start = Instant::now();
    while !succeeds().await {
        if start.elapsed() > DEADLINE {
            return Err(BenchError::Waited(DEADLINE, what));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
