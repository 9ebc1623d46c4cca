//! `POST /v1/evict/{id}`: an operator gives a voter up for lost.

use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use roundelay_core::NodeId;
use roundelay_core::kvs::Reply;

use super::error::{Refusal, answer};
use super::{Api, State, path};

pub(super) async fn evict(state: State, Path(id): Path<String>, request: Request) -> Response {
    let refused = path::no_query(request.uri());
    drop(request);
    let evicted = match refused {
        Ok(()) => evict_or_refuse(&state, &id).await,
        Err(refusal) => Err(refusal),
    };
    answer(&state, evicted)
}

async fn evict_or_refuse(api: &Api, id: &str) -> Result<Response, Refusal> {
    let id: NodeId = id.parse().map_err(|error| {
        Refusal::bad_id(format!(
            "{id:?} is no id: {error}; GET /v1/ring lists the members' ids"
        ))
    })?;
    match api.handle.evict(id).await? {
        Reply::Evicted => Ok(StatusCode::NO_CONTENT.into_response()),
        Reply::Missing => Err(Refusal::no_such_member()),
        Reply::Failed(error) => Err(error.into()),
        _ => Err(Refusal::internal()),
    }
}
