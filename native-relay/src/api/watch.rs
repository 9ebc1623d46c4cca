//! `GET /v1/watch/{key or bucket/}`: changes as server-sent events.
//!
//! A task asks the node for one piece of the watch after another, and hands their
//! events on one by one: nothing waits here but the piece that is being told. A
//! client that takes none of it for [`STALL`] is cut off; the token it had last
//! says where it goes on.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use roundelay_core::kvs::{News, Reply, Watch};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::error::{Refusal, answer};
use super::{Api, State, path};
use crate::handle::Handle;

/// Clients that watch at once; beyond them `503 busy` is the answer.
pub const WATCHERS_MAX: usize = 1024;

/// How long a client may take nothing.
const STALL: Duration = Duration::from_secs(30);

/// How long to wait after a piece that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// How often something is sent at least, so that nobody on the way takes the
/// connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const PREFIX: &str = "/v1/watch/";

/// The way from the task to the client.
type Events = mpsc::Sender<Event>;

pub(super) async fn watch(state: State, request: Request) -> Response {
    let asked = asked(&request);
    drop(request);
    answer(&state, asked.and_then(|watch| begin(&state, watch)))
}

/// What is to be watched, and from where.
fn asked(request: &Request) -> Result<Watch, Refusal> {
    path::no_query(request.uri())?;
    let encoded = request.uri().path().strip_prefix(PREFIX);
    let target = path::text(encoded.unwrap_or_default());
    let target = target.map_err(|flaw| Refusal::bad_key(flaw.of("key")))?;
    let watch = Watch::new(&target);
    let watch = watch.map_err(|error| Refusal::bad_key(error.to_string()))?;
    match last_id(request.headers()) {
        None => Ok(watch),
        Some(text) => text
            .parse()
            .map(|token| watch.with_token(token))
            .map_err(|error| Refusal::bad_cursor(format!("Last-Event-ID: {error}"))),
    }
}

/// An empty one is none.
fn last_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get("last-event-id")?;
    Some(id.to_str().unwrap_or("?")).filter(|id| !id.is_empty())
}

fn begin(api: &Api, watch: Watch) -> Result<Response, Refusal> {
    let place = api.watchers.clone().try_acquire_owned();
    let place = place.map_err(|_| Refusal::busy())?;
    let (events, told) = mpsc::channel(1);
    let (handle, stopped) = (api.handle.clone(), api.stopped.clone());
    tokio::spawn(tell(handle, watch, events, (place, stopped)));
    let told = stream::unfold(told, async |mut told| {
        let event: Event = told.recv().await?;
        Some((Ok::<_, Infallible>(event), told))
    });
    let alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(told).keep_alive(alive).into_response())
}

/// Tells a client what it watches, until it has gone, or the node stops.
async fn tell(
    handle: Handle,
    watch: Watch,
    events: Events,
    (_place, mut stopped): (OwnedSemaphorePermit, watch::Receiver<bool>),
) {
    tokio::select! {
        () = events.closed() => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = go_on(handle, watch, &events) => {}
    }
}

async fn go_on(handle: Handle, mut watch: Watch, events: &Events) {
    let mut last = None;
    loop {
        match handle.watch(watch.clone()).await {
            Ok(Reply::Watched(news)) => {
                let token = news.token.clone();
                if last.as_ref() != Some(&token) && !hand_on(news, events).await {
                    return;
                }
                watch = watch.with_token(token.clone());
                last = Some(token);
            }
            // Voters may be away: the token stays good, or a reset follows.
            Ok(Reply::Failed(_)) => tokio::time::sleep(PAUSE).await,
            Ok(_) | Err(_) => return,
        }
    }
}

/// Returns whether the client has taken all.
async fn hand_on(news: News, events: &Events) -> bool {
    for event in told(&news) {
        let taken = tokio::time::timeout(STALL, events.send(event)).await;
        if !matches!(taken, Ok(Ok(()))) {
            return false;
        }
    }
    true
}

#[derive(Serialize)]
struct Told<'a> {
    key: &'a str,
    version: String,
    deleted: bool,
}

/// The events of a piece; the token comes with the last, so that whoever missed
/// a part is told it again.
fn told(news: &News) -> Vec<Event> {
    let reset = news
        .reset
        .then(|| Event::default().event("reset").data("{}"));
    let changes = news.changes.iter().map(|change| {
        let told = Told {
            key: change.key.as_str(),
            version: change.version.to_string(),
            deleted: change.deleted,
        };
        // A key, a version and a truth value are JSON.
        let json = serde_json::to_string(&told).unwrap_or_default();
        Event::default().event("change").data(json)
    });
    let mut events: Vec<Event> = reset.into_iter().chain(changes).collect();
    let last = events.pop().unwrap_or_default();
    events.push(last.id(news.token.to_string()));
    events
}
