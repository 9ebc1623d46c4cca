//! Calls, how they ended, and what follows from all of them.

use std::collections::BTreeMap;

use roundelay_core::kvs::{Condition, Key, Version};

use super::history::{History, Step};
use crate::callers::unix_ms;
use crate::common::{Answer, http};

/// What was asked for: every value that is written is another number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Get,
    Put(u64),
    Delete,
    Swap(Condition, u64),
    /// A write in mode `quorum`, of a key that nobody else writes.
    Keep(u64),
}

/// How it ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    Found(Option<(Version, u64)>),
    Written(Version),
    /// The condition did not hold; what was there instead.
    Refused(Option<Version>),
    /// It may have happened, or happen yet.
    Unknown(String),
    /// Nothing happened, or what happened tells nothing.
    Nothing(String),
}

/// A call, with when it began and ended, in milliseconds of the wall clock that
/// pages and this test share.
#[derive(Clone, Debug)]
pub(super) struct Called {
    pub(super) key: String,
    pub(super) op: Op,
    pub(super) begun: u64,
    pub(super) ended: u64,
    pub(super) end: End,
}

impl Called {
    /// Its kind, and how it ended, in words.
    pub(super) fn kind(&self) -> String {
        let op = match self.op {
            Op::Get => "get",
            Op::Put(_) => "put",
            Op::Delete => "delete",
            Op::Swap(..) => "cas",
            Op::Keep(_) => "put of mode quorum",
        };
        match &self.end {
            End::Found(Some(_)) => format!("{op}: found"),
            End::Found(None) => format!("{op}: nothing there"),
            End::Written(_) => format!("{op}: done"),
            End::Refused(_) => format!("{op}: condition failed"),
            End::Unknown(why) => format!("{op}: outcome unknown: {why}"),
            End::Nothing(why) => format!("{op}: failed: {why}"),
        }
    }

    /// The same call with the value that it wrote, if it is known to be there.
    fn seen(&self) -> Option<(Version, u64)> {
        match (&self.end, self.op) {
            (End::Found(found), _) => *found,
            (End::Written(version), Op::Put(value) | Op::Swap(_, value) | Op::Keep(value)) => {
                Some((*version, value))
            }
            _ => None,
        }
    }

    fn step(&self) -> Option<Step> {
        let asked = match self.op {
            Op::Get | Op::Keep(_) => None,
            Op::Put(value) => Some(Step::Write(Some(value))),
            Op::Delete => Some(Step::Write(None)),
            Op::Swap(condition, value) => Some(Step::Swap(condition, Some(value))),
        };
        match (&self.end, self.op) {
            (End::Found(found), Op::Get) => Some(Step::Read(found.map(|(_, value)| value))),
            (End::Refused(found), Op::Swap(condition, _)) => Some(Step::Refused(condition, *found)),
            (End::Written(_) | End::Unknown(_), _) => asked,
            _ => None,
        }
    }
}

/// The linearizable calls of each key.
pub(super) fn history(calls: &[Called]) -> History {
    let mut history = History::default();
    for (version, value) in calls.iter().filter_map(Called::seen) {
        history.saw(version, Some(value));
    }
    let kept: Vec<&str> = kept(calls).into_keys().collect();
    for call in calls {
        let is_kept = kept.contains(&call.key.as_str());
        if let Some(step) = call.step().filter(|_| !is_kept) {
            let ended = match call.end {
                End::Unknown(_) => None,
                // What ended within this millisecond ended before the next.
                _ => Some(call.ended + 1),
            };
            let key = Key::new(&call.key).unwrap();
            history.add(&key, step, call.begun, ended);
        }
    }
    history
}

/// The newest version of each key of its own writer that was acknowledged.
fn kept(calls: &[Called]) -> BTreeMap<&str, Version> {
    let mut kept = BTreeMap::new();
    for call in calls.iter().filter(|call| matches!(call.op, Op::Keep(_))) {
        let newest = kept.entry(call.key.as_str()).or_insert(Version::ZERO);
        if let End::Written(version) = call.end {
            *newest = version.max(*newest);
        }
    }
    kept
}

/// What was acknowledged in mode `quorum`, and is not what is read last.
pub(super) fn lost(calls: &[Called]) -> Vec<String> {
    let values: BTreeMap<u64, Version> = calls
        .iter()
        .filter_map(Called::seen)
        .map(|(version, value)| (value, version))
        .collect();
    let mut lost = Vec::new();
    for (key, newest) in kept(calls) {
        let reads = calls.iter().rev().filter(|call| call.key == key);
        let read = reads
            .filter(|call| matches!(call.op, Op::Get))
            .find_map(|call| match &call.end {
                End::Found(found) => Some(*found),
                _ => None,
            });
        let good = match read {
            Some(Some((version, value))) => {
                version >= newest && values.get(&value).is_none_or(|known| *known == version)
            }
            Some(None) => newest == Version::ZERO,
            None => false,
        };
        if !good {
            lost.push(format!("{key}: {newest} was acknowledged, read {read:?}"));
        }
    }
    lost
}

/// Reads a key by a member.
pub(super) fn read(port: u16, key: &str) -> Called {
    ask(port, key, Op::Get, |path| http("GET", port, path, b""))
}

/// Does something by a member, and takes note of how it ended.
pub(super) fn ask(port: u16, key: &str, op: Op, send: impl FnOnce(&str) -> Answer) -> Called {
    let mode = match op {
        Op::Keep(_) => "quorum",
        _ => "linearizable",
    };
    let begun = unix_ms();
    let answer = send(&format!("/v1/kv/{key}?mode={mode}"));
    let ended = unix_ms();
    let etag = || {
        let value = answer.headers.get("etag")?.to_str().unwrap();
        Some(value.trim_matches('"').parse::<Version>().unwrap())
    };
    let why = match answer.status {
        0 => format!("no answer by port {port}"),
        status => format!("{status}"),
    };
    let end = match (answer.status, op) {
        (200, Op::Get) => {
            let value = answer.text();
            let value = value.parse().unwrap_or_else(|_| panic!("{key}: {value:?}"));
            End::Found(Some((etag().unwrap(), value)))
        }
        (404, Op::Get) => End::Found(None),
        (_, Op::Get) => End::Nothing(why),
        (204, _) => End::Written(etag().unwrap()),
        (412, Op::Swap(..)) => End::Refused(etag()),
        // Nobody was there to hear it.
        (0, _) if answer.text().contains("refused") => End::Nothing("nobody listens".to_owned()),
        (0 | 504, _) => End::Unknown(why),
        (503, _) => End::Nothing(why),
        (status, _) => panic!("{status} to {op:?} of {key}: {}", answer.text()),
    };
    let key = key.to_owned();
    Called {
        key,
        op,
        begun,
        ended,
        end,
    }
}
