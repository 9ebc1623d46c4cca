//! gord-overlay's REST interface, so that programs written for it run unchanged:
//! `POST /server.ExternalService/{PutValue,GetValue,DeleteValue,FindHostForKey}`, in
//! the JSON that Connect (connectrpc.com) speaks.
//!
//! Keys and values are texts, read and written in mode `quorum`; a key is one of the
//! store's as it is. Only JSON is taken, which no page of another origin can send.

use std::net::IpAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use roundelay_core::kvs::{Key, Mode, Reply, RequestError};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::api::serve_router;
use crate::handle::Handle;

/// Bytes of a request: a value of 1 MiB whose every byte is escaped.
const BODY_BYTES_MAX: usize = 7 << 20;

/// Serves the interface from now on, until the process ends. `literal_errors`: a
/// missing key is the error that gord-overlay makes of it, not the one that it means.
pub(crate) fn serve(listener: TcpListener, handle: Handle, literal_errors: bool) {
    let gord = Gord {
        handle,
        literal_errors,
    };
    let router = Router::new()
        .route("/server.ExternalService/{method}", post(call))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(gord);
    tokio::spawn(serve_router(listener, router, std::future::pending()));
}

#[derive(Clone, Debug)]
struct Gord {
    handle: Handle,
    literal_errors: bool,
}

/// What any of the calls is told; protojson's missing text is an empty one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Request {
    key: String,
    value: String,
}

/// What any of them answers, in the order of protojson, which leaves out what is empty.
#[derive(Debug, Default, Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    success: bool,
}

/// An error, by Connect's codes.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "code": self.code, "message": self.message });
        (self.status, json(&body)).into_response()
    }
}

impl Refusal {
    fn argument(message: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "invalid_argument",
            message,
        }
    }

    fn unavailable(message: String) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "unavailable",
            message,
        }
    }
}

async fn call(
    State(gord): State<Gord>,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !text(header::HOST).is_none_or(is_local) {
        let words = "by this name nobody is served here; use 127.0.0.1 or localhost\n";
        return (StatusCode::FORBIDDEN, words).into_response();
    }
    let kind = text(header::CONTENT_TYPE).and_then(|kind| kind.split(';').next());
    if kind.map(str::trim) != Some("application/json") {
        let takes = HeaderValue::from_static("application/json");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return (status, [("accept-post", takes)]).into_response();
    }
    if !["PutValue", "GetValue", "DeleteValue", "FindHostForKey"].contains(&method.as_str()) {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    match gord.answer(&method, &body).await {
        Ok(answer) => json(&answer).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

impl Gord {
    async fn answer(&self, method: &str, body: &[u8]) -> Result<Answer, Refusal> {
        let unmarshal = |words: &str| Refusal::argument(format!("unmarshal message: {words}"));
        if body.is_empty() {
            return Err(unmarshal("zero-length payload is not a valid JSON object"));
        }
        let request: Request =
            serde_json::from_slice(body).map_err(|error| unmarshal(&error.to_string()))?;
        let key = Key::new(request.key);
        let key = key.map_err(|error| Refusal::argument(error.to_string()))?;
        match method {
            "PutValue" => self.write(key, Some(request.value.into_bytes())).await,
            "GetValue" => {
                let value = self.read(key).await?;
                let value = String::from_utf8(value);
                let value = value.map_err(|_| {
                    Refusal::argument("the value is no text; read it by the node's own API".into())
                })?;
                Ok(Answer {
                    value,
                    success: true,
                    ..Answer::default()
                })
            }
            "DeleteValue" => {
                self.read(key.clone()).await?;
                self.write(key, None).await
            }
            _ => self.find_host(key).await,
        }
    }

    async fn read(&self, key: Key) -> Result<Vec<u8>, Refusal> {
        match self.handle.get(key, Mode::Quorum).await {
            Ok(Reply::Found { value, .. }) => Ok(value),
            Ok(Reply::Missing) => Err(self.not_found()),
            Ok(Reply::Failed(error)) => Err(failed(&error)),
            Ok(_) | Err(_) => Err(Refusal::unavailable("this node has stopped".to_owned())),
        }
    }

    async fn write(&self, key: Key, value: Option<Vec<u8>>) -> Result<Answer, Refusal> {
        match self.handle.write(key, value, Mode::Quorum.into()).await {
            Ok(Reply::Written { .. }) => Ok(Answer {
                success: true,
                ..Answer::default()
            }),
            Ok(Reply::Failed(error)) => Err(failed(&error)),
            Ok(_) | Err(_) => Err(Refusal::unavailable("this node has stopped".to_owned())),
        }
    }

    /// The first voter's name, which gord's hosts are; else its id.
    async fn find_host(&self, key: Key) -> Result<Answer, Refusal> {
        let stopped = |_| Refusal::unavailable("this node has stopped".to_owned());
        let location = self.handle.locate(key).await.map_err(stopped)?;
        let Some(first) = location.voters.first() else {
            return Err(Refusal::unavailable(
                "this node is in no ring yet".to_owned(),
            ));
        };
        let ring = self.handle.ring().await.map_err(stopped)?;
        let member = ring.members.into_iter().find(|member| member.id == *first);
        let name = member
            .map(|member| member.name)
            .filter(|name| !name.is_empty());
        Ok(Answer {
            host: name.unwrap_or_else(|| first.to_string()),
            ..Answer::default()
        })
    }

    fn not_found(&self) -> Refusal {
        let (status, code) = match self.literal_errors {
            true => (StatusCode::INTERNAL_SERVER_ERROR, "unknown"),
            false => (StatusCode::NOT_FOUND, "not_found"),
        };
        let message = "NotFound".to_owned();
        Refusal {
            status,
            code,
            message,
        }
    }
}

/// Whether a host is this machine: a name that leads here may be another page's.
fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse();
    name == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

fn failed(error: &RequestError) -> Refusal {
    let (status, code, message) = match error {
        RequestError::TooLarge => return Refusal::argument("a value has at most 1 MiB".to_owned()),
        RequestError::OutcomeUnknown => (
            StatusCode::GATEWAY_TIMEOUT,
            "deadline_exceeded",
            "it is unknown whether this was done; read the key",
        ),
        RequestError::Busy | RequestError::Full => (
            StatusCode::TOO_MANY_REQUESTS,
            "resource_exhausted",
            "too much at once, or the disk is full; try again later",
        ),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "nothing was done: too few of the key's voters can be reached",
        ),
    };
    Refusal {
        status,
        code,
        message: message.to_owned(),
    }
}

fn json<T: Serialize>(body: &T) -> impl IntoResponse + use<T> {
    // Texts and truths cannot fail to be written.
    let text = serde_json::to_string(body).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text)
}
