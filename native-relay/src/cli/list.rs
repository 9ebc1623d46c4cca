//! `roundelay list`: the pages of a bucket.

use roundelay_core::kvs::{List, ListError, PAGE_KEY_COUNT_MAX};
use serde_json::Value;

use super::client::{Client, Failure};
use super::commands::{line, print};
use super::{Exit, NodeFlags, table};

/// Which keys to list.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// The bucket: what precedes the first slash of its keys.
    #[arg(value_parser = bucket)]
    pub bucket: String,
    /// The whole key after which to begin, there or not.
    #[arg(long, value_name = "KEY")]
    pub after: Option<String>,
    /// At most so many keys, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = PAGE_KEY_COUNT_MAX)]
    pub limit: usize,
    /// List to the bucket's end, page after page.
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
    /// one: what any one copy holds. quorum: all that was acknowledged before.
    #[arg(long, value_parser = ["one", "quorum"], default_value = "quorum")]
    pub mode: String,
    /// Print JSON, an object for each page.
    #[arg(long)]
    pub json: bool,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeFlags,
}

pub(super) fn bucket(text: &str) -> Result<String, ListError> {
    List::new(text)?;
    Ok(text.to_owned())
}

/// Prints pages as they come.
pub(super) fn pages(args: &ListArgs) -> Result<(), Failure> {
    check(args).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let client = Client::new(&args.node)?;
    let mut after = args.after.clone();
    loop {
        let page = client.list(&args.bucket, after.as_deref(), args.limit, &args.mode)?;
        let keys = page["keys"].as_array().ok_or_else(|| client.no_node())?;
        let lines = match args.json {
            true => line(&page),
            false => keys.iter().flat_map(named).collect(),
        };
        let wants_more = print(&lines)?;
        let Some(next) = page["next"].as_str() else {
            return Ok(());
        };
        if !args.all && !args.json {
            let next = table::text(&page["next"]);
            eprintln!("roundelay: there is more: --after {next:?}, or --all");
        }
        if !args.all || !wants_more {
            return Ok(());
        }
        after = Some(next.to_owned());
    }
}

fn check(args: &ListArgs) -> Result<(), ListError> {
    let list = List::new(&args.bucket)?.with_limit(args.limit)?;
    args.after
        .iter()
        .try_fold(list, |list, after| list.with_after(after))?;
    Ok(())
}

fn named(key: &Value) -> Vec<u8> {
    let [version, key] = ["version", "key"].map(|name| table::text(&key[name]));
    format!("{version}  {key}\n").into()
}
