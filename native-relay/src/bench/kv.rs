//! Puts and gets in a closed loop.

use std::time::Duration;

use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use roundelay_core::kvs::{Key, Mode, Reply};
use tokio::net::TcpStream;

use super::load::{self, Caller, Outcome, Work};
use super::local::LocalRing;
use super::report::{Figure, Report, percentile};
use super::ring::Ring;
use super::{BenchError, KvArgs, usage};
use crate::handle::Handle;

/// Lets connections, allocators and caches settle before the first figure.
const WARM_UP: Duration = Duration::from_millis(500);

pub(super) fn measure(args: &KvArgs, report: &Report) -> Result<(), BenchError> {
    if args.in_process {
        report.say("a relay and two nodes in this process, called by handle");
        let ring = LocalRing::start(args.disk.as_deref())?;
        let mut handles = ring.handles.iter().cycle().cloned();
        let make = || {
            handles.next().map(|handle| HandleCaller {
                handle,
                mode: args.mode,
                value: vec![b'x'; args.size as usize],
            })
        };
        let own = [std::process::id()];
        return super::runtime()?.block_on(phases(args, report, make, &own, true));
    }
    if !args.nodes.is_empty() {
        report.say("by HTTP, on a ring that is there");
        return over_http(args, report, &args.nodes, &[]);
    }
    report.say("a relay and two nodes, each a process, called by HTTP at one node");
    let ring = Ring::start(3, args.disk.as_deref())?;
    let processes: Vec<u32> = ring
        .members()
        .iter()
        .map(super::ring::Member::process)
        .collect();
    let node = ring
        .members()
        .iter()
        .map(|member| member.http.clone())
        .skip(1);
    over_http(args, report, &node.take(1).collect::<Vec<_>>(), &processes)
}

fn over_http(
    args: &KvArgs,
    report: &Report,
    nodes: &[String],
    processes: &[u32],
) -> Result<(), BenchError> {
    let hosts = nodes.iter().map(|node| {
        let host = node.strip_prefix("http://").unwrap_or(node);
        host.trim_end_matches('/').to_owned()
    });
    let mut hosts = hosts.collect::<Vec<_>>().into_iter().cycle();
    let make = || {
        hosts.next().map(|host| HttpCaller {
            sender: None,
            host,
            mode: args.mode,
            value: Bytes::from(vec![b'x'; args.size as usize]),
        })
    };
    super::runtime()?.block_on(phases(args, report, make, processes, false))
}

/// Fills the keys, then goes through all phases, round after round.
async fn phases<C: Caller>(
    args: &KvArgs,
    report: &Report,
    make: impl FnMut() -> Option<C>,
    processes: &[u32],
    alone_on_loopback: bool,
) -> Result<(), BenchError> {
    let most = args.in_flight.iter().copied().max().unwrap_or(1);
    let callers = std::iter::repeat_with(make).map_while(|caller| caller);
    let callers: Vec<C> = callers.take(usize::from(most)).collect();
    let filled = load::fill(callers, args.keys).await;
    let callers = filled.map_err(BenchError::Answer)?;
    let (mut callers, _) = load::run(callers, Work::Get, args.keys, WARM_UP).await;
    // By HTTP, what that alone costs here and now: figures of two machines, or
    // of two hours of one, are to be compared by their ratios to it.
    let works: &[Work] = if args.in_process {
        &[Work::Put, Work::Get]
    } else {
        &[Work::Put, Work::Get, Work::Floor]
    };
    let in_flight = args.in_flight.iter();
    let mut phases: Vec<Phase> = in_flight
        .flat_map(|count| works.iter().map(|work| Phase::new(*work, *count)))
        .collect();
    for _ in 0..args.rounds {
        for phase in &mut phases {
            let used: Vec<C> = callers.split_off(callers.len() - usize::from(phase.in_flight));
            let before = (cpu(processes), usage::loopback().0);
            let lasting = Duration::from_secs(u64::from(args.seconds));
            let (used, outcome) = load::run(used, phase.work, args.keys, lasting).await;
            callers.extend(used);
            let wire = alone_on_loopback.then(|| usage::loopback().0 - before.1);
            phase.add(outcome, cpu(processes) - before.0, wire);
        }
    }
    for phase in phases {
        phase.tell(report);
    }
    Ok(())
}

fn cpu(processes: &[u32]) -> Duration {
    processes.iter().map(|process| usage::cpu(*process)).sum()
}

/// One kind of load, and what all rounds gave.
struct Phase {
    work: Work,
    in_flight: u16,
    rates: Vec<f64>,
    medians: Vec<Duration>,
    tails: Vec<Duration>,
    cpu_micros: Vec<f64>,
    wire_bytes: Vec<f64>,
    errors: u64,
    last_error: String,
}

impl Phase {
    fn new(work: Work, in_flight: u16) -> Self {
        Self {
            work,
            in_flight,
            rates: Vec::new(),
            medians: Vec::new(),
            tails: Vec::new(),
            cpu_micros: Vec::new(),
            wire_bytes: Vec::new(),
            errors: 0,
            last_error: String::new(),
        }
    }

    fn add(&mut self, mut outcome: Outcome, cpu: Duration, wire: Option<u64>) {
        let count = outcome.times.len().max(1) as f64;
        self.rates.push(outcome.rate());
        self.medians.push(outcome.percentile(0.5));
        self.tails.push(outcome.percentile(0.99));
        self.cpu_micros.push(cpu.as_secs_f64() * 1e6 / count);
        self.wire_bytes.extend(wire.map(|wire| wire as f64 / count));
        self.errors += outcome.errors.values().sum::<u64>();
        if let Some((kind, _)) = outcome.errors.pop_last() {
            self.last_error = kind;
        }
    }

    fn tell(mut self, report: &Report) {
        let word = match self.work {
            Work::Put => "put",
            Work::Get => "get",
            Work::Floor => "GET /healthz",
        };
        let what = format!("{word}, {} in flight", self.in_flight);
        let rate = percentile(&mut self.rates, 0.5).unwrap_or_default();
        let mut parts = vec![
            (
                "p50",
                Figure::Time(percentile(&mut self.medians, 0.5).unwrap_or_default()),
            ),
            (
                "p99",
                Figure::Time(percentile(&mut self.tails, 0.5).unwrap_or_default()),
            ),
            ("rate", Figure::Rate(rate)),
        ];
        let cpu = percentile(&mut self.cpu_micros, 0.5).filter(|cpu| *cpu > 0.0);
        parts.extend(cpu.map(|cpu| ("cpu us/op", Figure::Number(cpu))));
        let wire = percentile(&mut self.wire_bytes, 0.5);
        parts.extend(wire.map(|wire| ("wire B/op", Figure::Number(wire))));
        parts.push(("errors", Figure::Number(self.errors as f64)));
        report.figure(&what, &parts);
        if self.errors > 0 {
            report.say(&format!("  the last error: {}", self.last_error));
        }
    }
}

fn key_of(number: u32) -> String {
    // Without a slash: each is a bucket, and lies in a slot of its own.
    format!("bench-{number}")
}

/// Calls a node of this process.
struct HandleCaller {
    handle: Handle,
    mode: Mode,
    value: Vec<u8>,
}

impl Caller for HandleCaller {
    async fn call(&mut self, work: Work, key: u32) -> Result<(), String> {
        let key = Key::new(key_of(key)).map_err(|error| error.to_string())?;
        let reply = match work {
            Work::Put => self.handle.put(key, self.value.clone(), self.mode).await,
            Work::Get | Work::Floor => self.handle.get(key, self.mode).await,
        };
        match reply {
            Ok(Reply::Written { .. } | Reply::Found { .. }) => Ok(()),
            Ok(Reply::Missing | Reply::Evicted) => Err("missing".to_owned()),
            Ok(Reply::Failed(error)) => Err(error.to_string()),
            Err(stopped) => Err(stopped.to_string()),
        }
    }
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// Calls a node by HTTP/1.1, on one connection that stays open.
struct HttpCaller {
    sender: Option<Sender>,
    host: String,
    mode: Mode,
    value: Bytes,
}

impl HttpCaller {
    async fn connect(&self) -> Result<Sender, String> {
        let stream = TcpStream::connect(&self.host).await;
        let stream = stream
            .map_err(|error| format!("{}: {error} (is a node's HTTP API there?)", self.host))?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(&self, work: Work, key: u32) -> Result<Request<Full<Bytes>>, String> {
        let path = || format!("/v1/kv/{}?mode={}", key_of(key), self.mode.name());
        let (method, path, body) = match work {
            Work::Put => ("PUT", path(), self.value.clone()),
            Work::Get => ("GET", path(), Bytes::new()),
            Work::Floor => ("GET", "/healthz".to_owned(), Bytes::new()),
        };
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .body(Full::new(body))
            .map_err(|error| error.to_string())
    }

    async fn exchange(&mut self, work: Work, key: u32) -> Result<StatusCode, String> {
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let sent = sender.send_request(self.request(work, key)?).await;
        let response = sent.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await;
        body.map_err(|error| error.to_string())?;
        self.sender = Some(sender);
        Ok(status)
    }
}

impl Caller for HttpCaller {
    async fn call(&mut self, work: Work, key: u32) -> Result<(), String> {
        let status = self.exchange(work, key).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(format!("the node answers {status}"))
    }
}
