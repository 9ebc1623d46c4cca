//! Who calls: one at each member's HTTP API, and one in each page.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use roundelay_core::kvs::{Condition, Version};
use serde_json::Value;

use super::called::{Called, End, Op, ask};
use crate::Page;
use crate::common::dice::Dice;
use crate::common::{http, http_with};

/// Keys that all of them call.
const SHARED: usize = 12;
/// Keys of each caller's own.
const OWN: usize = 8;
/// Between two calls of one caller, which sets the load; longer where the last one
/// failed, since nobody calls again at once.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_FAILED: Duration = Duration::from_millis(200);

/// The same calls in a page, noted in `window.calls`.
const CALLS: &str = "
    const { peer } = window.roundelay, text = new TextDecoder();
    const [seed, caller, shared, own] = args.map(Number);
    const calls = window.calls = [], seen = {};
    let state = (seed * 31 + caller * 7919 + 1) >>> 0, value = 0;
    const below = (end) => {
        state ^= state << 13;
        state ^= state >>> 17;
        state ^= state << 5;
        return (state >>> 8) % end;
    };
    const pause = (ms) => new Promise((done) => setTimeout(done, ms));
    const call = async (key, op, number, condition, act) => {
        const begun = Date.now();
        let end, told;
        try {
            [end, ...told] = await act();
        } catch (error) {
            [end, told] = [error.code, [error.message]];
        }
        calls.push([key, op, number, condition, begun, Date.now(), end, ...told]);
        return !['found', 'missing', 'written', 'condition_failed'].includes(end);
    };
    const one = async () => {
        const key = `crash-${below(shared)}/n`, mode = 'linearizable', die = below(16);
        const number = caller * 1e9 + ++value;
        const written = async (writing) => ['written', (await writing).version];
        if (die < 6) return call(key, 'get', 0, null, async () => {
            const found = await peer.get(key, { mode });
            seen[key] = found?.version;
            return found ? ['found', found.version, text.decode(found.value)] : ['missing'];
        });
        if (die < 9) return call(key, 'put', number, null,
            () => written(peer.put(key, `${number}`, { mode })));
        if (die < 12) return call(key, 'swap', number, seen[key] ?? 'absent',
            () => written(peer.cas(key, seen[key], `${number}`)));
        if (die < 13) return call(key, 'delete', 0, null,
            () => written(peer.delete(key, { mode })));
        const kept = `kept-${caller}-${below(own)}/n`;
        return call(kept, 'keep', number, null,
            () => written(peer.put(kept, `${number}`, { mode: 'quorum' })));
    };
    window.running = (async () => {
        while (!window.stopped) await pause(await one() ? 200 : 20);
    })();
    window.running.catch(() => {});";

/// Calls by one member's HTTP API.
pub(super) struct HttpCaller {
    port: u16,
    number: u64,
    dice: Dice,
    written: u64,
    calls: Vec<Called>,
}

impl HttpCaller {
    pub(super) fn new(port: u16, seed: u64, number: usize) -> Self {
        let number = number as u64;
        Self {
            port,
            number,
            dice: Dice::new(seed ^ ((number + 1) << 32)),
            written: 0,
            calls: Vec::new(),
        }
    }

    /// Calls until it is told to stop, and counts what is written.
    pub(super) fn go_on(mut self, stop: &AtomicBool, written: &AtomicUsize) -> Vec<Called> {
        while !stop.load(Ordering::Relaxed) {
            let call = self.one();
            if matches!(call.end, End::Written(_)) {
                written.fetch_add(1, Ordering::Relaxed);
            }
            let failed = matches!(call.end, End::Nothing(_) | End::Unknown(_));
            self.calls.push(call);
            std::thread::sleep(if failed { PAUSE_FAILED } else { PAUSE });
        }
        self.calls
    }

    fn one(&mut self) -> Called {
        let key = format!("crash-{}/n", self.dice.below(SHARED));
        self.written += 1;
        let (port, value) = (self.port, self.number * 1_000_000_000 + self.written);
        let body = value.to_string();
        match self.dice.below(16) {
            0..6 => ask(port, &key, Op::Get, |path| http("GET", port, path, b"")),
            6..9 => ask(port, &key, Op::Put(value), |path| {
                http("PUT", port, path, body.as_bytes())
            }),
            9..12 => {
                let condition = self.condition(&key);
                let (name, tag) = match condition {
                    Condition::Absent => ("if-none-match", "*".to_owned()),
                    Condition::Version(version) => ("if-match", format!("\"{version}\"")),
                };
                ask(port, &key, Op::Swap(condition, value), |path| {
                    http_with("PUT", port, path, &[(name, &tag)], body.as_bytes())
                })
            }
            12 => ask(port, &key, Op::Delete, |path| {
                http("DELETE", port, path, b"")
            }),
            _ => {
                let key = format!("kept-{}-{}/n", self.number, self.dice.below(OWN));
                ask(port, &key, Op::Keep(value), |path| {
                    http("PUT", port, path, body.as_bytes())
                })
            }
        }
    }

    /// That there is what this caller saw last.
    fn condition(&self, key: &str) -> Condition {
        let calls = self.calls.iter().rev().filter(|call| call.key == key);
        let seen = calls.map(|call| match (&call.end, call.op) {
            (End::Found(found), _) => Some(found.map(|(version, _)| version)),
            (End::Written(_), Op::Delete) => Some(None),
            (End::Written(version), _) => Some(Some(*version)),
            (End::Refused(found), _) => Some(*found),
            (End::Unknown(_) | End::Nothing(_), _) => None,
        });
        let seen = seen.flatten().next().flatten();
        seen.map_or(Condition::Absent, Condition::Version)
    }
}

/// Has a page call until it is told to stop.
pub(super) fn in_page(page: &Page<'_>, seed: u64, number: usize) {
    let args = [seed.to_string(), number.to_string()];
    let args = args
        .into_iter()
        .chain([SHARED, OWN].map(|number| number.to_string()));
    let args: Vec<String> = args.collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    page.run(CALLS, &args);
}

/// Tells it to stop; what it called.
pub(super) fn stop_page(page: &Page<'_>) -> Vec<Called> {
    let stop = "window.stopped = true; await window.running; return window.calls;";
    let told = page.run(stop, &[]);
    let calls: Vec<Called> = told.as_array().unwrap().iter().map(of_page).collect();
    assert!(calls.len() > 10, "{} hardly called", page.name);
    calls
}

fn of_page(told: &Value) -> Called {
    let text = |place: usize| told[place].as_str().unwrap_or_default().to_owned();
    let number = |place: usize| told[place].as_u64().unwrap();
    let condition = match text(3).as_str() {
        "absent" | "" => Condition::Absent,
        version => Condition::Version(version.parse().unwrap()),
    };
    let op = match text(1).as_str() {
        "get" => Op::Get,
        "put" => Op::Put(number(2)),
        "swap" => Op::Swap(condition, number(2)),
        "delete" => Op::Delete,
        "keep" => Op::Keep(number(2)),
        other => panic!("{other}"),
    };
    let version = || text(7).parse::<Version>().unwrap();
    let end = match (text(6).as_str(), op) {
        ("found", _) => End::Found(Some((version(), text(8).parse().unwrap()))),
        ("missing", _) => End::Found(None),
        ("written", _) => End::Written(version()),
        // A page is not told what was there instead; but that something was.
        ("condition_failed", Op::Swap(Condition::Absent, _)) => End::Refused(Some(Version::ZERO)),
        ("condition_failed", _) => End::Nothing("condition failed".to_owned()),
        ("outcome_unknown", _) => End::Unknown("in a page".to_owned()),
        ("unavailable" | "busy" | "not_joined", _) => End::Nothing(text(6)),
        (code, op) => panic!("{code}: {} to {op:?} in a page", text(7)),
    };
    Called {
        key: text(0),
        op,
        begun: number(4),
        ended: number(5),
        end,
    }
}
