//! A small HTTP client for a node's API.

use std::io::Read;
use std::time::Duration;

use roundelay_core::NodeId;
use roundelay_core::kvs::{Key, Ttl};
use serde_json::Value;
use ureq::http::{Request, Response};
use ureq::{Agent, Body, Error, Timeout};

use super::{Exit, NodeFlags};
use crate::config::read_token;

/// Longer than a node takes to say that it does not know.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A node on the same machine or network answers well within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The most bytes of an answer that are read: a status may be long.
const ANSWER_LEN_MAX: u64 = 16 << 20;

/// The most bytes of the answers to a batch: 32 values, escaped.
const BATCH_ANSWER_LEN_MAX: u64 = 256 << 20;

/// One node, and how to speak to it.
pub(super) struct Client {
    agent: Agent,
    url: String,
    token: Option<String>,
}

/// What a node answered.
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    pub(super) version: String,
    pub(super) copies: String,
}

/// Why there is no answer, for a person, and the exit code it means.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { exit, message }
    }
}

impl Client {
    pub(super) fn new(flags: &NodeFlags) -> Result<Self, Failure> {
        let url = flags.url.trim_end_matches('/');
        let url = match url.split_once("://") {
            Some(("http", _)) => url.to_owned(),
            None => format!("http://{url}"),
            Some(_) => {
                let message = format!("--node {url}: a node's URL begins with http://");
                return Err(Failure::new(Exit::Usage, message));
            }
        };
        let token = flags.token_file.as_deref().map(read_token).transpose();
        let token = token.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy for the web is none for a node.
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .build()
            .new_agent();
        Ok(Self {
            agent,
            url,
            token: token.map(|token| token.as_str().to_owned()),
        })
    }

    /// Asks for JSON.
    pub(super) fn json(&self, path: &str) -> Result<Value, Failure> {
        let answer = self.call("GET", path, &[], None)?;
        serde_json::from_slice(&answer.body).map_err(|_| self.no_node())
    }

    /// Something else listens there.
    pub(super) fn no_node(&self) -> Failure {
        let message = format!("{} does not answer like a Roundelay node", self.url);
        Failure::new(Exit::Failed, message)
    }

    /// Reads or deletes a key.
    pub(super) fn kv(&self, method: &str, key: &Key, mode: &str) -> Result<Answer, Failure> {
        let path = format!("/v1/kv/{}?mode={mode}", percent_encoded(key.as_str()));
        self.call(method, &path, &[], None)
    }

    /// Writes a key.
    pub(super) fn put(
        &self,
        key: &Key,
        mode: &str,
        ttl: Option<Ttl>,
        value: &[u8],
    ) -> Result<Answer, Failure> {
        let ttl = ttl.map_or_else(String::new, |ttl| format!("&ttl={}", ttl.as_seconds()));
        let path = format!("/v1/kv/{}?mode={mode}{ttl}", percent_encoded(key.as_str()));
        self.call("PUT", &path, &[], Some(value))
    }

    /// Writes a key, or deletes it, if a header's condition holds.
    pub(super) fn compare_and_set(
        &self,
        key: &Key,
        condition: (&str, &str),
        ttl: Option<Ttl>,
        value: Option<&[u8]>,
    ) -> Result<Answer, Failure> {
        let ttl = ttl.map_or_else(String::new, |ttl| format!("?ttl={}", ttl.as_seconds()));
        let path = format!("/v1/kv/{}{ttl}", percent_encoded(key.as_str()));
        let method = if value.is_some() { "PUT" } else { "DELETE" };
        self.call(method, &path, &[condition], value)
    }

    /// Many calls, a line each; the answers, in order, as far as they came.
    pub(super) fn batch(&self, calls: &[u8]) -> Result<Vec<Value>, Failure> {
        let mut response = self.send("POST", "/v1/batch", &[], Some(calls))?;
        let body = response
            .body_mut()
            .with_config()
            .limit(BATCH_ANSWER_LEN_MAX);
        let body = body.read_to_vec();
        let body = body.map_err(|error| self.broken(&error, true))?;
        if !response.status().is_success() {
            return Err(self.refused(response.status().as_u16(), &body));
        }
        let lines = body.split(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).map_err(|_| self.no_node()))
            .collect()
    }

    /// A page of a bucket.
    pub(super) fn list(
        &self,
        bucket: &str,
        after: Option<&str>,
        limit: usize,
        mode: &str,
    ) -> Result<Value, Failure> {
        let after = after.map(|after| format!("&after={}", percent_encoded(after)));
        let (bucket, after) = (percent_encoded(bucket), after.unwrap_or_default());
        self.json(&format!(
            "/v1/list/{bucket}?mode={mode}&limit={limit}{after}"
        ))
    }

    /// Gives a voter up for lost.
    pub(super) fn evict(&self, id: &NodeId) -> Result<(), Failure> {
        self.call("POST", &format!("/v1/evict/{id}"), &[], None)?;
        Ok(())
    }

    /// Watches a key or bucket: its events, from after the last.
    pub(super) fn events(
        &self,
        target: &str,
        last: Option<&str>,
    ) -> Result<impl Read + use<>, Failure> {
        let path = format!("/v1/watch/{}", percent_encoded(target));
        let last = last.map(|id| ("last-event-id", id));
        let mut response = self.send("GET", &path, last.as_slice(), None)?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let body = response.body_mut().read_to_vec().unwrap_or_default();
            return Err(self.refused(status, &body));
        }
        Ok(response.into_body().into_reader())
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, Failure> {
        let mut response = self.send(method, path, headers, body)?;
        let body = response.body_mut().with_config().limit(ANSWER_LEN_MAX);
        let body = body.read_to_vec();
        let body = body.map_err(|error| self.broken(&error, method != "GET"))?;
        if response.status().is_success() {
            return Ok(Answer {
                body,
                version: header(&response, "etag").trim_matches('"').to_owned(),
                copies: header(&response, "roundelay-copies").to_owned(),
            });
        }
        Err(self.refused(response.status().as_u16(), &body))
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Response<Body>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = match body {
            Some(body) => request.body(body).map(|request| self.agent.run(request)),
            None => request.body(()).map(|request| self.agent.run(request)),
        };
        let is_write = method != "GET";
        let broken = |error: Error| self.broken(&error, is_write);
        let response = sent.map_err(|error| broken(error.into()))?;
        response.map_err(broken)
    }

    fn refused(&self, status: u16, body: &[u8]) -> Failure {
        let told: Value = serde_json::from_slice(body).unwrap_or_default();
        let (code, message) = (told["error"].as_str(), told["message"].as_str());
        let (Some(code), Some(message)) = (code, message) else {
            let message = format!("{} answered {status}: is it a Roundelay node?", self.url);
            return Failure::new(Exit::Failed, message);
        };
        let exit = match (status, code) {
            (_, "not_found") => Exit::NotFound,
            (412, _) => Exit::ConditionFailed,
            (_, "outcome_unknown") => Exit::OutcomeUnknown,
            _ => Exit::Failed,
        };
        Failure::new(exit, message)
    }

    /// A request that met no answer. Unless no connection was made, a write
    /// may have been applied.
    fn broken(&self, error: &Error, is_write: bool) -> Failure {
        let url = &self.url;
        let unreachable = match error {
            Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            Error::HostNotFound | Error::ConnectionFailed => true,
            Error::Timeout(timeout) => matches!(timeout, Timeout::Connect | Timeout::Resolve),
            _ => false,
        };
        if unreachable {
            let message = format!(
                "cannot reach {url}: {error}; is a node running there? start one with roundelay node --http ADDR, or name another by --node URL"
            );
            return Failure::new(Exit::Failed, message);
        }
        if matches!(error, Error::BadUri(_) | Error::Http(_)) {
            let message = format!("--node {url}: {error}; it looks like http://127.0.0.1:9101");
            return Failure::new(Exit::Usage, message);
        }
        if is_write {
            let message = format!(
                "{url} gave no answer ({error}): the write may or may not have been applied; read the key"
            );
            return Failure::new(Exit::OutcomeUnknown, message);
        }
        Failure::new(Exit::Failed, format!("{url} gave no answer: {error}"))
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// All but RFC 3986's unreserved characters and the slash.
fn percent_encoded(key: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}
