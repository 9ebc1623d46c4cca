//! Streams between two nodes of this process, each on a thread of its own, in rounds
//! that take turns with the bare link and with TCP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roundelay_core::event::LinkId;
use roundelay_core::status::LinkKind;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::link::Client;
use super::local::{Local, LocalNode};
use super::report::{Figure, Report, percentile};
use super::ring::Ring;
use super::{BenchError, runtime, usage};
use crate::streams::{Forwarder, Stream};

/// Bytes of one round, and how many rounds there are.
const TOTAL: usize = 256 << 20;
const ROUNDS: usize = 5;
/// Bytes that are written at once.
const CHUNK: usize = 64 << 10;
const OPENS: usize = 500;
const ECHOES: usize = 5000;
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) fn measure(report: &Report) -> Result<(), BenchError> {
    report.say("two nodes of this process with a direct link, their relay a process");
    let ring = Ring::start(1, None)?;
    let (_server, server) = Local::streaming(ring.relay(), None)?;
    let (_client, client) = Local::streaming(ring.relay(), None)?;
    runtime()?.block_on(async {
        linked(&client, &server).await?;
        serve(&server)?;
        small(report, &client, &server).await?;
        goodput(report, &client, &server).await
    })
}

/// Waits for the direct link.
async fn linked(client: &LocalNode, server: &LocalNode) -> Result<(), BenchError> {
    let begun = Instant::now();
    loop {
        let status = client.handle.status().await.map_err(stopped)?;
        let mut links = status.links.iter();
        if links.any(|link| link.peer == server.id && link.kind == LinkKind::Direct) {
            return Ok(());
        }
        if begun.elapsed() > DEADLINE {
            return Err(BenchError::Waited(DEADLINE, "a direct link"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `echo` sends back, `sink` answers with one byte when all has come.
fn serve(server: &LocalNode) -> Result<(), BenchError> {
    for service in ["echo", "sink"] {
        let streams = server.streams.clone();
        let accept = async move {
            let Ok(mut acceptor) = streams.accept(service).await else {
                return;
            };
            while let Some(offer) = acceptor.next().await {
                tokio::spawn(async move {
                    if let Ok(stream) = offer.accept().await {
                        let _ = match service {
                            "echo" => echo(stream).await,
                            _ => sink(stream).await,
                        };
                    }
                });
            }
        };
        server.runtime.spawn(accept);
    }
    Ok(())
}

async fn echo(mut stream: Stream) -> std::io::Result<()> {
    let mut bytes = [0; 1024];
    loop {
        let len = stream.read(&mut bytes).await?;
        if len == 0 {
            return stream.shutdown().await;
        }
        stream
            .write_all(bytes.get(..len).unwrap_or_default())
            .await?;
    }
}

async fn sink(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut bytes = vec![0; CHUNK];
    while stream.read(&mut bytes).await? > 0 {}
    stream.write_all(&[1]).await?;
    stream.shutdown().await
}

/// Writes a round's bytes, and waits until all have come.
async fn pour(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<Duration> {
    let (begun, chunk) = (Instant::now(), vec![7; CHUNK]);
    for _ in 0..TOTAL / CHUNK {
        stream.write_all(&chunk).await?;
    }
    stream.shutdown().await?;
    let mut done = [0];
    stream.read_exact(&mut done).await?;
    Ok(begun.elapsed())
}

async fn small(report: &Report, client: &LocalNode, server: &LocalNode) -> Result<(), BenchError> {
    let (streams, id) = (client.streams.clone(), server.id);
    let measured = client.runtime.spawn(async move {
        let (mut opens, mut echoes, mut bytes) = (Vec::new(), Vec::new(), [7; 32]);
        for _ in 0..OPENS {
            let begun = Instant::now();
            let mut stream = streams
                .open(id, "echo")
                .await
                .map_err(std::io::Error::other)?;
            stream.write_all(&bytes).await?;
            stream.read_exact(&mut bytes).await?;
            opens.push(begun.elapsed());
            stream.shutdown().await?;
        }
        let opened = streams.open(id, "echo").await;
        let mut stream = opened.map_err(std::io::Error::other)?;
        for _ in 0..ECHOES {
            let begun = Instant::now();
            stream.write_all(&bytes).await?;
            stream.read_exact(&mut bytes).await?;
            echoes.push(begun.elapsed());
        }
        Ok::<_, std::io::Error>((opens, echoes))
    });
    let (mut opens, mut echoes) = measured.await.map_err(std::io::Error::other)??;
    for (what, times) in [
        ("open and echo of 32 B", &mut opens),
        ("echo of 32 B", &mut echoes),
    ] {
        let mut part = |part| Figure::Time(percentile(times, part).unwrap_or_default());
        let parts = [("p50", part(0.5)), ("p99", part(0.99)), ("max", part(1.0))];
        report.figure(what, &parts);
    }
    Ok(())
}

/// The link, a stream, a forwarded port and TCP, in turns.
async fn goodput(
    report: &Report,
    client: &LocalNode,
    server: &LocalNode,
) -> Result<(), BenchError> {
    let (mut bare, link) = (Client::start()?, LinkId(1));
    bare.open(link).await?;
    let sink_address = tcp_sink(server).await?;
    let exposed: Result<crate::streams::Exposed, _> = format!("tcp={sink_address}").parse();
    let exposed = exposed.map_err(|error| BenchError::Answer(error.to_string()))?;
    let streams = server.streams.clone();
    let serving = server
        .runtime
        .spawn(async move { exposed.serve(&streams).await });
    let served = serving.await.map_err(std::io::Error::other)?;
    served.map_err(|error| BenchError::Answer(error.to_string()))?;
    let forwarded = forward(client, server).await?;
    let own = std::process::id();
    let names = ["bare link", "stream", "forward", "tcp"];
    let mut all: [(Vec<f64>, Vec<f64>); 4] = Default::default();
    for _ in 0..ROUNDS {
        for (name, (rates, cpus)) in names.into_iter().zip(&mut all) {
            let before = usage::cpu(own);
            let took = match name {
                "bare link" => bare.pour(link, 65_535, TOTAL).await?.0,
                "stream" => {
                    let (streams, id) = (client.streams.clone(), server.id);
                    let poured = client.runtime.spawn(async move {
                        let stream = streams.open(id, "sink").await;
                        pour(stream.map_err(std::io::Error::other)?).await
                    });
                    poured.await.map_err(std::io::Error::other)??
                }
                "forward" => pour(TcpStream::connect(forwarded).await?).await?,
                _ => pour(TcpStream::connect(sink_address).await?).await?,
            };
            rates.push(TOTAL as f64 / took.as_secs_f64() / 1e6);
            let cpu = usage::cpu(own) - before;
            cpus.push(cpu.as_secs_f64() / (TOTAL as f64 / 1e9));
        }
    }
    let mut last = None;
    for (name, (rates, cpus)) in names.into_iter().zip(&mut all) {
        let rate = percentile(rates, 0.5).unwrap_or_default();
        let cpu = percentile(cpus, 0.5).unwrap_or_default();
        let ratio = last.map_or(Figure::Nothing, |last: f64| Figure::Number(rate / last));
        let parts = [
            ("MB/s", Figure::Number(rate)),
            ("cpu s/GB", Figure::Number(cpu)),
            (
                "of the one before",
                if name == "tcp" {
                    Figure::Nothing
                } else {
                    ratio
                },
            ),
        ];
        report.figure(&format!("goodput, {name}"), &parts);
        last = Some(rate);
    }
    Ok(())
}

/// A TCP service on the server's thread.
async fn tcp_sink(server: &LocalNode) -> Result<std::net::SocketAddr, BenchError> {
    let bound = server.runtime.spawn(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(sink(stream));
            }
        });
        Ok::<_, std::io::Error>(address)
    });
    Ok(bound.await.map_err(std::io::Error::other)??)
}

/// A port on the client's thread that leads there.
async fn forward(
    client: &LocalNode,
    server: &LocalNode,
) -> Result<std::net::SocketAddr, BenchError> {
    let target = format!("{}/tcp", server.id).parse();
    let target = target
        .map_err(|error: crate::streams::ForwardedError| BenchError::Answer(error.to_string()))?;
    let forwarder = Forwarder {
        handle: client.handle.clone(),
        streams: client.streams.clone(),
        names: Arc::default(),
    };
    let bound = client.runtime.spawn(async move {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        forwarder.serve(listener, target);
        Ok::<_, std::io::Error>(address)
    });
    Ok(bound.await.map_err(std::io::Error::other)??)
}

fn stopped(_: crate::handle::Stopped) -> BenchError {
    BenchError::Answer("a node has stopped".to_owned())
}
