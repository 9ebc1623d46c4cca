//! Those who call a node: by its handle, or by HTTP.

use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use roundelay_core::kvs::{Key, Mode, Reply};
use tokio::net::TcpStream;

use crate::api::{Token, code_of};
use crate::bench::load::{Call, CallError, Caller};
use crate::handle::Handle;

/// What every call is made of.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) mode: String,
    pub(super) value: Bytes,
}

fn key_of(number: u32) -> String {
    // Without a slash: each is a bucket, and lies in a slot of its own.
    format!("bench-{number}")
}

/// Calls a node of this process.
pub(super) struct HandleCaller {
    pub(super) handle: Handle,
    pub(super) task: Task,
}

impl Caller for HandleCaller {
    async fn call(&mut self, call: Call, key: u32) -> Result<(), CallError> {
        let refused = |code: &str| CallError::Refused(code.to_owned());
        let mode = Mode::named(&self.task.mode).ok_or_else(|| refused("not_built"))?;
        let key = Key::new(key_of(key)).map_err(|_| refused("bad_key"))?;
        let reply = match call {
            Call::Put => {
                let value = self.task.value.to_vec();
                self.handle.put(key, value, mode).await
            }
            Call::Get | Call::Floor => self.handle.get(key, mode).await,
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
    task: Task,
}

impl HttpCaller {
    pub(super) fn new(host: String, token: Option<&Token>, task: Task) -> Self {
        Self {
            sender: None,
            host,
            authorization: token.map(|token| format!("Bearer {}", token.as_str())),
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
        let path = || format!("/v1/kv/{}?mode={}", key_of(key), self.task.mode);
        let (method, path, body) = match call {
            Call::Put => ("PUT", path(), self.task.value.clone()),
            Call::Get => ("GET", path(), Bytes::new()),
            Call::Floor => ("GET", "/healthz".to_owned(), Bytes::new()),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        request
            .body(Full::new(body))
            .map_err(|error| error.to_string())
    }

    async fn exchange(&mut self, call: Call, key: u32) -> Result<(StatusCode, Bytes), String> {
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let sent = sender.send_request(self.request(call, key)?).await;
        let response = sent.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| error.to_string())?;
        self.sender = Some(sender);
        Ok((status, body.to_bytes()))
    }
}

impl Caller for HttpCaller {
    async fn call(&mut self, call: Call, key: u32) -> Result<(), CallError> {
        let exchanged = self.exchange(call, key).await;
        let (status, body) = exchanged.map_err(CallError::Unreachable)?;
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
