//! Steps that all run, whatever becomes of the others.

use std::time::{Duration, Instant};

use crate::error::Result;

/// What became of the steps so far.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, bool, Duration)>,
    skipped: Vec<(String, String)>,
}

impl Steps {
    /// Runs one step between a header and a line with its result.
    pub(crate) fn run(&mut self, name: &str, about: &str, step: impl FnOnce() -> Result) {
        println!("\n=== {name}: {about}");
        let started = Instant::now();
        let result = step();
        let took = started.elapsed();
        match &result {
            Ok(()) => println!("=== {name}: passed in {took:.1?}"),
            Err(error) => println!("{error}\n=== {name}: FAILED in {took:.1?}"),
        }
        self.done.push((name.to_owned(), result.is_ok(), took));
    }

    /// Says why a step does not run. It counts as nothing.
    pub(crate) fn skip(&mut self, name: &str, about: &str, reason: &str) {
        println!("\n=== {name}: {about}\n=== {name}: SKIPPED: {reason}");
        self.skipped.push((name.to_owned(), reason.to_owned()));
    }

    /// Prints a line for each step.
    pub(crate) fn summarise(&self) {
        println!();
        for (name, passed, took) in &self.done {
            let word = if *passed { "passed" } else { "FAILED" };
            println!("  {word}  {:>8.1}s  {name}", took.as_secs_f64());
        }
        for (name, reason) in &self.skipped {
            println!("  SKIPPED           {name}: {reason}");
        }
        println!();
    }

    /// How many passed and how many did not, of those that ran.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let passed = self.done.iter().filter(|(_, passed, _)| *passed).count();
        (passed, self.done.len() - passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_failed_step_stops_no_other() {
        let mut steps = Steps::default();
        steps.run("one", "fails", || Err(Error::new("no")));
        steps.run("two", "passes", || Ok(()));
        assert_eq!(steps.counts(), (1, 1));
    }

    #[test]
    fn a_skipped_step_counts_as_nothing() {
        let mut steps = Steps::default();
        steps.skip("one", "needs much", "it is not there");
        assert_eq!(steps.counts(), (0, 0));
    }
}
