//! What writers were told, and what may be read for it afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use roundelay_core::kvs::Version;

use super::Side;
use super::common::Answer;

/// One write of a key.
#[derive(Clone)]
pub(super) struct Write {
    pub(super) side: Side,
    /// The value; `None` deletes. No two writes have one value.
    pub(super) value: Option<String>,
    pub(super) outcome: Outcome,
    pub(super) asked: Instant,
    pub(super) answered: Instant,
}

/// What the writer was told.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Acknowledged(Version),
    /// It is surely not applied.
    Refused,
    /// It may be applied, now or later.
    Unknown,
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, value) = (self.side.name(), &self.value);
        match self.outcome {
            Outcome::Acknowledged(version) => write!(f, "{side} {value:?} as {version}"),
            Outcome::Refused => write!(f, "{side} {value:?}, refused"),
            Outcome::Unknown => write!(f, "{side} {value:?}, unanswered"),
        }
    }
}

impl Outcome {
    /// What an answer means.
    pub(super) fn of(answer: &Answer) -> Self {
        match answer.status {
            204 => Self::Acknowledged(version(answer)),
            503 => Self::Refused,
            // Of an answer that never came nothing is known either.
            504 | 0 => Self::Unknown,
            other => panic!("{other}: {}", answer.text()),
        }
    }
}

fn version(answer: &Answer) -> Version {
    answer.header("etag").trim_matches('"').parse().unwrap()
}

/// All writes by key.
pub(super) type History = BTreeMap<String, Vec<Write>>;

/// What is wrong with an answer to a read, for all that was written.
pub(super) fn complaint(writes: &[Write], read: &Answer) -> Option<String> {
    let acknowledged = writes.iter().filter_map(|write| match write.outcome {
        Outcome::Acknowledged(version) => Some((version, write)),
        _ => None,
    });
    let newest = acknowledged.max_by_key(|(version, _)| *version);
    let unknown = |value: Option<&str>| {
        let mut unknown = writes.iter().filter(|one| one.outcome == Outcome::Unknown);
        unknown.any(|one| one.value.as_deref() == value)
    };
    match read.status {
        404 => {
            let gone = newest.is_none_or(|(_, write)| write.value.is_none());
            (!gone && !unknown(None)).then(|| format!("lost: {newest:?}"))
        }
        200 => {
            let (found, text) = (version(read), read.text());
            match newest {
                Some((version, _)) if found < version => {
                    Some(format!("{text} of {found} came back, after {newest:?}"))
                }
                Some((version, write)) if found == version => (write.value.as_deref()
                    != Some(&text))
                .then(|| format!("{text} instead of {newest:?}")),
                _ => (!unknown(Some(&text))).then(|| format!("nobody wrote {text} of {found}")),
            }
        }
        _ => Some(format!("no answer: {} {}", read.status, read.text())),
    }
}

/// Whether both sides had a write of one key acknowledged that began and
/// ended between two instants.
pub(super) fn is_split(writes: &[Write], from: Instant, to: Instant) -> bool {
    let acknowledged = |side| {
        writes.iter().any(|write| {
            matches!(write.outcome, Outcome::Acknowledged(_))
                && write.side == side
                && write.asked >= from
                && write.answered <= to
        })
    };
    acknowledged(Side::Left) && acknowledged(Side::Right)
}

/// Counts of writes by what became of them.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) acknowledged: usize,
    /// Of those, how many deleted.
    pub(super) deleted: usize,
    pub(super) refused: usize,
    pub(super) unknown: usize,
}

/// Of the writes that a side began between two instants.
pub(super) fn counts(history: &History, side: Side, from: Instant, to: Instant) -> Counts {
    let mut counts = Counts::default();
    let writes = history.values().flatten();
    for write in writes.filter(|one| one.side == side && one.asked >= from && one.asked <= to) {
        match write.outcome {
            Outcome::Acknowledged(_) => {
                counts.acknowledged += 1;
                counts.deleted += usize::from(write.value.is_none());
            }
            Outcome::Refused => counts.refused += 1,
            Outcome::Unknown => counts.unknown += 1,
        }
    }
    counts
}
