//! `roundelay bench`: figures of links and rings, taken on this machine.
//!
//! Each command makes what it measures, of this very binary, and ends it
//! afterwards; only `kv --node` measures a ring that is there. Client and
//! members share the processors, as they do in the figures of others that
//! BENCHMARKS.md names.

mod idle;
mod join;
mod kv;
mod link;
mod load;
mod local;
mod report;
mod ring;
mod stream;
mod table;
mod usage;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use self::report::Report;
use crate::cli::Exit;
use crate::config::ConfigError;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Direct links of this process: set-up, round trip, goodput, memory.
    Link(ReportArgs),
    /// Puts and gets, in a closed loop: by HTTP on a ring of a relay and two
    /// nodes of their own processes, which is started for it.
    Kv(KvArgs),
    /// Puts, gets and swaps in all modes, by size, alone and 64 at once, in memory and synced, beside
    /// the figures of others: a table in Markdown.
    Table(TableArgs),
    /// Streams between two nodes of this process, beside the bare link: goodput, round
    /// trip, opening, and a forwarded port.
    Stream(ReportArgs),
    /// From the start of a node's task to its first get of a key that is there.
    Join(JoinArgs),
    /// What a ring costs that does nothing: messages, bytes, processor, memory.
    Idle(IdleArgs),
}

/// How figures are told.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// Write one JSON object for each figure to a file; without one, to
    /// stdout. Times are in microseconds.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<String>,
}

/// The flags of `roundelay bench kv`.
#[derive(Debug, Args)]
pub struct KvArgs {
    /// Measure running nodes by their HTTP APIs instead; repeatable.
    #[arg(long = "node", value_name = "URL", conflicts_with_all = ["in_process", "disk"])]
    nodes: Vec<String>,
    /// The file with the bearer token of those nodes, where they want one.
    #[arg(long, env = "ROUNDELAY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Run the members in this process and call them without HTTP.
    #[arg(long)]
    in_process: bool,
    /// Keep the members' records below this directory, synced; in memory when
    /// absent.
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    /// How many requests are under way at once; a list.
    #[arg(long, value_name = "COUNT", default_value = "1,64", value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    in_flight: Vec<u16>,
    /// Mix puts and gets, with so many gets of a hundred calls; without this
    /// each is measured alone.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    mix: Option<u8>,
    /// Bytes of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    size: u32,
    /// How many keys there are.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// How long each phase lasts.
    #[arg(long, value_name = "SECONDS", default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// How often all phases are gone through; the medians are told.
    #[arg(long, value_name = "COUNT", default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// What the calls promise.
    #[arg(long, value_parser = ["one", "quorum", "linearizable"], default_value = "quorum")]
    mode: String,
    /// Write one row for each figure to a file, or to stdout where it is `-`.
    #[arg(long, value_name = "FILE")]
    csv: Option<String>,
    #[command(flatten)]
    report: ReportArgs,
}

/// The flags of `roundelay bench table`.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// Keep the members' records below this directory for the synced half.
    #[arg(long, value_name = "DIR")]
    disk: PathBuf,
    /// Bytes of a value; a list.
    #[arg(long, value_name = "BYTES", default_value = "100,16384", value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    size: Vec<u32>,
    /// What the calls promise; a list.
    #[arg(long, value_parser = ["one", "quorum", "linearizable"], value_delimiter = ',',
        default_value = "one,quorum,linearizable")]
    mode: Vec<String>,
    /// How many keys there are of each size and mode.
    #[arg(long, value_name = "COUNT", default_value_t = 2000,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    keys: u32,
    /// How long each phase lasts.
    #[arg(long, value_name = "SECONDS", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// How often all phases are gone through; the medians are told.
    #[arg(long, value_name = "COUNT", default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    #[command(flatten)]
    report: ReportArgs,
}

/// The flags of `roundelay bench join`.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Members of the ring that is joined, its relay among them.
    #[arg(long, value_name = "COUNT", default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    members: u16,
    /// How many nodes join it, one after the other.
    #[arg(long, value_name = "COUNT", default_value_t = 20,
        value_parser = clap::value_parser!(u16).range(1..=200))]
    joins: u16,
    #[command(flatten)]
    report: ReportArgs,
}

/// The flags of `roundelay bench idle`.
#[derive(Debug, Args)]
pub struct IdleArgs {
    /// Members of the ring, its relay among them, each a process; a list makes
    /// one ring after the other.
    #[arg(long, value_name = "COUNT", default_value = "2,10,50", value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(1..=64))]
    members: Vec<u16>,
    /// How long to look on.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// How long a ring is left alone before.
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u16).range(0..=3600))]
    settle: u16,
    #[command(flatten)]
    report: ReportArgs,
}

/// Why there are no figures. The words say what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A process, file or socket cannot be had.
    #[error("cannot measure: {0}")]
    System(#[from] std::io::Error),
    /// A member cannot start.
    #[error(transparent)]
    Start(#[from] crate::error::RunError),
    /// Something did not come about in time.
    #[error("waited {0:?} in vain for {1}; is the machine overloaded?")]
    Waited(Duration, &'static str),
    /// A member does not answer as it should.
    #[error("{0}")]
    Answer(String),
    /// The flags make no sense together.
    #[error("{0}")]
    Usage(&'static str),
    /// A file that a flag names cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Measures, and tells what was found.
#[must_use]
pub fn run(command: BenchCommand) -> Exit {
    match measure(&command) {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("roundelay: {error}");
            match error {
                BenchError::Usage(_) | BenchError::Config(_) => Exit::Usage,
                _ => Exit::Failed,
            }
        }
    }
}

fn measure(command: &BenchCommand) -> Result<(), BenchError> {
    let (args, csv) = match command {
        BenchCommand::Link(args) | BenchCommand::Stream(args) => (args, None),
        BenchCommand::Kv(args) => (&args.report, args.csv.as_deref()),
        BenchCommand::Table(args) => (&args.report, None),
        BenchCommand::Join(args) => (&args.report, None),
        BenchCommand::Idle(args) => (&args.report, None),
    };
    let report = Report::open(args.json.as_deref(), csv)?;
    let measured = match command {
        BenchCommand::Link(_) => link::measure(&report),
        BenchCommand::Stream(_) => stream::measure(&report),
        BenchCommand::Kv(args) => kv::measure(args, &report),
        BenchCommand::Table(args) => table::measure(args, &report),
        BenchCommand::Join(args) => join::measure(args, &report),
        BenchCommand::Idle(args) => idle::measure(args, &report),
    };
    // What was measured before something failed is told all the same.
    let written = report.finish();
    measured.and(written)
}

/// One thread: what is measured has the other processors.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build()
}
