//! The loop that accepts connections: HTTP/1.1 and h2c on one port.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::watch::WATCHERS_MAX;

/// Connections open at once; further ones wait in the system's queue. Those of
/// watchers stay, and leave as many to all others.
pub const CONNECTIONS_MAX: usize = 2 * WATCHERS_MAX;

/// Requests under way at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;

/// A request's head must be here within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of a request's head: a key of 1 KiB, percent-encoded, and
/// some headers. hyper answers 431 beyond it.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long requests under way may go on after a shutdown.
pub const GRACE: Duration = Duration::from_secs(5);

/// Serves a router until `shutdown` is ready; then requests under way have
/// [`GRACE`] to end. Binding is the caller's.
pub async fn serve_router(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let builder = Arc::new(builder());
    let open = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &open) => accepted,
        };
        let Some((stream, place)) = accepted else {
            continue;
        };
        let builder = Arc::clone(&builder);
        let service = TowerToHyperService::new(router.clone());
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            // Its errors are the client's: a broken connection, bad HTTP.
            if let Err(error) = watcher.watch(connection.into_owned()).await {
                tracing::debug!(%error, "an HTTP connection ended badly");
            }
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}

/// The next connection, once there is a place for it; `None` after an error,
/// which concerns that connection, or passes.
async fn accept(
    listener: &TcpListener,
    open: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(open).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small, and asked for one at a time.
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            // Out of file descriptors, most likely: let some close.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_secs(30));
    builder
}
