//! Commits on their way to disk, laid over the last finished transaction.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use roundelay_core::store::{StoreError, Stored, Write};

/// A commit, shared with the thread that writes it: its bytes are held once.
pub(super) type SharedWrites = Arc<Vec<Write>>;

/// The commits in flight and, for each key they touch, the newest of them.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    newest: BTreeMap<Vec<u8>, Entry>,
    commits: VecDeque<SharedWrites>,
    /// The number of the first of `commits`; they are numbered one by one.
    first: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    commit: u64,
    writes: SharedWrites,
    index: usize,
}

impl Entry {
    fn value(&self) -> Option<&[u8]> {
        self.writes.get(self.index)?.value.as_deref()
    }
}

impl Overlay {
    /// Bytes of keys and values in flight.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a commit.
    pub(super) fn push(&mut self, writes: SharedWrites) {
        let commit = self.first + self.commits.len() as u64;
        for (index, write) in writes.iter().enumerate() {
            let writes = Arc::clone(&writes);
            let entry = Entry {
                commit,
                writes,
                index,
            };
            self.newest.insert(write.key.clone(), entry);
        }
        self.bytes += bytes_of(&writes);
        self.commits.push_back(writes);
    }

    /// Removes the oldest commit, which is written or refused.
    pub(super) fn pop(&mut self) {
        let Some(writes) = self.commits.pop_front() else {
            return;
        };
        for write in writes.iter() {
            if self
                .newest
                .get(&write.key)
                .is_some_and(|entry| entry.commit == self.first)
            {
                self.newest.remove(&write.key);
            }
        }
        self.first += 1;
        self.bytes -= bytes_of(&writes);
    }

    /// What is on its way for a key: `Some(None)` is its removal, `None` that
    /// the last transaction knows.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.newest.get(key).map(Entry::value)
    }

    /// The entries with `from <= key < to`, removals included, in order.
    /// `from` must be below `to`.
    pub(super) fn range(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.newest
            .range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)))
            .map(|(key, entry)| (key.as_slice(), entry.value()))
    }
}

/// Bytes of keys and values in a commit.
pub(super) fn bytes_of(writes: &[Write]) -> usize {
    let sizes = writes
        .iter()
        .map(|write| write.key.len() + write.value.as_ref().map_or(0, Vec::len));
    sizes.sum()
}

/// A key and its value; `None` is a removal.
pub(super) type Found = Result<(Vec<u8>, Option<Vec<u8>>), StoreError>;

/// Answers a scan from entries in order: as many as fit in `limit` bytes, and
/// at least one if there is one. Removals are left out.
pub(super) fn scan(
    entries: impl Iterator<Item = Found>,
    limit: usize,
) -> Result<Stored, StoreError> {
    let mut found = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let (key, Some(value)) = entry? else { continue };
        bytes += key.len() + value.len();
        if bytes > limit && !found.is_empty() {
            break;
        }
        found.push((key, value));
    }
    Ok(Stored::Entries(found))
}

/// Merges two sequences in order of keys; where both have a key, `over` wins.
pub(super) struct Merge<A: Iterator, B: Iterator> {
    over: Peekable<A>,
    under: Peekable<B>,
}

impl<A, B> Merge<A, B>
where
    A: Iterator<Item = Found>,
    B: Iterator<Item = Found>,
{
    pub(super) fn new(over: A, under: B) -> Self {
        Self {
            over: over.peekable(),
            under: under.peekable(),
        }
    }
}

impl<A, B> Iterator for Merge<A, B>
where
    A: Iterator<Item = Found>,
    B: Iterator<Item = Found>,
{
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let order = match (self.over.peek(), self.under.peek()) {
            (None, _) => Ordering::Greater,
            (_, None) => Ordering::Less,
            (Some(Ok((over, _))), Some(Ok((under, _)))) => over.cmp(under),
            // An error ends the scan: no matter when.
            (Some(Err(_)), _) => Ordering::Less,
            (_, Some(Err(_))) => Ordering::Greater,
        };
        match order {
            Ordering::Less => self.over.next(),
            Ordering::Greater => self.under.next(),
            Ordering::Equal => {
                self.under.next();
                self.over.next()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(writes: &[(&str, Option<&str>)]) -> SharedWrites {
        let writes = writes.iter().map(|(key, value)| Write {
            key: key.as_bytes().to_vec(),
            value: value.map(|value| value.as_bytes().to_vec()),
        });
        Arc::new(writes.collect())
    }

    #[test]
    fn the_newest_commit_of_a_key_counts_until_it_is_popped() {
        let mut overlay = Overlay::default();
        overlay.push(commit(&[("a", Some("1")), ("b", Some("1"))]));
        overlay.push(commit(&[("a", None)]));
        assert_eq!(overlay.get(b"a"), Some(None));
        assert_eq!(overlay.get(b"b"), Some(Some(b"1".as_slice())));
        assert_eq!(overlay.bytes(), 5);
        overlay.pop();
        assert_eq!(overlay.get(b"a"), Some(None));
        assert_eq!(overlay.get(b"b"), None);
        overlay.pop();
        overlay.pop();
        assert_eq!((overlay.get(b"a"), overlay.bytes()), (None, 0));
    }

    #[test]
    fn merging_prefers_what_lies_over() {
        let list = |text: &'static str, value: &'static str| {
            text.bytes()
                .map(move |key| Ok((vec![key], Some(value.as_bytes().to_vec()))))
        };
        let merged: String = Merge::new(list("bd", "over"), list("abce", "under"))
            .map(|found| {
                let (key, value) = found.unwrap();
                format!("{}{} ", key[0] as char, value.unwrap().len())
            })
            .collect();
        assert_eq!(merged, "a5 b4 c5 d4 e5 ");
    }
}
