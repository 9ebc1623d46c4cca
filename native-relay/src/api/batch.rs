//! `POST /v1/batch`: many calls on keys in one request, a line of JSON each, each
//! answered by a line of its own.
//!
//! The whole batch is read before anything is done, so that a client may write it to
//! its end before it reads an answer. Then [`AT_ONCE`] calls at a time are under way,
//! and are answered in the order of their lines. They run side by side: what has to
//! come after something else belongs into another batch. What a client does not take
//! within [`STALL`] ends the batch there; lines without an answer may or may not have
//! been carried out.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt, stream};
use roundelay_core::kvs::{Condition, Key, Mode, Reply, Terms, Ttl, VALUE_LEN_MAX};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::error::{Refusal, answer};
use super::kv::read_body;
use super::{Api, State, path};

/// The most bytes of a batch.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// The most lines of a batch.
pub const BATCH_LINES_MAX: usize = 10_000;

/// Calls of one batch that are under way at once.
const AT_ONCE: usize = 32;

/// How long a client may take nothing.
const STALL: Duration = Duration::from_secs(30);

pub(super) async fn batch(state: State, request: Request) -> Response {
    let begun = match path::no_query(request.uri()) {
        Ok(()) => begin(&state, request.into_body()).await,
        Err(refusal) => Err(refusal),
    };
    answer(&state, begun)
}

async fn begin(api: &Arc<Api>, body: Body) -> Result<Response, Refusal> {
    let (bytes, room) = read_body(api, body, BATCH_BYTES_MAX).await?;
    let lines: Vec<Line> = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .map(Line::read)
        .take(BATCH_LINES_MAX + 1)
        .collect();
    if lines.len() > BATCH_LINES_MAX {
        return Err(Refusal::too_many_lines(BATCH_LINES_MAX));
    }
    let (answers, told) = mpsc::channel(1);
    tokio::spawn(work(Arc::clone(api), lines, answers, room));
    let told = stream::unfold(told, async |mut told| {
        let line: Vec<u8> = told.recv().await?;
        Some((Ok::<_, Infallible>(line), told))
    });
    let kind = HeaderValue::from_static("application/x-ndjson");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(told)).into_response())
}

/// Carries out all lines, until the client takes no more answers.
async fn work(
    api: Arc<Api>,
    lines: Vec<Line>,
    answers: mpsc::Sender<Vec<u8>>,
    room: OwnedSemaphorePermit,
) {
    let calls = stream::iter(lines).map(|line| line.carry_out(&api));
    let mut calls = std::pin::pin!(calls.buffered(AT_ONCE));
    while let Some(answer) = calls.next().await {
        let sent = tokio::time::timeout(STALL, answers.send(answer));
        if !matches!(sent.await, Ok(Ok(()))) {
            break;
        }
    }
    drop(room);
}

/// A call that a line asks for, or why there is none.
struct Line {
    key: Option<Key>,
    call: Result<Call, Refusal>,
}

enum Call {
    Get(Mode),
    Write(Option<Vec<u8>>, Terms),
}

/// A line as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    op: Op,
    key: String,
    /// The value of a put, as text; or in base64, with padding.
    value: Option<String>,
    base64: Option<String>,
    mode: Option<String>,
    ttl: Option<u32>,
    if_version: Option<String>,
    #[serde(default)]
    if_absent: bool,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Op {
    Get,
    Put,
    Delete,
}

impl Line {
    fn read(line: &[u8]) -> Self {
        let written: Written = match serde_json::from_slice(line) {
            Ok(written) => written,
            Err(error) => {
                let message = format!("{error}; a line is {{\"op\":\"get\",\"key\":\"a/b\"}}");
                let call = Err(Refusal::bad_line(message));
                return Self { key: None, call };
            }
        };
        match Key::new(written.key.as_str()) {
            Ok(key) => Self {
                key: Some(key),
                call: written.call(),
            },
            Err(error) => Self {
                key: None,
                call: Err(Refusal::bad_key(error.to_string())),
            },
        }
    }

    /// The answer, as a line.
    async fn carry_out(self, api: &Api) -> Vec<u8> {
        let outcome = match (self.key.clone(), self.call) {
            (Some(key), Ok(call)) => call.carry_out(key, api).await,
            (_, Err(refusal)) => Err(refusal),
            (None, Ok(_)) => Err(Refusal::internal()),
        };
        let mut told = outcome.unwrap_or_else(|refusal| refusal.told(&api.counters));
        if let Some(key) = self.key {
            told.insert("key".into(), key.as_str().into());
        }
        let mut line = Value::Object(told).to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

impl Written {
    fn call(self) -> Result<Call, Refusal> {
        let mode = self.mode.as_deref().map(path::mode_named).transpose()?;
        let condition = self.condition()?;
        let ttl = self.ttl.map(Ttl::try_from).transpose();
        let ttl = ttl.map_err(Refusal::bad_ttl)?;
        let has_value = self.value.is_some() || self.base64.is_some();
        let is_plain = condition.is_none() && ttl.is_none() && !has_value;
        match self.op {
            Op::Get if is_plain => return Ok(Call::Get(mode.unwrap_or_default())),
            Op::Get => return Err(Refusal::bad_line("a get has a key and a mode alone")),
            Op::Delete if has_value || ttl.is_some() => {
                return Err(Refusal::bad_line("a delete has no value and no ttl"));
            }
            Op::Delete | Op::Put => {}
        }
        let terms = path::with_condition(mode, condition, ttl)?;
        let value = (self.op == Op::Put).then(|| self.bytes()).transpose()?;
        Ok(Call::Write(value, terms))
    }

    fn condition(&self) -> Result<Option<Condition>, Refusal> {
        match (&self.if_version, self.if_absent) {
            (None, false) => Ok(None),
            (None, true) => Ok(Some(Condition::Absent)),
            (Some(_), true) => Err(Refusal::bad_condition("one condition at a time; give one")),
            (Some(version), false) => match version.parse() {
                Ok(version) => Ok(Some(Condition::Version(version))),
                Err(error) => Err(Refusal::bad_condition(format!("if_version: {error}"))),
            },
        }
    }

    fn bytes(self) -> Result<Vec<u8>, Refusal> {
        let bytes = match (self.value, self.base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => STANDARD
                .decode(text)
                .map_err(|error| Refusal::bad_line(format!("base64: {error}")))?,
            _ => {
                return Err(Refusal::bad_line(
                    "a put has either a value or base64; give one",
                ));
            }
        };
        if bytes.len() > VALUE_LEN_MAX {
            return Err(Refusal::too_large());
        }
        Ok(bytes)
    }
}

impl Call {
    async fn carry_out(self, key: Key, api: &Api) -> Result<Map<String, Value>, Refusal> {
        let place = api.requests.acquire().await;
        let _place = place.map_err(|_| Refusal::busy())?;
        let reply = match self {
            Self::Get(mode) => api.handle.get(key, mode).await?,
            Self::Write(value, terms) => {
                let written = api.handle.write(key, value, terms).await;
                written.map_err(Refusal::write_stopped)?
            }
        };
        let told = match reply {
            Reply::Found { value, version } => {
                let (name, value) = match String::from_utf8(value) {
                    Ok(text) => ("value", text),
                    Err(error) => ("base64", STANDARD.encode(error.as_bytes())),
                };
                json!({ "status": 200, "version": version.to_string(), name: value })
            }
            Reply::Written { version, copies } => json!({
                "status": 204,
                "version": version.to_string(),
                "copies": format!("{}/{}", copies.have, copies.of),
            }),
            Reply::Missing => return Err(Refusal::not_found()),
            Reply::Failed(error) => return Err(error.into()),
            _ => return Err(Refusal::internal()),
        };
        match told {
            Value::Object(told) => Ok(told),
            _ => Err(Refusal::internal()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &str) -> Result<(), &'static str> {
        let read = Line::read(line.as_bytes());
        read.call.map(drop).map_err(|refusal| refusal.code)
    }

    #[test]
    fn lines_are_read_strictly() {
        let version = "a.19a2b3c4d5e60000-0123456789abcdef";
        for good in [
            r#"{"op":"get","key":"a/b"}"#,
            r#"{"op":"get","key":"a/b","mode":"one"}"#,
            r#"{"op":"put","key":"a/b","value":"","ttl":1}"#,
            r#" {"op":"put","key":"a/b","base64":"AP8="} "#,
            r#"{"op":"put","key":"a","value":"x","if_absent":true}"#,
            r#"{"op":"delete","key":"a","mode":"linearizable"}"#,
            &format!(r#"{{"op":"delete","key":"a","if_version":"{version}"}}"#),
        ] {
            assert_eq!(code(good), Ok(()), "{good}");
        }
        for (bad, expected) in [
            ("x", "bad_line"),
            ("[]", "bad_line"),
            (r#"{"key":"a"}"#, "bad_line"),
            (r#"{"op":"get"}"#, "bad_line"),
            (r#"{"op":"list","key":"a"}"#, "bad_line"),
            (r#"{"op":"get","key":"a","colour":1}"#, "bad_line"),
            (r#"{"op":"get","key":""}"#, "bad_key"),
            (r#"{"op":"get","key":"a","mode":"all"}"#, "bad_mode"),
            (r#"{"op":"get","key":"a","if_absent":true}"#, "bad_line"),
            (r#"{"op":"put","key":"a"}"#, "bad_line"),
            (
                r#"{"op":"put","key":"a","value":"x","base64":"eA=="}"#,
                "bad_line",
            ),
            (r#"{"op":"put","key":"a","base64":"?"}"#, "bad_line"),
            (r#"{"op":"put","key":"a","value":"x","ttl":0}"#, "bad_ttl"),
            (
                r#"{"op":"put","key":"a","value":"x","if_version":"7"}"#,
                "bad_condition",
            ),
            (
                r#"{"op":"put","key":"a","value":"x","if_absent":true,"mode":"one"}"#,
                "bad_mode",
            ),
            (r#"{"op":"delete","key":"a","value":"x"}"#, "bad_line"),
        ] {
            assert_eq!(code(bad), Err(expected), "{bad}");
        }
        let long = format!(
            r#"{{"op":"put","key":"a","value":"{}"}}"#,
            "x".repeat(VALUE_LEN_MAX + 1)
        );
        assert_eq!(code(&long), Err("too_large"));
    }
}
