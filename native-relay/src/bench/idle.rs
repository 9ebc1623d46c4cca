//! What a ring costs that does nothing.

use std::time::{Duration, Instant};

use super::report::{Figure, Report};
use super::ring::Ring;
use super::{BenchError, IdleArgs, usage};

pub(super) fn measure(args: &IdleArgs, report: &Report) -> Result<(), BenchError> {
    for members in &args.members {
        measure_ring(*members, args, report)?;
    }
    Ok(())
}

fn measure_ring(members: u16, args: &IdleArgs, report: &Report) -> Result<(), BenchError> {
    let seconds = |count: u16| Duration::from_secs(count.into());
    let (settle, lasting) = (seconds(args.settle), seconds(args.seconds));
    report.say(&format!(
        "a ring of {members} processes, looked at for {lasting:?} once it was left alone for \
         {settle:?}; per member"
    ));
    let ring = Ring::start(members, None)?;
    std::thread::sleep(settle);
    let (before, start) = (Sample::take(&ring)?, Instant::now());
    std::thread::sleep(lasting);
    let (after, elapsed) = (Sample::take(&ring)?, start.elapsed().as_secs_f64());
    let a_second =
        |of: fn(&Sample) -> f64| (of(&after) - of(&before)) / f64::from(members) / elapsed;
    let figure = |name: &str, parts: [(&str, f64); 2]| {
        let parts = parts.map(|(name, number)| (name, Figure::Number(number)));
        report.figure(&format!("idle, {members}, {name}"), &parts);
    };
    figure(
        "at core's border",
        [
            ("frames/s", a_second(|sample| sample.frames)),
            ("bytes/s", a_second(|sample| sample.bytes)),
        ],
    );
    figure(
        "direct links, UDP",
        [
            ("datagrams/s", a_second(|sample| sample.datagrams)),
            ("bytes/s", a_second(|sample| sample.datagram_bytes)),
        ],
    );
    figure(
        "all, on loopback",
        [
            ("packets/s", a_second(|sample| sample.packets)),
            ("bytes/s", a_second(|sample| sample.wire)),
        ],
    );
    let used = after.cpu.iter().zip(&before.cpu);
    let used = used.map(|(after, before)| (after - before) / elapsed * 60.0 * 1e3);
    let used: Vec<f64> = used.collect();
    let most = used.iter().copied().fold(0.0, f64::max);
    let mean = used.iter().sum::<f64>() / f64::from(members);
    figure("processor", [("ms/min", mean), ("at most", most)]);
    let mut resident = ring
        .members()
        .iter()
        .map(|one| usage::resident_kib(one.process()) / 1024.0);
    let relay = resident.next().unwrap_or(0.0);
    let most = resident.fold(0.0, f64::max);
    let parts = [("relay MiB", relay), ("node MiB at most", most)];
    figure("resident memory", parts);
    Ok(())
}

/// Sums of all members, but for the processor.
#[derive(Default)]
struct Sample {
    frames: f64,
    bytes: f64,
    datagrams: f64,
    datagram_bytes: f64,
    wire: f64,
    packets: f64,
    /// Seconds of each.
    cpu: Vec<f64>,
}

impl Sample {
    fn take(ring: &Ring) -> Result<Self, BenchError> {
        let mut sample = Self::default();
        for member in ring.members() {
            let status = member.status()?;
            let counter = |name: &str| status["counters"][name].as_f64().unwrap_or(0.0);
            sample.frames += counter("frames_out");
            sample.bytes += counter("frame_bytes_out");
            sample.datagrams += counter("datagrams_out");
            sample.datagram_bytes += counter("datagram_bytes_out");
            let used = usage::cpu_at_rest(member.process());
            sample.cpu.push(used.as_secs_f64());
        }
        let (wire, packets) = usage::loopback();
        (sample.wire, sample.packets) = (wire as f64, packets as f64);
        Ok(sample)
    }
}
