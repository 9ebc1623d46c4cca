//! A closed loop: so many requests under way, each followed by the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::BenchError;

/// The longest time that is told apart; no call takes longer.
const LONGEST: Duration = Duration::from_secs(600);

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Put,
    Get,
    /// A put of what this caller alone writes, if it is still what it wrote last.
    Swap,
    /// Whatever the way to a node costs, without its ring.
    Floor,
}

/// What is done to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Only(Call),
    /// So many gets of a hundred calls, in no order; the others are puts.
    Mix {
        gets: u32,
    },
}

/// Why a call failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// There is no answer, in these words.
    Unreachable(String),
    /// The answer is an error with this code.
    Refused(String),
}

impl CallError {
    fn code(&self) -> &str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Refused(code) => code,
        }
    }
}

/// One that carries out requests, one at a time.
pub(super) trait Caller: Send + 'static {
    /// Does it to a key.
    fn call(&mut self, call: Call, key: u32) -> impl Future<Output = Result<(), CallError>> + Send;
}

/// What came of calls of one kind.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// How long those took that succeeded, in nanoseconds.
    times: Histogram<u64>,
    /// How many failed, by code.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn new() -> Result<Self, BenchError> {
        let most = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        let times = Histogram::new_with_bounds(1, most, 3);
        let times = times.map_err(|error| BenchError::Answer(error.to_string()))?;
        let errors = BTreeMap::new();
        Ok(Self { times, errors })
    }

    fn add(&mut self, took: Duration, result: &Result<(), CallError>) {
        match result {
            Ok(()) => {
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                self.times.saturating_record(nanos);
            }
            Err(error) => self.fail(error.code(), 1),
        }
    }

    fn fail(&mut self, code: &str, count: u64) {
        *self.errors.entry(code.to_owned()).or_default() += count;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.times.add(&other.times);
        for (code, count) in &other.errors {
            self.fail(code, *count);
        }
    }

    /// How many succeeded.
    pub(super) fn done(&self) -> u64 {
        self.times.len()
    }

    /// The time that this part of them took at most.
    pub(super) fn percentile(&self, part: f64) -> Duration {
        match self.times.is_empty() {
            true => Duration::ZERO,
            false => Duration::from_nanos(self.times.value_at_quantile(part)),
        }
    }
}

/// What came of a phase.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) puts: Tally,
    pub(super) gets: Tally,
    pub(super) swaps: Tally,
    pub(super) floor: Tally,
    pub(super) elapsed: Duration,
}

impl Outcome {
    fn new() -> Result<Self, BenchError> {
        Ok(Self {
            puts: Tally::new()?,
            gets: Tally::new()?,
            swaps: Tally::new()?,
            floor: Tally::new()?,
            elapsed: Duration::ZERO,
        })
    }

    pub(super) fn of(&self, call: Call) -> &Tally {
        match call {
            Call::Put => &self.puts,
            Call::Get => &self.gets,
            Call::Swap => &self.swaps,
            Call::Floor => &self.floor,
        }
    }

    fn of_mut(&mut self, call: Call) -> &mut Tally {
        match call {
            Call::Put => &mut self.puts,
            Call::Get => &mut self.gets,
            Call::Swap => &mut self.swaps,
            Call::Floor => &mut self.floor,
        }
    }
}

/// Runs callers side by side on the current runtime for a while, on keys below
/// `keys`; gives them back for the next phase.
pub(super) async fn run<C: Caller>(
    callers: Vec<C>,
    work: Work,
    keys: u32,
    lasting: Duration,
) -> Result<(Vec<C>, Outcome), BenchError> {
    let start = Instant::now();
    let end = start + lasting;
    let all = Arc::new(Mutex::new(Outcome::new()?));
    let mut tasks = Vec::new();
    for (number, mut caller) in (0_u32..).zip(callers) {
        let all = Arc::clone(&all);
        tasks.push(tokio::spawn(async move {
            let mut key = Draw::new(number, keys);
            let mut percent = Draw::new(!number, 100);
            let mut begun = Instant::now();
            while begun < end {
                let call = match work {
                    Work::Only(call) => call,
                    Work::Mix { gets } if percent.next() < gets => Call::Get,
                    Work::Mix { .. } => Call::Put,
                };
                let called = caller.call(call, key.next()).await;
                let done = Instant::now();
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.of_mut(call).add(done - begun, &called);
                begun = done;
            }
            caller
        }));
    }
    let mut callers = Vec::new();
    for task in tasks {
        callers.extend(task.await);
    }
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.elapsed = start.elapsed();
    let outcome = std::mem::replace(&mut *all, Outcome::new()?);
    Ok((callers, outcome))
}

/// Writes every key once, unless a write is refused; tells with which code.
pub(super) async fn fill<C: Caller>(
    callers: Vec<C>,
    keys: u32,
) -> Result<(Vec<C>, Option<String>), BenchError> {
    let step = u32::try_from(callers.len()).unwrap_or(1);
    let tasks: Vec<_> = (0_u32..)
        .zip(callers)
        .map(|(first, mut caller)| {
            tokio::spawn(async move {
                for key in (first..keys).step_by(step as usize) {
                    if let Err(error) = caller.call(Call::Put, key).await {
                        return (caller, Err(error));
                    }
                }
                (caller, Ok(()))
            })
        })
        .collect();
    let (mut callers, mut refused) = (Vec::new(), None);
    for task in tasks {
        let (caller, filled) = task.await.map_err(std::io::Error::other)?;
        callers.push(caller);
        match filled {
            Ok(()) => {}
            Err(CallError::Refused(code)) => refused = Some(code),
            Err(CallError::Unreachable(words)) => return Err(BenchError::Answer(words)),
        }
    }
    Ok((callers, refused))
}

/// Numbers that look random: a full cycle of a linear congruential generator
/// (Knuth, TAOCP 2, section 3.2.1), from a start of its own.
struct Draw {
    state: u64,
    count: u32,
}

impl Draw {
    fn new(number: u32, count: u32) -> Self {
        let state = u64::from(number) << 40;
        Self { state, count }
    }

    fn next(&mut self) -> u32 {
        let state = self.state.wrapping_mul(6_364_136_223_846_793_005);
        self.state = state.wrapping_add(1_442_695_040_888_963_407);
        let high = (self.state >> 33) as u32;
        high % self.count.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Flaky {
        puts: u64,
        gets: u64,
    }

    impl Caller for Flaky {
        async fn call(&mut self, call: Call, key: u32) -> Result<(), CallError> {
            assert!(key < 10);
            tokio::task::yield_now().await;
            match call {
                Call::Put => self.puts += 1,
                Call::Get | Call::Swap | Call::Floor => self.gets += 1,
            }
            if (self.puts + self.gets).is_multiple_of(3) {
                return Err(CallError::Refused("third".to_owned()));
            }
            Ok(())
        }
    }

    fn two() -> Vec<Flaky> {
        vec![Flaky::default(), Flaky::default()]
    }

    #[tokio::test]
    async fn successes_and_errors_are_counted_apart() {
        let lasting = Duration::from_millis(20);
        let work = Work::Only(Call::Get);
        let (callers, outcome) = run(two(), work, 10, lasting).await.unwrap();
        let calls: u64 = callers.iter().map(|caller| caller.gets).sum();
        let failed: u64 = callers.iter().map(|caller| caller.gets / 3).sum();
        assert_eq!(outcome.gets.errors["third"], failed);
        assert_eq!(outcome.gets.done() + failed, calls);
        assert_eq!(outcome.puts.done() + outcome.floor.done(), 0);
        assert!(outcome.elapsed >= lasting);
        let (median, most) = (outcome.gets.percentile(0.5), outcome.gets.percentile(1.0));
        assert!(Duration::ZERO < median && median <= most);
    }

    #[tokio::test]
    async fn a_mix_has_the_share_of_gets_that_was_asked_for() {
        let lasting = Duration::from_millis(50);
        let work = Work::Mix { gets: 80 };
        let (callers, _) = run(two(), work, 10, lasting).await.unwrap();
        for Flaky { puts, gets } in callers {
            let percent = 100 * gets / (puts + gets).max(1);
            assert!((70..90).contains(&percent), "{gets} gets, {puts} puts");
        }
    }

    #[tokio::test]
    async fn filling_stops_at_an_error() {
        let (_, refused) = fill(vec![Flaky::default()], 10).await.unwrap();
        assert_eq!(refused.as_deref(), Some("third"));
        let (_, refused) = fill(vec![Flaky::default()], 2).await.unwrap();
        assert_eq!(refused, None);
    }
}
