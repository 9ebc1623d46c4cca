//! The calls on one key.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use roundelay_core::kvs::{Key, Reply, Terms, VALUE_LEN_MAX, Version};
use tokio::sync::{OwnedSemaphorePermit, SemaphorePermit};

use super::error::{Refusal, answer};
use super::{Api, State, path};

/// A body must be here whole within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

const PREFIX: &str = "/v1/kv/";

/// `GET /v1/kv/{key}`
pub(super) async fn get(state: State, request: Request) -> Response {
    let target = target(&request);
    drop(request);
    answer(&state, get_or_refuse(&state, target).await)
}

/// `PUT /v1/kv/{key}`
pub(super) async fn put(state: State, request: Request) -> Response {
    let target = target(&request);
    answer(
        &state,
        put_or_refuse(&state, target, request.into_body()).await,
    )
}

/// `DELETE /v1/kv/{key}`
pub(super) async fn delete(state: State, request: Request) -> Response {
    let target = target(&request);
    drop(request);
    answer(&state, delete_or_refuse(&state, target).await)
}

/// What is asked for, or why not.
type Target = Result<(Key, Terms), Refusal>;

fn target(request: &Request) -> Target {
    let key = path::key(request.uri(), PREFIX)?;
    let terms = path::terms(request.uri(), request.headers())?;
    Ok((key, terms))
}

async fn get_or_refuse(api: &Api, target: Target) -> Result<Response, Refusal> {
    let (key, terms) = target?;
    if terms.condition.is_some() {
        let message = "a read takes no condition; leave If-Match and If-None-Match out";
        return Err(Refusal::bad_condition(message));
    }
    refuse_ttl(terms)?;
    let _permit = admit(api)?;
    match api.handle.get(key, terms.mode).await? {
        Reply::Found { value, version } => {
            let kind = HeaderValue::from_static("application/octet-stream");
            let headers = [(header::CONTENT_TYPE, kind), (header::ETAG, etag(version)?)];
            Ok((headers, value).into_response())
        }
        Reply::Missing => Err(Refusal::not_found()),
        Reply::Failed(error) => Err(error.into()),
        _ => Err(Refusal::internal()),
    }
}

async fn put_or_refuse(api: &Api, target: Target, body: Body) -> Result<Response, Refusal> {
    let (key, terms) = target?;
    let _permit = admit(api)?;
    let (value, _bytes) = read_body(api, body, VALUE_LEN_MAX).await?;
    let reply = api.handle.write(key, Some(value), terms).await;
    written(reply.map_err(Refusal::write_stopped)?)
}

async fn delete_or_refuse(api: &Api, target: Target) -> Result<Response, Refusal> {
    let (key, terms) = target?;
    refuse_ttl(terms)?;
    let _permit = admit(api)?;
    let reply = api.handle.write(key, None, terms).await;
    written(reply.map_err(Refusal::write_stopped)?)
}

fn refuse_ttl(terms: Terms) -> Result<(), Refusal> {
    let message = "only a PUT has a time to live; leave ttl out";
    terms.ttl.map_or(Ok(()), |_| Err(Refusal::bad_ttl(message)))
}

fn written(reply: Reply) -> Result<Response, Refusal> {
    match reply {
        Reply::Written { version, copies } => {
            let copies = HeaderValue::try_from(format!("{}/{}", copies.have, copies.of));
            let copies = copies.map_err(|_| Refusal::internal())?;
            let mut response = StatusCode::NO_CONTENT.into_response();
            let headers = response.headers_mut();
            headers.insert(header::ETAG, etag(version)?);
            headers.insert("roundelay-copies", copies);
            Ok(response)
        }
        Reply::Failed(error) => Err(error.into()),
        _ => Err(Refusal::internal()),
    }
}

fn etag(version: Version) -> Result<HeaderValue, Refusal> {
    HeaderValue::try_from(format!("\"{version}\"")).map_err(|_| Refusal::internal())
}

/// A place among the requests under way; it is given back when the answer is
/// ready.
pub(super) fn admit(api: &Api) -> Result<SemaphorePermit<'_>, Refusal> {
    api.requests.try_acquire().map_err(|_| Refusal::busy())
}

/// The whole body, and the room it takes up. What is too long is refused
/// without being read to its end.
pub(super) async fn read_body(
    api: &Api,
    body: Body,
    len_max: usize,
) -> Result<(Vec<u8>, OwnedSemaphorePermit), Refusal> {
    let hint = body.size_hint();
    let least = usize::try_from(hint.lower()).unwrap_or(usize::MAX);
    let too_long = || match len_max {
        VALUE_LEN_MAX => Refusal::too_large(),
        _ => Refusal::long_batch(len_max),
    };
    if least > len_max {
        return Err(too_long());
    }
    let most = hint.exact().map_or(len_max, |_| least);
    let permits = u32::try_from(most).map_err(|_| too_long())?;
    let room = Arc::clone(&api.body_bytes).try_acquire_many_owned(permits);
    let room = room.map_err(|_| Refusal::busy())?;
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, len_max));
    match read.await {
        Ok(Ok(bytes)) => Ok((bytes.into(), room)),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_long()),
        Ok(Err(_)) => Err(Refusal::bad_body("the body broke off; send it again")),
        Err(_) => Err(Refusal::body_timeout()),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}
