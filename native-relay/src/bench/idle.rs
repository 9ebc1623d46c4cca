//! What a ring costs that does nothing.

use std::time::{Duration, Instant};

use super::report::{Figure, Report};
use super::ring::Ring;
use super::{BenchError, IdleArgs, usage};

/// After the last link is up, what was begun ends within this time.
const CALM: Duration = Duration::from_secs(10);

pub(super) fn measure(args: &IdleArgs, report: &Report) -> Result<(), BenchError> {
    let lasting = Duration::from_secs(u64::from(args.seconds));
    report.say(&format!(
        "a ring of {} processes, looked at for {lasting:?}; per member",
        args.members
    ));
    let ring = Ring::start(args.members, None)?;
    std::thread::sleep(CALM);
    let count = ring.members().len() as f64;
    let (before, start) = (Sample::take(&ring)?, Instant::now());
    std::thread::sleep(lasting);
    let (after, seconds) = (Sample::take(&ring)?, start.elapsed().as_secs_f64());
    let each = |after: f64, before: f64| Figure::Number((after - before) / count / seconds);
    report.figure(
        "idle, at core's border",
        &[
            ("frames/s", each(after.frames, before.frames)),
            ("bytes/s", each(after.bytes, before.bytes)),
        ],
    );
    report.figure(
        "idle, on loopback",
        &[
            ("packets/s", each(after.packets, before.packets)),
            ("bytes/s", each(after.wire, before.wire)),
        ],
    );
    let cpu = (after.cpu - before.cpu) / count / seconds * 60.0 * 1e3;
    report.figure("idle, processor", &[("ms/min", Figure::Number(cpu))]);
    let mut resident = ring
        .members()
        .iter()
        .map(|one| usage::resident_kib(one.process()));
    let relay = resident.next().unwrap_or(0.0) / 1024.0;
    let nodes: Vec<f64> = resident.map(|kib| kib / 1024.0).collect();
    let most = nodes.iter().copied().fold(0.0, f64::max);
    let parts = [
        ("relay MiB", Figure::Number(relay)),
        ("node MiB at most", Figure::Number(most)),
    ];
    report.figure("resident memory", &parts);
    Ok(())
}

/// Sums of all members.
#[derive(Default)]
struct Sample {
    frames: f64,
    bytes: f64,
    wire: f64,
    packets: f64,
    cpu: f64,
}

impl Sample {
    fn take(ring: &Ring) -> Result<Self, BenchError> {
        let mut sample = Self::default();
        for member in ring.members() {
            let status = member.status()?;
            let counter = |name: &str| status["counters"][name].as_f64().unwrap_or(0.0);
            sample.frames += counter("frames_out");
            sample.bytes += counter("frame_bytes_out");
            sample.cpu += usage::cpu(member.process()).as_secs_f64();
        }
        let (wire, packets) = usage::loopback();
        (sample.wire, sample.packets) = (wire as f64, packets as f64);
        Ok(sample)
    }
}
