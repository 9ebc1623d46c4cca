//! The commands that use a running node.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use roundelay_core::Identity;
use roundelay_core::kvs::VALUE_LEN_MAX;
use serde_json::json;

use super::client::{Answer, Client, Failure};
use super::{Cas, ClientCommand, Exit, NodeFlags, import, list, table, watch};
use crate::identity;

/// Carries out a command; what is asked for goes to stdout, what went wrong
/// to stderr.
#[must_use]
pub fn run(command: ClientCommand) -> Exit {
    let failure = match output(command) {
        Ok(bytes) => match print(&bytes) {
            Ok(_) => return Exit::Done,
            Err(failure) => failure,
        },
        Err(failure) => failure,
    };
    eprintln!("roundelay: {}", failure.message);
    failure.exit
}

fn output(command: ClientCommand) -> Result<Vec<u8>, Failure> {
    match command {
        ClientCommand::Put {
            key,
            value,
            promise,
            ttl,
            json,
            node,
        } => {
            let client = Client::new(&node)?;
            let value = value_or_stdin(value)?;
            let answer = client.put(&key, &promise.mode, ttl, &value)?;
            Ok(written(&answer, json))
        }
        ClientCommand::Cas(cas) => compare_and_set(cas),
        ClientCommand::Get { key, promise, node } => {
            let answer = Client::new(&node)?.kv("GET", &key, &promise.mode)?;
            Ok(answer.body)
        }
        ClientCommand::Delete {
            key,
            promise,
            json,
            node,
        } => {
            let answer = Client::new(&node)?.kv("DELETE", &key, &promise.mode)?;
            Ok(written(&answer, json))
        }
        ClientCommand::Watch(args) => watch::follow(&args).map(|()| Vec::new()),
        ClientCommand::Import(args) => import::import(&args).map(|()| Vec::new()),
        ClientCommand::Export(args) => import::export(&args).map(|()| Vec::new()),
        ClientCommand::List(args) => list::pages(&args).map(|()| Vec::new()),
        ClientCommand::Status { json, node } => {
            let status = Client::new(&node)?.json("/v1/status")?;
            Ok(if json {
                line(&status)
            } else {
                table::status(&status).into()
            })
        }
        ClientCommand::Ring { json, node } => {
            let ring = Client::new(&node)?.json("/v1/ring")?;
            Ok(if json {
                line(&ring)
            } else {
                table::ring(&ring).into()
            })
        }
        ClientCommand::Evict { id, node } => {
            Client::new(&node)?.evict(&id)?;
            Ok(Vec::new())
        }
        ClientCommand::Id {
            data_dir,
            json,
            node,
        } => {
            let id = match data_dir {
                Some(dir) => id_in(&dir)?,
                None => id_of(&node)?,
            };
            Ok(if json {
                line(&json!({ "id": id }))
            } else {
                format!("{id}\n").into()
            })
        }
    }
}

fn compare_and_set(cas: Cas) -> Result<Vec<u8>, Failure> {
    let client = Client::new(&cas.node)?;
    let value = match cas.delete {
        true => None,
        false => Some(value_or_stdin(cas.value)?),
    };
    let version = cas.version.map(|version| format!("\"{version}\""));
    let condition = match &version {
        Some(version) => ("if-match", version.as_str()),
        None => ("if-none-match", "*"),
    };
    let answer = client.compare_and_set(&cas.key, condition, cas.ttl, value.as_deref())?;
    Ok(written(&answer, cas.json))
}

/// The id of the node that a data directory belongs to.
fn id_in(dir: &Path) -> Result<String, Failure> {
    let seed = identity::load(dir);
    let seed = seed.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let seed = seed.ok_or_else(|| {
        let message = format!(
            "{} holds no identity; a relay or node started with --data-dir makes one",
            dir.display()
        );
        Failure::new(Exit::NotFound, message)
    })?;
    Ok(Identity::from_seed(&seed).id().to_string())
}

fn id_of(node: &NodeFlags) -> Result<String, Failure> {
    let client = Client::new(node)?;
    let status = client.json("/v1/status")?;
    let id = status["id"].as_str().map(str::to_owned);
    id.ok_or_else(|| client.no_node())
}

fn value_or_stdin(value: Option<OsString>) -> Result<Vec<u8>, Failure> {
    let value = match value {
        Some(value) => value.into_vec(),
        None => {
            let mut bytes = Vec::new();
            let most = VALUE_LEN_MAX as u64 + 1;
            let read = io::stdin().lock().take(most).read_to_end(&mut bytes);
            read.map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("cannot read the value from stdin: {error}"),
                )
            })?;
            bytes
        }
    };
    if value.len() > VALUE_LEN_MAX {
        let message = format!("not applied: a value holds at most {VALUE_LEN_MAX} bytes");
        return Err(Failure::new(Exit::Failed, message));
    }
    Ok(value)
}

fn written(answer: &Answer, json: bool) -> Vec<u8> {
    let (version, copies) = (&answer.version, &answer.copies);
    if json {
        line(&json!({ "version": version, "copies": copies }))
    } else {
        format!("version {version}, copies {copies}\n").into()
    }
}

pub(super) fn line(value: &serde_json::Value) -> Vec<u8> {
    format!("{value}\n").into()
}

/// Prints; returns whether its reader wants more.
pub(super) fn print(bytes: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            let message = format!("done, but cannot write to stdout: {error}");
            Err(Failure::new(Exit::Failed, message))
        }
        Ok(()) => Ok(true),
    }
}
