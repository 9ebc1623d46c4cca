//! Direct links over loopback: set-up, round trip, goodput and memory. Both
//! ends are in this process, each on a thread of its own.

use std::time::{Duration, Instant};

use roundelay_core::event::{Description, DescriptionKind, Lane, LinkId, Role};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::report::{Figure, Report, percentile};
use super::{BenchError, runtime, usage};
use crate::link::direct::{DirectConfig, DirectEvent, DirectLinks};

const ROUNDS: usize = 20;
const ECHOES: usize = 5000;
const GOODPUT: usize = 256 << 20;
const GOODPUT_ROUNDS: usize = 5;
const IN_LANE: usize = 1 << 20;
const MANY: u64 = 100;

/// Measures everything.
pub(super) fn measure(report: &Report) -> Result<(), BenchError> {
    report.say("direct links over loopback; both ends in this process");
    // Memory first: later it would be the allocator's leftovers.
    runtime()?.block_on(memory(report))?;
    runtime()?.block_on(speed(report))
}

fn bind() -> Result<DirectLinks, BenchError> {
    let bind = ([127, 0, 0, 1], 0).into();
    Ok(DirectLinks::bind(&DirectConfig { bind })?)
}

/// One turn of a driver: whatever comes first, then all that follows.
async fn turn(links: &mut DirectLinks, inbox: &mut UnboundedReceiver<Description>) -> bool {
    let at = links.poll_timeout();
    let timer = async {
        match at {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    };
    let come = tokio::select! {
        description = inbox.recv() => Some(description),
        _ = links.readable() => None,
        () = timer => None,
    };
    let now = Instant::now();
    match come {
        Some(None) => return false,
        Some(Some(description)) => {
            if description.kind == DescriptionKind::Offer {
                links.open(description.link, Role::Answerer, now);
            }
            links.remote(&description, now);
        }
        None => {
            links.receive(now);
            links.handle_timeout(now);
        }
    }
    true
}

/// Answers offers, and echoes short messages.
async fn serve(mut inbox: UnboundedReceiver<Description>, out: UnboundedSender<Description>) {
    let Ok(mut links) = bind() else {
        return;
    };
    while turn(&mut links, &mut inbox).await {
        while let Some(event) = links.poll_event() {
            match event {
                DirectEvent::Local(description) => drop(out.send(description)),
                DirectEvent::Frame { link, bytes } if bytes.len() < 1000 => {
                    links.send(link, Lane::Control, bytes, Instant::now());
                }
                _ => {}
            }
        }
        links.flush();
    }
}

pub(super) struct Client {
    links: DirectLinks,
    inbox: UnboundedReceiver<Description>,
    out: UnboundedSender<Description>,
}

impl Client {
    pub(super) fn start() -> Result<Self, BenchError> {
        let (out, theirs) = unbounded_channel();
        let (answers, inbox) = unbounded_channel();
        let other = runtime()?;
        std::thread::spawn(move || other.block_on(serve(theirs, answers)));
        Ok(Self {
            links: bind()?,
            inbox,
            out,
        })
    }

    async fn event(&mut self) -> Result<DirectEvent, BenchError> {
        let ended = |reason| Err(BenchError::Answer(format!("a link ended: {reason}")));
        loop {
            match self.links.poll_event() {
                Some(DirectEvent::Local(description)) => drop(self.out.send(description)),
                Some(DirectEvent::Down { reason, .. }) => return ended(reason),
                Some(event) => return Ok(event),
                None if turn(&mut self.links, &mut self.inbox).await => {}
                None => return ended("the other end stopped".to_owned()),
            }
        }
    }

    pub(super) async fn open(&mut self, link: LinkId) -> Result<Duration, BenchError> {
        let start = Instant::now();
        self.links.open(link, Role::Offerer, start);
        while self.event().await? != (DirectEvent::Up { link }) {}
        Ok(start.elapsed())
    }

    async fn echo(&mut self, link: LinkId) -> Result<Duration, BenchError> {
        let start = Instant::now();
        self.links.send(link, Lane::Control, vec![1; 32], start);
        self.links.flush();
        while !matches!(self.event().await?, DirectEvent::Frame { .. }) {}
        Ok(start.elapsed())
    }

    /// Sends `total` bytes of bulk; answers how long until all were
    /// acknowledged, and the longest time without an acknowledgement.
    pub(super) async fn pour(
        &mut self,
        link: LinkId,
        length: usize,
        total: usize,
    ) -> Result<(Duration, Duration), BenchError> {
        let start = Instant::now();
        let (mut sent, mut drained) = (0, 0);
        let (mut last, mut gap) = (start, Duration::ZERO);
        while drained < sent || sent < total {
            while sent < total && sent - drained + length <= IN_LANE {
                let bytes = vec![7; length];
                self.links.send(link, Lane::Bulk, bytes, Instant::now());
                sent += length;
            }
            self.links.flush();
            if let DirectEvent::Drained { bytes, .. } = self.event().await? {
                drained += bytes;
                gap = gap.max(last.elapsed());
                last = Instant::now();
            }
        }
        Ok((start.elapsed(), gap))
    }
}

fn local(links: &mut DirectLinks) -> Result<Description, BenchError> {
    match links.poll_event() {
        Some(DirectEvent::Local(description)) => Ok(description),
        other => Err(BenchError::Answer(format!("no description but {other:?}"))),
    }
}

/// Peers of one hub, opened one after the other and then idle.
async fn memory(report: &Report) -> Result<(), BenchError> {
    let own = std::process::id();
    let mut hub = bind()?;
    let mut peers = Vec::new();
    let mut before = 0.0;
    for number in 0..=MANY {
        let (link, now) = (LinkId(number), Instant::now());
        let mut peer = bind()?;
        peer.open(link, Role::Offerer, now);
        hub.open(link, Role::Answerer, now);
        hub.remote(&local(&mut peer)?, now);
        peer.remote(&local(&mut hub)?, now);
        let mut up = 0;
        while up < 2 {
            let now = Instant::now();
            for end in [&mut hub, &mut peer] {
                end.receive(now);
                end.handle_timeout(now);
                while let Some(event) = end.poll_event() {
                    up += usize::from(event == DirectEvent::Up { link });
                }
            }
            tokio::task::yield_now().await;
        }
        peers.push(peer);
        if number == 0 {
            before = usage::resident_kib(own);
        }
    }
    let each = (usage::resident_kib(own) - before) / (2 * MANY) as f64;
    let parts = [(
        "KiB an end, half a client's socket included",
        Figure::Number(each),
    )];
    report.figure("idle link, memory", &parts);
    Ok(())
}

async fn speed(report: &Report) -> Result<(), BenchError> {
    let mut opens = Vec::new();
    for _ in 0..ROUNDS {
        // A new one, as two links between the same ports would share an address.
        opens.push(Client::start()?.open(LinkId(1)).await?);
    }
    times(report, "open", &mut opens);
    let (mut client, link) = (Client::start()?, LinkId(1));
    client.open(link).await?;
    let mut echoes = Vec::new();
    for _ in 0..ECHOES {
        echoes.push(client.echo(link).await?);
    }
    times(report, "echo of 32 B", &mut echoes);
    for length in [65_535, 32 << 10, 16 << 10] {
        goodput(report, &mut client, link, length).await?;
    }
    Ok(())
}

fn times(report: &Report, what: &str, times: &mut [Duration]) {
    let mut part = |part| Figure::Time(percentile(times, part).unwrap_or_default());
    let parts = [("p50", part(0.5)), ("p99", part(0.99)), ("max", part(1.0))];
    report.figure(what, &parts);
}

/// The median of some rounds.
async fn goodput(
    report: &Report,
    client: &mut Client,
    link: LinkId,
    length: usize,
) -> Result<(), BenchError> {
    let own = std::process::id();
    let (mut rates, mut cpus, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..GOODPUT_ROUNDS {
        let before = usage::cpu(own);
        let (time, gap) = client.pour(link, length, GOODPUT).await?;
        let cpu = usage::cpu(own) - before;
        rates.push(GOODPUT as f64 / time.as_secs_f64() / 1e6);
        cpus.push(cpu.as_secs_f64() / (GOODPUT as f64 / 1e9));
        gaps.push(gap);
    }
    let median = |values: &mut [f64]| Figure::Number(percentile(values, 0.5).unwrap_or(0.0));
    let parts = [
        ("MB/s", median(&mut rates)),
        ("cpu s/GB", median(&mut cpus)),
        (
            "longest pause",
            Figure::Time(percentile(&mut gaps, 1.0).unwrap_or_default()),
        ),
    ];
    report.figure(&format!("goodput, {length} B messages"), &parts);
    Ok(())
}
