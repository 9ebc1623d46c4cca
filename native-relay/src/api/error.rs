//! Refusals: a status, a code for programs, a message for people.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use roundelay_core::NodeId;
use roundelay_core::kvs::{RequestError, VALUE_LEN_MAX, Version};
use serde::Serialize;
use serde_json::{Map, Value};

use super::State;
use crate::handle::Stopped;

/// Why a request is not served.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    message: String,
    missing: Vec<NodeId>,
    /// The version that a condition met.
    current: Option<Version>,
    /// The body was not read to its end: the connection is of no use.
    close: bool,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            missing: Vec::new(),
            current: None,
            close: false,
        }
    }

    pub(super) fn bad_key(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_key", message)
    }

    pub(super) fn bad_bucket(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_bucket", message)
    }

    pub(super) fn bad_cursor(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_cursor", message)
    }

    pub(super) fn bad_limit(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_limit", message)
    }

    pub(super) fn bad_ttl(message: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_ttl", message.to_string())
    }

    pub(super) fn bad_mode(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_mode", message)
    }

    pub(super) fn bad_condition(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_condition", message)
    }

    pub(super) fn bad_query(name: &str) -> Self {
        let message = format!("the query parameter {name:?} means nothing here; leave it out");
        Self::new(StatusCode::BAD_REQUEST, "bad_query", message)
    }

    pub(super) fn bad_body(message: impl Into<String>) -> Self {
        Self {
            close: true,
            ..Self::new(StatusCode::BAD_REQUEST, "bad_body", message)
        }
    }

    pub(super) fn bad_line(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_line", message)
    }

    pub(super) fn long_batch(most: usize) -> Self {
        let message = format!("not applied: a batch has at most {most} bytes; send several");
        Self {
            close: true,
            ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
        }
    }

    pub(super) fn too_many_lines(most: usize) -> Self {
        let message = format!("not applied: a batch has at most {most} lines; send several");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn body_timeout() -> Self {
        let message = "the body did not come in time; not applied, send it again";
        Self {
            close: true,
            ..Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
        }
    }

    pub(super) fn too_large() -> Self {
        let message = format!("not applied: a value holds at most {VALUE_LEN_MAX} bytes");
        Self {
            close: true,
            ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
        }
    }

    pub(super) fn busy() -> Self {
        RequestError::Busy.into()
    }

    pub(super) fn not_found() -> Self {
        let message = "there is no value under this key; put one first";
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn bad_id(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_id", message)
    }

    pub(super) fn no_such_member() -> Self {
        let message = "this ring has no such member; GET /v1/ring lists those that live";
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn not_ready(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
    }

    pub(super) fn foreign_host(host: &str) -> Self {
        let message = format!(
            "this node does not answer to the name {host:?}; use its listen address, or start it with --allow-host"
        );
        Self::new(StatusCode::MISDIRECTED_REQUEST, "foreign_host", message)
    }

    pub(super) fn unauthorized() -> Self {
        let message = "send the node's token: Authorization: Bearer TOKEN (its --token-file)";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// The driver broke its word, which is a bug of ours.
    pub(super) fn internal() -> Self {
        let message = "the node answered what was not asked; please report this";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// The node stopped during a write.
    pub(super) fn write_stopped(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Before => stopped.into(),
            Stopped::During => RequestError::OutcomeUnknown.into(),
        }
    }

    /// Counts the refusal, and says it as a part of an answer.
    pub(super) fn told(self, counters: &Counters) -> Map<String, Value> {
        counters.count(self.code);
        let told = serde_json::to_value(self.body());
        let mut told = match told {
            Ok(Value::Object(told)) => told,
            _ => Map::new(),
        };
        told.insert("status".into(), self.status.as_u16().into());
        if let Some(current) = self.current {
            told.insert("version".into(), current.to_string().into());
        }
        told
    }

    fn body(&self) -> Body<'_> {
        Body {
            error: self.code,
            message: &self.message,
            missing: self.missing.iter().map(NodeId::to_string).collect(),
        }
    }

    /// Counts the refusal and says it.
    pub(super) fn answer(self, counters: &Counters) -> Response {
        counters.count(self.code);
        let mut response = json(&self.body());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if self.code == "busy" {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(current) = self.current
            && let Ok(etag) = HeaderValue::try_from(format!("\"{current}\""))
        {
            headers.insert(header::ETAG, etag);
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// How a failed request is told: the status and the code.
fn told(error: &RequestError) -> (StatusCode, &'static str) {
    match error {
        RequestError::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        RequestError::OutcomeUnknown => (StatusCode::GATEWAY_TIMEOUT, "outcome_unknown"),
        RequestError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        RequestError::Full => (StatusCode::INSUFFICIENT_STORAGE, "full"),
        RequestError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        RequestError::NotJoined => (StatusCode::SERVICE_UNAVAILABLE, "not_joined"),
        RequestError::ConditionFailed { .. } => {
            (StatusCode::PRECONDITION_FAILED, "condition_failed")
        }
        RequestError::Conflict => (StatusCode::CONFLICT, "conflict"),
        RequestError::Answers => (StatusCode::CONFLICT, "still_answers"),
    }
}

/// The code of a failed request, as the API tells it.
pub(crate) fn code_of(error: &RequestError) -> &'static str {
    told(error).1
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let (status, code) = told(&error);
        let mut refusal = Self::new(status, code, error.to_string());
        match error {
            RequestError::Unavailable { missing } => refusal.missing = missing,
            RequestError::ConditionFailed { current } => refusal.current = current,
            _ => {}
        }
        refusal
    }
}

impl From<Stopped> for Refusal {
    fn from(stopped: Stopped) -> Self {
        let message = format!("{stopped}; start it again");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopped", message)
    }
}

/// Any value as a JSON answer.
pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let kind = HeaderValue::from_static("application/json");
            ([(header::CONTENT_TYPE, kind)], body).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A path that is none of ours.
pub(super) async fn no_such_path(state: State) -> Response {
    let message = "there is no such call; /openapi.json lists them";
    Refusal::new(StatusCode::NOT_FOUND, "no_such_path", message).answer(&state.counters)
}

/// A path of ours, but another method.
pub(super) async fn method_not_allowed(state: State, headers: HeaderMap) -> Response {
    let message = match headers.contains_key(header::ORIGIN) {
        true => "this path has no such method, and pages of other origins may not call this node",
        false => "this path has no such method; the Allow header lists those it has",
    };
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Refusal::new(status, "method_not_allowed", message).answer(&state.counters)
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// How often each refusal was given.
#[derive(Debug)]
pub(super) struct Counters {
    by_code: BTreeMap<&'static str, AtomicU64>,
}

/// Every code there is.
const CODES: [&str; 27] = [
    "bad_body",
    "bad_bucket",
    "bad_condition",
    "bad_cursor",
    "bad_key",
    "bad_limit",
    "bad_line",
    "bad_mode",
    "bad_query",
    "bad_ttl",
    "body_timeout",
    "busy",
    "condition_failed",
    "conflict",
    "foreign_host",
    "full",
    "internal",
    "method_not_allowed",
    "no_such_path",
    "not_found",
    "not_joined",
    "not_ready",
    "outcome_unknown",
    "stopped",
    "too_large",
    "unauthorized",
    "unavailable",
];

impl Default for Counters {
    fn default() -> Self {
        let by_code = CODES.map(|code| (code, AtomicU64::new(0))).into();
        Self { by_code }
    }
}

impl Counters {
    fn count(&self, code: &str) {
        if let Some(counter) = self.by_code.get(code) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every code and its count.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.by_code
            .iter()
            .map(|(code, count)| (*code, count.load(Ordering::Relaxed)))
    }
}

/// The answer of a handler that may refuse.
pub(super) fn answer(api: &Arc<super::Api>, result: Result<Response, Refusal>) -> Response {
    result.unwrap_or_else(|refusal| refusal.answer(&api.counters))
}
