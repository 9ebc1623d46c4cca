//! Two peers of this process, a relay of its own: calls, and streams between them.

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Ring, alone};
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use roundelay::streams::{OpenError, STREAM_COUNT_MAX, Stream};
use roundelay::{Peer, PeerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Calls over one stream, and how many at once.
const CALLS: usize = 10_000;
const AT_ONCE: usize = 64;
/// Bytes each way.
const TOTAL: usize = 64 << 20;

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

async fn join(ring: &Ring, name: &str) -> Peer {
    let relay = format!("http://127.0.0.1:{}", ring.listen);
    let config = PeerConfig {
        name: name.to_owned(),
        ..PeerConfig::by(relay.parse().unwrap())
    };
    Peer::join(config).await.unwrap()
}

/// A stream from the one to the other, and its other end.
async fn pair(one: &Peer, other: &Peer) -> (Stream, Stream) {
    let mut acceptor = other.accept("pair").await.unwrap();
    let opened = one.open(other.id(), "pair").await.unwrap();
    let offer = acceptor.next().await.unwrap();
    assert_eq!(offer.peer(), one.id());
    (opened, offer.accept().await.unwrap())
}

#[test]
fn keys_are_put_read_swapped_and_deleted() {
    let _alone = alone();
    let ring = Ring::start(0);
    runtime().block_on(async {
        let peer = join(&ring, "library").await;
        let put = peer.put("chat/hello", "Good morning").await.unwrap();
        let found = peer.get("chat/hello").await.unwrap().unwrap();
        assert_eq!(found.value, b"Good morning");
        assert_eq!(found.version, put.version);
        let swapped = peer.cas("chat/hello", Some(put.version), "Good evening");
        swapped.await.unwrap();
        let stale = peer
            .cas("chat/hello", Some(put.version), "Good night")
            .await;
        assert!(stale.unwrap_err().to_string().contains("ConditionFailed"));
        peer.delete("chat/hello").await.unwrap();
        assert_eq!(peer.get("chat/hello").await.unwrap(), None);
        assert!(peer.open(peer.id(), "no way").await.is_err());
        peer.leave().await;
    });
}

#[test]
fn http_2_runs_directly_over_one_stream() {
    let _alone = alone();
    let ring = Ring::start(0);
    runtime().block_on(async {
        let (one, other) = (join(&ring, "one").await, join(&ring, "other").await);
        let (client, server) = pair(&one, &other).await;
        let served = tokio::spawn(async move {
            let answer = |request: Request<hyper::body::Incoming>| async move {
                let body = request.into_body().collect().await?.to_bytes();
                Ok::<_, hyper::Error>(Response::new(Full::new(body)))
            };
            let server_of = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let served = server_of.serve_connection(TokioIo::new(server), service_fn(answer));
            served.await
        });
        let shaken =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client));
        let (sender, connection) = shaken.await.unwrap();
        let driven = tokio::spawn(connection);
        let begun = Instant::now();
        let calls = futures_util::stream::iter(0..CALLS).map(|number| {
            let mut sender = sender.clone();
            async move {
                let body = Bytes::from(format!("call {number}").repeat(1 + number % 9));
                let request = Request::post("http://peer/").body(Full::new(body.clone()));
                let response = sender.send_request(request.unwrap()).await.unwrap();
                let back = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(back, body);
            }
        });
        calls.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        println!("{CALLS} calls over one stream in {:?}", begun.elapsed());
        drop(sender);
        driven.await.unwrap().unwrap();
        served.await.unwrap().unwrap();
        one.leave().await;
        other.leave().await;
    });
}

fn byte(salt: usize, at: usize) -> u8 {
    ((at * 31) >> 3) as u8 ^ at as u8 ^ salt as u8
}

/// Writes all bytes in pieces of many sizes, and ends.
async fn write_all(mut stream: tokio::io::WriteHalf<Stream>, salt: usize) {
    let mut at = 0;
    let mut sizes = (1_usize..).map(|n| 1 + (n * 7919) % (256 << 10));
    while at < TOTAL {
        let len = sizes.next().unwrap().min(TOTAL - at);
        let bytes: Vec<u8> = (at..at + len).map(|at| byte(salt, at)).collect();
        stream.write_all(&bytes).await.unwrap();
        at += len;
    }
    stream.shutdown().await.unwrap();
}

/// Reads all bytes, a few at a time now and then; tells when half is there.
async fn read_all(
    mut stream: tokio::io::ReadHalf<Stream>,
    salt: usize,
    mut half: Option<tokio::sync::oneshot::Sender<()>>,
) {
    let (mut at, mut buffer) = (0, vec![0; 100_000]);
    loop {
        let most = if at % 5 == 0 { 9 } else { buffer.len() };
        let len = stream.read(&mut buffer[..most]).await.unwrap();
        if len == 0 {
            break;
        }
        for got in &buffer[..len] {
            assert_eq!(*got, byte(salt, at), "at {at}");
            at += 1;
        }
        if at > TOTAL / 2
            && let Some(half) = half.take()
        {
            half.send(()).unwrap();
        }
    }
    assert_eq!(at, TOTAL);
}

#[test]
fn a_transfer_goes_on_when_its_relay_is_killed() {
    let _alone = alone();
    let mut ring = Ring::start(0);
    runtime().block_on(async {
        let (one, other) = (join(&ring, "one").await, join(&ring, "other").await);
        let deadline = Instant::now() + common::DEADLINE;
        let is_direct = |status: roundelay_core::status::Status| {
            let mut links = status.links.into_iter();
            links.any(|link| {
                link.peer == other.id() && link.kind == roundelay_core::status::LinkKind::Direct
            })
        };
        while !is_direct(one.status().await.unwrap()) {
            assert!(Instant::now() < deadline, "no direct link");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (a, b) = pair(&one, &other).await;
        let ((a_read, a_write), (b_read, b_write)) = (tokio::io::split(a), tokio::io::split(b));
        let (half, halfway) = tokio::sync::oneshot::channel();
        let begun = Instant::now();
        let tasks = [
            tokio::spawn(write_all(a_write, 1)),
            tokio::spawn(write_all(b_write, 2)),
            tokio::spawn(read_all(a_read, 2, None)),
            tokio::spawn(read_all(b_read, 1, Some(half))),
        ];
        halfway.await.unwrap();
        ring.members[0].kill_9();
        println!("the relay is killed after {:?}", begun.elapsed());
        for task in tasks {
            task.await.unwrap();
        }
        println!("{TOTAL} bytes each way in {:?}", begun.elapsed());
    });
}

#[test]
fn who_drops_a_stream_breaks_it_and_nobody_takes_half_for_all() {
    let _alone = alone();
    let ring = Ring::start(0);
    runtime().block_on(async {
        let (one, other) = (join(&ring, "one").await, join(&ring, "other").await);
        let (mut a, mut b) = pair(&one, &other).await;
        b.write_all(b"half").await.unwrap();
        b.flush().await.unwrap();
        let mut four = [0; 4];
        a.read_exact(&mut four).await.unwrap();
        drop(b);
        let error = a.read(&mut four).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");

        let mut refused = one.open(other.id(), "nothing").await.unwrap();
        let error = refused.read(&mut four).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("no such service"), "{error}");

        let (mut a, b) = pair(&one, &other).await;
        a.write_all(b"word").await.unwrap();
        other.leave().await;
        drop(b);
        let begun = Instant::now();
        let error = a.read(&mut four).await.unwrap_err();
        println!("told after {:?}: {error}", begun.elapsed());
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "at once, not after a while"
        );
    });
}

#[test]
fn a_stream_too_many_is_refused_and_hurts_none_of_the_others() {
    let _alone = alone();
    let ring = Ring::start(0);
    runtime().block_on(async {
        let (one, other) = (join(&ring, "one").await, join(&ring, "other").await);
        let mut offers = other.accept("echo").await.unwrap();
        tokio::spawn(async move {
            while let Some(offer) = offers.next().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = tokio::io::split(offer.accept().await.unwrap());
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let open = || one.open(other.id(), "echo");
        let mut streams = Vec::new();
        for _ in 0..STREAM_COUNT_MAX {
            let mut stream = open().await.unwrap();
            stream.answered().await.unwrap();
            streams.push(stream);
        }
        for _ in 0..2 * STREAM_COUNT_MAX {
            let error = open().await.unwrap_err();
            assert!(matches!(error, OpenError::Full(_)), "{error}");
        }
        let mut word = [0; 4];
        for stream in &mut streams {
            stream.write_all(b"word").await.unwrap();
            stream.read_exact(&mut word).await.unwrap();
            assert_eq!(&word, b"word");
        }
        // Many more in turns than there can be at once.
        for _ in 0..10 * STREAM_COUNT_MAX {
            streams.pop();
            let mut stream = open().await.unwrap();
            stream.answered().await.unwrap();
            streams.push(stream);
        }
        let last = streams.last_mut().unwrap();
        last.write_all(b"last").await.unwrap();
        last.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"last");
    });
}
