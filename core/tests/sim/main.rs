//! The simulator: whole rings of real nodes and a real hub, in one thread, on
//! a clock of their own. A seed reproduces a run.
//!
//! `ROUNDELAY_SEEDS=5000` runs more seeds, `ROUNDELAY_SEED=17` one alone, with
//! `ROUNDELAY_TRACE=1` showing what happens.

// A test binary has no outside: `pub` here means between its files.
// It measures its own time, which no node ever sees.
#![allow(unreachable_pub, clippy::disallowed_types)]

mod checker;
#[cfg(not(planted_bugs))]
mod churn;
mod disk;
mod fault;
#[cfg(not(planted_bugs))]
mod pair;
mod parting;
mod random;
mod scenario;
#[cfg(not(planted_bugs))]
mod stall;
mod workload;
mod world;
#[cfg(not(planted_bugs))]
mod zave;

use scenario::{Scenario, run};

/// Seeds of every scenario, unless the environment says otherwise.
const SEEDS: u64 = 1000;

#[test]
#[cfg(not(planted_bugs))]
fn rings_stay_whole_and_lose_nothing() {
    each_seed(SEEDS, Scenario::general);
}

#[test]
#[cfg(not(planted_bugs))]
fn a_voter_that_lost_its_disk_is_filled_by_all_others() {
    each_seed(SEEDS / 4, Scenario::lost_disk);
}

#[test]
#[cfg(not(planted_bugs))]
fn votes_follow_the_members_that_come_and_go() {
    each_seed(SEEDS / 4, Scenario::moves);
}

#[test]
#[cfg(not(planted_bugs))]
fn parts_of_a_ring_meet_again() {
    each_seed(SEEDS / 4, Scenario::partitions);
}

/// Members of the ring whose pages come and go, unless `ROUNDELAY_MEMBERS` says
/// otherwise.
#[cfg(not(planted_bugs))]
const MEMBERS: usize = 200;

#[test]
#[cfg(not(planted_bugs))]
fn pages_come_and_go_all_day() {
    let members = std::env::var("ROUNDELAY_MEMBERS").ok();
    let members = members.map_or(MEMBERS, |text| text.parse().expect("ROUNDELAY_MEMBERS"));
    for seed in seeds(1) {
        let started = std::time::Instant::now();
        let report = churn::run(&churn::Churn::new(seed, members));
        println!("churn: seed {seed}: {report:?} in {:.1?}", started.elapsed());
        report.unwrap();
    }
}

/// Every known bug, planted, is caught: by some seed, and by the checker that
/// is there for it.
#[test]
#[cfg(planted_bugs)]
fn planted_bugs_are_caught() {
    use roundelay_core::planted::{BUGS, plant};
    type Make = fn(u64) -> Scenario;
    let expected: [(&str, Make, &str); 6] = [
        ("no_rectify", Scenario::general, "predecessor"),
        (
            "vote_from_other_view",
            Scenario::lost_disk,
            "was acknowledged",
        ),
        ("fill_from_one", Scenario::lost_disk, "was acknowledged"),
        (
            "reply_before_sync",
            Scenario::general,
            "is not on a majority",
        ),
        ("drop_before_taken", Scenario::moves, "before it was taken"),
        ("two_change_a_view", Scenario::partitions, "forks"),
    ];
    assert_eq!(expected.map(|(bug, _, _)| bug), BUGS);
    for (bug, make, words) in expected {
        plant(Some(bug));
        let caught = (0..4 * SEEDS).find_map(|seed| {
            let error = run(make(seed)).err()?;
            error.contains(words).then_some((seed, error))
        });
        plant(None);
        let (seed, error) = caught.unwrap_or_else(|| panic!("{bug} was not caught"));
        assert_eq!(
            run(make(seed)),
            Ok(()),
            "seed {seed} fails without {bug}, too"
        );
        println!("{bug}: caught by {}, seed {seed}: {error}", make(0).name);
    }
}

#[cfg(not(planted_bugs))]
fn each_seed(count: u64, make: fn(u64) -> Scenario) {
    let seeds: Vec<u64> = seeds(count).collect();
    let started = std::time::Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<(u64, String)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let own: Vec<u64> = seeds
                    .iter()
                    .copied()
                    .skip(worker)
                    .step_by(threads)
                    .collect();
                scope.spawn(move || {
                    let failed = own.into_iter().map(|seed| (seed, run(make(seed))));
                    failed
                        .filter_map(|(seed, result)| Some((seed, result.err()?)))
                        .take(3)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let failures = workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap());
        failures.collect()
    });
    let name = make(0).name;
    println!("{name}: {} seeds in {:.1?}", seeds.len(), started.elapsed());
    for (seed, failure) in &failures {
        println!("{name}: seed {seed}: {failure}");
        println!("  ROUNDELAY_SEED={seed} cargo test -p roundelay-core --release --test sim");
    }
    assert!(failures.is_empty(), "{} seeds failed", failures.len());
}

/// The seed that `ROUNDELAY_SEED` names, else those of `ROUNDELAY_SEEDS`: so
/// many, or from one up to another (`1000..3000`).
#[cfg(not(planted_bugs))]
fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |text: &str| -> u64 {
        let number = text.parse();
        number.unwrap_or_else(|_| panic!("ROUNDELAY_SEED or ROUNDELAY_SEEDS: {text:?}"))
    };
    if let Ok(seed) = std::env::var("ROUNDELAY_SEED") {
        return number(&seed)..number(&seed) + 1;
    }
    let Ok(text) = std::env::var("ROUNDELAY_SEEDS") else {
        return 0..count;
    };
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => 0..number(&text),
    }
}
