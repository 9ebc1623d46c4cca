//! A network of two bridges that parts and heals, with processes on both.
//!
//! It needs root, for network namespaces; without, it says so and is counted
//! as ignored. The usual harness cannot say that of itself.

mod common;

#[path = "namespaces/bridges.rs"]
mod bridges;
#[path = "namespaces/history.rs"]
mod history;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bridges::{Bridges, Host};
use common::{Member, Ring, http, wait_until};
use history::{Counts, History, Outcome, Write};
use roundelay_core::NodeId;
use serde_json::Value;

const NAME: &str = "a_network_that_parted_becomes_one_ring_and_loses_nothing";

/// Names another length of the partition, in seconds: 60 by hand.
const PARTITION: &str = "ROUNDELAY_PARTITION";
const PARTITION_SECONDS: u64 = 15;

/// For a ring to come up and its votes to be where they belong, which members
/// have to live for 10 s for.
const UP_LIMIT: Duration = Duration::from_secs(90);

/// For those behind the cut to be held for dead.
const SEEN_LIMIT: Duration = Duration::from_secs(10);

/// From the healing to one whole ring.
const HEALED_LIMIT: Duration = Duration::from_secs(30);

/// And from there until what each side took in mode `one` is merged.
const MERGED_LIMIT: Duration = Duration::from_secs(30);

/// The relay is the first on the left.
const SIDES: [Side; 6] = [
    Side::Left,
    Side::Left,
    Side::Left,
    Side::Right,
    Side::Right,
    Side::Right,
];

/// Keys of each kind and writer.
const KEYS: usize = 20;

/// Where names of keys begin that are written in mode `one`.
const ONE: &str = "one";

/// A writer's pause between two writes: what counts is the time they span.
const PAUSE: Duration = Duration::from_millis(20);

/// Where a host is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Side {
    /// Of its bridge.
    const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

fn main() {
    let mut names = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    if names.next().is_some_and(|name| !NAME.contains(&name)) {
        return;
    }
    println!("\nrunning 1 test");
    let ignored = match Bridges::start() {
        Ok(bridges) => {
            part_and_heal(bridges);
            println!("test {NAME} ... ok");
            false
        }
        Err(reason) => {
            println!("test {NAME} ... ignored, it needs root: {reason}");
            true
        }
    };
    let (passed, ignored) = (u8::from(!ignored), u8::from(ignored));
    println!("\ntest result: ok. {passed} passed; 0 failed; {ignored} ignored\n");
}

/// Members, each on a host of its own.
struct Network {
    ring: Ring,
    hosts: Vec<Host>,
    /// Last, since it must outlive the processes.
    bridges: Bridges,
}

fn part_and_heal(bridges: Bridges) {
    let lasting = std::env::var(PARTITION).map(|seconds| seconds.parse().expect(PARTITION));
    let lasting = Duration::from_secs(lasting.unwrap_or(PARTITION_SECONDS));
    let network = Network::start(bridges);
    let (stop, start) = (AtomicBool::new(false), Instant::now());
    let (history, cut, healed) = std::thread::scope(|scope| {
        let (network, stop) = (&network, &stop);
        let writers: Vec<_> = (0..SIDES.len())
            .map(|index| scope.spawn(move || network.write(index, stop)))
            .collect();
        // Also on failure: else the writers would be waited for in vain.
        let stopper = Stopper(stop);
        network.bridges.cut();
        let cut = Instant::now();
        network.wait_parted();
        println!(
            "both sides went on by themselves after {:.1?}",
            cut.elapsed()
        );
        // The rest of the partition: nothing is waited for.
        std::thread::sleep(lasting.saturating_sub(cut.elapsed()));
        let healed = Instant::now();
        network.bridges.join();
        network.wait_whole(HEALED_LIMIT);
        println!("one whole ring {:.1?} after {lasting:?}", healed.elapsed());
        drop(stopper);
        let mut history = History::new();
        for writer in writers {
            for (key, writes) in writer.join().unwrap() {
                history.entry(key).or_default().extend(writes);
            }
        }
        (history, cut, healed)
    });
    for side in [Side::Left, Side::Right] {
        let told: Counts = history::counts(&history, side, cut, healed);
        println!("{} while parted: {told:?}", side.name());
        assert!(told.acknowledged > 0 && told.deleted > 0, "no such write");
        assert!(told.refused + told.unknown > 0, "nothing was refused");
    }
    println!(
        "{} keys, written for {:.0?}",
        history.len(),
        start.elapsed()
    );
    for (key, writes) in &history {
        let is_split = history::is_split(writes, cut, healed);
        assert!(key.starts_with(ONE) || !is_split, "{key}: {writes:#?}");
    }
    network.wait_whole(HEALED_LIMIT);
    network.check(&history);
}

/// Lets the writers end.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Network {
    fn start(mut bridges: Bridges) -> Self {
        let hosts: Vec<Host> = SIDES.map(|side| bridges.host(side)).into();
        let mut network = Self {
            ring: Ring {
                listen: 9999,
                members: Vec::new(),
                dir: tempfile::tempdir().unwrap(),
            },
            hosts,
            bridges,
        };
        let listen = format!("{}:{}", network.hosts[0].address, network.ring.listen);
        let relay = format!("http://{listen}");
        network.add(0, "relay", &["relay", "--listen", &listen]);
        wait_until("the relay", UP_LIMIT, || network.on(0, Member::is_whole));
        for index in 1..SIDES.len() {
            let name = format!("node-{index}");
            network.add(index, &name, &["node", "--relay", &relay]);
        }
        network.wait_whole(UP_LIMIT);
        wait_until("votes where they belong", UP_LIMIT, || {
            network.votes_are_placed()
        });
        for index in 0..SIDES.len() {
            wait_until("direct links", UP_LIMIT, || {
                network.on(index, |one| one.has_direct_links(SIDES.len() - 1))
            });
        }
        network
    }

    /// Starts a member on its host.
    fn add(&mut self, index: usize, name: &str, args: &[&str]) {
        let ring = &mut self.ring;
        self.hosts[index].run(|| ring.add(name, args));
    }

    /// Asks a member, on its host.
    fn on<R: Send>(&self, index: usize, ask: impl FnOnce(&Member) -> R + Send) -> R {
        let member = &self.ring.members[index];
        self.hosts[index].run(|| ask(member))
    }

    /// What a member lists: the ring's id, and the members clockwise.
    fn ring_of(&self, index: usize) -> Option<(Value, Vec<Value>)> {
        let answer = self.on(index, |one| http("GET", one.http, "/v1/ring", b""));
        let ring = (answer.status == 200).then(|| answer.json())?;
        let members = ring["members"].as_array()?.iter();
        let ids = members.map(|member| member["id"].clone()).collect();
        Some((ring["ring_id"].clone(), ids))
    }

    /// Waits for one ring of all, in order, with all copies.
    fn wait_whole(&self, limit: Duration) {
        let start = Instant::now();
        for index in 0..SIDES.len() {
            let left = limit.saturating_sub(start.elapsed());
            wait_until("one whole ring", left, || {
                let ring = self.ring_of(index);
                let Some((_, members)) = ring.as_ref().filter(|_| ring == self.ring_of(0)) else {
                    return false;
                };
                let status = self.on(index, Member::status).unwrap_or_default();
                let at = members.iter().position(|id| *id == status["id"]);
                members.len() == SIDES.len()
                    && at.is_some_and(|at| {
                        let next = |by: usize| &members[(at + by) % members.len()];
                        status["successors"][0] == *next(1)
                            && status["predecessor"] == *next(members.len() - 1)
                    })
                    && self.on(index, Member::is_whole)
            });
        }
    }

    /// Waits until each member's neighbours are those of its side.
    fn wait_parted(&self) {
        let ids: Vec<Value> = (0..SIDES.len())
            .map(|index| self.on(index, |one| one.status().unwrap()["id"].clone()))
            .collect();
        let start = Instant::now();
        for (index, side) in SIDES.iter().enumerate() {
            let others = (0..SIDES.len()).filter(|other| *other != index && SIDES[*other] == *side);
            let others: BTreeSet<&str> = others.map(|other| ids[other].as_str().unwrap()).collect();
            let left = SEEN_LIMIT.saturating_sub(start.elapsed());
            wait_until("one side alone", left, || {
                let status = self.on(index, |one| one.status().unwrap());
                let successors = status["successors"].as_array().unwrap().iter();
                successors
                    .filter_map(Value::as_str)
                    .collect::<BTreeSet<_>>()
                    == others
            });
        }
    }

    /// Whether the first three members from each key's slot vote on it.
    fn votes_are_placed(&self) -> bool {
        let Some((_, members)) = self.ring_of(0) else {
            return false;
        };
        let ids = members.iter().map(|id| id.as_str().unwrap());
        // The first twelve bits of a position are its slot.
        let slot = |id: &str| {
            let id: NodeId = id.parse().unwrap();
            u64::from(id.as_bytes()[0]) << 4 | u64::from(id.as_bytes()[1] >> 4)
        };
        let ids: Vec<(u64, &str)> = ids.map(|id| (slot(id), id)).collect();
        self.on(0, |relay| {
            (0..KEYS).all(|number| {
                let located = format!("/v1/locate/placed{number}");
                let located = http("GET", relay.http, &located, b"").json();
                let start = located["slot"].as_u64().unwrap();
                let after = ids.iter().filter(|(slot, _)| *slot >= start);
                let around = after.chain(&ids).take(3).map(|(_, id)| *id);
                let voters = located["voters"].as_array().unwrap().iter();
                around.collect::<BTreeSet<_>>() == voters.filter_map(Value::as_str).collect()
            })
        })
    }

    /// Writes and deletes until it shall stop: keys of its own, and keys that
    /// a member on the other side writes, too, with either promise.
    fn write(&self, index: usize, stop: &AtomicBool) -> History {
        let mut history = History::new();
        // The writers of both sides share keys by pairs.
        let pair = index % (SIDES.len() / 2);
        for round in 0.. {
            for number in 0..KEYS {
                let names = [
                    format!("own-{index}-{number}/key"),
                    format!("shared-{pair}-{number}/key"),
                    format!("{ONE}-{pair}-{number}/key"),
                ];
                for (key, mode) in names.into_iter().zip(["quorum", "quorum", "one"]) {
                    if stop.load(Ordering::Relaxed) {
                        return history;
                    }
                    let deletes = (round + number) % 4 == 3;
                    let value = (!deletes).then(|| format!("{index} {round} {key}"));
                    let write = self.write_one(index, &key, mode, value);
                    history.entry(key).or_default().push(write);
                    std::thread::sleep(PAUSE);
                }
            }
        }
        history
    }

    fn write_one(&self, index: usize, key: &str, mode: &str, value: Option<String>) -> Write {
        let (method, path) = match value {
            Some(_) => ("PUT", format!("/v1/kv/{key}?mode={mode}")),
            None => ("DELETE", format!("/v1/kv/{key}?mode={mode}")),
        };
        let body = value.as_deref().unwrap_or_default().as_bytes();
        let asked = Instant::now();
        let answer = self.on(index, |one| http(method, one.http, &path, body));
        Write {
            side: SIDES[index],
            value,
            outcome: Outcome::of(&answer),
            asked,
            answered: Instant::now(),
        }
    }

    /// Reads every key by every member. What a majority acknowledged is there
    /// at once; what either side took in mode `one` may still be merged.
    fn check(&self, history: &History) {
        let start = Instant::now();
        for index in 0..SIDES.len() {
            let complaints = self.complaints(index, history, "");
            let (late, wrong): (Vec<_>, Vec<_>) = complaints
                .into_iter()
                .partition(|what| what.starts_with(ONE));
            assert!(wrong.is_empty(), "{index}: {wrong:#?}");
            if late.is_empty() {
                continue;
            }
            println!("{} keys in mode `one` were not merged yet", late.len());
            loop {
                let late = self.complaints(index, history, ONE);
                if late.is_empty() {
                    break;
                }
                assert!(start.elapsed() < MERGED_LIMIT, "{index}: {late:#?}");
            }
        }
        println!("all was read by all within {:.1?}", start.elapsed());
    }

    /// What is wrong with a member's reads of the keys that begin so.
    fn complaints(&self, index: usize, history: &History, begin: &str) -> Vec<String> {
        let keys = history.iter().filter(|(key, _)| key.starts_with(begin));
        self.on(index, |one| {
            let reads = keys.map(|(key, writes)| (key, history::complaint(writes, &one.get(key))));
            let told = reads.filter_map(|(key, what)| Some(format!("{key}: {}", what?)));
            told.collect()
        })
    }
}
