//! The `roundelay` command line: what it takes, and what it exits with.
//!
//! Flags go before the environment (`ROUNDELAY_*`), and that before the TOML
//! file named by `--config`.

mod client;
mod commands;
mod config_file;
mod import;
mod list;
mod picture;
mod serving;
mod streaming;
mod table;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use roundelay_core::kvs::{Key, KeyError, Ttl, TtlError, Version};
use roundelay_core::{NodeId, ParseIdError};

pub use self::commands::run;
pub use self::import::{ExportArgs, ImportArgs};
pub use self::list::ListArgs;
pub use self::serving::{NodeArgs, RelayArgs};
pub use self::streaming::{ExposeArgs, ForwardArgs, SocksArgs};
pub use self::watch::WatchArgs;
use crate::bench::BenchCommand;

/// How the process exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is done.
    Done = 0,
    /// It failed; nothing was written.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// There is no such key.
    NotFound = 3,
    /// A condition of the write failed.
    ConditionFailed = 4,
    /// A write may or may not have been applied.
    OutcomeUnknown = 5,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A key-value store sung by a ring of peers: web pages, servers and laptops.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 condition failed,
/// 5 outcome unknown.
#[derive(Debug, Parser)]
#[command(name = "roundelay", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to log: error, warn, info, debug, trace, or a filter by module.
    /// RUST_LOG is taken where this is not given.
    #[arg(long, env = "ROUNDELAY_LOG", global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve pages and nodes: introduce them to one another, carry their
    /// traffic until they meet directly, and be a durable member.
    Relay(RelayArgs),
    /// Be a headless durable member with a local HTTP API.
    Node(NodeArgs),
    /// Let other members reach services of this machine, by a node for that.
    Expose(ExposeArgs),
    /// Lead ports of this machine to services of other members, by a node for that.
    Forward(ForwardArgs),
    /// Be a SOCKS5 proxy to services of other members, by a node for that.
    Socks(SocksArgs),
    /// Measure links and rings on this machine.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Use a running node.
    #[command(flatten)]
    Client(ClientCommand),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What to ask of a running node.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Write a key, or delete it, if it has this version, or no value; print
    /// the new version. Ends with 4 if not.
    Cas(Cas),
    /// Write a key; print its version and copies.
    Put {
        /// bucket/name, or a name alone.
        #[arg(value_parser = key)]
        key: Key,
        /// The value; read from stdin when absent. At most 1 MiB.
        value: Option<OsString>,
        /// What the call promises.
        #[command(flatten)]
        promise: Promise,
        /// For how many seconds the key keeps the value, at most ten years; for ever
        /// when absent.
        #[arg(long, value_name = "SECONDS", value_parser = ttl)]
        ttl: Option<Ttl>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Which node to ask.
        #[command(flatten)]
        node: NodeFlags,
    },
    /// Read a key: its value, byte by byte, goes to stdout.
    Get {
        /// bucket/name, or a name alone.
        #[arg(value_parser = key)]
        key: Key,
        /// What the call promises.
        #[command(flatten)]
        promise: Promise,
        /// Which node to ask.
        #[command(flatten)]
        node: NodeFlags,
    },
    /// Delete a key, there or not.
    Delete {
        /// bucket/name, or a name alone.
        #[arg(value_parser = key)]
        key: Key,
        /// What the call promises.
        #[command(flatten)]
        promise: Promise,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Which node to ask.
        #[command(flatten)]
        node: NodeFlags,
    },
    /// List the keys of a bucket, one a line, each after its version.
    List(ListArgs),
    /// Print what becomes of a key, or of the keys of a bucket, one change a line:
    /// first what is there, after the line `reset`, then what changes.
    Watch(WatchArgs),
    /// Write keys from a file of JSON lines, many at once; what fails is named by its
    /// line. Ends with 5 if it is unknown whether some were written.
    Import(ImportArgs),
    /// Print the keys of buckets and their values, as lines of JSON that import takes.
    /// Times to live are left out.
    Export(ExportArgs),
    /// Show how a node is: its place, links and share of the store.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Which node to ask.
        #[command(flatten)]
        node: NodeFlags,
    },
    /// Draw the ring, and list its members, one a line.
    Ring {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Which node to ask.
        #[command(flatten)]
        node: NodeFlags,
    },
    /// Give a voter up that will not come back: its slots do without it.
    ///
    /// For a majority that is lost for good. A single voter that is away is
    /// replaced without it, and one that comes back hands over what it holds.
    Evict {
        /// The member's id, as in `roundelay ring --json`, or in the error that
        /// names it as missing.
        #[arg(value_parser = id)]
        id: NodeId,
        /// Which node to ask.
        #[command(flatten)]
        node: NodeFlags,
    },
    /// Print a node's id.
    Id {
        /// Print the id that is kept in this data directory instead.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Which node to ask.
        #[command(flatten)]
        node: NodeFlags,
    },
}

/// Which node to ask.
#[derive(Debug, clap::Args)]
pub struct NodeFlags {
    /// The node's HTTP API.
    #[arg(
        long = "node",
        env = "ROUNDELAY_NODE",
        value_name = "URL",
        default_value = "http://127.0.0.1:9101"
    )]
    pub url: String,
    /// The file with the node's bearer token, where it wants one.
    #[arg(long, env = "ROUNDELAY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// A write on a condition.
#[derive(Debug, clap::Args)]
pub struct Cas {
    /// bucket/name, or a name alone.
    #[arg(value_parser = key)]
    pub key: Key,
    /// The value; read from stdin when absent. At most 1 MiB.
    #[arg(conflicts_with = "delete")]
    pub value: Option<OsString>,
    /// The version that the key must have, as put prints it.
    #[arg(
        long = "if-version",
        value_name = "VERSION",
        required_unless_present = "absent"
    )]
    pub version: Option<Version>,
    /// The key must have no value.
    #[arg(long = "if-absent", conflicts_with = "version")]
    pub absent: bool,
    /// Delete the key instead of writing it.
    #[arg(long, conflicts_with = "absent")]
    pub delete: bool,
    /// For how many seconds the key keeps the value, at most ten years; for ever
    /// when absent.
    #[arg(long, value_name = "SECONDS", value_parser = ttl, conflicts_with = "delete")]
    pub ttl: Option<Ttl>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// What a call on a key promises.
#[derive(Debug, clap::Args)]
pub struct Promise {
    /// one: any copy, last writer wins. quorum: acknowledged = synced on a
    /// majority. linearizable: one order for all, and no `one` writes of the key
    /// any more.
    #[arg(long, value_parser = ["one", "quorum", "linearizable"], default_value = "quorum")]
    pub mode: String,
}

/// Reads the command line, the environment and the file that they name.
///
/// # Errors
/// When they make no sense; [`clap::Error::exit`] says how.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let command = Cli::command();
    let mut matches = command.clone().try_get_matches_from(&args)?;
    if let Some((name, sub)) = matches.subcommand()
        && let Ok(Some(file)) = sub.try_get_one::<PathBuf>("config")
    {
        let command = config_file::with_defaults(command, name, file)?;
        matches = command.try_get_matches_from(&args)?;
    }
    Cli::from_arg_matches(&matches)
}

/// Prints a completion script.
pub fn print_completions(shell: clap_complete::Shell) {
    let mut command = Cli::command();
    clap_complete::generate(shell, &mut command, "roundelay", &mut std::io::stdout());
}

fn ttl(text: &str) -> Result<Ttl, TtlError> {
    text.parse()
}

fn key(text: &str) -> Result<Key, KeyError> {
    Key::new(text)
}

fn id(text: &str) -> Result<NodeId, ParseIdError> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Cli, clap::Error> {
        let args = ["roundelay"].iter().chain(args);
        parse(args.map(OsString::from))
    }

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_file_gives_defaults_that_flags_replace() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        let text = "relay = [\"http://a.example\", \"b.example\"]\nudp = \"127.0.0.1:7\"\nname = \"n\"\nnew-ring = true\n";
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let cli = parsed(&["node", "--config", file, "--name", "m"]).unwrap();
        let Command::Node(node) = cli.command else {
            panic!("{cli:?}");
        };
        let config = node.config().unwrap();
        assert_eq!(config.member.relays.len(), 2);
        assert_eq!(config.udp.port(), 7);
        assert_eq!(
            (config.member.name.as_str(), config.member.new_ring),
            ("m", true)
        );
    }

    #[test]
    fn a_bad_file_is_a_usage_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.toml");
        let path = file.to_str().unwrap().to_owned();
        let error = || {
            parsed(&["node", "--config", &path])
                .unwrap_err()
                .to_string()
        };
        assert!(error().contains("cannot read"), "{}", error());
        for (text, words) in [
            ("nmae = \"x\"", "nmae"),
            ("name = ", "TOML"),
            ("config = \"x\"", "config"),
            ("udp = \"nowhere\"", "nowhere"),
            ("name = { a = 1 }", "name"),
        ] {
            std::fs::write(&file, text).unwrap();
            assert!(error().contains(words), "{text}: {}", error());
        }
    }
}
