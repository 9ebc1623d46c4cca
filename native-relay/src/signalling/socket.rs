//! One WebSocket to a relay (RFC 6455), from dialling to its end.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use roundelay_core::wire::FRAME_LEN_MAX;
use roundelay_core::{Input, LinkId};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{Lots, Outgoing};

/// How long resolving, connecting and upgrading may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// A ping goes out this often, so that a living relay is never silent.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A relay that is silent for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// A path that acknowledges nothing of what was sent for so long is dialled
/// anew (RFC 5482): TCP waits twice as long each time before it tries again,
/// and would sleep on for as long as a network was parted once that is whole.
#[cfg(target_os = "linux")]
const DEAF_MAX: Duration = Duration::from_secs(8);
/// How long the relay may take to close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Messages written before the socket is flushed.
const FLUSH_COUNT: usize = 64;
/// Bytes of each buffer of a socket.
const BUFFER_BYTES: usize = 16 << 10;

type Socket = WebSocketStream<TcpStream>;

/// Why a relay cannot be reached. Core's words before it name the URL.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(
        "wss:// is not built yet: use ws://, or a local proxy that speaks TLS in this node's place"
    )]
    Tls,
    #[error("this is no URL of a relay")]
    Url,
    #[error("no address is known for {0:?} (is the name right, and this machine online?)")]
    Unknown(String),
    #[error("connection refused (is a relay running there?)")]
    Refused,
    #[error("no answer within {} s (is the address right, and no firewall between?)", CONNECT_TIMEOUT.as_secs())]
    Slow,
    #[error("cannot connect: {0}")]
    Io(io::Error),
    #[error("there is a web server, but no relay: it answered {0}")]
    NoRelay(u16),
    #[error("what answers there is no relay: {0}")]
    Protocol(Box<tungstenite::Error>),
}

/// Runs a link from dialling to its end, of which it tells, unless it was hung
/// up: then nobody asks.
pub(super) async fn run(
    link: LinkId,
    url: String,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    inputs: mpsc::Sender<Input>,
) {
    let dialled = tokio::select! {
        dialled = timeout(CONNECT_TIMEOUT, dial(&url)) => dialled.unwrap_or(Err(DialError::Slow)),
        // Core sends nothing before the link is up: it hung up.
        _ = outgoing.recv() => return,
    };
    let reason = match dialled {
        Err(error) => error.to_string(),
        Ok(socket) => {
            if inputs.send(Input::LinkUp { link }).await.is_err() {
                return;
            }
            let (mut sink, mut stream) = socket.split();
            tokio::select! {
                reason = read(link, &mut stream, &inputs) => reason,
                written = write(link, &mut sink, &mut outgoing, &inputs) => match written {
                    Err(error) => format!("cannot send: {error}"),
                    Ok(()) => {
                        let _ = timeout(CLOSE_TIMEOUT, end(&mut sink, &mut stream)).await;
                        return;
                    }
                }
            }
        }
    };
    let _ = inputs.send(Input::LinkDown { link, reason }).await;
}

async fn dial(url: &str) -> Result<Socket, DialError> {
    if url.starts_with("wss:") {
        return Err(DialError::Tls);
    }
    let request = url.into_client_request().map_err(|_| DialError::Url)?;
    let uri = request.uri();
    let host = uri.host().ok_or(DialError::Url)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = lookup_host((host, uri.port_u16().unwrap_or(80))).await;
    let addresses: Vec<SocketAddr> = found.map_or_else(|_| Vec::new(), Iterator::collect);
    if addresses.is_empty() {
        return Err(DialError::Unknown(host.to_owned()));
    }
    let stream = TcpStream::connect(addresses.as_slice()).await;
    let stream = stream.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused,
        _ => DialError::Io(error),
    })?;
    stream.set_nodelay(true).map_err(DialError::Io)?;
    // Where it cannot be set, a dead path is noticed by silence.
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(DEAF_MAX));
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_frame_size(Some(FRAME_LEN_MAX))
        .max_message_size(Some(FRAME_LEN_MAX));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Io(error)) => Err(DialError::Io(error)),
        Err(tungstenite::Error::Http(response)) => {
            Err(DialError::NoRelay(response.status().as_u16()))
        }
        Err(error) => Err(DialError::Protocol(Box::new(error))),
    }
}

/// Hands on what comes in; returns why nothing more does.
async fn read(
    link: LinkId,
    stream: &mut SplitStream<Socket>,
    inputs: &mpsc::Sender<Input>,
) -> String {
    let mut silence = interval_at(Instant::now() + SILENCE_MAX / 2, SILENCE_MAX / 2);
    silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent_ticks = 0;
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            _ = silence.tick() => {
                silent_ticks += 1;
                if silent_ticks > 1 {
                    return format!("nothing heard for {} s", SILENCE_MAX.as_secs());
                }
                continue;
            }
        };
        silent_ticks = 0;
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => Vec::from(bytes),
            Some(Ok(Message::Close(Some(frame)))) if !frame.reason.is_empty() => {
                return format!("it closed the connection: {}", frame.reason);
            }
            None | Some(Ok(Message::Close(_))) => return "it closed the connection".to_owned(),
            Some(Ok(_)) => continue,
            Some(Err(error)) => return format!("the connection broke: {error}"),
        };
        if inputs.send(Input::Frame { link, bytes }).await.is_err() {
            return "the node has stopped".to_owned();
        }
    }
}

/// Writes what core sends, until it hangs up.
async fn write(
    link: LinkId,
    sink: &mut SplitSink<Socket, Message>,
    outgoing: &mut mpsc::UnboundedReceiver<Outgoing>,
    inputs: &mpsc::Sender<Input>,
) -> Result<(), tungstenite::Error> {
    let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lots = Lots::default();
    let mut drained = Vec::new();
    loop {
        let mut next = tokio::select! {
            message = outgoing.recv() => match message {
                None => return Ok(()),
                message => message,
            },
            _ = ping.tick() => {
                sink.send(Message::Ping(Vec::new().into())).await?;
                continue;
            }
        };
        let mut count = 0;
        while let Some(Outgoing { lane, bytes }) = next {
            if let Some(bytes) = lots.add(lane, bytes.len()) {
                drained.push(Input::Drained { link, lane, bytes });
            }
            sink.feed(Message::Binary(bytes.into())).await?;
            count += 1;
            next = (count < FLUSH_COUNT)
                .then(|| outgoing.try_recv().ok())
                .flatten();
        }
        sink.flush().await?;
        for input in drained.drain(..) {
            // The driver that is gone needs no report.
            let _ = inputs.send(input).await;
        }
    }
}

/// Closes in good order: a socket dropped with unread bytes resets the
/// connection, and the relay might lose what was sent last.
async fn end(sink: &mut SplitSink<Socket, Message>, stream: &mut SplitStream<Socket>) {
    let _ = sink.close().await;
    while let Some(Ok(_)) = stream.next().await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_without_an_address_is_told_as_such() {
        // RFC 6761, section 6.4: nobody has this name.
        let error = dial("ws://relay.invalid/ws").await.unwrap_err();
        assert!(matches!(&error, DialError::Unknown(name) if name == "relay.invalid"));
        let words = "no address is known for \"relay.invalid\"";
        assert!(error.to_string().starts_with(words), "{error}");
    }
}
