//! `roundelay watch`: what becomes of a key or bucket, until it is stopped.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use roundelay_core::kvs::{Watch, WatchError};
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::commands::{line, print};
use super::{NodeFlags, table};

/// How long to wait before a node is asked again that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest line of an answer.
const LINE_LEN_MAX: u64 = 16 * 1024;

/// What to watch.
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// A key, or a bucket with a slash at its end.
    #[arg(value_name = "KEY_OR_BUCKET/", value_parser = target)]
    pub target: String,
    /// Print JSON, an object for each event.
    #[arg(long)]
    pub json: bool,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeFlags,
}

fn target(text: &str) -> Result<String, WatchError> {
    Watch::new(text)?;
    Ok(text.to_owned())
}

/// Prints events as they come, and goes on after a broken connection.
pub(super) fn follow(args: &WatchArgs) -> Result<(), Failure> {
    let client = Client::new(&args.node)?;
    let mut last = None;
    let mut events = client.events(&args.target, None)?;
    loop {
        if !read(events, args.json, &mut last)? {
            return Ok(());
        }
        events = loop {
            std::thread::sleep(PAUSE);
            match client.events(&args.target, last.as_deref()) {
                Ok(events) => break events,
                Err(failure) => eprintln!("roundelay: {}", failure.message),
            }
        };
    }
}

/// Reads events to the end of a connection. Returns whether more are wanted.
fn read(events: impl Read, json: bool, last: &mut Option<String>) -> Result<bool, Failure> {
    let mut events = BufReader::new(events);
    let (mut kind, mut data) = (String::new(), Value::Null);
    let mut id = None;
    loop {
        let mut text = String::new();
        let got = events.by_ref().take(LINE_LEN_MAX).read_line(&mut text);
        if !matches!(got, Ok(len) if len > 0) {
            return Ok(true);
        }
        match text.trim_end().split_once(':') {
            Some(("event", value)) => value.trim_start().clone_into(&mut kind),
            Some(("data", value)) => data = serde_json::from_str(value).unwrap_or_default(),
            Some(("id", value)) => id = Some(value.trim_start().to_owned()),
            Some(_) => {}
            // An empty line ends an event.
            None => {
                let told = told(&kind, &data, json);
                if !told.is_empty() && !print(&told)? {
                    return Ok(false);
                }
                *last = id.take().or_else(|| last.take());
                kind.clear();
                data = Value::Null;
            }
        }
    }
}

fn told(kind: &str, data: &Value, json: bool) -> Vec<u8> {
    match (kind, json) {
        ("", _) => Vec::new(),
        ("reset", false) => "reset\n".into(),
        (_, false) => {
            let [version, key] = ["version", "key"].map(|name| table::text(&data[name]));
            let deleted = data["deleted"].as_bool() == Some(true);
            let deleted = if deleted { "  deleted" } else { "" };
            format!("{version}  {key}{deleted}\n").into()
        }
        (_, true) => {
            let mut event = json!({ "event": kind });
            if let (Some(event), Some(data)) = (event.as_object_mut(), data.as_object()) {
                event.extend(data.clone());
            }
            line(&event)
        }
    }
}
