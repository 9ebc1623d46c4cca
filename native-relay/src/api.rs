//! The node's HTTP API: DESIGN 7's calls over a [`Handle`].
//!
//! `openapi.json` beside this file describes exactly what is built; a test
//! holds the two together. A request passes the `guard` (who asks, and under
//! which name), then its handler. Every error is JSON (`error`).

mod batch;
mod error;
mod evict;
mod guard;
mod info;
mod kv;
mod list;
mod metrics;
mod path;
mod serve;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post, put};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use self::batch::{BATCH_BYTES_MAX, BATCH_LINES_MAX};
pub(crate) use self::error::code_of;
pub use self::guard::{Token, TokenError};
pub(crate) use self::metrics::node_metrics;
pub use self::serve::{CONNECTIONS_MAX, GRACE, serve_router};
pub use self::watch::WATCHERS_MAX;

use self::error::Counters;
use self::guard::Guard;
use crate::handle::Handle;

/// Key requests that are worked on at once; beyond them `503 busy` is the
/// answer, at once.
pub const REQUESTS_MAX: usize = 1024;

/// Bytes of request bodies held at once; beyond them `503 busy` likewise.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Who may use the API, and under which names.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Names under which it may be reached besides the listen address:
    /// `name` or `name:port`.
    pub allow_hosts: Vec<String>,
    /// The bearer token that every request must carry, health checks
    /// excepted. Must be there where the listener is not on loopback; `serve`
    /// does not check that, [`HttpConfig`](crate::config::HttpConfig) does.
    pub token: Option<Token>,
}

/// Serves the API until `shutdown` is ready; then requests under way have
/// [`GRACE`] to end.
///
/// # Errors
/// When the listener's own address cannot be read.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let router = router(handle, options, (listener.local_addr()?, stopped));
    // What is watched ends by itself only then.
    let shutdown = async move {
        shutdown.await;
        let _ = stop.send(true);
    };
    serve_router(listener, router, shutdown).await;
    Ok(())
}

/// The API as a router, for a listener at this address, until it is stopped.
fn router(handle: Handle, options: Options, (listen, stopped): (SocketAddr, Stopped)) -> Router {
    let api = Api {
        handle,
        counters: Counters::default(),
        requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
        body_bytes: Arc::new(Semaphore::new(BODY_BYTES_MAX)),
        watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
        stopped,
        guard: Guard::new(listen, options),
    };
    let api = Arc::new(api);
    let mut router = Router::new();
    for (_, path, handler) in routes() {
        router = router.route(path, handler);
    }
    router
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&api), guard::check))
        .with_state(api)
}

/// What handlers share.
pub(crate) struct Api {
    handle: Handle,
    counters: Counters,
    requests: Arc<Semaphore>,
    body_bytes: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    stopped: Stopped,
    guard: Guard,
}

/// Whether the API is being shut down.
type Stopped = tokio::sync::watch::Receiver<bool>;

type State = axum::extract::State<Arc<Api>>;

/// Every call: its method, its path (a `{*key}` holds the rest of it), its
/// handler.
fn routes() -> Vec<(&'static str, &'static str, MethodRouter<Arc<Api>>)> {
    vec![
        ("get", "/v1/kv/{*key}", get(kv::get)),
        ("put", "/v1/kv/{*key}", put(kv::put)),
        ("delete", "/v1/kv/{*key}", delete(kv::delete)),
        // The empty key, which a wildcard does not match; nor the empty bucket.
        ("get", "/v1/kv/", get(kv::get)),
        ("put", "/v1/kv/", put(kv::put)),
        ("delete", "/v1/kv/", delete(kv::delete)),
        ("post", "/v1/batch", post(batch::batch)),
        ("get", "/v1/locate/{*key}", get(info::locate)),
        ("get", "/v1/status", get(info::status)),
        ("get", "/v1/ring", get(info::ring)),
        ("get", "/v1/peers", get(info::peers)),
        ("get", "/v1/list/{*bucket}", get(list::list)),
        ("get", "/v1/list/", get(list::list)),
        ("get", "/v1/watch/{*key}", get(watch::watch)),
        ("get", "/v1/watch/", get(watch::watch)),
        ("post", "/v1/evict/{id}", post(evict::evict)),
        ("get", "/openapi.json", get(info::openapi)),
        ("get", "/healthz", get(info::healthz)),
        ("get", "/readyz", get(info::readyz)),
        ("get", "/metrics", get(metrics::metrics)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    #[test]
    fn openapi_describes_every_route_and_no_other() {
        let api: Value = serde_json::from_str(super::info::OPENAPI).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in api["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                if method != "parameters" {
                    described.insert((method.clone(), path.clone()));
                }
            }
        }
        let routed = super::routes()
            .into_iter()
            // OpenAPI knows no wildcard; and what is empty is bad.
            .map(|(method, path, _)| (method.to_owned(), path.replace("{*", "{")))
            .filter(|(_, path)| !["/v1/kv/", "/v1/list/", "/v1/watch/"].contains(&path.as_str()))
            .collect();
        assert_eq!(described, routed);
    }
}
