//! The calls that tell how the node and its ring are.

use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use roundelay_core::status::LinkStatus;
use serde::Serialize;

use super::error::{Refusal, answer, json};
use super::{Api, State, path};

/// What is built, in OpenAPI's words.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// `GET /v1/status`
pub(super) async fn status(state: State, uri: Uri) -> Response {
    let told = async {
        path::no_query(&uri)?;
        Ok(json(&state.handle.status().await?))
    };
    answer(&state, told.await)
}

/// `GET /v1/ring`
pub(super) async fn ring(state: State, uri: Uri) -> Response {
    let told = async {
        path::no_query(&uri)?;
        Ok(json(&state.handle.ring().await?))
    };
    answer(&state, told.await)
}

/// `GET /v1/peers`
pub(super) async fn peers(state: State, uri: Uri) -> Response {
    let told = async {
        path::no_query(&uri)?;
        let status = state.handle.status().await?;
        Ok(json(&Peers {
            peers: status.links,
        }))
    };
    answer(&state, told.await)
}

/// `GET /v1/locate/{key}`
pub(super) async fn locate(state: State, uri: Uri) -> Response {
    let told = async {
        path::no_query(&uri)?;
        let key = path::key(&uri, "/v1/locate/")?;
        Ok(json(&state.handle.locate(key).await?))
    };
    answer(&state, told.await)
}

/// `GET /openapi.json`
pub(super) async fn openapi() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], OPENAPI).into_response()
}

/// `GET /healthz`: the process serves requests.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the node does its work.
pub(super) async fn readyz(state: State) -> Response {
    answer(&state, ready(&state).await)
}

async fn ready(api: &Api) -> Result<Response, Refusal> {
    let status = api.handle.status().await?;
    if status.ready {
        return Ok("ready\n".into_response());
    }
    Err(Refusal::not_ready(match status.ring_id {
        None => "this node is in no ring yet; /v1/status shows its relays",
        Some(_) => "this node still fetches records that it votes on; wait",
    }))
}

#[derive(Serialize)]
struct Peers {
    peers: Vec<LinkStatus>,
}
