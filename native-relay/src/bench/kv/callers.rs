//! Those who call a node: by its handle, or by HTTP.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use roundelay_core::kvs::{Condition, Key, Mode, Reply, RequestError, Version};
use tokio::net::TcpStream;

use crate::api::{Token, code_of};
use crate::bench::load::{Call, CallError, Caller};
use crate::handle::Handle;

/// What every call is made of.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) mode: String,
    pub(super) value: Bytes,
    /// What the names of all keys begin with.
    pub(super) prefix: String,
}

impl Task {
    fn key(&self, number: u32) -> String {
        // Without a slash: each is a bucket, and lies in a slot of its own.
        format!("{}-{number}", self.prefix)
    }
}

/// Keys that one caller alone swaps, and what it knows them to be.
pub(super) struct Own<V> {
    name: String,
    seen: HashMap<u32, V>,
}

/// How many of them there are, so that most are not new.
const OWN_COUNT: u32 = 64;

impl<V> Own<V> {
    pub(super) fn new(prefix: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            name: format!("{prefix}-own-{}-{number}", std::process::id()),
            seen: HashMap::new(),
        }
    }

    fn key(&self, number: u32) -> String {
        format!("{}-{}", self.name, number % OWN_COUNT)
    }

    fn seen(&self, number: u32) -> Option<&V> {
        self.seen.get(&(number % OWN_COUNT))
    }

    fn set(&mut self, number: u32, version: Option<V>) {
        let number = number % OWN_COUNT;
        match version {
            Some(version) => drop(self.seen.insert(number, version)),
            None => drop(self.seen.remove(&number)),
        }
    }
}

/// Calls a node of this process.
pub(super) struct HandleCaller {
    pub(super) handle: Handle,
    pub(super) task: Task,
    pub(super) own: Own<Version>,
}

impl Caller for HandleCaller {
    async fn call(&mut self, call: Call, key: u32) -> Result<(), CallError> {
        let refused = |code: &str| CallError::Refused(code.to_owned());
        let mode = Mode::named(&self.task.mode).ok_or_else(|| refused("not_built"))?;
        let name = match call {
            Call::Swap => self.own.key(key),
            Call::Put | Call::Get | Call::Floor => self.task.key(key),
        };
        let name = Key::new(name).map_err(|_| refused("bad_key"))?;
        let value = || self.task.value.to_vec();
        let reply = match call {
            Call::Put => self.handle.put(name, value(), mode).await,
            Call::Get | Call::Floor => self.handle.get(name, mode).await,
            Call::Swap => {
                let seen = self.own.seen(key).copied();
                let condition = seen.map_or(Condition::Absent, Condition::Version);
                let value = Some(value());
                let reply = self.handle.compare_and_set(name, condition, value).await;
                let version = match &reply {
                    Ok(Reply::Written { version, .. }) => Some(*version),
                    Ok(Reply::Failed(RequestError::ConditionFailed { current })) => *current,
                    _ => None,
                };
                self.own.set(key, version);
                reply
            }
        };
        match reply {
            Ok(Reply::Written { .. } | Reply::Found { .. }) => Ok(()),
            Ok(Reply::Failed(error)) => Err(refused(code_of(&error))),
            Ok(_) => Err(refused("not_found")),
            Err(stopped) => Err(CallError::Unreachable(stopped.to_string())),
        }
    }
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// Calls a node by HTTP/1.1, on one connection that stays open.
pub(super) struct HttpCaller {
    sender: Option<Sender>,
    host: String,
    /// What the node wants to be shown, where it does.
    authorization: Option<String>,
    /// By their tags.
    own: Own<String>,
    task: Task,
}

impl HttpCaller {
    pub(super) fn new(host: String, token: Option<&Token>, task: Task) -> Self {
        Self {
            sender: None,
            host,
            authorization: token.map(|token| format!("Bearer {}", token.as_str())),
            own: Own::new(&task.prefix),
            task,
        }
    }

    async fn connect(&self) -> Result<Sender, String> {
        let stream = TcpStream::connect(&self.host).await;
        let stream = stream
            .map_err(|error| format!("{}: {error} (is a node's HTTP API there?)", self.host))?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(&self, call: Call, key: u32) -> Result<Request<Full<Bytes>>, String> {
        let (mode, value) = (&self.task.mode, self.task.value.clone());
        let path = |key: String| format!("/v1/kv/{key}?mode={mode}");
        let (method, path, body) = match call {
            Call::Put => ("PUT", path(self.task.key(key)), value),
            Call::Get => ("GET", path(self.task.key(key)), Bytes::new()),
            Call::Swap => ("PUT", path(self.own.key(key)), value),
            Call::Floor => ("GET", "/healthz".to_owned(), Bytes::new()),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if call == Call::Swap {
            request = match self.own.seen(key) {
                Some(tag) => request.header(header::IF_MATCH, tag),
                None => request.header(header::IF_NONE_MATCH, "*"),
            };
        }
        request
            .body(Full::new(body))
            .map_err(|error| error.to_string())
    }

    async fn exchange(&mut self, call: Call, key: u32) -> Result<Answer, String> {
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let sent = sender.send_request(self.request(call, key)?).await;
        let response = sent.map_err(|error| error.to_string())?;
        let (status, tag) = (response.status(), response.headers().get(header::ETAG));
        let tag = tag.and_then(|tag| Some(tag.to_str().ok()?.to_owned()));
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        self.sender = Some(sender);
        Ok(Answer { status, tag, body })
    }
}

/// What a node says.
struct Answer {
    status: StatusCode,
    tag: Option<String>,
    body: Bytes,
}

impl Caller for HttpCaller {
    async fn call(&mut self, call: Call, key: u32) -> Result<(), CallError> {
        let exchanged = self.exchange(call, key).await;
        let Answer { status, tag, body } = exchanged.map_err(CallError::Unreachable)?;
        if call == Call::Swap {
            self.own.set(key, tag);
        }
        match status.is_success() {
            true => Ok(()),
            false => Err(CallError::Refused(code_in(status, &body))),
        }
    }
}

/// The code of an error; of an answer without one, its status.
fn code_in(status: StatusCode, body: &[u8]) -> String {
    let json: Result<serde_json::Value, _> = serde_json::from_slice(body);
    let code = json
        .ok()
        .and_then(|json| Some(json["error"].as_str()?.to_owned()));
    code.unwrap_or_else(|| format!("http_{}", status.as_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_their_codes() {
        let full = br#"{"error":"full","message":"make room"}"#;
        assert_eq!(code_in(StatusCode::INSUFFICIENT_STORAGE, full), "full");
        assert_eq!(code_in(StatusCode::BAD_GATEWAY, b"<html>"), "http_502");
    }
}
