//! Direct links over loopback: set-up, round trip, goodput and memory.
//!
//! `cargo bench -p roundelay --bench direct`. Both ends are in this process,
//! each on a thread of its own, as they would be in two.

use std::time::{Duration, Instant};

use roundelay::link::direct::{DirectConfig, DirectEvent, DirectLinks};
use roundelay_core::event::{Description, DescriptionKind, Lane, LinkId, Role};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const ROUNDS: usize = 20;
const ECHOES: usize = 5000;
const GOODPUT: usize = 512 << 20;
const IN_LANE: usize = 1 << 20;
const MANY: u64 = 100;

fn bind() -> DirectLinks {
    let bind = ([127, 0, 0, 1], 0).into();
    DirectLinks::bind(&DirectConfig { bind }).expect("a socket")
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
    let mut links = bind();
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

struct Client {
    links: DirectLinks,
    inbox: UnboundedReceiver<Description>,
    out: UnboundedSender<Description>,
}

impl Client {
    fn start() -> Self {
        let (out, theirs) = unbounded_channel();
        let (answers, inbox) = unbounded_channel();
        std::thread::spawn(|| runtime().block_on(serve(theirs, answers)));
        Self {
            links: bind(),
            inbox,
            out,
        }
    }

    async fn event(&mut self) -> DirectEvent {
        loop {
            match self.links.poll_event() {
                Some(DirectEvent::Local(description)) => drop(self.out.send(description)),
                Some(DirectEvent::Down { reason, .. }) => panic!("a link ended: {reason}"),
                Some(event) => return event,
                None => assert!(turn(&mut self.links, &mut self.inbox).await),
            }
        }
    }

    async fn open(&mut self, link: LinkId) -> Duration {
        let start = Instant::now();
        self.links.open(link, Role::Offerer, start);
        while self.event().await != (DirectEvent::Up { link }) {}
        start.elapsed()
    }

    async fn echo(&mut self, link: LinkId) -> Duration {
        let start = Instant::now();
        self.links.send(link, Lane::Control, vec![1; 32], start);
        self.links.flush();
        while !matches!(self.event().await, DirectEvent::Frame { .. }) {}
        start.elapsed()
    }

    /// Sends `total` bytes of bulk; answers how long until all were
    /// acknowledged, and the longest time without an acknowledgement.
    async fn pour(&mut self, link: LinkId, length: usize, total: usize) -> (Duration, Duration) {
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
            if let DirectEvent::Drained { bytes, .. } = self.event().await {
                drained += bytes;
                gap = gap.max(last.elapsed());
                last = Instant::now();
            }
        }
        (start.elapsed(), gap)
    }
}

fn percentile(times: &mut [Duration], part: f64) -> Duration {
    times.sort();
    times[((times.len() - 1) as f64 * part).round() as usize]
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let figure = line.and_then(|line| line.split_whitespace().next());
    figure.and_then(|figure| figure.parse().ok()).unwrap_or(0)
}

fn local(links: &mut DirectLinks) -> Description {
    match links.poll_event() {
        Some(DirectEvent::Local(description)) => description,
        other => panic!("no description but {other:?}"),
    }
}

/// Processor time of both ends so far; unlike the rates it says something on a
/// busy machine too.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name come the fields from the third on; times are the 14th
    // and 15th, in hundredths.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = times.filter_map(|time| time.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Peers of one hub, opened one after the other and then idle.
async fn memory() {
    let mut hub = bind();
    let mut peers = Vec::new();
    let mut before = 0;
    for number in 0..=MANY {
        let (link, now) = (LinkId(number), Instant::now());
        let mut peer = bind();
        peer.open(link, Role::Offerer, now);
        hub.open(link, Role::Answerer, now);
        hub.remote(&local(&mut peer), now);
        peer.remote(&local(&mut hub), now);
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
            before = resident_kib();
        }
    }
    let after = resident_kib();
    let each = (after - before) as f64 / (2 * MANY) as f64;
    println!("memory: {before} -> {after} KiB for {MANY} links, {each:.0} KiB an end");
}

async fn speed() {
    let mut opens = Vec::new();
    for _ in 0..ROUNDS {
        // A new one, as two links between the same ports would share an address.
        opens.push(Client::start().open(LinkId(1)).await);
    }
    let (p50, max) = (percentile(&mut opens, 0.5), percentile(&mut opens, 1.0));
    println!("open: p50 {p50:?}, max {max:?} of {ROUNDS}");
    let (mut client, link) = (Client::start(), LinkId(1));
    client.open(link).await;
    let mut echoes = Vec::new();
    for _ in 0..ECHOES {
        echoes.push(client.echo(link).await);
    }
    let (p50, p99) = (percentile(&mut echoes, 0.5), percentile(&mut echoes, 0.99));
    println!("echo of 32 B: p50 {p50:?}, p99 {p99:?} of {ECHOES}");
    for length in [65_535, 32 << 10, 16 << 10, 65_535] {
        let before = cpu_seconds();
        let (time, gap) = client.pour(link, length, GOODPUT).await;
        let cpu = (cpu_seconds() - before) / (GOODPUT as f64 / 1e9);
        let rate = GOODPUT as f64 / time.as_secs_f64() / 1e6;
        println!("goodput: {rate:.0} MB/s of {length} B, {cpu:.1} CPU s/GB, longest gap {gap:?}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

fn main() {
    // Memory first: later it would be the allocator's leftovers.
    runtime().block_on(memory());
    runtime().block_on(speed());
}
