//! A closed loop: so many requests under way, each followed by the next.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::report::percentile;

/// What is done to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Put,
    Get,
    /// Whatever the way to a node costs, without its ring.
    Floor,
}

/// One that carries out requests, one at a time.
pub(super) trait Caller: Send + 'static {
    /// Does it to a key; the error names its kind.
    fn call(&mut self, work: Work, key: u32) -> impl Future<Output = Result<(), String>> + Send;
}

/// What came of a phase.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Of requests that succeeded.
    pub(super) times: Vec<Duration>,
    /// How many failed, by kind.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) elapsed: Duration,
}

impl Outcome {
    pub(super) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    pub(super) fn percentile(&mut self, part: f64) -> Duration {
        percentile(&mut self.times, part).unwrap_or_default()
    }
}

/// Runs callers side by side on the current runtime for a while, on keys below
/// `keys`; gives them back for the next phase.
pub(super) async fn run<C: Caller>(
    callers: Vec<C>,
    work: Work,
    keys: u32,
    lasting: Duration,
) -> (Vec<C>, Outcome) {
    let start = Instant::now();
    let end = start + lasting;
    let mut tasks = Vec::new();
    for (number, mut caller) in (0_u32..).zip(callers) {
        tasks.push(tokio::spawn(async move {
            let mut own = Outcome::default();
            let mut key = Keys::new(number, keys);
            let mut begun = Instant::now();
            while begun < end {
                let called = caller.call(work, key.next()).await;
                let done = Instant::now();
                match called {
                    Ok(()) => own.times.push(done - begun),
                    Err(kind) => *own.errors.entry(kind).or_default() += 1,
                }
                begun = done;
            }
            (caller, own)
        }));
    }
    let mut all = Outcome::default();
    let mut callers = Vec::new();
    for task in tasks {
        let Ok((caller, own)) = task.await else {
            continue;
        };
        callers.push(caller);
        all.times.extend(own.times);
        for (kind, count) in own.errors {
            *all.errors.entry(kind).or_default() += count;
        }
    }
    all.elapsed = start.elapsed();
    (callers, all)
}

/// Writes every key once.
pub(super) async fn fill<C: Caller>(callers: Vec<C>, keys: u32) -> Result<Vec<C>, String> {
    let step = u32::try_from(callers.len()).unwrap_or(1);
    let tasks: Vec<_> = (0_u32..)
        .zip(callers)
        .map(|(first, mut caller)| {
            tokio::spawn(async move {
                for key in (first..keys).step_by(step as usize) {
                    caller.call(Work::Put, key).await?;
                }
                Ok::<C, String>(caller)
            })
        })
        .collect();
    let mut callers = Vec::new();
    for task in tasks {
        callers.push(task.await.map_err(|error| error.to_string())??);
    }
    Ok(callers)
}

/// Keys in an order that looks random: a full cycle of a linear congruential
/// generator (Knuth, TAOCP 2, section 3.2.1), from a start of its own.
struct Keys {
    state: u64,
    count: u32,
}

impl Keys {
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

    struct Flaky(u32);

    impl Caller for Flaky {
        async fn call(&mut self, _: Work, key: u32) -> Result<(), String> {
            assert!(key < 10);
            tokio::task::yield_now().await;
            self.0 += 1;
            if self.0.is_multiple_of(3) {
                return Err("third".to_owned());
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn successes_and_errors_are_counted_apart() {
        let callers = vec![Flaky(0), Flaky(0)];
        let lasting = Duration::from_millis(20);
        let (callers, outcome) = run(callers, Work::Get, 10, lasting).await;
        let calls: u32 = callers.iter().map(|caller| caller.0).sum();
        let failed = outcome.errors.get("third").copied().unwrap_or(0);
        assert_eq!(outcome.times.len() as u64 + failed, u64::from(calls));
        assert_eq!(
            failed,
            callers
                .iter()
                .map(|caller| u64::from(caller.0 / 3))
                .sum::<u64>()
        );
        assert!(outcome.elapsed >= lasting);
    }

    #[tokio::test]
    async fn filling_stops_at_an_error() {
        assert!(fill(vec![Flaky(0)], 10).await.is_err());
        assert!(fill(vec![Flaky(0)], 2).await.is_ok());
    }
}
