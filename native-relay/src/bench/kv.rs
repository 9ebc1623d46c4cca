//! Puts and gets in a closed loop.

mod callers;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use self::callers::{HandleCaller, HttpCaller, Own, Task};
use super::load::{self, Call, Caller, Outcome, Tally, Work};
use super::local::LocalRing;
use super::report::{Figure, Report, percentile};
use super::ring::{Member, Ring};
use super::{BenchError, KvArgs, usage};
use crate::api::Token;
use crate::config::read_token;

/// Lets connections, allocators and caches settle before the first figure.
const WARM_UP: Duration = Duration::from_millis(500);

/// What is told of all times.
const PARTS: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

pub(super) fn measure(args: &KvArgs, report: &Report) -> Result<(), BenchError> {
    let task = task(args, "bench");
    if args.in_process {
        report.say("a relay and two nodes in this process, called by handle");
        let ring = LocalRing::start(args.disk.as_deref())?;
        let mut handles = ring.handles.iter().cycle().cloned();
        let make = || {
            let handle = handles.next()?;
            let (task, own) = (task.clone(), Own::new(&task.prefix));
            Some(HandleCaller { handle, task, own })
        };
        let own = [std::process::id()];
        let phases = phases(args, report, make, &own, true);
        return tell(args, report, super::runtime()?.block_on(phases)?);
    }
    if !args.nodes.is_empty() {
        report.say("by HTTP, on a ring that is there");
        let token = args.token_file.as_deref().map(read_token).transpose()?;
        let make = http_callers(&args.nodes, token.as_ref(), &task);
        let phases = phases(args, report, make, &[], false);
        return tell(args, report, super::runtime()?.block_on(phases)?);
    }
    report.say("a relay and two nodes, each a process, called by HTTP at one node");
    let ring = Ring::start(3, args.disk.as_deref())?;
    tell(args, report, of_ring(args, report, &ring, task)?)
}

/// The same of a ring of processes that is there, with keys of this prefix.
pub(super) fn rows(
    args: &KvArgs,
    report: &Report,
    ring: &Ring,
    prefix: &str,
) -> Result<Vec<Row>, BenchError> {
    let mut phases = of_ring(args, report, ring, task(args, prefix))?;
    Ok(phases.iter_mut().filter_map(Phase::row).collect())
}

fn of_ring(
    args: &KvArgs,
    report: &Report,
    ring: &Ring,
    task: Task,
) -> Result<Vec<Phase>, BenchError> {
    let members = ring.members();
    let processes: Vec<u32> = members.iter().map(Member::process).collect();
    // The first is the relay.
    let node = members.get(1).map(|member| member.http.clone());
    let make = http_callers(node.as_slice(), None, &task);
    super::runtime()?.block_on(phases(args, report, make, &processes, false))
}

fn tell(args: &KvArgs, report: &Report, mut phases: Vec<Phase>) -> Result<(), BenchError> {
    let done: u64 = phases.iter().map(Phase::done).sum();
    for phase in &mut phases {
        phase.tell(args, report);
    }
    match done {
        0 => Err(BenchError::Answer(
            "no put and no get succeeded; the errors say why".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// What the calls of a benchmark are made of.
fn task(args: &KvArgs, prefix: &str) -> Task {
    Task {
        mode: args.mode.clone(),
        value: Bytes::from(vec![b'x'; args.size as usize]),
        prefix: prefix.to_owned(),
    }
}

/// Callers of nodes, one after the other.
fn http_callers(
    nodes: &[String],
    token: Option<&Token>,
    task: &Task,
) -> impl FnMut() -> Option<HttpCaller> {
    let hosts = nodes.iter().map(|node| {
        let host = node.strip_prefix("http://").unwrap_or(node);
        host.trim_end_matches('/').to_owned()
    });
    let mut hosts = hosts.collect::<Vec<_>>().into_iter().cycle();
    move || Some(HttpCaller::new(hosts.next()?, token, task.clone()))
}

/// Fills the keys, then goes through all phases, round after round.
async fn phases<C: Caller>(
    args: &KvArgs,
    report: &Report,
    make: impl FnMut() -> Option<C>,
    processes: &[u32],
    alone_on_loopback: bool,
) -> Result<Vec<Phase>, BenchError> {
    let most = args.in_flight.iter().copied().max().unwrap_or(1);
    let callers = std::iter::repeat_with(make).map_while(|caller| caller);
    let callers: Vec<C> = callers.take(usize::from(most)).collect();
    let (callers, refused) = load::fill(callers, args.keys).await?;
    if let Some(code) = refused {
        report.say(&format!(
            "not all keys are there: a put was refused as {code}"
        ));
    }
    let warm = load::run(callers, Work::Only(Call::Get), args.keys, WARM_UP);
    let (mut callers, _) = warm.await?;
    let mut phases = phases_of(args);
    for _ in 0..args.rounds {
        for phase in &mut phases {
            let used: Vec<C> = callers.split_off(callers.len() - usize::from(phase.in_flight));
            let before = (cpu(processes), usage::loopback().0);
            let lasting = Duration::from_secs(u64::from(args.seconds));
            let (used, outcome) = load::run(used, phase.work, args.keys, lasting).await?;
            callers.extend(used);
            let wire = alone_on_loopback.then(|| usage::loopback().0 - before.1);
            phase.add(&outcome, cpu(processes) - before.0, wire)?;
        }
    }
    Ok(phases)
}

/// By HTTP, what that alone costs here and now is measured, too: figures of two
/// machines, or of two hours of one, are to be compared by their ratios to it.
fn phases_of(args: &KvArgs) -> Vec<Phase> {
    let mut works = match args.mix {
        Some(gets) => vec![Work::Mix { gets: gets.into() }],
        None => vec![Work::Only(Call::Put), Work::Only(Call::Get)],
    };
    if args.mix.is_none() && args.mode == "linearizable" {
        works.push(Work::Only(Call::Swap));
    }
    if !args.in_process {
        works.push(Work::Only(Call::Floor));
    }
    let phase = |in_flight: u16| works.iter().map(move |work| Phase::new(*work, in_flight));
    args.in_flight.iter().copied().flat_map(phase).collect()
}

fn cpu(processes: &[u32]) -> Duration {
    processes.iter().map(|process| usage::cpu(*process)).sum()
}

/// One kind of load, and what all rounds gave.
struct Phase {
    work: Work,
    in_flight: u16,
    /// Of each kind of call, then of all where there are several.
    lines: Vec<Line>,
    cpu_micros: Vec<f64>,
    wire_bytes: Vec<f64>,
}

/// What a table tells of a phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) call: Call,
    pub(super) in_flight: u16,
    pub(super) p50: Duration,
    pub(super) rate: f64,
    pub(super) failed: u64,
}

/// What came of calls of one kind, or of all.
struct Line {
    call: Option<Call>,
    rates: Vec<f64>,
    times: [Vec<Duration>; PARTS.len()],
    done: u64,
    errors: BTreeMap<String, u64>,
}

impl Phase {
    fn new(work: Work, in_flight: u16) -> Self {
        let calls = match work {
            Work::Only(call) => vec![Some(call)],
            Work::Mix { .. } => vec![Some(Call::Put), Some(Call::Get), None],
        };
        let line = |call| Line {
            call,
            rates: Vec::new(),
            times: Default::default(),
            done: 0,
            errors: BTreeMap::new(),
        };
        Self {
            work,
            in_flight,
            lines: calls.into_iter().map(line).collect(),
            cpu_micros: Vec::new(),
            wire_bytes: Vec::new(),
        }
    }

    fn add(
        &mut self,
        outcome: &Outcome,
        cpu: Duration,
        wire: Option<u64>,
    ) -> Result<(), BenchError> {
        let mut all = Tally::new()?;
        for call in [Call::Put, Call::Get, Call::Swap, Call::Floor] {
            all.merge(outcome.of(call));
        }
        for line in &mut self.lines {
            let tally = line.call.map_or(&all, |call| outcome.of(call));
            line.add(tally, outcome.elapsed);
        }
        let count = all.done().max(1) as f64;
        self.cpu_micros.push(cpu.as_secs_f64() * 1e6 / count);
        self.wire_bytes.extend(wire.map(|wire| wire as f64 / count));
        Ok(())
    }

    /// What alone was done, how many at once, and the median and the rate of that;
    /// how many calls failed.
    fn row(&mut self) -> Option<Row> {
        let line = self.lines.last_mut()?;
        Some(Row {
            call: line.call?,
            in_flight: self.in_flight,
            p50: percentile(&mut line.times[0], 0.5)?,
            rate: percentile(&mut line.rates, 0.5)?,
            failed: line.failed(),
        })
    }

    /// Puts and gets that succeeded.
    fn done(&self) -> u64 {
        let lines = self.lines.iter();
        let lines =
            lines.filter(|line| matches!(line.call, Some(Call::Put | Call::Get | Call::Swap)));
        lines.map(|line| line.done).sum()
    }

    fn tell(&mut self, args: &KvArgs, report: &Report) {
        let cpu = percentile(&mut self.cpu_micros, 0.5).filter(|cpu| *cpu > 0.0);
        let wire = percentile(&mut self.wire_bytes, 0.5);
        let several = self.lines.len() > 1;
        for line in &mut self.lines {
            // What a put and a get cost cannot be told apart.
            let own = !several || line.call.is_none();
            let number = |figure: Option<f64>| match figure.filter(|_| own) {
                Some(figure) => Figure::Number(figure),
                None => Figure::Nothing,
            };
            let word = match line.call {
                Some(Call::Put) => "put",
                Some(Call::Get) => "get",
                Some(Call::Swap) => "cas",
                Some(Call::Floor) => "GET /healthz",
                None => "all",
            };
            let mix = match self.work {
                Work::Mix { gets } => format!(", {gets} % gets"),
                Work::Only(_) => String::new(),
            };
            let what = format!("{word}, {} in flight{mix}", self.in_flight);
            let mut parts = line.parts();
            parts.extend([("cpu us/op", number(cpu)), ("wire B/op", number(wire))]);
            parts.push(("errors", Figure::Number(line.failed() as f64)));
            let facts = facts(args, word, self.in_flight, line);
            report.figure_of(&what, &facts, &parts);
            for (code, count) in &line.errors {
                report.say(&format!("  {count} errors: {code}"));
            }
        }
    }
}

impl Line {
    fn add(&mut self, tally: &Tally, elapsed: Duration) {
        self.done += tally.done();
        self.rates
            .push(tally.done() as f64 / elapsed.as_secs_f64().max(f64::EPSILON));
        for (times, (_, part)) in self.times.iter_mut().zip(PARTS) {
            times.push(tally.percentile(part));
        }
        for (code, count) in &tally.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
    }

    fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Of each round one figure: the median is told, of the longest times the
    /// longest.
    fn parts(&mut self) -> Vec<(&'static str, Figure)> {
        let mut parts = Vec::new();
        for ((name, part), times) in PARTS.into_iter().zip(&mut self.times) {
            let of_rounds = if part < 1.0 { 0.5 } else { 1.0 };
            let time = percentile(times, of_rounds).unwrap_or_default();
            parts.push((name, Figure::Time(time)));
        }
        let rate = percentile(&mut self.rates, 0.5).unwrap_or_default();
        parts.push(("rate", Figure::Rate(rate)));
        parts
    }
}

/// What a program has to know to tell one figure from another.
fn facts(args: &KvArgs, word: &str, in_flight: u16, line: &Line) -> Vec<(&'static str, Figure)> {
    let number = |number: u32| Figure::Number(number.into());
    vec![
        ("operation", Figure::Text(word.to_owned())),
        ("in_flight", number(in_flight.into())),
        ("mode", Figure::Text(args.mode.clone())),
        ("size", number(args.size)),
        ("keys", number(args.keys)),
        ("seconds", number(args.seconds.into())),
        ("rounds", number(args.rounds.into())),
        ("done", Figure::Number(line.done as f64)),
        ("errors_by_code", Figure::Counts(line.errors.clone())),
    ]
}
