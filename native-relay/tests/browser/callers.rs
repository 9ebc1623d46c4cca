//! Calls by pages and by HTTP, kept with when they began and how they ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::Page;
use crate::common::{Answer, http};

/// Between two rounds of one caller, which sets the load.
const PAUSE: Duration = Duration::from_millis(10);

/// The error of a call that read what it should not begins so.
pub(crate) const WRONG: &str = "wrong";

/// The same for pages, in JavaScript: what a script begins with that calls.
pub(crate) const CALLS: &str = "
    const { peer } = window.roundelay, text = new TextDecoder();
    const calls = window.calls = [];
    const pause = () => new Promise((done) => setTimeout(done, 10));
    const call = async (what, act) => {
        const begun = Date.now();
        let error = '';
        try {
            error = await act() ?? '';
        } catch (thrown) {
            error = `${thrown.code}: ${thrown.message}`;
        }
        calls.push([begun, Date.now() - begun, what, error]);
        return error === '';
    };
    const put = (key, value, mode = 'quorum') =>
        call(`put ${mode}`, async () => { await peer.put(key, value, { mode }); });
    const get = (key, expected, mode = 'quorum') => call(`get ${mode}`, async () => {
        const got = await peer.get(key, { mode });
        const value = got && text.decode(got.value);
        if (value !== expected && mode === 'quorum') {
            return `wrong: ${key} is ${value}, not ${expected}`;
        }
    });";

/// The wall clock, which pages and this test share.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// How long after an instant another one was, in milliseconds.
pub(crate) fn after(since: u64, at: u64) -> i64 {
    at.cast_signed() - since.cast_signed()
}

/// One call of somebody.
pub(crate) struct Call {
    who: String,
    pub(crate) begun: u64,
    pub(crate) took: Duration,
    what: String,
    /// Empty when all was well.
    pub(crate) error: String,
}

impl Call {
    /// As a page tells of it.
    fn of(who: &str, told: &Value) -> Self {
        Self {
            who: who.to_owned(),
            begun: told[0].as_u64().unwrap(),
            took: Duration::from_millis(told[1].as_u64().unwrap()),
            what: told[2].as_str().unwrap().to_owned(),
            error: told[3].as_str().unwrap().to_owned(),
        }
    }

    pub(crate) fn told(&self, since: u64) -> String {
        let (at, took) = (after(since, self.begun), self.took);
        let Self {
            who, what, error, ..
        } = self;
        format!("{at} ms: {what} by {who} took {took:?} {error}")
    }
}

/// All calls of a page so far.
pub(crate) fn calls_of(page: &Page<'_>) -> Vec<Call> {
    let told = page.run("return window.calls", &[]);
    let calls = told.as_array().unwrap().iter();
    calls.map(|told| Call::of(page.name, told)).collect()
}

/// Prints how many calls began in a time, and returns those that failed.
pub(crate) fn tell(when: &str, calls: &[Call], from: u64, to: u64) -> Vec<String> {
    let calls = calls.iter().filter(|call| (from..to).contains(&call.begun));
    let calls: Vec<&Call> = calls.collect();
    let failed = calls.iter().filter(|call| !call.error.is_empty());
    let failed: Vec<String> = failed.map(|call| call.told(from)).collect();
    let slowest = calls.iter().map(|call| call.took).max();
    let slowest = slowest.unwrap_or_default();
    let (count, failures) = (calls.len(), failed.len());
    println!("{when}: {count} calls, the slowest {slowest:.0?}; {failures} failed {failed:#?}");
    failed
}

/// Calls by the HTTP API of members, one of which is its own.
pub(crate) struct Caller<'a> {
    own: usize,
    ports: &'a [u16],
    pub(crate) calls: Vec<Call>,
}

impl<'a> Caller<'a> {
    pub(crate) const fn new(own: usize, ports: &'a [u16]) -> Self {
        Self {
            own,
            ports,
            calls: Vec::new(),
        }
    }

    fn call(&mut self, method: &str, at: usize, path: &str, body: &str) -> Answer {
        let (begun, start) = (unix_ms(), Instant::now());
        let port = self.ports[at % self.ports.len()];
        let answer = http(method, port, &format!("/v1/kv/{path}"), body.as_bytes());
        self.calls.push(Call {
            who: format!("port {port}"),
            begun,
            took: start.elapsed(),
            what: format!("{method} {path}"),
            error: match answer.status {
                // A copy that does not have a key yet may be asked.
                200 | 204 | 404 => String::new(),
                status => format!("{status} {}", answer.text()),
            },
        });
        answer
    }

    /// Puts a key by its own member. Returns whether that was acknowledged.
    pub(crate) fn put(&mut self, path: &str, value: &str) -> bool {
        self.call("PUT", self.own, path, value).status == 204
    }

    /// Gets a key by some member, as it was acknowledged.
    fn get(&mut self, at: usize, key: &str, expected: &str) {
        let got = self.call("GET", at, key, "");
        let wrong = got.status == 404 || got.status == 200 && got.text() != expected;
        if wrong && let Some(call) = self.calls.last_mut() {
            call.error = format!("{WRONG}: {key} is {}, not {expected}", got.text());
        }
    }

    /// Puts what another member reads, and reads what was there before, until
    /// it is told to stop.
    pub(crate) fn go_on(mut self, before: &[String], stop: &AtomicBool) -> Vec<Call> {
        let own = self.own;
        for round in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let (key, value) = (format!("http-{own}-{round}/n"), format!("value {round}"));
            if self.put(&key, &value) {
                self.get(own + 1, &key, &value);
            }
            let path = format!("one-{key}?mode=one");
            self.put(&path, &value);
            self.call("GET", own, &path, "");
            self.get(own, &before[round % before.len()], "before");
            std::thread::sleep(PAUSE);
        }
        self.calls
    }
}
