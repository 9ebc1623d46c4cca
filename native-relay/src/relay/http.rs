//! What a relay serves on `--listen`.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::hub::HubDoor;
use super::info::Info;
use super::{page, ws};
use crate::api;
use crate::handle::Handle;

/// What handlers share.
#[derive(Debug)]
pub(super) struct Relay {
    info: Info,
    door: HubDoor,
    /// Its own members, the first network's first.
    members: Vec<Handle>,
}

type Shared = State<Arc<Relay>>;

impl Relay {
    pub(super) fn new(info: Info, door: HubDoor, members: Vec<Handle>) -> Self {
        Self {
            info,
            door,
            members,
        }
    }
}

/// All calls.
pub(super) fn router(relay: Relay) -> Router {
    Router::new()
        .route("/ws", get(attach))
        .route("/info", get(info))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(page::serve)
        .with_state(Arc::new(relay))
}

async fn attach(
    State(relay): Shared,
    request: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    match request {
        Ok(request) => ws::upgrade(request, relay.door.clone()),
        Err(rejection) => {
            let words = "here nodes and pages attach by WebSocket; open / in a browser\n";
            (rejection.into_response().status(), words).into_response()
        }
    }
}

/// Pages of other origins may name this relay, so all may read this.
async fn info(State(relay): Shared, headers: HeaderMap) -> Response {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let body = relay
        .info
        .answer(host)
        .map(|answer| serde_json::to_vec(&answer));
    match body {
        Some(Ok(body)) => {
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::CACHE_CONTROL, "no-cache"),
                (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            ];
            (headers, body).into_response()
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(relay): Shared) -> Response {
    for member in &relay.members {
        if !member.status().await.is_ok_and(|status| status.ready) {
            let words = "a member of this relay is in no ring yet, or still fetches records\n";
            return (StatusCode::SERVICE_UNAVAILABLE, words).into_response();
        }
    }
    "ready\n".into_response()
}

async fn metrics(State(relay): Shared) -> Response {
    let mut text = String::new();
    if let Some(Ok(status)) = match relay.members.first() {
        Some(first) => Some(first.status().await),
        None => None,
    } {
        text = api::node_metrics(&status);
    }
    let figures = relay.door.figures().await;
    text.push_str("# HELP roundelay_hub_connections Nodes and pages attached now.\n");
    text.push_str("# TYPE roundelay_hub_connections gauge\n");
    // Writing to a string does not fail.
    let _ = writeln!(text, "roundelay_hub_connections {}", figures.attached);
    for (name, value) in figures.counters {
        let _ = writeln!(text, "# TYPE roundelay_hub_{name}_total counter");
        let _ = writeln!(text, "roundelay_hub_{name}_total {value}");
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
