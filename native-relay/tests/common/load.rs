//! Many records, put as fast as a few callers can.

use std::time::Duration;

use ureq::Agent;

use super::{DEADLINE, Member, wait_until};

/// Callers at once, each with a connection of its own.
const CALLERS: usize = 16;

/// Numbered records of one length, in buckets whose names begin alike.
pub(crate) struct Records {
    pub(crate) bucket: &'static str,
    pub(crate) buckets: usize,
    pub(crate) value_len: usize,
}

impl Records {
    /// The key of a numbered record.
    pub(crate) fn key(&self, number: usize) -> String {
        format!("{}-{}/{number}", self.bucket, number % self.buckets)
    }

    fn url(&self, member: u16, number: usize) -> String {
        format!("http://127.0.0.1:{member}/v1/kv/{}", self.key(number))
    }

    /// What is put there the so many-th time: no two are alike.
    pub(crate) fn value(&self, number: usize, round: usize) -> Vec<u8> {
        let mut value = format!("{number} {round} ").into_bytes();
        let mut state = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round as u64;
        while value.len() < self.value_len {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            value.extend(state.to_be_bytes());
        }
        value.truncate(self.value_len.max(1));
        value
    }

    /// Puts the numbered records by way of the members, in turn.
    pub(crate) fn put(&self, members: &[&Member], numbers: &[usize], round: usize) {
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let port = members[caller % members.len()].http;
                scope.spawn(move || {
                    let agent = agent();
                    for number in numbers.iter().skip(caller).step_by(CALLERS) {
                        let value = self.value(*number, round);
                        wait_until("a write to be taken", DEADLINE, || {
                            let put = agent.put(self.url(port, *number)).send(&value[..]);
                            let status = put.unwrap().status().as_u16();
                            // A slow machine is late; the same write again does no harm.
                            assert!([204, 503, 504].contains(&status), "{number}: {status}");
                            status == 204
                        });
                    }
                });
            }
        });
    }

    /// How many of the numbered records a member reads as they were put.
    pub(crate) fn found(&self, member: &Member, numbers: &[usize], round: usize) -> usize {
        let found = |caller: usize| {
            let agent = agent();
            let own = numbers.iter().skip(caller).step_by(CALLERS);
            let is_there = |number: &&usize| {
                let mut got = agent.get(self.url(member.http, **number)).call().unwrap();
                let limit = 2 * self.value_len as u64 + 64;
                let body = got.body_mut().with_config().limit(limit).read_to_vec();
                got.status() == 200 && body.unwrap() == self.value(**number, round)
            };
            own.filter(is_there).count()
        };
        std::thread::scope(|scope| {
            let callers = (0..CALLERS).map(|caller| scope.spawn(move || found(caller)));
            let callers: Vec<_> = callers.collect();
            let found = callers.into_iter().map(|caller| caller.join().unwrap());
            found.sum()
        })
    }
}

/// Keeps its connection.
fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .proxy(None)
        .build()
        .new_agent()
}
