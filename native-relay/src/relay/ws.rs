//! `/ws`: one attached node or page, between its WebSocket and the hub.

use std::error::Error as _;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use roundelay_core::Lane;
use roundelay_core::hub::ConnectionId;
use roundelay_core::wire::FRAME_LEN_MAX;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};

use super::hub::{HubDoor, SocketOutlet, ToHub, ToSocket};
use crate::signalling::Lots;

/// A ping goes out this often, so that a living peer is never silent.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A peer that is silent for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// How long one write, or the peer's closing, may take.
const WRITE_TIMEOUT: Duration = SILENCE_MAX;
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Messages written before the socket is flushed.
const FLUSH_COUNT: usize = 64;
/// Bytes of each buffer of a socket: there may be thousands.
const BUFFER_BYTES: usize = 8 << 10;

/// Takes the upgrade, and serves the socket in a task of its own.
pub(super) fn upgrade(request: WebSocketUpgrade, door: HubDoor) -> Response {
    request
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_frame_size(FRAME_LEN_MAX)
        .max_message_size(FRAME_LEN_MAX)
        .on_upgrade(move |socket| serve(socket, door))
}

async fn serve(socket: WebSocket, door: HubDoor) {
    let connection = door.next_connection();
    let (messages, mut outgoing) = mpsc::unbounded_channel();
    let (pause, paused) = watch::channel(None);
    let outlet = SocketOutlet { messages, pause };
    if !door.tell(ToHub::Open { connection, outlet }).await {
        return;
    }
    let (mut sink, mut stream) = socket.split();
    let ended = tokio::select! {
        ended = read(connection, &mut stream, paused, &door) => ended,
        why = write(connection, &mut sink, &mut outgoing, &door) => Ended::Closing(why),
    };
    let last = async {
        let why = match ended {
            Ended::Gone => return,
            Ended::Left => {
                let _ = sink.close().await;
                return;
            }
            Ended::Closing(why) => why,
            Ended::Refused => refusal(&mut sink, &mut outgoing).await,
        };
        let frame = why.map(|why| CloseFrame {
            code: close_code::POLICY,
            reason: why.into(),
        });
        let _ = sink.send(Message::Close(frame)).await;
        while let Some(Ok(_)) = stream.next().await {}
    };
    let _ = timeout(CLOSE_TIMEOUT, last).await;
    door.tell(ToHub::Closed { connection }).await;
}

/// Why a connection ends.
enum Ended {
    /// The peer is silent or broke off, or the hub has stopped.
    Gone,
    /// The peer closed the connection, and waits for our word of it (RFC 6455,
    /// 5.5.1): without it Firefox takes the relay for faulty, and opens the
    /// page's next connection up to 0.4 s late.
    Left,
    /// It sent what is no message: the hub will say so.
    Refused,
    /// The hub closes it, with these words; or writing failed.
    Closing(Option<String>),
}

/// Writes what the hub sends until it closes; returns the words it closes
/// with.
async fn refusal(
    sink: &mut SplitSink<WebSocket, Message>,
    outgoing: &mut mpsc::UnboundedReceiver<ToSocket>,
) -> Option<String> {
    loop {
        match outgoing.recv().await? {
            ToSocket::Send(bytes) => sink.send(Message::Binary(bytes.into())).await.ok()?,
            ToSocket::Close(why) => return Some(why),
        }
    }
}

/// Hands the hub what comes in, until nothing more does.
async fn read(
    connection: ConnectionId,
    stream: &mut SplitStream<WebSocket>,
    paused: watch::Receiver<Option<Instant>>,
    door: &HubDoor,
) -> Ended {
    let mut silence = interval_at(Instant::now() + SILENCE_MAX / 2, SILENCE_MAX / 2);
    silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent_ticks = 0;
    loop {
        let until = *paused.borrow();
        if let Some(until) = until
            && until > Instant::now()
        {
            sleep_until(until).await;
        }
        let message = tokio::select! {
            message = stream.next() => message,
            _ = silence.tick() => {
                silent_ticks += 1;
                if silent_ticks > 1 {
                    return Ended::Gone;
                }
                continue;
            }
        };
        silent_ticks = 0;
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => Vec::from(bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_))) => return Ended::Left,
            None => return Ended::Gone,
            Some(Err(error)) if is_broken(&error) => return Ended::Gone,
            // A text, or what is too long for the WebSocket, is no message of
            // ours: the hub counts and refuses it as it does an empty one.
            Some(Ok(Message::Text(_)) | Err(_)) => {
                let bytes = Vec::new();
                door.tell(ToHub::Frame { connection, bytes }).await;
                return Ended::Refused;
            }
        };
        if !door.tell(ToHub::Frame { connection, bytes }).await {
            return Ended::Gone;
        }
    }
}

/// Whether the connection broke, rather than the peer the WebSocket's rules.
fn is_broken(error: &axum::Error) -> bool {
    let error = error.source().and_then(|error| error.downcast_ref());
    matches!(
        error,
        Some(
            tungstenite::Error::Io(_)
                | tungstenite::Error::ConnectionClosed
                | tungstenite::Error::AlreadyClosed
                | tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        )
    )
}

/// Writes what the hub sends, until it closes the connection; returns its
/// words for that.
async fn write(
    connection: ConnectionId,
    sink: &mut SplitSink<WebSocket, Message>,
    outgoing: &mut mpsc::UnboundedReceiver<ToSocket>,
    door: &HubDoor,
) -> Option<String> {
    let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lots = Lots::default();
    loop {
        let mut next = tokio::select! {
            message = outgoing.recv() => Some(message?),
            _ = ping.tick() => {
                sink.send(Message::Ping(Vec::new().into())).await.ok()?;
                continue;
            }
        };
        let mut count = 0;
        let mut drained = 0;
        while let Some(message) = next {
            let bytes = match message {
                ToSocket::Send(bytes) => bytes,
                ToSocket::Close(why) => return Some(why),
            };
            drained += lots.add(Lane::Kv, bytes.len()).unwrap_or_default();
            let fed = timeout(WRITE_TIMEOUT, sink.feed(Message::Binary(bytes.into())));
            fed.await.ok()?.ok()?;
            count += 1;
            next = (count < FLUSH_COUNT)
                .then(|| outgoing.try_recv().ok())
                .flatten();
        }
        timeout(WRITE_TIMEOUT, sink.flush()).await.ok()?.ok()?;
        if drained > 0 {
            let bytes = drained;
            door.tell(ToHub::Drained { connection, bytes }).await;
        }
    }
}
