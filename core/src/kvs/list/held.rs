//! What one copy holds of a page, and what several hold together.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{List, PAGE_BYTES_MAX, PAGE_KEY_COUNT_MAX, Page};
use crate::flat::FlatMap;
use crate::kvs::entry::Meta;
use crate::kvs::key::Key;
use crate::kvs::version::Version;

/// What is held of a page, in order: as many keys with a value as the page may
/// have, but no more than [`PAGE_KEY_COUNT_MAX`] keys in all, nor many more than
/// [`PAGE_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    entries: Vec<(Key, Seen)>,
    /// Whether there is more after the last.
    cut: bool,
}

/// The newest of a key; the greater one is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Seen {
    version: Version,
    deleted: bool,
}

impl Held {
    /// Takes what is held of a bucket, in order, as far as the page goes.
    pub(crate) fn gather<'a>(list: &List, held: impl Iterator<Item = (&'a Key, Meta)>) -> Self {
        let mut entries = Vec::new();
        let (mut alive, mut bytes) = (0, 0);
        for (key, meta) in held {
            let full = entries.len() >= PAGE_KEY_COUNT_MAX || bytes >= PAGE_BYTES_MAX;
            if full || alive >= list.limit() {
                return Self { entries, cut: true };
            }
            let (version, deleted) = (meta.version, meta.deleted);
            alive += usize::from(!deleted);
            bytes += bytes_of(key);
            entries.push((key.clone(), Seen { version, deleted }));
        }
        Self {
            entries,
            cut: false,
        }
    }

    /// Whether it answers what was asked: peers say what they like.
    pub(crate) fn is_of(&self, list: &List) -> bool {
        let keys = self.entries.iter().map(|(key, _)| key);
        self.entries.len() <= PAGE_KEY_COUNT_MAX
            && keys.clone().all(|key| list.contains(key))
            && keys.is_sorted_by(|key, next| key < next)
            && !(self.cut && self.entries.is_empty())
    }

    /// What two hold together, as far as both know.
    pub(crate) fn merge(self, other: Self) -> Self {
        let ends = [self.end(), other.end()];
        let end = ends.into_iter().flatten().min().cloned();
        let mut merged: FlatMap<Key, Seen> = self.entries.into_iter().collect();
        for (key, seen) in other.entries {
            let newest = merged.entry(key).or_insert(seen);
            *newest = seen.max(*newest);
        }
        let within = |key: &Key| end.as_ref().is_none_or(|end| key <= end);
        merged.retain(|key, _| within(key));
        Self {
            entries: merged.into_iter().collect(),
            cut: end.is_some(),
        }
    }

    /// The page: what has a value.
    pub(crate) fn page(self, list: &List) -> Page {
        let next = self.end().cloned();
        let (mut keys, mut bytes) = (Vec::new(), 0);
        for (key, seen) in self.entries.into_iter().filter(|(_, seen)| !seen.deleted) {
            if keys.len() >= list.limit() || bytes >= PAGE_BYTES_MAX {
                let next = keys.last().map(|(key, _): &(Key, Version)| key.clone());
                return Page { keys, next };
            }
            bytes += bytes_of(&key);
            keys.push((key, seen.version));
        }
        Page { keys, next }
    }

    /// The last key that is known of, if there are more.
    fn end(&self) -> Option<&Key> {
        let last = self.entries.last().filter(|_| self.cut);
        last.map(|(key, _)| key)
    }
}

/// A key, and its version.
fn bytes_of(key: &Key) -> usize {
    key.as_str().len() + 24
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::kvs::entry::{Entry, Index};
    use crate::kvs::version::Clock;
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec;

    /// A copy that holds the first of these; a name with a dash is deleted.
    struct Copy {
        index: Index,
        clock: Clock,
    }

    impl Copy {
        fn new(names: &[&str]) -> Self {
            let mut copy = Self {
                index: Index::default(),
                clock: Clock::new(&NodeId::from_bytes([1; 32])),
            };
            names.iter().for_each(|name| copy.put(name));
            copy
        }

        fn put(&mut self, name: &str) {
            let deleted = name.strip_suffix('-');
            let key = Key::new(deleted.unwrap_or(name)).unwrap();
            let version = self.clock.tick(0);
            let value = deleted.is_none().then(Vec::new);
            let meta = Meta::of(
                &key,
                &Entry {
                    version,
                    value,
                    expires: None,
                },
            );
            self.index.set(&key, Some(meta));
        }

        fn held(&self, list: &List) -> Held {
            let held = Held::gather(list, self.index.bucket(list));
            assert!(held.is_of(list), "{held:?}");
            held
        }
    }

    fn names(page: &Page) -> Vec<&str> {
        page.keys.iter().map(|(key, _)| key.as_str()).collect()
    }

    fn next(page: &Page) -> Option<&str> {
        page.next.as_ref().map(Key::as_str)
    }

    fn list(limit: usize) -> List {
        List::new("a").unwrap().with_limit(limit).unwrap()
    }

    /// A bucket of the same slot whose keys lie between `a` and `a/`.
    fn neighbour() -> String {
        let slot = Key::new("a").unwrap().slot();
        let mut buckets = (0..100_000).map(|number| format!("a-{number}"));
        let same = buckets.find(|bucket| Key::new(bucket.as_str()).unwrap().slot() == slot);
        same.unwrap()
    }

    #[test]
    fn a_bucket_is_its_own_key_and_its_names() {
        let other = format!("{}/x", neighbour());
        let copy = Copy::new(&["a/b", "a", &other, "a/", "a//c", "a/b/c"]);
        let all = ["a", "a/", "a//c", "a/b", "a/b/c"];
        let page = copy.held(&list(1000)).page(&list(1000));
        assert_eq!((names(&page), next(&page)), (all.to_vec(), None));
        for (place, key) in all.iter().enumerate() {
            let list = list(1000).with_after(key).unwrap();
            let page = copy.held(&list).page(&list);
            assert_eq!(names(&page), all[place + 1..], "after {key}");
        }
        let others = List::new(other.split('/').next().unwrap()).unwrap();
        let page = copy.held(&others).page(&others);
        assert_eq!(names(&page), [other.as_str()]);
        let long = List::new(&"b".repeat(1024)).unwrap();
        assert_eq!(names(&copy.held(&long).page(&long)), [""; 0]);
    }

    #[test]
    fn pages_together_are_the_bucket() {
        let copy = Copy::new(&["a", "a/1", "a/2-", "a/3-", "a/4", "a/5", "a/6-"]);
        for limit in 1..=5 {
            let (mut found, mut list, mut pages) = (Vec::new(), list(limit), 0);
            loop {
                let page = copy.held(&list).page(&list);
                assert!(page.keys.len() <= limit);
                found.extend(names(&page).iter().map(ToString::to_string));
                pages += 1;
                let Some(next) = next(&page) else { break };
                list = list.with_after(next).unwrap();
            }
            assert_eq!(found, ["a", "a/1", "a/4", "a/5"], "{limit} a page");
            assert!(pages <= 5);
        }
    }

    #[test]
    fn tombstones_alone_make_an_empty_page_that_is_not_the_last() {
        let mut copy = Copy::new(&[]);
        for number in 0..PAGE_KEY_COUNT_MAX {
            copy.put(&format!("a/{number:04}-"));
        }
        copy.put("a/9999");
        let page = copy.held(&list(1)).page(&list(1));
        assert_eq!((names(&page), next(&page)), (vec![], Some("a/0999")));
        let rest = list(1).with_after("a/0999").unwrap();
        let page = copy.held(&rest).page(&rest);
        assert_eq!((names(&page), next(&page)), (vec!["a/9999"], None));
    }

    #[test]
    fn of_two_copies_the_newer_counts() {
        let mut old = Copy::new(&["a/1", "a/2", "a/3"]);
        let mut new = Copy::new(&["a/1", "a/2", "a/3"]);
        new.put("a/1");
        new.put("a/2-");
        new.put("a/4");
        old.put("a/0");
        let [here, there] = [&old, &new].map(|copy| copy.held(&list(9)));
        let page = here.clone().merge(there.clone()).page(&list(9));
        assert_eq!(page, there.merge(here).page(&list(9)));
        assert_eq!(names(&page), ["a/0", "a/1", "a/3", "a/4"]);
        let newest = new.index.version(&Key::new("a/1").unwrap());
        assert_eq!(page.keys[1].1, newest);
    }

    #[test]
    fn a_page_ends_where_one_copy_was_cut() {
        // The second copy knows of a/2, but the first was cut before it could
        // say that it was deleted.
        let mut first = Copy::new(&["a/0", "a/1", "a/2"]);
        let second = Copy::new(&["a/2", "a/0-"]);
        first.put("a/2-");
        let [here, there] = [&first, &second].map(|copy| copy.held(&list(1)));
        let page = here.merge(there).page(&list(1));
        assert_eq!((names(&page), next(&page)), (vec![], Some("a/0")));
        let rest = list(1).with_after("a/0").unwrap();
        let [here, there] = [&first, &second].map(|copy| copy.held(&rest));
        let page = here.merge(there).page(&rest);
        assert_eq!((names(&page), next(&page)), (vec!["a/1"], Some("a/1")));
        let rest = rest.with_after("a/1").unwrap();
        let [here, there] = [&first, &second].map(|copy| copy.held(&rest));
        let page = here.merge(there).page(&rest);
        assert_eq!((names(&page), next(&page)), (vec![], None));
    }

    #[test]
    fn long_keys_make_short_pages() {
        let mut copy = Copy::new(&[]);
        for number in 0..600 {
            copy.put(&format!("a/{number:03}{}", "k".repeat(1000)));
        }
        let page = copy.held(&list(1000)).page(&list(1000));
        assert!((200..300).contains(&page.keys.len()), "{}", page.keys.len());
        assert_eq!(page.next.as_ref(), page.keys.last().map(|(key, _)| key));
        assert!(crate::wire::encode(&page).len() < PAGE_BYTES_MAX + 2048);
    }

    #[test]
    fn what_was_not_asked_for_is_no_answer() {
        let copy = Copy::new(&["a/1", "a/2", "a/3"]);
        let held = copy.held(&list(2));
        assert!(!held.is_of(&List::new("b").unwrap()));
        assert!(!held.is_of(&list(2).with_after("a/1").unwrap()));
        let mut turned = held.clone();
        turned.entries.reverse();
        assert!(!turned.is_of(&list(2)));
        let endless = Held {
            entries: Vec::new(),
            cut: true,
        };
        assert!(!endless.is_of(&list(2)));
    }
}
