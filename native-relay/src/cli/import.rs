//! `roundelay import` and `export`: keys and values as lines of JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use roundelay_core::kvs::{KEY_LEN_MAX, PAGE_KEY_COUNT_MAX, VALUE_LEN_MAX};
use serde_json::{Map, Value, json};

use super::client::{Client, Failure};
use super::commands::print;
use super::{Exit, NodeFlags};

/// Which keys to write.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// A file with a line of JSON for each key: {"key":"a/b","value":"text"}, or
    /// "base64" instead of "value", and perhaps "ttl" in seconds; - is stdin.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What each write promises, as of put.
    #[arg(long, value_parser = ["one", "quorum", "linearizable"], default_value = "quorum")]
    pub mode: String,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Which keys to read.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The buckets: what precedes the first slash of their keys.
    #[arg(required = true, value_parser = super::list::bucket)]
    pub buckets: Vec<String>,
    /// What each read promises, as of get and list.
    #[arg(long, value_parser = ["one", "quorum"], default_value = "quorum")]
    pub mode: String,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// The longest line: a value in the worst of JSON's escapes, and a key.
const LINE_LEN_MAX: usize = 6 * (VALUE_LEN_MAX + KEY_LEN_MAX) + 1024;
/// A batch is sent when it has so many lines, or is so long.
const BATCH_LINES: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;
/// How often a line is sent that was surely not applied, or perhaps, and how long
/// to wait before: a put may be sent again without harm.
const TRIES: usize = 6;
const PAUSE: Duration = Duration::from_millis(500);
/// Failed lines that are told one by one; then they are only counted.
const TOLD: u64 = 10;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Writes the keys of a file.
pub(super) fn import(args: &ImportArgs) -> Result<(), Failure> {
    let mut import = Import {
        client: Client::new(&args.node)?,
        batch: Vec::new(),
        bytes: 0,
        written: 0,
        failed: BTreeMap::new(),
        progress: Progress::new(),
    };
    let (mut input, name) = open(&args.file)?;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = (&mut input)
            .take(LINE_LEN_MAX as u64 + 1)
            .read_until(b'\n', &mut line);
        let read = read.map_err(|error| {
            Failure::new(Exit::Failed, format!("{name}, line {number}: {error}"))
        })?;
        if read == 0 {
            break;
        }
        if read > LINE_LEN_MAX {
            import.send()?;
            let message = format!("{name}, line {number}: longer than a value can be; stopped");
            return Err(Failure::new(Exit::Failed, message));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match call_of(&line, &args.mode) {
            Ok(call) => import.add(number, &call)?,
            Err(words) => import.fail(number, "bad_line", &words),
        }
    }
    import.send()?;
    import.end()
}

fn open(path: &Path) -> Result<(Box<dyn BufRead>, String), Failure> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), "stdin".into()));
    }
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => Ok((Box::new(BufReader::new(file)), name)),
        Err(error) => Err(Failure::new(
            Exit::Failed,
            format!("{name}: {error}; nothing was written"),
        )),
    }
}

/// The batch's line for a line of the file.
fn call_of(line: &[u8], mode: &str) -> Result<String, String> {
    let mut call: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| error.to_string())?;
    // What an export says of a record, and a write does not take.
    call.remove("version");
    let known = ["key", "value", "base64", "ttl"];
    if let Some(name) = call.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("{name:?} means nothing here; leave it out"));
    }
    call.insert("op".into(), "put".into());
    call.insert("mode".into(), mode.into());
    Ok(Value::Object(call).to_string() + "\n")
}

struct Import {
    client: Client,
    /// Lines by their number.
    batch: Vec<(u64, String)>,
    bytes: usize,
    written: u64,
    /// How many failed with which code.
    failed: BTreeMap<String, u64>,
    progress: Progress,
}

impl Import {
    fn add(&mut self, number: u64, call: &str) -> Result<(), Failure> {
        self.bytes += call.len();
        self.batch.push((number, call.to_owned()));
        if self.batch.len() >= BATCH_LINES || self.bytes >= BATCH_BYTES {
            self.send()?;
        }
        Ok(())
    }

    /// Sends what has gathered, and what fails for a moment again.
    fn send(&mut self) -> Result<(), Failure> {
        let mut batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        for tries in 1..=TRIES {
            if batch.is_empty() {
                break;
            }
            if tries > 1 {
                std::thread::sleep(PAUSE);
            }
            let calls: String = batch.iter().map(|(_, call)| call.as_str()).collect();
            let answers = self.client.batch(calls.as_bytes())?;
            let mut again = Vec::new();
            let mut answers = answers.into_iter();
            for (number, call) in batch {
                let Some(answer) = answers.next() else {
                    // The rest of the answers did not come.
                    again.push((number, call));
                    continue;
                };
                match answer["status"].as_u64() {
                    Some(204) => self.written += 1,
                    Some(503 | 504) if tries < TRIES => again.push((number, call)),
                    _ => {
                        let word = |name: &str| answer[name].as_str().unwrap_or("?").to_owned();
                        self.fail(number, &word("error"), &word("message"));
                    }
                }
            }
            batch = again;
            self.progress.tell(|| format!("{} written", self.written));
        }
        for (number, _) in batch {
            self.fail(number, "outcome_unknown", "no answer; read the key");
        }
        Ok(())
    }

    fn fail(&mut self, number: u64, code: &str, words: &str) {
        if self.failed.values().sum::<u64>() < TOLD {
            self.progress.clear();
            eprintln!("roundelay: line {number}: {code}: {words}");
        }
        *self.failed.entry(code.to_owned()).or_default() += 1;
    }

    fn end(mut self) -> Result<(), Failure> {
        self.progress.clear();
        let written = self.written;
        if self.failed.is_empty() {
            eprintln!("roundelay: {written} keys written");
            return Ok(());
        }
        let kinds = self.failed.iter();
        let kinds: Vec<String> = kinds
            .map(|(code, count)| format!("{count} {code}"))
            .collect();
        let exit = match self.failed.contains_key("outcome_unknown") {
            true => Exit::OutcomeUnknown,
            false => Exit::Failed,
        };
        let message = format!(
            "{written} keys written, {} not: {}; the same file may be imported again",
            self.failed.values().sum::<u64>(),
            kinds.join(", "),
        );
        Err(Failure::new(exit, message))
    }
}

/// Prints the keys of buckets.
pub(super) fn export(args: &ExportArgs) -> Result<(), Failure> {
    let client = Client::new(&args.node)?;
    let (mut progress, mut count) = (Progress::new(), 0_u64);
    for bucket in &args.buckets {
        let mut after: Option<String> = None;
        loop {
            let page = client.list(bucket, after.as_deref(), PAGE_KEY_COUNT_MAX, &args.mode)?;
            let keys = page["keys"].as_array().ok_or_else(|| client.no_node())?;
            let keys: Vec<&str> = keys.iter().filter_map(|key| key["key"].as_str()).collect();
            // A few at a time: values may be long.
            for keys in keys.chunks(32) {
                let lines = read(&client, keys, &args.mode)?;
                count += lines.iter().filter(|byte| **byte == b'\n').count() as u64;
                if !print(&lines)? {
                    return Ok(());
                }
                progress.tell(|| format!("{count} read"));
            }
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
    }
    progress.clear();
    eprintln!("roundelay: {count} keys read");
    Ok(())
}

/// What these keys hold, as lines; whoever was deleted meanwhile is left out.
fn read(client: &Client, keys: &[&str], mode: &str) -> Result<Vec<u8>, Failure> {
    let calls = keys
        .iter()
        .map(|key| json!({ "op": "get", "key": key, "mode": mode }));
    let calls: String = calls.map(|call| format!("{call}\n")).collect();
    let answers = client.batch(calls.as_bytes())?;
    if answers.len() != keys.len() {
        return Err(client.no_node());
    }
    let mut lines = Vec::new();
    for (key, mut answer) in keys.iter().zip(answers) {
        match (answer["status"].as_u64(), answer.as_object_mut()) {
            (Some(404), _) => {}
            (Some(200), Some(answer)) => {
                answer.remove("status");
                lines.extend(Value::Object(std::mem::take(answer)).to_string().bytes());
                lines.push(b'\n');
            }
            _ => {
                let words = answer["message"].as_str().unwrap_or("no answer");
                let message = format!("{key}: {words}; what was printed so far is right");
                return Err(Failure::new(Exit::Failed, message));
            }
        }
    }
    Ok(lines)
}

/// A line on a terminal that says how far it is.
struct Progress {
    told_at: Option<Instant>,
    begun: Instant,
    is_shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self {
            told_at: None,
            begun: Instant::now(),
            is_shown: false,
        }
    }

    fn tell(&mut self, words: impl FnOnce() -> String) {
        let now = Instant::now();
        let is_due = now.duration_since(self.told_at.unwrap_or(self.begun)) >= PROGRESS_EVERY;
        if is_due {
            self.told_at = Some(now);
            let took = self.begun.elapsed().as_secs();
            if io::stderr().is_terminal() {
                eprint!("\r\x1b[Kroundelay: {}, {took} s", words());
                self.is_shown = true;
            } else {
                eprintln!("roundelay: {}, {took} s", words());
            }
        }
    }

    fn clear(&mut self) {
        if self.is_shown {
            eprint!("\r\x1b[K");
            self.is_shown = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_exported_can_be_imported() {
        let line = br#"{"key":"a/b","value":"x","version":"19a2b3c4d5e60000-0123456789abcdef"}"#;
        let call: Value = serde_json::from_str(&call_of(line, "one").unwrap()).unwrap();
        assert_eq!(
            call,
            json!({ "op": "put", "key": "a/b", "value": "x", "mode": "one" })
        );
        for bad in ["", "7", r#"{"key":"a","value":"x","op":"get"}"#, "{"] {
            assert!(call_of(bad.as_bytes(), "one").is_err(), "{bad}");
        }
    }
}
