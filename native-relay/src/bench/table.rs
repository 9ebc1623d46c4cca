//! One table of all that a store does: each operation in each mode, of short and
//! longer values, alone and many at once, in memory and synced, beside others'
//! figures.

mod peers;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use self::peers::peer;
use super::kv::{self, Row};
use super::load::Call;
use super::report::{Figure, Report, percentile};
use super::ring::Ring;
use super::{BenchError, KvArgs, ReportArgs, TableArgs};

/// Requests under way at once.
const IN_FLIGHT: [u16; 2] = [1, 64];
/// How often a block is synced, to tell what that takes.
const SYNCS: usize = 200;
const SYNC_BYTES: usize = 4096;

pub(super) fn measure(args: &TableArgs, report: &Report) -> Result<(), BenchError> {
    report.say(
        "a relay and two nodes, each a process, called by HTTP at one node; times are medians",
    );
    std::fs::create_dir_all(&args.disk)?;
    let sync = sync_time(&args.disk)?;
    let parts = [("p50", Figure::Time(sync))];
    report.figure("fdatasync of 4 KiB", &parts);
    for disk in [None, Some(&*args.disk)] {
        let medium = if disk.is_some() { "synced" } else { "memory" };
        report.say(&format!("\n| {medium} | p50 of 1 | floors | peer, p50 | faster | 64 at once | peer | faster | errors |\n|---|---|---|---|---|---|---|---|---|"));
        let ring = Ring::start(3, disk)?;
        for size in args.size.iter().copied() {
            for mode in &args.mode {
                let rows = rows(args, report, &ring, size, mode)?;
                let of = |call, in_flight| {
                    let mut rows = rows.iter();
                    rows.find(|row| (row.call, row.in_flight) == (call, in_flight))
                };
                let floor = of(Call::Floor, 1).map(|row| row.p50);
                for call in [Call::Put, Call::Get, Call::Swap] {
                    if let (Some(one), Some(many)) = (of(call, 1), of(call, 64)) {
                        let line = Line {
                            medium,
                            size,
                            mode,
                            one,
                            many,
                            floor,
                        };
                        line.tell(report);
                    }
                }
            }
        }
    }
    Ok(())
}

/// All phases of one mode and size.
fn rows(
    args: &TableArgs,
    report: &Report,
    ring: &Ring,
    size: u32,
    mode: &str,
) -> Result<Vec<Row>, BenchError> {
    let kv_args = KvArgs {
        nodes: Vec::new(),
        token_file: None,
        in_process: false,
        disk: None,
        in_flight: IN_FLIGHT.to_vec(),
        mix: None,
        size,
        keys: args.keys,
        seconds: args.seconds,
        rounds: args.rounds,
        mode: mode.to_owned(),
        csv: None,
        report: ReportArgs { json: None },
    };
    // Each has keys of its own: `linearizable` writes mark theirs.
    kv::rows(&kv_args, report, ring, &format!("{mode}-{size}"))
}

/// One operation in one mode on one medium.
struct Line<'a> {
    medium: &'a str,
    size: u32,
    mode: &'a str,
    one: &'a Row,
    many: &'a Row,
    /// How long an answer takes that asks nothing of a ring.
    floor: Option<Duration>,
}

impl Line<'_> {
    fn tell(&self, report: &Report) {
        let word = match self.one.call {
            Call::Put => "put",
            Call::Get => "get",
            Call::Swap => "cas",
            Call::Floor => "GET /healthz",
        };
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let floors = self.floor.map(|floor| micros(self.one.p50) / micros(floor));
        let peer = peer(word, self.mode, self.size, self.medium);
        let faster = peer.map(|peer| peer.micros / micros(self.one.p50));
        let more = peer.map(|peer| self.many.rate / peer.rate);
        let number = |ratio: Option<f64>| ratio.map_or(Figure::Nothing, Figure::Number);
        let size = f64::from(self.size);
        let facts = [
            ("operation", Figure::Text(word.to_owned())),
            ("mode", Figure::Text(self.mode.to_owned())),
            ("medium", Figure::Text(self.medium.to_owned())),
            ("size", Figure::Number(size)),
            ("p50", Figure::Time(self.one.p50)),
            ("floors", number(floors)),
            ("faster", number(faster)),
            ("rate_64", Figure::Rate(self.many.rate)),
            ("faster_64", number(more)),
            (
                "errors",
                Figure::Number((self.one.failed + self.many.failed) as f64),
            ),
        ];
        let text = |words: Option<String>| words.unwrap_or_default();
        let times = |ratio: Option<f64>| text(ratio.map(|ratio| format!("{ratio:.1}")));
        let cells = [
            format!("{word}, `{}`, {} B", self.mode, self.size),
            format!("{:.3} ms", micros(self.one.p50) / 1e3),
            times(floors),
            text(peer.map(|peer| format!("{} {:.3} ms", peer.name, peer.micros / 1e3))),
            times(faster),
            format!("{:.0}/s", self.many.rate),
            text(peer.map(|peer| format!("{:.0}/s", peer.rate))),
            times(more),
            (self.one.failed + self.many.failed).to_string(),
        ];
        report.row(&format!("| {} |", cells.join(" | ")), &cells[0], &facts);
    }
}

/// The median of how long a block takes to be durable, written over an old one.
fn sync_time(dir: &Path) -> io::Result<Duration> {
    let path = dir.join("sync");
    let mut file = File::create(&path)?;
    file.write_all(&[0; 16 * SYNC_BYTES])?;
    file.sync_all()?;
    let mut times = Vec::new();
    for number in 0..SYNCS {
        let block = [number as u8; SYNC_BYTES];
        let begun = Instant::now();
        file.write_all_at(&block, ((number % 16) * SYNC_BYTES) as u64)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(percentile(&mut times, 0.5).unwrap_or_default())
}
