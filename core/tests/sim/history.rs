//! Whether there is one order of all calls of a key that explains what each of
//! them was told (linearizability: Herlihy and Wing 1990; the search is that
//! of Wing and Gong 1993, with Lowe's memory of states seen, 2017).

use std::collections::{BTreeMap, HashMap, HashSet};

use roundelay_core::kvs::{Condition, Key, Version};

/// A value, by its number: every write has one of its own. None: no value.
type Value = Option<u64>;

/// What a call was told to do, and what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Read(Value),
    Write(Value),
    /// A write that happened on a condition.
    Swap(Condition, Value),
    /// A write whose condition did not hold, and what was there instead.
    Refused(Condition, Option<Version>),
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    step: Step,
    begun: u64,
    /// Nobody knows when, or whether: for ever.
    ended: u64,
}

impl Operation {
    const fn changes_nothing(&self) -> bool {
        matches!(self.step, Step::Read(_) | Step::Refused(..))
    }

    const fn is_unknown_delete(&self) -> bool {
        matches!(self.step, Step::Write(None)) && self.ended == u64::MAX
    }
}

/// The calls of each key.
#[derive(Default)]
pub struct History {
    keys: BTreeMap<Key, Vec<Operation>>,
    values: HashMap<Version, Value>,
}

impl History {
    /// A version has this value.
    pub fn saw(&mut self, version: Version, value: Value) {
        self.values.insert(version, value);
    }

    /// A call has ended; without an end, it may yet happen.
    pub fn add(&mut self, key: &Key, step: Step, begun: u64, ended: Option<u64>) {
        let ended = ended.unwrap_or(u64::MAX);
        let operation = Operation { step, begun, ended };
        self.keys.entry(key.clone()).or_default().push(operation);
    }

    /// Calls that were answered.
    pub fn count(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// Says which key's calls no order explains.
    pub fn check(&self) -> Result<(), String> {
        for (key, operations) in &self.keys {
            let mut operations = self.that_matter(operations);
            // What ended first is tried first, and what may never have been last.
            operations.sort_by_key(|one| (one.ended, one.begun));
            if !self.is_explained(&operations) {
                let calls = self.first_unexplained(&operations).join("\n  ");
                return Err(format!("{key} is not linearizable:\n  {calls}"));
            }
        }
        Ok(())
    }

    /// The last calls of the shortest beginning that no order explains.
    fn first_unexplained(&self, operations: &[Operation]) -> Vec<String> {
        let until = |end: u64| -> Vec<Operation> {
            let begun = operations.iter().filter(|one| one.begun <= end);
            let cut = |one: &Operation| Operation {
                ended: if one.ended > end { u64::MAX } else { one.ended },
                ..*one
            };
            begun.map(cut).collect()
        };
        let mut ends: Vec<u64> = operations.iter().map(|one| one.ended).collect();
        ends.sort_unstable();
        let first = ends.partition_point(|end| self.is_explained(&until(*end)));
        let calls = until(ends.get(first).copied().unwrap_or(u64::MAX));
        let from = calls.len().saturating_sub(30);
        calls[from..].iter().map(|one| self.show(one)).collect()
    }

    fn show(&self, one: &Operation) -> String {
        let ended = match one.ended {
            u64::MAX => "?".to_string(),
            ended => ended.to_string(),
        };
        let about = match one.step {
            Step::Swap(condition, _) | Step::Refused(condition, _) => self.wanted(condition),
            _ => None,
        };
        let found = match one.step {
            Step::Refused(_, Some(version)) => self.values.get(&version),
            _ => None,
        };
        format!(
            "{} to {ended}: {:?} {about:?} {found:?}",
            one.begun, one.step
        )
    }

    /// A write that nobody knows of, and whose value nobody saw, is left out:
    /// where it happened, it explains nothing that it does not break.
    fn that_matter(&self, operations: &[Operation]) -> Vec<Operation> {
        let seen: HashSet<u64> = operations
            .iter()
            .filter_map(|one| match one.step {
                Step::Read(value) => value,
                Step::Swap(Condition::Version(version), _) | Step::Refused(_, Some(version)) => {
                    *self.values.get(&version)?
                }
                _ => None,
            })
            .collect();
        let matters = |one: &&Operation| match one.step {
            Step::Write(Some(value)) | Step::Swap(_, Some(value)) => {
                one.ended < u64::MAX || seen.contains(&value)
            }
            _ => true,
        };
        operations.iter().filter(matters).copied().collect()
    }

    /// What a condition asks for: a value, or none. Of a version that nobody
    /// read, nothing is known.
    fn wanted(&self, condition: Condition) -> Option<Value> {
        match condition {
            Condition::Absent => Some(None),
            Condition::Version(version) => self.values.get(&version).copied(),
        }
    }

    /// The value after a step, if it is possible where there is `state`.
    fn after(&self, step: Step, state: Value) -> Option<Value> {
        match step {
            Step::Read(value) => (value == state).then_some(state),
            Step::Write(value) => Some(value),
            Step::Swap(condition, value) => {
                let holds = match self.wanted(condition) {
                    Some(wanted) => wanted == state,
                    None => state.is_some(),
                };
                holds.then_some(value)
            }
            Step::Refused(_, None) => state.is_none().then_some(state),
            Step::Refused(Condition::Absent, Some(_)) => state.is_some().then_some(state),
            Step::Refused(_, Some(version)) => match self.values.get(&version) {
                Some(value) => (*value == state).then_some(state),
                None => state.is_some().then_some(state),
            },
        }
    }

    fn is_explained(&self, operations: &[Operation]) -> bool {
        let mut done = vec![false; operations.len()];
        let mut seen: HashSet<(Vec<bool>, Value)> = HashSet::new();
        let mut trail: Vec<(usize, Value, bool)> = Vec::new();
        let (mut state, mut from) = (None, 0);
        loop {
            let open = |one: &(usize, &Operation)| !done[one.0];
            let all = || operations.iter().enumerate().filter(open);
            // What ends first must happen before anything that begins later.
            let horizon = all().map(|(_, one)| one.ended).min().unwrap_or(u64::MAX);
            if horizon == u64::MAX {
                return true;
            }
            // Of deletes that nobody knows of, the first to begin serves as any other.
            let first = all().find(|(_, one)| one.is_unknown_delete());
            let first = first.map(|(index, _)| index);
            let possible = |(index, one): (usize, &Operation)| {
                let is_other = one.is_unknown_delete() && first != Some(index);
                let is_now = one.begun <= horizon && !is_other;
                let after = self.after(one.step, state).filter(|_| is_now)?;
                Some((index, after, one.changes_nothing()))
            };
            // What changes nothing may as well happen now.
            let quiet = all().filter_map(possible).find(|(_, _, quiet)| *quiet);
            let later = |(index, _): &(usize, &Operation)| *index >= from;
            let next = quiet.or_else(|| all().filter(later).find_map(possible));
            if let Some((index, after, quiet)) = next {
                done[index] = true;
                if quiet || seen.insert((done.clone(), after)) {
                    trail.push((index, state, quiet));
                    (state, from) = (after, if quiet { from } else { 0 });
                } else {
                    done[index] = false;
                    from = index + 1;
                }
                continue;
            }
            // Back to the last choice.
            loop {
                let Some((index, before, quiet)) = trail.pop() else {
                    return false;
                };
                done[index] = false;
                if !quiet {
                    (state, from) = (before, index + 1);
                    break;
                }
            }
        }
    }
}

#[test]
fn an_order_is_found_or_not() {
    let key = Key::new("k").unwrap();
    let (one, two) = (Some(1), Some(2));
    let check = |calls: &[(Step, u64, Option<u64>)]| {
        let mut history = History::default();
        for (step, begun, ended) in calls {
            history.add(&key, *step, *begun, *ended);
        }
        history.check().is_ok()
    };
    // A read may see what is being written, or not; but never go back.
    let write = (Step::Write(one), 0, Some(9));
    let read = |value, begun, ended| (Step::Read(value), begun, Some(ended));
    assert!(check(&[write, read(None, 1, 2), read(one, 3, 4)]));
    assert!(!check(&[write, read(one, 1, 2), read(None, 3, 4)]));
    // What nobody knows of may have happened, and late.
    let unknown = (Step::Write(two), 0, None);
    assert!(check(&[
        unknown,
        write,
        read(one, 10, 11),
        read(two, 12, 13)
    ]));
    assert!(!check(&[unknown, read(two, 1, 2), read(None, 12, 13)]));
    // As many unknown deletes as are needed, and none before it began.
    let delete = |begun| (Step::Write(None), begun, None);
    let again = (Step::Write(two), 13, Some(14));
    let nothing = |begun| read(None, begun, begun + 1);
    let calls = [write, nothing(10), again, nothing(16)];
    assert!(check(&[&calls[..], &[delete(2), delete(3)]].concat()));
    assert!(!check(&[&calls[..], &[delete(2)]].concat()));
    assert!(!check(&[&calls[..], &[delete(2), delete(18)]].concat()));
    // Two cannot both be the first.
    let first = |value| (Step::Swap(Condition::Absent, Some(value)), 0, Some(9));
    assert!(!check(&[first(1), first(2)]));
    let refused = (Step::Refused(Condition::Absent, None), 10, Some(11));
    assert!(!check(&[first(1), refused]));
    // A write that happens twice is not one write.
    let other = (Step::Write(two), 10, Some(11));
    assert!(!check(&[
        write,
        read(one, 9, 10),
        other,
        read(two, 12, 13),
        read(one, 14, 15)
    ]));
}
